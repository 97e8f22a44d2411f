//! The DNS servers together: in which order they are asked, and who stands in for whom.
//! Must not cache. Fail-over is ours: hickory's own gives all servers together the time of one.
//! Called by the resolver for what is not in its memory.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::server::Server;
use super::system::{self, BadServers};
use super::{Family, ResolveError};
use crate::name::HostName;
use crate::net::race::Race;
use crate::settings;

/// Whoever answers questions. Tests bring their own.
pub trait Nameservers: Send + Sync + 'static {
    /// Asks for the addresses of one family; always of exactly this name.
    fn ask(&self, name: &HostName, family: Family) -> impl Future<Output = Result<Found, Trouble>> + Send;

    /// Whether none of them has answered anything when last asked.
    fn are_down(&self) -> bool;
}

/// Addresses as a server gave them; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub addresses: Arc<[IpAddr]>,
    pub aliases: Arc<[HostName]>,
    pub ttl: Duration,
}

/// Anything else that came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A server said with authority that there are none, and for how long to believe it (RFC 2308).
    Nothing { error: ResolveError, ttl: Duration },
    /// No server said anything of use.
    Failure(ResolveError),
}

/// The servers of the settings, or of the system.
pub struct Servers {
    /// In the order of the settings.
    all: Vec<Server>,
    timeout: Duration,
}

impl Trouble {
    pub(super) fn into_error(self) -> ResolveError {
        match self {
            Self::Nothing { error, .. } | Self::Failure(error) => error,
        }
    }
}

impl Servers {
    pub(super) fn new(settings: &settings::Dns) -> Result<Self, BadServers> {
        let addresses = if settings.servers.is_empty() {
            system::servers()?
        } else {
            settings.servers.clone()
        };
        let all = addresses
            .into_iter()
            .map(|address| Server::new(address, settings.timeout));
        Ok(Self {
            all: all.collect::<Result<_, _>>()?,
            timeout: settings.timeout,
        })
    }

    /// The addresses of the servers.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.all.iter().map(|server| server.address)
    }

    /// Those that are well first, each group in the order of the settings.
    fn in_order(&self) -> Vec<&Server> {
        let now = Instant::now();
        let (mut well, ill): (Vec<_>, Vec<_>) = self.all.iter().partition(|server| server.health.is_well(now));
        well.extend(ill);
        well
    }
}

impl Nameservers for Servers {
    /// The next server is asked as soon as one has failed, and beside one that is slow: a dead server costs a quarter
    /// of the time-out once, and is asked last for a while.
    async fn ask(&self, name: &HostName, family: Family) -> Result<Found, Trouble> {
        let mut servers = self.in_order().into_iter();
        let mut race = Race::new();
        let mut asked: Vec<&Server> = Vec::new();
        let mut failure = None;
        loop {
            let patience = Instant::now() + self.timeout / 4;
            if let Some(server) = servers.next() {
                race.enter(async move { (server, server.resolve(name, family, self.timeout).await) });
                asked.push(server);
            }
            if race.running() == 0 {
                return Err(Trouble::Failure(failure.unwrap_or(ResolveError::TimedOut)));
            }
            tokio::select! {
                biased;
                (server, outcome) = race.next() => {
                    let earlier = asked.iter().position(|other| other.address == server.address).unwrap_or_default();
                    if let Err(Trouble::Failure(error)) = outcome {
                        failure = Some(clearer(failure, error));
                        asked.remove(earlier);
                    } else {
                        // Whoever was asked before the one that answered, and still has not, is not waited for again.
                        let now = Instant::now();
                        asked.iter().take(earlier).for_each(|server| server.health.failed(now));
                        return outcome;
                    }
                }
                () = sleep_until(patience), if servers.len() > 0 => {}
            }
        }
    }

    fn are_down(&self) -> bool {
        let now = Instant::now();
        !self.all.iter().any(|server| server.health.is_well(now))
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.addresses()).finish()
    }
}

/// Of two failures the one that tells more: what a server said, rather than silence.
fn clearer(old: Option<ResolveError>, new: ResolveError) -> ResolveError {
    match old {
        Some(old @ ResolveError::Failed(_)) => old,
        _ => new,
    }
}
