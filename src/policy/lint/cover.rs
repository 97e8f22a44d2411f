//! Finds the destination that covers all of another one: its host, its ports and its sources.
//! Must not compare each with each: both sides may hold a hundred thousand.
//! Called by the lints of rules that overlap.

use std::collections::HashMap;

use ipnet::IpNet;

use crate::name::{HostName, HostPattern};
use crate::policy::document::address;
use crate::policy::problem::{At, Place};
use crate::policy::rule::{Destination, HostMatch, Peer};

/// Destinations by what they name.
#[derive(Default)]
pub(super) struct Cover<'d> {
    exact: HashMap<&'d HostName, Vec<Covering<'d>>>,
    below: HashMap<&'d str, Vec<Covering<'d>>>,
    label: HashMap<&'d HostPattern, Vec<Covering<'d>>>,
    cidr: HashMap<IpNet, Vec<Covering<'d>>>,
}

/// One of them.
#[derive(Clone, Copy)]
pub(super) struct Covering<'d> {
    pub(super) to: &'d Destination,
    pub(super) from: Option<&'d [At<Peer>]>,
    pub(super) at: Place,
    /// The place of its rule in the order in which rules are asked.
    pub(super) rank: usize,
}

impl<'d> Cover<'d> {
    pub(super) fn add(&mut self, covering: Covering<'d>) {
        let slot = match &covering.to.host {
            HostMatch::Name(HostPattern::Exact(name)) => self.exact.entry(name).or_default(),
            HostMatch::Name(HostPattern::Below(suffix)) => self.below.entry(suffix.as_str()).or_default(),
            HostMatch::Name(pattern @ HostPattern::Label(_)) => self.label.entry(pattern).or_default(),
            HostMatch::Cidr(network) => self.cidr.entry(*network).or_default(),
        };
        slot.push(covering);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty() && self.label.is_empty() && self.cidr.is_empty()
    }

    /// The first that holds every host and port of a destination, and that `fits`.
    pub(super) fn find(&self, to: &Destination, fits: impl Fn(&Covering<'d>) -> bool) -> Option<Covering<'d>> {
        let holds = |covering: &&Covering<'d>| {
            let (own, other) = (&to.ports, &covering.to.ports);
            other.start() <= own.start() && own.end() <= other.end() && fits(covering)
        };
        let find = |found: Option<&Vec<Covering<'d>>>| found?.iter().take(COMPARED).find(holds).copied();
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
                let mut wider = std::iter::from_fn(|| {
                    let current = around?;
                    around = current.supernet();
                    Some(current)
                });
                wider.find_map(|network| find(self.cidr.get(&network)))
            }
        }
    }
}

impl Covering<'_> {
    /// Whether it speaks of all of these sources.
    pub(super) fn holds_sources(&self, from: Option<&[At<Peer>]>) -> bool {
        match (self.from, from) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(from)) => from.iter().all(|peer| own.contains(peer)),
        }
    }

    /// Whether it speaks of any of these sources.
    pub(super) fn shares_sources(&self, from: Option<&[At<Peer>]>) -> bool {
        let (Some(own), Some(from)) = (self.from, from) else {
            return true;
        };
        own.iter().any(|own| {
            from.iter().any(|peer| match (&own.value, &peer.value) {
                (Peer::Cidr(own), Peer::Cidr(peer)) => address::overlap(*own, *peer),
                (own, peer) => own == peer,
            })
        })
    }
}

/// Of the rules for one destination. A thousand of them for a thousand sources are no reason to compare a million times.
const COMPARED: usize = 64;
