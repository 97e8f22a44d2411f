//! Asks both gates about one sample of everything that neither can tell apart, and keeps what differs.
//! Must not judge by itself. The cost grows with the rules that speak of one host, not with all rules: for each host
//! class (ports x sources x what is sent) of those rules, and nothing where both policies say the same.
//! Called by [`super::diff`].

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use jiff::Timestamp;

use super::hosts::{HostClass, Hosts};
use super::nets::Tree;
use super::sent::{Sent, to_try};
use super::sources::{Sources, Who};
use crate::address::{special_ranges, translated};
use crate::name::{Host, HostName, HostPattern, Port};
use crate::policy::changes::says;
use crate::policy::compiled::Policy;
use crate::policy::rule::{Destination, Effect, From, Hits, HostMatch, Position, Rule, RuleId, Scheme, SniCheck};
use crate::policy::{Ask, Reason, Source, enforce};

/// Two policies, made ready to be compared.
#[derive(Debug)]
pub(super) struct Comparison {
    /// Both with one rule more, last of all: everyone may reach `listed`.
    policies: [Policy; 2],
    pub(super) hosts: Hosts,
    listed: HostName,
    unlisted: HostName,
    now: Timestamp,
    /// Closed and denied ranges of both, sorted.
    cuts: Vec<IpNet>,
    /// Whether both close and deny the same addresses.
    same_addresses: bool,
}

/// What differs for the hosts of one class.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) host: HostClass,
    pub(super) sources: Sources,
    /// Where names resolve into; the roots stand for every address that nothing speaks of.
    pub(super) into: Tree,
    pub(super) ports: Vec<RangeInclusive<u16>>,
    pub(super) tried: &'static [Sent],
    pub(super) cells: Vec<Cell>,
}

/// One class of requests that is answered differently.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) port: usize,
    pub(super) sent: Sent,
    pub(super) who: Who,
    pub(super) into: Option<usize>,
    pub(super) change: Change,
}

/// What was decided, and what is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Change {
    /// Not yet: from this moment on.
    pub(super) since: Option<Timestamp>,
    pub(super) old: Answer,
    pub(super) new: Answer,
}

/// What one policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    /// The rule that decided; a denial for want of a rule has none.
    pub(super) rule: Option<RuleId>,
}

impl Comparison {
    /// Nothing, if every name under the sun is spoken of.
    pub(super) fn of(old: &Policy, new: &Policy, now: Timestamp) -> Option<Self> {
        let hosts = Hosts::of([old, new]);
        let listed = hosts.stranger()?;
        let unlisted = HostName::parse(format!("not.{listed}").as_bytes()).ok()?;
        if hosts.class_of(&unlisted).is_some() {
            return None;
        }
        let mut cuts = BTreeSet::new();
        for policy in [old, new] {
            cuts.extend(policy.closed());
            cuts.extend(denied_ranges(policy).map(|(_, net)| net));
        }
        let denied = |policy| denied_ranges(policy).map(|(rule, _)| says(rule));
        let same_addresses =
            old.closed() == new.closed() && denied(old).eq(denied(new)) && old.workloads() == new.workloads();
        Some(Self {
            policies: [old, new].map(|policy| policy.with_last(open(&listed))),
            hosts,
            listed,
            unlisted,
            now,
            cuts: cuts.into_iter().collect(),
            same_addresses,
        })
    }

    /// The same rules in the same order as were given, without the one more.
    pub(super) fn policies(&self) -> [&Policy; 2] {
        self.policies.each_ref()
    }

    /// Everything that differs.
    pub(super) fn run(&self, mut found: impl FnMut(Found)) {
        for (class, host) in self.hosts.names() {
            if let Some(differs) = self.of_host(class, &host) {
                found(differs);
            }
        }
        let literals = self.hosts.addresses(self.policies());
        for (_, node) in literals.nodes() {
            let Some(sample) = node.sample else { continue };
            if let Some(differs) = self.of_host(HostClass::Range(node.net), &Host::Address(sample)) {
                found(differs);
            }
        }
        if !self.same_addresses {
            self.resolving(&mut found);
        }
    }

    /// What differs for a host, which stands for its class.
    pub(super) fn of_host(&self, class: HostClass, host: &Host) -> Option<Found> {
        let rules = self.policies().map(|policy| speaking_of(policy, host));
        let [old, new] = &rules;
        if old.is_empty() && new.is_empty() || self.say_the_same(old, new) {
            return None;
        }
        let named: Vec<_> = rules.iter().flatten().map(|(_, rule, to)| (*rule, *to)).collect();
        let opened: BTreeSet<IpNet> = named
            .iter()
            .flat_map(|(rule, _)| rule.addresses.iter().copied())
            .collect();
        let into = match host {
            Host::Name(_) if !opened.is_empty() => Tree::of(self.cut(&opened)),
            _ => Tree::of([]),
        };
        // Of the addresses that nothing opens, none has to be tried: what is denied there is denied to every name.
        let within = |net: &IpNet| opened.iter().any(|range| range.contains(net));
        let samples = into.nodes().filter(|(_, node)| within(&node.net));
        let mut addresses = vec![(None, None)];
        addresses.extend(samples.map(|(place, node)| (Some(place), node.sample)));
        self.try_all(class, host, named, into, &addresses)
    }

