//! From a host to a connected socket: resolve both families, judge every address, race the ones that passed (RFC 8305).
//! Must not dial an address that the caller's judge has not passed, nor any that did not come from the host itself.
//! Called by the session after the gate has allowed the host.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

use super::resolve::{Answer, Family, ResolveError, Resolver};
use super::socket::tune_upstream;
use crate::name::{Host, HostName, Port};
use crate::policy::Reason;

/// What stands between us and an address: the guard, deny rules on addresses, this process itself.
pub type Judge<'a> = &'a (dyn Fn(IpAddr) -> Result<(), Reason> + Send + Sync);

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Everything, from the first question to the connected socket. Zero: no limit.
    pub total: Duration,
    /// One address.
    pub attempt: Duration,
    /// Before the next address is tried beside the ones that have not answered.
    pub attempt_delay: Duration,
    /// For IPv6 addresses, once IPv4 ones are there.
    pub resolution_delay: Duration,
}

/// A connected upstream.
#[derive(Debug)]
pub struct Dialled<S = TcpStream> {
    /// No delay, keepalive and user time-out are set.
    pub stream: S,
    pub address: IpAddr,
    /// Aliases followed from the host to its addresses.
    pub aliases: Vec<HostName>,
    /// From an expired answer, because all DNS servers are down.
    pub stale: bool,
    /// Until there was an address to dial; zero for a literal one.
    pub dns_took: Duration,
    /// From then on.
    pub connect_took: Duration,
    /// Addresses of the host that were judged and dropped.
    pub refused: Vec<(IpAddr, Reason)>,
}

/// Why nothing is connected.
#[derive(Debug)]
pub struct DialError {
    /// `dns`, `dns_timeout`, `connect`, `connect_timeout`, or the judge's reason where it left no address.
    pub reason: Reason,
    /// One sentence for a person.
    pub detail: String,
    pub refused: Vec<(IpAddr, Reason)>,
    pub aliases: Vec<HostName>,
    pub stale: bool,
    pub dns_took: Duration,
}

/// Resolves, judges and connects.
pub async fn dial(
    resolver: &Resolver,
    host: &Host,
    port: Port,
    judge: Judge<'_>,
    limits: &Limits,
) -> Result<Dialled, DialError> {
    let start = Instant::now();
    let mut refused = Vec::new();
    let mut aliases = Vec::new();
    let mut stale = false;
    let mut trouble = (Reason::Dns, String::new());
    let mut addresses = Vec::new();
    match host {
        Host::Address(address) => addresses.push(*address),
        Host::Name(name) => {
            let (v6, v4) = tokio::join!(resolver.lookup(name, Family::V6), resolver.lookup(name, Family::V4));
            for answer in [v6, v4] {
                match answer {
                    Ok(Answer {
                        addresses: found,
                        aliases: followed,
                        stale: old,
                        ..
                    }) => {
                        addresses.extend_from_slice(&found);
                        aliases.extend_from_slice(&followed);
                        stale |= old;
                    }
                    Err(ResolveError::TimedOut) => {
                        trouble = (Reason::DnsTimeout, format!("{host}: {}", ResolveError::TimedOut));
                    }
                    Err(error) => trouble.1 = format!("{host}: {error}"),
                }
            }
        }
    }
    let dns_took = start.elapsed();
    addresses.retain(|address| match judge(*address) {
        Ok(()) => true,
        Err(reason) => {
            refused.push((*address, reason));
            false
        }
    });
    if let Some((address, reason)) = refused.first() {
        trouble = (*reason, format!("{host} is at {address}: {}", reason.doc()));
    }
    for address in addresses {
        match timeout_at(
            Instant::now() + limits.attempt,
            connect(SocketAddr::new(address, port.number())),
        )
        .await
        {
            Ok(Ok(stream)) => {
                return Ok(Dialled {
                    stream,
                    address,
                    aliases,
                    stale,
                    dns_took,
                    connect_took: start.elapsed().saturating_sub(dns_took),
                    refused,
                });
            }
            Ok(Err(error)) => trouble = (Reason::Connect, format!("{address}: {error}")),
            Err(_) => trouble = (Reason::ConnectTimeout, format!("{address} did not answer")),
        }
    }
    let (reason, detail) = trouble;
    Err(DialError {
        reason,
        detail,
        refused,
        aliases,
        stale,
        dns_took,
    })
}

impl Limits {
    /// The defaults of RFC 8305, section 8, within that time in all.
    pub fn within(total: Duration) -> Self {
        Self {
            total,
            attempt: Duration::from_secs(5),
            attempt_delay: Duration::from_millis(250),
            resolution_delay: Duration::from_millis(50),
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    tune_upstream(&socket)?;
    socket.connect(address).await
}
