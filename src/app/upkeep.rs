//! What runs beside the sessions: judging open ones again, cutting what is over its time, reading certificates again.
//! Must not decide; the tracker asks the gate. Ends with the process.
//! Called by the app, which spawns each of these once.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::policy::Mode;
use crate::proxy::Proxy;
use crate::proxy::tls::Certificates;
use crate::proxy::tracker::Spans;
use crate::settings::Settings;
use crate::telemetry::record::End;

/// Re-judges on every change of the policy or the time, and cuts what is over its time.
pub(super) async fn sweep(proxy: Arc<Proxy>, settings: Settings, stop: CancellationToken) {
    let timeouts = &settings.timeouts;
    let spans = Spans {
        idle: timeouts.idle,
        half_close: timeouts.half_close,
        lifetime: timeouts.lifetime,
    };
    let mut changes = proxy.state.changes();
    let mut generation = proxy.state.policy().generation();
    let mut steps = interval(SWEEP);
    let mut next: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            published = changes.changed() => {
                if published.is_err() {
                    return;
                }
                let policy = proxy.state.policy();
                // The same generation again means that time has changed an answer.
                let end = if policy.generation() == generation { End::Expired } else { End::Reload };
                generation = policy.generation();
                let deadline = Instant::now() + settings.reload.grace;
                let refused = proxy.tracker.rejudge(&policy, Timestamp::now(), deadline, end).await;
                if refused > 0 {
                    tracing::info!("{refused} open tunnels are refused now and end in {:?}", settings.reload.grace);
                }
            }
            _ = steps.tick() => {}
            () = async { sleep_until(next.unwrap_or_else(Instant::now)).await }, if next.is_some() => {}
        }
        proxy.pipes.trim();
        next = proxy.tracker.sweep(Instant::now(), proxy.clock.now(), spans).await;
        let until = match proxy.state.policy().mode() {
            Mode::Report { until } if Timestamp::now() < until => Some(until),
            Mode::Report { .. } | Mode::Enforce => None,
        };
        proxy.telemetry.metrics().mode(until);
    }
}

pub(super) async fn refresh_certificates(all: Vec<Arc<Certificates>>, stop: CancellationToken) {
    if all.is_empty() {
        return;
    }
    let mut steps = interval(SWEEP);
    let mut said = String::new();
    while stop.run_until_cancelled(steps.tick()).await.is_some() {
        for certificates in &all {
            let certificates = Arc::clone(certificates);
            let Ok(outcome) = tokio::task::spawn_blocking(move || certificates.refresh()).await else {
                continue;
            };
            match outcome {
                Ok(false) => {}
                Ok(true) => {
                    said.clear();
                    tracing::info!("changed certificates are in use");
                }
                Err(error) => {
                    let text = error.to_string();
                    if text != said {
                        tracing::error!("changed certificates cannot be used, the last good ones stay: {text}");
                        said = text;
                    }
                }
            }
        }
    }
}

const SWEEP: Duration = Duration::from_secs(1);
