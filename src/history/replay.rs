//! Recorded decisions before a candidate policy: what would break, what would pass, what only has other grounds.
//! Must not judge by itself: it asks the gate what the session asked, in the same order, with what was recorded.
//! Called by `replay`, and by `suggest` for what a policy lets through by now.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use super::evidence::Evidence;
use super::{Decided, Entry, Teller};
use crate::name::{Host, Port};
use crate::policy::{Action, Ask, Decision, Inspect, Policy, Reason, Seen, Source, gate};

/// A candidate, and what it makes of the records so far.
#[derive(Debug)]
pub struct Replay<'p> {
    policy: &'p Policy,
    clock: Clock,
    /// Records with the same answer.
    pub agreed: u64,
    /// Records whose verdict no policy gave, by reason.
    pub others: BTreeMap<&'static str, u64>,
    changes: BTreeMap<Change, Evidence>,
    /// Changed records beyond [`MAX_CHANGES`] different changes, by kind.
    pub unlisted: BTreeMap<Kind, u64>,
}

/// As of when records are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Each at its own time; those without one at this.
    Own(Timestamp),
    /// All at this time.
    AsOf(Timestamp),
}

/// A change of an answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    pub kind: Kind,
    /// The workload, else the address.
    pub who: String,
    /// `api.example.com:443`, with what came in where that is not CONNECT.
    pub asked: String,
    pub was: Grounds,
    pub now: Grounds,
}

/// What became of an answer, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Was allowed, would be denied.
    Breaks,
    /// Was allowed without a look; would be looked at, and nobody knows what would be seen.
    Unclear,
    /// Was denied, would be allowed.
    Opens,
    /// Was let through by reporting, would be allowed by a rule, if what follows is what the rule wants to see.
    Settles,
    /// The same answer by another rule, or for another reason.
    Differs,
}

/// Why an answer is what it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Grounds {
    pub allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_deny: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// The answer of the gate to what was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Again {
    /// What was asked last.
    pub ask: Ask,
    pub decision: Decision,
    /// `false`: allowed so far, but it must still show something that was not recorded.
    pub is_final: bool,
}

impl<'p> Replay<'p> {
    pub fn new(policy: &'p Policy, clock: Clock) -> Self {
        Self {
            policy,
            clock,
            agreed: 0,
            others: BTreeMap::new(),
            changes: BTreeMap::new(),
            unlisted: BTreeMap::new(),
        }
    }

    /// Judges one record again.
    pub fn add(&mut self, decided: &Decided) {
        let again = decided.is_policy().then(|| {
            let now = match self.clock {
                Clock::Own(otherwise) => decided.at.unwrap_or(otherwise),
                Clock::AsOf(now) => now,
            };
            judge(self.policy, now, decided)
        });
        let Some(again) = again.flatten() else {
            let reason = decided.reason.map_or("another", Reason::as_str);
            *self.others.entry(reason).or_default() += 1;
            return;
        };
        let Some(change) = self.compare(decided, &again) else {
            self.agreed += 1;
            return;
        };
        if self.changes.len() >= MAX_CHANGES && !self.changes.contains_key(&change) {
            *self.unlisted.entry(change.kind).or_default() += 1;
            return;
        }
        self.changes.entry(change).or_default().add(decided.at, decided.source);
    }

    /// Whether there was nothing to judge: then nothing is known, and "nothing would break" would be wrong.
    pub fn is_empty(&self) -> bool {
        self.agreed == 0 && self.others.is_empty() && self.changes.is_empty()
    }

    /// All changes, worst first, and the most frequent first of each kind.
    pub fn changes(&self) -> Vec<(&Change, &Evidence)> {
        let mut changes: Vec<_> = self.changes.iter().collect();
        changes.sort_by_key(|(change, evidence)| (change.kind, std::cmp::Reverse(evidence.count)));
        changes
    }

