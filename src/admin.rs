//! What operators and machines look at: health and metrics on one listener; policy, decisions and tunnels on another.
//! Must not change anything: every page is read only. Must not wait for the data path, nor hold it up.
//! Called by the app, which binds both listeners and tells when to end.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{Method, Uri};
use axum::middleware;
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::state::State;
use crate::telemetry::{LiveTunnel, Metrics, Telemetry};

mod decisions;
mod guard;
mod page;
mod policy;
mod query;
mod readiness;
mod serve;
mod tunnels;

pub use readiness::Readiness;

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    pub state: Arc<State>,
    pub telemetry: Telemetry,
    pub readiness: Readiness,
    /// The open tunnels, asked for on each request.
    pub tunnels: Arc<dyn Fn() -> Vec<LiveTunnel> + Send + Sync>,
}

/// Serves `/healthz`, `/readyz` and `/metrics` until `stop`, and keeps the metrics folded in between. Then lets the
/// requests in flight finish, for a moment.
pub async fn serve_health(pages: Pages, listener: TcpListener, stop: CancellationToken) {
    let metrics = pages.telemetry.metrics().clone();
    tokio::join!(
        serve::serve(listener, health(pages), stop.clone()),
        stop.run_until_cancelled(keep(metrics)),
    );
}

/// Serves all of [`serve_health`]'s pages and `/policy`, `/decisions`, `/tunnels` until `stop`.
pub async fn serve_admin(pages: Pages, listener: TcpListener, stop: CancellationToken) {
    serve::serve(listener, admin(pages), stop).await;
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

fn health(pages: Pages) -> Router {
    router(HEALTH).with_state(pages)
}

fn admin(pages: Pages) -> Router {
    let rows = HEALTH.iter().chain(ADMIN).copied().collect::<Vec<_>>();
    router(&rows)
        .with_state(pages)
        .layer(middleware::from_fn(guard::refuse_foreign_hosts))
}

/// One page: its path, what it is, and how it is made.
type Row = (&'static str, &'static str, fn() -> MethodRouter<Pages>);

fn router(rows: &[Row]) -> Router<Pages> {
    let mut index = String::from("sluicegate\n\n");
    for (path, what, _) in rows {
        // Writing into a String cannot fail.
        let _ = writeln!(index, "{path:<12} {what}");
    }
    let index: Arc<str> = index.into();
    let paths: Arc<str> = rows.iter().map(|(path, ..)| *path).collect::<Vec<_>>().join(" ").into();
    let mut router = Router::new().route("/", get(async move || page::text(&*index)));
    for (path, _, made) in rows {
        router = router.route(path, made());
    }
    router
        .fallback(async move |uri: Uri| page::not_found(&uri, &paths))
        .method_not_allowed_fallback(async |method: Method| page::wrong_method(&method))
        .layer(middleware::map_response(page::harden))
}

async fn healthz() -> Response {
    page::text("ok\n")
}

async fn readyz(Shared(pages): Shared<Pages>) -> Response {
    match pages.readiness.missing().as_slice() {
        [] => page::text("ready\n"),
        missing => page::unavailable(format!("not ready: {}\n", missing.join(", "))),
    }
}

async fn metrics(Shared(pages): Shared<Pages>) -> Response {
    page::metrics(pages.telemetry.metrics().render(Timestamp::now()))
}

async fn keep(metrics: Metrics) {
    let mut tick = tokio::time::interval(UPKEEP);
    loop {
        tick.tick().await;
        metrics.upkeep();
    }
}

const HEALTH: &[Row] = &[
    ("/healthz", "200 while the process answers", || get(healthz)),
    (
        "/readyz",
        "200 while connections are served; otherwise what is missing",
        || get(readyz),
    ),
    ("/metrics", "Prometheus metrics", || get(metrics)),
];
const ADMIN: &[Row] = &[
    ("/policy", policy::ABOUT, || get(policy::page)),
    ("/decisions", decisions::ABOUT, || get(decisions::page)),
    ("/tunnels", tunnels::ABOUT, || get(tunnels::page)),
];

/// Histograms keep every sample until they are folded.
const UPKEEP: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
