//! The DNS servers: which ones, in which order they are asked, and what their answers mean.
//! Must not cache. Each server has its own hickory pool, so that fail-over is ours and one dead server costs little.
//! Called by the resolver for what is not in its cache.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequestOptions, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use thiserror::Error;

use super::{Family, ResolveError};
use crate::name::HostName;
use crate::settings;

/// All servers, in the order of the settings.
pub struct Servers {
    all: Vec<Server>,
}

/// Why there is nobody to ask.
#[derive(Debug, Error)]
pub enum BadServers {
    #[error("`dns.servers` is empty and /etc/resolv.conf cannot be read: {0}")]
    SystemFile(NetError),
    #[error("`dns.servers` is empty and /etc/resolv.conf names no server; write at least one, such as 10.0.0.10:53")]
    None,
    #[error("the DNS client cannot be set up: {0}")]
    Client(NetError),
}

struct Server {
    address: SocketAddr,
    pool: NameServerPool<TokioRuntimeProvider>,
}

impl Servers {
    pub(super) fn new(settings: &settings::Dns) -> Result<Self, BadServers> {
        let addresses = if settings.servers.is_empty() {
            system_servers()?
        } else {
            settings.servers.clone()
        };
        if addresses.is_empty() {
            return Err(BadServers::None);
        }
        let mut options = ResolverOpts::default();
        options.timeout = settings.timeout;
        options.max_active_requests = 1024;
        let all = addresses
            .into_iter()
            .map(|address| {
                let tls = TlsConfig::new().map_err(BadServers::Client)?;
                let context = Arc::new(PoolContext::new(options.clone(), tls));
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = address.port();
                    connection
                });
                let config = NameServerConfig::new(address.ip(), true, connections.into());
                let pool = NameServerPool::from_config([config], context, TokioRuntimeProvider::default());
                Ok(Server { address, pool })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { all })
    }

    pub(super) async fn ask(
        &self,
        name: &HostName,
        family: Family,
    ) -> Result<(Arc<[IpAddr]>, Arc<[HostName]>), ResolveError> {
        let mut last = ResolveError::TimedOut;
        let mut absolute =
            Name::from_ascii(name.as_str()).map_err(|error| ResolveError::Failed(error.to_string().into()))?;
        absolute.set_fqdn(true);
        let kind = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        for server in &self.all {
            let query = Query::query(absolute.clone(), kind);
            match server
                .pool
                .lookup(query, DnsRequestOptions::default())
                .first_answer()
                .await
            {
                Ok(response) => {
                    let addresses: Arc<[IpAddr]> = response
                        .answers
                        .iter()
                        .filter_map(|record| match &record.data {
                            RData::A(address) => Some(address.0.into()),
                            RData::AAAA(address) => Some(address.0.into()),
                            _ => None,
                        })
                        .collect();
                    if addresses.is_empty() {
                        return Err(ResolveError::NoAddress);
                    }
                    return Ok((addresses, Arc::default()));
                }
                Err(NetError::Dns(DnsError::NoRecordsFound(nothing))) => {
                    return Err(match nothing.response_code {
                        ResponseCode::NXDomain => ResolveError::NotFound,
                        _ => ResolveError::NoAddress,
                    });
                }
                Err(NetError::Timeout) => {}
                Err(error) => last = ResolveError::Failed(format!("DNS server {}: {error}", server.address).into()),
            }
        }
        Err(last)
    }
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.all.iter().map(|server| server.address))
            .finish()
    }
}

fn system_servers() -> Result<Vec<SocketAddr>, BadServers> {
    let (config, _) = hickory_resolver::system_conf::read_system_conf().map_err(BadServers::SystemFile)?;
    Ok(config
        .name_servers()
        .iter()
        .map(|server| SocketAddr::new(server.ip, 53))
        .collect())
}
