//! Attempts past the proxy: TCP with a request, UDP with a question, pings, the first moments of a pod.
//! Must not call silence an answer, nor a handshake.
//! Called for each such probe.

use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::context::Context;
use super::{Came, opener, untried};
use crate::kubernetes::judge::Outcome;
use crate::kubernetes::probe::{Opener, Target};
use crate::name::Host;

/// Each address of a target with each opener, until something is answered.
pub(super) async fn tcp(context: &Context, to: &Target, openers: &[Opener]) -> Came {
    let addresses = match context.resolve(to).await {
        Ok(addresses) => addresses,
        Err(why) => return untried(why),
    };
    let mut best: Option<Came> = None;
    for address in addresses {
        for opener in openers {
            let came = open(context, &to.host, address, *opener).await;
            match came.0 {
                Outcome::Answered => return came,
                // Nobody listens or nobody lets us: another opener would meet the same.
                Outcome::Nothing | Outcome::Untried => {
                    best.get_or_insert(came);
                    break;
                }
                _ => {
                    if best.as_ref().is_none_or(|best| best.0 != Outcome::Connected) {
                        best = Some(came);
                    }
                }
            }
        }
    }
    best.unwrap_or_else(|| untried("the name has no address"))
}

/// One try after the other at a steady pace, each with all the time it needs, until one comes through.
pub(super) async fn early(context: &Context, to: SocketAddr, opener: Opener, tries: u16) -> Came {
    let mut pace = interval(PACE);
    let mut running = JoinSet::new();
    let mut best = None;
    let host = Host::Address(to.ip());
    let first = match opener::bytes(opener, &host, context) {
        Ok(first) => first,
        Err(error) => return untried(error.to_string()),
    };
    let limit = context.timeout;
    let mut note = |came: Came| {
        let answered = came.0 == Outcome::Answered;
        let better = match &best {
            None => true,
            Some((Outcome::Nothing, _)) => came.0 != Outcome::Nothing,
            Some(_) => answered,
        };
        if better {
            best = Some(came);
        }
        answered
    };
    for number in 1..=tries {
        pace.tick().await;
        let first = first.clone();
        running.spawn(async move {
            let connected = tokio::time::timeout(limit, tokio::net::TcpStream::connect(to)).await;
            let stream = match connected {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return (Outcome::Nothing, format!("{error}")),
                Err(_) => return (Outcome::Nothing, format!("nothing came in {limit:?}")),
            };
            let (outcome, detail) = asked(stream, &first, limit).await;
            (outcome, format!("try {number}: {detail}"))
        });
        while let Some(done) = running.try_join_next() {
            if done.is_ok_and(&mut note) {
                return best.unwrap_or_else(|| untried("nothing was tried"));
            }
        }
    }
    while let Some(done) = running.join_next().await {
        if done.is_ok_and(&mut note) {
            break;
        }
    }
    match best {
        Some((Outcome::Nothing, detail)) => (Outcome::Nothing, format!("none of {tries} tries: {detail}")),
        Some(came) => came,
        None => untried("nothing was tried"),
    }
}

async fn open(context: &Context, host: &Host, to: SocketAddr, opener: Opener) -> Came {
    if !has_route(to) {
        return untried(format!("there is no route to {to}"));
    }
    let stream = match context.connect(to).await {
        Ok(stream) => stream,
        Err(error) => return (Outcome::Nothing, error.to_string()),
    };
    match opener::bytes(opener, host, context) {
        Ok(bytes) => asked(stream, &bytes, context.timeout).await,
        Err(error) => untried(error.to_string()),
    }
}

/// Sends, and waits for the first bytes.
async fn asked(mut stream: tokio::net::TcpStream, bytes: &[u8], limit: Duration) -> Came {
    let mut buffer = [0; FIRST];
    let answer = async {
        if !bytes.is_empty() {
            stream.write_all(bytes).await?;
        }
        stream.read(&mut buffer).await
    };
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(0)) => (Outcome::Connected, "connected, and closed without an answer".to_owned()),
        Ok(Ok(len)) => (
            Outcome::Answered,
            format!("answered: {}", opener::shown(buffer.get(..len).unwrap_or_default())),
        ),
        Ok(Err(error)) => (Outcome::Connected, format!("connected, then {error}")),
        Err(_) => (Outcome::Connected, format!("connected, and no answer in {limit:?}")),
    }
}

/// Asks twice, as datagrams get lost.
pub(super) async fn udp(context: &Context, to: SocketAddr, opener: Opener) -> Came {
    let host = Host::Address(to.ip());
    let question = match opener::datagram(opener, &host, context) {
        Ok(question) => question,
        Err(error) => return untried(error.to_string()),
    };
    if !has_route(to) {
        return untried(format!("there is no route to {to}"));
    }
    let mut last = io::Error::other("nothing was sent");
    for _ in 0..2 {
        match ask(context, to, &question).await {
            Ok(len) => return (Outcome::Answered, format!("answered: {len} bytes")),
            Err(error) => last = error,
        }
    }
    (Outcome::Nothing, last.to_string())
}

async fn ask(context: &Context, to: SocketAddr, question: &[u8]) -> io::Result<usize> {
    let socket = UdpSocket::bind(any(to)).await?;
    socket.connect(to).await?;
    socket.send(question).await?;
    let mut buffer = [0; FIRST];
    context.within(socket.recv(&mut buffer)).await
}

/// ICMP echo over the kernel's ping socket, which needs no capability where `net.ipv4.ping_group_range` allows it.
pub(super) async fn ping(context: &Context, to: IpAddr) -> Came {
    let limit = context.timeout;
    let done = tokio::task::spawn_blocking(move || {
        let (domain, protocol, kind) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, ECHO_V4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, ECHO_V6),
        };
        let mut socket = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
            Ok(socket) => socket,
            Err(error) => return untried(format!("this pod may not ping: {error}")),
        };
        let mut buffer = [0; FIRST];
        let echo = [&[kind, 0, 0, 0, 0, 0, 0, 1][..], PAYLOAD].concat();
        let answer = socket
            .set_read_timeout(Some(limit))
            .and_then(|()| socket.connect(&SockAddr::from(SocketAddr::new(to, 0))))
            .and_then(|()| socket.send(&echo))
            .and_then(|_| socket.read(&mut buffer));
        match answer {
            Ok(len) => (Outcome::Answered, format!("echoed {len} bytes")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                (Outcome::Nothing, format!("nothing came in {limit:?}"))
            }
            Err(error) => (Outcome::Nothing, error.to_string()),
        }
    });
    done.await.unwrap_or_else(|error| untried(error.to_string()))
}

/// Whether the kernel knows a way at all; no packet is sent. Only asked of IPv6, which few pods have.
fn has_route(to: SocketAddr) -> bool {
    to.is_ipv4() || StdUdpSocket::bind(any(to)).is_ok_and(|socket| socket.connect(to).is_ok())
}

fn any(like: SocketAddr) -> SocketAddr {
    let ip = match like.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, 0)
}

/// Of the tries in a pod's first seconds.
const PACE: Duration = Duration::from_millis(100);
const FIRST: usize = 2048;
const ECHO_V4: u8 = 8;
const ECHO_V6: u8 = 128;
const PAYLOAD: &[u8] = b"sluicegate verify";
