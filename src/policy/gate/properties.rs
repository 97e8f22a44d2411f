//! What holds for every policy and every ask: the gate agrees with a slow model, and order never matters.
//! Must not share code with the gate, except for the classes of addresses, which have a table of their own.
//! Called by the test run alone.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::{enforce, expected, gate};
use crate::address::{AddressClass, classify, classify_net};
use crate::name::{Host, HostName, Port};
use crate::policy::compiled::{Mode, Parts, Policy, Workload};
use crate::policy::fixture::{allow, deny};
use crate::policy::rule::{Destination, Effect, From, Generation, HostMatch, Peer, Rule, Scheme, SniCheck};
use crate::policy::{Action, Ask, Decision, Inspect, Reason, Seen, Source};

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_gate_agrees_with_a_slow_model(world in world(), source in source(), ask in ask(), now in moment()) {
        let model = Model { world: &world, source: &source, now };
        let policy = world.policy();
        for (decision, (allowed, reasons)) in [
            (enforce(&policy, now, &source, &ask), model.verdict(&ask, false)),
            (gate(&policy, now, &source, &ask), model.in_force(&ask)),
        ] {
            prop_assert_eq!(decision.is_allowed(), allowed.is_some(), "{:?} but {:?}", &decision, &reasons);
            match allowed {
                Some(inspect) => prop_assert_eq!(decision.action, Action::Allow(inspect)),
                None => prop_assert!(reasons.contains(&decision.reason), "{:?} but {:?}", &decision, &reasons),
            }
            if let Some(would_deny) = decision.would_deny {
                prop_assert!(reasons.contains(&would_deny));
            }
            prop_assert_eq!(decision.would_deny.is_some(), decision.reason == Reason::Report);
        }
    }

    #[test]
    fn deny_beats_allow(world in world(), source in source(), ask in ask(), now in moment()) {
        let mut world = World { mode: Mode::Enforce, ..world };
        world.rules.push(Described { effect: Effect::Deny, to: vec![denying(&ask.host)], ..Described::default() });
        let decision = gate(&world.policy(), now, &source, &ask);
        prop_assert_eq!((decision.action, decision.reason), (Action::Deny, Reason::DenyRule));
    }

    #[test]
    fn one_more_allow_rule_closes_nothing(world in world(), more in rule(), source in source(), ask in ask(), now in moment()) {
        let before = gate(&world.policy(), now, &source, &ask);
        let mut wider = world;
        wider.rules.push(Described { effect: Effect::Allow, ..more });
        let after = gate(&wider.policy(), now, &source, &ask);
        prop_assert!(after.is_allowed() || !before.is_allowed(), "{:?} became {:?}", before, after);
    }

    #[test]
    fn what_is_never_dialled_is_never_allowed(world in world(), source in source(), ask in ask(), now in moment()) {
        let policy = world.policy();
        for address in ["169.254.169.254", "168.63.129.16", "fe80::1", "::ffff:93.184.216.34", "2002::1", "64:ff9b::a9fe:a9fe"] {
            let address: IpAddr = address.parse().unwrap();
            prop_assert!(!gate(&policy, now, &source, &ask.clone().dialling(address)).is_allowed());
            let literal = Ask { host: Host::Address(address), address: None, ..ask.clone() };
            prop_assert!(!gate(&policy, now, &source, &literal).is_allowed());
        }
    }

    #[test]
    fn between_two_changes_time_changes_nothing(world in world(), source in source(), ask in ask(), now in moment()) {
        let policy = world.policy();
        if let Some(change) = policy.next_change(now) {
            prop_assert!(change > now);
            let last = Timestamp::from_nanosecond(change.as_nanosecond() - 1).unwrap();
            prop_assert_eq!(gate(&policy, now, &source, &ask), gate(&policy, last, &source, &ask));
        } else {
            prop_assert_eq!(gate(&policy, now, &source, &ask), gate(&policy, Timestamp::MAX, &source, &ask));
        }
        prop_assert_eq!(expected(&policy, &source, &ask), enforce(&policy, Timestamp::MIN, &source, &ask));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// J13.
    #[test]
    fn the_order_of_rules_never_matters(
        (world, shuffled) in world().prop_flat_map(|world| (Just(world.rules.clone()).prop_shuffle(), Just(world)))
            .prop_map(|(rules, world)| (world.clone(), World { rules, ..world })),
        source in source(),
        ask in ask(),
        now in moment(),
    ) {
        let answer = |world: &World| {
            let Decision { action, reason, would_deny, .. } = gate(&world.policy(), now, &source, &ask);
            (action, reason, would_deny)
        };
        prop_assert_eq!(answer(&world), answer(&shuffled));
    }
}

