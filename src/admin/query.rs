//! The query of a page: a few known keys, each at most once.
//! Must not ignore what it does not know: a misspelt filter that shows everything is worse than an error.
//! Called by the pages that filter.

use std::net::IpAddr;

use axum::extract::Query;
use axum::response::Response;
use ipnet::IpNet;

use super::page;
use crate::name::Host;

/// What axum makes of a query string.
pub(super) type Pairs = Query<Vec<(String, String)>>;

/// The values of known keys.
pub(super) struct Values(Vec<(String, String)>);

/// An answer with status 400 that says what to write.
pub(super) struct Refused(String);

/// The filters that decisions and tunnels share.
pub(super) struct Filter {
    host: Option<HostFilter>,
    workload: Option<String>,
    listener: Option<String>,
    source: Option<IpNet>,
}

/// What a filter looks at.
pub(super) struct Subject<'a> {
    pub(super) host: Option<&'a Host>,
    pub(super) workload: Option<&'a str>,
    pub(super) listener: &'a str,
    pub(super) source: IpAddr,
}

enum HostFilter {
    /// This host.
    Is(String),
    /// `*.suffix`: the names below it.
    Below(String),
}

impl Values {
    pub(super) fn read(pairs: Pairs, known: &[&str]) -> Result<Self, Refused> {
        let Query(pairs) = pairs;
        for (place, (key, _)) in pairs.iter().enumerate() {
            if !known.contains(&key.as_str()) {
                let key = key.escape_default();
                return Err(Refused(format!(
                    "`{key}` is not a key of this page; its keys are: {}",
                    known.join(", ")
                )));
            }
            if pairs.iter().take(place).any(|(other, _)| other == key) {
                return Err(Refused(format!("`{key}` is written twice")));
            }
        }
        Ok(Self(pairs))
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(other, _)| other == key)?;
        Some(value)
    }

    /// A number up to `max`.
    pub(super) fn number(&self, key: &str, default: usize, max: usize) -> Result<usize, Refused> {
        let Some(text) = self.text(key) else { return Ok(default) };
        text.parse()
            .ok()
            .filter(|number| *number <= max)
            .ok_or_else(|| Refused(format!("`{key}` is a number from 0 to {max}")))
    }

    /// One of a closed list of words.
    pub(super) fn one_of<T: Copy>(
        &self,
        key: &str,
        all: &[T],
        word: impl Fn(T) -> &'static str,
    ) -> Result<Option<T>, Refused> {
        let Some(text) = self.text(key) else { return Ok(None) };
        let found = all.iter().copied().find(|one| word(*one) == text);
        found.map(Some).ok_or_else(|| {
            let words: Vec<_> = all.iter().copied().map(word).collect();
            Refused(format!("`{key}` is one of: {}", words.join(", ")))
        })
    }

    pub(super) fn filter(&self) -> Result<Filter, Refused> {
        let source = self.text("source").map(|text| {
            let address = text.parse::<IpAddr>().map(IpNet::from);
            address
                .or_else(|_| text.parse())
                .map_err(|_| Refused("`source` is an address or a range such as 10.244.0.0/16".to_owned()))
        });
        Ok(Filter {
            host: self.text("host").map(HostFilter::new),
            workload: self.text("workload").map(str::to_owned),
            listener: self.text("listener").map(str::to_owned),
            source: source.transpose()?,
        })
    }
}

impl Filter {
    pub(super) const KEYS: [&str; 4] = ["host", "workload", "listener", "source"];

    /// An empty `workload` means: none names the source.
    pub(super) fn passes(&self, subject: &Subject<'_>) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        is(&self.workload, subject.workload.unwrap_or_default())
            && is(&self.listener, subject.listener)
            && self
                .source
                .is_none_or(|range| range.contains(&subject.source.to_canonical()))
            && self
                .host
                .as_ref()
                .is_none_or(|wanted| subject.host.is_some_and(|host| wanted.passes(host)))
    }
}

impl HostFilter {
    fn new(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        match text.strip_prefix("*.") {
            Some(suffix) => Self::Below(suffix.to_owned()),
            None => Self::Is(text),
        }
    }

    fn passes(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Is(wanted), host) => host.to_string() == *wanted,
            (Self::Below(suffix), Host::Name(name)) => name.parents().any(|parent| parent == suffix),
            (Self::Below(_), Host::Address(_)) => false,
        }
    }
}

impl Refused {
    pub(super) fn answer(&self) -> Response {
        page::bad_request(&self.0)
    }
}