    /// What differs for every allowed name where it resolves into closed or denied addresses.
    fn resolving(&self, found: &mut impl FnMut(Found)) {
        let host = Host::Name(self.listed.clone());
        // What is special is closed to every name that opens nothing, so it must not stand for the range around it.
        let special = special_ranges().filter(|net| self.cuts.iter().any(|cut| cut.contains(net)));
        let into = Tree::of(self.cuts.iter().copied().chain(special));
        let is_cut = |net: &IpNet| self.cuts.binary_search(net).is_ok();
        for (place, node) in into
            .nodes()
            .filter(|(_, node)| node.parent.is_some() || is_cut(&node.net))
        {
            let addresses = [(Some(place), node.sample)];
            let class = HostClass::Resolving(node.net);
            let differs = self.try_all(class, &host, Vec::new(), into.clone(), &addresses);
            // What no rule opens is refused either way, whichever rule says so.
            if let Some(mut differs) = differs {
                differs
                    .cells
                    .retain(|cell| cell.change.old.allowed != cell.change.new.allowed);
                if !differs.cells.is_empty() {
                    found(differs);
                }
            }
        }
    }

    fn try_all<'p>(
        &'p self,
        class: HostClass,
        host: &Host,
        mut rules: Vec<(&'p Rule, &'p Destination)>,
        into: Tree,
        addresses: &[(Option<usize>, Option<IpAddr>)],
    ) -> Option<Found> {
        for policy in self.policies() {
            for address in addresses.iter().filter_map(|(_, address)| *address) {
                rules.extend(denying(policy, address));
            }
            if let Host::Address(literal) = host {
                rules.extend(denying(policy, *literal));
            }
            if let HostClass::Resolving(_) = class {
                rules.extend(policy.rules().last().and_then(|rule| Some((rule, rule.to.first()?))));
            }
        }
        let sources = Sources::of(self.policies(), rules.iter().map(|(rule, _)| *rule));
        let ranges: Vec<_> = rules.iter().map(|(_, to)| &to.ports).collect();
        let ports = intervals(&ranges);
        let tried = to_try(rules.iter().copied());
        let moments = self.moments(rules.iter().map(|(rule, _)| *rule));
        let all = sources.all();
        let mut cells = Vec::new();
        for (place, ports) in ports.iter().enumerate() {
            let Some(port) = Port::new(*ports.start()) else {
                continue;
            };
            for sent in tried {
                let Some(seen) = sent.seen(host, &self.listed, &self.unlisted) else {
                    continue;
                };
                for (into, address) in addresses {
                    let mut ask = Ask::new(host.clone(), port).seeing(seen.clone());
                    ask.address = *address;
                    for (who, source) in &all {
                        if let Some(change) = self.change(&moments, source, &ask) {
                            cells.push(Cell {
                                port: place,
                                sent: *sent,
                                who: *who,
                                into: *into,
                                change,
                            });
                        }
                    }
                }
            }
        }
        (!cells.is_empty()).then_some(Found {
            host: class,
            sources,
            into,
            ports,
            tried,
            cells,
        })
    }

    /// The first difference, now or at a later moment.
    fn change(&self, moments: &[Timestamp], source: &Source, ask: &Ask) -> Option<Change> {
        moments.iter().enumerate().find_map(|(place, moment)| {
            let [old, new] = self.policies().map(|policy| answer(policy, *moment, source, ask));
            let since = (place > 0).then_some(*moment);
            (!self.same(old, new)).then_some(Change { since, old, new })
        })
    }

    fn same(&self, old: Answer, new: Answer) -> bool {
        let [before, after] = self.policies();
        let named = |policy, answer: Answer| named(policy, answer).map(|(name, _)| name);
        old.allowed == new.allowed && named(before, old) == named(after, new)
    }

    /// Whether no request for a host can be answered differently, seen from the rules that speak of it.
    fn say_the_same(&self, old: &[Speaking<'_>], new: &[Speaking<'_>]) -> bool {
        let listed = |(_, rule, _): &Speaking<'_>| rule.sni == SniCheck::Listed;
        self.same_addresses
            && !old.iter().any(listed)
            && old.len() == new.len()
            && old
                .iter()
                .zip(new)
                .all(|((_, old, own), (_, new, other))| own == other && says(old) == says(new))
    }

    fn moments<'p>(&self, rules: impl Iterator<Item = &'p Rule>) -> Vec<Timestamp> {
        let later = rules.filter_map(|rule| rule.until).filter(|until| *until > self.now);
        let later: BTreeSet<_> = later.collect();
        std::iter::once(self.now).chain(later).collect()
    }

    /// Ranges together with what cuts through them.
    fn cut(&self, ranges: &BTreeSet<IpNet>) -> Vec<IpNet> {
        let within = |net: &IpNet| ranges.iter().any(|range| range.contains(net));
        let mut all: Vec<_> = ranges.iter().copied().collect();
        all.extend(self.cuts.iter().copied().filter(within));
        all.extend(special_ranges().filter(within));
        all
    }
}

