//! Limits on client connections: all together, and from one source.
//! Must not wait, nor say no by itself: accept tells the client.
//! Called for each accepted connection, before anything is read from it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use tokio::sync::Semaphore;

use super::Proxy;
use crate::net;
use crate::settings::Limits;
use crate::telemetry::Limit;

/// Counts client connections against the limits.
#[derive(Debug)]
pub(crate) struct Admission {
    limit: usize,
    all: AtomicUsize,
    per_source: usize,
    /// In shards, so that workers seldom wait for each other.
    sources: [Mutex<HashMap<IpAddr, usize, RandomState>>; SHARDS],
    shard: RandomState,
    /// Descriptors beyond the two of each connection, for upstream connections that are kept.
    pub(crate) spare: Arc<Semaphore>,
    /// Refusals that are being told at the same time; beyond it, connections are just closed.
    pub(super) farewells: Arc<Semaphore>,
}

/// A connection's place among all and among those of its source.
#[derive(Debug)]
pub(super) struct Admitted {
    proxy: Arc<Proxy>,
    source: IpAddr,
}

impl Admission {
    /// `descriptors` is what the system gives the process; more connections than it carries are not promised.
    pub(crate) fn new(limits: &Limits, descriptors: u64) -> Self {
        let limit = limits.connections.min(net::descriptors::connections(descriptors));
        let spare = net::descriptors::spare(descriptors, limit).min(Semaphore::MAX_PERMITS);
        Self {
            limit,
            all: AtomicUsize::new(0),
            spare: Arc::new(Semaphore::new(spare)),
            per_source: limits.per_source,
            sources: Default::default(),
            shard: RandomState::default(),
            farewells: Arc::new(Semaphore::new(FAREWELLS)),
        }
    }

    /// Those that have a place now.
    #[cfg(test)]
    pub(super) fn admitted(&self) -> usize {
        self.all.load(Relaxed)
    }

    /// How many connections may be served at the same time.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn admit(proxy: &Arc<Proxy>, source: IpAddr) -> Result<Admitted, Limit> {
        let admission = &proxy.admission;
        let place = |taken| (taken < admission.limit).then_some(taken + 1);
        if admission.all.fetch_update(Relaxed, Relaxed, place).is_err() {
            return Err(Limit::Connections);
        }
        let mut sources = admission.sources(source);
        let count = sources.entry(source).or_default();
        if *count >= admission.per_source {
            admission.all.fetch_sub(1, Relaxed);
            return Err(Limit::PerSource);
        }
        *count += 1;
        drop(sources);
        Ok(Admitted {
            proxy: Arc::clone(proxy),
            source,
        })
    }

    fn sources(&self, source: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, usize, RandomState>> {
        // The remainder is below the length of the array.
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 16")]
        let shard = (self.shard.hash_one(source) % SHARDS as u64) as usize;
        self.sources[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let admission = &self.proxy.admission;
        if let Entry::Occupied(mut count) = admission.sources(self.source).entry(self.source) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        admission.all.fetch_sub(1, Relaxed);
    }
}

const SHARDS: usize = 16;
const FAREWELLS: usize = 256;
