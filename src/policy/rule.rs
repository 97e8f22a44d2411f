//! One compiled rule: who may reach which destinations, under which checks, and where it was written.
//! Must not know serde or YAML; the document has types of its own. Built by the compiler, held by the index.
//! Called by the gate, the lints, `explain` and the records.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;
use jiff::Timestamp;

use crate::name::{HostPattern, Port};

/// The number of an accepted load; it grows by one with each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// The place of a rule in its policy; only meaningful together with the generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

/// Whether a rule opens or closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    Allow,
    Deny,
}

/// A rule as it runs.
#[derive(Debug)]
pub struct Rule {
    /// The `name` key, or for an unnamed rule the destination as written; presets put `preset: row-id` here.
    pub name: Arc<str>,
    pub effect: Effect,
    /// File and 1-based line of the rule.
    pub at: Position,
    pub from: From,
    pub to: Vec<Destination>,
    /// First moment at which the rule no longer matches.
    pub until: Option<Timestamp>,
    pub owner: Option<Arc<str>>,
    pub why: Option<Arc<str>>,
    /// Ranges beyond the public space in which answers are fine for this rule.
    pub addresses: Vec<IpNet>,
    pub sni: SniCheck,
    /// `no_sni: allow`.
    pub no_sni: bool,
    /// `ech: outer`.
    pub ech_outer: bool,
    /// `report: true`: what only this rule allows is let through and marked.
    pub report: bool,
    /// Shared with the same rule of the generations before and after.
    pub hits: Arc<Hits>,
}

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    pub file: Arc<str>,
    pub line: u32,
}

/// Whom a rule speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum From {
    /// No `from` and no `scope`: every source.
    Everyone,
    /// Any of these.
    Any(Vec<Peer>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    Workload(Arc<str>),
    Cidr(IpNet),
}

/// One destination of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// In a deny rule `None`: every scheme.
    pub scheme: Option<Scheme>,
    pub host: HostMatch,
    pub ports: RangeInclusive<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostMatch {
    Name(HostPattern),
    Cidr(IpNet),
}

/// What must be seen on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// `https` and `tls`: a ClientHello.
    Tls,
    /// HTTP/1.x requests.
    Http,
    /// Anything.
    Tcp,
}

/// How the SNI is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SniCheck {
    /// It equals the name asked for.
    #[default]
    Strict,
    /// It is allowed itself, for that source and port.
    Listed,
    /// Nobody looks.
    Off,
}

/// How often a rule decided, and when last. Counted by the session at its final verdict, not by the gate.
#[derive(Debug, Default)]
pub struct Hits {
    count: AtomicU64,
    /// Milliseconds since the Unix epoch; 0 is never.
    last: AtomicU64,
}

impl Hits {
    pub fn record(&self, now: Timestamp) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.last
            .store(u64::try_from(now.as_millisecond()).unwrap_or(0), Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub fn last(&self) -> Option<Timestamp> {
        let last = i64::try_from(self.last.load(Ordering::Relaxed))
            .ok()
            .filter(|last| *last > 0)?;
        Timestamp::from_millisecond(last).ok()
    }
}

impl Destination {
    pub fn covers_port(&self, port: Port) -> bool {
        self.ports.contains(&port.number())
    }
}

impl Generation {
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
