//! The settings of the process: what is listened on, limits, time-outs, where the policy files are.
//! Must not hold policy: nothing here can open a destination. Layered: built-in values, file, environment.
//! Called by the commands, which hand the parts to whoever needs them.

mod layers;
mod listeners;
mod load;
mod read;
mod report;
mod show;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::name::{Host, Port};
use crate::policy::problem::At;

pub use load::{Inputs, Refused, load};

/// All settings, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub listeners: Vec<Listener>,
    pub admin: SocketAddr,
    pub health: SocketAddr,
    /// Files and directories, absolute or relative to the settings file's directory, already joined.
    pub policy: Vec<PathBuf>,
    /// A directory of presets of one's own, already joined like those.
    pub presets: Option<PathBuf>,
    pub dns: Dns,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub reload: Reload,
    pub log: Log,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub name: Arc<str>,
    pub bind: SocketAddr,
    pub mode: Mode,
}

/// What a listener speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// CONNECT and absolute-form HTTP; over TLS where certificates are given.
    Explicit { tls: Option<Tls> },
    /// Transparent TLS: the name is the SNI.
    Tls { port: UpstreamPort },
    /// Transparent HTTP: the name is the Host.
    Http { port: UpstreamPort },
    /// Bytes that nobody looks at, to a fixed target.
    Tcp { to: (Host, Port) },
}

/// Where a transparent listener takes the upstream port from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamPort {
    Fixed(Port),
    /// The original destination of a connection that REDIRECT sent here (`SO_ORIGINAL_DST`).
    Redirect,
    /// The local address of a connection that TPROXY sent here.
    Tproxy,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// With it, clients must present a certificate that it signed.
    pub client_ca: Option<PathBuf>,
    pub at: TlsPlaces,
}

/// Where the settings file names the files of a [`Tls`]; no part of what it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsPlaces {
    pub cert: At<()>,
    pub key: At<()>,
    pub client_ca: At<()>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Empty: those of /etc/resolv.conf.
    pub servers: Vec<SocketAddr>,
    /// One question to one server.
    pub timeout: Duration,
    /// Names kept.
    pub cache: usize,
    pub min_ttl: Duration,
    pub max_ttl: Duration,
    /// How long after its end an answer may still be used while all servers are down.
    pub stale: Duration,
}

/// Zero means none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A request head or a ClientHello, from the first moment to the last byte.
    pub head: Duration,
    /// All attempts to reach one destination.
    pub connect: Duration,
    /// After one side has finished, since the last byte of the other.
    pub half_close: Duration,
    /// Since the last byte in either direction.
    pub idle: Duration,
    /// Of a tunnel, whatever moves.
    pub lifetime: Duration,
    /// Between SIGTERM and the end of the last tunnel.
    pub drain: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections in all.
    pub connections: usize,
    /// Client connections from one address.
    pub per_source: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// How long a tunnel that a new policy refuses may go on.
    pub grace: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    pub decisions: LoggedDecisions,
    /// Whether a connection is refused when its record cannot be written.
    pub required: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
    /// The columns of Azure Firewall's own tables.
    Azure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggedDecisions {
    All,
    Denied,
}
