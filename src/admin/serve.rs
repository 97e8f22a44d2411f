//! Serves pages on a listener: few connections, short ones, and an end that does not wait for slow clients.
//! Must not let slow clients keep others out: heads and connections have a time limit, and the oldest makes room.
//! Called once for each of the two listeners.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Returns after `stop`, when the requests in flight are answered or [`FINISH`] has passed.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    stop.run_until_cancelled(accept(listener, router, &stop, &tasks)).await;
    tasks.close();
    // Connections give themselves up in that time; this is only the wait for them.
    tasks.wait().await;
}

async fn accept(listener: TcpListener, router: Router, stop: &CancellationToken, tasks: &TaskTracker) {
    let mut open = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let served = connection(stream, router.clone(), stop.clone());
                open.push_back(tasks.spawn(served).abort_handle());
                make_room(&mut open);
            }
            Err(error) => {
                // Out of descriptors, most likely; the proxy's own listeners say so loudly.
                tracing::debug!(%error, "accept");
                sleep(BACK_OFF).await;
            }
        }
    }
}

/// Ends the oldest connection when there are too many. Probes and scrapes are over in milliseconds: what has stayed
/// longest is idle, or means to keep them out, and a probe that is kept out restarts the proxy.
fn make_room(open: &mut VecDeque<AbortHandle>) {
    if open.len() > MAX_CONNECTIONS {
        open.retain(|connection| !connection.is_finished());
    }
    if open.len() > MAX_CONNECTIONS
        && let Some(oldest) = open.pop_front()
    {
        oldest.abort();
    }
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    tokio::select! {
        // What went wrong with one client of these pages is of no interest to anyone.
        _ = served.as_mut() => return,
        () = sleep(LIFETIME) => {}
        () = stop.cancelled() => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = timeout(FINISH, served).await;
}

/// Connections to one listener. Far more than probes and scrapes need, far less than would hurt.
pub(super) const MAX_CONNECTIONS: usize = 128;
/// For one request head, from the moment the connection is ready for it.
const HEAD: Duration = Duration::from_secs(10);
const MAX_HEADERS: usize = 64;
/// Of a connection; the request that is being answered then is finished.
const LIFETIME: Duration = Duration::from_mins(1);
/// For the last request of a connection.
pub(super) const FINISH: Duration = Duration::from_secs(2);
/// After an error of accept.
const BACK_OFF: Duration = Duration::from_millis(200);
