//! Why an ask is allowed or denied, for a person: the deciding rule, the nearest misses, the line that would allow it.
//! Must not decide: the answer is the gate's, as if enforcing. Plain data; the commands print it.
//! Called by `explain`, by failed `expect` entries, and, for the suggestion alone, by every refusal.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

pub use need::Need;
pub(crate) use need::needs;
pub use suggestion::suggestion;
pub(crate) use suggestion::{Entry, proposal};

use super::ask::{Action, Ask, Inspect, Source};
use super::compiled::Policy;
use super::gate::{Failure, Judge, Specificity, enforce, gate};
use super::reason::Reason;
use super::rule::{Destination, Effect, Rule, RuleId};

mod criterion;
mod need;
mod similar;
mod suggestion;

/// An answer with its grounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `api.example.com:443`.
    pub asked: String,
    /// The workload that names the source, else its address.
    pub from: String,
    pub allowed: bool,
    pub reason: Reason,
    /// The documentation of the reason.
    pub meaning: &'static str,
    /// The rule that allows or denies; for other denials the nearest one is the first of `misses`.
    pub rule: Option<RuleRef>,
    /// What must still be seen on the wire before an allowed connection carries data.
    pub then: Option<&'static str>,
    /// Denied, but let through at this moment because the policy or a rule only reports.
    pub reported: bool,
    /// At most [`MISSES`], nearest first.
    pub misses: Vec<Miss>,
    /// Presets that need this host.
    pub needed_by: Vec<Need>,
    /// The entry of `allow:` that would allow exactly this; `None` where no entry can.
    pub suggestion: Option<String>,
}

/// A rule, as a person finds it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleRef {
    pub name: String,
    /// The ordered collection that it stands in, and the group of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collection_group: Option<String>,
    pub file: String,
    pub line: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The `reason` key of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A rule that almost allowed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Miss {
    pub rule: RuleRef,
    /// The one criterion that failed, in words that follow the rule and a colon.
    pub failed: String,
}

/// Explains the answer to one ask, as if neither report mode nor `report: true` opened anything.
pub fn explain(policy: &Policy, now: Timestamp, source: &Source, ask: &Ask) -> Explanation {
    let decision = enforce(policy, now, source, ask);
    let from = policy.workload_of(source);
    let mut explanation = Explanation {
        asked: format!("{}:{}", ask.host, ask.port),
        from: from.map_or_else(|| source.address.to_string(), ToString::to_string),
        allowed: decision.is_allowed(),
        reason: decision.reason,
        meaning: decision.reason.doc(),
        rule: None,
        then: None,
        reported: false,
        misses: Vec::new(),
        needed_by: Vec::new(),
        suggestion: None,
    };
    match decision.action {
        Action::Allow(inspect) => explanation.then = then(inspect),
        Action::Deny => {
            explanation.reported = gate(policy, now, source, ask).is_allowed();
            explanation.suggestion = suggestion(policy, now, source, ask);
            explanation.needed_by = needs(policy, source, ask, decision.reason);
        }
    }
    if explanation.allowed || decision.reason == Reason::DenyRule {
        let rule = decision.rule.and_then(|id| policy.rule(id));
        explanation.rule = rule.map(RuleRef::from);
    } else {
        explanation.misses = misses(policy, now, source, ask);
    }
    explanation
}

/// The rules whose host covers the ask, nearest first; where there are none, rules with a similar host.
fn misses(policy: &Policy, now: Timestamp, source: &Source, ask: &Ask) -> Vec<Miss> {
    let mut judge = Judge::new(policy, source, Some(now));
    judge.report_rules = true;
    let mut candidates: BTreeMap<RuleId, (&Rule, Vec<&Destination>)> = BTreeMap::new();
    policy
        .index()
        .visit(policy.rules(), &ask.host, |id, rule, destination| {
            if rule.effect == Effect::Allow {
                candidates.entry(id).or_insert((rule, Vec::new())).1.push(destination);
            }
        });
    let mut misses: Vec<_> = candidates
        .into_iter()
        .map(|(id, (rule, destinations))| nearest(&judge, id, rule, &destinations, ask))
        .collect();
    misses.sort_by_key(|(nearness, _)| std::cmp::Reverse(*nearness));
    misses.truncate(MISSES);
    if misses.is_empty() {
        return similar::similar(policy, &ask.host);
    }
    misses.into_iter().map(|(_, miss)| miss).collect()
}

/// How near a rule came, and what stopped it. The greater, the nearer: past its time or only reporting is nearest of
/// all, as every check passed.
type Nearness = (bool, Option<Failure>);

fn nearest(judge: &Judge<'_>, id: RuleId, rule: &Rule, destinations: &[&Destination], ask: &Ask) -> (Nearness, Miss) {
    let mut failed: Option<Failure> = None;
    let mut passed = destinations.is_empty();
    for destination in destinations {
        let specificity = Specificity::of(id, destination, judge.named_source(rule));
        match judge.check(rule, destination, ask) {
            Ok(_) => passed = true,
            Err(reason) => failed = failed.max(Some(Failure::new(reason, specificity))),
        }
    }
    let words = match failed.filter(|_| !passed) {
        Some(failure) => criterion::failed(judge, rule, destinations, ask, failure.reason),
        None => criterion::absent(judge, rule),
    };
    let rule = RuleRef::from(rule);
    ((passed, failed), Miss { rule, failed: words })
}

