//! `accept`: which warnings stand where they are, each with the reason why.
//! Must not know what is warned of; an `accept` that nothing needs is a lint of its own.
//! Called by the readers of rules, workloads and files.

use super::{Text, syntax};
use crate::policy::problem::lint::{Bearer, Lint};
use crate::policy::problem::{At, Problems};
use crate::policy::yaml::{Node, Value, typed};

/// A lint that was accepted. Its place is that of the lint's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    pub lint: Lint,
    pub reason: Text,
}

/// Reads the map of a rule, a workload or a file.
pub(super) fn read(node: &Node<'_>, bearer: Bearer, problems: &mut Problems<'_>) -> Vec<At<Accept>> {
    let Value::Map(_) = &node.value else {
        if !matches!(node.value, Value::Refused) {
            problems
                .error(node.at, "`accept` needs a reason for each lint")
                .help("write `{shared-suffix: REASON}`, and say why it stands all the same");
        }
        return Vec::new();
    };
    let Some(entries) = typed::map(node, "`accept`", problems) else {
        return Vec::new();
    };
    let mut all = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let Value::Text(name) = &key.value else { continue };
        let reason = syntax::line(value, "the reason", problems);
        let Some(lint) = Lint::named(name) else {
            let names: Vec<_> = lints_of(bearer).map(Lint::as_str).collect();
            let help = match typed::nearest(name, &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("{} can accept {}", bearer.as_str(), typed::listed(&names)),
            };
            problems.error(key.at, format!("there is no lint `{name}`")).help(help);
            continue;
        };
        if lint.bearer() != Some(bearer) {
            let help = match lint.bearer() {
                Some(other) => format!("it is about {}, and accepted there", other.as_str()),
                None => "remove the line that it is about instead".to_owned(),
            };
            problems
                .error(key.at, format!("`{name}` cannot be accepted here"))
                .help(help);
            continue;
        }
        all.extend(reason.map(|reason| At {
            value: Accept {
                lint,
                reason: reason.into(),
            },
            at: key.at,
        }));
    }
    all
}

fn lints_of(bearer: Bearer) -> impl Iterator<Item = Lint> {
    Lint::ALL.into_iter().filter(move |lint| lint.bearer() == Some(bearer))
}
