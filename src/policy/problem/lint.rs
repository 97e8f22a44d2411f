//! The names of warnings: what each is about, and where a file can accept it.
//! Must not look for anything; the lints do. A closed list, with the rows of README.md.
//! Called by the lints, by the readers of `accept`, and by whoever shows a problem.

use std::fmt;
use std::sync::Arc;

/// A warning of `check` about a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lint {
    AnyTenant,
    Duplicate,
    DuplicateName,
    Everyone,
    Expired,
    ExpiringSoon,
    IdleReportUntil,
    NodePreset,
    NothingAllowed,
    PrivateName,
    ReportOver,
    Shadowed,
    SharedSuffix,
    SniOff,
    TcpBesideTls,
    UnusedAccept,
    UnusedWorkload,
    WideRange,
}

/// Where a lint is accepted: at what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// A key of a rule.
    Rule,
    /// A key of a workload.
    Workload,
    /// A top-level key of a file.
    File,
}

/// A lint at a place, and whether it was accepted there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linted {
    pub lint: Lint,
    /// The reason why it stands all the same.
    pub accepted: Option<Arc<str>>,
}

impl Lint {
    pub const ALL: [Self; 18] = [
        Self::AnyTenant,
        Self::Duplicate,
        Self::DuplicateName,
        Self::Everyone,
        Self::Expired,
        Self::ExpiringSoon,
        Self::IdleReportUntil,
        Self::NodePreset,
        Self::NothingAllowed,
        Self::PrivateName,
        Self::ReportOver,
        Self::Shadowed,
        Self::SharedSuffix,
        Self::SniOff,
        Self::TcpBesideTls,
        Self::UnusedAccept,
        Self::UnusedWorkload,
        Self::WideRange,
    ];

    /// As files, records and answers spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AnyTenant => "any-tenant",
            Self::Duplicate => "duplicate",
            Self::DuplicateName => "duplicate-name",
            Self::Everyone => "everyone",
            Self::Expired => "expired",
            Self::ExpiringSoon => "expiring-soon",
            Self::IdleReportUntil => "idle-report-until",
            Self::NodePreset => "node-preset",
            Self::NothingAllowed => "nothing-allowed",
            Self::PrivateName => "private-name",
            Self::ReportOver => "report-over",
            Self::Shadowed => "shadowed",
            Self::SharedSuffix => "shared-suffix",
            Self::SniOff => "sni-off",
            Self::TcpBesideTls => "tcp-beside-tls",
            Self::UnusedAccept => "unused-accept",
            Self::UnusedWorkload => "unused-workload",
            Self::WideRange => "wide-range",
        }
    }

    /// What it says, in one line.
    pub const fn doc(self) -> &'static str {
        match self {
            Self::AnyTenant => "`login.microsoftonline.com` and its like sign in to every tenant under one name",
            Self::Duplicate => "the same destination stands twice for the same sources under the same conditions",
            Self::DuplicateName => "two rules have one name, and records name rules",
            Self::Everyone => "`from` holds `0.0.0.0/0` or `::/0`",
            Self::Expired => "the day of `until` is past: the rule matches nothing any more",
            Self::ExpiringSoon => "the day of `until` comes within 14 days",
            Self::IdleReportUntil => "`report_until` without `mode: report`",
            Self::NodePreset => "a preset that is meant for nodes is open to pods, or to everyone",
            Self::NothingAllowed => "no file has `allow` or `collections`: everything is denied",
            Self::PrivateName => {
                "a name that resolves privately by design (`privatelink`, `.internal`, ...) in a rule without `addresses`"
            }
            Self::ReportOver => "the day of `report_until` is past: the policy enforces, though it says `mode: report`",
            Self::Shadowed => "a rule that is asked earlier decides all that this one speaks of",
            Self::SharedSuffix => {
                "a wildcard where anyone can get a name: `*.blob.core.windows.net`, `*.azurecr.io`, `*.github.io`"
            }
            Self::SniOff => "`sni: off`: nobody looks into the tunnel",
            Self::TcpBesideTls => "`tcp` opens the same name and port that `https`, `tls` or `http` would look into",
            Self::UnusedAccept => "an `accept` that nothing needs",
            Self::UnusedWorkload => "nothing refers to the workload",
            Self::WideRange => "a wide range of addresses in `to` or `addresses`",
        }
    }

    /// What can accept it; nothing, where the remedy is to remove a line that says nothing.
    pub const fn bearer(self) -> Option<Bearer> {
        match self {
            Self::IdleReportUntil | Self::NothingAllowed | Self::ReportOver => Some(Bearer::File),
            Self::UnusedWorkload => Some(Bearer::Workload),
            Self::UnusedAccept => None,
            _ => Some(Bearer::Rule),
        }
    }

    /// The lint that is spelled so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lint| lint.as_str() == name)
    }
}

impl Bearer {
    /// With its article, as messages say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "a rule",
            Self::Workload => "a workload",
            Self::File => "a whole file",
        }
    }
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_listed_by_name() {
        let names: Vec<_> = Lint::ALL.into_iter().map(Lint::as_str).collect();
        assert!(names.is_sorted() && names.windows(2).all(|pair| pair[0] != pair[1]));
        for lint in Lint::ALL {
            assert_eq!(Lint::named(lint.as_str()), Some(lint));
            assert!(!lint.doc().ends_with('.') && lint.doc().len() < 110, "{lint}");
        }
    }
}
