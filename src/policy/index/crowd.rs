//! The rules of one host by the source that they name, where they are so many that a look at each of them would show.
//! Must not judge, nor leave out a rule that names the asking source; one that names it twice may be found twice.
//! Made and asked by the index.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::iter;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::{Entry, Head, Index, Link};
use crate::policy::gate::Specificity;
use crate::policy::nets::Nets;
use crate::policy::rule::{Effect, From, Listed, Peer, Rule, RuleId};

/// A crowded list, split.
#[derive(Debug)]
pub(super) struct Crowd {
    /// Rules for everyone, and those that name many sources each.
    open: Head,
    by_workload: HashMap<Arc<str>, Head, RandomState>,
    by_range: Nets<Head>,
    /// The allow rules that are found by workload or range, the one first that a denial would name.
    narrow: Box<[Entry]>,
}

impl Crowd {
    /// Splits a list. `None`: few rules of it are found by source, so that it stays as it is.
    pub(super) fn split(head: Link, rules: &[Rule], index: &mut Index) -> Option<Self> {
        let list: Vec<_> = index
            .list(head)
            .filter_map(|entry| Some((entry, rules.get(entry.rule as usize)?)))
            .collect();
        let narrow = list.iter().filter(|(_, rule)| sources(rule).is_some());
        let narrow: Vec<_> = narrow.map(|(entry, rule)| (*entry, *rule)).collect();
        if narrow.len() <= FEW {
            return None;
        }
        let mut crowd = Self {
            open: None,
            by_workload: HashMap::default(),
            by_range: Nets::default(),
            narrow: sorted(&narrow),
        };
        for (entry, rule) in list {
            match sources(rule) {
                None => index.link(&mut crowd.open, entry),
                Some(peers) => {
                    for peer in peers {
                        let head = match peer {
                            Peer::Workload(name) => crowd.by_workload.entry(Arc::clone(name)).or_default(),
                            Peer::Cidr(range) => crowd.by_range.entry(*range),
                        };
                        index.link(head, entry);
                    }
                }
            }
        }
        Some(crowd)
    }

    /// The lists of a source.
    pub(super) fn of<'a>(
        &'a self,
        address: IpAddr,
        workloads: impl Iterator<Item = &'a Arc<str>>,
    ) -> impl Iterator<Item = Link> {
        let by_workload = workloads.filter_map(|name| self.by_workload.get(name));
        let by_range = self.by_range.around(address).map(|(_, head)| head);
        iter::once(&self.open)
            .chain(by_workload)
            .chain(by_range)
            .copied()
            .flatten()
    }

    /// The allow rules that name sources, those of the asking one among them.
    pub(super) fn narrow(&self) -> &[Entry] {
        &self.narrow
    }
}

/// What a rule is found by. `None`: it is to be looked at for every source.
fn sources(rule: &Rule) -> Option<&[Peer]> {
    let From::Any(peers) = &rule.from else { return None };
    match peers.listed() {
        Listed::Few(peers) => Some(peers),
        Listed::Many(_) => None,
    }
}

fn sorted(narrow: &[(Entry, &Rule)]) -> Box<[Entry]> {
    let allow = narrow.iter().filter(|(_, rule)| rule.effect == Effect::Allow);
    let mut allow: Vec<_> = allow
        .filter_map(|(entry, rule)| {
            let destination = rule.to.get(entry.destination as usize)?;
            Some((Specificity::of(RuleId(entry.rule), destination, None), *entry))
        })
        .collect();
    allow.sort_by_key(|(specificity, _)| Reverse(*specificity));
    allow.into_iter().map(|(_, entry)| entry).collect()
}

/// Rules of a list up to which a look at each costs no more than the probes.
const FEW: usize = 4;
