//! Whether this proxy should get connections.
//! Must not be ready by default: each condition is said once by whoever brings it about.
//! Called by the app at start and at its end; read by `/readyz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The conditions. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Conditions>);

#[derive(Debug, Default)]
struct Conditions {
    listeners: AtomicBool,
    policy: AtomicBool,
    draining: AtomicBool,
}

impl Readiness {
    /// Every listener of the settings and of the policy is bound.
    pub fn listeners_bound(&self) {
        self.0.listeners.store(true, Ordering::Release);
    }

    /// A policy is in force. A reload that is refused does not change that.
    pub fn policy_in_force(&self) {
        self.0.policy.store(true, Ordering::Release);
    }

    /// The process is going to end: no new connections, from now on.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// What is missing; empty when ready.
    pub fn missing(&self) -> Vec<&'static str> {
        let Conditions {
            listeners,
            policy,
            draining,
        } = &*self.0;
        [
            (!listeners.load(Ordering::Acquire), "listeners are not bound"),
            (!policy.load(Ordering::Acquire), "no policy is in force"),
            (draining.load(Ordering::Acquire), "draining"),
        ]
        .into_iter()
        .filter_map(|(missing, what)| missing.then_some(what))
        .collect()
    }
}
