//! Which sources a few rules cannot tell apart, and one of each kind.
//! Must not judge.
//! Called by the comparison, host by host, with the rules that speak of that host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::nets::Tree;
use crate::policy::Source;
use crate::policy::compiled::Policy;
use crate::policy::rule::{From, Peer, Rule};

/// The sources of some rules of two policies.
#[derive(Debug)]
pub(super) struct Sources {
    /// Known by their address alone.
    plain: Tree,
    /// Workloads with a port of their own; the last may stand for all that no rule names.
    ports: Vec<Arc<str>>,
    /// For who comes in through such a port only ranges count that rules write themselves.
    written: Tree,
    /// Ranges of workloads, for showing.
    named: BTreeMap<IpNet, Arc<str>>,
}

/// One class of sources. Places in the trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Plain(usize),
    Port(usize, usize),
}

/// Sources as people write them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shown {
    /// Workloads and ranges; none: everyone.
    pub from: Vec<String>,
    /// Ranges of them that are not meant.
    pub except: Vec<String>,
}

impl Sources {
    pub(super) fn of<'p>(policies: [&Policy; 2], rules: impl Iterator<Item = &'p Rule>) -> Self {
        let mut workloads: BTreeSet<&str> = BTreeSet::new();
        let mut written: BTreeSet<IpNet> = BTreeSet::new();
        for rule in rules {
            let From::Any(peers) = &rule.from else { continue };
            for peer in peers {
                match peer {
                    Peer::Workload(name) => {
                        workloads.insert(name);
                    }
                    Peer::Cidr(net) => {
                        written.insert(net.trunc());
                    }
                }
            }
        }
        let mut plain = written.clone();
        let mut ports: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut named = BTreeMap::new();
        let mut others = false;
        for workload in policies.iter().flat_map(|policy| policy.workloads()) {
            if !workloads.contains(&*workload.name) {
                others |= workload.port.is_some();
                continue;
            }
            if workload.port.is_some() {
                ports.insert(Arc::clone(&workload.name));
            }
            for cidr in &workload.cidrs {
                plain.insert(cidr.trunc());
                named.insert(cidr.trunc(), Arc::clone(&workload.name));
            }
        }
        Self {
            plain: Tree::of(plain),
            ports: ports.into_iter().chain(others.then(|| OTHERS.into())).collect(),
            written: Tree::of(written),
            named,
        }
    }

    /// Every class with a source of it.
    pub(super) fn all(&self) -> Vec<(Who, Source)> {
        let plain = self.plain.nodes();
        let plain = plain.filter_map(|(place, node)| Some((Who::Plain(place), Source::at(node.sample?))));
        let ports = self.ports.iter().enumerate().flat_map(|(port, name)| {
            let nodes = self.written.nodes();
            nodes.filter_map(move |(place, node)| {
                let source = Source::through(node.sample?, Arc::clone(name));
                Some((Who::Port(port, place), source))
            })
        });
        plain.chain(ports).collect()
    }

    /// A set of classes, as short as possible.
    pub(super) fn shown(&self, set: &BTreeSet<Who>) -> Shown {
        let plain: BTreeSet<_> = set
            .iter()
            .filter_map(|who| match who {
                Who::Plain(place) => Some(*place),
                Who::Port(..) => None,
            })
            .collect();
        let of_port = |wanted: usize| -> BTreeSet<usize> {
            let places = set.iter().filter_map(|who| match who {
                Who::Port(port, place) if *port == wanted => Some(*place),
                _ => None,
            });
            places.collect()
        };
        let ports: Vec<_> = self
            .ports
            .iter()
            .enumerate()
            .map(|(port, name)| (name, of_port(port)))
            .collect();
        let whole = self.written.nodes().count();
        let is_whole = |places: &BTreeSet<usize>| places.len() == whole;
        let (with, without) = self.plain.shown(&plain);
        let others = ports.iter().filter(|(name, _)| &***name == OTHERS);
        let everyone = is_all(&with) && others.into_iter().all(|(_, places)| is_whole(places));
        let name = |net: &IpNet| match self.named.get(net) {
            Some(name) => name.to_string(),
            None => net.to_string(),
        };
        let mut except: BTreeSet<String> = without.iter().map(name).collect();
        let mut from = BTreeSet::new();
        if everyone {
            let missing = ports.iter().filter(|(_, places)| places.is_empty());
            except.extend(missing.map(|(name, _)| name.to_string()));
        } else if is_all(&with) {
            from.insert("any other address".to_owned());
        } else {
            from.extend(with.iter().map(name));
        }
        // What holds for every port and for plain addresses needs no word about ports.
        let shown: Vec<_> = ports.iter().map(|(_, places)| self.written.shown(places).0).collect();
        let everywhere = |net: &IpNet| with.contains(net) && shown.iter().all(|ranges| ranges.contains(net));
        for (port, places) in ports.iter().filter(|(_, places)| !places.is_empty()) {
            let (ranges, without) = self.written.shown(places);
            if is_all(&ranges) {
                from.extend((!everyone).then(|| port.to_string()));
            } else {
                let ranges = ranges.iter().filter(|net| !everywhere(net));
                from.extend(ranges.map(|net| format!("{port} at {net}")));
            }
            except.extend(without.iter().map(|net| format!("{port} at {net}")));
        }
        Shown {
            from: from.into_iter().collect(),
            except: except.into_iter().collect(),
        }
    }

    /// The class of a source.
    #[cfg(test)]
    pub(super) fn who(&self, source: &Source) -> Option<Who> {
        let Some(own) = &source.workload else {
            return self.plain.place_of(source.address).map(Who::Plain);
        };
        let port = self.ports.iter().position(|name| name == own);
        let port = port.or_else(|| self.ports.iter().position(|name| &**name == OTHERS))?;
        self.written
            .place_of(source.address)
            .map(|place| Who::Port(port, place))
    }
}

/// Whether ranges are all of IPv4 and of IPv6.
fn is_all(ranges: &[IpNet]) -> bool {
    ranges.len() == 2 && ranges.iter().all(|net| net.prefix_len() == 0)
}

/// Whoever comes in through the port of a workload that no rule names. No workload can be called so.
const OTHERS: &str = "any other workload";