    /// How many records changed so.
    pub fn count(&self, kind: Kind) -> u64 {
        let listed = self.changes.iter().filter(|(change, _)| change.kind == kind);
        let listed: u64 = listed.map(|(_, evidence)| evidence.count).sum();
        listed + self.unlisted.get(&kind).copied().unwrap_or_default()
    }

    fn compare(&self, decided: &Decided, again: &Again) -> Option<Change> {
        let was = Grounds {
            allowed: decided.allowed,
            reason: decided.reason,
            would_deny: decided.would_deny,
            rule: decided.rule.as_deref().map(str::to_owned),
        };
        let rule = again.decision.rule.and_then(|id| self.policy.rule(id));
        let now = Grounds {
            allowed: again.decision.is_allowed(),
            reason: Some(again.decision.reason),
            would_deny: again.decision.would_deny,
            rule: rule.map(|rule| rule.name.to_string()),
        };
        let kind = match (was.allowed, now.allowed, again.is_final) {
            (true, false, _) => Kind::Breaks,
            (true, true, false) if was.would_deny.is_some() => Kind::Settles,
            (true, true, false) => Kind::Unclear,
            (false, true, _) => Kind::Opens,
            // A firewall's rules have other names, and it has other words.
            _ if decided.teller == Teller::Columns || was == now => return None,
            _ => Kind::Differs,
        };
        Some(Change {
            kind,
            who: match &decided.workload {
                Some(workload) => workload.to_string(),
                None => decided.source.to_string(),
            },
            asked: asked(decided),
            was,
            now,
        })
    }
}

/// Asks the gate again, in the order in which a session does. `None`: the record does not say what was asked.
pub fn judge(policy: &Policy, now: Timestamp, decided: &Decided) -> Option<Again> {
    let source = source(decided);
    judge_by(decided, |ask| gate(policy, now, &source, ask))
}

/// The same by another question to a policy.
pub(super) fn judge_by(decided: &Decided, about: impl Fn(&Ask) -> Decision) -> Option<Again> {
    let ask = ask(decided)?;
    let request = about(&ask);
    let Action::Allow(_) = request.action else {
        return Some(final_answer(ask, request));
    };
    let (ask, decision) = at_addresses(decided, ask, &about);
    let Action::Allow(inspect) = decision.action else {
        return Some(final_answer(ask, decision));
    };
    if matches!(decided.entry, Entry::Tls | Entry::Http) {
        return Some(final_answer(ask, decision));
    }
    let inside = match (inspect, &decided.seen) {
        (Inspect::Nothing, _) | (Inspect::Http | Inspect::HelloOrHttp, Seen::Http) => {
            return Some(final_answer(ask, decision));
        }
        (_, Seen::Nothing) => {
            return Some(Again {
                ask,
                decision,
                is_final: false,
            });
        }
        // Where only TLS passes, a request is bytes that are none.
        (Inspect::Hello, Seen::Http) => Seen::Other,
        (_, seen) => seen.clone(),
    };
    let ask = ask.seeing(inside);
    let decision = about(&ask);
    Some(final_answer(ask, decision))
}

/// Who asked, as the gate knows clients.
pub fn source(decided: &Decided) -> Source {
    match &decided.workload {
        Some(workload) if decided.own_port => Source::through(decided.source, workload.clone()),
        _ => Source::at(decided.source),
    }
}

/// What was asked before anything was resolved.
fn ask(decided: &Decided) -> Option<Ask> {
    let ask = Ask::new(decided.host.clone()?, decided.port?);
    Some(match decided.entry {
        Entry::Tls | Entry::Http => ask.seeing(decided.seen.clone()),
        Entry::Connect | Entry::Tcp => ask,
    })
}

