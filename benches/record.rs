//! What one decision record costs the data path, and what it costs in all: CPU time, which a busy machine does not
//! falsify.
//! Must not measure a full queue by accident: each batch fits into it, and it is empty before the next one.
//! Called by `cargo bench --bench record`.

use std::hint::black_box;
use std::io::{self, Write};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use sluicegate::name::{Host, HostName, Port};
use sluicegate::policy::rule::Position;
use sluicegate::policy::{Generation, Reason, Stage};
use sluicegate::settings::{Log, LogFormat, LoggedDecisions};
use sluicegate::telemetry::{Colour, DecisionRecord, Entry, Metrics, Shown, Telemetry};

criterion_group!(benches, decision, from_many_threads, overflow, written, render);
criterion_main!(benches);

/// The call itself: count, keep, queue.
fn decision(c: &mut Criterion) {
    for (name, log) in [
        ("decision/all", LoggedDecisions::All),
        ("decision/denied only", LoggedDecisions::Denied),
    ] {
        let telemetry = telemetry(LogFormat::Json, log, io::sink());
        c.bench_function(name, |bench| {
            bench.iter_custom(|iterations| in_batches(&telemetry, iterations));
        });
    }
}

/// Four threads at once, as data threads are.
fn from_many_threads(c: &mut Criterion) {
    const THREADS: u64 = 4;
    let telemetry = telemetry(LogFormat::Json, LoggedDecisions::All, io::sink());
    c.bench_function("decision/4 threads", |bench| {
        bench.iter_custom(|iterations| {
            let mut left = iterations.div_ceil(THREADS);
            let mut took = Duration::ZERO;
            while left > 0 {
                let each = left.min(BATCH / THREADS);
                let start = Barrier::new(usize::try_from(THREADS).unwrap_or(1));
                let times = thread::scope(|scope| {
                    let threads: Vec<_> = (0..THREADS)
                        .map(|_| {
                            let records = records(each);
                            scope.spawn(|| {
                                start.wait();
                                record_all(&telemetry, records)
                            })
                        })
                        .collect();
                    threads
                        .into_iter()
                        .filter_map(|thread| thread.join().ok())
                        .sum::<Duration>()
                });
                took += times;
                assert!(telemetry.flush(PATIENCE));
                left -= each;
            }
            took
        });
    });
}

/// A log that takes nothing: every record is counted and dropped.
fn overflow(c: &mut Criterion) {
    let telemetry = telemetry(LogFormat::Json, LoggedDecisions::All, Stuck);
    while telemetry.writable() {
        telemetry.decision(record());
    }
    c.bench_function("decision/log stuck", |bench| {
        bench.iter_custom(|iterations| record_all(&telemetry, records(iterations)));
    });
}

/// From the call to the output, on both threads.
fn written(c: &mut Criterion) {
    for (name, format) in [("written/json", LogFormat::Json), ("written/text", LogFormat::Text)] {
        let telemetry = telemetry(format, LoggedDecisions::All, io::sink());
        c.bench_function(name, |bench| {
            bench.iter_custom(|iterations| {
                let mut left = iterations;
                let mut took = Duration::ZERO;
                while left > 0 {
                    let records = records(left.min(BATCH));
                    left -= left.min(BATCH);
                    let before = cpu(ClockId::ProcessCPUTime);
                    record_all(&telemetry, records);
                    assert!(telemetry.flush(PATIENCE));
                    took += cpu(ClockId::ProcessCPUTime).saturating_sub(before);
                }
                took
            });
        });
    }
}

/// A scrape with 10 listeners and 100 workloads.
fn render(c: &mut Criterion) {
    let metrics = Metrics::new(Timestamp::UNIX_EPOCH);
    let log = Log {
        format: LogFormat::Json,
        decisions: LoggedDecisions::Denied,
        required: false,
    };
    let Ok(telemetry) = Telemetry::new(&log, metrics.clone(), io::sink(), Colour::Never) else {
        return;
    };
    for workload in 0..100 {
        telemetry.decision(DecisionRecord {
            listener: format!("listener{}", workload % 10).into(),
            workload: Some(format!("workload{workload}").into()),
            ..record()
        });
    }
    c.bench_function("render", |bench| {
        bench.iter(|| black_box(metrics.render(Timestamp::UNIX_EPOCH)));
    });
}

fn in_batches(telemetry: &Telemetry, iterations: u64) -> Duration {
    let mut left = iterations;
    let mut took = Duration::ZERO;
    while left > 0 {
        let now = left.min(BATCH);
        took += record_all(telemetry, records(now));
        assert!(telemetry.flush(PATIENCE));
        left -= now;
    }
    took
}

fn record_all(telemetry: &Telemetry, records: Vec<DecisionRecord>) -> Duration {
    let before = cpu(ClockId::ThreadCPUTime);
    for record in records {
        black_box(telemetry.decision(record));
    }
    cpu(ClockId::ThreadCPUTime).saturating_sub(before)
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

fn telemetry(format: LogFormat, decisions: LoggedDecisions, out: impl Write + Send + 'static) -> Telemetry {
    let log = Log {
        format,
        decisions,
        required: false,
    };
    let metrics = Metrics::new(Timestamp::UNIX_EPOCH);
    #[expect(clippy::expect_used, reason = "a benchmark")]
    Telemetry::new(&log, metrics, out, Colour::Never).expect("a thread")
}

fn records(count: u64) -> Vec<DecisionRecord> {
    (0..count).map(|_| record()).collect()
}

/// An allowed CONNECT, as most are.
#[expect(clippy::unwrap_used, reason = "a benchmark")]
fn record() -> DecisionRecord {
    DecisionRecord {
        at: Timestamp::UNIX_EPOCH,
        id: 1,
        generation: Generation(7),
        listener: "proxy".into(),
        entry: Entry::Connect,
        source: "10.1.2.3:5555".parse().unwrap(),
        workload: Some("trips".into()),
        own_port: false,
        host: Some(Host::parse(b"api.example.com").unwrap()),
        port: Some(Port::HTTPS),
        method: None,
        path: None,
        seen: Some(Shown::Hello),
        sni: Some(HostName::parse(b"api.example.com").unwrap()),
        ech: false,
        allowed: true,
        reason: Reason::Rule,
        would_deny: None,
        stage: Stage::Hello,
        rule: Some("payments".into()),
        needed_by: Vec::new(),
        rule_at: Some(Position {
            file: "policy.yaml".into(),
            line: 12,
        }),
        collection: None,
        address: Some("203.0.113.7".parse().unwrap()),
        refused: Vec::new(),
        aliases: vec![HostName::parse(b"edge.example.net").unwrap()],
        stale: false,
        detail: None,
        took: Duration::from_micros(213),
    }
}

/// An output that never returns.
struct Stuck;

impl Write for Stuck {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        loop {
            thread::park();
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Half of the queue.
const BATCH: u64 = 4096;
const PATIENCE: Duration = Duration::from_secs(20);
