//! Ordered collections, rule by rule from the first to the last: slow, and written apart from the gate.
//! Must not share code with the gate: no least ids, no kinds of matches that are compared afterwards.
//! Called by the model.

use super::model::{Model, covers, dialled, in_range};
use crate::name::Host;
use crate::policy::rule::{Effect, Rule};
use crate::policy::{Ask, Inspect, Reason, Seen};

/// What a walk came to.
pub(super) enum Walked {
    Denied,
    /// Whether anything must be seen, and what: [`Inspect::Nothing`] where nobody will look.
    Allowed(Inspect),
    /// Up to here: what must be seen; and why rules did not match.
    On(Vec<Inspect>, Vec<(u8, Reason)>),
}

impl Model<'_> {
    /// `rules` in the order of evaluation, without those that do not exist now.
    pub(super) fn walk(&self, rules: &[Rule], ask: &Ask, trial: bool) -> Walked {
        let mut pending = Vec::new();
        let mut failures = Vec::new();
        let mut is_shielded = false;
        for rule in rules {
            if rule.effect == Effect::Deny {
                let named = |host: &_| covers(host, &ask.host);
                let around = |host: &_| dialled(ask).is_some_and(|address| in_range(host, address));
                let hit = rule.to.iter().any(|to| {
                    to.ports.contains(&ask.port.number()) && (named(&to.host) || !is_shielded && around(&to.host))
                });
                if hit && self.is_from(rule) {
                    return match pending.as_slice() {
                        [] => Walked::Denied,
                        looks => Walked::Allowed(all(looks)),
                    };
                }
                continue;
            }
            if rule.report && !trial {
                continue;
            }
            let mut found = Vec::new();
            for to in &rule.to {
                if covers(&to.host, &ask.host) {
                    match self.allows(rule, to, ask, trial) {
                        Ok(look) => found.push(look),
                        Err(failure) => failures.push(failure),
                    }
                }
            }
            let seen = ask.seen != Seen::Nothing;
            if found.contains(&Inspect::Nothing) {
                return Walked::Allowed(Inspect::Nothing);
            }
            match found.first() {
                Some(_) if seen && found.contains(&Inspect::Hello) => return Walked::Allowed(Inspect::Hello),
                Some(look) if seen => return Walked::Allowed(*look),
                _ => pending.extend(found),
            }
            is_shielded |= dialled(ask).is_some_and(|address| {
                let literal = Host::Address(address);
                let mut around = rule.to.iter().filter(|to| covers(&to.host, &literal));
                around.any(|to| self.allows(rule, to, ask, trial).is_ok())
            });
        }
        Walked::On(pending, failures)
    }
}

fn all(looks: &[Inspect]) -> Inspect {
    match (looks.contains(&Inspect::Hello), looks.contains(&Inspect::Http)) {
        (true, true) => Inspect::HelloOrHttp,
        (true, false) => Inspect::Hello,
        (false, _) => Inspect::Http,
    }
}
