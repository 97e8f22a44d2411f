//! Dialling for a session: the gate and the guard judge every address before it is dialled, and metrics count how it went.
//! Must not dial what the gate was not asked about, nor let an old answer of it stand once another could be given.
//! Called by the session, and by exchanges that need another connection for what is allowed already.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Proxy;
use super::session::Connection;
use crate::net::dial::{DialError, Dialled, Limits, Resolution, dial};
use crate::policy::{Ask, Decision, Policy, Reason, gate};
use crate::telemetry::{ConnectResult, DnsResult, Limit};

/// What the gate has said to an ask, with all that could make it say something else.
#[derive(Debug)]
pub(super) struct Said {
    policy: Arc<Policy>,
    at: Timestamp,
    address: IpAddr,
    pub(super) decision: Decision,
}

impl Said {
    /// Whether the gate would say it again, to the ask that it was said to once this address is dialled: the same policy
    /// is in force, and no moment has passed that changes its answers.
    pub(super) fn stands(&self, policy: &Arc<Policy>, ask: &Ask) -> bool {
        Arc::ptr_eq(&self.policy, policy)
            && ask.address == Some(self.address)
            && policy
                .next_change(self.at)
                .is_none_or(|change| Timestamp::now() < change)
    }
}

/// Dials for an ask whose verdict is already written; the guard and the gate judge the new address all the same.
pub(super) async fn dial_allowed(connection: &Connection, ask: &Ask) -> Option<(Dialled, Decision)> {
    let (dialled, _) = dial_judged(connection, ask).await.ok()?;
    let policy = connection.proxy.state.policy();
    let decision = gate(
        &policy,
        Timestamp::now(),
        &connection.source,
        &ask.clone().dialling(dialled.address),
    );
    decision.is_allowed().then_some((dialled, decision))
}

/// Resolves and dials; only addresses that the gate passes are dialled. What it has said of the first one that it
/// passed comes back too.
pub(super) async fn dial_judged(connection: &Connection, ask: &Ask) -> Result<(Dialled, Option<Said>), DialError> {
    let proxy = &connection.proxy;
    let policy = proxy.state.policy();
    let now = Timestamp::now();
    let started = Instant::now();
    let passed = OnceLock::new();
    let judge = |address: IpAddr| {
        if proxy.own.contains(address, ask.port.number()) {
            return Err(Reason::SelfAddress);
        }
        let decision = gate(&policy, now, &connection.source, &ask.clone().dialling(address));
        if decision.is_allowed() {
            passed.get_or_init(|| (address, decision));
            Ok(())
        } else {
            Err(decision.reason)
        }
    };
    let result = dial(
        &proxy.resolver,
        connection.source.address,
        &ask.host,
        ask.port,
        &judge,
        &Limits::within(proxy.timeouts.connect),
    )
    .await;
    measure(proxy, &result, started.elapsed());
    let said = passed.into_inner().map(|(address, decision)| Said {
        policy,
        at: now,
        address,
        decision,
    });
    Ok((result?, said))
}

/// Counts how resolving and dialling went.
fn measure(proxy: &Proxy, result: &Result<Dialled, DialError>, took: Duration) {
    let metrics = proxy.telemetry.metrics();
    let (resolution, dns_took) = match result {
        Ok(dialled) => (dialled.resolution, dialled.dns_took),
        Err(error) => (error.resolution, error.dns_took),
    };
    if let Some(resolution) = resolution {
        let result = match resolution {
            Resolution::Answered => DnsResult::Ok,
            Resolution::Cached => DnsResult::Cached,
            Resolution::Stale => DnsResult::Stale,
            Resolution::NotFound => DnsResult::NotFound,
            Resolution::Failed => DnsResult::Failed,
            Resolution::TimedOut => DnsResult::Timeout,
        };
        metrics.dns(result, dns_took);
    }
    if result.as_ref().is_err_and(|error| error.reason == Reason::Limit) {
        metrics.limit(Limit::Dns);
    }
    let connect = match result {
        Ok(_) => ConnectResult::Ok,
        Err(error) if error.reason == Reason::Connect => ConnectResult::Failed,
        Err(error) if error.reason == Reason::ConnectTimeout => ConnectResult::Timeout,
        // Nothing was dialled.
        Err(_) => return,
    };
    metrics.connect(connect, took.saturating_sub(dns_took));
}