/// A policy that can be taken apart again.
#[derive(Clone, Debug)]
struct World {
    rules: Vec<Described>,
    mode: Mode,
    closed: Vec<IpNet>,
}

/// A rule in a few words.
#[derive(Clone, Debug)]
struct Described {
    effect: Effect,
    to: Vec<String>,
    from: Option<Vec<&'static str>>,
    until: Option<i64>,
    addresses: Vec<&'static str>,
    sni: SniCheck,
    no_sni: bool,
    ech_outer: bool,
    report: bool,
}

impl Default for Described {
    fn default() -> Self {
        Self {
            effect: Effect::Allow,
            to: Vec::new(),
            from: None,
            until: None,
            addresses: Vec::new(),
            sni: SniCheck::Strict,
            no_sni: false,
            ech_outer: false,
            report: false,
        }
    }
}

impl Described {
    fn rule(&self) -> Rule {
        // Deny rules have no scheme.
        let bare = |to: &'_ String| match (self.effect, to.split_once("://")) {
            (Effect::Deny, Some((_, bare))) => bare.to_owned(),
            _ => to.clone(),
        };
        let to: Vec<_> = self.to.iter().map(bare).collect();
        let to: Vec<_> = to.iter().map(String::as_str).collect();
        let rule = match self.effect {
            Effect::Allow => allow(&to),
            Effect::Deny => deny(&to),
        };
        let peer = |peer: &&str| peer.parse().map_or_else(|_| Peer::Workload((*peer).into()), Peer::Cidr);
        let from = self
            .from
            .as_ref()
            .map(|from| From::Any(from.iter().map(peer).collect()));
        Rule {
            from: from.unwrap_or(From::Everyone),
            until: self.until.map(|until| Timestamp::from_second(until).unwrap()),
            addresses: self.addresses.iter().map(|range| range.parse().unwrap()).collect(),
            sni: self.sni,
            no_sni: self.no_sni,
            ech_outer: self.ech_outer,
            report: self.report && self.effect == Effect::Allow,
            ..rule
        }
    }
}

impl World {
    fn policy(&self) -> Policy {
        let parts = Parts {
            rules: self.rules.iter().map(Described::rule).collect(),
            workloads: vec![
                workload("own", &[]),
                workload("wide", &["10.0.0.0/8"]),
                workload("narrow", &["10.9.0.0/16", "2600:1::/32"]),
            ],
            mode: self.mode,
            closed: self.closed.clone(),
            ..Parts::default()
        };
        Policy::new(parts, Generation(1))
    }
}

fn workload(name: &str, cidrs: &[&str]) -> Workload {
    Workload {
        name: name.into(),
        port: Port::new(3201).filter(|_| cidrs.is_empty()),
        cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
    }
}

fn denying(host: &Host) -> String {
    match host {
        Host::Name(name) => name.to_string(),
        Host::Address(IpAddr::V4(_)) => "0.0.0.0/0".to_owned(),
        Host::Address(IpAddr::V6(_)) => "[::/0]".to_owned(),
    }
}

/// The design, rule by rule and without an index.
struct Model<'a> {
    world: &'a World,
    source: &'a Source,
    now: Timestamp,
}

