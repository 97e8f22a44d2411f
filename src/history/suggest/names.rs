//! Names with the same parent: whether they call for a wildcard, or are a flood that somebody makes up.
//! Must not take one client's word for either.
//! Called by `suggest`.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::{Kind, Lacking};
use crate::history::evidence::Evidence;

/// Names below one parent, asked for on one port by those whom one entry would be for.
#[derive(Debug, Default)]
pub(super) struct Family<'a> {
    pub(super) members: Vec<(&'a Lacking, Kind, &'a Evidence)>,
    /// Labels that look made up, that one client alone asked for, and that DNS has not found.
    pub(super) made_up: usize,
    /// Plain names that each client alone asked for, found or not.
    alone: HashMap<IpAddr, usize>,
    /// Plain labels that several clients asked for, or one that DNS has found.
    credible: usize,
    sources: BTreeSet<IpAddr>,
    more_sources: bool,
    /// Names that DNS has found.
    resolved: usize,
    /// Labels that look made up and that one client alone asked for, found or not.
    odd: usize,
}

impl Family<'_> {
    pub(super) fn add(&mut self, first: &str, resolved: bool, evidence: &Evidence) {
        let made_up = looks_made_up(first);
        let several = evidence.sources.len() > 1;
        if made_up && !several {
            self.odd += 1;
            self.made_up += usize::from(!resolved);
        }
        if let Some(source) = evidence.sources.first().filter(|_| !several && !made_up) {
            *self.alone.entry(*source).or_default() += 1;
        }
        if !made_up && (several || resolved) {
            self.credible += 1;
        }
        if resolved {
            self.resolved += 1;
        }
        self.sources.extend(&evidence.sources);
        self.more_sources |= evidence.more_sources;
    }

    /// Many names that one client alone came up with, or many that nobody would call anything by.
    pub(super) fn is_flood(&self) -> bool {
        let unresolved = self.members.len() - self.resolved;
        unresolved > MANY && self.sources.len() == 1
            || unresolved > 2 * SEVERAL && self.made_up * 2 > unresolved
            || self.alone.values().any(|names| *names > FAR_TOO_MANY)
    }

    /// Whether one client alone asked for this name, as for very many beside it.
    pub(super) fn is_of_flood(&self, evidence: &Evidence) -> bool {
        let source = evidence.sources.first().filter(|_| evidence.sources.len() == 1);
        source
            .and_then(|source| self.alone.get(source))
            .is_some_and(|names| *names > FAR_TOO_MANY)
    }

    /// Whether somebody sends data out in questions: the servers of such a zone have an answer to every name.
    pub(super) fn is_tunnel(&self) -> bool {
        self.odd > MANY
    }

    /// Several plain names, each asked for by several clients or known to DNS, and several clients in all.
    pub(super) fn calls_for_wildcard(&self) -> bool {
        self.sources.len() > 1 && self.credible >= SEVERAL && self.odd * 2 <= self.members.len()
    }

    pub(super) fn evidence(&self) -> Evidence {
        let mut all = Evidence::default();
        for (_, _, evidence) in &self.members {
            all.join(evidence);
        }
        all
    }
}

/// Whether a part of a label looks like chance: long, and with digits among its letters or without vowels.
pub(super) fn looks_made_up(label: &str) -> bool {
    label.split(['-', '_']).any(|part| {
        let letters = part.bytes().filter(u8::is_ascii_alphabetic).count();
        let vowels = part.bytes().filter(|byte| b"aeiouy".contains(byte)).count();
        let digit = part.bytes().map(|byte| byte.is_ascii_digit());
        let changes = digit.clone().zip(digit.skip(1)).filter(|(a, b)| a != b).count();
        part.len() >= LONG && (changes >= 3 && part.len() - letters >= 3 || letters >= LONG + 2 && vowels * 6 < letters)
    })
}

/// Names below one parent that a person would still list.
const MANY: usize = 20;
/// Names below one parent that one client alone may bring up, even where DNS finds all of them.
const FAR_TOO_MANY: usize = 50;
/// Names that a wildcard must stand for.
const SEVERAL: usize = 3;
/// Shorter parts are what people call things, too.
const LONG: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_told_from_names() {
        for made_up in ["x7f3k9q2m1z8", "a1b2c3d4e5f6", "qwrtpsdfghjkl", "3f9a81bc77de01"] {
            assert!(looks_made_up(made_up), "{made_up}");
        }
        for name in [
            "api",
            "westeurope",
            "prod-eu-1",
            "login",
            "telemetry-ingest",
            "mystorageaccount2",
            "eus2-prod-01",
            "k8s",
            "ocsp",
            "crl3",
            "analytics",
        ] {
            assert!(!looks_made_up(name), "{name}");
        }
    }
}
