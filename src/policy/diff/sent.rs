//! What clients send once they are connected, as far as rules tell it apart; and how sets of it read as schemes.
//! Must not judge.
//! Called by the comparison and by whoever shows it.

use std::collections::BTreeSet;

use crate::name::{Host, HostName};
use crate::policy::Seen;
use crate::policy::rule::{Destination, Rule, Scheme, SniCheck};

/// The first bytes of a connection. Of two TLS forms the second has ECH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sent {
    /// TLS that names the host that was asked for.
    Tls,
    /// An HTTP/1.x request.
    Http,
    /// Neither.
    Opaque,
    TlsEch,
    Unnamed,
    UnnamedEch,
    /// TLS with another name, which the same source may reach on that port.
    Listed,
    ListedEch,
    /// TLS with a name that it may not reach.
    Unlisted,
    UnlistedEch,
}

impl Sent {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Opaque => "other",
            Self::TlsEch => "tls+ech",
            Self::Unnamed => "tls-without-sni",
            Self::UnnamedEch => "tls-without-sni+ech",
            Self::Listed => "tls-with-listed-sni",
            Self::ListedEch => "tls-with-listed-sni+ech",
            Self::Unlisted => "tls-with-other-sni",
            Self::UnlistedEch => "tls-with-other-sni+ech",
        }
    }

    /// What the gate sees of it on the way to a host. `listed` may be reached by everyone, `unlisted` by nobody.
    pub(super) fn seen(self, host: &Host, listed: &HostName, unlisted: &HostName) -> Option<Seen> {
        let hello = |sni: Option<&HostName>, ech| Seen::Hello { sni: sni.cloned(), ech };
        Some(match self {
            Self::Tls => hello(Some(host.name()?), false),
            Self::TlsEch => hello(Some(host.name()?), true),
            Self::Unnamed => hello(None, false),
            Self::UnnamedEch => hello(None, true),
            Self::Listed => hello(Some(listed), false),
            Self::ListedEch => hello(Some(listed), true),
            Self::Unlisted => hello(Some(unlisted), false),
            Self::UnlistedEch => hello(Some(unlisted), true),
            Self::Http => Seen::Http,
            Self::Opaque => Seen::Other,
        })
    }
}

/// What has to be tried. Odd hellos fare as other bytes do where every rule reads them strictly.
pub(super) fn to_try<'p>(rules: impl Iterator<Item = (&'p Rule, &'p Destination)>) -> &'static [Sent] {
    let mut reads_loosely = rules.filter(|(_, to)| to.scheme == Some(Scheme::Tls));
    if reads_loosely.any(|(rule, _)| rule.sni != SniCheck::Strict || rule.no_sni || rule.ech_outer) {
        &ALL
    } else {
        &PLAIN
    }
}

/// A scheme that stands for most of what is sent, and the rest of it in words. `host` begins a destination.
pub fn shown(sent: &BTreeSet<Sent>, tried_all: bool) -> (Option<Scheme>, Vec<&'static str>) {
    let tried: &[Sent] = if tried_all { &ALL } else { &PLAIN };
    let named = |one: &Sent| tried.contains(one);
    if tried
        .iter()
        .filter(|one| **one != Sent::Tls && **one != Sent::TlsEch)
        .all(|one| sent.contains(one))
    {
        // Literal hosts are never named by a hello.
        return (Some(Scheme::Tcp), Vec::new());
    }
    let scheme = [(Sent::Tls, Scheme::Tls), (Sent::Http, Scheme::Http)];
    let scheme = scheme.into_iter().find(|(one, _)| sent.contains(one));
    let rest = sent
        .iter()
        .filter(|one| named(one) && scheme.is_none_or(|(first, _)| first != **one));
    let words = rest.map(|one| match one {
        Sent::Tls => "TLS",
        Sent::Http => "HTTP",
        Sent::Opaque => "other bytes",
        Sent::TlsEch => "TLS with ECH",
        Sent::Unnamed => "TLS without SNI",
        Sent::UnnamedEch => "TLS without SNI, with ECH",
        Sent::Listed => "TLS with another allowed name",
        Sent::ListedEch => "TLS with another allowed name and ECH",
        Sent::Unlisted => "TLS with any other name",
        Sent::UnlistedEch => "TLS with any other name and ECH",
    });
    (scheme.map(|(_, scheme)| scheme), words.collect())
}

const PLAIN: [Sent; 3] = [Sent::Tls, Sent::Http, Sent::Opaque];
const ALL: [Sent; 10] = [
    Sent::Tls,
    Sent::Http,
    Sent::Opaque,
    Sent::TlsEch,
    Sent::Unnamed,
    Sent::UnnamedEch,
    Sent::Listed,
    Sent::ListedEch,
    Sent::Unlisted,
    Sent::UnlistedEch,
];