impl Model<'_> {
    fn in_force(&self, ask: &Ask) -> (Option<Inspect>, Vec<Reason>) {
        let (strict, why) = self.verdict(ask, false);
        if strict.is_some() {
            return (strict, why);
        }
        let (trial, all) = self.verdict(ask, true);
        if trial.is_some() {
            return (trial, why);
        }
        let reporting = matches!(self.world.mode, Mode::Report { until } if self.now < until);
        if !reporting {
            return (None, all);
        }
        let target = dialled(ask);
        if target.is_some_and(|target| classify(target) != AddressClass::Public || !self.around(target).is_empty()) {
            return (None, vec![Reason::ForbiddenAddress]);
        }
        let inner = ask
            .host
            .name()
            .is_some_and(|name| !name.as_str().contains('.') || name.parents().last() == Some("svc"));
        if inner && all == [Reason::NoRule] {
            return (None, all);
        }
        (Some(Inspect::Nothing), why)
    }

    /// What must be seen, or the reasons that may be given.
    fn verdict(&self, ask: &Ask, trial: bool) -> (Option<Inspect>, Vec<Reason>) {
        let rules: Vec<Rule> = self.world.rules.iter().map(Described::rule).collect();
        let mut looks = Vec::new();
        let mut failures = vec![(
            0,
            match ask.host {
                Host::Name(_) => Reason::NoRule,
                Host::Address(_) => Reason::IpLiteral,
            },
        )];
        for rule in rules
            .iter()
            .filter(|rule| rule.until.is_none_or(|until| self.now < until))
        {
            for destination in &rule.to {
                if rule.effect == Effect::Deny {
                    let hit = covers(&destination.host, &ask.host)
                        || dialled(ask).is_some_and(|address| in_range(&destination.host, address));
                    if hit && self.is_from(rule) && destination.ports.contains(&ask.port.number()) {
                        return (None, vec![Reason::DenyRule]);
                    }
                } else if covers(&destination.host, &ask.host) && (trial || !rule.report) {
                    match self.allows(rule, destination, ask, trial) {
                        Ok(look) => looks.push(look),
                        Err(failure) => failures.push(failure),
                    }
                }
            }
        }
        let hello = looks.contains(&Inspect::Hello);
        let http = looks.contains(&Inspect::Http);
        if looks.contains(&Inspect::Nothing) {
            (Some(Inspect::Nothing), reasons(failures))
        } else if hello && http {
            (Some(Inspect::HelloOrHttp), reasons(failures))
        } else if hello || http {
            (looks.first().copied(), reasons(failures))
        } else {
            (None, reasons(failures))
        }
    }

    fn allows(&self, rule: &Rule, to: &Destination, ask: &Ask, trial: bool) -> Result<Inspect, (u8, Reason)> {
        if !self.is_from(rule) {
            return Err((1, Reason::NoRuleForSource));
        }
        if !to.ports.contains(&ask.port.number()) {
            return Err((2, Reason::Port));
        }
        let look = match to.scheme.unwrap() {
            Scheme::Tcp => Inspect::Nothing,
            Scheme::Tls if rule.sni == SniCheck::Off => Inspect::Nothing,
            Scheme::Tls => Inspect::Hello,
            Scheme::Http => Inspect::Http,
        };
        match (look, &ask.seen) {
            (Inspect::Hello, Seen::Http | Seen::Other) => return Err((3, Reason::NotTls)),
            (Inspect::Http, Seen::Hello { .. } | Seen::Other) => return Err((3, Reason::NotHttp)),
            (Inspect::Hello, Seen::Hello { sni, ech }) => {
                match sni {
                    None if !rule.no_sni => return Err((4, Reason::NoSni)),
                    Some(sni) if Host::Name(sni.clone()) != ask.host => {
                        let hello = Seen::Hello {
                            sni: Some(sni.clone()),
                            ech: false,
                        };
                        let own = Ask::new(Host::Name(sni.clone()), ask.port).seeing(hello);
                        if rule.sni == SniCheck::Strict {
                            return Err((4, Reason::SniMismatch));
                        }
                        if self.verdict(&own, trial).0.is_none() {
                            return Err((4, Reason::SniNotListed));
                        }
                    }
                    _ => {}
                }
                if *ech && !rule.ech_outer {
                    return Err((5, Reason::Ech));
                }
            }
            _ => {}
        }
        let named = |address: IpAddr| {
            let own = match &to.host {
                HostMatch::Cidr(range) => Some(range),
                HostMatch::Name(_) => None,
            };
            match classify(address) {
                AddressClass::Never(_) => return false,
                _ if rule.addresses.iter().any(|range| range.contains(&address)) => return true,
                AddressClass::Special(name) => {
                    if own.is_none_or(|own| classify_net(*own) != AddressClass::Special(name)) {
                        return false;
                    }
                }
                AddressClass::Public => {}
            }
            self.around(address)
                .iter()
                .all(|closed| own.is_some_and(|own| closed.contains(own)))
        };
        match dialled(ask) {
            Some(address) if !named(address) => Err((6, Reason::ForbiddenAddress)),
            _ => Ok(look),
        }
    }

    fn around(&self, address: IpAddr) -> Vec<IpNet> {
        let closed = self.world.closed.iter();
        closed.filter(|range| range.contains(&address)).copied().collect()
    }

    fn is_from(&self, rule: &Rule) -> bool {
        let From::Any(peers) = &rule.from else { return true };
        let address = self.source.address;
        let narrow = |range: &str| range.parse::<IpNet>().unwrap().contains(&address);
        peers.iter().any(|peer| match (peer, &self.source.workload) {
            (Peer::Cidr(range), _) => range.contains(&address),
            (Peer::Workload(name), Some(own)) => name == own,
            (Peer::Workload(name), None) => match &**name {
                "wide" => narrow("10.0.0.0/8"),
                "narrow" => narrow("10.9.0.0/16") || narrow("2600:1::/32"),
                _ => false,
            },
        })
    }
}

