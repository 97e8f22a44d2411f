//! Does a new tunnel wait longer while a large policy is loaded again and again, and does its memory come back?
//! Must open tunnels at a steady pace, well below what the machine can do: a wait is counted from when it was due.
//! Called as `sluicegate-lab reload`.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::json;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::Answer;
use super::growth::NOISE;
use crate::client::{Entry, Target};
use crate::hello::Wish;
use crate::lab::{Lab, NAMES};
use crate::load::Times;
use crate::report::{Series, fact, mib, row, table};
use crate::sluicegate::{Sluicegate, policy_file, policy_text, write_settings};

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Arguments {
    /// Each round is a turn without reloads and one with them.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    #[arg(long, default_value_t = 100_000)]
    rules: usize,
    /// New tunnels per second.
    #[arg(long, default_value_t = 500)]
    pace: u32,
    /// Tunnels in one turn.
    #[arg(long, default_value_t = 3000)]
    tunnels: usize,
    /// Three rounds of a third.
    #[arg(long)]
    quick: bool,
}

/// Turns of one kind, in milliseconds.
#[derive(Debug, Default)]
struct Waits {
    median: Series,
    p99: Series,
    longest: Series,
}

pub(crate) async fn ask(binary: &Path, mut arguments: Arguments) -> anyhow::Result<Answer> {
    if arguments.quick {
        (arguments.rounds, arguments.tunnels) = (3, 1000);
    }
    let lab = Lab::start(arguments.tunnels).await?;
    let targets = lab.targets(NAMES, Wish::Echo)?;
    let settings = write_settings(&lab, arguments.rules)?;
    let proxy = Sluicegate::start(binary, &settings).await?;
    let policy = Reloads::new(&lab, arguments.rules);
    fact("rules", &arguments.rules.to_string());
    fact(
        "a turn",
        &format!("{} tunnels, {} per second", arguments.tunnels, arguments.pace),
    );

    let (mut calm, mut busy) = (Waits::default(), Waits::default());
    let mut reloads = Series::default();
    turn(&lab, &proxy, &targets, arguments).await?;
    let before = proxy.process.memory()?;
    println!("\nround kind p50_ms p99_ms max_ms reloads");
    for round in 0..arguments.rounds {
        for turn_of_two in 0..2 {
            if (round + turn_of_two) % 2 == 0 {
                let mut waits = turn(&lab, &proxy, &targets, arguments).await?;
                println!("{} calm {}", round + 1, calm.note(&mut waits));
            } else {
                let (mut waits, count) = tokio::try_join!(
                    async {
                        let waits = turn(&lab, &proxy, &targets, arguments).await;
                        policy.stop();
                        waits
                    },
                    policy.again_and_again(&proxy)
                )?;
                println!("{} reloading {} {count}", round + 1, busy.note(&mut waits));
                ensure!(count > 0, "nothing was reloaded: make the turn longer");
                reloads.push(f64::from(count));
            }
        }
    }
    proxy.wait_metric("sluicegate_open_tunnels", "", 0).await?;
    sleep(REST).await;
    let after = proxy.process.memory()?;

    let mut rows = vec![row([
        "ms until a new tunnel answers, median (range)",
        "p50",
        "p99",
        "longest",
    ])];
    for (name, waits) in [("without reloads", &calm), ("while reloading", &busy)] {
        rows.push(row([
            name,
            &waits.median.range(2),
            &waits.p99.range(2),
            &waits.longest.range(1),
        ]));
    }
    table(&rows);
    fact("reloads in a turn", &reloads.range(0));
    fact(
        "memory",
        &format!(
            "{:.1} MiB before, {:.1} MiB after, {:.1} MiB at most",
            mib(before.resident),
            mib(after.resident),
            mib(after.peak)
        ),
    );

    let mut missed = Vec::new();
    let most = (calm.p99.median() * NOISE).max(calm.p99.highest());
    if busy.p99.median() > most {
        missed.push(format!(
            "p99 of new tunnels is {:.2} ms while reloading; within the noise of those without, {most:.2} ms",
            busy.p99.median()
        ));
    }
    let most = mib(before.resident) * NOISE;
    if mib(after.resident) > most {
        missed.push(format!(
            "{:.1} MiB resident after all reloads; at most {most:.1}, as before",
            mib(after.resident)
        ));
    }
    let told =
        |waits: &Waits| json!({"p50": waits.median.json(), "p99": waits.p99.json(), "max": waits.longest.json()});
    let data = json!({
        "label": "new tunnels while a policy is loaded again and again",
        "unit": "ms",
        "calm": told(&calm),
        "reloading": told(&busy),
        "reloads": reloads.json(),
        "memory": {"before": mib(before.resident), "after": mib(after.resident), "peak": mib(after.peak)},
    });
    Ok(Answer {
        data: vec![data],
        missed,
    })
}

