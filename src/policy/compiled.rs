//! The policy as it runs: rules, their index, workloads, closed networks; immutable after it is made.
//! Must not know how it was written. Made by the compiler from [`Parts`], held by the state, read by the gate.
//! Called by every decision.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use ipnet::IpNet;
use jiff::Timestamp;

use super::ask::Source;
use super::index::Index;
use super::nets::Nets;
use super::presets::Needs;
use super::problem::At;
use super::rule::{Generation, Position, Rule, RuleId, hits};
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
    /// The same for each range that workloads have, ascending.
    around: Nets<Vec<usize>>,
    /// Every moment at which time alone changes an answer, ascending.
    changes: Vec<Timestamp>,
    /// Whether any rule says `report: true`.
    has_report_rules: bool,
}

impl Policy {
    pub fn new(mut parts: Parts, generation: Generation) -> Self {
        hits::begin(&mut parts.rules);
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
        let mut around: Nets<Vec<usize>> = Nets::default();
        for (place, workload) in parts.workloads.iter().enumerate() {
            for range in &workload.cidrs {
                around.entry(*range).push(place);
            }
        }
        Self {
            generation,
            index: Index::new(&parts.rules),
            by_name: by_name.collect(),
            around,
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
        let (_, narrowest) = self.around.around(source.address).next()?;
        self.workload_at(*narrowest.first()?)
    }

    /// Every workload that a source belongs to, by name; some of them more than once.
    pub(super) fn workloads_with<'a>(&'a self, source: &'a Source) -> impl Iterator<Item = &'a Arc<str>> {
        let around = source.workload.is_none().then(|| self.around.around(source.address));
        let around = around.into_iter().flatten().flat_map(|(_, places)| places);
        let around = around.filter_map(|place| self.workload_at(*place));
        source.workload.iter().chain(around)
    }

    /// Whether a source belongs to a workload: the one whose port it came through and no other, else every one whose
    /// ranges hold its address.
    pub fn belongs_to(&self, source: &Source, workload: &str) -> bool {
        match &source.workload {
            Some(own) => &**own == workload,
            None => self.by_name.get(workload).is_some_and(|place| {
                let mut around = self.around.around(source.address);
                around.any(|(_, places)| places.binary_search(place).is_ok())
            }),
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

    fn workload_at(&self, place: usize) -> Option<&Arc<str>> {
        self.parts.workloads.get(place).map(|workload| &workload.name)
    }

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    pub(super) fn has_report_rules(&self) -> bool {
        self.has_report_rules
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// The definition: a look at each range of each workload; the longest prefix names, of two equal ones the first.
        #[test]
        fn workloads_are_found_as_if_each_were_looked_at(
            workloads in vec(vec((0_u8..4, 0_u8..4, 8_u8..=32), 0..4), 0..30),
            addresses in vec((0_u8..4, 0_u8..4), 1..10),
        ) {
            let workload = |(number, ranges): (usize, &Vec<(u8, u8, u8)>)| Workload {
                name: format!("w{number}").into(),
                port: None,
                cidrs: ranges
                    .iter()
                    .map(|(b, c, length)| IpNet::new([10, *b, *c, 0].into(), *length).unwrap())
                    .collect(),
            };
            let parts = Parts {
                workloads: workloads.iter().enumerate().map(workload).collect(),
                ..Parts::default()
            };
            let policy = Policy::new(parts, Generation(1));
            for (b, c) in addresses {
                let source = Source::at([10, b, c, 0].into());
                let longest = |workload: &Workload| {
                    let around = workload.cidrs.iter().filter(|range| range.contains(&source.address));
                    around.map(IpNet::prefix_len).max()
                };
                let mut named = None;
                for workload in policy.workloads() {
                    let prefix = longest(workload);
                    prop_assert_eq!(policy.belongs_to(&source, &workload.name), prefix.is_some());
                    let with = policy.workloads_with(&source).any(|name| *name == workload.name);
                    prop_assert_eq!(with, prefix.is_some());
                    if prefix > named.map(|(prefix, _)| prefix) {
                        named = prefix.map(|prefix| (prefix, &workload.name));
                    }
                }
                prop_assert_eq!(policy.workload_of(&source), named.map(|(_, name)| name));
            }
        }
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