/// The guard: the ask with the address that passed, or else with the one whose refusal is told, or without one where
/// none was recorded; and its decision.
fn at_addresses(decided: &Decided, ask: Ask, about: impl Fn(&Ask) -> Decision) -> (Ask, Decision) {
    let dialling = |address: IpAddr| {
        let ask = ask.clone().dialling(address);
        let decision = about(&ask);
        (ask, decision)
    };
    if let Some(address) = decided.address {
        return dialling(address);
    }
    let mut told: Option<(Ask, Decision)> = None;
    for address in &decided.refused {
        let judged = dialling(*address);
        if judged.1.is_allowed() {
            return judged;
        }
        // The session tells the first of the reasons, and the first address that was refused for it.
        if told.as_ref().is_none_or(|(_, told)| judged.1.reason < told.reason) {
            told = Some(judged);
        }
    }
    told.unwrap_or_else(|| {
        let decision = about(&ask);
        (ask, decision)
    })
}

const fn final_answer(ask: Ask, decision: Decision) -> Again {
    Again {
        ask,
        decision,
        is_final: true,
    }
}

pub(super) fn asked(decided: &Decided) -> String {
    let host = decided.host.as_ref().map_or_else(|| "?".to_owned(), Host::to_string);
    let port = decided.port.map_or(0, Port::number);
    let sni = match &decided.seen {
        Seen::Hello { sni: Some(sni), .. } if decided.host.as_ref().and_then(Host::name) != Some(sni) => {
            format!(" with SNI {sni}")
        }
        Seen::Hello { sni: None, .. } => " without SNI".to_owned(),
        _ => String::new(),
    };
    let scheme = match (decided.entry, &decided.seen) {
        (Entry::Http, _) | (_, Seen::Http) => "http://",
        (_, Seen::Hello { ech: true, .. }) => "tls+ech://",
        _ => "",
    };
    format!("{scheme}{host}:{port}{sni}")
}

impl Kind {
    pub const ALL: &[Self] = &[Self::Breaks, Self::Unclear, Self::Opens, Self::Settles, Self::Differs];

    /// What a person reads above a list of them.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Breaks => "would break: was allowed, would be denied",
            Self::Unclear => "may break: nobody looked into these so far, and the new rule does",
            Self::Opens => "would newly pass: was denied, would be allowed",
            Self::Settles => {
                "settled: let through by reporting, would be allowed if TLS or HTTP with that name follows"
            }
            Self::Differs => "the same answer by another rule or for another reason",
        }
    }
}

impl fmt::Display for Grounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.allowed { "allowed" } else { "denied" })?;
        match (self.would_deny, self.reason) {
            (Some(would_deny), _) => write!(f, " by reporting only ({})", would_deny.as_str())?,
            (None, Some(Reason::Rule) | None) => {}
            (None, Some(reason)) => write!(f, " ({})", reason.as_str())?,
        }
        match &self.rule {
            Some(rule) if self.allowed && self.would_deny.is_none() => write!(f, " by {rule}"),
            Some(rule) if self.reason == Some(Reason::DenyRule) => write!(f, " by {rule}"),
            Some(rule) => write!(f, "; nearest {rule}"),
            None => Ok(()),
        }
    }
}

