//! What do many rules cost: time of `check`, time until the proxy is ready, memory?
//! Must not count what the proxy needs anyway: a policy of one rule is taken off.
//! Called as `sluicegate-lab rules`.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::ensure;
use clap::Args;
use tokio::time::Instant;

use super::Answer;
use crate::client::Entry;
use crate::hello::Wish;
use crate::lab::{Lab, NAMES};
use crate::process::Cpu;
use crate::report::{Series, fact, mib, row, table};
use crate::sluicegate::{Sluicegate, write_settings};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 100_000)]
    rules: usize,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Two rounds.
    #[arg(long)]
    quick: bool,
}

/// Of one policy.
#[derive(Debug, Default)]
struct Cost {
    /// Seconds of `check`: by the clock, and of CPU time.
    check: Series,
    check_cpu: Series,
    /// Seconds until `run` is ready.
    ready: Series,
    /// MiB once it is.
    own: Series,
    resident: Series,
    peak: Series,
}

pub(crate) async fn ask(binary: &Path, arguments: Arguments) -> anyhow::Result<Answer> {
    let lab = Lab::start(1).await?;
    let sizes = [1, arguments.rules];
    let mut costs = [Cost::default(), Cost::default()];
    let rounds = if arguments.quick { 2 } else { arguments.rounds };
    fact("rounds", &rounds.to_string());
    println!("\nround rules check_s check_cpu_s ready_s own_MiB resident_MiB peak_MiB");
    for round in 1..=rounds {
        for (rules, cost) in sizes.into_iter().zip(&mut costs) {
            let settings = write_settings(&lab, rules)?;
            let said = cost.measure(&lab, binary, &settings).await?;
            println!("{round} {rules} {said}");
        }
    }
    let mut rows = vec![row([
        "rules",
        "check, s",
        "its CPU time, s",
        "ready after, s",
        "own MiB",
        "resident MiB",
        "peak MiB",
    ])];
    for (rules, cost) in sizes.iter().zip(&costs) {
        rows.push(row([
            &rules.to_string(),
            &cost.check.range(2),
            &cost.check_cpu.range(2),
            &cost.ready.range(2),
            &cost.own.range(1),
            &cost.resident.range(1),
            &cost.peak.range(1),
        ]));
    }
    table(&rows);
    let [tiny, large] = &costs;
    let memory = large.resident.median() - tiny.resident.median();
    let peak = large.peak.median() - tiny.peak.median();
    fact(
        "memory of the rules",
        &format!("{memory:.1} MiB, while they are loaded at most {peak:.1} MiB"),
    );
    let mut missed = Vec::new();
    if large.check.median() >= MOST_SECONDS {
        missed.push(format!(
            "check takes {:.2} s; less than {MOST_SECONDS} s",
            large.check.median()
        ));
    }
    if memory >= MOST_MEMORY {
        missed.push(format!("the rules take {memory:.1} MiB; less than {MOST_MEMORY} MiB"));
    }
    Ok(missed.into())
}

impl Cost {
    async fn measure(&mut self, lab: &Lab, binary: &Path, settings: &Path) -> anyhow::Result<String> {
        let before = Cpu::of_ended_children()?;
        let started = Instant::now();
        let output = Command::new(binary)
            .args(["check", "-c"])
            .arg(settings)
            .stdin(Stdio::null())
            .output()?;
        let check = started.elapsed().as_secs_f64();
        let check_cpu = Cpu::of_ended_children()?.since(before).total().as_secs_f64();
        ensure!(
            output.status.success(),
            "check refuses the policy:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );

        let started = Instant::now();
        let proxy = Sluicegate::start(binary, settings).await?;
        let ready = started.elapsed().as_secs_f64();
        // The policy is the one in force: it lets us through.
        for target in lab.targets(NAMES, Wish::Echo)?.iter() {
            target.open(Entry::Connect(proxy.proxy)).await?;
        }
        let memory = proxy.process.memory()?;
        let [own, resident, peak] = [memory.own, memory.resident, memory.peak].map(mib);
        self.check.push(check);
        self.check_cpu.push(check_cpu);
        self.ready.push(ready);
        self.own.push(own);
        self.resident.push(resident);
        self.peak.push(peak);
        Ok(format!(
            "{check:.3} {check_cpu:.2} {ready:.3} {own:.1} {resident:.1} {peak:.1}"
        ))
    }
}

/// `check`, by the clock, with 100,000 rules.
const MOST_SECONDS: f64 = 1.0;
/// Resident MiB of 100,000 rules.
const MOST_MEMORY: f64 = 64.0;
