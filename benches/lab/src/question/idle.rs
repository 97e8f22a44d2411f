//! What does an open tunnel cost in memory through which nothing goes, and what is left of it, and of a burst, afterwards?
//! Must count what the proxy keeps (`RssAnon`), not what the kernel keeps for the sockets.
//! Called as `sluicegate-lab idle`.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::Answer;
use crate::cast::{Contender, Kind, cast};
use crate::hello::Wish;
use crate::lab::{Lab, NAMES};
use crate::load::{self, Until};
use crate::report::{row, table};

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Arguments {
    /// Open at the same time; two descriptors each.
    #[arg(long, default_value_t = 9000)]
    tunnels: usize,
    /// Streams of the burst, all at once.
    #[arg(long, default_value_t = 1000)]
    burst: usize,
    /// MiB in each of them.
    #[arg(long, default_value_t = 2)]
    mib: u64,
    #[arg(long, default_value_t = 1000)]
    rules: usize,
    /// A ninth of the tunnels, a tenth of the burst.
    #[arg(long)]
    quick: bool,
}

/// Own memory of one proxy, in KiB.
struct Kept {
    per_tunnel: f64,
    before: u64,
    open: u64,
    closed: u64,
}

/// Own memory of one proxy that has never seen anything else than a burst, in KiB.
struct Burst {
    before: u64,
    after: u64,
    /// When it had come down to that.
    settled: Duration,
}

pub(crate) async fn ask(binary: &Path, mut arguments: Arguments) -> anyhow::Result<Answer> {
    if arguments.quick {
        arguments.tunnels /= 9;
        arguments.burst /= 10;
    }
    let tunnels = arguments.tunnels;
    let lab = Lab::start(tunnels).await?;
    let mut answer = Answer::default();
    for (kind, through) in [(Kind::Connect, "CONNECT tunnels"), (Kind::Tls, "TLS connections")] {
        let label = format!("own memory, {tunnels} idle {through}");
        let head = format!("{label}, KiB");
        let mut rows = vec![row([
            &head,
            "each",
            "at first",
            "all open",
            "all closed",
            "fresh, after a burst",
            "more than before it",
            "settled after",
        ])];
        let mut data = Vec::new();
        let fresh = cast(&lab, binary, kind, arguments.rules).await?;
        let contenders = cast(&lab, binary, kind, arguments.rules).await?;
        for (contender, fresh) in contenders.iter().zip(&fresh) {
            let kept = Kept::measure(&lab, contender, arguments).await?;
            let burst = Burst::measure(&lab, fresh, arguments).await?;
            let more = burst.after.saturating_sub(burst.before);
            rows.push(row([
                contender.name,
                &format!("{:.2}", kept.per_tunnel),
                &kept.before.to_string(),
                &kept.open.to_string(),
                &kept.closed.to_string(),
                &burst.after.to_string(),
                &more.to_string(),
                &format!("{:.1} s", burst.settled.as_secs_f64()),
            ]));
            data.push(json!({
                "name": contender.name,
                "per_tunnel": kept.per_tunnel,
                "before": kept.before,
                "open": kept.open,
                "closed": kept.closed,
                "burst_before": burst.before,
                "burst_after": burst.after,
            }));
            answer.missed.extend(contender.settle(2).await?);
            answer.missed.extend(fresh.settle(2).await?);
            if contender.sluicegate().is_some() {
                if kept.per_tunnel > MOST_EACH {
                    let each = kept.per_tunnel;
                    answer
                        .missed
                        .push(format!("{label}: {each:.2} KiB each; at most {MOST_EACH}"));
                }
                if more > MOST_LEFT {
                    answer.missed.push(format!(
                        "{label}: {more} KiB are left of a burst of {}; at most {MOST_LEFT}",
                        arguments.burst
                    ));
                }
            }
        }
        table(&rows);
        answer
            .data
            .push(json!({"label": label, "unit": "KiB", "at_most": MOST_EACH, "rows": data}));
    }
    Ok(answer)
}

impl Kept {
    async fn measure(lab: &Lab, contender: &Contender, arguments: Arguments) -> anyhow::Result<Self> {
        let before = at_rest(lab, contender).await?;
        let targets = lab.targets(NAMES, Wish::Echo)?;
        let rest = load::open(contender.entry, &targets, arguments.tunnels, AT_ONCE).await?;
        contender.has_served(rest.len());
        // One echo each, while all others are idle.
        let mut idle = Vec::new();
        for tunnel in rest {
            let (_, tunnel) = load::echoes(vec![tunnel], ECHO, Until::Count(1)).await?;
            idle.extend(tunnel);
        }
        lab.origin.wait_open(arguments.tunnels).await?;
        let open = contender.memory()?.own;
        drop(idle);
        lab.origin.wait_open(0).await?;
        let (closed, _) = settled(contender).await?;
        Ok(Self {
            per_tunnel: kib(open.saturating_sub(before)) / kib(u64::try_from(arguments.tunnels)?),
            before,
            open,
            closed,
        })
    }
}

impl Burst {
    async fn measure(lab: &Lab, contender: &Contender, arguments: Arguments) -> anyhow::Result<Self> {
        let before = at_rest(lab, contender).await?;
        let length = arguments.mib << 20;
        let targets = lab.targets(NAMES, Wish::Down(length))?;
        let tunnels = load::open(contender.entry, &targets, arguments.burst, AT_ONCE).await?;
        contender.has_served(tunnels.len());
        drop(load::streams(tunnels, length, true).await?);
        lab.origin.wait_open(0).await?;
        let (after, settled) = settled(contender).await?;
        Ok(Self { before, after, settled })
    }
}

/// Own memory, once each name has been asked for.
async fn at_rest(lab: &Lab, contender: &Contender) -> anyhow::Result<u64> {
    let targets = lab.targets(NAMES, Wish::Echo)?;
    drop(load::open(contender.entry, &targets, NAMES, 1).await?);
    contender.has_served(NAMES);
    lab.origin.wait_open(0).await?;
    Ok(contender.memory()?.own)
}

/// The least that it comes down to, and when.
async fn settled(contender: &Contender) -> anyhow::Result<(u64, Duration)> {
    let started = Instant::now();
    let (mut least, mut when) = (contender.memory()?.own, Duration::ZERO);
    while started.elapsed() < SETTLING {
        sleep(AGAIN).await;
        let now = contender.memory()?.own;
        if now < least {
            (least, when) = (now, started.elapsed());
        }
    }
    Ok((least, when))
}

fn kib(value: u64) -> f64 {
    // Far below 2^52.
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^52")]
    let value = value as f64;
    value
}

const ECHO: usize = 500;
const AT_ONCE: usize = 32;
/// KiB of own memory per idle tunnel.
const MOST_EACH: f64 = 2.5;
/// KiB that may be left of a burst.
const MOST_LEFT: u64 = 1024;
const SETTLING: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(100);