/// Different changes that are kept; a flood of names must not fill the memory.
const MAX_CHANGES: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::HostName;
    use crate::policy::fixture::load;

    fn decided(to: &str, allowed: bool, reason: Reason) -> Decided {
        let (host, port) = to.rsplit_once(':').unwrap();
        Decided {
            at: "2026-11-20T12:00:00Z".parse().ok(),
            teller: Teller::Proxy,
            entry: Entry::Connect,
            source: [10, 1, 2, 3].into(),
            workload: None,
            own_port: false,
            host: Some(Host::parse(host.as_bytes()).unwrap()),
            port: Port::parse(port.as_bytes()).ok(),
            seen: Seen::Hello {
                sni: HostName::parse(host.as_bytes()).ok(),
                ech: false,
            },
            address: Some([93, 184, 216, 34].into()),
            refused: Vec::new(),
            allowed,
            reason: Some(reason),
            would_deny: None,
            rule: None,
            rule_at: None,
        }
    }

    fn by(rule: &str, decided: Decided) -> Decided {
        Decided {
            rule: Some(rule.into()),
            ..decided
        }
    }

    #[test]
    fn changes_are_told_by_kind_and_for_whom() {
        let policy = load(
            "workloads:\n  trips: {namespace: a, pods: {app: a}, port: 3201}\n\
             allow:\n  - a.test\n  - {name: smtp, to: [\"tls://smtp.test:587\"]}\n  - {from: [trips], to: [own.test]}\n  \
             - {name: past, to: [past.test], until: 2026-01-01}\n  - http://web.test:443\n",
        );
        let reported = Decided {
            would_deny: Some(Reason::NoRule),
            seen: Seen::Nothing,
            ..decided("a.test:443", true, Reason::Report)
        };
        let opaque = Decided {
            seen: Seen::Nothing,
            ..by("mail", decided("smtp.test:587", true, Reason::Rule))
        };
        let own = Decided {
            workload: Some("trips".into()),
            own_port: true,
            ..by("own.test", decided("own.test:443", true, Reason::Rule))
        };
        let dns = decided("a.test:443", false, Reason::Dns);
        let unread = Decided {
            host: None,
            ..decided("a.test:443", false, Reason::NoSni)
        };
        let private = Decided {
            address: None,
            refused: vec![[10, 0, 0, 1].into(), [169, 254, 169, 254].into()],
            ..by("a.test", decided("a.test:443", false, Reason::ForbiddenAddress))
        };
        for (record, kind) in [
            (by("a.test", decided("a.test:443", true, Reason::Rule)), None),
            (
                by("b.test", decided("b.test:443", true, Reason::Rule)),
                Some(Kind::Breaks),
            ),
            (
                by("other", decided("a.test:443", true, Reason::Rule)),
                Some(Kind::Differs),
            ),
            (decided("a.test:443", false, Reason::NoRule), Some(Kind::Opens)),
            (decided("c.test:443", false, Reason::NoRule), None),
            (decided("c.test:443", false, Reason::IpLiteral), Some(Kind::Differs)),
            (
                by("past", decided("past.test:443", true, Reason::Rule)),
                Some(Kind::Breaks),
            ),
            (
                by("web", decided("web.test:443", true, Reason::Rule)),
                Some(Kind::Breaks),
            ),
            (reported, Some(Kind::Settles)),
            (opaque, Some(Kind::Unclear)),
            (own.clone(), None),
            (Decided { own_port: false, ..own }, Some(Kind::Breaks)),
            (
                Decided {
                    teller: Teller::Columns,
                    ..dns.clone()
                },
                None,
            ),
            (dns, None),
            (unread, None),
            (private, None),
        ] {
            let mut replay = Replay::new(&policy, Clock::Own(Timestamp::UNIX_EPOCH));
            replay.add(&record);
            let found = replay.changes().first().map(|(change, _)| change.kind);
            assert_eq!(found, kind, "{record:?}: {:?}", replay.changes());
        }
    }

    #[test]
    fn the_clock_is_the_records_own_or_one_for_all() {
        let policy = load("allow:\n  - {name: ends, to: [a.test], until: 2026-11-20}\n");
        let record = by("ends", decided("a.test:443", true, Reason::Rule));
        for (clock, breaks) in [
            (Clock::Own("2027-01-01T00:00:00Z".parse().unwrap()), 0),
            (Clock::AsOf("2026-11-21T00:00:00Z".parse().unwrap()), 1),
        ] {
            let mut replay = Replay::new(&policy, clock);
            replay.add(&record);
            assert_eq!(replay.count(Kind::Breaks), breaks);
        }
    }

    #[test]
    fn a_change_reads_well() {
        let policy = load("allow: []\n");
        let mut replay = Replay::new(&policy, Clock::Own(Timestamp::UNIX_EPOCH));
        replay.add(&by("payments", decided("a.test:443", true, Reason::Rule)));
        let (change, evidence) = replay.changes()[0];
        assert_eq!(
            format!(
                "{} -> {}: {evidence}; was {}; would be {}",
                change.who, change.asked, change.was, change.now
            ),
            "10.1.2.3 -> a.test:443: once from 10.1.2.3, 2026-11-20T12:00:00Z; was allowed by payments; would be denied \
             (no_rule)"
        );
    }
}
