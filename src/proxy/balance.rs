//! How connections are spread over the workers: over as few as the load needs, for each costs less beside others.
//! Must not measure. It is told how busy each worker is, and says which of them accept and how many tunnels one gives away.
//! Called by each worker's beat, by accept, and for tunnels that are given away.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;

/// All workers, in the order in which they are called upon.
///
/// Connections on one thread are read in one turn of its loop, stay in its processor's cache and wake nobody else: beside
/// a second thread that takes every other one, each costs 15 % more. So only the first worker accepts, until it cannot do
/// more. Then the next one does as well, and the full one gives it tunnels, because long ones were opened when there was
/// little to do.
#[derive(Debug)]
pub(crate) struct Balance {
    started: Instant,
    workers: Box<[Worker]>,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// In thousandths of a CPU.
    busy: AtomicU32,
    /// Milliseconds from the start to its last beat.
    beaten: AtomicU64,
    accepts: watch::Sender<bool>,
    /// Tunnels that it was told to give away last.
    gives: AtomicU32,
}

impl Balance {
    pub(crate) fn new(runtimes: impl IntoIterator<Item = Handle>) -> Self {
        let workers = runtimes.into_iter().enumerate().map(|(number, runtime)| Worker {
            runtime,
            busy: AtomicU32::new(0),
            beaten: AtomicU64::new(0),
            accepts: watch::Sender::new(number == 0),
            gives: AtomicU32::new(0),
        });
        Self {
            started: Instant::now(),
            workers: workers.collect(),
        }
    }

    pub(crate) fn runtimes(&self) -> impl Iterator<Item = &Handle> {
        self.workers.iter().map(|worker| &worker.runtime)
    }

    /// Whether a worker is to accept, now and from then on.
    pub(crate) fn accepts(&self, worker: usize) -> Option<watch::Receiver<bool>> {
        Some(self.workers.get(worker)?.accepts.subscribe())
    }

    /// Takes down how busy a worker is, in thousandths of a CPU. Decides whether it accepts, and gives
    /// the number of tunnels that it is to give away before its next beat.
    pub(crate) fn beat(&self, worker: usize, busy: u32, now: Instant) -> u32 {
        let Some(this) = self.workers.get(worker) else { return 0 };
        this.busy.store(busy, Relaxed);
        this.beaten.store(self.millis(now), Relaxed);
        let all = self.busy(now);
        this.accepts.send_if_modified(|accepts| {
            let before = *accepts;
            *accepts = is_needed(&all, worker, before);
            *accepts != before
        });
        let gives = gives(&all, worker, this.gives.load(Relaxed));
        this.gives.store(gives, Relaxed);
        gives
    }

    /// The worker that has most time left; of several the first.
    pub(crate) fn calmest(&self, now: Instant) -> Option<&Handle> {
        let busy = self.busy(now);
        let calmest = busy.iter().enumerate().min_by_key(|(_, busy)| **busy);
        calmest
            .and_then(|(worker, _)| self.workers.get(worker))
            .map(|worker| &worker.runtime)
    }

    /// One whose beat does not come is as busy as can be.
    fn busy(&self, now: Instant) -> Vec<u32> {
        let now = self.millis(now);
        let busy = self.workers.iter().map(|worker| {
            let silent = now.saturating_sub(worker.beaten.load(Relaxed));
            if silent > SILENT {
                CPU
            } else {
                worker.busy.load(Relaxed)
            }
        });
        busy.collect()
    }

