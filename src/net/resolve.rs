//! Names to addresses: one question per name and family at a time, bounded cache, stale answers while DNS is down.
//! Must not judge addresses, read a hosts file or try a search list; a name is asked for exactly as it stands.
//! Called by the dialler and `explain --resolve`, only for names that the gate has allowed.

mod cache;
mod chain;
mod health;
mod memory;
mod server;
mod servers;
mod system;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use thiserror::Error;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

use self::memory::{Memory, Recalled};
pub use self::servers::{Found, Nameservers, Servers, Trouble};
pub use self::system::BadServers;
use crate::name::HostName;
use crate::settings;

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

/// Addresses of a name; at least one, at most 64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub addresses: Arc<[IpAddr]>,
    /// The names that the asked one is an alias of (CNAMEs), in the order they were followed.
    pub aliases: Arc<[HostName]>,
    /// The answer had expired, and is used because all DNS servers are down.
    pub stale: bool,
    /// Nobody had to be asked.
    pub cached: bool,
    /// How long this lookup waited.
    pub took: Duration,
}

/// Why there are no addresses.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ResolveError {
    #[error("the name does not exist (NXDOMAIN)")]
    NotFound,
    #[error("the name exists, but has no such address")]
    NoAddress,
    #[error("{0}")]
    Failed(Arc<str>),
    #[error("no DNS server answered in time")]
    TimedOut,
    /// Nobody was asked: the asker's share is used up.
    #[error("this client waits for too many names at once")]
    TooMany,
    /// Nobody was asked: it was nobody's turn in time.
    #[error("the proxy waits for too many names at once")]
    Busy,
}

/// Asks DNS servers. Clones share the cache and the questions in flight.
pub struct Resolver<N = Servers> {
    shared: Arc<Shared<N>>,
}

struct Shared<N> {
    servers: N,
    settings: settings::Dns,
    state: Mutex<State>,
    /// Each question takes a socket; this many at once.
    turns: Semaphore,
}

struct State {
    memory: Memory,
    flights: HashMap<(HostName, Family), Flight, RandomState>,
    /// How many flights each address has started that have not landed. None is zero.
    shares: HashMap<IpAddr, usize, RandomState>,
}

/// A question that is being asked. Everyone who wants its outcome waits here; `None` until it is there.
type Flight = watch::Receiver<Option<Result<Found, ResolveError>>>;

/// Ends a flight when it is dropped, however its task ends, and gives its place back to whom it was charged.
struct Aloft<'a, N> {
    shared: &'a Shared<N>,
    question: (HostName, Family),
    asker: IpAddr,
}

impl Resolver {
    /// A resolver over `settings.servers`, or, if there are none, over the servers of /etc/resolv.conf. Questions are
    /// asked by tasks of the tokio runtime that looks a name up.
    pub fn new(settings: &settings::Dns) -> Result<Self, BadServers> {
        Ok(Self::over(Servers::new(settings)?, settings))
    }
}

