//! What a tunnel has moved and when it last moved anything, readable while it runs.
//! Must not cost a system call or a timer per read: time comes from one coarse clock that one task moves on.
//! Written by the relay; read by the sweeper, `/tunnels` and the tunnel record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A moment of the coarse clock, counted from its start in steps of [`Tick::LENGTH`]. Wraps after 34 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick(u32);

/// The coarse clock. Clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<AtomicU32>);

/// The running account of one tunnel.
#[derive(Debug)]
pub struct Activity {
    clock: Clock,
    up: AtomicU64,
    down: AtomicU64,
    last: AtomicU32,
    half_closed: AtomicBool,
}

impl Tick {
    pub const LENGTH: Duration = Duration::from_millis(250);

    /// The time between two ticks, zero where `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        let ticks = self.0.wrapping_sub(earlier.0);
        // A tunnel may have noted a newer tick than the one that the sweeper took before its walk.
        if ticks > u32::MAX / 2 {
            Duration::ZERO
        } else {
            Self::LENGTH * ticks
        }
    }
}

impl Clock {
    /// A clock that stands still until somebody moves it.
    pub fn new() -> Self {
        Self::default()
    }

    pub fn now(&self) -> Tick {
        Tick(self.0.load(Ordering::Relaxed))
    }

    /// Moves the clock on, for ever. One task of the process runs this.
    pub async fn run(self) {
        let start = Instant::now();
        let mut steps = tokio::time::interval(Tick::LENGTH);
        steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            steps.tick().await;
            // From the real clock, so that a busy process does not make idle tunnels look younger.
            let ticks = start.elapsed().as_millis() / Tick::LENGTH.as_millis();
            #[expect(clippy::cast_possible_truncation, reason = "ticks wrap, and are compared as such")]
            self.0.store(ticks as u32, Ordering::Relaxed);
        }
    }
}

impl Activity {
    /// The account of a tunnel that opens now.
    pub fn new(clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            last: AtomicU32::new(clock.now().0),
            half_closed: AtomicBool::new(false),
        }
    }

    /// Bytes that the upstream side has taken from the client.
    pub fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    /// Bytes that the client side has taken from the upstream.
    pub fn down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }

    /// Whether exactly one side has finished.
    pub fn is_half_closed(&self) -> bool {
        self.half_closed.load(Ordering::Relaxed)
    }

    /// How long nothing has moved.
    pub fn idle_for(&self, now: Tick) -> Duration {
        now.since(Tick(self.last.load(Ordering::Relaxed)))
    }

    /// Counts bytes to the upstream; also for those that the session itself wrote (a replayed ClientHello).
    pub fn moved_up(&self, bytes: usize) {
        self.up.fetch_add(bytes as u64, Ordering::Relaxed);
        self.touch();
    }

    /// Counts bytes to the client.
    pub fn moved_down(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
        self.touch();
    }

    /// Notes that one side has finished. The time without bytes counts from now.
    pub fn half_close(&self) {
        if !self.half_closed.swap(true, Ordering::Relaxed) {
            self.touch();
        }
    }

    fn touch(&self) {
        self.last.store(self.clock.now().0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn idleness_is_counted_since_the_last_byte() {
        let clock = Clock::new();
        let task = tokio::spawn(clock.clone().run());
        let activity = Activity::new(&clock);
        // Between two ticks, so that it does not matter whose timer runs first.
        tokio::time::sleep(Duration::from_millis(10_100)).await;
        assert_eq!(activity.idle_for(clock.now()), Duration::from_secs(10));
        activity.moved_up(5);
        activity.moved_down(7);
        assert_eq!((activity.up(), activity.down()), (5, 7));
        assert_eq!(activity.idle_for(clock.now()), Duration::ZERO);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(activity.idle_for(clock.now()), Duration::from_secs(3));
        activity.half_close();
        assert_eq!(activity.idle_for(clock.now()), Duration::ZERO);
        tokio::time::sleep(Duration::from_secs(3)).await;
        activity.half_close();
        assert_eq!(
            activity.idle_for(clock.now()),
            Duration::from_secs(3),
            "closing counts once"
        );
        task.abort();
    }

    #[test]
    fn a_later_byte_is_not_a_long_idleness() {
        assert_eq!(Tick(5).since(Tick(6)), Duration::ZERO);
        assert_eq!(Tick(1).since(Tick(u32::MAX)), Tick::LENGTH * 2);
    }
}
