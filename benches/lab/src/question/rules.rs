//! What do many rules cost: time of `check`, time until the proxy is ready, memory; and each unit of work?
//! Must not count as memory what the proxy needs anyway: a policy of one rule is taken off.
//! Called as `sluicegate-lab rules`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use tokio::time::{Instant, sleep};

use serde_json::json;

use super::growth::{Growth, name, points};
use super::{Answer, bulk, http, roundtrip, tunnel};
use crate::cast::{self, Contender, Kind};
use crate::client::{Entry, Target};
use crate::hello::Wish;
use crate::lab::{Lab, NAMES};
use crate::load::Until;
use crate::process::Cpu;
use crate::report::{Series, fact, mib, row, table};
use crate::rounds::{Effort, Turn, alternate};
use crate::sluicegate::{Sluicegate, write_settings};

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// From few to many.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1000, 100_000])]
    counts: Vec<usize>,
    /// Starts with each policy.
    #[arg(long, default_value_t = 5)]
    starts: usize,
    #[command(flatten)]
    effort: Effort,
}

/// Of one policy.
#[derive(Debug, Default)]
struct Cost {
    /// Seconds of `check`: by the clock, and of CPU time.
    check: Series,
    check_cpu: Series,
    /// Seconds until `run` is ready.
    ready: Series,
    /// MiB, resident: once it is, with what loading has left behind.
    at_once: Series,
    /// The same when that has gone back to the system, and what of it is its own.
    resident: Series,
    own: Series,
    peak: Series,
}

pub(crate) async fn ask(binary: &Path, arguments: Arguments) -> anyhow::Result<Answer> {
    let lab = Lab::start(1000).await?;
    let mut answer = Answer::default();
    answer.starts(&lab, binary, &arguments).await?;
    for unit in [Unit::Tunnel, Unit::Tls, Unit::RoundTrip, Unit::Down, Unit::Http] {
        answer.unit(&lab, binary, &arguments, unit).await?;
    }
    Ok(answer)
}

/// What must cost the same, however many rules there are.
#[derive(Clone, Copy, Debug)]
enum Unit {
    Tunnel,
    Tls,
    RoundTrip,
    Down,
    Http,
}

impl Unit {
    fn growth(self) -> Growth<'static> {
        let (label, unit) = match self {
            Self::Tunnel => ("new CONNECT tunnel", "tunnel"),
            Self::Tls => ("new TLS connection", "tunnel"),
            Self::RoundTrip => ("round trip", "round trip"),
            Self::Down => ("GiB, 8 tunnels", "GiB"),
            Self::Http => ("plain HTTP", "request"),
        };
        Growth {
            label,
            across: "rules",
            unit,
            seconds: matches!(self, Self::Down),
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Tunnel | Self::RoundTrip | Self::Down => Kind::Connect,
            Self::Tls => Kind::Tls,
            Self::Http => Kind::Web,
        }
    }

    async fn turn(
        self,
        lab: &Lab,
        contender: &Contender,
        targets: &Arc<[Target]>,
        until: Until,
    ) -> anyhow::Result<Turn> {
        match self {
            Self::Tunnel | Self::Tls => tunnel::turn(lab, contender, targets, until, AT_ONCE).await,
            Self::RoundTrip => roundtrip::turn(lab, contender, targets, until).await,
            Self::Down => bulk::turn(lab, contender, STREAMS, true, STREAMED).await,
            Self::Http => http::turn(contender, targets, until).await,
        }
    }
}

impl Answer {
    async fn unit(&mut self, lab: &Lab, binary: &Path, arguments: &Arguments, unit: Unit) -> anyhow::Result<()> {
        let effort = arguments.effort;
        let targets = lab.targets(NAMES, Wish::Echo)?;
        let mut contenders = vec![cast::floor(lab, unit.kind())?];
        for count in &arguments.counts {
            let ours = Sluicegate::start(binary, &write_settings(lab, *count)?).await?;
            contenders.push(Contender::variant(lab, name(*count), ours, unit.kind()).await?);
        }
        for contender in &contenders {
            unit.turn(lab, contender, &targets, Effort::warm_up()).await?;
        }
        let growth = unit.growth();
        let notes = alternate(growth.label, &contenders, effort.rounds(), async |contender| {
            unit.turn(lab, contender, &targets, effort.turn()).await
        })
        .await?;
        self.flat(growth, &points(&arguments.counts, notes));
        for contender in &contenders {
            self.missed.extend(contender.settle(2).await?);
        }
        Ok(())
    }

