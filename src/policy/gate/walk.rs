//! The walk through ordered collections: the first rule that matches decides, and a later one never.
//! Must not depend on the order in which the index finds rules: of each kind of match only the earliest is kept, so one
//! pass is enough and nothing is allocated. Called by the gate while it collects what the candidates say.

use super::ranking::{Look, Looks};
use crate::policy::rule::RuleId;

/// The earliest rule of each kind. Ids of rules in collections ascend in the order of evaluation.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// With what it looks at, the least where one rule has several destinations for the ask.
    passed: Option<(RuleId, Look)>,
    hello: Option<RuleId>,
    http: Option<RuleId>,
    denied: Option<RuleId>,
    denied_address: Option<RuleId>,
    shielded: Option<RuleId>,
}

/// Where a walk ended.
#[derive(Debug)]
pub(super) enum Ended {
    Passed(RuleId, Look),
    Denied(RuleId),
}

impl Walk {
    /// An allow rule passed; `for_good`: there is nothing more to see for it.
    pub(super) fn pass(&mut self, rule: RuleId, look: Look, for_good: bool) {
        match look {
            Look::Hello if !for_good => earliest(&mut self.hello, rule),
            Look::Http if !for_good => earliest(&mut self.http, rule),
            _ => earliest(&mut self.passed, (rule, look)),
        }
    }

    /// A deny rule names the host that was asked for.
    pub(super) fn deny(&mut self, rule: RuleId) {
        earliest(&mut self.denied, rule);
    }

    /// A deny rule names a range around the address that will be dialled.
    pub(super) fn deny_address(&mut self, rule: RuleId) {
        earliest(&mut self.denied_address, rule);
    }

    /// An allow rule would let this address be dialled if it were asked for: what later rules say of it does not count.
    /// It opens no name that resolves to it.
    pub(super) fn shield(&mut self, rule: RuleId) {
        earliest(&mut self.shielded, rule);
    }

    /// How it ended, if anything decided; and the earliest rule that must see something first, with all that must be
    /// seen before the end was reached.
    pub(super) fn end(&self) -> (Option<Ended>, Option<RuleId>, Looks) {
        let address = self
            .denied_address
            .filter(|denied| self.shielded.is_none_or(|shield| *denied < shield));
        let denied = self.denied.into_iter().chain(address).min();
        let ended = match (self.passed, denied) {
            (Some((rule, look)), denied) if denied.is_none_or(|denied| rule < denied) => {
                Some(Ended::Passed(rule, look))
            }
            (_, Some(rule)) => Some(Ended::Denied(rule)),
            (_, None) => None,
        };
        let before = |rule: &RuleId| denied.is_none_or(|denied| *rule < denied);
        let (hello, http) = (self.hello.filter(before), self.http.filter(before));
        let mut looks = Looks::default();
        if hello.is_some() {
            looks.add(Look::Hello);
        }
        if http.is_some() {
            looks.add(Look::Http);
        }
        (ended, hello.into_iter().chain(http).min(), looks)
    }
}

fn earliest<T: Ord + Copy>(slot: &mut Option<T>, found: T) {
    *slot = Some(slot.map_or(found, |known| known.min(found)));
}
