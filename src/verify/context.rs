//! What all attempts share: the cluster's DNS, time limits, TLS for hellos that nobody completes.
//! Must not keep what one attempt learned from another, except names.
//! Called by the attempts.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{IpAddr as TlsAddress, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Came, Options};
use crate::kubernetes::judge::Outcome;
use crate::kubernetes::probe::Target;
use crate::name::{Host, HostName};
use crate::net::Resolver;
use crate::net::resolve::{BadServers, Family, ResolveError};
use crate::settings;

pub(super) struct Context {
    pub(super) timeout: Duration,
    /// Whether the proxy's explicit listeners speak TLS.
    pub(super) tls: bool,
    resolver: Result<Resolver, BadServers>,
    hellos: Arc<ClientConfig>,
}

impl Context {
    pub(super) fn new(options: &Options) -> Self {
        let hellos = ClientConfig::builder()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let dns = settings::Dns {
            servers: options.dns.into_iter().collect(),
            timeout: options.timeout,
            cache: NAMES,
            min_ttl: options.timeout,
            max_ttl: options.timeout,
            stale: Duration::ZERO,
        };
        Self {
            timeout: options.timeout,
            tls: options.tls,
            resolver: Resolver::new(&dns),
            hellos: Arc::new(hellos),
        }
    }

    /// The outcome of a lookup alone: a name that does not exist was asked for all the same.
    pub(super) async fn lookup(&self, name: &HostName) -> Came {
        match self.addresses(name).await {
            Ok(addresses) => (Outcome::Answered, format!("{name} is {}", shown(&addresses))),
            Err(Unresolved::Answer(answer)) => (Outcome::Denied, format!("{name}: {answer}")),
            Err(Unresolved::Trouble(trouble)) => (Outcome::Nothing, format!("{name}: {trouble}")),
        }
    }

    /// Where a target is.
    ///
    /// # Errors
    /// What a person needs to know; then nothing was tried.
    pub(super) async fn resolve(&self, to: &Target) -> Result<Vec<SocketAddr>, String> {
        let at = |ip: IpAddr| SocketAddr::new(ip, to.port.number());
        match &to.host {
            Host::Address(address) => Ok(vec![at(*address)]),
            Host::Name(name) => match self.addresses(name).await {
                Ok(addresses) => Ok(addresses.into_iter().map(at).collect()),
                Err(Unresolved::Answer(why) | Unresolved::Trouble(why)) => {
                    Err(format!("the name {name} could not be resolved: {why}"))
                }
            },
        }
    }

    async fn addresses(&self, name: &HostName) -> Result<Vec<IpAddr>, Unresolved> {
        let resolver = self
            .resolver
            .as_ref()
            .map_err(|error| Unresolved::Trouble(error.to_string()))?;
        let asker = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (v4, v6) = tokio::join!(
            resolver.lookup(name, Family::V4, asker),
            resolver.lookup(name, Family::V6, asker)
        );
        match (v4, v6) {
            (Err(error), Err(other)) => {
                let said = [&error, &other];
                match said.into_iter().find(|error| is_answer(error)) {
                    Some(answer) => Err(Unresolved::Answer(answer.to_string())),
                    None => Err(Unresolved::Trouble(error.to_string())),
                }
            }
            (v4, v6) => {
                let found = [v4, v6].into_iter().flatten();
                Ok(found
                    .flat_map(|answer| answer.addresses.to_vec())
                    .take(ADDRESSES)
                    .collect())
            }
        }
    }

    /// A handshake.
    pub(super) async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.within(TcpStream::connect(to)).await
    }

    /// A step, or an error that says how long nothing came.
    pub(super) async fn within<T>(&self, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        match timeout(self.timeout, step).await {
            Ok(done) => done,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("nothing came in {:?}", self.timeout),
            )),
        }
    }

    /// The bytes of a ClientHello; an address has no name in it (RFC 6066, section 3).
    pub(super) fn hello(&self, host: &Host) -> io::Result<Vec<u8>> {
        let name = match host {
            Host::Name(name) => ServerName::try_from(name.to_string()).map_err(io::Error::other)?,
            Host::Address(address) => ServerName::IpAddress(TlsAddress::from(*address)),
        };
        let mut connection = ClientConnection::new(Arc::clone(&self.hellos), name).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut bytes)?;
        }
        Ok(bytes)
    }
}

/// Why a name led nowhere.
enum Unresolved {
    /// DNS said so.
    Answer(String),
    /// It did not answer, or could not be asked.
    Trouble(String),
}

fn is_answer(error: &ResolveError) -> bool {
    matches!(error, ResolveError::NotFound | ResolveError::NoAddress)
}

fn shown(addresses: &[IpAddr]) -> String {
    let all: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
    all.join(", ")
}

const NAMES: usize = 1000;
/// Of a name, as many as are tried.
const ADDRESSES: usize = 4;
