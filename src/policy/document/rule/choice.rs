//! What a rule says beside the name of a preset: `with`, `without`, `also`.
//! Must not look into the preset; whether it has such rows and needs such facts is checked when it is compiled.
//! Called by the reader of allow rules.

use std::sync::Arc;

use crate::policy::document::Text;
use crate::policy::presets::Row;
use crate::policy::presets::expand::{With, is_of_cluster};
use crate::policy::problem::{At, Problems};
use crate::policy::yaml::{
    Node,
    typed::{self, Empty, Fields},
};

/// What a rule says of the preset that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Facts that `cluster` has no key for.
    pub with: Vec<(At<Text>, At<Text>)>,
    /// Rows that stay closed.
    pub without: Vec<At<Text>>,
    /// Rows that open only where they are named.
    pub also: Vec<At<Text>>,
    /// Something in `with` was refused, so that what seems to be missing may have been meant.
    pub(in crate::policy) in_doubt: bool,
}

impl Choice {
    /// Whether a row is opened.
    pub fn opens(&self, row: &Row) -> bool {
        let named = |ids: &[At<Text>]| ids.iter().any(|id| *id.value == *row.id);
        named(&self.also) || (row.is_opened_unasked() && !named(&self.without))
    }

    pub fn with(&self) -> With {
        let pairs = self.with.iter();
        pairs
            .map(|(key, value)| (Arc::clone(&key.value), Arc::clone(&value.value)))
            .collect()
    }
}

/// What goes with `preset` alone.
pub(super) fn read(fields: &Fields<'_, '_>, problems: &mut Problems<'_>) -> Option<Box<Choice>> {
    if fields.value("preset").is_none() {
        for key in ["with", "without", "also"] {
            if let Some(at) = fields.place(key) {
                problems
                    .error(at, format!("`{key}` means nothing without `preset`"))
                    .help("it speaks of the rows of a preset; remove the key");
            }
        }
        return None;
    }
    let mut choice = Choice::default();
    if let Some(node) = fields.value("with") {
        for (key, value) in typed::map(node, "`with`", problems).unwrap_or_default() {
            match fact(key, value, problems) {
                Some(fact) => choice.with.push(fact),
                None => choice.in_doubt = true,
            }
        }
    }
    let mut ids = |key: &str| {
        let node = fields.value(key)?;
        let items = typed::list(node, &format!("`{key}`"), Empty::Refused, problems)?;
        let id = |item| typed::text(item, &format!("an item of `{key}`"), problems).map(|id| (id, item.at));
        let ids: Vec<_> = items.iter().filter_map(id).collect();
        Some(ids.into_iter().map(|(id, at)| At { value: id.into(), at }).collect())
    };
    choice.without = ids("without").unwrap_or_default();
    choice.also = ids("also").unwrap_or_default();
    (choice != Choice::default()).then(|| Box::new(choice))
}

/// One fact: part of a name, so that it opens that name and nothing wider.
fn fact(key: &Node<'_>, value: &Node<'_>, problems: &mut Problems<'_>) -> Option<(At<Text>, At<Text>)> {
    let name = typed::text(key, "a key", problems)?;
    if is_of_cluster(name) {
        problems
            .error(
                key.at,
                format!("`{name}` is a fact of the cluster, and the same for every rule"),
            )
            .help(format!(
                "write it below `cluster:` as `{name}: ...`, and remove it here"
            ));
        return None;
    }
    let text = typed::text(value, &format!("`{name}`"), problems)?;
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    {
        problems
            .error(value.at, format!("`{name}` cannot be `{text}`"))
            .help("it becomes part of a name: letters, digits, `-` and dots, no wildcards");
        return None;
    }
    let (key_at, value_at) = (key.at, value.at);
    Some((
        At {
            value: name.into(),
            at: key_at,
        },
        At {
            value: text.to_ascii_lowercase().into(),
            at: value_at,
        },
    ))
}
