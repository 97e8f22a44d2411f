//! The policy as it runs: rules, their index, workloads, closed networks; immutable after it is made.
//! Must not know how it was written. Made by the compiler from [`Parts`], held by the state, read by the gate.
//! Called by every decision.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use ipnet::IpNet;
use jiff::Timestamp;

use super::ask::Source;
use super::index::Index;
use super::presets::Needs;
use super::problem::At;
use super::rule::{Generation, Position, Rule, RuleId};
use crate::name::{HostName, Port};

/// What the compiler hands over.
#[derive(Debug, Default)]
pub struct Parts {
    pub rules: Vec<Rule>,
    pub workloads: Vec<Workload>,
    pub mode: Mode,
    /// The cluster's own networks and its API server's addresses: never dialled unless a rule's `addresses` names them.
    pub closed: Vec<IpNet>,
    /// The API server's name, which reporting opens to nobody whom a rule denies it.
    pub api_server: Option<HostName>,
    /// Names of the files, in order.
    pub files: Vec<Arc<str>>,
    /// Of the contents of the files: the same number in every replica that holds the same ones.
    pub fingerprint: u64,
    /// What presets would open for this cluster.
    pub needs: Needs,
}

/// A workload as far as the gate can recognise it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    pub name: Arc<str>,
    /// Its own explicit listener, and where the files say so.
    pub port: Option<At<Port>>,
    pub cidrs: Vec<IpNet>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Enforce,
    /// Let through and mark, up to this moment (exclusive); enforce from then on.
    Report { until: Timestamp },
}

/// A policy in force, or about to be.
#[derive(Debug)]
pub struct Policy {
    generation: Generation,
    parts: Parts,
    index: Index,
    /// Places in `parts.workloads`.
    by_name: HashMap<Arc<str>, usize, RandomState>,
    /// Every moment at which time alone changes an answer, ascending.
    changes: Vec<Timestamp>,
    /// Whether any rule says `report: true`.
    has_report_rules: bool,
}

impl Policy {
    pub fn new(parts: Parts, generation: Generation) -> Self {
        let report_ends = match parts.mode {
            Mode::Enforce => None,
            Mode::Report { until } => Some(until),
        };
        let mut changes: Vec<_> = parts
            .rules
            .iter()
            .filter_map(|rule| rule.until)
            .chain(report_ends)
            .collect();
        changes.sort_unstable();
        changes.dedup();
        let by_name = parts
            .workloads
            .iter()
            .enumerate()
            .map(|(place, workload)| (workload.name.clone(), place));
        Self {
            generation,
            index: Index::new(&parts.rules),
            by_name: by_name.collect(),
            changes,
            has_report_rules: parts.rules.iter().any(|rule| rule.report),
            parts,
        }
    }

    pub fn generation(&self) -> Generation {
        self.generation
    }

    pub fn mode(&self) -> Mode {
        self.parts.mode
    }

    /// Whether report mode lets things through at `now`.
    pub fn reports(&self, now: Timestamp) -> bool {
        match self.parts.mode {
            Mode::Enforce => false,
            Mode::Report { until } => now < until,
        }
    }

    /// All rules, in the order of [`RuleId`].
    pub fn rules(&self) -> &[Rule] {
        &self.parts.rules
    }