const fn then(inspect: Inspect) -> Option<&'static str> {
    match inspect {
        Inspect::Nothing => None,
        Inspect::Hello => Some("a ClientHello must follow whose SNI is this name, unless the rule says otherwise"),
        Inspect::Http => Some("HTTP/1.x requests must follow whose Host is this name"),
        Inspect::HelloOrHttp => {
            Some("a ClientHello must follow whose SNI is this name, or HTTP requests whose Host is")
        }
    }
}

impl From<&Rule> for RuleRef {
    fn from(rule: &Rule) -> Self {
        let collection = rule.collection.as_deref();
        Self {
            name: rule.name.to_string(),
            collection: collection.map(|collection| collection.name.to_string()),
            collection_group: collection.and_then(|collection| Some(collection.group.as_ref()?.to_string())),
            file: rule.at.file.to_string(),
            line: rule.at.line,
            owner: rule.owner.as_deref().map(str::to_owned),
            why: rule.why.as_deref().map(str::to_owned),
        }
    }
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}", self.name)?;
        if let Some(collection) = &self.collection {
            write!(f, " of collection {collection}")?;
        }
        write!(f, " ({}:{})", self.file, self.line)
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.failed)
    }
}

impl fmt::Display for Explanation {
    /// Several lines, without one at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.allowed { "allowed" } else { "denied" };
        write!(f, "{verdict}: {} from {}", self.asked, self.from)?;
        write!(f, "\n  reason:  {}: {}", self.reason.as_str(), self.meaning)?;
        if let Some(rule) = &self.rule {
            write!(f, "\n  by:      {rule}")?;
            if let Some(owner) = &rule.owner {
                write!(f, ", owned by {owner}")?;
            }
            if let Some(why) = &rule.why {
                write!(f, ", because {why}")?;
            }
        }
        if let Some(then) = self.then {
            write!(f, "\n  then:    {then}")?;
        }
        if self.reported {
            write!(
                f,
                "\n  now:     let through all the same, because the policy or a rule only reports"
            )?;
        }
        for miss in &self.misses {
            write!(f, "\n  nearest: {miss}")?;
        }
        for need in &self.needed_by {
            write!(f, "\n  preset:  {need}")?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, "\n  this entry under `allow:` would allow it:\n    {suggestion}")?;
        }
        Ok(())
    }
}

/// How many misses an explanation names.
pub const MISSES: usize = 5;

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use serde::Deserialize;

    use super::*;
    use crate::policy::fixture::{self, Question, source};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Group {
        policy: String,
        cases: Vec<Case>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        ask: String,
        from: Option<String>,
        hello: Option<String>,
        #[serde(default)]
        ech: bool,
        seen: Option<String>,
        address: Option<IpAddr>,
        says: String,
    }

    impl Case {
        fn ask(&self) -> Ask {
            let question = Question {
                ask: &self.ask,
                hello: self.hello.as_deref(),
                ech: self.ech,
                seen: self.seen.as_deref(),
                address: self.address,
            };
            question.ask()
        }

        fn source(&self) -> Source {
            source(self.from.as_deref().unwrap_or("10.9.9.9"))
        }
    }

    fn groups() -> Vec<Group> {
        serde_saphyr::from_str(include_str!("../../tests/corpus/explain.yaml")).unwrap()
    }

    fn now() -> Timestamp {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_person_reads_what_is_written_down() {
        let mut wrong = Vec::new();
        for group in groups() {
            let policy = fixture::load(&group.policy);
            for case in &group.cases {
                let explanation = explain(&policy, now(), &case.source(), &case.ask());
                if explanation.to_string() != case.says {
                    wrong.push(format!("expected {}\nfound {explanation}", case.says));
                }
            }
        }
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
    }

    #[test]
    fn the_suggested_entry_loads_and_helps() {
        let mut helped = 0;
        for group in groups() {
            let policy = fixture::load(&group.policy);
            for case in &group.cases {
                let (source, ask) = (case.source(), case.ask());
                let Some(entry) = suggestion(&policy, now(), &source, &ask) else {
                    continue;
                };
                let with = group.policy.replacen("allow:\n", &format!("allow:\n  {entry}\n"), 1);
                let decision = enforce(&fixture::load(&with), now(), &source, &ask);
                assert!(decision.is_allowed(), "{entry} leaves {ask:?} at {decision:?}");
                helped += 1;
            }
        }
        assert!(helped > 20);
    }

    #[test]
    fn machines_read_codes() {
        let groups = groups();
        let policy = fixture::load(&groups[0].policy);
        let explanation = explain(&policy, now(), &source("poi"), &fixture::ask("api.stripe.com:443"));
        let json = serde_json::to_value(explanation).unwrap();
        assert_eq!(json["reason"], "no_rule_for_source");
        assert_eq!(json["misses"][0]["rule"]["line"], 9);
        assert_eq!(json["misses"][0]["rule"]["owner"], "team-payments");
        assert_eq!(json["suggestion"], "- {from: [poi], to: [api.stripe.com]}");
    }
}
