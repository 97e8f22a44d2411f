//! Rules that are in each other's way: what an earlier one decides for good, what nobody looks into because of another,
//! what stands twice. Must not compare each with each: the lists may hold a hundred thousand.
//! Called by the lints.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use jiff::civil::Date;

use super::cover::{Cover, Covering};
use super::{Noted, Rules, accepts};
use crate::policy::document::{Checks, Notes, Opens};
use crate::policy::problem::At;
use crate::policy::problem::lint::Lint;
use crate::policy::rule::{Destination, Peer, Scheme};

/// Notes all three.
pub(super) fn check(rules: &Rules<'_>, noted: &mut Noted<'_, '_>) {
    check_shadowed(rules, noted);
    check_opened(rules, noted);
    check_beside(rules, noted);
    check_twice(rules, noted);
}

/// What a deny rule that is asked earlier closes on every day.
fn check_shadowed(rules: &Rules<'_>, noted: &mut Noted<'_, '_>) {
    let mut denied = Cover::default();
    let lasting = |notes: &Option<Box<Notes>>| notes.as_ref().is_none_or(|notes| notes.until.is_none());
    for (rank, rule) in rules.deny.iter().filter(|(_, rule)| lasting(&rule.value.notes)) {
        for to in &rule.value.to {
            denied.add(Covering {
                to: &to.value,
                from: rule.value.from.as_deref(),
                at: to.at,
                rank: *rank,
            });
        }
    }
    if denied.is_empty() {
        return;
    }
    for (rank, rule) in &rules.allow {
        let Opens::To(to) = &rule.value.opens else { continue };
        let from = rule.value.from.as_deref();
        for to in to {
            let deny = denied.find(&to.value, |deny| deny.rank < *rank && deny.holds_sources(from));
            let Some(deny) = deny else { continue };
            let line = noted.position(deny.at);
            noted
                .note(
                    Lint::Shadowed,
                    accepts(rule.value.notes.as_deref()),
                    to.at,
                    "this can never be reached: a deny rule closes it",
                )
                .label(format!("denied at {line}"))
                .help(if deny.rank == Rules::DENY {
                    "remove one of the two; `deny` beats every `allow`"
                } else {
                    "remove one of the two; of collections the first rule that matches decides"
                });
        }
    }
}

/// What a rule of an earlier collection opens on every day, whatever is spoken: what it closes was decided before.
fn check_opened(rules: &Rules<'_>, noted: &mut Noted<'_, '_>) {
    let mut opened = Cover::default();
    for (rank, rule) in rules.allow.iter().filter(|(rank, _)| *rank < rules.last) {
        let rule = &rule.value;
        let lasts = rule.notes.as_ref().is_none_or(|notes| notes.until.is_none());
        let reports = rule.checks.as_ref().is_some_and(|checks| checks.report);
        let Opens::To(to) = &rule.opens else { continue };
        for to in to
            .iter()
            .filter(|to| lasts && !reports && to.value.scheme == Some(Scheme::Tcp))
        {
            opened.add(Covering {
                to: &to.value,
                from: rule.from.as_deref(),
                at: to.at,
                rank: *rank,
            });
        }
    }
    if opened.is_empty() {
        return;
    }
    for (rank, rule) in &rules.deny {
        let from = rule.value.from.as_deref();
        for to in &rule.value.to {
            let allow = opened.find(&to.value, |allow| allow.rank < *rank && allow.holds_sources(from));
            let Some(allow) = allow else { continue };
            let line = noted.position(allow.at);
            noted
                .note(
                    Lint::Shadowed,
                    accepts(rule.value.notes.as_deref()),
                    to.at,
                    "this can never be reached: an earlier collection opens it",
                )
                .label(format!("allowed at {line}"))
                .help("remove one of the two; of collections the first rule that matches decides");
        }
    }
}

/// What `https`, `tls` or `http` would look into, and `tcp` opens unseen.
fn check_beside(rules: &Rules<'_>, noted: &mut Noted<'_, '_>) {
    let mut opaque = Cover::default();
    let mut owners = HashMap::new();
    let destinations = || {
        rules.allow.iter().filter_map(|(rank, rule)| match &rule.value.opens {
            Opens::To(to) => Some((*rank, rule, to)),
            Opens::Preset(_) | Opens::Tags(_) => None,
        })
    };
    for (rank, rule, to) in destinations() {
        for to in to.iter().filter(|to| to.value.scheme == Some(Scheme::Tcp)) {
            owners.insert(to.at, rule.value.notes.as_deref());
            opaque.add(Covering {
                to: &to.value,
                from: rule.value.from.as_deref(),
                at: to.at,
                rank,
            });
        }
    }
    if opaque.is_empty() {
        return;
    }
    let mut seen = HashSet::new();
    for (_, rule, to) in destinations() {
        let from = rule.value.from.as_deref();
        for to in to.iter().filter(|to| to.value.scheme != Some(Scheme::Tcp)) {
            let Some(tcp) = opaque.find(&to.value, |tcp| tcp.shares_sources(from)) else {
                continue;
            };
            if !seen.insert(tcp.at) {
                continue;
            }
            let line = noted.position(to.at);
            let owner = owners.get(&tcp.at).copied().flatten();
            noted
                .note(
                    Lint::TcpBesideTls,
                    accepts(owner),
                    tcp.at,
                    "this opens a name and port that another rule would look into",
                )
                .label(format!("nobody looks any more; the other stands at {line}"))
                .help("remove one of the two: where `tcp` lets a connection through, nothing in it is read");
        }
    }
}

/// The same destination for the same sources under the same conditions.
fn check_twice(rules: &Rules<'_>, noted: &mut Noted<'_, '_>) {
    let allow = rules.allow.iter().map(|(_, rule)| Said {
        to: match &rule.value.opens {
            Opens::To(to) => to,
            Opens::Preset(_) | Opens::Tags(_) => &[],
        },
        from: rule.value.from.as_deref(),
        notes: rule.value.notes.as_deref(),
        checks: rule.value.checks.as_deref(),
    });
    let deny = rules.deny.iter().map(|(_, rule)| Said {
        to: &rule.value.to,
        from: rule.value.from.as_deref(),
        notes: rule.value.notes.as_deref(),
        checks: None,
    });
    note_twins(&allow, noted);
    note_twins(&deny, noted);
}

/// What makes two rules the same, whatever they are called.
#[derive(Clone, Copy)]
struct Said<'d> {
    to: &'d [At<Destination>],
    from: Option<&'d [At<Peer>]>,
    notes: Option<&'d Notes>,
    checks: Option<&'d Checks>,
}

impl Said<'_> {
    fn until(&self) -> Option<&At<Date>> {
        self.notes.and_then(|notes| notes.until.as_ref())
    }

    fn same(&self, other: &Said<'_>) -> bool {
        (self.from, self.until(), self.checks) == (other.from, other.until(), other.checks)
    }
}

fn note_twins<'d>(rules: &(impl Iterator<Item = Said<'d>> + Clone), noted: &mut Noted<'_, '_>) {
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
        let same = |(other, twin): &&(Said<'_>, &At<Destination>)| twin.value == to.value && other.same(&said);
        if let Some((_, twin)) = earlier.iter().take(COMPARED).find(same) {
            let first = noted.position(twin.at);
            noted
                .note(
                    Lint::Duplicate,
                    accepts(said.notes),
                    to.at,
                    "this stands in another rule already",
                )
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
