//! Rules that decided nothing since a date: from records, or from what a running proxy counted itself.
//! Must not call a rule unused that nobody has watched since that date.
//! Called by `unused`.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Decided;
use crate::policy::rule::Effect;
use crate::policy::{API_SERVER, Policy, Reason};

/// Hits of rules, as records tell them.
#[derive(Debug)]
pub struct Watch<'p> {
    policy: &'p Policy,
    /// Rules of one name; unnamed ones may share one.
    by_name: HashMap<&'p str, Vec<usize>, RandomState>,
    hits: Vec<Hits>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    /// Whether anything that a rule allowed was recorded; with `log.decisions: denied` nothing is, and what only reporting
    /// let through is no sign of it.
    saw_allowed: bool,
    /// Records of rules that the policy does not have.
    pub strangers: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Hits {
    count: u64,
    last: Option<Timestamp>,
}

/// A rule, and whether it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    pub name: String,
    /// File and line.
    pub at: String,
    pub usage: Usage,
    /// In the log, or since the proxy began to count.
    pub hits: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_hit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The preset or tag that it is a row of: such rows are not for anyone to remove one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part_of: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Usage {
    /// Watched since the date or longer, and not one hit since.
    Unused,
    /// Its `until` has passed: it matches nothing any more.
    Expired,
    /// Not one hit, but nobody has watched it since the date.
    Unwatched,
    Used,
}

impl<'p> Watch<'p> {
    pub fn new(policy: &'p Policy) -> Self {
        let mut by_name: HashMap<_, Vec<_>, RandomState> = HashMap::default();
        for (place, rule) in policy.rules().iter().enumerate() {
            by_name.entry(&*rule.name).or_default().push(place);
        }
        Self {
            policy,
            by_name,
            hits: vec![Hits::default(); policy.rules().len()],
            first: None,
            last: None,
            saw_allowed: false,
            strangers: 0,
        }
    }

    pub fn add(&mut self, decided: &Decided) {
        self.first = [self.first, decided.at].into_iter().flatten().min();
        self.last = self.last.max(decided.at);
        self.saw_allowed |= decided.allowed && decided.reason != Some(Reason::Report);
        let Some(name) = decided.rule.as_deref().filter(|_| decided.rule_decided()) else {
            return;
        };
        let Some(places) = self.by_name.get(name) else {
            self.strangers += 1;
            return;
        };
        let rules = self.policy.rules();
        let written_there = |place: &usize| {
            let at = rules.get(*place).map(|rule| rule.at.to_string());
            at.as_deref() == decided.rule_at.as_deref()
        };
        // Of rules that share a name it is the one that stands where the record says; else it may be any of them.
        let there: Vec<_> = places.iter().copied().filter(written_there).collect();
        for place in if there.is_empty() { places } else { &there } {
            if let Some(hits) = self.hits.get_mut(*place) {
                hits.count += 1;
                hits.last = hits.last.max(decided.at);
            }
        }
    }

    /// The first moment that the records tell of.
    pub fn first(&self) -> Option<Timestamp> {
        self.first
    }

    /// The last one.
    pub fn last(&self) -> Option<Timestamp> {
        self.last
    }

    pub fn saw_allowed(&self) -> bool {
        self.saw_allowed
    }

    /// Every rule of the policy that somebody wrote, in its order.
    pub fn rows(&self, since: Timestamp, now: Timestamp) -> Vec<Row> {
        let reaches_back =
            self.first.is_some_and(|first| first <= since) && self.last.is_some_and(|last| last >= since);
        let rules = self.policy.rules().iter().zip(&self.hits);
        rules
            .filter(|(rule, _)| &*rule.name != API_SERVER)
            .map(|(rule, hits)| {
                let watched = reaches_back && (self.saw_allowed || rule.effect == Effect::Deny);
                let expired = rule.until.is_some_and(|until| until <= now);
                Row {
                    name: rule.name.to_string(),
                    at: rule.at.to_string(),
                    usage: usage(hits.last, since, expired, watched, hits.count > 0),
                    hits: hits.count,
                    last_hit: hits.last.map(|last| last.to_string()),
                    owner: rule.owner.as_deref().map(str::to_owned),
                    part_of: part_of(&rule.name),
                }
            })
            .collect()
    }
}

