//! Looks at nodes as values of a type: text, flag, integer, word, list, map with known keys.
//! Must not coerce: `"443"` is text and `443` is not. Each refusal says what stands there and what should.
//! Called by the readers of the document and of the presets.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Node, Value};
use crate::policy::problem::{Place, Problems};

/// Whether a list may have no items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Empty {
    Fine,
    /// Most lists: empty is never "any", so it is nothing that anyone can mean.
    Refused,
}

/// A map whose keys are known ones, each once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'n, 't>(&'n [(Node<'t>, Node<'t>)]);

impl<'n, 't> Fields<'n, 't> {
    /// Of entries whose keys were checked already.
    pub(crate) fn of(entries: &'n [(Node<'t>, Node<'t>)]) -> Self {
        Self(entries)
    }

    /// The value of a key.
    pub(crate) fn value(&self, key: &str) -> Option<&'n Node<'t>> {
        self.entry(key).map(|(_, value)| value)
    }

    /// Where a key stands.
    pub(crate) fn place(&self, key: &str) -> Option<Place> {
        self.entry(key).map(|(key, _)| key.at)
    }

    fn entry(&self, key: &str) -> Option<(&'n Node<'t>, &'n Node<'t>)> {
        let found = self
            .0
            .iter()
            .find(|(node, _)| matches!(&node.value, Value::Text(text) if text == key));
        found.map(|(key, value)| (key, value))
    }
}

/// A map with these keys and no others; `what` completes "is not a key of".
pub(crate) fn fields<'n, 't>(
    node: &'n Node<'t>,
    what: &str,
    keys: &[&str],
    problems: &mut Problems<'_>,
) -> Option<Fields<'n, 't>> {
    if !matches!(node.value, Value::Map(_)) {
        let listed = listed(keys).replace(" or ", " and ");
        if let Some(problem) = wrong_kind(node, what, "a map", problems) {
            problem.help(format!("{} The keys are {listed}", as_map(node)));
        }
        return None;
    }
    let entries = map(node, what, problems)?;
    for (key, value) in entries {
        let Value::Text(name) = &key.value else { continue };
        if !keys.contains(&&**name) {
            refuse_key(key, name, value, what, keys, problems);
        }
    }
    Some(Fields(entries))
}

/// A map with any keys that are text, each once, at least one.
pub(crate) fn map<'n, 't>(
    node: &'n Node<'t>,
    what: &str,
    problems: &mut Problems<'_>,
) -> Option<&'n [(Node<'t>, Node<'t>)]> {
    let Value::Map(entries) = &node.value else {
        if let Some(problem) = wrong_kind(node, what, "a map", problems) {
            problem.help(as_map(node));
        }
        return None;
    };
    if entries.is_empty() {
        problems
            .error(node.at, format!("{what} is empty"))
            .help("give it at least one key, or remove it");
    }
    let mut places: HashMap<&str, Place> = HashMap::new();
    for (index, (key, _)) in entries.iter().enumerate() {
        let Some(name) = text(key, "a key", problems) else {
            continue;
        };
        // Most maps are small, and there are a hundred thousand of them.
        let twin = if entries.len() <= 16 {
            let earlier = entries.iter().take(index).map(|(key, _)| key);
            let mut twins = earlier.filter(|key| matches!(&key.value, Value::Text(text) if text == name));
            twins.next().map(|twin| twin.at)
        } else {
            places.insert(name, key.at)
        };
        if let Some(twin) = twin {
            refuse_twin(key.at, twin, name, problems);
        }
    }
    Some(entries)
}

/// Notes a key that stands twice.
pub(crate) fn refuse_twin(key: Place, twin: Place, name: &str, problems: &mut Problems<'_>) {
    let first = problems.position(twin);
    problems
        .error(key, format!("the key `{name}` stands here a second time"))
        .help(format!("it stands first at {first}; keep one of them"));
}

