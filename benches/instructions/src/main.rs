//! Counts the instructions of the gate, the hello reader, the records and a whole CONNECT, and compares them with
//! those that were recorded: more than 5 % above is a failure.
//! Must not measure time, nor anything else that a busy machine changes.
//! Called by `benches/instructions/run`.

#![allow(clippy::print_stdout, reason = "the numbers are the purpose")]

mod baseline;
mod connect;
mod valgrind;
mod work;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};

use baseline::{Counts, Verdict};
use valgrind::Threads;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Counts and compares; the default.
    Check,
    /// Counts, and makes the counts those that are compared with.
    Record,
    /// Works that often; what is counted.
    #[command(hide = true)]
    Work { name: String, times: u32 },
}

/// 0: nothing grew; 1: something did, or there is nothing to compare with; 2: it could not be counted.
fn main() -> ExitCode {
    match run(&Arguments::parse().what.unwrap_or(What::Check)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            println!("NOT COUNTED: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(what: &What) -> anyhow::Result<bool> {
    if let What::Work { name, times } = what {
        work::named(name, *times)?;
        return Ok(true);
    }
    let counted = Counts {
        compiler: compiler()?,
        cases: count()?,
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(BASELINE);
    if matches!(what, What::Record) {
        fs::write(&file, counted.to_string()).with_context(|| BASELINE)?;
        println!("recorded in {BASELINE}");
        return Ok(true);
    }
    let text = fs::read_to_string(&file).with_context(|| format!("{BASELINE}: {AGAIN}"))?;
    let recorded: Counts = text.parse().with_context(|| format!("{BASELINE}: {AGAIN}"))?;
    let verdict = baseline::compare(&recorded, &counted);
    say(&verdict);
    Ok(verdict.failures.is_empty())
}

fn say(verdict: &Verdict) {
    for line in &verdict.table {
        println!("{line}");
    }
    for failure in &verdict.failures {
        println!("FAILED: {failure}");
    }
    if !verdict.failures.is_empty() {
        println!("If this is meant to be: {AGAIN}, and say in the commit why.");
    } else if !verdict.gains.is_empty() {
        println!(
            "{} cost less than recorded: {AGAIN}, so that it stays so.",
            verdict.gains.join(", ")
        );
    }
}

/// Instructions per unit of each case.
fn count() -> anyhow::Result<Vec<(String, u64)>> {
    let this = std::env::current_exe()?;
    let mut cases = Vec::new();
    for (name, times) in work::CASES.iter().map(|case| (case.name, case.times)) {
        let run = |times: u32| valgrind::count(Command::new(&this).args(["work", name, &times.to_string()]));
        cases.push((name.to_owned(), per_unit(times, 1, run).context(name)?));
    }
    let name = "connect";
    let connect = per_unit(connect::TIMES, connect::THREADS, connect::count);
    cases.push((name.to_owned(), connect.context(name)?));
    Ok(cases)
}

/// What a program does once falls out: it runs for few units and for many. So does what its other threads do, which is not
/// more for more units, but for more time: that of the sweeper, of the allocator, of watching files.
fn per_unit(times: u32, threads: usize, run: impl Fn(u32) -> anyhow::Result<Threads>) -> anyhow::Result<u64> {
    let (few, many) = (least(times / 4, &run)?, least(times + times / 4, &run)?);
    let mut growth: Vec<_> = many
        .iter()
        .map(|(thread, count)| count.saturating_sub(few.get(thread).copied().unwrap_or_default()))
        .collect();
    growth.sort_unstable();
    let growth: u64 = growth.iter().rev().take(threads).sum();
    ensure!(growth > 0, "it takes as many instructions for few units as for many");
    Ok(growth / u64::from(times))
}

/// The least of some runs: a hash whose seed falls badly, or one more turn of a timer, only adds.
fn least(times: u32, run: impl Fn(u32) -> anyhow::Result<Threads>) -> anyhow::Result<Threads> {
    let mut least = run(times)?;
    for _ in 1..ROUNDS {
        for (thread, count) in run(times)? {
            let least = least.entry(thread).or_insert(count);
            *least = count.min(*least);
        }
    }
    Ok(least)
}

/// Counts can only be compared where the same compiler made the code, for the same machine.
fn compiler() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let version = text.lines().next().context("rustc says nothing")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(format!("{version} {}", host.context("rustc names no host")?))
}

const ROUNDS: usize = 3;
const BASELINE: &str = "benches/instructions/baseline.txt";
const AGAIN: &str = "record again with `benches/instructions/run record`";
