//! Rules whose host is almost the one asked for: a typing error, the apex of a wildcard, a sibling.
//! Must not be called by the data path: it walks over every rule.
//! Called by `explain` when no rule covers the host.

use std::cmp::Reverse;

use super::{MISSES, Miss, RuleRef};
use crate::name::{Host, HostName, HostPattern};
use crate::policy::compiled::Policy;
use crate::policy::rule::{Effect, HostMatch};

/// At most [`MISSES`] rules, most similar first.
pub(super) fn similar(policy: &Policy, host: &Host) -> Vec<Miss> {
    let Host::Name(asked) = host else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (rule, place) in policy.rules().iter().zip(0_u32..) {
        if rule.effect == Effect::Deny {
            continue;
        }
        let kinships = rule.to.iter().filter_map(|destination| match &destination.host {
            HostMatch::Name(pattern) => Some((kinship(asked, pattern)?, pattern)),
            HostMatch::Cidr(_) => None,
        });
        if let Some((kinship, pattern)) = kinships.max_by_key(|(kinship, _)| *kinship) {
            found.push(((kinship, Reverse(place)), rule, pattern));
        }
    }
    found.sort_unstable_by_key(|(rank, ..)| Reverse(*rank));
    found.truncate(MISSES);
    found
        .into_iter()
        .map(|((kinship, _), rule, pattern)| Miss {
            rule: RuleRef::from(rule),
            failed: kinship.words(asked, pattern),
        })
        .collect()
}

/// How a pattern that does not match is related to a name; the greater, the nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kinship {
    /// Both stand below the same name of at least two labels; the longer that name, the nearer.
    Sibling(usize),
    /// This many letters differ.
    Spelling(Reverse<usize>),
    /// The pattern is the apex of the name, or the other way round.
    Apex,
}

impl Kinship {
    fn spelling(errors: usize) -> Self {
        Self::Spelling(Reverse(errors))
    }

    fn words(self, asked: &HostName, pattern: &HostPattern) -> String {
        match (self, pattern) {
            (Self::Apex, HostPattern::Below(suffix)) => {
                format!("`{pattern}` names what is below {suffix}, not {suffix} itself")
            }
            (Self::Apex, _) => format!("`{pattern}` names that host alone, not what is below it"),
            (Self::Spelling(_), _) => format!("`{pattern}` is spelled almost like {asked}"),
            (Self::Sibling(_), _) => format!("it only names `{pattern}`"),
        }
    }
}

fn kinship(asked: &HostName, pattern: &HostPattern) -> Option<Kinship> {
    let name = asked.as_str();
    match pattern {
        HostPattern::Exact(written) if is_parent(asked, written.as_str()) => Some(Kinship::Apex),
        HostPattern::Exact(written) => {
            let spelling = distance(name, written.as_str()).map(Kinship::spelling);
            spelling.or_else(|| {
                let (_, parent) = written.as_str().split_once('.')?;
                let related = parent.contains('.') && is_parent(asked, parent);
                related.then_some(Kinship::Sibling(parent.len()))
            })
        }
        HostPattern::Below(suffix) if suffix == asked => Some(Kinship::Apex),
        // A wildcard is compared with as many labels of the name as it has itself.
        HostPattern::Below(suffix) => {
            let tail = tail(name, suffix.as_str().split('.').count());
            distance(tail, suffix.as_str()).map(Kinship::spelling)
        }
        HostPattern::Label(label) => {
            let suffix = label.suffix.as_str();
            is_parent(asked, suffix).then_some(Kinship::Sibling(suffix.len()))
        }
    }
}

fn is_parent(asked: &HostName, suffix: &str) -> bool {
    asked.parents().any(|parent| parent == suffix)
}

/// The last `labels` labels of a name.
fn tail(name: &str, labels: usize) -> &str {
    let start = name.rmatch_indices('.').nth(labels - 1).map_or(0, |(dot, _)| dot + 1);
    name.get(start..).unwrap_or(name)
}

/// How many letters are left out, too many, wrong or swapped; `None` for more than [`TYPING_ERRORS`].
fn distance(a: &str, b: &str) -> Option<usize> {
    let near = a.len() >= SHORTEST && a.len().abs_diff(b.len()) <= TYPING_ERRORS;
    let distance = near.then(|| strsim::osa_distance(a, b))?;
    (distance <= TYPING_ERRORS).then_some(distance)
}

const TYPING_ERRORS: usize = 2;
/// Shorter names differ from everything by two letters.
const SHORTEST: usize = 6;