/// The reasons of those that got furthest.
fn reasons(failures: Vec<(u8, Reason)>) -> Vec<Reason> {
    let furthest = failures.iter().map(|(progress, _)| *progress).max();
    let of_them = failures.into_iter().filter(|(progress, _)| Some(*progress) == furthest);
    of_them.map(|(_, reason)| reason).collect()
}

fn dialled(ask: &Ask) -> Option<IpAddr> {
    ask.address.or(match ask.host {
        Host::Address(address) => Some(address),
        Host::Name(_) => None,
    })
}

fn covers(written: &HostMatch, host: &Host) -> bool {
    match (written, host) {
        (HostMatch::Cidr(range), Host::Address(address)) => range.contains(address),
        (HostMatch::Name(pattern), Host::Name(name)) => matches(&pattern.to_string(), name.as_str()),
        _ => false,
    }
}

fn in_range(written: &HostMatch, address: IpAddr) -> bool {
    matches!(written, HostMatch::Cidr(range) if range.contains(&address))
}

/// By labels, from what is written.
fn matches(pattern: &str, name: &str) -> bool {
    let written: Vec<_> = pattern.split('.').collect();
    let asked: Vec<_> = name.split('.').collect();
    if written[0] == "*" {
        return asked.len() >= written.len() && asked.ends_with(&written[1..]);
    }
    let Some((before, after)) = written[0].split_once('*') else {
        return pattern == name;
    };
    let middle = asked[0].strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    middle.is_some() && asked[1..] == written[1..]
}

fn world() -> impl Strategy<Value = World> {
    let mode = prop_oneof![
        3 => Just(Mode::Enforce),
        1 => moment().prop_map(|until| Mode::Report { until }),
    ];
    let closed = subsequence(vec!["10.244.0.0/16", "93.184.0.0/16", "2600:2::/32"], 0..=2);
    let closed = closed.prop_map(|closed| closed.iter().map(|range| range.parse().unwrap()).collect());
    (prop::collection::vec(rule(), 0..12), mode, closed).prop_map(|(rules, mode, closed)| World { rules, mode, closed })
}

fn rule() -> impl Strategy<Value = Described> {
    let effect = prop_oneof![4 => Just(Effect::Allow), 1 => Just(Effect::Deny)];
    let peers = vec!["own", "wide", "narrow", "10.9.0.0/24", "2600::/16"];
    let from = prop_oneof![2 => Just(None), 1 => subsequence(peers, 1..=2).prop_map(Some)];
    let until = prop_oneof![4 => Just(None), 1 => (0..5_i64).prop_map(Some)];
    let addresses = subsequence(vec!["10.0.0.0/8", "10.244.3.0/24", "127.0.0.0/8", "::/0"], 0..=2);
    let addresses = prop_oneof![2 => Just(Vec::new()), 1 => addresses];
    let sni = prop_oneof![3 => Just(SniCheck::Strict), 2 => Just(SniCheck::Listed), 1 => Just(SniCheck::Off)];
    let flags = (
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.2),
    );
    (
        effect,
        prop::collection::vec(destination(), 1..3),
        from,
        until,
        addresses,
        sni,
        flags,
    )
        .prop_map(
            |(effect, to, from, until, addresses, sni, (no_sni, ech_outer, report))| Described {
                effect,
                to,
                from,
                until,
                addresses,
                sni,
                no_sni,
                ech_outer,
                report,
            },
        )
}

