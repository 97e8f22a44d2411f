//! One DNS server: how it is asked, and what its answers mean.
//! Must not try another one, nor cache. Names go out absolute and exactly as they were asked for.
//! Called by the servers, which choose whom to ask.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{DnsRequestOptions, DnsResponse, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use tokio::time::{Instant, timeout_at};

use super::chain::{self, BadChain, MAX_ALIASES};
use super::health::Health;
use super::system::BadServers;
use super::{Family, Found, ResolveError, Trouble};
use crate::name::HostName;

/// A server, asked over UDP, and over TCP where an answer is truncated.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) health: Health,
    pool: NameServerPool<TokioRuntimeProvider>,
}

impl Server {
    pub(super) fn new(address: SocketAddr, timeout: Duration) -> Result<Self, BadServers> {
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
    pub(super) async fn resolve(&self, name: &HostName, family: Family, patience: Duration) -> Result<Found, Trouble> {
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

fn nothing_found(error: ResolveError, negative_ttl: Option<u32>, ttl: u32) -> Trouble {
    let ttl = Duration::from_secs(negative_ttl.unwrap_or(0).min(ttl).into());
    Trouble::Nothing { error, ttl }
}

/// Questions at once on one TCP connection; hickory's default of 32 turns bursts of large answers into failures.
const MAX_TCP_QUESTIONS: usize = 1024;