    /// What starting with them costs.
    async fn starts(&mut self, lab: &Lab, binary: &Path, arguments: &Arguments) -> anyhow::Result<()> {
        let mut sizes = vec![1];
        sizes.extend(&arguments.counts);
        let mut costs: Vec<_> = sizes.iter().map(|_| Cost::default()).collect();
        let rounds = if arguments.effort.quick { 2 } else { arguments.starts };
        fact("starts", &rounds.to_string());
        println!("\nround rules check_s check_cpu_s ready_s at_once_MiB resident_MiB own_MiB peak_MiB");
        for round in 1..=rounds {
            for (rules, cost) in sizes.iter().zip(&mut costs) {
                let settings = write_settings(lab, *rules)?;
                let said = cost.measure(lab, binary, &settings).await?;
                println!("{round} {rules} {said}");
            }
        }
        let mut rows = vec![row([
            "rules",
            "check, s",
            "its CPU time, s",
            "ready after, s",
            "MiB at once",
            &format!("MiB {} s later", SETTLED.as_secs()),
            "of that own",
            "peak MiB",
        ])];
        for (rules, cost) in sizes.iter().zip(&costs) {
            rows.push(row([
                &rules.to_string(),
                &cost.check.range(2),
                &cost.check_cpu.range(2),
                &cost.ready.range(2),
                &cost.at_once.range(1),
                &cost.resident.range(1),
                &cost.own.range(1),
                &cost.peak.range(1),
            ]));
        }
        table(&rows);
        let (Some(tiny), Some(large)) = (costs.first(), costs.last()) else {
            anyhow::bail!("no rules")
        };
        let of_rules = |of: fn(&Cost) -> &Series| of(large).median() - of(tiny).median();
        let memory = of_rules(|cost| &cost.resident);
        let at_once = of_rules(|cost| &cost.at_once);
        let peak = of_rules(|cost| &cost.peak);
        fact(
            "memory of the rules",
            &format!(
                "{memory:.1} MiB; {at_once:.1} MiB as soon as it is ready, while they are loaded at most {peak:.1} MiB"
            ),
        );
        let data: Vec<_> = sizes
            .iter()
            .zip(&costs)
            .map(|(rules, cost)| {
                json!({
                    "count": rules,
                    "check": cost.check.json(),
                    "check_cpu": cost.check_cpu.json(),
                    "ready": cost.ready.json(),
                    "at_once": cost.at_once.json(),
                    "resident": cost.resident.json(),
                    "own": cost.own.json(),
                    "peak": cost.peak.json(),
                })
            })
            .collect();
        self.data
            .push(json!({"label": "starting with many rules", "unit": "s and MiB", "starts": data}));
        let missed = &mut self.missed;
        for (rules, cost) in sizes.iter().zip(&costs) {
            let ready = cost.ready.median();
            if *rules == READY_RULES && ready >= MOST_READY {
                missed.push(format!(
                    "ready after {ready:.3} s with {rules} rules; less than {MOST_READY} s"
                ));
            }
        }
        if large.check.median() >= MOST_SECONDS {
            missed.push(format!(
                "check takes {:.2} s; less than {MOST_SECONDS} s",
                large.check.median()
            ));
        }
        if memory >= MOST_MEMORY {
            missed.push(format!("the rules take {memory:.1} MiB; less than {MOST_MEMORY} MiB"));
        }
        Ok(())
    }
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
        let ready_with = proxy.process.memory()?;
        sleep(SETTLED).await;
        let memory = proxy.process.memory()?;
        let at_once = mib(ready_with.resident);
        let [resident, own, peak] = [memory.resident, memory.own, memory.peak].map(mib);
        self.check.push(check);
        self.check_cpu.push(check_cpu);
        self.ready.push(ready);
        self.at_once.push(at_once);
        self.resident.push(resident);
        self.own.push(own);
        self.peak.push(peak);
        Ok(format!(
            "{check:.3} {check_cpu:.2} {ready:.3} {at_once:.1} {resident:.1} {own:.1} {peak:.1}"
        ))
    }
}

/// `check`, by the clock, with 100,000 rules.
const MOST_SECONDS: f64 = 0.5;
/// What the allocator keeps of freed memory has gone back by then: it begins after a second (`.cargo/config.toml`).
const SETTLED: Duration = Duration::from_secs(3);
/// Resident MiB of 100,000 rules, by then.
const MOST_MEMORY: f64 = 40.0;
/// Seconds until it is ready, with so many rules.
const MOST_READY: f64 = 0.1;
const READY_RULES: usize = 1000;
const AT_ONCE: usize = 32;
const STREAMS: u32 = 8;
/// MiB of a turn.
const STREAMED: u32 = 512;
