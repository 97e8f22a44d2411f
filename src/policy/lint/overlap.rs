//! Destinations that a deny rule closes for good, and rules that stand twice.
//! Must not compare each with each: both lists may hold a hundred thousand.
//! Called by the lints.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use ipnet::IpNet;
use jiff::civil::Date;

use crate::name::{HostName, HostPattern};
use crate::policy::document::{Checks, DenyRule, Document, Notes, Opens};
use crate::policy::problem::{At, Place, Problems};
use crate::policy::rule::{Destination, HostMatch, Peer};

/// Notes both.
pub(super) fn check(document: &Document, problems: &mut Problems<'_>) {
    check_shadowed(document, problems);
    check_twice(document, problems);
}

fn check_shadowed(document: &Document, problems: &mut Problems<'_>) {
    let denied = Denied::of(&document.deny);
    if denied.is_empty() {
        return;
    }
    for entry in &document.allow {
        let Opens::To(to) = &entry.value.opens else { continue };
        for to in to {
            if let Some(deny) = denied.closes(&to.value, entry.value.from.as_deref()) {
                let line = problems.position(deny);
                problems
                    .warning(to.at, "this can never be reached: a deny rule closes it")
                    .label(format!("denied at {line}"))
                    .help("remove one of the two; `deny` beats every `allow`");
            }
        }
    }
}

/// What deny rules close on every day, by what they name.
struct Denied<'d> {
    exact: HashMap<&'d HostName, Vec<Closed<'d>>>,
    below: HashMap<&'d str, Vec<Closed<'d>>>,
    label: HashMap<&'d HostPattern, Vec<Closed<'d>>>,
    cidr: HashMap<IpNet, Vec<Closed<'d>>>,
}

#[derive(Clone, Copy)]
struct Closed<'d> {
    to: &'d Destination,
    from: Option<&'d [At<Peer>]>,
    at: Place,
}

impl<'d> Denied<'d> {
    fn of(rules: &'d [At<DenyRule>]) -> Self {
        let mut denied = Self {
            exact: HashMap::new(),
            below: HashMap::new(),
            label: HashMap::new(),
            cidr: HashMap::new(),
        };
        let lasting = |rule: &&At<DenyRule>| rule.value.notes.as_ref().is_none_or(|notes| notes.until.is_none());
        for rule in rules.iter().filter(lasting) {
            for to in &rule.value.to {
                let closed = Closed {
                    to: &to.value,
                    from: rule.value.from.as_deref(),
                    at: to.at,
                };
                let slot = match &to.value.host {
                    HostMatch::Name(HostPattern::Exact(name)) => denied.exact.entry(name).or_default(),
                    HostMatch::Name(HostPattern::Below(suffix)) => denied.below.entry(suffix.as_str()).or_default(),
                    HostMatch::Name(pattern @ HostPattern::Label(_)) => denied.label.entry(pattern).or_default(),
                    HostMatch::Cidr(network) => denied.cidr.entry(*network).or_default(),
                };
                slot.push(closed);
            }
        }
        denied
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty() && self.label.is_empty() && self.cidr.is_empty()
    }

    /// The deny rule that closes all of a destination for all of these sources.
    fn closes(&self, to: &Destination, from: Option<&[At<Peer>]>) -> Option<Place> {
        let covers = |closed: &&Closed<'_>| {
            let ports = closed.to.ports.start() <= to.ports.start() && to.ports.end() <= closed.to.ports.end();
            let sources = match (closed.from, from) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(closed), Some(from)) => from.iter().all(|peer| closed.contains(peer)),
            };
            ports && sources
        };
        let find = |found: Option<&Vec<Closed<'_>>>| found?.iter().find(covers).map(|closed| closed.at);
        let below = |suffix: &str| find(self.below.get(suffix));
        match &to.host {
            HostMatch::Name(HostPattern::Exact(name)) => {
                find(self.exact.get(name)).or_else(|| name.parents().find_map(below))
            }
            HostMatch::Name(HostPattern::Below(suffix)) => {
                below(suffix.as_str()).or_else(|| suffix.parents().find_map(below))
            }
            HostMatch::Name(pattern @ HostPattern::Label(label)) => find(self.label.get(pattern))
                .or_else(|| below(label.suffix.as_str()))
                .or_else(|| label.suffix.parents().find_map(below)),
            HostMatch::Cidr(network) => {
                let mut around = Some(*network);
                let wider = std::iter::from_fn(|| {
                    let current = around?;
                    around = current.supernet();
                    Some(current)
                });
                wider.into_iter().find_map(|network| find(self.cidr.get(&network)))
            }
        }
    }
}

/// The same destination for the same sources under the same conditions.
fn check_twice(document: &Document, problems: &mut Problems<'_>) {
    let allow = document.allow.iter().map(|rule| Said {
        to: match &rule.value.opens {
            Opens::To(to) => to,
            Opens::Preset(_) => &[],
        },
        from: rule.value.from.as_deref(),
        until: until(rule.value.notes.as_deref()),
        checks: rule.value.checks.as_deref(),
    });
    let deny = document.deny.iter().map(|rule| Said {
        to: &rule.value.to,
        from: rule.value.from.as_deref(),
        until: until(rule.value.notes.as_deref()),
        checks: None,
    });
    note_twins(&allow, problems);
    note_twins(&deny, problems);
}

/// What makes two rules the same, whatever they are called.
#[derive(Clone, Copy)]
struct Said<'d> {
    to: &'d [At<Destination>],
    from: Option<&'d [At<Peer>]>,
    until: Option<&'d At<Date>>,
    checks: Option<&'d Checks>,
}

fn until(notes: Option<&Notes>) -> Option<&At<Date>> {
    notes.and_then(|notes| notes.until.as_ref())
}

fn note_twins<'d>(rules: &(impl Iterator<Item = Said<'d>> + Clone), problems: &mut Problems<'_>) {
    // Hashes alone first, as keys would be a lot of memory; then each supposed twin is looked at.
    let state = RandomState::default();
    let mut seen: HashSet<u64, RandomState> = HashSet::default();
    let mut supposed: HashMap<u64, Vec<(Said<'d>, &At<Destination>)>, RandomState> = HashMap::default();
    let all = || rules.clone().flat_map(|said| said.to.iter().map(move |to| (said, to)));
    for (_, to) in all() {
        let hash = state.hash_one(&to.value);
        if !seen.insert(hash) {
            supposed.entry(hash).or_default();
        }
    }
    drop(seen);
    if supposed.is_empty() {
        return;
    }
    for (said, to) in all() {
        let Some(earlier) = supposed.get_mut(&state.hash_one(&to.value)) else {
            continue;
        };
        let same = |(other, twin): &&(Said<'_>, &At<Destination>)| {
            twin.value == to.value && (other.from, other.until, other.checks) == (said.from, said.until, said.checks)
        };
        if let Some((_, twin)) = earlier.iter().take(COMPARED).find(same) {
            let first = problems.position(twin.at);
            problems
                .warning(to.at, "this stands in another rule already")
                .help(format!(
                    "the same destination for the same sources stands at {first}; remove one"
                ));
        } else {
            earlier.push((said, to));
        }
    }
}

/// Of the rules for one destination. A thousand of them for a thousand sources are no reason to compare a million times.
const COMPARED: usize = 64;
