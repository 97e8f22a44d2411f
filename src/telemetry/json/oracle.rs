//! The records as serde would write them: what every line is compared with, byte for byte.
//! Must not stand in a build that runs.
//! Called by nobody; these are tests.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use serde::Serialize;

use super::Clock;
use crate::name::{Host, HostName, Port};
use crate::policy::rule::{CollectionKind, CollectionRef, Position};
use crate::policy::{Generation, Reason, Stage};
use crate::telemetry::record::{DecisionRecord, End, Entry, Shown, TunnelRecord};

/// The keys of a decision record. Absent means: not known, or does not apply. Never null.
#[derive(Serialize)]
struct Decision<'a> {
    r#type: &'static str,
    time: String,
    id: String,
    action: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    would_deny: Option<&'static str>,
    stage: &'static str,
    generation: u64,
    listener: &'a str,
    entry: &'static str,
    source: String,
    source_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    own_port: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<&'a str>,
    ech: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collection: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collection_group: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    needed_by: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<&'a str>,
    stale: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    took_ms: f64,
}

/// The keys of a tunnel record.
#[derive(Serialize)]
struct Tunnel<'a> {
    r#type: &'static str,
    time: String,
    id: String,
    end: &'static str,
    generation: u64,
    listener: &'a str,
    entry: &'static str,
    source: String,
    source_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<&'a str>,
    host: String,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<&'a str>,
    address: String,
    up_bytes: u64,
    down_bytes: u64,
    lasted_ms: f64,
}

impl<'a> Decision<'a> {
    fn of(record: &'a DecisionRecord) -> Self {
        let collection = record.collection.as_deref();
        Self {
            r#type: "decision",
            time: super::moment(record.at),
            id: super::id(record.id),
            action: record.action(),
            reason: record.reason.as_str(),
            would_deny: record.would_deny.map(Reason::as_str),
            stage: record.stage.as_str(),
            generation: record.generation.0,
            listener: &record.listener,
            entry: record.entry.as_str(),
            source: record.source.ip().to_canonical().to_string(),
            source_port: record.source.port(),
            workload: record.workload.as_deref(),
            own_port: record.own_port.then_some(true),
            host: record.host.as_ref().map(Host::to_string),
            port: record.port.map(Port::number),
            method: record.method.as_deref(),
            path: record.path.as_deref(),
            seen: record.seen.map(Shown::as_str),
            sni: record.sni.as_ref().map(HostName::as_str),
            ech: record.ech,
            rule: record.rule.as_deref(),
            rule_at: record.rule_at.as_ref().map(Position::to_string),
            collection: collection.map(|collection| &*collection.name),
            collection_group: collection.and_then(|collection| collection.group.as_deref()),
            needed_by: record.needed_by.iter().map(AsRef::as_ref).collect(),
            address: record.address.as_ref().map(IpAddr::to_string),
            refused: record.refused.iter().map(IpAddr::to_string).collect(),
            aliases: record.aliases.iter().map(HostName::as_str).collect(),
            stale: record.stale,
            detail: record.detail.as_deref(),
            took_ms: super::milliseconds(record.took),
        }
    }
}

