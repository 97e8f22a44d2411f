//! Measures the real binary: memory of idle tunnels, CPU time of a CONNECT beside peers, memory and time of many rules.
//! Must not be built into the proxy or share its process; it is the origin, the DNS server and the clients.
//! Called by `benches/run`, or as `sluicegate-lab --binary PATH connect`.

#![allow(clippy::print_stdout, reason = "the numbers are the purpose")]

mod client;
mod connect;
mod dns;
mod hello;
mod lab;
mod origin;
mod peers;
mod process;
mod reload;
mod report;
mod rest;
mod rules;
mod sluicegate;
mod sources;
mod tunnels;
mod turns;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
struct Arguments {
    /// The proxy to measure, from `cargo build --release`. What cargo builds beside tests has features of theirs.
    #[arg(long)]
    binary: PathBuf,
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// What does an idle tunnel cost in memory?
    Tunnels(tunnels::Arguments),
    /// What does a CONNECT cost in CPU time, beside squid and tinyproxy?
    Connect(connect::Arguments),
    /// What does the proxy take in memory when it only waits?
    Rest(rest::Arguments),
    /// Does a new tunnel wait while a large policy is loaded?
    Reload(reload::Arguments),
    /// What do many clients cost?
    Sources(sources::Arguments),
    /// What do many rules cost in memory and at start?
    Rules(rules::Arguments),
}

/// 0: all targets are met; 1: one is missed; 2: it could not be measured.
#[tokio::main]
async fn main() -> ExitCode {
    // A proxy ends with the value that started it, so leaving early must drop that too.
    let measured = tokio::select! {
        measured = measure(Arguments::parse()) => measured,
        told = told_to_stop() => told,
    };
    match measured {
        Ok(missed) if missed.is_empty() => ExitCode::SUCCESS,
        Ok(missed) => {
            for target in &missed {
                println!("MISSED: {target}");
            }
            ExitCode::from(1)
        }
        Err(error) => {
            println!("NOT MEASURED: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn told_to_stop<T>() -> anyhow::Result<T> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    anyhow::bail!("told to stop")
}

/// The targets that are missed.
async fn measure(arguments: Arguments) -> anyhow::Result<Vec<String>> {
    let binary = arguments
        .binary
        .canonicalize()
        .with_context(|| format!("{} (cargo build --release makes it)", arguments.binary.display()))?;
    report::machine()?;
    let missed = match arguments.question {
        Question::Tunnels(arguments) => tunnels::measure(&binary, &arguments).await?,
        Question::Connect(arguments) => connect::measure(&binary, &arguments).await?,
        Question::Rest(arguments) => rest::measure(&binary, &arguments).await?,
        Question::Reload(arguments) => reload::measure(&binary, &arguments).await?,
        Question::Sources(arguments) => sources::measure(&binary, &arguments).await?,
        Question::Rules(arguments) => rules::measure(&binary, &arguments).await?,
    };
    report::machine_now()?;
    Ok(missed)
}