fn destination() -> impl Strategy<Value = String> {
    let label = select(vec!["a", "b", "ab", "aba", "a-b"]);
    let first = prop_oneof![
        3 => label.clone().prop_map(str::to_owned),
        2 => Just("*".to_owned()),
        2 => select(vec!["a*", "a*b", "ab*ba", "a-*"]).prop_map(str::to_owned),
    ];
    let below = prop::collection::vec(label, 0..2);
    let name = (first, below).prop_map(|(first, below)| {
        [vec![first], below.iter().map(|label| (*label).to_owned()).collect()]
            .concat()
            .join(".")
    });
    let name = name.prop_map(|name| format!("{name}.host.test"));
    // Most rules meet most asks, or too few of them would get far.
    let name = prop_oneof![1 => name, 1 => Just("a.host.test".to_owned())];
    let port = select(vec!["80", "443", "443", "443", "440-450", "1-65535"]);
    let scheme = select(vec!["https", "tls", "tls", "http", "tcp"]);
    let range = select(vec![
        "93.184.216.0/24",
        "93.0.0.0/8",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.244.3.0/24",
        "0.0.0.0/0",
        "[2600::/16]",
        "[::/0]",
    ]);
    prop_oneof![
        4 => (scheme, name, port.clone()).prop_map(|(scheme, name, port)| format!("{scheme}://{name}:{port}")),
        1 => (range, port).prop_map(|(range, port)| format!("tcp://{range}:{port}")),
        1 => Just("http://db.svc".to_owned()),
    ]
}

fn name() -> impl Strategy<Value = HostName> {
    let label = select(vec!["a", "b", "ab", "aba", "abba", "a-b", "xa", "host"]);
    let long = prop::collection::vec(label, 0..4).prop_map(|labels| [labels, vec!["host", "test"]].concat().join("."));
    let text = prop_oneof![
        8 => long,
        8 => Just("a.host.test".to_owned()),
        1 => Just("a.xhost.test".to_owned()),
        1 => Just("db.svc".to_owned()),
        1 => Just("web.svc".to_owned()),
        1 => Just("single".to_owned()),
    ];
    text.prop_map(|text| HostName::parse(text.as_bytes()).unwrap())
}

fn address() -> impl Strategy<Value = IpAddr> {
    let addresses = [
        "93.184.216.34",
        "93.1.1.1",
        "10.1.2.3",
        "10.244.3.9",
        "10.244.4.9",
        "127.0.0.1",
        "169.254.169.254",
    ];
    let more = ["2600:1::1", "2600:2::1", "::1", "fd00::1", "::ffff:10.1.2.3"];
    select([addresses.as_slice(), more.as_slice()].concat()).prop_map(|address| address.parse().unwrap())
}

fn ask() -> impl Strategy<Value = Ask> {
    let host = prop_oneof![4 => name().prop_map(Host::Name), 1 => address().prop_map(Host::Address)];
    let port = select(vec![80, 443, 443, 443, 445, 22]).prop_map(|port| Port::new(port).unwrap());
    let hello = (prop::option::weighted(0.8, name()), any::<bool>()).prop_map(|(sni, ech)| Seen::Hello { sni, ech });
    let seen = prop_oneof![2 => Just(Seen::Nothing), 3 => hello, 1 => Just(Seen::Http), 1 => Just(Seen::Other)];
    (host, port, seen, prop::option::of(address()), any::<bool>()).prop_map(|(host, port, seen, address, own_name)| {
        // Half of all hellos name the host that was asked for.
        let seen = match (seen, &host) {
            (Seen::Hello { ech, .. }, Host::Name(name)) if own_name => Seen::Hello {
                sni: Some(name.clone()),
                ech,
            },
            (seen, _) => seen,
        };
        let address = address.filter(|_| host.name().is_some());
        Ask {
            host,
            port,
            seen,
            address,
        }
    })
}

fn source() -> impl Strategy<Value = Source> {
    let address = select(vec!["10.9.0.1", "10.9.9.9", "10.1.1.1", "192.0.2.1", "2600:1::9"]);
    let workload = prop::option::weighted(0.3, select(vec!["own", "wide", "gone"]));
    (address, workload).prop_map(|(address, workload)| Source {
        address: address.parse().unwrap(),
        workload: workload.map(Arc::from),
    })
}

fn moment() -> impl Strategy<Value = Timestamp> {
    (0..6_i64).prop_map(|second| Timestamp::from_second(second).unwrap())
}