impl<'a> Tunnel<'a> {
    fn of(record: &'a TunnelRecord) -> Self {
        Self {
            r#type: "tunnel",
            time: super::moment(record.at),
            id: super::id(record.id),
            end: record.end.as_str(),
            generation: record.generation.0,
            listener: &record.listener,
            entry: record.entry.as_str(),
            source: record.source.ip().to_canonical().to_string(),
            source_port: record.source.port(),
            workload: record.workload.as_deref(),
            host: record.host.to_string(),
            port: record.port.number(),
            sni: record.sni.as_ref().map(HostName::as_str),
            address: record.address.to_string(),
            up_bytes: record.up,
            down_bytes: record.down,
            lasted_ms: super::milliseconds(record.lasted),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_decision_is_written_as_serde_writes_it(record in decision(), others in proptest::collection::vec(moment(), 0..3)) {
        let mut clock = Clock::default();
        let mut out = Vec::new();
        for at in others.into_iter().chain([record.at, record.at]) {
            out.clear();
            super::decision(&DecisionRecord { at, ..record.clone() }, &mut clock, &mut out);
        }
        prop_assert_eq!(String::from_utf8(out).unwrap(), as_serde_writes(&Decision::of(&record)));
    }

    #[test]
    fn a_tunnel_is_written_as_serde_writes_it(record in tunnel()) {
        let mut out = Vec::new();
        super::tunnel(&record, &mut Clock::default(), &mut out);
        prop_assert_eq!(String::from_utf8(out).unwrap(), as_serde_writes(&Tunnel::of(&record)));
    }
}

fn as_serde_writes(record: &impl Serialize) -> String {
    let mut out = Vec::new();
    super::append(record, &mut out);
    String::from_utf8(out).unwrap()
}

/// What clients and files can hold, and what has a meaning in JSON or on a terminal.
fn text() -> impl Strategy<Value = String> {
    let characters = prop_oneof![
        4 => proptest::char::range(' ', '~'),
        1 => prop_oneof![Just('"'), Just('\\'), Just('\x7f'), Just('\n'), Just('\0'), Just('\u{2028}')],
        1 => any::<char>(),
    ];
    let plain = "[ -~]{0,40}";
    prop_oneof![
        plain,
        proptest::collection::vec(characters, 0..40).prop_map(|all| all.into_iter().collect())
    ]
}

fn shared() -> impl Strategy<Value = Arc<str>> {
    text().prop_map(Into::into)
}

fn moment() -> impl Strategy<Value = Timestamp> {
    let around = prop_oneof![
        -3_i64..3,
        1_772_000_000_i64..1_772_000_003,
        -377_705_023_201_i64..253_402_207_200
    ];
    (around, 0..1_000_000_000).prop_map(|(second, nanosecond)| Timestamp::new(second, nanosecond).unwrap())
}

/// Up to 71 years: beyond twice that, an f64 of milliseconds cannot tell microseconds apart.
fn duration() -> impl Strategy<Value = Duration> {
    let micros = prop_oneof![0_u64..5_000, 0_u64..10_000_000_000, 0_u64..1 << 51];
    (micros, 0_u64..1000).prop_map(|(micros, nanos)| Duration::from_micros(micros) + Duration::from_nanos(nanos))
}

fn address() -> impl Strategy<Value = IpAddr> {
    let mapped = any::<std::net::Ipv4Addr>().prop_map(|address| address.to_ipv6_mapped().into());
    prop_oneof![any::<IpAddr>(), mapped]
}

fn name() -> impl Strategy<Value = HostName> {
    "[a-z0-9_-]{1,20}(\\.[a-z][a-z0-9]{0,9}){0,3}"
        .prop_filter_map("no name", |name| HostName::parse(name.as_bytes()).ok())
}

fn host() -> impl Strategy<Value = Host> {
    prop_oneof![name().prop_map(Host::Name), address().prop_map(Host::Address)]
}

fn port() -> impl Strategy<Value = Port> {
    (1_u16..).prop_map(|port| Port::new(port).unwrap())
}

fn maybe<T: std::fmt::Debug>(some: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(some)
}

fn one_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    proptest::sample::select(all)
}

fn decision() -> impl Strategy<Value = DecisionRecord> {
    let collection = (shared(), maybe(shared())).prop_map(|(name, group)| {
        Arc::new(CollectionRef {
            name,
            group,
            kind: CollectionKind::Network,
            priority: 100,
        })
    });
    let position = (shared(), any::<u32>()).prop_map(|(file, line)| Position { file, line });
    let who = (
        shared(),
        one_of(Entry::ALL),
        address(),
        any::<u16>(),
        maybe(shared()),
        any::<bool>(),
    );
    let what = (
        maybe(host()),
        maybe(port()),
        maybe(text()),
        maybe(text()),
        maybe(name()),
        maybe(one_of(Shown::ALL)),
    );
    let verdict = (
        any::<[bool; 3]>(),
        one_of(Reason::ALL),
        maybe(one_of(Reason::ALL)),
        maybe(shared()),
        maybe(position),
        maybe(collection),
    );
    let rest = (
        proptest::collection::vec(shared(), 0..3),
        maybe(address()),
        proptest::collection::vec(address(), 0..3),
        proptest::collection::vec(name(), 0..3),
        maybe(text()),
    );
    let when = (moment(), any::<u64>(), any::<u64>(), duration());
    (who, what, verdict, rest, when).prop_map(|(who, what, verdict, rest, when)| {
        let (listener, entry, source, source_port, workload, own_port) = who;
        let (host, port, method, path, sni, seen) = what;
        let ([allowed, ech, stale], reason, would_deny, rule, rule_at, collection) = verdict;
        let (needed_by, address, refused, aliases, detail) = rest;
        let (at, id, generation, took) = when;
        DecisionRecord {
            at,
            id,
            generation: Generation(generation),
            listener,
            entry,
            source: (source, source_port).into(),
            workload,
            own_port,
            host,
            port,
            method,
            path,
            seen,
            sni,
            ech,
            allowed,
            reason,
            would_deny,
            stage: Stage::Hello,
            rule,
            rule_at,
            collection,
            needed_by,
            address,
            refused,
            aliases,
            stale,
            detail,
            took,
        }
    })
}

fn tunnel() -> impl Strategy<Value = TunnelRecord> {
    let bytes = any::<(u64, u64)>();
    (decision(), host(), port(), address(), bytes, one_of(End::ALL)).prop_map(
        |(of, host, port, address, (up, down), end)| TunnelRecord {
            at: of.at,
            id: of.id,
            generation: of.generation,
            listener: of.listener,
            entry: of.entry,
            source: of.source,
            workload: of.workload,
            host,
            port,
            sni: of.sni,
            address,
            up,
            down,
            lasted: of.took,
            end,
        },
    )
}
