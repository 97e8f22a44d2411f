//! The two records: one per decision, one per closed tunnel. Their fields are the contract of `config/record.schema.json`.
//! Must not hold secrets: no query strings, no credentials, no raw bytes.
//! Called by sessions; written by the record writer, kept for `/decisions`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::name::{Host, HostName, Port};
use crate::policy::rule::{CollectionRef, Position};
use crate::policy::{Generation, Reason, Seen, Stage};

/// How a connection reached us, and what it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// CONNECT on an explicit listener.
    Connect,
    /// A plain HTTP request, explicit, transparent or inside a tunnel.
    Http,
    /// Transparent TLS.
    Tls,
    /// A fixed target.
    Tcp,
}

/// What a client showed before its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shown {
    /// A ClientHello.
    Hello,
    /// An HTTP request, or a tunnel whose inside is read as HTTP.
    Http,
    /// Neither of them.
    Other,
}

/// A final verdict.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub struct DecisionRecord {
    pub at: Timestamp,
    /// Shared by the decision, the tunnel record and the answer that the client got.
    pub id: u64,
    pub generation: Generation,
    pub listener: Arc<str>,
    pub entry: Entry,
    pub source: SocketAddr,
    /// The workload that names the source, if any.
    pub workload: Option<Arc<str>>,
    /// It came in through that workload's own port.
    pub own_port: bool,
    /// `None` where the request could not be read so far.
    pub host: Option<Host>,
    pub port: Option<Port>,
    /// HTTP requests only: method and path, without the query.
    pub method: Option<String>,
    pub path: Option<String>,
    /// What was seen on the wire and judged. `None`: the request alone was.
    pub seen: Option<Shown>,
    pub sni: Option<HostName>,
    pub ech: bool,
    pub allowed: bool,
    pub reason: Reason,
    /// What reporting alone let through would have been refused for.
    pub would_deny: Option<Reason>,
    pub stage: Stage,
    /// Name and place of the deciding rule.
    pub rule: Option<Arc<str>>,
    pub rule_at: Option<Position>,
    /// The ordered collection that this rule stands in.
    pub collection: Option<Arc<CollectionRef>>,
    /// Presets that need this host, where no rule opens it.
    pub needed_by: Vec<Arc<str>>,
    /// The address that was dialled.
    pub address: Option<IpAddr>,
    /// Where nothing was dialled: addresses of the host that may not be.
    pub refused: Vec<IpAddr>,
    /// Aliases (CNAMEs) followed from the host to its addresses.
    pub aliases: Vec<HostName>,
    /// The answer came from an expired cache entry because all DNS servers are down.
    pub stale: bool,
    /// One sentence where the reason alone does not say enough.
    pub detail: Option<String>,
    /// From accept (or the request's first byte) to the verdict.
    pub took: Duration,
}

/// A closed tunnel, or a finished exchange that streamed.
#[derive(Clone, Debug)]
pub struct TunnelRecord {
    pub at: Timestamp,
    pub id: u64,
    /// Of the decision that opened it.
    pub generation: Generation,
    pub listener: Arc<str>,
    pub entry: Entry,
    pub source: SocketAddr,
    pub workload: Option<Arc<str>>,
    pub host: Host,
    pub port: Port,
    pub sni: Option<HostName>,
    pub address: IpAddr,
    /// Bytes from the client to the upstream, and back.
    pub up: u64,
    pub down: u64,
    pub lasted: Duration,
    pub end: End,
}

/// Who or what ended a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Both sides finished.
    Finished,
    ClientReset,
    UpstreamReset,
    /// Nothing moved for `timeouts.idle`.
    Idle,
    /// One side had finished and the other moved nothing for `timeouts.half_close`.
    HalfClosed,
    /// `timeouts.lifetime` passed.
    Lifetime,
    /// A reload refuses it now.
    Reload,
    /// An `until` or `report_until` passed.
    Expired,
    /// The proxy was shutting down and `timeouts.drain` passed.
    Drain,
    /// The client's body broke the framing that its head had announced.
    Malformed,
}

impl DecisionRecord {
    pub const fn action(&self) -> &'static str {
        if self.allowed { "allow" } else { "deny" }
    }

    /// Whether this is a denial, or would be one if nothing only reported.
    pub const fn denies(&self) -> bool {
        !self.allowed || self.would_deny.is_some()
    }

    /// Cuts what must not be kept: a query, should a path still have one, and anything longer than a line of a log
    /// should be. Clients choose these texts, and thousands of records wait in memory.
    pub(super) fn trim(&mut self) {
        if let Some(path) = &mut self.path
            && let Some(query) = path.find(['?', '#'])
        {
            path.truncate(query);
        }
        for text in [&mut self.method, &mut self.path, &mut self.detail]
            .into_iter()
            .flatten()
        {
            if text.len() > MAX_TEXT {
                text.truncate(text.floor_char_boundary(MAX_TEXT - CUT.len()));
                text.push_str(CUT);
                text.shrink_to_fit();
            }
        }
    }
}

impl Shown {
    pub const ALL: &[Self] = &[Self::Hello, Self::Http, Self::Other];

    pub const fn of(seen: &Seen) -> Option<Self> {
        match seen {
            Seen::Nothing => None,
            Seen::Hello { .. } => Some(Self::Hello),
            Seen::Http => Some(Self::Http),
            Seen::Other => Some(Self::Other),
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Http => "http",
            Self::Other => "other",
        }
    }
}

impl Entry {
    pub const ALL: &[Self] = &[Self::Connect, Self::Http, Self::Tls, Self::Tcp];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Http => "http",
            Self::Tls => "tls",
            Self::Tcp => "tcp",
        }
    }
}

impl End {
    pub const ALL: &[Self] = &[
        Self::Finished,
        Self::ClientReset,
        Self::UpstreamReset,
        Self::Idle,
        Self::HalfClosed,
        Self::Lifetime,
        Self::Reload,
        Self::Expired,
        Self::Drain,
        Self::Malformed,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::ClientReset => "client_reset",
            Self::UpstreamReset => "upstream_reset",
            Self::Idle => "idle",
            Self::HalfClosed => "half_closed",
            Self::Lifetime => "lifetime",
            Self::Reload => "reload",
            Self::Expired => "expired",
            Self::Drain => "drain",
            Self::Malformed => "malformed",
        }
    }
}

/// Longest text of a record that a client can choose, in bytes.
const MAX_TEXT: usize = 1024;
/// Ends what was cut.
const CUT: &str = "...";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::samples;

    /// M06: a secret in a query does not reach any record, whoever forgot to cut it off.
    #[test]
    fn queries_and_long_texts_are_cut() {
        let mut record = samples::denied(1);
        for path in ["/blob?sv=2024&sig=secret", "/blob#secret", "/blob"] {
            record.path = Some(path.to_owned());
            record.trim();
            assert_eq!(record.path.as_deref(), Some("/blob"));
        }
        let full = "a".repeat(MAX_TEXT);
        record.path = Some(full.clone());
        record.detail = Some("\u{e9}".repeat(MAX_TEXT));
        record.trim();
        assert_eq!(record.path, Some(full));
        let detail = record.detail.unwrap();
        assert!(detail.len() <= MAX_TEXT && detail.ends_with("\u{e9}..."), "{detail}");
    }
}
