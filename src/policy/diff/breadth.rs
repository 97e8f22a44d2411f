//! How much a difference lets through at once: what a person must look at first.
//! Must not know rules; it looks at hosts.
//! Called when rows are made.

use super::{HostClass, Kind};
use crate::address::{AddressClass, classify_net};
use crate::name::HostPattern;
use crate::policy::lint::opened_suffix;

/// How wide something opens, the widest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Breadth {
    /// Names that any customer of a cloud can get.
    Shared,
    /// A wide range of addresses.
    WideRange,
    /// A wildcard.
    Wildcard,
    /// Addresses, behind which no name is checked.
    Range,
    /// One name, for everyone.
    Everyone,
    /// One name, for some.
    Narrow,
}

impl Breadth {
    pub(super) fn of(host: &HostClass, everyone: bool, kind: Kind) -> Self {
        if kind != Kind::Opened {
            return Self::Narrow;
        }
        let shared = |pattern| opened_suffix(&pattern).is_some();
        match host {
            HostClass::Below(suffix) if shared(HostPattern::Below(suffix.clone())) => Self::Shared,
            HostClass::Label(label) if shared(HostPattern::Label(label.clone())) => Self::Shared,
            HostClass::Below(_) | HostClass::Label(_) | HostClass::Resolving(_) => Self::Wildcard,
            HostClass::Range(net) => {
                let v4 = net.addr().is_ipv4();
                let limit = match classify_net(*net) {
                    AddressClass::Public if v4 => 16,
                    AddressClass::Public => 32,
                    _ if v4 => 24,
                    _ => 64,
                };
                if net.prefix_len() < limit {
                    Self::WideRange
                } else {
                    Self::Range
                }
            }
            HostClass::Exact(_) if everyone => Self::Everyone,
            HostClass::Exact(_) => Self::Narrow,
        }
    }

    /// Why it is worth a look; nothing for what names exactly what it opens.
    pub const fn remark(self) -> Option<&'static str> {
        match self {
            Self::Shared => Some("anyone can get such a name"),
            Self::WideRange => Some("a wide range of addresses"),
            Self::Wildcard => Some("a wildcard"),
            Self::Range => Some("no name is checked"),
            Self::Everyone | Self::Narrow => None,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared-suffix",
            Self::WideRange => "wide-range",
            Self::Wildcard => "wildcard",
            Self::Range => "range",
            Self::Everyone => "everyone",
            Self::Narrow => "narrow",
        }
    }
}
