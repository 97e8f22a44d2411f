//! How long a policy of 10 to 100,000 rules takes from text to in force, and how much memory it needs meanwhile.
//! Must not measure the reading of files. Memory is that of a process of its own that loads once.
//! Called by `cargo bench --bench load`; the question and the numbers are in README.md.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench prints, and stops where its premises do not hold"
)]

use std::fmt::Write as _;
use std::process::Command;

use criterion::{BenchmarkId, Criterion, Throughput};
use jiff::Timestamp;
use sluicegate::policy::{Generation, SourceText, load};

fn main() {
    if let Ok(shape) = std::env::var(CHILD) {
        load_once(&shape);
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    time(&mut criterion);
    criterion.final_summary();
    memory();
}

fn time(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("load");
    group.sample_size(10);
    for (shape, text) in SHAPES {
        for rules in [10, 1_000, 100_000] {
            let texts = [text(rules)];
            group.throughput(Throughput::Elements(rules as u64));
            group.bench_with_input(BenchmarkId::new(*shape, rules), &texts, |bencher, texts| {
                bencher.iter(|| load(texts, Timestamp::UNIX_EPOCH, Generation(1), None).expect("a valid policy"));
            });
        }
    }
    group.finish();
}

/// Runs this program again for each shape: the highest resident set of a process cannot be set back.
fn memory() {
    for (shape, text) in SHAPES {
        let bytes = text(RULES).text.len();
        let program = std::env::current_exe().expect("this program");
        let output = Command::new(program).env(CHILD, shape).output().expect("it runs again");
        assert!(output.status.success(), "{output:?}");
        let numbers = String::from_utf8_lossy(&output.stdout);
        println!("memory/{shape}/{RULES}: text {} KiB, {}", bytes >> 10, numbers.trim());
    }
}

fn load_once(shape: &str) {
    let (_, text) = SHAPES.iter().find(|(name, _)| *name == shape).expect("a shape");
    let before = status("VmRSS");
    let texts = vec![text(RULES)];
    let with_text = status("VmRSS");
    let loaded = load(&texts, Timestamp::UNIX_EPOCH, Generation(1), None).expect("a valid policy");
    let (peak, after) = (status("VmHWM"), status("VmRSS"));
    assert_eq!(loaded.policy.rules().len(), RULES);
    println!("process {before} KiB, with its text {with_text} KiB, peak while loading {peak} KiB, then {after} KiB");
}

/// A line of /proc/self/status, in KiB.
fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(key)).expect("the key");
    line.split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

/// One destination per line: 60 % names, 40 % wildcards.
fn short(rules: usize) -> SourceText {
    let mut text = String::from("allow:\n");
    for rule in 0..rules {
        let star = if rule % 5 < 2 { "*." } else { "" };
        let _ = writeln!(text, "  - \"{star}host-{rule}.zone-{}.example.com\"", rule % 977);
    }
    source(text)
}

/// Everything that a careful team writes, about 140 bytes per rule.
fn full(rules: usize) -> SourceText {
    let mut text = String::from("workloads:\n");
    for workload in 0..100 {
        let _ = writeln!(
            text,
            "  team-{workload}: {{namespace: team-{workload}, pods: {{app: web}}, port: {}}}",
            20_000 + workload
        );
    }
    text.push_str("allow:\n");
    for rule in 0..rules {
        let _ = writeln!(
            text,
            "  - {{name: rule-{rule}, from: [team-{}], to: [host-{rule}.zone-{}.example.com], owner: team-{}, \
             reason: OPS-{rule}, until: 2999-12-31}}",
            rule % 100,
            rule % 977,
            rule % 100,
        );
    }
    source(text)
}

fn source(text: String) -> SourceText {
    SourceText {
        name: "policy.yaml".into(),
        text: text.into(),
    }
}

type Shape = (&'static str, fn(usize) -> SourceText);

const SHAPES: &[Shape] = &[("short", short), ("full", full)];
const RULES: usize = 100_000;
const CHILD: &str = "SLUICEGATE_BENCH_LOAD";
