//! What logs say about a policy: readers of records, and what a candidate, a list and its rules look like in their light.
//! Pure: bytes of logs come in, values go out; no files, no clock, no printing.
//! Called by the commands `replay`, `suggest` and `unused`.

mod coredns;
mod csv;
pub mod evidence;
mod legacy;
pub mod read;
pub mod replay;
mod rows;
mod split;
pub mod suggest;
pub mod unused;

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::name::{Host, HostName, Port};
use crate::policy::{Reason, Seen};

pub use read::{Item, Reader, Tally};

/// One thing that a log tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Decision(Box<Decided>),
    Question(Question),
}

/// A decision, of this proxy or of an Azure Firewall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// `None` where the log does not say.
    pub at: Option<Timestamp>,
    pub teller: Teller,
    pub entry: Entry,
    /// `None` in records of firewalls that hide it.
    pub source: IpAddr,
    /// The workload that named the source at that time.
    pub workload: Option<Arc<str>>,
    /// It came in through that workload's own port.
    pub own_port: bool,
    /// `None` where the request could not be read so far.
    pub host: Option<Host>,
    pub port: Option<Port>,
    /// What was seen, or must have been.
    pub seen: Seen,
    /// What was dialled.
    pub address: Option<IpAddr>,
    /// What may not be, where nothing was dialled.
    pub refused: Vec<IpAddr>,
    pub allowed: bool,
    /// `None` where a firewall says something that we have no word for.
    pub reason: Option<Reason>,
    pub would_deny: Option<Reason>,
    /// The deciding rule, or for other denials of this proxy the nearest.
    pub rule: Option<Arc<str>>,
    /// Its file and line.
    pub rule_at: Option<Arc<str>>,
}

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teller {
    /// This proxy's JSON records: everything that the gate knew.
    Proxy,
    /// Azure's columns, of a firewall or of `log.format: azure`: what was seen follows from the protocol.
    Columns,
}

/// How a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    Connect,
    Http,
    Tls,
    Tcp,
}

/// A question to the cluster's DNS server for a name outside of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub at: Option<Timestamp>,
    pub source: IpAddr,
    pub name: HostName,
    pub answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The name exists.
    Found,
    /// It does not (NXDOMAIN).
    NoName,
    /// The server did not know.
    Failed,
}

impl Decided {
    /// Whether the policy gave this verdict, or at least a rule let it pass. Everything else has causes that no policy
    /// mends: malformed input, DNS, the destination, limits, the end of the process.
    pub fn is_policy(&self) -> bool {
        let (Some(_), Some(_)) = (&self.host, self.port) else {
            return false;
        };
        match self.reason {
            Some(Reason::Rule | Reason::Report) => true,
            // The Host named another port than the one that the connection could reach, so nothing was judged for good.
            Some(_) if self.entry == Entry::Http && self.seen == Seen::Nothing => false,
            Some(reason) => by_policy(reason),
            None => false,
        }
    }

    /// Whether the record names a rule that decided, and not one that came near.
    pub fn rule_decided(&self) -> bool {
        self.allowed || self.reason == Some(Reason::DenyRule)
    }
}

/// The denials that the gate gives.
const fn by_policy(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoRule
            | Reason::NoRuleForSource
            | Reason::DenyRule
            | Reason::Port
            | Reason::IpLiteral
            | Reason::ForbiddenAddress
            | Reason::SniMismatch
            | Reason::SniNotListed
            | Reason::NoSni
            | Reason::Ech
            | Reason::NotTls
            | Reason::NotHttp
    )
}
