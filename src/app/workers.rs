//! The threads that carry connections. Each has a runtime of its own, so that nothing that happens in a tunnel has to
//! wake another thread: its sockets, its timers and its task are all with the worker that accepted it.
//! Must not know what is served. Called by the app, which gives each worker every listening socket.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::net::shared_listener::SharedListener;
use crate::proxy::Proxy;
use crate::proxy::accept::{Bound, accept};
use crate::relay::trim_buffers;

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
pub(super) struct Handles(Arc<[Handle]>);

impl Workers {
    /// Starts them. There is always one.
    ///
    /// # Errors
    /// The system gives no more threads or descriptors.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (alive, ended) = channel();
        let mut handles = Vec::new();
        for _ in 0..count.max(1) {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let (stop, alive) = (stop.clone(), alive.clone());
            thread::Builder::new().name("data".to_owned()).spawn(move || {
                let _alive: Sender<()> = alive;
                runtime.block_on(stop.run_until_cancelled(beat()));
            })?;
        }
        Ok(Self {
            handles: Handles(handles.into()),
            stop,
            ended,
        })
    }

    pub(super) fn handles(&self) -> &Handles {
        &self.handles
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
    /// The same listening socket for each worker: whoever has time takes the next connection.
    pub(super) fn share(&self, socket: &std::net::TcpListener) -> io::Result<Vec<SharedListener>> {
        let shared = self.0.iter().map(|worker| {
            let _in = worker.enter();
            SharedListener::of(socket)
        });
        shared.collect()
    }

    /// Accepts until `closed`.
    pub(super) fn accept(&self, proxy: &Arc<Proxy>, bound: Bound, sessions: &TaskTracker, closed: &CancellationToken) {
        for (worker, listener) in self.0.iter().zip(bound.listeners) {
            worker.spawn(accept(
                Arc::clone(proxy),
                listener,
                bound.door.clone(),
                sessions.clone(),
                closed.clone(),
            ));
        }
    }
}

/// Never ends. Frees what a burst has left to this thread, and saves work just by being there: tokio's timer interrupts
/// its own thread for each new timer that is due before all others it waits for (an eventfd written and read); beside one
/// that is always due soon, those of sessions never are.
async fn beat() {
    let mut beats = interval(BEAT);
    for number in 0_u32.. {
        beats.tick().await;
        if number % BEATS_A_TRIM == 0 {
            trim_buffers();
        }
    }
}

/// Below nearly all times that sessions wait for, above what an idle process would notice.
const BEAT: Duration = Duration::from_millis(200);
const BEATS_A_TRIM: u32 = 5;
