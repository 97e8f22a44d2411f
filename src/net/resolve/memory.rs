//! What is remembered of names: answers, their absence, failures just now; how long each is good for.
//! Must not ask anybody. Time is passed in.
//! Called by the resolver, under its lock.

use std::time::Duration;

use tokio::time::Instant;

use super::cache::Cache;
use super::{Family, Found, ResolveError, Trouble};
use crate::name::HostName;
use crate::settings;

/// The memory of a resolver.
#[derive(Debug)]
pub(super) struct Memory {
    cache: Cache<[Known; 2]>,
    min_ttl: Duration,
    max_ttl: Duration,
    stale: Duration,
}

/// What a lookup finds here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recalled {
    /// It is answered: addresses, or with authority none.
    Known(Result<Found, ResolveError>),
    /// All servers failed just now; nobody is asked again yet. An expired answer may stand in.
    Failing(Option<Found>, ResolveError),
    /// The servers must be asked. If they all fail, this may stand in.
    Expired(Found),
    Unknown,
}

/// Of one family of one name.
#[derive(Debug, Default)]
struct Known {
    outcome: Option<(Result<Found, ResolveError>, Instant)>,
    failure: Option<(ResolveError, Instant)>,
}

impl Memory {
    pub(super) fn new(settings: &settings::Dns) -> Self {
        Self {
            cache: Cache::new(settings.cache),
            min_ttl: settings.min_ttl,
            max_ttl: settings.max_ttl,
            stale: settings.stale,
        }
    }

    pub(super) fn recall(&mut self, name: &HostName, family: Family, now: Instant) -> Recalled {
        let Some(known) = self.cache.find(name).and_then(|both| both.get(family.place())) else {
            return Recalled::Unknown;
        };
        if let Some((outcome, until)) = &known.outcome
            && now < *until
        {
            return Recalled::Known(outcome.clone());
        }
        let expired = known.expired(self.stale, now);
        match (&known.failure, expired) {
            (Some((error, until)), expired) if now < *until => Recalled::Failing(expired, error.clone()),
            (_, Some(found)) => Recalled::Expired(found),
            (_, None) => Recalled::Unknown,
        }
    }

    /// An answer that expired, but not longer ago than `dns.stale`; for when all servers have failed.
    pub(super) fn stale(&mut self, name: &HostName, family: Family, now: Instant) -> Option<Found> {
        self.cache.find(name)?.get(family.place())?.expired(self.stale, now)
    }

    /// How many names are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }

    /// Remembers what came of a question.
    pub(super) fn note(&mut self, name: &HostName, family: Family, outcome: &Result<Found, Trouble>, now: Instant) {
        let Some(known) = self.cache.entry(name).and_then(|both| both.get_mut(family.place())) else {
            return;
        };
        known.failure = None;
        match outcome {
            Ok(found) => {
                let ttl = found.ttl.min(self.max_ttl).max(self.min_ttl);
                known.outcome = Some((Ok(found.clone()), now + ttl));
            }
            Err(Trouble::Nothing { error, ttl }) => {
                let ttl = (*ttl).min(self.max_ttl).min(MAX_NEGATIVE_TTL).max(self.min_ttl);
                known.outcome = Some((Err(error.clone()), now + ttl));
            }
            Err(Trouble::Failure(error)) => known.failure = Some((error.clone(), now + FAILURE_TTL)),
        }
    }
}

impl Known {
    fn expired(&self, stale: Duration, now: Instant) -> Option<Found> {
        match &self.outcome {
            Some((Ok(found), until)) if now < *until + stale => Some(found.clone()),
            _ => None,
        }
    }
}

impl Family {
    fn place(self) -> usize {
        match self {
            Self::V4 => 0,
            Self::V6 => 1,
        }
    }
}

/// Whoever adds a missing record must not wait for hours, whatever its zone says.
const MAX_NEGATIVE_TTL: Duration = Duration::from_mins(1);
/// Long enough that a burst of clients costs one failure, short enough to notice that servers are back.
const FAILURE_TTL: Duration = Duration::from_secs(1);
