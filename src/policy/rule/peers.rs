//! The sources that a rule names. Rules that name the same ones share them; a long list knows its ranges by length.
//! Must not know policies: which workloads a source belongs to comes in as a question.
//! Called by the compiler, which makes them, and by the gate for every rule that may speak of an ask.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::ops::Deref;
use std::slice;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::Peer;
use crate::policy::nets::Nets;

/// Workloads and ranges. Clones share them.
#[derive(Clone, Debug)]
pub struct Peers(Arc<List>);

#[derive(Debug)]
struct List {
    all: Box<[Peer]>,
    /// Of a list with more than [`FEW`].
    known: Option<Known>,
}

/// The members of a long list, so that nobody has to look at each.
#[derive(Debug, Default)]
struct Known {
    workloads: HashSet<Arc<str>, RandomState>,
    ranges: Nets<()>,
}

/// How a list can be asked about a source.
pub(in crate::policy) enum Listed<'a> {
    /// By a look at each.
    Few(&'a [Peer]),
    /// By name, and by address.
    Many(Members<'a>),
}

#[derive(Clone, Copy)]
pub(in crate::policy) struct Members<'a>(&'a Known);

impl Peers {
    pub(in crate::policy) fn listed(&self) -> Listed<'_> {
        match &self.0.known {
            None => Listed::Few(&self.0.all),
            Some(known) => Listed::Many(Members(known)),
        }
    }
}

impl Members<'_> {
    pub(in crate::policy) fn holds(self, workload: &str) -> bool {
        self.0.workloads.contains(workload)
    }

    /// Whether there is any workload in the list.
    pub(in crate::policy) fn has_workloads(self) -> bool {
        !self.0.workloads.is_empty()
    }

    /// The narrowest range around an address.
    pub(in crate::policy) fn narrowest(self, address: IpAddr) -> Option<u8> {
        self.0.ranges.around(address).next().map(|(length, ())| length)
    }
}

impl Deref for Peers {
    type Target = [Peer];

    fn deref(&self) -> &[Peer] {
        &self.0.all
    }
}

impl FromIterator<Peer> for Peers {
    fn from_iter<I: IntoIterator<Item = Peer>>(all: I) -> Self {
        let all: Box<[Peer]> = all.into_iter().collect();
        let known = (all.len() > FEW).then(|| {
            let mut known = Known::default();
            for peer in &all {
                match peer {
                    Peer::Workload(name) => {
                        known.workloads.insert(Arc::clone(name));
                    }
                    Peer::Cidr(range) => {
                        known.ranges.entry(*range);
                    }
                }
            }
            known
        });
        Self(Arc::new(List { all, known }))
    }
}

impl<'a> IntoIterator for &'a Peers {
    type Item = &'a Peer;
    type IntoIter = slice::Iter<'a, Peer>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Equal lists say the same. Hashed as the slice, so that a slice finds the list that is shared.
impl PartialEq for Peers {
    fn eq(&self, other: &Self) -> bool {
        self.0.all == other.0.all
    }
}

impl Eq for Peers {}

impl Hash for Peers {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.all.hash(state);
    }
}

impl Borrow<[Peer]> for Peers {
    fn borrow(&self) -> &[Peer] {
        self
    }
}

/// Up to here a look at each costs no more than the probes.
const FEW: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::compiled::{Parts, Policy, Workload};
    use crate::policy::fixture::{allow, ask, policy, source};
    use crate::policy::gate::Judge;
    use crate::policy::rule::{From, Generation, Rule};
    use crate::policy::{Ask, Source};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// The definition: the narrowest of all rules that name one source each.
        #[test]
        fn a_long_list_answers_as_its_members_would(
            ranges in proptest::collection::vec((0_u8..4, 8_u8..=24), 9..40),
            workloads in proptest::collection::vec(0_u8..4, 0..4),
            from in prop_oneof![
                Just("10.1.0.1".to_owned()), Just("10.3.0.0".to_owned()), Just("11.0.0.1".to_owned()),
                (0_u8..4).prop_map(|number| format!("w{number}@10.2.0.1")),
            ],
        ) {
            let ranges = ranges.iter().map(|(b, length)| Peer::Cidr(format!("10.{b}.0.0/{length}").parse().unwrap()));
            let workloads = workloads.iter().map(|number| Peer::Workload(format!("w{number}").into()));
            let all: Vec<_> = ranges.chain(workloads).collect();
            let rule = |peers: &[Peer]| Rule {
                from: From::Any(peers.iter().cloned().collect()),
                ..allow(&["api.example.test"])
            };
            let (source, ask): (_, Ask) = (source(&from), ask("api.example.test:443"));
            let passes = |rules| {
                crate::policy::gate(&policy(rules), jiff::Timestamp::UNIX_EPOCH, &source, &ask).is_allowed()
            };
            let alone = all.iter().map(|peer| rule(slice::from_ref(peer))).collect();
            prop_assert_eq!(passes(vec![rule(&all)]), passes(alone));
            let listed: Peers = all.iter().cloned().collect();
            let Listed::Many(members) = listed.listed() else { panic!("a long list") };
            let around = all.iter().filter_map(|peer| match peer {
                Peer::Cidr(range) if range.contains(&source.address) => Some(range.prefix_len()),
                _ => None,
            });
            prop_assert_eq!(members.narrowest(source.address), around.max());
        }

        /// The same where workloads have ranges, and ports of their own: who comes through one is that workload and no
        /// other, and still has its address.
        #[test]
        fn a_long_list_names_a_source_as_narrowly_as_its_members(
            known in proptest::collection::vec((0_u8..6, 8_u8..=24), 4),
            ranges in proptest::collection::vec((0_u8..6, 16_u8..=24), 9..20),
            listed in proptest::collection::vec(0_usize..6, 0..4),
            (own, b) in (proptest::option::of(0_usize..6), 0_u8..8),
        ) {
            let range = |(b, length): &(u8, u8)| format!("10.{b}.0.0/{length}").parse().unwrap();
            let name = |number: usize| Arc::from(format!("w{number}"));
            let workloads = known.iter().enumerate().map(|(number, known)| Workload {
                name: name(number),
                port: None,
                cidrs: vec![range(known)],
            });
            let parts = Parts { workloads: workloads.collect(), ..Parts::default() };
            let policy = Policy::new(parts, Generation(1));
            let address = [10, b, 0, 1].into();
            let source = own.map_or(Source::at(address), |own| Source::through(address, name(own)));
            let judge = Judge::new(&policy, &source, None);
            let named = |peers: &[Peer]| judge.named_source(&Rule {
                from: From::Any(peers.iter().cloned().collect()),
                ..allow(&["a.test"])
            });
            let all = ranges.iter().map(|written| Peer::Cidr(range(written)));
            let all: Vec<_> = all.chain(listed.into_iter().map(|number| Peer::Workload(name(number)))).collect();
            let alone = all.iter().filter_map(|peer| named(slice::from_ref(peer)));
            prop_assert_eq!(named(&all), alone.max());
        }
    }
}