/// A saved `/policy`: what the proxy counted itself.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// Since when these rules are in force for certain.
    since: String,
    matching: usize,
    shown: usize,
    rules: Vec<PageRow>,
}

#[derive(Debug, Deserialize)]
struct PageRow {
    name: String,
    at: String,
    #[serde(default)]
    expired: bool,
    owner: Option<String>,
    hits: u64,
    last_hit: Option<String>,
}

impl Page {
    /// Reads the text of a page.
    ///
    /// # Errors
    /// It is none; why.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|error| format!("it is no answer of /policy: {error}"))
    }

    /// How many rules the page leaves out.
    pub fn missing(&self) -> usize {
        self.matching.saturating_sub(self.shown)
    }

    pub fn since(&self) -> &str {
        &self.since
    }

    /// Every rule of the page.
    ///
    /// # Errors
    /// A time on it cannot be read; which.
    pub fn rows(self, since: Timestamp) -> Result<Vec<Row>, String> {
        let time = |text: &str| text.parse::<Timestamp>().map_err(|_| format!("`{text}` is no time"));
        let watched = time(&self.since)? <= since;
        let written = self.rules.into_iter().filter(|rule| rule.name != API_SERVER);
        let rows = written.map(|rule| {
            let last = rule.last_hit.as_deref().map(time).transpose()?;
            Ok(Row {
                // A last hit is one even where the page is younger.
                usage: usage(last, since, rule.expired, watched || last.is_some(), rule.hits > 0),
                part_of: part_of(&rule.name),
                name: rule.name,
                at: rule.at,
                hits: rule.hits,
                last_hit: rule.last_hit,
                owner: rule.owner,
            })
        });
        rows.collect()
    }
}

fn usage(last: Option<Timestamp>, since: Timestamp, expired: bool, watched: bool, was_hit: bool) -> Usage {
    match last {
        Some(last) if last >= since => Usage::Used,
        // Records without times cannot say when.
        None if was_hit => Usage::Used,
        _ if expired => Usage::Expired,
        _ if watched => Usage::Unused,
        _ => Usage::Unwatched,
    }
}