/// Notes a key that nothing is known about.
pub(crate) fn refuse_key<'t>(
    key: &Node<'t>,
    name: &str,
    value: &Node<'t>,
    what: &str,
    keys: &[&str],
    problems: &mut Problems<'_>,
) {
    let message = format!("`{name}` is not a key of {what}");
    if name == "<<" {
        problems
            .error(key.at, "merge keys (`<<`) are not supported")
            .help("write the keys out");
    } else if matches!(value.value, Value::Null) && name.contains('.') {
        let both = Place {
            end: key.at.end + 1,
            ..key.at
        };
        problems
            .error(both, message)
            .help(format!("no colon at the end: write `{name}`"));
    } else if matches!(value.value, Value::Int(_)) && name.contains('.') {
        let port = problems.quote(value.at);
        let both = Place {
            end: value.at.end,
            ..key.at
        };
        problems
            .error(both, message)
            .help(format!("no space after the colon: write `{name}:{port}`"));
    } else {
        let help = match nearest(name, keys) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the keys are {}", listed(keys)),
        };
        problems.error(key.at, message).help(help);
    }
}

/// Text that is not empty.
pub(crate) fn text<'n>(node: &'n Node<'_>, what: &str, problems: &mut Problems<'_>) -> Option<&'n str> {
    match &node.value {
        Value::Text(text) if text.trim().is_empty() => {
            problems
                .error(node.at, format!("{what} is empty"))
                .help("write something, or remove it");
            None
        }
        Value::Text(text) => Some(text),
        Value::Bool(_) | Value::Int(_) | Value::Number => {
            let written = problems.quote(node.at).to_owned();
            wrong_kind(node, what, "text", problems)?.help(format!("put it in quotes: write `\"{written}\"`"));
            None
        }
        _ => {
            let help = match &node.value {
                Value::List(items) if items.len() == 1 => format!("write `{}`", problems.quote(items[0].at)),
                Value::List(_) => "one value stands here: remove the brackets or dashes".to_owned(),
                _ => "one value stands here: remove the braces, and what stands before a colon and a space".to_owned(),
            };
            let problem = wrong_kind(node, what, "text", problems)?;
            if !matches!(node.value, Value::Null) {
                problem.help(help);
            }
            None
        }
    }
}

/// Text, or a number as it is written: for what says more about a number than that it needs quotes.
pub(crate) fn raw<'n>(node: &'n Node<'_>, what: &str, problems: &mut Problems<'_>) -> Option<Cow<'n, str>> {
    match &node.value {
        Value::Int(_) | Value::Number => Some(Cow::Owned(problems.quote(node.at).to_owned())),
        _ => text(node, what, problems).map(Cow::Borrowed),
    }
}

/// `true` or `false`.
pub(crate) fn flag(node: &Node<'_>, what: &str, problems: &mut Problems<'_>) -> Option<bool> {
    if let Value::Bool(flag) = node.value {
        return Some(flag);
    }
    let meant = match &node.value {
        Value::Text(text) if ["yes", "y", "on", "true"].contains(&&*text.to_ascii_lowercase()) => "`true`",
        Value::Text(text) if ["no", "n", "off", "false"].contains(&&*text.to_ascii_lowercase()) => "`false`",
        _ => "`true` or `false`",
    };
    wrong_kind(node, what, "`true` or `false`", problems)?.help(format!("write {meant}"));
    None
}

/// A whole number in decimal digits.
pub(crate) fn integer(node: &Node<'_>, what: &str, problems: &mut Problems<'_>) -> Option<i64> {
    if let Value::Int(number) = node.value {
        return Some(number);
    }
    let written = match &node.value {
        Value::Text(text) => text.to_string(),
        _ => problems.quote(node.at).to_owned(),
    };
    let problem = wrong_kind(node, what, "a whole number", problems)?;
    let digits = written.trim().trim_start_matches('0');
    if digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<i64>().is_ok() {
        problem.help(format!("write `{digits}`, without quotes or leading zeros"));
    } else {
        problem.help("write its digits alone");
    }
    None
}

/// One of a few words, each with its meaning.
pub(crate) fn word<T: Copy>(
    node: &Node<'_>,
    what: &str,
    words: &[(&str, T)],
    problems: &mut Problems<'_>,
) -> Option<T> {
    let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
    let help = format!("write {}", listed(&names));
    let Value::Text(text) = &node.value else {
        wrong_kind(node, what, "a word", problems)?.help(help);
        return None;
    };
    if let Some((_, meaning)) = words.iter().find(|(name, _)| name == text) {
        return Some(*meaning);
    }
    let help = nearest(text, &names).map_or(help, |near| format!("did you mean `{near}`?"));
    problems.error(node.at, format!("{what} cannot be `{text}`")).help(help);
    None
}