type Speaking<'p> = (RuleId, &'p Rule, &'p Destination);

fn speaking_of<'p>(policy: &'p Policy, host: &Host) -> Vec<Speaking<'p>> {
    let mut all = Vec::new();
    let rules = policy.rules();
    policy
        .index()
        .visit(rules, host, |id, rule, to| all.push((id, rule, to)));
    all.sort_by_key(|(id, _, _)| *id);
    all
}

/// The deny rules that speak of an address, however it came to be dialled.
fn denying(policy: &Policy, address: IpAddr) -> Vec<(&Rule, &Destination)> {
    let mut all = Vec::new();
    let mut found = |_, rule, to| all.push((rule, to));
    policy.index().visit_address(policy.rules(), address, &mut found);
    if translated(address) != address {
        policy
            .index()
            .visit_address(policy.rules(), translated(address), &mut found);
    }
    all
}

fn denied_ranges(policy: &Policy) -> impl Iterator<Item = (&Rule, IpNet)> {
    policy.rules().iter().flat_map(|rule| {
        let ranges = rule.to.iter().filter_map(|to| match to.host {
            HostMatch::Cidr(net) => Some(net.trunc()),
            HostMatch::Name(_) => None,
        });
        ranges
            .filter(|_| rule.effect == Effect::Deny)
            .map(move |net| (rule, net))
    })
}

fn answer(policy: &Policy, now: Timestamp, source: &Source, ask: &Ask) -> Answer {
    let decision = enforce(policy, now, source, ask);
    let allowed = decision.is_allowed();
    Answer {
        allowed,
        rule: decision.rule.filter(|_| allowed || decision.reason == Reason::DenyRule),
    }
}

/// What a rule is called, and where it stands. Rules without a name are called after their first destination, whatever
/// else they hold.
pub(super) fn named(policy: &Policy, answer: Answer) -> Option<(&str, &Position)> {
    // The one rule more is nobody's.
    let rule = answer.rule.filter(|rule| rule.0 as usize + 1 < policy.rules().len())?;
    let (name, at) = policy.rule_label(rule)?;
    let first = name.rsplit_once(" and ").filter(|(_, more)| {
        more.strip_suffix(" more")
            .is_some_and(|count| count.bytes().all(|byte| byte.is_ascii_digit()))
    });
    Some((first.map_or(&**name, |(first, _)| first), at))
}

/// The ports that any of some ranges holds, cut where one begins or ends.
fn intervals(ranges: &[&RangeInclusive<u16>]) -> Vec<RangeInclusive<u16>> {
    let mut starts: BTreeSet<u32> = BTreeSet::new();
    for range in ranges {
        starts.extend([u32::from(*range.start()).max(1), u32::from(*range.end()) + 1]);
    }
    let starts: Vec<_> = starts.into_iter().collect();
    let pairs = starts.windows(2).filter_map(|pair| {
        let [start, next] = pair else { return None };
        Some(u16::try_from(*start).ok()?..=u16::try_from(next - 1).ok()?)
    });
    pairs
        .filter(|pair| ranges.iter().any(|range| range.contains(pair.start())))
        .collect()
}

/// The rule that lets everyone reach one name.
fn open(name: &HostName) -> Rule {
    let to = Destination {
        scheme: Some(Scheme::Tcp),
        host: HostMatch::Name(HostPattern::Exact(name.clone())),
        ports: 1..=u16::MAX,
    };
    Rule {
        name: "probe".into(),
        effect: Effect::Allow,
        collection: None,
        at: Position {
            file: "".into(),
            line: 0,
        },
        from: From::Everyone,
        to: to.into(),
        until: None,
        owner: None,
        why: None,
        addresses: Box::default(),
        sni: SniCheck::Strict,
        no_sni: false,
        ech_outer: false,
        report: false,
        hits: Hits::default(),
    }
}
