//! Which hosts two policies cannot tell apart, and one of each kind: every name that is written, the names below each
//! wildcard that nothing narrower names, and the ranges of literal addresses. Must not judge.
//! Called by the comparison.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use foldhash::fast::RandomState;
use ipnet::IpNet;

use super::nets::Tree;
use crate::address::special_ranges;
use crate::name::{Host, HostName, HostPattern, LabelPattern};
use crate::policy::compiled::Policy;
use crate::policy::rule::HostMatch;

/// Hosts that are judged alike by both policies, whatever else is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostClass {
    /// This name.
    Exact(HostName),
    /// Names below, but for those that a narrower class holds.
    Below(HostName),
    /// Names with such a first label, but for those that a narrower class holds.
    Label(Box<LabelPattern>),
    /// Literal addresses, but for narrower ranges.
    Range(IpNet),
    /// Any name that a rule allows, where it resolves into this.
    Resolving(IpNet),
}

/// Everything that either policy names.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: HashSet<HostName, RandomState>,
    below: HashSet<HostName, RandomState>,
    /// By suffix, then by the part before the star: the parts after it, of this and of all shorter parts before.
    labels: HashMap<HostName, Befores, RandomState>,
    ranges: Vec<IpNet>,
}

/// What may follow each part before a star.
type Befores = BTreeMap<Box<str>, BTreeSet<Box<str>>>;

impl Hosts {
    pub(super) fn of(policies: [&Policy; 2]) -> Self {
        let mut hosts = Self::default();
        let mut nets = BTreeSet::new();
        for rule in policies.iter().flat_map(|policy| policy.rules()) {
            for to in &rule.to {
                match &to.host {
                    HostMatch::Name(HostPattern::Exact(name)) => {
                        hosts.exact.insert(name.clone());
                    }
                    HostMatch::Name(HostPattern::Below(suffix)) => {
                        hosts.below.insert(suffix.clone());
                    }
                    HostMatch::Name(HostPattern::Label(label)) => {
                        let befores = hosts.labels.entry(label.suffix.clone()).or_default();
                        befores
                            .entry(label.before.clone())
                            .or_default()
                            .insert(label.after.clone());
                    }
                    HostMatch::Cidr(net) => {
                        nets.insert(net.trunc());
                    }
                }
            }
        }
        hosts.settle_labels();
        hosts.ranges = nets.into_iter().collect();
        hosts
    }

    /// Every class of names that has any, with a name of it.
    pub(super) fn names(&self) -> impl Iterator<Item = (HostClass, Host)> {
        let exact = self.exact.iter().cloned().map(HostClass::Exact);
        let below = self.below.iter().cloned().map(HostClass::Below);
        let labels = self.labels.iter().flat_map(|(suffix, befores)| {
            befores.iter().flat_map(move |(before, afters)| {
                afters.iter().map(move |after| {
                    HostClass::Label(Box::new(LabelPattern {
                        before: before.clone(),
                        after: after.clone(),
                        suffix: suffix.clone(),
                    }))
                })
            })
        });
        let all = exact.chain(below).chain(labels);
        all.filter_map(|class| Some((class.clone(), Host::Name(self.sample(&class)?))))
    }

    /// The ranges of literal hosts, cut along everything that the judging of an address looks at.
    pub(super) fn addresses(&self, policies: [&Policy; 2]) -> Tree {
        if self.ranges.is_empty() {
            return Tree::of([]);
        }
        let mut nets: BTreeSet<IpNet> = self.ranges.iter().copied().collect();
        nets.extend(special_ranges());
        for policy in policies {
            nets.extend(policy.closed());
            let literal = |to: &&crate::policy::rule::Destination| matches!(to.host, HostMatch::Cidr(_));
            let rules = policy
                .rules()
                .iter()
                .filter(|rule| rule.to.iter().any(|to| literal(&to)));
            nets.extend(rules.flat_map(|rule| &rule.addresses));
        }
        Tree::of(with_nat64(&nets))
    }

    /// The class of a name; none, where no policy speaks of it.
    pub(super) fn class_of(&self, name: &HostName) -> Option<HostClass> {
        if self.exact.contains(name) {
            return Some(HostClass::Exact(name.clone()));
        }
        if let Some((label, suffix)) = name.as_str().split_once('.')
            && let Some((suffix, befores)) = self.labels.get_key_value(suffix)
            && let Some((before, after)) = deepest(befores, label)
        {
            let (before, after, suffix) = (before.into(), after.into(), suffix.clone());
            return Some(HostClass::Label(Box::new(LabelPattern { before, after, suffix })));
        }
        let below = name.parents().find_map(|parent| self.below.get(parent));
        below.cloned().map(HostClass::Below)
    }

