//! What one decision costs from 10 to 100,000 rules, hit and miss, and what it takes to index them.
//! Must not read policy files: `load` is the bench for that. One policy per kind of pattern, so that nothing averages out.
//! Called by `cargo bench --bench gate`; results and machine stand in `benches/README.md`.

#![allow(clippy::expect_used, reason = "a bench stops where its premises do not hold")]

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use sluicegate::name::{Host, HostName, HostPattern, Port};
use sluicegate::policy::compiled::Parts;
use sluicegate::policy::rule::{CollectionKind, CollectionRef, Effect, From, Hits, HostMatch, Position, SniCheck};
use sluicegate::policy::{Ask, Destination, Generation, Policy, Rule, Scheme, Seen, Source, gate};

/// A kind of pattern: how the rule of a number is written, a host that it alone covers, and a host that gets as far
/// into the index as one can without being covered.
struct Kind {
    name: &'static str,
    pattern: fn(usize) -> String,
    hit: fn(usize) -> String,
    miss: &'static str,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "exact",
        pattern: |n| format!("api{n}.team{}.example.com", n % 100),
        hit: |n| format!("api{n}.team{}.example.com", n % 100),
        miss: "api.team7.example.com",
    },
    Kind {
        name: "suffix",
        pattern: |n| format!("*.zone{n}.example.com"),
        hit: |n| format!("a.b.zone{n}.example.com"),
        miss: "a.b.zone.example.com",
    },
    Kind {
        name: "in-label",
        pattern: |n| format!("replica{n}x*z.blob.example.net"),
        hit: |n| format!("replica{n}x0815z.blob.example.net"),
        miss: "replica5x0815y.blob.example.net",
    },
];

type Group<'a> = BenchmarkGroup<'a, WallTime>;

const SIZES: &[usize] = &[10, 1_000, 100_000];

fn decisions(criterion: &mut Criterion) {
    for kind in KINDS {
        let mut group = criterion.benchmark_group(kind.name);
        for size in SIZES {
            ask(&mut group, kind, &made(rules(kind, *size)), *size);
        }
        group.finish();
    }
}

fn ask(group: &mut Group<'_>, kind: &Kind, policy: &Policy, size: usize) {
    let hit = (kind.hit)(size / 2);
    for (what, text, expected) in [("hit", hit.as_str(), true), ("miss", kind.miss, false)] {
        let source = Source::at(IpAddr::from([10, 244, 1, 1]));
        let name = HostName::parse(text.as_bytes()).expect("a host");
        let hello = Seen::Hello {
            sni: Some(name.clone()),
            ech: false,
        };
        let ask = Ask::new(Host::Name(name), Port::HTTPS).seeing(hello);
        let ask = ask.dialling(IpAddr::from([93, 184, 216, 34]));
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(gate(policy, now, &source, &ask).is_allowed(), expected, "{text}");
        group.bench_function(BenchmarkId::new(what, size), |bencher| {
            bencher.iter(|| gate(black_box(policy), now, &source, black_box(&ask)));
        });
    }
}

/// The rules of `exact` in ten ordered collections: the answer is that of the first one that speaks of the host.
fn collections(criterion: &mut Criterion) {
    let Some(kind) = KINDS.first() else { return };
    let mut group = criterion.benchmark_group("collections");
    for size in SIZES {
        let collection = |number: usize| {
            Arc::new(CollectionRef {
                name: format!("c{number}").into(),
                group: None,
                kind: CollectionKind::Application,
                priority: 100 + u16::try_from(number).expect("ten of them"),
            })
        };
        let collections: Vec<_> = (0..10).map(collection).collect();
        let in_order = rules(kind, *size).into_iter().enumerate().map(|(n, rule)| Rule {
            collection: collections.get(n * 10 / size).cloned(),
            ..rule
        });
        ask(&mut group, kind, &made(in_order.collect()), *size);
    }
    group.finish();
}

/// From compiled rules to a policy that can be asked.
fn index(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index");
    group.sample_size(10);
    for kind in KINDS {
        for size in SIZES {
            group.bench_function(BenchmarkId::new(kind.name, size), |bencher| {
                bencher.iter_batched(|| rules(kind, *size), made, BatchSize::PerIteration);
            });
        }
    }
    group.finish();
}

fn rules(kind: &Kind, size: usize) -> Vec<Rule> {
    (0..size).map(|n| rule(&(kind.pattern)(n))).collect()
}

fn made(rules: Vec<Rule>) -> Policy {
    let parts = Parts {
        rules,
        ..Parts::default()
    };
    Policy::new(parts, Generation(1))
}

fn rule(text: &str) -> Rule {
    Rule {
        name: text.into(),
        effect: Effect::Allow,
        collection: None,
        at: Position {
            file: Arc::from("policy.yaml"),
            line: 1,
        },
        from: From::Everyone,
        to: Destination {
            scheme: Some(Scheme::Tls),
            host: HostMatch::Name(HostPattern::parse(text).expect("a pattern")),
            ports: 443..=443,
        }
        .into(),
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

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = decisions, collections, index
}
criterion_main!(benches);
