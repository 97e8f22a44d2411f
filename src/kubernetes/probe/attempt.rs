//! How something is tried: over which protocol, and which first bytes make the other side answer.
//! Must not say what must come of it. A handshake alone proves nothing, so every attempt asks something.
//! Called by the makers of probes, and by `verify`, which carries attempts out.

use std::net::{IpAddr, SocketAddr};

use super::Target;
use crate::name::{Host, HostName, Port};

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Before all others and one after the other, until one comes through.
    Early {
        to: SocketAddr,
        opener: Opener,
        tries: u16,
    },
    /// With each opener in turn, on a connection of its own, until something is answered.
    Tcp {
        to: Target,
        openers: &'static [Opener],
    },
    Udp {
        to: SocketAddr,
        opener: Opener,
    },
    /// ICMP echo.
    Ping {
        to: IpAddr,
    },
    /// Of the cluster's DNS.
    Lookup {
        name: HostName,
    },
    /// Through the proxy, which listens there.
    Through {
        proxy: Target,
        request: Request,
    },
    /// An access token for the workload's federated identity, through the proxy.
    Token {
        proxy: Target,
        scope: &'static str,
    },
    /// Looks at the own process.
    Process,
    /// Nothing can be tried; why.
    None(String),
}

/// What is asked of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Connect {
        host: Host,
        port: Port,
        then: Then,
    },
    /// `GET http://host:port/`.
    Get {
        host: Host,
        port: Port,
    },
}

/// What follows in a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// A ClientHello; without a name where the target is an address.
    Hello(Option<HostName>),
    /// Nothing: that the proxy reached the other side is the answer.
    Nothing,
}

/// First bytes to which nearly every server of a protocol answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    Tls,
    Http,
    /// A request to Azure's Instance Metadata Service.
    Metadata,
    /// A question for the root's name servers.
    Dns,
    /// SQL Server's pre-login.
    Tds,
    /// `SSLRequest`.
    Postgres,
    /// `PING`.
    Redis,
    /// Nothing: the server speaks first.
    Listen,
    /// A version that no server knows, so that it names those that it does.
    Quic,
    Ntp,
}

impl Opener {
    /// What is likely spoken on a TCP port.
    pub(super) const fn of(port: u16) -> &'static [Self] {
        match port {
            443 | 853 | 6443 | 8443 | 9443 | 10250 => &[Self::Tls],
            53 => &[Self::Dns],
            21 | 22 | 25 | 587 | 3306 => &[Self::Listen],
            1433 | 11000..=11999 => &[Self::Tds],
            5432 => &[Self::Postgres],
            6379 | 6380 | 10000 => &[Self::Redis, Self::Tls],
            _ => &[Self::Http, Self::Tls],
        }
    }
}
