//! Carries probes out: what an attacker in a pod would try, and what must work, all at once.
//! Must not judge what came of it; no secret leaves but the federated token, and that only to a checked authority.
//! Called by the command `verify`, inside and outside of locked namespaces.

mod context;
mod direct;
mod opener;
mod process;
mod proxied;
mod stream;
mod token;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::kubernetes::judge::{Outcome, Seen};
use crate::kubernetes::probe::{Attempt, Probe};
use context::Context;

/// How probes are carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Of each step: a lookup, a handshake, an answer.
    pub timeout: Duration,
    /// The cluster's DNS; without one that of /etc/resolv.conf.
    pub dns: Option<SocketAddr>,
    /// Whether the proxy's explicit listeners speak TLS.
    pub tls: bool,
}

/// Tries everything, and says what came of each probe, in their order.
///
/// # Errors
/// No runtime could be started.
pub fn observe(probes: &[Probe], options: &Options) -> io::Result<Vec<Seen>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?;
    let seen = runtime.block_on(observe_all(probes, options));
    // Nobody waits for a resolver or a ping that is still on its way.
    runtime.shutdown_background();
    Ok(seen)
}

async fn observe_all(probes: &[Probe], options: &Options) -> Vec<Seen> {
    let context = Arc::new(Context::new(options));
    let mut outcomes = vec![None; probes.len()];
    // The first moments of a pod do not come again.
    for (place, probe) in probes.iter().enumerate() {
        if let Attempt::Early { to, opener, tries } = probe.attempt {
            outcomes[place] = Some(direct::early(&context, to, opener, tries).await);
        }
    }
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for (place, probe) in probes.iter().enumerate() {
        if outcomes[place].is_some() {
            continue;
        }
        let (context, turns, attempt) = (Arc::clone(&context), Arc::clone(&turns), probe.attempt.clone());
        tasks.spawn(async move {
            let _turn = turns.acquire().await;
            (place, attempted(&context, &attempt).await)
        });
    }
    while let Some(done) = tasks.join_next().await {
        if let Ok((place, outcome)) = done {
            outcomes[place] = Some(outcome);
        }
    }
    let seen = probes.iter().zip(outcomes).map(|(probe, outcome)| {
        let (outcome, detail) =
            outcome.unwrap_or_else(|| untried("sluicegate failed while trying it; please report it"));
        Seen {
            id: probe.id.clone(),
            outcome,
            detail,
        }
    });
    seen.collect()
}

async fn attempted(context: &Context, attempt: &Attempt) -> Came {
    match attempt {
        Attempt::Early { to, opener, tries } => direct::early(context, *to, *opener, *tries).await,
        Attempt::Tcp { to, openers } => direct::tcp(context, to, openers).await,
        Attempt::Udp { to, opener } => direct::udp(context, *to, *opener).await,
        Attempt::Ping { to } => direct::ping(context, *to).await,
        Attempt::Lookup { name } => context.lookup(name).await,
        Attempt::Through { proxy, request } => proxied::request(context, proxy, request).await,
        Attempt::Token { proxy, scope } => token::request(context, proxy, scope).await,
        Attempt::Process => process::look(),
        Attempt::None(why) => untried(why),
    }
}

/// What came of an attempt, and the evidence.
type Came = (Outcome, String);

fn untried(why: impl Into<String>) -> Came {
    (Outcome::Untried, why.into())
}

const WORKERS: usize = 2;
const AT_ONCE: usize = 32;
