//! What an allowlist lacks, learned from what was denied, only reported, or asked of DNS: entries with their evidence.
//! Must not open more than was asked for: wildcards are beside the point until several clients have shown that they are
//! needed, and names that look made up bring out nothing. Called by `suggest`.

#[cfg(test)]
mod exact;
mod names;
mod propose;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use foldhash::fast::RandomState;
use jiff::Timestamp;
use serde::Serialize;

use super::evidence::Evidence;
use super::replay::{asked, judge_by, source};
use super::{Answer, Decided, Event, Question};
use crate::name::{Host, HostName};
use crate::policy::explain::{Entry, proposal};
use crate::policy::{Ask, Decision, Policy, Reason, Seen, Source, enforce};

/// Records so far, in the light of a policy.
#[derive(Debug)]
pub struct Learner<'p> {
    policy: &'p Policy,
    now: Timestamp,
    lacking: BTreeMap<Lacking, Evidence>,
    others: BTreeMap<Other, Evidence>,
    questions: HashMap<HostName, Asked, RandomState>,
    /// Hosts that the proxy or a firewall was asked for.
    known: HashSet<HostName, RandomState>,
    /// Records that the policy allows by now, or that no policy decides.
    pub settled: u64,
    pub not_by_policy: u64,
    /// Records beyond [`MAX_KINDS`] different ones.
    pub unlisted: u64,
}

/// What the logs call for.
#[derive(Debug, Default, Serialize)]
pub struct Suggestions {
    /// By workload, the most frequent first.
    pub entries: Vec<Suggested>,
    /// Denied for what a client showed or where a name leads: somebody must decide.
    pub decide: Vec<Undecided>,
    /// Denied by a deny rule, or an address that is private, reserved or never opened.
    pub on_purpose: Vec<Undecided>,
    /// Names for which nothing is proposed, and why.
    pub ignored: Vec<Ignored>,
}

/// One entry, with its grounds.
#[derive(Debug, Serialize)]
pub struct Suggested {
    /// As it stands under `allow:`.
    pub entry: String,
    /// For whom; absent for every client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    pub kind: Kind,
    pub reasons: BTreeSet<Reason>,
    pub risks: Vec<String>,
    /// Presets that need the host, each with its entry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needed_by: Vec<String>,
    #[serde(flatten)]
    pub evidence: Evidence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A host that was asked for.
    Exact,
    /// Instead of the exact entries below the same suffix.
    Wildcard,
    /// A name that was only asked of DNS, so its port is a guess.
    Dns,
}

