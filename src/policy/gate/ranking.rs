//! Which of several rules is named in a decision, and which of several failures gives the reason.
//! Must not decide whether anything passes. Only the rule that is named may depend on the order of rules.
//! Called by the gate while it collects what the candidates say, and by `explain` for the nearest misses.

use std::cmp::Reverse;

use crate::name::HostPattern;
use crate::policy::ask::Inspect;
use crate::policy::reason::Reason;
use crate::policy::rule::{Destination, HostMatch, RuleId};

/// How narrowly a destination of a rule speaks of an ask; the greater one is named in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::policy) struct Specificity {
    breadth: Breadth,
    /// The earlier of two equal rules is the greater.
    rule: Reverse<RuleId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Breadth {
    /// Exact name, in-label wildcard, `*.suffix` or range; then the length of what is written.
    host: (u8, usize),
    ports: Reverse<u16>,
    /// See `Judge::named_source`.
    source: u8,
}

/// How far a rule that did not pass got. The greater one gives the reason; of two equal ones the reason decides before
/// the rule's place does, so that the order of rules never changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::policy) struct Failure {
    progress: u8,
    breadth: Breadth,
    pub(in crate::policy) reason: Reason,
    rule: Reverse<RuleId>,
}

/// What one allow rule wants to look at before it has passed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::policy) enum Look {
    Nothing,
    Hello,
    Http,
}

/// What all passing rules together want to see.
#[derive(Debug, Default)]
pub(super) struct Looks {
    nothing: bool,
    hello: bool,
    http: bool,
}

impl Specificity {
    pub(in crate::policy) fn of(rule: RuleId, destination: &Destination, source: Option<u8>) -> Self {
        let host = match &destination.host {
            HostMatch::Name(HostPattern::Exact(_)) => (3, 0),
            HostMatch::Name(HostPattern::Label(label)) => (2, label.before.len() + label.after.len()),
            HostMatch::Name(HostPattern::Below(suffix)) => (1, suffix.as_str().len()),
            HostMatch::Cidr(range) => (0, range.prefix_len().into()),
        };
        let breadth = Breadth {
            host,
            ports: Reverse(destination.ports.end() - destination.ports.start()),
            source: source.unwrap_or_default(),
        };
        let rule = Reverse(rule);
        Self { breadth, rule }
    }

    pub(super) fn rule(&self) -> RuleId {
        self.rule.0
    }
}

impl Failure {
    pub(in crate::policy) fn new(reason: Reason, specificity: Specificity) -> Self {
        Self {
            progress: progress(reason),
            breadth: specificity.breadth,
            reason,
            rule: specificity.rule,
        }
    }

    pub(in crate::policy) fn rule(&self) -> RuleId {
        self.rule.0
    }
}

impl Looks {
    pub(super) fn add(&mut self, look: Look) {
        match look {
            Look::Nothing => self.nothing = true,
            Look::Hello => self.hello = true,
            Look::Http => self.http = true,
        }
    }

    pub(super) fn join(&mut self, other: &Self) {
        self.nothing |= other.nothing;
        self.hello |= other.hello;
        self.http |= other.http;
    }

    pub(super) fn union(&self) -> Inspect {
        match self {
            Self { nothing: true, .. } => Inspect::Nothing,
            Self {
                hello: true,
                http: true,
                ..
            } => Inspect::HelloOrHttp,
            Self { http: true, .. } => Inspect::Http,
            Self { .. } => Inspect::Hello,
        }
    }
}

/// The order of the checks that an allow rule makes.
const fn progress(reason: Reason) -> u8 {
    match reason {
        Reason::NoRuleForSource => 1,
        Reason::Port => 2,
        Reason::NotTls | Reason::NotHttp => 3,
        Reason::SniMismatch | Reason::SniNotListed | Reason::NoSni => 4,
        Reason::Ech => 5,
        Reason::ForbiddenAddress => 6,
        _ => 0,
    }
}