/// `aks/core` for `aks/core: mcr`: expanded rules are named so, and only those.
fn part_of(name: &str) -> Option<String> {
    let (part, row) = name.split_once(": ")?;
    (!row.contains(' ') && !part.contains(' ')).then(|| part.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Event, Item, Reader};
    use crate::policy::fixture::load;

    const POLICY: &str = "allow:
  - {name: used, to: [a.test]}
  - {name: old, to: [b.test]}
  - {name: never, to: [c.test]}
  - {name: past, to: [d.test], until: 2026-01-01}
  - e.test
  - {from: [10.0.0.0/8], to: [e.test]}
deny: [{name: bad, to: [f.test]}]
";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn log(lines: &[(&str, &str, &str, u32)]) -> Vec<Decided> {
        let mut reader = Reader::default();
        let mut all = Vec::new();
        let mut give = |item| match item {
            Item::Event(Event::Decision(decided)) => all.push(*decided),
            other => panic!("{other:?}"),
        };
        for (day, action, rule, line) in lines {
            let reason = if *action == "allow" { "rule" } else { "deny_rule" };
            let line = format!(
                "{{\"type\":\"decision\",\"time\":\"{day}T00:00:00Z\",\"action\":\"{action}\",\"reason\":\"{reason}\",\"entry\":\
                 \"connect\",\"source\":\"10.0.0.1\",\"host\":\"x.test\",\"port\":443,\"ech\":false,\"rule\":\"{rule}\",\
                 \"rule_at\":\"policy.yaml:{line}\"}}\n"
            );
            reader.push(line.as_bytes(), &mut give);
        }
        reader.finish(&mut give);
        all
    }

    fn usages(records: &[Decided], since: &str) -> String {
        let policy = load(POLICY);
        let mut watch = Watch::new(&policy);
        for record in records {
            watch.add(record);
        }
        let rows = watch.rows(at(since), at("2026-11-20T00:00:00Z"));
        let rows = rows.iter().map(|row| format!("{} {:?}", row.name, row.usage));
        rows.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn rules_are_told_apart_by_what_records_say() {
        let records = log(&[
            ("2026-10-01", "allow", "old", 3),
            ("2026-11-10", "allow", "used", 99),
            ("2026-11-10", "allow", "e.test", 7),
        ]);
        assert_eq!(
            usages(&records, "2026-11-01T00:00:00Z"),
            "used Used, old Unused, never Unused, past Expired, e.test Unused, e.test Used, bad Unused"
        );
        assert_eq!(
            usages(&records, "2026-09-01T00:00:00Z"),
            "used Used, old Used, never Unwatched, past Expired, e.test Unwatched, e.test Used, bad Unwatched"
        );
        let denied = log(&[("2026-10-01", "deny", "bad", 8), ("2026-11-10", "deny", "gone", 9)]);
        assert_eq!(
            usages(&denied, "2026-11-01T00:00:00Z"),
            "used Unwatched, old Unwatched, never Unwatched, past Expired, e.test Unwatched, e.test Unwatched, bad Unused",
            "where only denials are logged, nothing is known of allow rules"
        );
    }

    #[test]
    fn what_nobody_wrote_is_nobodys_to_remove() {
        let policy = load(
            "cluster: {api_server: api.hcp.westeurope.azmk8s.io, networks: {pods: [10.244.0.0/16]}}\nallow: [a.test]\n",
        );
        assert!(policy.rules().iter().any(|rule| &*rule.name == API_SERVER));
        let watch = Watch::new(&policy);
        let rows = watch.rows(at("2026-11-01T00:00:00Z"), at("2026-11-20T00:00:00Z"));
        let names: Vec<_> = rows.into_iter().map(|row| row.name).collect();
        assert_eq!(names, ["a.test"]);
        let page = r#"{"since":"2026-10-01T00:00:00Z","matching":1,"shown":1,"rules":[{"name":"cluster.api_server","at":"p:1","hits":0}]}"#;
        let page = Page::read(page.as_bytes()).unwrap();
        assert_eq!(page.rows(at("2026-11-01T00:00:00Z")).unwrap(), []);
    }

    #[test]
    fn a_rule_that_nobody_watched_is_not_called_unused() {
        let unused = |records: &[Decided], since: &str| usages(records, since).matches("Unused").count();
        let ended = log(&[("2026-09-01", "allow", "used", 2), ("2026-10-01", "allow", "old", 3)]);
        assert_eq!(
            unused(&ended, "2026-11-01T00:00:00Z"),
            0,
            "the log ends before that day"
        );
        assert_ne!(unused(&ended, "2026-10-01T00:00:00Z"), 0);
        // `log.decisions: denied` writes down what only reporting let through, and no rule that allows.
        let mut reported = log(&[("2026-10-01", "allow", "", 0), ("2026-11-10", "deny", "bad", 8)]);
        reported[0].reason = Some(Reason::Report);
        reported[0].would_deny = Some(Reason::NoRule);
        reported[0].rule = None;
        assert_eq!(unused(&reported, "2026-11-01T00:00:00Z"), 0);
    }

    #[test]
    fn pages_say_what_the_proxy_counted() {
        use Usage::{Expired, Unused, Unwatched, Used};
        let page = |since: &str| {
            let text = format!(
                r#"{{"generation":3,"since":"{since}","mode":"enforce","files":[],"workloads":[],"rules_in_all":4,"matching":5,
                "offset":0,"shown":4,"rules":[
                {{"name":"used","at":"p:1","effect":"allow","to":[],"hits":3,"last_hit":"2026-11-10T00:00:00.000Z"}},
                {{"name":"old","at":"p:2","effect":"allow","to":[],"hits":3,"last_hit":"2026-10-10T00:00:00.000Z"}},
                {{"name":"aks/core: mcr","at":"p:3","effect":"allow","to":[],"hits":0}},
                {{"name":"past","at":"p:4","effect":"allow","to":[],"expired":true,"hits":0}}]}}"#
            );
            let page = Page::read(text.as_bytes()).unwrap();
            assert_eq!(page.missing(), 1);
            let rows = page.rows(at("2026-11-01T00:00:00Z")).unwrap();
            assert_eq!(rows[2].part_of.as_deref(), Some("aks/core"));
            rows.iter().map(|row| row.usage).collect::<Vec<_>>()
        };
        assert_eq!(page("2026-10-30T00:00:00.000Z"), [Used, Unused, Unused, Expired]);
        assert_eq!(page("2026-11-05T00:00:00.000Z"), [Used, Unused, Unwatched, Expired]);
        assert!(Page::read(b"{}").is_err());
    }
}
