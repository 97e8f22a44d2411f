//! Random policies, sources and asks, from a small world in which they meet.
//! Must not judge anything.
//! Called by the properties.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::name::{Host, HostName, Port};
use crate::policy::compiled::{Mode, Parts, Policy, Workload};
use crate::policy::fixture::{allow, deny};
use crate::policy::problem::{At, Place};
use crate::policy::rule::{CollectionKind, CollectionRef, Effect, From, Generation, Peer, Rule, SniCheck};
use crate::policy::{Ask, Seen, Source};

/// A policy that can be taken apart again.
#[derive(Clone, Debug)]
pub(in crate::policy) struct World {
    /// Of collections, in the order of evaluation; each in one of its own.
    pub(in crate::policy) ordered: Vec<Described>,
    pub(in crate::policy) rules: Vec<Described>,
    pub(in crate::policy) mode: Mode,
    pub(in crate::policy) closed: Vec<IpNet>,
}

/// A rule in a few words.
#[derive(Clone, Debug)]
pub(in crate::policy) struct Described {
    pub(in crate::policy) effect: Effect,
    pub(in crate::policy) to: Vec<String>,
    pub(in crate::policy) from: Option<Vec<&'static str>>,
    pub(in crate::policy) until: Option<i64>,
    pub(in crate::policy) addresses: Vec<&'static str>,
    pub(in crate::policy) sni: SniCheck,
    pub(in crate::policy) no_sni: bool,
    pub(in crate::policy) ech_outer: bool,
    pub(in crate::policy) report: bool,
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
    pub(in crate::policy) fn rule(&self) -> Rule {
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
    pub(in crate::policy) fn policy(&self) -> Policy {
        let place = |(place, rule): (u16, &Described)| Rule {
            collection: Some(in_collection(place)),
            ..rule.rule()
        };
        let ordered = (0..).zip(&self.ordered).map(place);
        let parts = Parts {
            rules: ordered.chain(self.rules.iter().map(Described::rule)).collect(),
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

fn in_collection(place: u16) -> Arc<CollectionRef> {
    Arc::new(CollectionRef {
        name: place.to_string().into(),
        group: None,
        kind: CollectionKind::Network,
        priority: 100 + place,
    })
}

fn workload(name: &str, cidrs: &[&str]) -> Workload {
    let port = Port::new(3201).map(|value| At {
        value,
        at: Place::default(),
    });
    Workload {
        name: name.into(),
        port: port.filter(|_| cidrs.is_empty()),
        cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
    }
}

pub(in crate::policy) fn denying(host: &Host) -> String {
    match host {
        Host::Name(name) => name.to_string(),
        Host::Address(IpAddr::V4(_)) => "0.0.0.0/0".to_owned(),
        Host::Address(IpAddr::V6(_)) => "[::/0]".to_owned(),
    }
}

pub(in crate::policy) fn world() -> impl Strategy<Value = World> {
    let mode = prop_oneof![
        3 => Just(Mode::Enforce),
        1 => moment().prop_map(|until| Mode::Report { until }),
    ];
    let closed = subsequence(vec!["10.244.0.0/16", "93.184.0.0/16", "2600:2::/32"], 0..=2);
    let closed = closed.prop_map(|closed| closed.iter().map(|range| range.parse().unwrap()).collect());
    // Half of all policies have no collections; in the others most of what is said stands in them.
    let plain = prop::collection::vec(rule(), 0..12).prop_map(|rules| (Vec::new(), rules));
    let both = (
        prop::collection::vec(ordered(), 0..10),
        prop::collection::vec(rule(), 0..4),
    );
    (prop_oneof![plain, both], mode, closed).prop_map(|((ordered, rules), mode, closed)| World {
        ordered,
        rules,
        mode,
        closed,
    })
}

/// Collections that speak of addresses, before a rule that opens a name to many of them.
pub(in crate::policy) fn ranges() -> impl Strategy<Value = World> {
    let range = prop_oneof![3 => range(), 1 => select(vec!["127.0.0.0/8", "10.1.2.0/24", "93.1.0.0/16"]).prop_map(str::to_owned)];
    let rule = (ordered(), range, port()).prop_map(|(rule, range, port)| Described {
        to: vec![format!("tcp://{range}:{port}")],
        ..rule
    });
    (prop::collection::vec(rule, 0..6), world()).prop_map(|(ordered, world)| World {
        ordered,
        rules: vec![Described {
            to: vec!["tcp://a.host.test:1-65535".to_owned()],
            addresses: vec!["10.0.0.0/8", "127.0.0.0/8"],
            ..Described::default()
        }],
        ..world
    })
}

/// Many rules for few hosts, each for certain sources.
pub(in crate::policy) fn crowd() -> impl Strategy<Value = World> {
    let to = select(vec![
        "a.host.test",
        "*.host.test",
        "a*.host.test",
        "93.0.0.0/8",
        "0.0.0.0/0",
    ]);
    let scheme = select(vec!["tls", "tls", "http", "tcp"]);
    let to = (to, scheme, port()).prop_map(|(host, scheme, port)| {
        let scheme = if host.ends_with("test") { scheme } else { "tcp" };
        format!("{scheme}://{host}:{port}")
    });
    let peers = vec![
        "own",
        "wide",
        "narrow",
        "10.9.0.0/24",
        "10.0.0.0/8",
        "192.0.2.1/32",
        "2600::/16",
    ];
    let from = prop_oneof![1 => Just(None), 6 => subsequence(peers, 1..=3).prop_map(Some)];
    let speaks = move |described| {
        (described, to.clone(), from.clone()).prop_map(|(rule, to, from)| Described {
            to: vec![to],
            from,
            ..rule
        })
    };
    let ordered = prop::collection::vec(speaks.clone()(ordered().boxed()), 0..20);
    let rules = prop::collection::vec(speaks(rule().boxed()), 0..20);
    (ordered, rules, world()).prop_map(|(ordered, rules, world)| World {
        ordered,
        rules,
        ..world
    })
}

/// A rule of a collection: as many close as open.
pub(in crate::policy) fn ordered() -> impl Strategy<Value = Described> {
    (rule(), any::<bool>()).prop_map(|(rule, closes)| Described {
        effect: if closes { Effect::Deny } else { Effect::Allow },
        ..rule
    })
}

pub(in crate::policy) fn rule() -> impl Strategy<Value = Described> {
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
    let (port, range) = (port(), range());
    let scheme = select(vec!["https", "tls", "tls", "http", "tcp"]);
    prop_oneof![
        4 => (scheme, name, port.clone()).prop_map(|(scheme, name, port)| format!("{scheme}://{name}:{port}")),
        1 => (range, port).prop_map(|(range, port)| format!("tcp://{range}:{port}")),
        1 => Just("http://db.svc".to_owned()),
    ]
}

fn port() -> impl Strategy<Value = &'static str> + Clone {
    select(vec!["80", "443", "443", "443", "440-450", "1-65535"])
}

fn range() -> impl Strategy<Value = String> {
    let ranges = vec![
        "93.184.216.0/24",
        "93.0.0.0/8",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.244.3.0/24",
        "0.0.0.0/0",
        "[2600::/16]",
        "[::/0]",
    ];
    select(ranges).prop_map(str::to_owned)
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

pub(in crate::policy) fn address() -> impl Strategy<Value = IpAddr> {
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

pub(in crate::policy) fn ask() -> impl Strategy<Value = Ask> {
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

pub(in crate::policy) fn source() -> impl Strategy<Value = Source> {
    let address = select(vec![
        "10.9.0.1",
        "10.9.9.9",
        "10.1.1.1",
        "192.0.2.1",
        "198.51.100.1",
        "2600:1::9",
    ]);
    let workload = prop::option::weighted(0.3, select(vec!["own", "wide", "gone"]));
    (address, workload).prop_map(|(address, workload)| Source {
        address: address.parse().unwrap(),
        workload: workload.map(Arc::from),
    })
}

pub(in crate::policy) fn moment() -> impl Strategy<Value = Timestamp> {
    (0..6_i64).prop_map(|second| Timestamp::from_second(second).unwrap())
}
