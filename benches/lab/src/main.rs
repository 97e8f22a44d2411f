//! The measuring lab: what does the real binary cost, beside its peers and beside a relay that does nothing else?
//! Must not be built into the proxy or share its process; it is the origin, the DNS server and the clients.
//! Called by `benches/run`, or as `benches/isolated sluicegate-lab --binary PATH connect`.

#![allow(clippy::print_stdout, reason = "the numbers are the purpose")]

mod cast;
mod client;
mod dns;
mod draw;
mod floor;
mod group;
mod hello;
mod lab;
mod load;
mod origin;
mod peers;
mod picture;
mod process;
mod question;
mod report;
mod rounds;
mod sizing;
mod sluicegate;
mod stream;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use question::{bulk, fairness, http, idle, latency, reload, rest, roundtrip, rules, sources, tunnel, tunnels};
use rounds::Effort;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
struct Arguments {
    /// The proxy to measure, from `cargo build --release`. What cargo builds beside tests has features of theirs.
    #[arg(long, default_value = "target/release/sluicegate")]
    binary: PathBuf,
    /// Where the numbers go that are printed, for whoever draws them.
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Not a question: the relay that is no more than a relay.
    #[command(hide = true)]
    Floor(floor::Arguments),
    /// What does a new CONNECT tunnel cost?
    Connect(Effort),
    /// What does a new connection of transparent TLS cost?
    Tls(Effort),
    /// How much later does the first answer come?
    Latency(Effort),
    /// What does a round trip cost on an open tunnel?
    Roundtrip(Effort),
    /// What does a GiB cost?
    Bulk(bulk::Arguments),
    /// What does a page cost that is asked for by plain HTTP?
    Http(Effort),
    /// What does an idle tunnel cost in memory?
    Idle(idle::Arguments),
    /// What do many rules cost, at start and afterwards?
    Rules(rules::Arguments),
    /// What does a new tunnel cost while others are open?
    Tunnels(tunnels::Arguments),
    /// What do many clients cost?
    Sources(sources::Arguments),
    /// Does a new tunnel wait while a large policy is loaded?
    Reload(reload::Arguments),
    /// Does a ping wait while others stream?
    Fairness(fairness::Arguments),
    /// What does the proxy take in memory when it only waits?
    Rest(rest::Arguments),
    /// Not a question: draws pictures of the answers.
    Draw(draw::Arguments),
    /// Not a question: what a deployment needs, by the answers.
    Sizing(sizing::Arguments),
}

/// 0: all targets are met; 1: one is missed; 2: it could not be measured.
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.question {
        // Without a runtime: it would only stand beside.
        Question::Floor(arguments) => floor::run(arguments).map(|()| Vec::new()),
        Question::Draw(arguments) => draw::run(arguments).map(|()| Vec::new()),
        Question::Sizing(arguments) => sizing::run(arguments),
        _ => ask(arguments),
    };
    match done {
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

#[tokio::main]
async fn ask(arguments: Arguments) -> anyhow::Result<Vec<String>> {
    // A proxy ends with the value that started it, so leaving early must drop that too.
    tokio::select! {
        measured = measure(arguments) => measured,
        told = told_to_stop() => told,
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
    let answer = match arguments.question {
        Question::Floor(_) => anyhow::bail!("the floor asks nothing"),
        Question::Connect(effort) => tunnel::connect(&binary, effort).await?,
        Question::Tls(effort) => tunnel::tls(&binary, effort).await?,
        Question::Latency(effort) => latency::ask(&binary, effort).await?,
        Question::Roundtrip(effort) => roundtrip::ask(&binary, effort).await?,
        Question::Bulk(arguments) => bulk::ask(&binary, arguments).await?,
        Question::Http(effort) => http::ask(&binary, effort).await?,
        Question::Idle(arguments) => idle::ask(&binary, arguments).await?,
        Question::Draw(_) | Question::Sizing(_) => anyhow::bail!("this asks nothing"),
        Question::Rules(arguments) => rules::ask(&binary, arguments).await?,
        Question::Tunnels(arguments) => tunnels::ask(&binary, arguments).await?,
        Question::Sources(arguments) => sources::ask(&binary, arguments).await?,
        Question::Reload(arguments) => reload::ask(&binary, arguments).await?,
        Question::Fairness(arguments) => fairness::ask(&binary, arguments).await?,
        Question::Rest(arguments) => rest::ask(&binary, arguments).await?,
    };
    report::machine_now()?;
    if let Some(path) = arguments.json {
        let missed = &answer.missed;
        let text = serde_json::to_string(&json!({"tables": answer.data, "missed": missed}))?;
        fs::write(&path, text + "\n").with_context(|| path.display().to_string())?;
    }
    Ok(answer.missed)
}
