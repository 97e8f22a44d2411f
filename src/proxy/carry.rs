//! A connection that is set up, until its end: its tunnel is relayed here, or by another worker once this one is full.
//! Must not open or judge anything, nor hold more than the tunnel and its place: every idle tunnel holds this future.
//! Called by accept, for each connection that becomes a tunnel.

use std::pin::Pin;
use std::time::Instant;

use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::admission::Admitted;
use super::session::Front;
use super::tunnel::{Established, Moving};
use crate::telemetry::metrics::Open;

/// What a connection has until its end, whichever worker carries it.
#[derive(Debug)]
pub(super) struct Place {
    _open: Open,
    _admitted: Admitted,
    /// Dropped last: whoever waits for the end of all connections sees it then.
    _session: TaskTrackerToken,
}

impl Place {
    /// Of a connection that was admitted just now.
    pub(super) fn new(front: &Front, admitted: Admitted, sessions: &TaskTracker) -> Self {
        Self {
            _open: front.metrics.connection(),
            _admitted: admitted,
            _session: sessions.token(),
        }
    }
}

/// Relays to the end, or until another worker is to go on.
// Not an `async fn`: that would keep room for its arguments twice, in every idle tunnel.
#[allow(clippy::manual_async_fn, reason = "its future is half the size")]
pub(super) fn carry(mut established: Established, place: Place) -> impl Future<Output = ()> + Send {
    async move {
        while established.relay().await.is_continue() {
            if let Some(calmest) = established.balance().calmest(Instant::now()).cloned() {
                match established.detach() {
                    Ok(moving) => drop(calmest.spawn(go_on(moving, place))),
                    Err(error) => tracing::warn!(%error, "a tunnel cannot leave its thread"),
                }
                return;
            }
        }
    }
}

/// The same in another thread. What it gives has a name, or `carry` would be made of itself.
fn go_on(moving: Moving, place: Place) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        match moving.attach() {
            Ok(established) => carry(established, place).await,
            Err(error) => tracing::warn!(%error, "a tunnel cannot go on in another thread"),
        }
    })
}

#[cfg(test)]
mod tests;
