//! The small cases: one call each, over and over.
//! Must not do anything between two calls that a connection does not do.
//! Called by this program when it runs itself under valgrind.

use std::fmt::Write;
use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{anyhow, bail, ensure};
use jiff::Timestamp;
use sluicegate::name::{Host, HostName, Port};
use sluicegate::policy::rule::Position;
use sluicegate::policy::{Ask, Generation, Policy, Reason, Seen, Source, SourceText, Stage, gate, load};
use sluicegate::telemetry::json::{self, Clock};
use sluicegate::telemetry::{DecisionRecord, End, Entry, Shown, TunnelRecord};
use sluicegate::wire::Progress;
use sluicegate::wire::hello::HelloReader;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// So many units make a steady number.
    pub(crate) times: u32,
    work: fn(u32) -> anyhow::Result<()>,
}

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "gate/allow",
        times: 20_000,
        work: |times| decide(times, &lines("allow"), &NAMES, Reason::Rule),
    },
    Case {
        name: "gate/no_rule",
        times: 20_000,
        work: |times| decide(times, &lines("allow"), &["api.team#.example.org"], Reason::NoRule),
    },
    Case {
        name: "gate/collections",
        times: 20_000,
        work: |times| decide(times, &collections()?, &NAMES, Reason::Rule),
    },
    Case {
        name: "hello/curl",
        times: 20_000,
        work: |times| {
            read(
                times,
                include_bytes!("../../../tests/corpus/hello/curl.bin"),
                usize::MAX,
            )
        },
    },
    Case {
        name: "hello/chrome",
        times: 20_000,
        work: |times| read(times, CHROME, usize::MAX),
    },
    Case {
        name: "hello/trickled",
        times: 4_000,
        work: |times| read(times, CHROME, 16),
    },
    Case {
        name: "record/decision",
        times: 20_000,
        work: |times| {
            write(times, &decision()?, json::decision);
            Ok(())
        },
    },
    Case {
        name: "record/tunnel",
        times: 20_000,
        work: |times| {
            write(times, &tunnel()?, json::tunnel);
            Ok(())
        },
    },
];

pub(crate) fn named(name: &str, times: u32) -> anyhow::Result<()> {
    let case = CASES.iter().find(|case| case.name == name);
    (case.ok_or_else(|| anyhow!("no case is called {name}"))?.work)(times)
}

/// Asks the gate for names of all rules in turn, as a tunnel does after its ClientHello. `#` stands for the number of a
/// rule.
fn decide(times: u32, text: &str, names: &[&str], reason: Reason) -> anyhow::Result<()> {
    let policy = policy(text)?;
    let source = Source::at(IpAddr::from([10, 244, 1, 1]));
    let now = Timestamp::UNIX_EPOCH;
    let asks: anyhow::Result<Vec<_>> = (0..RULES).map(|number| ask(names, number)).collect();
    let asks = asks?;
    for ask in &asks {
        let decision = gate(&policy, now, &source, ask);
        ensure!(decision.reason == reason, "{ask:?}: {decision:?}");
    }
    for ask in asks.iter().cycle().zip(0..times) {
        black_box(gate(black_box(&policy), now, &source, black_box(ask.0)));
    }
    Ok(())
}

fn ask(names: &[&str], number: usize) -> anyhow::Result<Ask> {
    let name = names
        .get(number % names.len())
        .map(|name| name.replace('#', &number.to_string()));
    let name = HostName::parse(name.unwrap_or_default().as_bytes()).map_err(|error| anyhow!("{error:?}"))?;
    let hello = Seen::Hello {
        sni: Some(name.clone()),
        ech: false,
    };
    let ask = Ask::new(Host::Name(name), Port::HTTPS).seeing(hello);
    Ok(ask.dialling(IpAddr::from([93, 184, 216, 34])))
}

fn policy(text: &str) -> anyhow::Result<Policy> {
    let texts = [SourceText {
        name: "policy.yaml".into(),
        text: text.into(),
    }];
    match load(&texts, Timestamp::UNIX_EPOCH, Generation(1), None) {
        Ok(loaded) => Ok(loaded.policy),
        Err(problems) => bail!("{problems:?}"),
    }
}

/// A rule for each number, every third of one kind.
fn rules() -> impl Iterator<Item = String> {
    let patterns = PATTERNS.iter().cycle().zip(0..RULES);
    patterns.map(|(pattern, number)| pattern.replace('#', &number.to_string()))
}

