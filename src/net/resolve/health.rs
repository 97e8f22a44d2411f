//! Whether a DNS server answered when it was last asked.
//! Must not make anything unreachable: a server that is ill is asked last, not never.
//! Called by the servers.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

/// The state of one server.
#[derive(Debug, Default)]
pub(super) struct Health {
    ill_until: Mutex<Option<Instant>>,
}

impl Health {
    /// It answered; what it said does not matter.
    pub(super) fn answered(&self) {
        self.set(None);
    }

    /// It did not.
    pub(super) fn failed(&self, now: Instant) {
        self.set(Some(now + ILL_FOR));
    }

    pub(super) fn is_well(&self, now: Instant) -> bool {
        let ill_until = *self.ill_until.lock().unwrap_or_else(PoisonError::into_inner);
        ill_until.is_none_or(|until| until <= now)
    }

    fn set(&self, ill_until: Option<Instant>) {
        *self.ill_until.lock().unwrap_or_else(PoisonError::into_inner) = ill_until;
    }
}

/// How long a server that did not answer is asked last.
const ILL_FOR: Duration = Duration::from_secs(10);
