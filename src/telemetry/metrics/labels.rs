//! The closed sets of words that metrics have as labels and nothing else has as types.
//! Must not grow with traffic or configuration.
//! Called by whoever measures: sessions, the resolver, admission.

/// How a question to the resolver was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DnsResult {
    /// A server answered with addresses.
    Ok,
    /// A server answered that there are none.
    NotFound,
    /// No server gave a usable answer.
    Failed,
    Timeout,
    /// From the cache, within the answer's time.
    Cached,
    /// From the cache, past its time, because all servers are down.
    Stale,
}

/// How the attempts to reach one destination ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectResult {
    Ok,
    Failed,
    Timeout,
}

/// A limit that turned something away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// `limits.connections`.
    Connections,
    /// `limits.per_source`.
    PerSource,
    /// The descriptor limit of the process (EMFILE) or of the host (ENFILE).
    Descriptors,
    /// Questions to the DNS servers in flight.
    Dns,
    /// `log.required`, and the decision log could not be written.
    Log,
}

impl DnsResult {
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::NotFound,
        Self::Failed,
        Self::Timeout,
        Self::Cached,
        Self::Stale,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not_found",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Cached => "cached",
            Self::Stale => "stale",
        }
    }
}

impl ConnectResult {
    pub const ALL: [Self; 3] = [Self::Ok, Self::Failed, Self::Timeout];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
        }
    }
}

impl Limit {
    pub const ALL: [Self; 5] = [
        Self::Connections,
        Self::PerSource,
        Self::Descriptors,
        Self::Dns,
        Self::Log,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::PerSource => "per_source",
            Self::Descriptors => "descriptors",
            Self::Dns => "dns",
            Self::Log => "log",
        }
    }
}
