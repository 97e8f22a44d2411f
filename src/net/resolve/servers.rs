//! The DNS servers: who they are, in which order they are asked, and what their answers mean.
//! Must not cache. Each server has its own hickory pool, so that fail-over is ours and a dead one costs little.
//! Called by the resolver for what is not in its cache.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{DnsRequestOptions, DnsResponse, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use thiserror::Error;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::chain::{self, BadChain, MAX_ALIASES};
use super::health::Health;
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

/// The servers of the settings, or of the system, each asked over UDP, and over TCP where an answer is truncated.
pub struct Servers {
    /// In the order of the settings.
    all: Vec<Server>,
    timeout: Duration,
}

/// Why there is nobody to ask.
#[derive(Debug, Error)]
pub enum BadServers {
    #[error(
        "`dns.servers` is empty and /etc/resolv.conf gives none ({0}); write at least one, such as `servers: [\"10.0.0.10:53\"]`"
    )]
    System(NetError),
    #[error("the DNS client cannot be set up: {0}")]
    Client(NetError),
}

struct Server {
    address: SocketAddr,
    pool: NameServerPool<TokioRuntimeProvider>,
    health: Health,
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
            system_servers()?
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

impl Server {
    fn new(address: SocketAddr, timeout: Duration) -> Result<Self, BadServers> {
        let mut options = ResolverOpts::default();
        options.timeout = timeout;
        options.max_active_requests = MAX_TCP_QUESTIONS;
        let context = PoolContext::new(options, TlsConfig::new().map_err(BadServers::Client)?);
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = address.port();
            connection
        });
        let config = NameServerConfig::new(address.ip(), true, connections.into());
        Ok(Self {
            address,
            pool: NameServerPool::from_config([config], Arc::new(context), TokioRuntimeProvider::default()),
            health: Health::default(),
        })
    }

    /// Asks this server, and again for the end of the aliases where it has not followed them itself.
    async fn resolve(&self, name: &HostName, family: Family, patience: Duration) -> Result<Found, Trouble> {
        let mut asked = Name::from_ascii(name.as_str()).map_err(|error| self.failed(&error))?;
        // Absolute, whatever else: a relative name would be tried under the search list of whoever runs us.
        asked.set_fqdn(true);
        let deadline = Instant::now() + patience;
        let mut aliases = Vec::new();
        let mut ttl = u32::MAX;
        while aliases.len() <= MAX_ALIASES {
            let response = match timeout_at(deadline, self.question(&asked, family)).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(self.meaning(error, ttl)),
                Err(_) => return Err(self.meaning(NetError::Timeout, ttl)),
            };
            self.health.answered();
            let chain = chain::follow(&asked, family, &response.answers).map_err(|bad| self.bad_chain(bad))?;
            aliases.extend(chain.aliases);
            ttl = chain.ttl.unwrap_or(u32::MAX).min(ttl);
            if !chain.addresses.is_empty() {
                return Ok(Found {
                    addresses: chain.addresses.into(),
                    aliases: aliases.into(),
                    ttl: Duration::from_secs(ttl.into()),
                });
            }
            let nothing = response.negative_ttl();
            match response.response_code {
                ResponseCode::NXDomain => return Err(nothing_found(ResolveError::NotFound, nothing, ttl)),
                // An SOA record vouches that there is nothing at the end of the aliases.
                ResponseCode::NoError if nothing.is_some() => {
                    return Err(nothing_found(ResolveError::NoAddress, nothing, ttl));
                }
                ResponseCode::NoError if chain.end != asked => asked = chain.end,
                ResponseCode::NoError => return Err(self.failed(&"its answer is about other names")),
                code => return Err(self.refused(code)),
            }
        }
        Err(self.bad_chain(BadChain::TooLong))
    }

    async fn question(&self, name: &Name, family: Family) -> Result<DnsResponse, NetError> {
        let kind = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        let query = Query::query(name.clone(), kind);
        self.pool
            .lookup(query, DnsRequestOptions::default())
            .first_answer()
            .await
    }

    /// What it means that hickory hands out an error; among these are honest answers without records.
    fn meaning(&self, error: NetError, ttl: u32) -> Trouble {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(nothing)) => {
                self.health.answered();
                self.no_records(&nothing, ttl)
            }
            NetError::Dns(DnsError::ResponseCode(code)) => {
                self.health.answered();
                self.refused(code)
            }
            NetError::Timeout => {
                self.health.failed(Instant::now());
                Trouble::Failure(ResolveError::TimedOut)
            }
            error => {
                self.health.failed(Instant::now());
                self.failed(&error)
            }
        }
    }

    fn no_records(&self, nothing: &NoRecords, ttl: u32) -> Trouble {
        match nothing.response_code {
            ResponseCode::NXDomain => nothing_found(ResolveError::NotFound, nothing.negative_ttl, ttl),
            // Name servers of the zone instead of an answer: this server does not recurse for us.
            _ if nothing.soa.is_none() && nothing.ns.is_some() => self.failed(&"it refers to other servers"),
            _ => nothing_found(ResolveError::NoAddress, nothing.negative_ttl, ttl),
        }
    }

    fn bad_chain(&self, bad: BadChain) -> Trouble {
        match bad {
            BadChain::TooLong => self.failed(&format_args!("the name has more than {MAX_ALIASES} aliases")),
            BadChain::Alias(bad) => self.failed(&format_args!("the name is an alias of something else: {bad}")),
        }
    }

    fn refused(&self, code: ResponseCode) -> Trouble {
        self.failed(&format_args!("it answered \"{code}\" (RCODE {})", u16::from(code)))
    }

    fn failed(&self, why: &dyn fmt::Display) -> Trouble {
        Trouble::Failure(ResolveError::Failed(
            format!("DNS server {}: {why}", self.address).into(),
        ))
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.addresses()).finish()
    }
}

fn nothing_found(error: ResolveError, negative_ttl: Option<u32>, ttl: u32) -> Trouble {
    let ttl = Duration::from_secs(negative_ttl.unwrap_or(0).min(ttl).into());
    Trouble::Nothing { error, ttl }
}

/// Of two failures the one that tells more: what a server said, rather than silence.
fn clearer(old: Option<ResolveError>, new: ResolveError) -> ResolveError {
    match old {
        Some(old @ ResolveError::Failed(_)) => old,
        _ => new,
    }
}

/// Only its servers: a search list, `ndots` and all other options are for names that are not absolute.
fn system_servers() -> Result<Vec<SocketAddr>, BadServers> {
    let (config, _) = hickory_resolver::system_conf::read_system_conf().map_err(BadServers::System)?;
    let servers = config.name_servers().iter();
    Ok(servers.map(|server| SocketAddr::new(server.ip, DNS_PORT)).collect())
}

const DNS_PORT: u16 = 53;
/// Questions at once on one TCP connection; hickory's default of 32 turns bursts of large answers into failures.
const MAX_TCP_QUESTIONS: usize = 1024;