/// How long each tunnel took from when it was due to its first answer.
async fn turn(lab: &Lab, proxy: &Sluicegate, targets: &Arc<[Target]>, arguments: Arguments) -> anyhow::Result<Times> {
    let mut due = interval(Duration::from_secs(1) / arguments.pace);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut opened = JoinSet::new();
    for number in 0..arguments.tunnels {
        let (targets, entry) = (Arc::clone(targets), Entry::Connect(proxy.proxy));
        let due = due.tick().await;
        opened.spawn(async move {
            let target = targets.get(number % targets.len()).context("no targets")?;
            target.open(entry).await?;
            anyhow::Ok(due.elapsed())
        });
    }
    let mut waits = Times::default();
    while let Some(waited) = opened.join_next().await {
        waits.note(waited??);
    }
    lab.origin.wait_open(0).await?;
    Ok(waits)
}

impl Waits {
    fn note(&mut self, times: &mut Times) -> String {
        let [median, p99, longest] = [times.percentile(50), times.percentile(99), times.longest()].map(|us| us / 1e3);
        self.median.push(median);
        self.p99.push(p99);
        self.longest.push(longest);
        format!("{median:.2} {p99:.2} {longest:.1}")
    }
}

/// Writes the policy as an editor or a kubelet does: a new file in the old one's place, never the same text twice.
#[derive(Debug)]
struct Reloads {
    policy: PathBuf,
    next: PathBuf,
    text: Arc<str>,
    stopped: std::cell::Cell<bool>,
}

impl Reloads {
    fn new(lab: &Lab, rules: usize) -> Self {
        let policy = policy_file(lab, &rules.to_string());
        Self {
            // Not in the watched directory, but on the same file system.
            next: lab.dir.path().join("next.yaml"),
            text: policy_text(rules, &lab.origin).into(),
            policy,
            stopped: false.into(),
        }
    }

    fn stop(&self) {
        self.stopped.set(true);
    }

    /// One reload after the other, each as soon as the one before is in force; how many there were.
    async fn again_and_again(&self, proxy: &Sluicegate) -> anyhow::Result<u32> {
        self.stopped.set(false);
        let mut count = 0;
        while !self.stopped.get() {
            let before = proxy.metric("sluicegate_policy_generation", "").await?;
            let (next, policy, text) = (self.next.clone(), self.policy.clone(), Arc::clone(&self.text));
            // Not in the thread that opens tunnels when they are due: it takes milliseconds.
            let written = spawn_blocking(move || {
                let mut file = BufWriter::new(File::create(&next)?);
                write!(file, "# {before}\n{text}")?;
                file.into_inner()?;
                fs::rename(&next, &policy)
            });
            written.await??;
            let deadline = Instant::now() + PATIENCE;
            while proxy.metric("sluicegate_policy_generation", "").await? <= before {
                ensure!(Instant::now() < deadline, "the policy is not loaded again");
                sleep(AGAIN).await;
            }
            count += 1;
        }
        Ok(count)
    }
}

/// After the last reload, until memory is looked at.
const REST: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_mins(1);
const AGAIN: Duration = Duration::from_millis(20);
