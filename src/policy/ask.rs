//! The question and the answer of the gate: who asks, what for, what was seen on the wire; and the decision.
//! Must not decide anything; these are values. The gate reads and makes them, the data path carries them.
//! Called by every front, `explain`, `expect`, records and the tests.

use std::net::IpAddr;
use std::sync::Arc;

use super::reason::Reason;
use super::rule::{Generation, RuleId};
use crate::name::{Host, HostName, Port};

/// The peer of a client connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its address; IPv4-mapped forms are unmapped first, see [`Source::at`].
    pub address: IpAddr,
    /// The workload whose own port it came in through. Then it is that workload and no other, whatever its address.
    pub workload: Option<Arc<str>>,
}

/// What one connection or request wants, as seen so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub host: Host,
    pub port: Port,
    pub seen: Seen,
    /// The address that is about to be dialled, or was. `None` before the name is resolved; a literal host is its own.
    pub address: Option<IpAddr>,
}

/// What was seen on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing yet: a CONNECT, or a `tcp` listener's target. Rules that need to see something pass for now, and the
    /// decision says what must be looked at before the first byte is relayed.
    Nothing,
    /// A ClientHello. `sni` is `None` without a `server_name` extension; `ech` also stands for ESNI.
    Hello { sni: Option<HostName>, ech: bool },
    /// An HTTP/1.x request whose authority is [`Ask::host`].
    Http,
    /// First bytes that are neither a TLS record nor, where HTTP was possible, a request.
    Other,
}

/// The gate's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub action: Action,
    /// The rule that decided: the most specific allow rule that passed, the deny rule that matched, or, for other
    /// denials, the nearest rule that failed.
    pub rule: Option<RuleId>,
    pub reason: Reason,
    /// Set where only reporting let this through: the reason it would have been refused for.
    pub would_deny: Option<Reason>,
    pub generation: Generation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Allow(Inspect),
    Deny,
}

/// What must still be looked at before bytes are relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Inspect {
    /// Nothing: relay.
    Nothing,
    /// A ClientHello must come and pass the gate.
    Hello,
    /// HTTP requests must come, each passing the gate.
    Http,
    /// Either of them; the first byte tells.
    HelloOrHttp,
}

/// Where on its way a connection got its final verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The request itself: its syntax, and the gate's first look.
    Request,
    /// Resolving, judging the addresses, dialling.
    Address,
    /// What was seen inside the tunnel.
    Hello,
}

impl Source {
    /// A source known by its address alone.
    pub fn at(address: IpAddr) -> Self {
        Self {
            address: address.to_canonical(),
            workload: None,
        }
    }

    /// A source that came in through a workload's own port.
    pub fn through(address: IpAddr, workload: Arc<str>) -> Self {
        Self {
            address: address.to_canonical(),
            workload: Some(workload),
        }
    }
}

impl Ask {
    /// What a CONNECT or a fixed target asks before anything is seen.
    pub fn new(host: Host, port: Port) -> Self {
        Self {
            host,
            port,
            seen: Seen::Nothing,
            address: None,
        }
    }

    #[must_use]
    pub fn seeing(self, seen: Seen) -> Self {
        Self { seen, ..self }
    }

    #[must_use]
    pub fn dialling(self, address: IpAddr) -> Self {
        Self {
            address: Some(address),
            ..self
        }
    }
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        matches!(self.action, Action::Allow(_))
    }
}

impl Stage {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Address => "address",
            Self::Hello => "hello",
        }
    }
}
