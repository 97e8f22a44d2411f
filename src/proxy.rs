//! The data path: from an accepted connection to a relayed tunnel or a refusal.
//! Must not hold policy or settings of its own; it asks the gate, and every front ends in the one session lifecycle.
//! Called by the app, which binds the listeners and hands them over.

pub(crate) mod accept;
mod admission;
#[cfg(test)]
mod allocations;
pub(crate) mod balance;
mod carry;
mod client;
mod connect;
mod explicit;
#[cfg(test)]
mod fixture;
mod forward;
mod judged_dial;
mod refusal;
pub(crate) mod session;
mod sni;
mod strict;
pub(crate) mod tls;
pub(crate) mod tracker;
mod tunnel;
mod upstream;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use crate::net::{self, Own, Resolver};
use crate::relay::{Clock, Pipes};
use crate::settings::{self, Settings};
use crate::state::State;
use crate::telemetry::Telemetry;
use crate::telemetry::record::End;

use self::admission::Admission;
use self::balance::Balance;
use self::tracker::Tracker;

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) state: Arc<State>,
    pub(crate) telemetry: Telemetry,
    pub(crate) resolver: Resolver,
    /// The sockets that this process listens on: never a destination.
    pub(crate) own: Own,
    pub(crate) tracker: Tracker,
    /// For idleness.
    pub(crate) clock: Clock,
    /// For tunnels that carry bulk.
    pub(crate) pipes: Pipes,
    pub(crate) admission: Admission,
    pub(crate) balance: Arc<Balance>,
    pub(crate) timeouts: settings::Timeouts,
    /// Whether a connection is refused while records cannot be written.
    pub(crate) records_required: bool,
    pub(crate) ids: Ids,
    /// Cancelled on SIGTERM: nothing new is accepted, exchanges end with their current request.
    pub(crate) draining: CancellationToken,
    /// Cancelled when the time to drain is over: what waits for a verdict then gets none.
    pub(crate) drained: CancellationToken,
}

impl Proxy {
    /// `descriptors` is the limit of the process.
    pub(crate) fn new(
        settings: &Settings,
        state: Arc<State>,
        telemetry: Telemetry,
        resolver: Resolver,
        balance: Arc<Balance>,
        descriptors: u64,
    ) -> Self {
        Self {
            state,
            telemetry,
            resolver,
            own: Own::new(),
            tracker: Tracker::new(),
            clock: Clock::new(),
            pipes: Pipes::new(net::descriptors::pipes(descriptors)),
            admission: Admission::new(&settings.limits, descriptors),
            balance,
            timeouts: settings.timeouts.clone(),
            records_required: settings.log.required,
            ids: Ids::new(),
            draining: CancellationToken::new(),
            drained: CancellationToken::new(),
        }
    }

    /// The time to drain is over: cuts everything that is open, and whatever opens from here on.
    pub(crate) fn end_drain(&self) {
        // First, so that what is open ends as cut; without a verdict by then, it ends as what got none.
        self.tracker.cut_all(End::Drain);
        self.drained.cancel();
        // Those that came to be open in between. Whoever opens from here on sees that all is over.
        self.tracker.cut_all(End::Drain);
    }
}

/// Request ids: a random start, so that two runs do not share them, and a counter.
#[derive(Debug)]
pub(crate) struct Ids {
    next: AtomicU64,
    /// Stands in `Via`, to recognise a request that comes back.
    pub(crate) pseudonym: String,
}

impl Ids {
    pub(crate) fn new() -> Self {
        let start = random();
        Self {
            next: AtomicU64::new(start),
            pseudonym: format!("sluicegate-{:08x}", random() >> 32),
        }
    }

    pub(crate) fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// The standard library seeds each of these from the operating system.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