    /// The rule of an id that a decision of this generation carries.
    pub fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.parts.rules.get(id.0 as usize)
    }

    /// What records and answers say of a rule: its name, and where it was written.
    pub fn rule_label(&self, id: RuleId) -> Option<(&Arc<str>, &Position)> {
        self.rule(id).map(|rule| (&rule.name, &rule.at))
    }

    pub fn workloads(&self) -> &[Workload] {
        &self.parts.workloads
    }

    pub fn workload(&self, name: &str) -> Option<&Workload> {
        self.parts.workloads.get(*self.by_name.get(name)?)
    }

    /// Of the contents of the files, at most 48 bits.
    pub fn fingerprint(&self) -> u64 {
        self.parts.fingerprint
    }

    /// What presets would open for this cluster, so that a denial can say who needs the host.
    pub fn needs(&self) -> &Needs {
        &self.parts.needs
    }

    pub fn files(&self) -> &[Arc<str>] {
        &self.parts.files
    }

    /// The cluster's own networks and its API server's addresses.
    pub fn closed(&self) -> &[IpNet] {
        &self.parts.closed
    }

    pub fn api_server(&self) -> Option<&HostName> {
        self.parts.api_server.as_ref()
    }

    /// The one workload that names this source in records and metrics: the one whose port it came through, else the
    /// one with the longest prefix around its address.
    pub fn workload_of<'a>(&'a self, source: &'a Source) -> Option<&'a Arc<str>> {
        if source.workload.is_some() {
            return source.workload.as_ref();
        }
        let mut named = None;
        for workload in &self.parts.workloads {
            let prefix = workload.longest_prefix_around(source.address);
            if prefix > named.map(|(prefix, _)| prefix) {
                named = prefix.map(|prefix| (prefix, &workload.name));
            }
        }
        named.map(|(_, name)| name)
    }

    /// Whether a source belongs to a workload: the one whose port it came through and no other, else every one whose
    /// ranges hold its address.
    pub fn belongs_to(&self, source: &Source, workload: &str) -> bool {
        match &source.workload {
            Some(own) => &**own == workload,
            None => self
                .workload(workload)
                .is_some_and(|workload| workload.longest_prefix_around(source.address).is_some()),
        }
    }

    /// The first moment after `now` at which time alone changes an answer (an `until`, the end of report mode).
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let passed = self.changes.partition_point(|change| *change <= now);
        self.changes.get(passed).copied()
    }

    /// The same with one rule more, the last.
    pub(super) fn with_last(&self, rule: Rule) -> Self {
        let parts = Parts {
            rules: self.parts.rules.iter().cloned().chain([rule]).collect(),
            workloads: self.parts.workloads.clone(),
            mode: self.parts.mode,
            closed: self.parts.closed.clone(),
            api_server: self.parts.api_server.clone(),
            ..Parts::default()
        };
        Self::new(parts, self.generation)
    }

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    pub(super) fn has_report_rules(&self) -> bool {
        self.has_report_rules
    }
}

impl Workload {
    fn longest_prefix_around(&self, address: IpAddr) -> Option<u8> {
        let around = self.cidrs.iter().filter(|cidr| cidr.contains(&address));
        around.map(IpNet::prefix_len).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture::{allow, deny, load, source};

    #[test]
    fn the_longest_prefix_names_a_source() {
        let policy = load(
            "workloads:
  a: {namespace: a, pods: {app: a}, port: 3201}
  nodes: {cidrs: [10.224.0.0/16, \"2001:db8::/32\"]}
  pool: {cidrs: [10.224.8.0/24, 10.3.0.0/16]}
allow: []
",
        );
        for (from, name) in [
            ("10.224.1.1", Some("nodes")),
            ("10.224.8.1", Some("pool")),
            ("::ffff:10.224.8.1", Some("pool")),
            ("10.3.0.1", Some("pool")),
            ("2001:db8::1", Some("nodes")),
            ("10.9.9.9", None),
            ("a@10.224.8.1", Some("a")),
            ("gone@10.224.8.1", Some("gone")),
        ] {
            let source = source(from);
            assert_eq!(policy.workload_of(&source).map(|name| &**name), name, "{from}");
        }
        let belongs = |from: &str, name: &str| policy.belongs_to(&source(from), name);
        assert!(belongs("10.224.8.1", "nodes") && belongs("10.224.8.1", "pool"));
        assert!(belongs("a@10.224.8.1", "a") && !belongs("a@10.224.8.1", "pool"));
        assert!(!belongs("10.9.9.9", "a") && !belongs("10.224.8.1", "gone"));
    }

    #[test]
    fn time_changes_answers_where_a_rule_or_report_mode_ends() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let ending = |rule: Rule, second| Rule {
            until: Some(at(second)),
            ..rule
        };
        let rules = vec![
            ending(allow(&["a.test"]), 30),
            ending(deny(&["b.test"]), 10),
            ending(allow(&["c.test"]), 30),
            allow(&["d.test"]),
        ];
        let mode = Mode::Report { until: at(20) };
        let policy = Policy::new(
            Parts {
                rules,
                mode,
                ..Parts::default()
            },
            Generation(1),
        );
        let changes = [0, 9, 10, 19, 20, 29, 30, 99].map(|now| policy.next_change(at(now)));
        let expected = [Some(10), Some(10), Some(20), Some(20), Some(30), Some(30), None, None];
        assert_eq!(changes, expected.map(|second| second.map(at)));
        assert!(policy.reports(at(19)) && !policy.reports(at(20)));
    }
}
