//! One turn of work through one entry: so many at once, until the time is up; what each took.
//! Must do the same whoever is measured, and count only what is whole.
//! Called by the questions.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::client::{Entry, Pages, Target};
use crate::origin::GO;
use crate::stream;

/// When a turn ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Time(Duration),
    Count(usize),
    /// Whichever comes first.
    Either(Duration, usize),
}

/// How long each unit of a turn took, in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<u32>);

impl Times {
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// In microseconds; `percent` is 50 or 99.
    pub(crate) fn percentile(&mut self, percent: usize) -> f64 {
        self.0.sort_unstable();
        let at = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        f64::from(self.0.get(at).copied().unwrap_or_default()) / 1e3
    }

    /// The longest, in microseconds.
    pub(crate) fn longest(&self) -> f64 {
        f64::from(self.0.iter().copied().max().unwrap_or_default()) / 1e3
    }

    pub(crate) fn note(&mut self, took: Duration) {
        self.0.push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
    }

    fn push(&mut self, since: Instant) {
        self.note(since.elapsed());
    }
}

/// Opens and closes tunnels, over the targets in turn, beginning with number `first`.
pub(crate) async fn tunnels(
    entry: Entry,
    targets: &Arc<[Target]>,
    first: usize,
    until: Until,
    at_once: usize,
) -> anyhow::Result<Times> {
    let ends = Ends::new(until);
    let mut workers = JoinSet::new();
    for _ in 0..at_once {
        let (ends, targets) = (ends.clone(), Arc::clone(targets));
        workers.spawn(async move {
            let mut times = Times::default();
            while let Some(turn) = ends.next() {
                let target = targets.get((first + turn) % targets.len()).context("no targets")?;
                let started = Instant::now();
                let stream = target.open(entry).await.with_context(|| format!("tunnel {turn}"))?;
                times.push(started);
                drop(stream);
            }
            anyhow::Ok(times)
        });
    }
    gathered(workers).await
}

/// Opens and closes tunnels as one client after the other, over the targets in turn.
pub(crate) async fn tunnels_from(
    sources: &Arc<[Ipv4Addr]>,
    entry: Entry,
    targets: &Arc<[Target]>,
    until: Until,
    at_once: usize,
) -> anyhow::Result<Times> {
    let ends = Ends::new(until);
    let mut workers = JoinSet::new();
    for _ in 0..at_once {
        let (ends, sources, targets) = (ends.clone(), Arc::clone(sources), Arc::clone(targets));
        workers.spawn(async move {
            let mut times = Times::default();
            while let Some(turn) = ends.next() {
                let target = targets.get(turn % targets.len()).context("no targets")?;
                let source = sources.get(turn % sources.len()).context("no sources")?;
                let started = Instant::now();
                let opened = target.open_from(*source, entry).await;
                let stream = opened.with_context(|| format!("tunnel {turn} from {source}"))?;
                times.push(started);
                drop(stream);
            }
            anyhow::Ok(times)
        });
    }
    gathered(workers).await
}

/// Opens tunnels that stay open.
pub(crate) async fn open(
    entry: Entry,
    targets: &Arc<[Target]>,
    tunnels: usize,
    at_once: usize,
) -> anyhow::Result<Vec<TcpStream>> {
    let ends = Ends::new(Until::Count(tunnels));
    let mut workers = JoinSet::new();
    for _ in 0..at_once {
        let (ends, targets) = (ends.clone(), Arc::clone(targets));
        workers.spawn(async move {
            let mut open = Vec::new();
            while let Some(turn) = ends.next() {
                let target = targets.get(turn % targets.len()).context("no targets")?;
                open.push(target.open(entry).await.with_context(|| format!("tunnel {turn}"))?);
            }
            anyhow::Ok(open)
        });
    }
    let mut all = Vec::with_capacity(tunnels);
    while let Some(open) = workers.join_next().await {
        all.extend(open??);
    }
    Ok(all)
}

