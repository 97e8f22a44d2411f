//! How long does a ping take on one tunnel while others stream as fast as they can?
//! Must ping from a thread of its own to another: what the lab itself makes wait is seen in the direct connection.
//! Called as `sluicegate-lab fairness`.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use clap::Args;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_blocking};

use super::Answer;
use crate::cast::{Contender, Kind, cast};
use crate::hello::Wish;
use crate::lab::{Lab, NAMES};
use crate::load::{self, Times};
use crate::origin::GO;
use crate::report::{Series, fact, row, table};
use crate::rounds::Effort;

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    effort: Effort,
    #[arg(long, default_value_t = 32)]
    streams: usize,
    /// In one turn, one every five milliseconds; fewer where they take more than ten seconds together.
    #[arg(long, default_value_t = 500)]
    pings: usize,
}

/// All turns of one contender, in milliseconds.
#[derive(Debug, Default)]
struct Waits {
    p50: Series,
    p99: Series,
    longest: Series,
    /// GiB/s of the streams meanwhile.
    rate: Series,
}

pub(crate) async fn ask(binary: &Path, arguments: Arguments) -> anyhow::Result<Answer> {
    let lab = Lab::start(1000).await?;
    let mut contenders = vec![Contender::direct(&lab)];
    contenders.extend(cast(&lab, binary, Kind::Connect, arguments.effort.rules).await?);
    let pings = if arguments.effort.quick {
        arguments.pings / 3
    } else {
        arguments.pings
    };
    fact(
        "a turn",
        &format!("{pings} pings beside {} streams down", arguments.streams),
    );
    let mut waits: Vec<_> = contenders.iter().map(|_| Waits::default()).collect();
    println!("\nround proxy p50_ms p99_ms max_ms GiB_per_s");
    for round in 0..arguments.effort.rounds() {
        for step in 0..contenders.len() {
            let next = (round + step) % contenders.len();
            if let (Some(contender), Some(waits)) = (contenders.get(next), waits.get_mut(next)) {
                let (times, rate) = turn(&lab, contender, arguments.streams, pings).await?;
                println!("{} {} {}", round + 1, contender.name, waits.note(times, rate));
            }
        }
    }
    let mut answer = Answer::default();
    answer.waits(&contenders, &waits);
    for contender in &contenders {
        answer.missed.extend(contender.settle(2).await?);
    }
    Ok(answer)
}

impl Answer {
    fn waits(&mut self, contenders: &[Contender], waits: &[Waits]) {
        let mut rows = vec![row([
            "ping beside streams, median (range)",
            "p50 ms",
            "p99 ms",
            "longest ms",
            "streams, GiB/s",
        ])];
        let mut data = Vec::new();
        for (contender, waits) in contenders.iter().zip(waits) {
            rows.push(row([
                contender.name,
                &waits.p50.range(2),
                &waits.p99.range(2),
                &waits.longest.range(1),
                &waits.rate.range(2),
            ]));
            data.push(json!({
                "name": contender.name,
                "p50": waits.p50.json(),
                "p99": waits.p99.json(),
                "max": waits.longest.json(),
                "rate": waits.rate.json(),
            }));
            if contender.sluicegate().is_some() && waits.p99.median() >= MOST {
                self.missed.push(format!(
                    "p99 of a ping beside streams is {:.2} ms; less than {MOST}",
                    waits.p99.median()
                ));
            }
        }
        table(&rows);
        self.data
            .push(json!({"label": "ping beside streams", "unit": "ms", "at_most": MOST, "rows": data}));
    }
}

impl Waits {
    fn note(&mut self, mut times: Times, rate: f64) -> String {
        let [p50, p99, longest] = [times.percentile(50), times.percentile(99), times.longest()].map(|us| us / 1e3);
        self.p50.push(p50);
        self.p99.push(p99);
        self.longest.push(longest);
        self.rate.push(rate);
        format!("{p50:.2} {p99:.2} {longest:.2} {rate:.2}")
    }
}

/// The pings of one turn, and how fast the streams were meanwhile.
async fn turn(lab: &Lab, contender: &Contender, streams: usize, pings: usize) -> anyhow::Result<(Times, f64)> {
    let ping = load::open(contender.entry, &lab.targets(1, Wish::Alone)?, 1, 1).await?;
    let targets = lab.targets(NAMES, Wish::Down(u64::MAX))?;
    let open = load::open(contender.entry, &targets, streams, streams).await?;
    contender.has_served(1 + streams);
    let received = Arc::new(AtomicU64::new(0));
    let mut streaming = JoinSet::new();
    for stream in open {
        streaming.spawn(stream_down(stream, Arc::clone(&received)));
    }
    // All of them at full speed.
    tokio::time::sleep(BEFORE).await;
    let (started, before) = (Instant::now(), received.load(Ordering::Relaxed));
    let Some(ping) = ping.into_iter().next() else {
        bail!("no tunnel for the ping")
    };
    let ping = ping.into_std()?;
    ping.set_nonblocking(false)?;
    let times = tokio::select! {
        times = spawn_blocking(move || ping_alone(ping, pings)) => times??,
        Some(ended) = streaming.join_next() => {
            ended??;
            bail!("a stream has ended")
        }
    };
    let moved = received.load(Ordering::Relaxed) - before;
    let rate = gib(moved) / started.elapsed().as_secs_f64();
    ensure!(moved > 0, "nothing was streamed");
    streaming.shutdown().await;
    lab.origin.wait_open(0).await?;
    Ok((times, rate))
}

async fn stream_down(mut stream: TcpStream, received: Arc<AtomicU64>) -> anyhow::Result<()> {
    stream.write_all(&[GO]).await?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        received.fetch_add(read as u64, Ordering::Relaxed);
    }
}

#[expect(clippy::disallowed_methods, reason = "the pace of the pings; it waits for nothing")]
fn ping_alone(mut stream: std::net::TcpStream, pings: usize) -> anyhow::Result<Times> {
    let mut times = Times::default();
    let mut back = [0];
    let first = Instant::now();
    for _ in 0..pings {
        if first.elapsed() > LONGEST {
            break;
        }
        std::thread::sleep(EVERY);
        let started = Instant::now();
        stream.write_all(&[0x42])?;
        stream.read_exact(&mut back)?;
        times.note(started.elapsed());
    }
    Ok(times)
}

fn gib(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^52")]
    let bytes = bytes as f64;
    bytes / f64::from(1 << 30)
}

/// Milliseconds of the p99.
const MOST: f64 = 5.0;
const BEFORE: Duration = Duration::from_millis(300);
/// The floor lets a ping wait for a tenth of a second.
const LONGEST: Duration = Duration::from_secs(10);
const EVERY: Duration = Duration::from_millis(5);
const BUFFER: usize = 256 * 1024;