fn lines(key: &str) -> String {
    let lines = rules().map(|rule| format!("  - \"{rule}\"\n"));
    format!("{key}:\n{}", lines.collect::<String>())
}

/// The same rules in ten collections, with one between two of them that denies.
fn collections() -> anyhow::Result<String> {
    let mut text = "collections:\n".to_owned();
    let rules: Vec<_> = rules().collect();
    for (number, some) in (1..).zip(rules.chunks(RULES / 10)) {
        let (allow, deny) = (number * 100, number * 100 + 50);
        writeln!(
            text,
            "  - name: c{allow}\n    priority: {allow}\n    action: allow\n    rules:"
        )?;
        for rule in some {
            writeln!(text, "      - {{name: r, to: [\"{rule}\"]}}")?;
        }
        writeln!(
            text,
            "  - name: c{deny}\n    priority: {deny}\n    action: deny\n    rules:"
        )?;
        writeln!(text, "      - {{name: no, to: [no.c{deny}.example.net]}}")?;
    }
    Ok(text)
}

/// Reads a ClientHello that arrives in pieces of that size.
fn read(times: u32, sent: &[u8], piece: usize) -> anyhow::Result<()> {
    for _ in 0..times {
        let mut reader = HelloReader::new();
        let mut end: usize = 0;
        loop {
            end = end.saturating_add(piece).min(sent.len());
            match reader.advance(black_box(sent.get(..end).unwrap_or_default())) {
                Progress::Value(hello) => {
                    black_box(hello);
                    break;
                }
                Progress::Need(_) if end < sent.len() => {}
                other => bail!("{other:?}"),
            }
        }
    }
    Ok(())
}

/// Writes a record as JSON, as the thread of the log does.
fn write<R>(times: u32, record: &R, append: fn(&R, &mut Clock, &mut Vec<u8>)) {
    let (mut clock, mut line) = (Clock::default(), Vec::new());
    for _ in 0..times {
        line.clear();
        append(black_box(record), &mut clock, &mut line);
        black_box(&line);
    }
}

/// An allowed CONNECT, as most are.
fn decision() -> anyhow::Result<DecisionRecord> {
    let name = HostName::parse(NAME.as_bytes()).map_err(|error| anyhow!("{error:?}"))?;
    Ok(DecisionRecord {
        at: Timestamp::UNIX_EPOCH,
        id: 0x0123_4567_89ab_cdef,
        generation: Generation(7),
        listener: "proxy".into(),
        entry: Entry::Connect,
        source: "10.1.2.3:5555".parse()?,
        workload: Some("trips".into()),
        own_port: false,
        host: Some(Host::Name(name.clone())),
        port: Some(Port::HTTPS),
        method: None,
        path: None,
        seen: Some(Shown::Hello),
        sni: Some(name.clone()),
        ech: false,
        allowed: true,
        reason: Reason::Rule,
        would_deny: None,
        stage: Stage::Hello,
        rule: Some("payments".into()),
        rule_at: Some(Position {
            file: "policy.yaml".into(),
            line: 12,
        }),
        collection: None,
        needed_by: Vec::new(),
        address: Some("203.0.113.7".parse()?),
        refused: Vec::new(),
        aliases: vec![name],
        stale: false,
        detail: None,
        took: Duration::from_micros(213),
    })
}

/// The tunnel of that decision.
fn tunnel() -> anyhow::Result<TunnelRecord> {
    let name = HostName::parse(NAME.as_bytes()).map_err(|error| anyhow!("{error:?}"))?;
    Ok(TunnelRecord {
        at: Timestamp::UNIX_EPOCH,
        id: 0x0123_4567_89ab_cdef,
        generation: Generation(7),
        listener: "proxy".into(),
        entry: Entry::Connect,
        source: "10.1.2.3:5555".parse()?,
        workload: Some("trips".into()),
        host: Host::Name(name.clone()),
        port: Port::HTTPS,
        sni: Some(name),
        address: "203.0.113.7".parse()?,
        up: 517,
        down: 48_213,
        lasted: Duration::from_millis(8250),
        end: End::Finished,
    })
}

const NAME: &str = "api.example.com";
const RULES: usize = 1_000;
const PATTERNS: [&str; 3] = [
    "api#.team.example.com",
    "*.zone#.example.com",
    "store#x*z.blob.example.net",
];
const NAMES: [&str; 3] = [
    "api#.team.example.com",
    "a.b.zone#.example.com",
    "store#x0815z.blob.example.net",
];
const CHROME: &[u8] = include_bytes!("../../../tests/corpus/hello/chrome-boringssl.bin");
