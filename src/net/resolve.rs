//! Names to addresses: one question per name and family at a time, bounded cache, stale answers while DNS is down.
//! Must not judge addresses, read a hosts file or try a search list; a name is asked for exactly as it stands.
//! Called by the dialler and `explain --resolve`, only for names that the gate has allowed.

mod servers;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

pub use self::servers::{BadServers, Servers};
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
}

/// Asks DNS servers. Clones share cache and questions in flight.
#[derive(Clone, Debug)]
pub struct Resolver {
    servers: Arc<Servers>,
}

impl Resolver {
    /// A resolver over `settings.servers`, or, if there are none, over the servers of /etc/resolv.conf.
    pub fn new(settings: &settings::Dns) -> Result<Self, BadServers> {
        Ok(Self {
            servers: Arc::new(Servers::new(settings)?),
        })
    }

    /// The addresses of one family.
    pub async fn lookup(&self, name: &HostName, family: Family) -> Result<Answer, ResolveError> {
        let start = Instant::now();
        let (addresses, aliases) = self.servers.ask(name, family).await?;
        Ok(Answer {
            addresses,
            aliases,
            stale: false,
            cached: false,
            took: start.elapsed(),
        })
    }
}