/// Sends that many bytes through each tunnel to the echo, and waits for them, again and again; all tunnels at once.
pub(crate) async fn echoes(
    tunnels: Vec<TcpStream>,
    bytes: usize,
    until: Until,
) -> anyhow::Result<(Times, Vec<TcpStream>)> {
    let ends = Ends::new(until);
    let mut workers = JoinSet::new();
    for mut stream in tunnels {
        let ends = ends.clone();
        workers.spawn(async move {
            let mut times = Times::default();
            let mut sent = vec![0x42; bytes];
            let mut back = vec![0; bytes];
            while let Some(turn) = ends.next() {
                for (to, from) in sent.iter_mut().zip(turn.to_be_bytes()) {
                    *to = from;
                }
                let started = Instant::now();
                stream.write_all(&sent).await?;
                timeout(PATIENCE, stream.read_exact(&mut back))
                    .await
                    .context("no echo")??;
                times.push(started);
                ensure!(back == sent, "the echo is not what was sent");
            }
            anyhow::Ok((times, stream))
        });
    }
    let (mut times, mut open) = (Times::default(), Vec::new());
    while let Some(done) = workers.join_next().await {
        let (more, stream) = done??;
        times.0.extend(more.0);
        open.push(stream);
    }
    Ok((times, open))
}

/// Streams that many bytes through each tunnel, all at once; the tunnels were opened with that wish.
pub(crate) async fn streams(tunnels: Vec<TcpStream>, length: u64, down: bool) -> anyhow::Result<Vec<TcpStream>> {
    let mut workers = JoinSet::new();
    for mut tunnel in tunnels {
        workers.spawn(async move {
            if down {
                tunnel.write_all(&[GO]).await?;
                ensure!(stream::receive(&mut tunnel, length).await?, "no stream begins");
            } else {
                stream::send(&mut tunnel, length).await?;
                let mut all = [0];
                tunnel.read_exact(&mut all).await?;
                ensure!(all == [GO], "the origin does not have it all");
            }
            anyhow::Ok(tunnel)
        });
    }
    let mut open = Vec::new();
    while let Some(tunnel) = workers.join_next().await {
        open.push(tunnel??);
    }
    Ok(open)
}

/// Asks for pages, on connections that stay open; also how many connections that took.
pub(crate) async fn pages(
    entry: SocketAddr,
    targets: &Arc<[Target]>,
    until: Until,
    at_once: usize,
) -> anyhow::Result<(Times, usize)> {
    let ends = Ends::new(until);
    let opened = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for place in 0..at_once {
        let (ends, opened) = (ends.clone(), Arc::clone(&opened));
        let mut pages = Pages::new(entry, targets, place);
        workers.spawn(async move {
            let mut times = Times::default();
            while ends.next().is_some() {
                let started = Instant::now();
                let kept = pages.get().await?;
                times.push(started);
                opened.fetch_add(usize::from(!kept), Ordering::Relaxed);
            }
            anyhow::Ok(times)
        });
    }
    Ok((gathered(workers).await?, opened.load(Ordering::Relaxed)))
}

async fn gathered(mut workers: JoinSet<anyhow::Result<Times>>) -> anyhow::Result<Times> {
    let mut all = Times::default();
    while let Some(times) = workers.join_next().await {
        all.0.extend(times??.0);
    }
    Ok(all)
}

/// Whether there is another unit to be done; shared by all that work on a turn.
#[derive(Clone, Debug)]
struct Ends {
    deadline: Option<Instant>,
    count: usize,
    next: Arc<AtomicUsize>,
}

impl Ends {
    fn new(until: Until) -> Self {
        let (deadline, count) = match until {
            Until::Time(time) => (Some(Instant::now() + time), usize::MAX),
            Until::Count(count) => (None, count),
            Until::Either(time, count) => (Some(Instant::now() + time), count),
        };
        Self {
            deadline,
            count,
            next: Arc::default(),
        }
    }

    fn next(&self) -> Option<usize> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        (turn < self.count && !late).then_some(turn)
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