    fn millis(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.started);
        u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The first worker always is. Each other one is once all before it are full, until they could do its work as well.
fn is_needed(busy: &[u32], worker: usize, so_far: bool) -> bool {
    let before = busy.iter().take(worker);
    if so_far {
        let load: u32 = busy.iter().take(worker + 1).sum();
        load >= before.map(|_| EASY).sum()
    } else {
        before.into_iter().all(|busy| *busy >= FULL)
    }
}

/// Nothing, unless it is full and another one is not; then more with each beat, since nobody knows what a tunnel's share is.
fn gives(busy: &[u32], worker: usize, so_far: u32) -> u32 {
    let own = busy.get(worker).copied().unwrap_or_default();
    let calmest = busy.iter().min().copied().unwrap_or(own);
    if own >= FULL && calmest + GAP <= own {
        (so_far * 2).clamp(1, MOST)
    } else {
        0
    }
}

/// Between two beats of a worker.
pub(crate) const BEAT: Duration = Duration::from_millis(100);

/// Thousandths of a CPU.
const CPU: u32 = 1000;
/// A thread that always has something to do. With less it waits for work; or now and then for a CPU that others use, and then
/// one more thread would not get one either.
const FULL: u32 = 950;
/// What each worker should have at most when one less accepts.
const EASY: u32 = 700;
/// How much less than a full one another must have to do to be given tunnels.
const GAP: u32 = 300;
/// Tunnels given away between two beats.
const MOST: u32 = 1024;
/// Milliseconds: three beats.
const SILENT: u64 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_accept_as_the_load_needs() {
        for (busy, worker, so_far, expected) in [
            (&[0, 0][..], 0, true, true),
            (&[0], 0, true, true),
            (&[1000, 1000], 0, true, true),
            (&[949, 0], 1, false, false),
            (&[950, 0], 1, false, true),
            // Those before it could do it all.
            (&[600, 99], 1, true, false),
            (&[600, 100], 1, true, true),
            (&[1000, 0], 1, true, true),
            // Each after all before it.
            (&[1000, 500, 0], 2, false, false),
            (&[1000, 950, 0], 2, false, true),
            (&[500, 500, 399], 2, true, false),
            (&[500, 500, 400], 2, true, true),
            (&[0, 0, 1000, 0], 3, false, false),
        ] {
            assert_eq!(
                is_needed(busy, worker, so_far),
                expected,
                "{busy:?}, {worker}, {so_far}"
            );
        }
    }

    #[test]
    fn a_full_worker_gives_more_and_more_away_while_another_has_time() {
        for (busy, worker, so_far, expected) in [
            (&[1000, 0][..], 0, 0, 1),
            (&[1000, 0], 0, 1, 2),
            (&[1000, 0], 0, 64, 128),
            (&[1000, 0], 0, 1024, 1024),
            (&[950, 650], 0, 4, 8),
            (&[950, 651], 0, 4, 0),
            (&[949, 0], 0, 4, 0),
            (&[1000, 1000], 0, 4, 0),
            (&[0, 1000], 0, 4, 0),
            (&[0, 1000], 1, 0, 1),
            (&[1000], 0, 4, 0),
        ] {
            assert_eq!(gives(busy, worker, so_far), expected, "{busy:?}, {worker}, {so_far}");
        }
    }

    #[tokio::test]
    async fn the_calmest_is_the_first_with_most_time_left_that_beats() {
        let balance = Balance::new([(); 3].map(|()| Handle::current()));
        let at = |millis| balance.started + Duration::from_millis(millis);
        let calmest = |millis| {
            let calmest = balance.calmest(at(millis)).unwrap();
            balance.runtimes().position(|runtime| std::ptr::eq(runtime, calmest))
        };
        assert_eq!(calmest(0), Some(0));
        for (worker, busy, millis) in [(0, 500, 100), (1, 100, 100), (2, 100, 50)] {
            balance.beat(worker, busy, at(millis));
        }
        assert_eq!(calmest(100), Some(1));
        balance.beat(1, 101, at(200));
        assert_eq!(calmest(350), Some(2));
        assert_eq!(calmest(351), Some(1), "the last one is silent");
        assert_eq!(calmest(1000), Some(0), "all are");
        assert!(Balance::new([]).calmest(at(0)).is_none());
    }

    #[tokio::test]
    async fn beats_decide_who_accepts_and_silence_counts_as_full() {
        let runtime = Handle::current();
        let balance = Balance::new([runtime.clone(), runtime]);
        let accepts = [0, 1].map(|worker| balance.accepts(worker).unwrap());
        let accept = || [0, 1].map(|worker: usize| *accepts[worker].borrow());
        assert_eq!(accept(), [true, false]);
        let at = |millis| balance.started + Duration::from_millis(millis);
        assert_eq!((balance.beat(0, 980, at(100)), balance.beat(1, 10, at(101))), (1, 0));
        assert_eq!(accept(), [true, true]);
        assert_eq!((balance.beat(0, 600, at(200)), balance.beat(1, 400, at(201))), (0, 0));
        assert_eq!(accept(), [true, true]);
        assert_eq!((balance.beat(0, 300, at(300)), balance.beat(1, 200, at(301))), (0, 0));
        assert_eq!(accept(), [true, false]);
        balance.beat(1, 0, at(600));
        assert_eq!(accept(), [true, false]);
        balance.beat(1, 0, at(601));
        assert_eq!(
            accept(),
            [true, true],
            "the first one has not beaten for more than 300 ms"
        );
        assert_eq!(balance.beat(2, 0, at(602)), 0, "there is no such worker");
        assert!(balance.accepts(2).is_none());
    }
}
