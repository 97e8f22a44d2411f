//! The policy as it runs: rules, their index, workloads, closed networks; immutable after it is made.
//! Must not know how it was written. Made by the compiler from [`Parts`], held by the state, read by the gate.
//! Called by every decision.

use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;

use super::ask::Source;
use super::rule::{Generation, Rule, RuleId};
use crate::name::Port;

/// What the compiler hands over.
#[derive(Debug, Default)]
pub struct Parts {
    pub rules: Vec<Rule>,
    pub workloads: Vec<Workload>,
    pub mode: Mode,
    /// The cluster's own networks and its API server's addresses: never dialled unless a rule's `addresses` names them.
    pub closed: Vec<IpNet>,
    /// Names of the files, in order.
    pub files: Vec<Arc<str>>,
}

/// A workload as far as the gate can recognise it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    pub name: Arc<str>,
    /// Its own explicit listener.
    pub port: Option<Port>,
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
}

impl Policy {
    pub fn new(parts: Parts, generation: Generation) -> Self {
        Self { generation, parts }
    }

    pub fn generation(&self) -> Generation {
        self.generation
    }

    pub fn mode(&self) -> Mode {
        self.parts.mode
    }

    /// All rules, in the order of [`RuleId`].
    pub fn rules(&self) -> &[Rule] {
        &self.parts.rules
    }

    /// The rule of an id that a decision of this generation carries.
    pub fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.parts.rules.get(id.0 as usize)
    }

    pub fn workloads(&self) -> &[Workload] {
        &self.parts.workloads
    }

    pub fn files(&self) -> &[Arc<str>] {
        &self.parts.files
    }

    /// The one workload that names this source in records and metrics: the one whose port it came through, else the
    /// one with the longest prefix around its address.
    pub fn workload_of(&self, source: &Source) -> Option<&Arc<str>> {
        let _ = source;
        todo!()
    }

    /// The first moment after `now` at which time alone changes an answer (an `until`, the end of report mode).
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let _ = now;
        todo!()
    }
}