/// Something that no missing entry explains.
#[derive(Debug, Serialize)]
pub struct Undecided {
    pub who: String,
    pub asked: String,
    pub reason: Reason,
    /// What would open exactly this, where anything can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    #[serde(flatten)]
    pub evidence: Evidence,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Ignored {
    pub what: String,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Lacking {
    entry: Entry,
    /// To sort by, and to look names up with; the entry speaks of nothing else.
    host: String,
    port: u16,
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Other {
    who: String,
    asked: String,
    reason: Reason,
    entry: Option<Entry>,
}

#[derive(Debug, Default)]
struct Asked {
    found: bool,
    no_name: bool,
    by: BTreeMap<IpAddr, Evidence>,
}

impl<'p> Learner<'p> {
    /// Judges as of `now`, as if enforcing.
    pub fn new(policy: &'p Policy, now: Timestamp) -> Self {
        Self {
            policy,
            now,
            lacking: BTreeMap::new(),
            others: BTreeMap::new(),
            questions: HashMap::default(),
            known: HashSet::default(),
            settled: 0,
            not_by_policy: 0,
            unlisted: 0,
        }
    }

    pub fn add(&mut self, event: &Event) {
        match event {
            Event::Decision(decided) => self.decision(decided),
            Event::Question(question) => self.question(question),
        }
    }

    fn decision(&mut self, decided: &Decided) {
        if let Some(name) = decided.host.as_ref().and_then(Host::name)
            && self.known.len() < MAX_KINDS
        {
            self.known.insert(name.clone());
        }
        let source = self.source(decided);
        let judged = decided.is_policy().then(|| {
            let enforced = |ask: &Ask| enforce(self.policy, self.now, &source, ask);
            judge_by(decided, enforced)
        });
        let Some(again) = judged.flatten() else {
            self.not_by_policy += 1;
            return;
        };
        if again.decision.is_allowed() {
            self.settled += 1;
            return;
        }
        // The entry speaks of what was seen, also where the request was refused before anybody looked.
        let mut ask = match &decided.seen {
            Seen::Nothing => again.ask,
            seen => again.ask.seeing(seen.clone()),
        };
        ask.address = ask.address.or(decided.address);
        self.denied(decided, &source, &ask, &again.decision);
    }

    /// As the policy can know the client: a workload that it does not have is an address like any other.
    fn source(&self, decided: &Decided) -> Source {
        let source = source(decided);
        match &source.workload {
            Some(workload) if self.policy.workload(workload).is_none() => Source::at(source.address),
            _ => source,
        }
    }

    fn denied(&mut self, decided: &Decided, source: &Source, ask: &Ask, decision: &Decision) {
        let entry = proposal(self.policy, self.now, source, ask);
        let (at, from) = (decided.at, decided.source);
        let missing = matches!(
            decision.reason,
            Reason::NoRule | Reason::NoRuleForSource | Reason::Port | Reason::IpLiteral
        );
        match entry {
            Some(entry) if missing && entry.checks.is_empty() => {
                let lacking = Lacking {
                    entry,
                    host: ask.host.to_string(),
                    port: ask.port.number(),
                    reason: decision.reason,
                };
                if self.lacking.len() < MAX_KINDS || self.lacking.contains_key(&lacking) {
                    self.lacking.entry(lacking).or_default().add(at, from);
                } else {
                    self.unlisted += 1;
                }
            }
            entry => {
                let workload = decided.workload.as_deref();
                let other = Other {
                    who: workload.map_or_else(|| from.to_string(), str::to_owned),
                    asked: asked(decided),
                    reason: decision.reason,
                    entry,
                };
                if self.others.len() < MAX_KINDS || self.others.contains_key(&other) {
                    self.others.entry(other).or_default().add(at, from);
                } else {
                    self.unlisted += 1;
                }
            }
        }
    }

    fn question(&mut self, question: &Question) {
        if self.questions.len() >= MAX_KINDS && !self.questions.contains_key(&question.name) {
            self.unlisted += 1;
            return;
        }
        let asked = self.questions.entry(question.name.clone()).or_default();
        match question.answer {
            Answer::Found => asked.found = true,
            Answer::NoName => asked.no_name = true,
            Answer::Failed => {}
        }
        if asked.by.len() < MAX_ASKERS || asked.by.contains_key(&question.source) {
            let evidence = asked.by.entry(question.source).or_default();
            evidence.add(question.at, question.source);
        }
    }
}

/// Different records that are kept; a flood of names must not fill the memory.
const MAX_KINDS: usize = 100_000;
const MAX_ASKERS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Item, Reader};
    use crate::policy::fixture::load;

    const POLICY: &str = "workloads:
  trips: {namespace: a, pods: {app: a}, port: 3201}
  nodes: {cidrs: [10.224.0.0/16]}
allow:
  - ok.test
  - {from: [nodes], to: [nodes.test]}
deny: [bad.test]
";

    fn now() -> Timestamp {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }

    /// `trips@10.1.0.1 api.example.com:443 denied`, one per line; a question as `10.1.0.1 ? api.example.com NOERROR`.
    fn suggestions(policy: &str, lines: &[String]) -> Suggestions {
        let policy = load(policy);
        let mut learner = Learner::new(&policy, now());
        let mut give = |item| match item {
            Item::Event(event) => learner.add(&event),
            Item::Unreadable { why, .. } => panic!("{why}"),
        };
        let mut reader = Reader::default();
        for line in lines {
            reader.push(record(line).as_bytes(), &mut give);
        }
        reader.finish(&mut give);
        learner.suggestions()
    }

    fn record(line: &str) -> String {
        let words: Vec<_> = line.split(' ').collect();
        if let [source, "?", name, code] = words[..] {
            return format!("[INFO] {source}:4000 - 1 \"A IN {name}. udp 55 false 1232\" {code} qr,rd,ra 104 0.012s\n");
        }
        let (workload, source) = words[0].split_once('@').unwrap_or(("", words[0]));
        let (host, port) = words[1].rsplit_once(':').unwrap();
        let own = format!("\"workload\":\"{workload}\",\"own_port\":true,");
        let own = if workload.is_empty() { "" } else { &own };
        let (action, reason) = match words[2] {
            "denied" => ("deny", "\"no_rule\""),
            "reported" => ("allow", "\"report\",\"would_deny\":\"no_rule\""),
            _ => panic!("{line}"),
        };
        let more = words.get(3).map_or(String::new(), |more| format!(",{more}"));
        format!(
            "{{\"type\":\"decision\",\"time\":\"2026-11-20T10:00:00Z\",\"action\":\"{action}\",\"reason\":{reason},\"entry\":\"connect\",\
             \"source\":\"{source}\",{own}\"host\":\"{host}\",\"port\":{port},\"ech\":false{more}}}\n"
        )
    }

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    fn entries(suggestions: &Suggestions) -> Vec<String> {
        let entries = suggestions.entries.iter();
        entries
            .map(|entry| format!("{:?} {}x {}", entry.kind, entry.evidence.count, entry.entry))
            .collect()
    }

    #[test]
    fn what_was_denied_or_reported_is_proposed_by_workload_and_only_that() {
        let found = suggestions(
            POLICY,
            &lines(&[
                "trips@10.1.0.1 api.example.com:443 denied",
                "trips@10.1.0.2 api.example.com:443 denied",
                "trips@10.1.0.1 smtp.example.com:587 reported",
                "trips@10.1.0.1 nodes.test:443 denied",
                "10.224.0.5 mcr.example.com:443 reported",
                "10.9.9.9 other.example.com:80 denied",
                "trips@10.1.0.1 ok.test:443 denied",
                "trips@10.1.0.1 bad.test:443 denied",
                "trips@10.1.0.1 93.184.216.34:5432 denied",
                "gone@10.224.0.6 mcr.example.com:443 denied",
                "trips@10.1.0.1 169.254.169.254:80 denied",
                "trips@10.1.0.1 ok.test:443 denied \"seen\":\"hello\",\"sni\":\"else.test\"",
                "trips@10.1.0.1 private.test:443 reported \"address\":\"10.0.0.7\"",
            ]),
        );
        assert_eq!(
            entries(&found),
            [
                "Exact 2x - {from: [nodes], to: [mcr.example.com]}",
                "Exact 2x - {from: [trips], to: [api.example.com]}",
                "Exact 1x - {from: [trips], to: [\"tcp://93.184.216.34:5432\"]}",
                "Exact 1x - {from: [trips], to: [\"tcp://smtp.example.com:587\"]}",
                "Exact 1x - {from: [trips], to: [nodes.test]}",
                "Exact 1x - http://other.example.com",
            ]
        );
        let decide: Vec<_> = found
            .decide
            .iter()
            .map(|one| (one.reason, one.entry.as_deref()))
            .collect();
        assert_eq!(
            decide,
            [
                (
                    Reason::SniMismatch,
                    Some("- {from: [trips], to: [ok.test, else.test], sni: listed}")
                ),
                (
                    Reason::NoRule,
                    Some("- {from: [trips], to: [private.test], addresses: [\"10.0.0.7/32\"]}")
                ),
            ]
        );
        let purpose: Vec<_> = found.on_purpose.iter().map(|one| (&*one.asked, one.reason)).collect();
        assert_eq!(
            purpose,
            [
                ("169.254.169.254:80", Reason::IpLiteral),
                ("bad.test:443", Reason::DenyRule)
            ]
        );
        let risks = |host: &str| {
            let entry = found.entries.iter().find(|entry| entry.entry.contains(host)).unwrap();
            entry.risks.join("; ")
        };
        assert!(risks("smtp").contains("opaque") && risks("93.184").contains("an address"));
        assert!(risks("other").contains("every client") && risks("other").contains("plain HTTP"));
    }

    #[test]
    fn a_domain_that_answers_for_every_name_brings_out_nothing() {
        let pods = ["10.1.0.1", "10.1.0.2"];
        let told = |n: usize, name: &str| {
            let source = pods[n % 2];
            let name = format!("{name}.x.evil.example");
            [
                format!("{source} ? {name} NOERROR"),
                format!("trips@{source} {name}:443 denied"),
            ]
        };
        let chance = |n: usize| format!("{:x}", 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(n as u64 + 1));
        let few: Vec<_> = (0..20).flat_map(|n| told(n, &chance(n))).collect();
        let few = [few, (0..4).flat_map(|n| told(n, &format!("plain{n}"))).collect()].concat();
        let wild = entries(&suggestions(POLICY, &few));
        assert!(wild.iter().all(|entry| !entry.starts_with("Wildcard")), "{wild:?}");
        let many: Vec<_> = (0..200).flat_map(|n| told(n, &format!("n{n}"))).collect();
        let need = pods.map(|pod| format!("trips@{pod} api.x.evil.example:443 denied"));
        let found = suggestions(POLICY, &[many, need.to_vec()].concat());
        assert_eq!(
            entries(&found),
            ["Exact 2x - {from: [trips], to: [api.x.evil.example]}"]
        );
        assert_eq!(found.ignored.iter().map(|ignored| ignored.count).sum::<u64>(), 200);
    }

    #[test]
    fn a_wildcard_takes_several_clients_and_several_plain_names() {
        let ask = |source: &str, name: &str| format!("trips@{source} {name}.data.example.com:443 denied");
        let wild = |records: &[String]| {
            let found = suggestions(POLICY, records);
            entries(&found)
                .into_iter()
                .filter(|entry| entry.starts_with("Wildcard"))
                .collect::<Vec<_>>()
        };
        let names = ["eu", "us", "asia"];
        let both: Vec<_> = names
            .iter()
            .flat_map(|name| [ask("10.1.0.1", name), ask("10.1.0.2", name)])
            .collect();
        assert_eq!(
            wild(&both),
            ["Wildcard 6x - {from: [trips], to: [\"*.data.example.com\"]}"]
        );
        let alone: Vec<_> = names
            .iter()
            .flat_map(|name| [ask("10.1.0.1", name), ask("10.1.0.1", name)])
            .collect();
        assert_eq!(wild(&alone), [""; 0]);
        assert_eq!(wild(&both[..4]), [""; 0], "two names are two names");
        let apart: Vec<_> = (0..6)
            .map(|n| ask(["10.1.0.1", "10.1.0.2"][n % 2], &format!("n{n}")))
            .collect();
        assert_eq!(wild(&apart), [""; 0], "no name has two witnesses");
        // What DNS has found is a witness, too.
        let resolved = (0..6).map(|n| format!("10.1.0.1 ? n{n}.data.example.com NOERROR"));
        let resolved: Vec<_> = apart.iter().cloned().chain(resolved).collect();
        assert_eq!(
            wild(&resolved),
            ["Wildcard 6x - {from: [trips], to: [\"*.data.example.com\"]}"]
        );
        // On a shared suffix it says so, and what a registry gives out is nobody's.
        let moved = |suffix: &str| {
            both.iter()
                .map(|line| line.replace("data.example.com", suffix))
                .collect::<Vec<_>>()
        };
        let shared = suggestions(POLICY, &moved("blob.core.windows.net"));
        let wildcard = shared
            .entries
            .iter()
            .find(|entry| entry.kind == Kind::Wildcard)
            .unwrap();
        assert!(
            wildcard
                .risks
                .iter()
                .any(|risk| risk.contains("below blob.core.windows.net")),
            "{:?}",
            wildcard.risks
        );
        assert!(
            shared.entries[0]
                .risks
                .iter()
                .any(|risk| risk.contains("check that this one is yours"))
        );
        assert_eq!(wild(&moved("co.uk")), [""; 0]);
    }

    #[test]
    fn names_that_a_zone_answers_whatever_they_are_bring_out_nothing() {
        let mut asked: Vec<_> = (100..400)
            .map(|n| format!("10.1.0.1 ? x{n}k{}q{n}z.tunnel.example.com NOERROR", n * 7))
            .collect();
        asked.push("10.1.0.1 ? www.tunnel.example.com NOERROR".to_owned());
        asked.push("10.1.0.1 ? 3f9a81bc77de01.files.example.com NOERROR".to_owned());
        let found = suggestions(POLICY, &asked);
        assert_eq!(
            entries(&found),
            [
                "Dns 1x - \"3f9a81bc77de01.files.example.com\"",
                "Dns 1x - www.tunnel.example.com"
            ]
        );
        let ignored: u64 = found.ignored.iter().map(|ignored| ignored.count).sum();
        assert_eq!(ignored, 300);
    }

    #[test]
    fn a_flood_of_made_up_names_brings_out_nothing() {
        let mut seed = 7_u64;
        let mut label = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let digits = seed.to_le_bytes().into_iter().chain(seed.rotate_left(9).to_le_bytes());
            let letters =
                digits.map(|byte| char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[usize::from(byte % 36)]));
            letters.take(14).collect::<String>()
        };
        let mut flood: Vec<_> = (0..500)
            .map(|_| format!("trips@10.1.0.1 {}.evil.example.com:443 denied", label()))
            .collect();
        flood.push("trips@10.1.0.2 www.evil.example.com:443 denied".to_owned());
        flood.extend((0..300).map(|n| format!("trips@10.1.0.1 name{n}.plain.example.com:443 denied")));
        flood.extend((0..300).map(|n| format!("trips@10.1.0.1 www.one{n}.example:443 denied")));
        flood.extend((0..30).map(|n| format!("trips@10.1.0.{} {}.two.example.com:443 denied", 1 + n % 2, label())));
        flood.push("trips@10.1.0.2 needed.example.com:443 denied".to_owned());
        let found = suggestions(POLICY, &flood);
        assert!(
            found.entries.iter().all(|entry| entry.kind == Kind::Exact),
            "{:?}",
            entries(&found)
        );
        let named = entries(&found);
        assert!(
            named.iter().any(|entry| entry.contains("needed.example.com")),
            "{named:?}"
        );
        assert!(named.len() <= 5, "{named:?}");
        assert!(
            found.ignored.iter().map(|ignored| ignored.count).sum::<u64>() >= 1120,
            "{:?}",
            found.ignored
        );
    }

    #[test]
    fn a_list_is_learned_from_dns_before_anything_is_locked() {
        let found = suggestions(
            POLICY,
            &lines(&[
                "10.224.0.5 ? mcr.example.com NOERROR",
                "10.224.0.5 ? nodes.test NOERROR",
                "10.224.0.5 ? typo.example.com NXDOMAIN",
                "10.224.0.5 ? slow.example.com SERVFAIL",
                "10.224.0.5 ? bad.test NOERROR",
                "10.1.0.1 ? nothing.example.com NXDOMAIN",
                "10.1.0.1 nothing.example.com:443 denied",
            ]),
        );
        assert_eq!(entries(&found), ["Dns 1x - {from: [nodes], to: [mcr.example.com]}"]);
        assert!(found.entries[0].risks.iter().any(|risk| risk.contains("a guess")));
        assert_eq!(found.ignored.len(), 2, "{:?}", found.ignored);
    }
}
