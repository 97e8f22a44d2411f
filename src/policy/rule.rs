//! One compiled rule: who may reach which destinations, under which checks, and where it was written.
//! Must not know serde or YAML; the document has types of its own. Built by the compiler, held by the index.
//! Called by the gate, the lints, `explain` and the records.

mod few;
pub(super) mod hits;
mod peers;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::name::{HostPattern, Port};

pub use few::Few;
pub use hits::Hits;
pub(super) use peers::Listed;
pub use peers::Peers;

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

/// What a rule says of the collection that it stands in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CollectionRef {
    pub name: Arc<str>,
    pub group: Option<Arc<str>>,
    pub kind: CollectionKind,
    pub priority: u16,
}

/// The `type` of a collection, in the order of evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CollectionKind {
    /// Addresses, and names without a look at what is spoken.
    Network,
    /// Names.
    Application,
}

/// A rule as it runs.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The `name` key, or for an unnamed rule the destination as written; presets put `preset: row-id` here.
    pub name: Arc<str>,
    pub effect: Effect,
    /// The ordered collection that it stands in; the rules of collections are the first of a policy, in the order of
    /// evaluation.
    pub collection: Option<Arc<CollectionRef>>,
    /// File and 1-based line of the rule.
    pub at: Position,
    pub from: From,
    pub to: Few<Destination>,
    /// First moment at which the rule no longer matches.
    pub until: Option<Timestamp>,
    pub owner: Option<Arc<str>>,
    pub why: Option<Arc<str>>,
    /// Ranges beyond the public space in which answers are fine for this rule.
    pub addresses: Box<[IpNet]>,
    pub sni: SniCheck,
    /// `no_sni: allow`.
    pub no_sni: bool,
    /// `ech: outer`.
    pub ech_outer: bool,
    /// `report: true`: what only this rule allows is let through and marked.
    pub report: bool,
    /// Shared with the same rule of the generations before and after.
    pub hits: Hits,
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
    Any(Peers),
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

impl Destination {
    pub fn covers_port(&self, port: Port) -> bool {
        self.ports.contains(&port.number())
    }
}

impl Scheme {
    /// The word before `://`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

impl CollectionKind {
    /// The word in a policy file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Application => "application",
        }
    }
}

impl Generation {
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Destination {
    /// As a policy file would spell it: nothing that its scheme implies, and in a deny rule only what it narrows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (*self.ports.start(), *self.ports.end());
        let port = |port: Port| first == last && first == port.number();
        match self.scheme {
            Some(Scheme::Tls) if port(Port::HTTPS) => return self.host.fmt(f),
            Some(Scheme::Http) if port(Port::HTTP) => return write!(f, "http://{}", self.host),
            Some(scheme) => write!(f, "{}://{}", scheme.as_str(), self.host)?,
            None if first <= 1 && last == u16::MAX => return self.host.fmt(f),
            None => self.host.fmt(f)?,
        }
        if first == last {
            write!(f, ":{first}")
        } else {
            write!(f, ":{first}-{last}")
        }
    }
}

impl fmt::Display for HostMatch {
    /// IPv6 ranges stand in brackets, as in a destination.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(pattern) => pattern.fmt(f),
            Self::Cidr(cidr) => {
                let whole = cidr.prefix_len() == cidr.max_prefix_len();
                match (cidr, whole) {
                    (IpNet::V4(_), true) => cidr.addr().fmt(f),
                    (IpNet::V4(_), false) => cidr.fmt(f),
                    (IpNet::V6(_), true) => write!(f, "[{}]", cidr.addr()),
                    (IpNet::V6(_), false) => write!(f, "[{cidr}]"),
                }
            }
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(name) => f.write_str(name),
            Self::Cidr(cidr) => cidr.fmt(f),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_read_as_a_file_spells_them() {
        let name = || HostMatch::Name(HostPattern::parse("*.example.com").unwrap());
        let cidr = |text: &str| HostMatch::Cidr(text.parse().unwrap());
        for (scheme, host, ports, expected) in [
            (Some(Scheme::Tls), name(), 443..=443, "*.example.com"),
            (Some(Scheme::Tls), name(), 5671..=5671, "tls://*.example.com:5671"),
            (Some(Scheme::Http), name(), 80..=80, "http://*.example.com"),
            (Some(Scheme::Http), name(), 443..=443, "http://*.example.com:443"),
            (
                Some(Scheme::Tcp),
                name(),
                11000..=11999,
                "tcp://*.example.com:11000-11999",
            ),
            (
                Some(Scheme::Tcp),
                cidr("10.1.2.0/24"),
                1433..=1433,
                "tcp://10.1.2.0/24:1433",
            ),
            (
                Some(Scheme::Tcp),
                cidr("2001:db8::/32"),
                443..=443,
                "tcp://[2001:db8::/32]:443",
            ),
            (
                Some(Scheme::Tcp),
                cidr("2001:db8::1/128"),
                443..=443,
                "tcp://[2001:db8::1]:443",
            ),
            (None, name(), 1..=65535, "*.example.com"),
            (None, cidr("192.0.2.1/32"), 25..=25, "192.0.2.1:25"),
        ] {
            assert_eq!(Destination { scheme, host, ports }.to_string(), expected);
        }
    }
}