impl<N: Nameservers> Resolver<N> {
    /// A resolver over anybody who answers.
    pub fn over(servers: N, settings: &settings::Dns) -> Self {
        let state = State {
            memory: Memory::new(settings),
            flights: HashMap::default(),
            shares: HashMap::default(),
        };
        let shared = Shared {
            servers,
            settings: settings.clone(),
            state: Mutex::new(state),
            turns: Semaphore::new(MAX_QUESTIONS),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    pub fn servers(&self) -> &N {
        &self.shared.servers
    }

    /// What can be said of a name without asking or waiting; IPv6 first. `None`: it must be looked up.
    pub fn remembered(&self, name: &HostName) -> [(Family, Option<Result<Answer, ResolveError>>); 2] {
        let start = Instant::now();
        let mut state = self.shared.state();
        [Family::V6, Family::V4].map(|family| (family, state.memory.recall(name, family, start).at_once().ok()))
    }

    /// The addresses of one family. A question that nobody has asked yet is charged to the asker.
    pub async fn lookup(&self, name: &HostName, family: Family, asker: IpAddr) -> Result<Answer, ResolveError> {
        let start = Instant::now();
        let (flight, expired) = {
            let mut state = self.shared.state();
            match state.memory.recall(name, family, start).at_once() {
                Ok(outcome) => return outcome,
                Err(expired) => (self.join(&mut state, name, family, asker), expired),
            }
        };
        let outcome = match (flight, expired) {
            // With all servers down the question goes on by itself; this client need not wait for it to fail.
            (Ok(flight), Some(found)) if self.shared.servers.are_down() => {
                match timeout(STALE_AFTER, landing(flight)).await {
                    Ok(outcome) => outcome,
                    Err(_) => return Ok(found.answer(true, true, start.elapsed())),
                }
            }
            (Ok(flight), _) => landing(flight).await,
            (Err(error), _) => Err(error),
        };
        match outcome {
            Ok(found) => Ok(found.answer(false, false, start.elapsed())),
            Err(error) if self.is_outage(&error) => self
                .shared
                .state()
                .memory
                .stale(name, family, Instant::now())
                .map(|found| found.answer(true, true, start.elapsed()))
                .ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// Whether an expired answer may stand in.
    fn is_outage(&self, error: &ResolveError) -> bool {
        match error {
            ResolveError::NotFound | ResolveError::NoAddress => false,
            ResolveError::Failed(_) | ResolveError::TimedOut => true,
            ResolveError::TooMany | ResolveError::Busy => self.shared.servers.are_down(),
        }
    }

    /// The flight for this question, started if there is none and the asker's share allows it. It goes on, on that
    /// share, when those who wait for it go away.
    fn join(&self, state: &mut State, name: &HostName, family: Family, asker: IpAddr) -> Result<Flight, ResolveError> {
        match state.flights.entry((name.clone(), family)) {
            Entry::Occupied(flight) => Ok(flight.get().clone()),
            Entry::Vacant(place) => {
                let share = state.shares.entry(asker).or_default();
                if *share >= MAX_QUESTIONS_OF_ONE {
                    return Err(ResolveError::TooMany);
                }
                *share += 1;
                let (sender, flight) = watch::channel(None);
                place.insert(flight.clone());
                let (shared, name) = (self.shared.clone(), name.clone());
                tokio::spawn(async move {
                    let aloft = Aloft {
                        shared: &*shared,
                        question: (name, family),
                        asker,
                    };
                    let name = &aloft.question.0;
                    let outcome = shared.ask(name, family).await;
                    // Where nobody was asked there is nothing to remember.
                    if !matches!(outcome, Err(Trouble::Failure(ResolveError::Busy))) {
                        shared.state().memory.note(name, family, &outcome, Instant::now());
                    }
                    drop(aloft);
                    sender.send_replace(Some(outcome.map_err(Trouble::into_error)));
                });
                Ok(flight)
            }
        }
    }
}

impl<N: Nameservers> Shared<N> {
    async fn ask(&self, name: &HostName, family: Family) -> Result<Found, Trouble> {
        let Ok(Ok(_turn)) = timeout(self.settings.timeout, self.turns.acquire()).await else {
            return Err(Trouble::Failure(ResolveError::Busy));
        };
        self.servers.ask(name, family).await
    }
}

impl<N> Shared<N> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<N> Drop for Aloft<'_, N> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.flights.remove(&self.question);
        if let Entry::Occupied(mut share) = state.shares.entry(self.asker) {
            *share.get_mut() -= 1;
            if *share.get() == 0 {
                share.remove();
            }
        }
    }
}

impl Recalled {
    /// What a lookup ends with at once; otherwise the expired answer that may stand in.
    fn at_once(self) -> Result<Result<Answer, ResolveError>, Option<Found>> {
        match self {
            Self::Known(outcome) => Ok(outcome.map(|found| found.answer(true, false, Duration::ZERO))),
            Self::Failing(Some(found), _) => Ok(Ok(found.answer(true, true, Duration::ZERO))),
            Self::Failing(None, error) => Ok(Err(error)),
            Self::Expired(found) => Err(Some(found)),
            Self::Unknown => Err(None),
        }
    }
}

impl Found {
    fn answer(self, cached: bool, stale: bool, took: Duration) -> Answer {
        Answer {
            addresses: self.addresses,
            aliases: self.aliases,
            stale,
            cached,
            took,
        }
    }
}

async fn landing(mut flight: Flight) -> Result<Found, ResolveError> {
    let landed = flight.wait_for(Option::is_some).await;
    let outcome = landed.ok().and_then(|outcome| outcome.clone());
    outcome.unwrap_or_else(|| Err(ResolveError::Failed("the question was given up".into())))
}

impl<N> Clone for Resolver<N> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<N: fmt::Debug> fmt::Debug for Resolver<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Resolver").field(&self.shared.servers).finish()
    }
}

/// Flights whose clients have gone still hold a socket each; see [`crate::net::descriptors`].
const MAX_QUESTIONS: usize = 1024;
/// So many of them for one client address, so that names whose servers are silent do not take the turns of everyone:
/// an eighth, and 64 unknown names at once in both families.
const MAX_QUESTIONS_OF_ONE: usize = 128;
/// How long a client waits for servers that were down a moment ago before it gets an expired answer.
const STALE_AFTER: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