/// The items of a list.
pub(crate) fn list<'n, 't>(
    node: &'n Node<'t>,
    what: &str,
    empty: Empty,
    problems: &mut Problems<'_>,
) -> Option<&'n [Node<'t>]> {
    match &node.value {
        Value::List(items) if items.is_empty() && empty == Empty::Refused => {
            problems
                .error(node.at, format!("{what} is an empty list"))
                .help("empty is never \"any\": name at least one, or remove the key");
            None
        }
        Value::List(items) => Some(items),
        Value::Null => {
            let problem = wrong_kind(node, what, "a list", problems)?;
            problem.help(match empty {
                Empty::Fine => "write items below it, each with a dash, or `[]` if there is really none",
                Empty::Refused => "write items below it, each with a dash, or remove the key",
            });
            None
        }
        Value::Map(entries) if entries.is_empty() => {
            let problem = wrong_kind(node, what, "a list", problems)?;
            problem.help(match empty {
                Empty::Fine => "write `[]` if there is really none",
                Empty::Refused => "empty is never \"any\": name at least one, or remove the key",
            });
            None
        }
        _ => {
            let written = problems.quote(node.at).trim_end().to_owned();
            let problem = wrong_kind(node, what, "a list", problems)?;
            // Several lines are a block, and a bracket before its first line is not enough.
            problem.help(
                if written.contains('\n') && matches!(node.value, Value::Text(_)) || written.starts_with('-') {
                    "begin each item with a dash and a space, all of them indented alike".to_owned()
                } else if written.contains('\n') {
                    "put a dash and a space before its first line, and indent the others as far".to_owned()
                } else if matches!(node.value, Value::Map(_)) && !written.starts_with('{') {
                    format!("write `[{{{written}}}]`")
                } else if written.contains(['[', ',']) && !written.starts_with(['"', '\'', '{']) {
                    format!("write `[\"{written}\"]`")
                } else {
                    format!("write `[{written}]`")
                },
            );
            None
        }
    }
}

/// Of these names the one that was probably meant.
pub(crate) fn nearest<'k>(name: &str, names: &[&'k str]) -> Option<&'k str> {
    let folded = name.to_ascii_lowercase().replace('-', "_");
    let distance = |known: &str| strsim::osa_distance(&folded, &known.to_ascii_lowercase().replace('-', "_"));
    let limit = 1 + name.len() / 4;
    let near = names.iter().map(|known| (distance(known), *known)).min()?;
    Some(near)
        .filter(|(distance, _)| *distance <= limit)
        .map(|(_, known)| known)
}

/// `a`, `b` or `c`.
pub(crate) fn listed(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// Notes that a node is of another kind; nothing, if it was refused before.
fn wrong_kind<'p>(
    node: &Node<'_>,
    what: &str,
    expected: &str,
    problems: &'p mut Problems<'_>,
) -> Option<&'p mut crate::policy::Problem> {
    let message = match node.value {
        Value::Refused => return None,
        Value::Null => format!("{what} says nothing"),
        _ => format!("{what} must be {expected}, not {}", node.kind()),
    };
    let problem = problems.error(node.at, message);
    if matches!(node.value, Value::Null) {
        problem.help(format!("write {expected}, or remove it"));
    }
    Some(problem)
}

/// How what is no map becomes one.
fn as_map(node: &Node<'_>) -> String {
    let plain = match &node.value {
        Value::Text(text) => text.split_once('='),
        _ => None,
    };
    match (&node.value, plain) {
        (_, Some((key, value))) => format!("write `{{{key}: {value}}}`"),
        (Value::List(items), None) => match items.first().map(|item| &item.value) {
            Some(Value::Map(entries)) if entries.len() > 1 => {
                match entries.first().map(|(key, name)| (&key.value, &name.value)) {
                    Some((Value::Text(key), Value::Text(name))) => {
                        format!("write `{name}:` instead of `- {key}: {name}`, and the rest below it, for each item.")
                    }
                    _ => NO_DASHES.to_owned(),
                }
            }
            _ => NO_DASHES.to_owned(),
        },
        _ => "write `KEY: VALUE` on lines of their own, or `{KEY: VALUE}`.".to_owned(),
    }
}

const NO_DASHES: &str = "remove the dashes or brackets, and give each item a key of its own.";
