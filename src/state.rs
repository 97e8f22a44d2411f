//! The policy in force and its generation: the only mutable state that the data path shares.
//! Must not read files or judge; it swaps whole policies and tells who waits. The source publishes, everyone reads.
//! Called by every session for its snapshot, and by admin, metrics and the tracker.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::policy::{Generation, Policy};

/// What is in force, and what was refused since.
#[derive(Debug)]
pub struct State {
    policy: ArcSwap<Policy>,
    /// When the policy in force was accepted.
    since: ArcSwap<Timestamp>,
    /// The newest set of files, if it was refused; cleared by the next accepted one.
    refused: ArcSwapOption<RefusedLoad>,
    changed: watch::Sender<Generation>,
}

/// A set of files that did not come into force.
#[derive(Clone, Debug)]
pub struct RefusedLoad {
    pub at: Timestamp,
    /// The rendered problems, the same text as `check` prints.
    pub problems: String,
}

impl State {
    pub fn new(policy: Policy, now: Timestamp) -> Self {
        let (changed, _) = watch::channel(policy.generation());
        Self {
            policy: ArcSwap::from_pointee(policy),
            since: ArcSwap::from_pointee(now),
            refused: ArcSwapOption::empty(),
            changed,
        }
    }

    /// The snapshot for one decision.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Brings a snapshot up to date. Nearly always it is: then nobody else's count of it is touched.
    pub fn renew(&self, held: &mut Arc<Policy>) {
        let policy = self.policy.load();
        if !Arc::ptr_eq(&policy, held) {
            *held = Arc::clone(&policy);
        }
    }

    /// Which policy is in force.
    pub fn generation(&self) -> Generation {
        self.policy.load().generation()
    }

    pub fn since(&self) -> Timestamp {
        **self.since.load()
    }

    pub fn refused(&self) -> Option<Arc<RefusedLoad>> {
        self.refused.load_full()
    }

    /// Puts a policy in force and tells everyone who waits.
    pub fn publish(&self, policy: Policy, now: Timestamp) {
        let generation = policy.generation();
        self.policy.store(Arc::new(policy));
        self.since.store(Arc::new(now));
        self.refused.store(None);
        self.changed.send_replace(generation);
    }

    /// Notes a refused set; the policy in force stays.
    pub fn refuse(&self, refused: RefusedLoad) {
        self.refused.store(Some(Arc::new(refused)));
    }

    /// The set in force was delivered again; an earlier refusal of another one no longer stands.
    pub fn restore(&self) {
        self.refused.store(None);
    }

    /// Tells everyone who waits that the policy in force now answers differently, because time has passed.
    pub fn rejudge(&self) {
        self.changed.send_modify(|_| {});
    }

    /// Becomes ready whenever a policy has been published, or answers differently by time alone.
    pub fn changes(&self) -> watch::Receiver<Generation> {
        self.changed.subscribe()
    }
}