    /// A name that no policy speaks of.
    pub(super) fn stranger(&self) -> Option<HostName> {
        let names = (0..).map(|number| format!("probe{number}.sluicegate.invalid"));
        let mut names = names
            .take(TRIED)
            .filter_map(|name| HostName::parse(name.as_bytes()).ok());
        names.find(|name| self.class_of(name).is_none())
    }

    /// Adds to each part before a star what may follow shorter parts, and as exact names those labels in which the two
    /// parts would overlap: there the longer pattern does not match, though its parts do.
    fn settle_labels(&mut self) {
        for (suffix, befores) in &mut self.labels {
            let written = befores.clone();
            for (before, afters) in befores.iter_mut() {
                let shorter = (1..before.len()).filter_map(|end| written.get(before.get(..end)?));
                for more in shorter {
                    afters.extend(more.iter().cloned());
                }
                for after in afters.iter() {
                    let overlaps = (1..=before.len().min(after.len())).filter_map(|shared| {
                        let (start, rest) = after.split_at_checked(shared)?;
                        before.ends_with(start).then(|| format!("{before}{rest}.{suffix}"))
                    });
                    let names = overlaps.filter_map(|name| HostName::parse(name.as_bytes()).ok());
                    self.exact.extend(names);
                }
            }
        }
    }

    /// A name of a class. Some classes have none: all their names stand in narrower ones.
    fn sample(&self, class: &HostClass) -> Option<HostName> {
        let fillers = || {
            FILLERS
                .iter()
                .flat_map(|filler| [(*filler).to_owned(), format!("{filler}0{filler}")])
        };
        let text: Box<dyn Iterator<Item = String>> = match class {
            HostClass::Exact(name) => return Some(name.clone()),
            HostClass::Below(suffix) => {
                let one = fillers().map(move |label| format!("{label}.{suffix}"));
                // In-label wildcards speak of one label, so two get past them.
                let two = fillers().map(move |label| format!("{label}.{label}-below.{suffix}"));
                Box::new(one.chain(two))
            }
            HostClass::Label(label) => {
                let LabelPattern { before, after, suffix } = &**label;
                Box::new(
                    std::iter::once(String::new())
                        .chain(fillers())
                        .map(move |filler| format!("{before}{filler}{after}.{suffix}")),
                )
            }
            HostClass::Range(_) | HostClass::Resolving(_) => return None,
        };
        let mut names = text.filter_map(|name| HostName::parse(name.as_bytes()).ok());
        names.find(|name| self.class_of(name).as_ref() == Some(class))
    }
}

/// Ranges of IPv4 also as NAT64 spells them (RFC 6052), because such addresses are judged by the one inside.
fn with_nat64(nets: &BTreeSet<IpNet>) -> impl Iterator<Item = IpNet> {
    let inside = nets.iter().filter_map(|net| match net {
        IpNet::V4(v4) => {
            let address = std::net::Ipv6Addr::from(NAT64 | u128::from(u32::from(v4.network())));
            IpNet::new(address.into(), 96 + v4.prefix_len()).ok()
        }
        IpNet::V6(_) => None,
    });
    nets.iter().copied().chain(inside)
}

/// The longest part before a star that begins a label, and of what may follow it the longest that ends the label.
fn deepest<'l>(befores: &Befores, label: &'l str) -> Option<(&'l str, &'l str)> {
    let mut starts = (1..=label.len()).rev().filter_map(|end| label.get(..end));
    let (before, afters) = starts.find_map(|start| Some((start, befores.get(start)?)))?;
    let mut ends = (before.len()..=label.len()).filter_map(|start| label.get(start..));
    let after = ends.find(|end| afters.contains(*end))?;
    Some((before, after))
}

impl fmt::Display for HostClass {
    /// As a destination spells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
            Self::Label(label) => HostPattern::Label(label.clone()).fmt(f),
            Self::Range(net) => HostMatch::Cidr(*net).fmt(f),
            Self::Resolving(_) => f.write_str("*"),
        }
    }
}

/// `64:ff9b::`, the well-known prefix.
const NAT64: u128 = 0x0064_ff9b << 96;
const TRIED: usize = 1000;
const FILLERS: &[&str] = &[
    "any", "x", "name", "0", "1", "q7", "z", "k", "m", "w-w", "5a", "j3", "h_h", "y9", "u", "e2", "v", "t4", "g", "r8",
];
