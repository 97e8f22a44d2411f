//! The threads that carry connections. Each has a runtime of its own, so that nothing that happens in a tunnel has to
//! wake another thread: its sockets, its timers and its task are all with one worker, also where it changes that.
//! Must not know what is served. Called by the app, which gives each worker every listening socket.

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::proxy::Proxy;
use crate::proxy::accept::{Bound, accept};
use crate::proxy::balance::{BEAT, Balance};
use crate::relay::{give_away, trim_buffers};

/// The workers. Dropped, they end; what they carry ends with them.
#[derive(Debug)]
pub(super) struct Workers {
    handles: Handles,
    stop: CancellationToken,
    /// Disconnected when the last one has ended.
    ended: Receiver<()>,
}

/// Whom to give something to do.
#[derive(Clone, Debug)]
pub(super) struct Handles(Arc<Balance>);

impl Workers {
    /// Starts them. There is always one.
    ///
    /// # Errors
    /// The system gives no more threads or descriptors.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (alive, ended) = channel();
        let runtimes = (0..count.max(1)).map(|_| runtime::Builder::new_current_thread().enable_all().build());
        let runtimes: Vec<_> = runtimes.collect::<io::Result<_>>()?;
        let balance = Arc::new(Balance::new(runtimes.iter().map(|runtime| runtime.handle().clone())));
        for (worker, runtime) in runtimes.into_iter().enumerate() {
            let (stop, alive, balance) = (stop.clone(), alive.clone(), Arc::clone(&balance));
            thread::Builder::new().name("data".to_owned()).spawn(move || {
                let _alive: Sender<()> = alive;
                // Dropped before that is, with all that it carries.
                let runtime = runtime;
                runtime.block_on(stop.run_until_cancelled(beat(&balance, worker)));
            })?;
        }
        Ok(Self {
            handles: Handles(balance),
            stop,
            ended,
        })
    }

    pub(super) fn handles(&self) -> &Handles {
        &self.handles
    }

    /// How connections are spread over them.
    pub(super) fn balance(&self) -> Arc<Balance> {
        Arc::clone(&self.handles.0)
    }

    /// Ends them, and waits that long for it at most.
    pub(super) fn shut_down(self, limit: Duration) {
        self.stop.cancel();
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(limit) {
            tracing::debug!("a worker has not ended within {limit:?}");
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Handles {
    /// The same listening socket for each worker: of those that accept, whoever has time takes the next connection.
    pub(super) fn share(&self, socket: &TcpListener) -> io::Result<Vec<TcpListener>> {
        self.0.runtimes().map(|_| socket.try_clone()).collect()
    }

    /// Accepts until `closed`.
    pub(super) fn accept(&self, proxy: &Arc<Proxy>, bound: Bound, sessions: &TaskTracker, closed: &CancellationToken) {
        for (worker, (runtime, socket)) in self.0.runtimes().zip(bound.sockets).enumerate() {
            runtime.spawn(accept(
                Arc::clone(proxy),
                worker,
                socket,
                bound.door.clone(),
                sessions.clone(),
                closed.clone(),
            ));
        }
    }
}

/// Never ends. Tells how busy this thread is, gives away what is too much, and frees what a burst has left to it.
///
/// It saves work just by being there, too: tokio's timer interrupts its own thread for each new timer that is due before
/// all others it waits for (an eventfd written and read); beside one that is always due soon, those of sessions never are.
async fn beat(balance: &Balance, worker: usize) {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Times::of_this_thread();
    let mut shares = VecDeque::from([0; STEADY]);
    for number in 0_u32.. {
        beats.tick().await;
        let now = Times::of_this_thread();
        shares.pop_front();
        shares.push_back(now.busy_since(&before));
        let steady = shares.iter().min().copied().unwrap_or_default();
        give_away(balance.beat(worker, steady, now.at));
        before = now;
        if number % BEATS_A_TRIM == 0 {
            trim_buffers();
        }
    }
}

/// What a thread has done until a moment, since its start.
#[derive(Debug)]
struct Times {
    at: Instant,
    ran: Duration,
    /// It could have run, but others did.
    waited: Duration,
}

impl Times {
    fn of_this_thread() -> Self {
        Self {
            at: Instant::now(),
            // clock_gettime(2), "CLOCK_THREAD_CPUTIME_ID".
            ran: clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default(),
            // Not all kernels count it; then nothing is known of others.
            waited: std::fs::read_to_string("/proc/thread-self/schedstat")
                .ok()
                .and_then(|text| waited(&text))
                .unwrap_or_default(),
        }
    }

    /// In thousandths of a CPU. A thread that others keep from running for most of its time is as busy as can be: a second
    /// one gets its own share of a CPU.
    fn busy_since(&self, before: &Self) -> u32 {
        let passed = self.at - before.at;
        if self.waited.saturating_sub(before.waited) * 2 > passed {
            return 1000;
        }
        let share = self.ran.saturating_sub(before.ran).as_micros() * 1000 / passed.as_micros().max(1);
        u32::try_from(share).unwrap_or(u32::MAX).min(1000)
    }
}

/// The second of three numbers: time on a CPU, time waiting for one, both in nanoseconds, and time slices (Linux,
/// Documentation/scheduler/sched-stats.rst).
fn waited(schedstat: &str) -> Option<Duration> {
    let waited = schedstat.split_ascii_whitespace().nth(1)?;
    waited.parse().ok().map(Duration::from_nanos)
}

const BEATS_A_TRIM: u32 = 2;
/// Beats throughout which a thread has to be busy to count as that. One alone may be the moment in which nobody else wanted
/// the CPU.
const STEADY: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_busy_that_runs_or_is_kept_from_running() {
        let start = Instant::now();
        let at = |wall, ran, waited| Times {
            at: start + Duration::from_millis(wall),
            ran: Duration::from_millis(ran),
            waited: Duration::from_millis(waited),
        };
        let before = at(10, 5, 3);
        for (now, expected) in [
            (at(110, 5, 3), 0),
            (at(110, 55, 3), 500),
            (at(110, 105, 3), 1000),
            (at(110, 106, 3), 1000),
            (at(110, 45, 53), 400),
            (at(110, 45, 54), 1000),
            // A clock that has not moved.
            (at(10, 5, 3), 0),
        ] {
            assert_eq!(now.busy_since(&before), expected, "{now:?}");
        }
    }

    /// A record that is left by what is dropped must not come after the last one was written.
    #[test]
    fn workers_have_ended_when_nothing_is_left_of_what_they_carried() {
        /// Takes its time to be dropped, unless somebody goes on meanwhile.
        struct Carried(Receiver<()>, Sender<bool>);

        impl Drop for Carried {
            fn drop(&mut self) {
                let went_on = self.0.recv_timeout(Duration::from_millis(200)).is_ok();
                self.1.send(went_on).unwrap();
            }
        }

        let workers = Workers::start(2).unwrap();
        let ((go_on, goes_on), (tell, told)) = (channel(), channel());
        let carried = Carried(goes_on, tell);
        let runtime = workers.balance().runtimes().nth(1).unwrap().clone();
        runtime.spawn(async move {
            let _carried = carried;
            std::future::pending::<()>().await;
        });
        workers.shut_down(Duration::from_mins(1));
        let _ = go_on.send(());
        assert!(!told.recv().unwrap(), "it went on before that was dropped");
    }

    #[test]
    fn this_thread_has_run_and_its_wait_is_read() {
        assert_eq!(waited("1234 5678 9\n"), Some(Duration::from_nanos(5678)));
        assert_eq!(waited("0\n"), None);
        assert_eq!(waited("a b c"), None);
        let before = Times::of_this_thread();
        while Times::of_this_thread().ran == before.ran {}
    }
}
