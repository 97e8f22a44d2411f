//! From a host to a connected socket: resolve both families, judge every address, race the ones that passed (RFC 8305).
//! Must not dial an address that the caller's judge has not passed, nor any that did not come from the host itself.
//! Called by the session after the gate has allowed the host.

mod candidates;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until, timeout_at};

use self::candidates::Candidates;
use super::race::Race;
use super::resolve::{Answer, Family, Nameservers, ResolveError, Resolver};
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
    /// `None` for a literal address, where the time was over first, and where nobody could be asked.
    pub resolution: Option<Resolution>,
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
    /// `dns`, `dns_timeout`, `limit`, `connect`, `connect_timeout`, or the judge's reason where it left no address.
    pub reason: Reason,
    /// One sentence for a person.
    pub detail: String,
    pub refused: Vec<(IpAddr, Reason)>,
    pub aliases: Vec<HostName>,
    pub stale: bool,
    /// `None` for a literal address, where the time was over first, and where nobody could be asked.
    pub resolution: Option<Resolution>,
    /// Until there was an address to dial, or until it was clear that there is none.
    pub dns_took: Duration,
}

/// How a name became addresses, or did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// A server was asked and answered.
    Answered,
    /// From the cache.
    Cached,
    /// From the cache, past its time, because all servers are down.
    Stale,
    /// The name does not exist, or has no addresses.
    NotFound,
    Failed,
    TimedOut,
}

/// How an address becomes a stream. Tests bring their own.
pub trait Connect: Sync {
    type Stream: Send;

    /// Connects to that address and no other.
    fn connect(&self, to: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Connects TCP sockets.
#[derive(Clone, Copy, Debug)]
pub struct Tcp;

/// Resolves, judges and connects. DNS questions are charged to the asker, a client.
pub async fn dial<N: Nameservers>(
    resolver: &Resolver<N>,
    asker: IpAddr,
    host: &Host,
    port: Port,
    judge: Judge<'_>,
    limits: &Limits,
) -> Result<Dialled, DialError> {
    dial_through(&Tcp, resolver, asker, host, port, judge, limits).await
}

/// The same through any way to connect.
pub async fn dial_through<C: Connect, N: Nameservers>(
    connector: &C,
    resolver: &Resolver<N>,
    asker: IpAddr,
    host: &Host,
    port: Port,
    judge: Judge<'_>,
    limits: &Limits,
) -> Result<Dialled<C::Stream>, DialError> {
    let start = Instant::now();
    let deadline = start + if limits.total.is_zero() { FOR_EVER } else { limits.total };
    let mut candidates = Candidates::new(judge);
    let mut lookups: Race<'_, (Family, Result<Answer, ResolveError>)> = Race::new();
    let mut attempts: Race<'_, (IpAddr, io::Result<C::Stream>)> = Race::new();
    let mut dns_took = Duration::ZERO;
    // When the next address may be dialled; nothing is before the first one is known.
    let mut next = None;
    match host {
        Host::Address(address) => {
            candidates.add(*address);
            next = Some(start);
        }
        Host::Name(name) => {
            let mut v6_may_come = false;
            for (family, remembered) in resolver.remembered(name) {
                if let Some(answer) = remembered {
                    candidates.answer(family, answer);
                } else {
                    v6_may_come |= family == Family::V6;
                    lookups.enter(async move { (family, resolver.lookup(name, family, asker).await) });
                }
            }
            if candidates.are_known() {
                next = Some(if v6_may_come {
                    start + limits.resolution_delay
                } else {
                    start
                });
            }
        }
    }
    let mut now = Instant::now();
    if candidates.are_known() && host.name().is_some() {
        dns_took = now - start;
    }
    // Attempts of which only the end of everything makes an end.
    let mut unlimited = false;
    // Made anew for each wait, and only known to the runtime once there is something to wait for.
    let mut timer = pin!(sleep_until(deadline));
    loop {
        let may_dial = candidates.are_left() && attempts.running() < MAX_ATTEMPTS;
        let due = next.filter(|_| may_dial);
        if due.is_some_and(|due| due <= now) {
            let Some(address) = candidates.next() else { continue };
            let attempt = timeout_at(
                now + limits.attempt,
                connector.connect(SocketAddr::new(address, port.number())),
            );
            unlimited |= now + limits.attempt > deadline;
            attempts.enter(async move { (address, attempt.await.unwrap_or_else(|late| Err(late.into()))) });
            next = Some(now + limits.attempt_delay);
            continue;
        }
        if lookups.running() + attempts.running() == 0 && !candidates.are_left() {
            return Err(candidates.into_error(host, dns_took));
        }
        if now >= deadline {
            if !candidates.are_known() {
                dns_took = start.elapsed();
            }
            return Err(candidates.out_of_time(host, dns_took));
        }
        let wake = due.unwrap_or(deadline).min(deadline);
        // Where only attempts are waited for, each of them wakes this by its own end.
        let needs_timer = due.is_some() || lookups.running() > 0 || unlimited;
        if timer.deadline() != wake {
            timer.set(sleep_until(wake));
        }
        tokio::select! {
            biased;
            (family, answer) = lookups.next() => {
                if !candidates.are_known() {
                    dns_took = start.elapsed();
                }
                candidates.answer(family, answer);
                if candidates.are_known() && !candidates.were_tried() {
                    // IPv6 goes first if it comes first or soon after (RFC 8305, section 3).
                    let v6_may_come = family == Family::V4 && lookups.running() > 0;
                    next = Some(if v6_may_come { Instant::now() + limits.resolution_delay } else { Instant::now() });
                }
            }
            (address, outcome) = attempts.next() => match outcome {
                Ok(stream) => {
                    let connect_took = start.elapsed().saturating_sub(dns_took);
                    return Ok(candidates.into_dialled(stream, address, dns_took, connect_took));
                }
                Err(error) => {
                    candidates.failed(address, &error);
                    next = Some(Instant::now());
                }
            },
            () = timer.as_mut(), if needs_timer => {}
        }
        now = Instant::now();
    }
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

impl Connect for Tcp {
    type Stream = TcpStream;

    async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = if to.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        tune_upstream(&socket)?;
        socket.connect(to).await
    }
}

/// Sockets of one dial at once: a name with 64 dead addresses must not eat the descriptors of everyone.
const MAX_ATTEMPTS: usize = 8;
/// Far enough away to be no limit, near enough for the timer.
const FOR_EVER: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests;
