//! What a policy may write where a name stands: an exact name, `*.suffix`, or `label*.suffix`.
//! Must not accept what another product would read differently; refusals carry the right spelling.
//! Called by the policy compiler and the settings; matching itself is the policy index.

use std::fmt;

use super::host::HostName;

/// A pattern over host names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This name and no other.
    Exact(HostName),
    /// `*.suffix`: one or more whole labels before it; never the suffix itself.
    Below(HostName),
    /// `before*after.suffix`: exactly one label before the suffix, which begins and ends as written.
    Label {
        before: String,
        after: String,
        suffix: HostName,
    },
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
            Self::Label { before, after, suffix } => write!(f, "{before}*{after}.{suffix}"),
        }
    }
}
