//! From the document to the parts that run: rules with their places and moments, workloads, closed networks.
//! Must not judge; it notes what cannot be compiled, such as a preset that lacks a fact.
//! Called by `load`, also with a document that has errors, so that those of presets come out with the others.

mod preset;

use std::collections::HashSet;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::compiled::{Mode, Parts, Workload};
use super::document::{
    self, AllowRule, Checks, Cluster, Collection, CollectionRules, DenyRule, Document, Identity, Notes, Opens, Text,
};
use super::fingerprint::fingerprint;
use super::presets::{Library, Needs};
use super::problem::{At, Place, Problems};
use super::rule::{CollectionRef, Destination, Effect, Few, From, Hits, HostMatch, Peer, Peers, Position, Rule};
use crate::name::HostPattern;

/// What a document comes to.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) parts: Parts,
    /// Rows of presets that no proxy can carry: the network around the cluster must let them pass.
    pub(super) not_carried: Vec<String>,
    /// What FQDN tags stand for, a line for each.
    pub(super) tags: Vec<String>,
}

/// Makes the parts of a policy.
pub(super) fn compile(mut document: Document, problems: &mut Problems<'_>) -> Compiled {
    let mut compiler = Compiler {
        cluster: document.cluster(),
        facts_in_doubt: document.doubts.facts || problems.is_cut_short(),
        cluster_at: document.cluster.as_ref().map(|cluster| cluster.at),
        missing: HashSet::new(),
        rules: Vec::with_capacity(document.all_allow().count() + document.all_deny().count()),
        sources: HashSet::new(),
        collection: None,
        not_carried: Vec::new(),
        tags: Vec::new(),
        presets: std::mem::take(&mut document.presets),
        problems,
    };
    let mode = mode(&document);
    let closed = closed(&compiler.cluster);
    // The first ones, so that their ids ascend in the order of evaluation.
    document.sort_collections();
    for collection in std::mem::take(&mut document.collections) {
        compiler.collection(collection.value);
    }
    for workload in &document.workloads {
        compiler.identity(&workload.value);
    }
    for entry in document.allow {
        compiler.allow(entry);
    }
    for entry in document.deny {
        compiler.deny(entry);
    }
    compiler.api_server(&document.workloads);
    let policies = compiler.problems.policies();
    let parts = Parts {
        workloads: document
            .workloads
            .iter()
            .map(|workload| known(&workload.value))
            .collect(),
        mode,
        closed,
        api_server: compiler.cluster.api_server.as_ref().map(|server| server.value.clone()),
        files: policies.iter().map(|text| Arc::clone(&text.name)).collect(),
        fingerprint: fingerprint(policies, compiler.problems.presets()),
        needs: Needs::new(compiler.presets, compiler.cluster),
        rules: compiler.rules,
    };
    Compiled {
        parts,
        not_carried: compiler.not_carried,
        tags: compiler.tags,
    }
}

/// The first moment after a day, UTC.
pub(crate) fn end_of(day: Date) -> Timestamp {
    let next = day.checked_add(1.day()).unwrap_or(day);
    next.to_zoned(TimeZone::UTC)
        .map_or(Timestamp::MAX, |midnight| midnight.timestamp())
}

struct Compiler<'p, 't> {
    cluster: Cluster,
    /// Where `cluster` stands.
    cluster_at: Option<Place>,
    facts_in_doubt: bool,
    /// Facts of the cluster that were asked for already; all presets need the same ones.
    missing: HashSet<String>,
    rules: Vec<Rule>,
    /// What rules have in `from`, each list once.
    sources: HashSet<Peers>,
    /// The one that rules stand in now.
    collection: Option<Arc<CollectionRef>>,
    not_carried: Vec<String>,
    tags: Vec<String>,
    presets: Library,
    problems: &'p mut Problems<'t>,
}

impl Compiler<'_, '_> {
    fn collection(&mut self, collection: Collection) {
        self.collection = Some(Arc::new(CollectionRef {
            name: collection.name.value,
            group: collection.group.map(|group| group.value),
            kind: collection.kind,
            priority: collection.priority.value,
        }));
        match collection.rules {
            CollectionRules::Allow(rules) => rules.into_iter().for_each(|entry| self.allow(entry)),
            CollectionRules::Deny(rules) => rules.into_iter().for_each(|entry| self.deny(entry)),
        }
        self.collection = None;
    }

    fn add(&mut self, rule: Rule) {
        let collection = self.collection.clone();
        self.rules.push(Rule { collection, ..rule });
    }

    fn allow(&mut self, entry: At<AllowRule>) {
        let from = self.written_from(entry.value.from);
        let notes = entry.value.notes.map(|notes| *notes).unwrap_or_default();
        let checks = entry.value.checks.map(|checks| *checks).unwrap_or_default();
        match entry.value.opens {
            Opens::To(to) => {
                let name = self.name(notes.name.as_ref(), &to);
                let at = self.problems.position(entry.at);
                let to = to.map(|to| to.value);
                self.add(rule(Effect::Allow, name, at, from, to, notes, checks));
            }
            Opens::Preset(preset) => {
                let label = Arc::clone(&preset.value);
                self.preset(&label, &preset, entry.at, &from, &notes, &checks);
            }
            Opens::Tags(tags) => {
                for tag in tags {
                    self.tag(&tag, entry.at, &from, &notes, &checks);
                }
            }
        }
    }

    fn deny(&mut self, entry: At<DenyRule>) {
        let from = self.written_from(entry.value.from);
        let notes = entry.value.notes.map(|notes| *notes).unwrap_or_default();
        let name = self.name(notes.name.as_ref(), &entry.value.to);
        let at = self.problems.position(entry.at);
        let to = entry.value.to.map(|to| to.value);
        let checks = Checks::default();
        self.add(rule(Effect::Deny, name, at, from, to, notes, checks));
    }

    /// `identity: workload` needs the token exchange, and whoever writes it should not have to know that.
    fn identity(&mut self, workload: &document::Workload) {
        if workload.identity.value != Identity::Workload {
            return;
        }
        let preset = At {
            value: Text::from(WORKLOAD_IDENTITY),
            at: workload.identity.at,
        };
        let from = self.from(vec![Peer::Workload(Arc::clone(&workload.name))]);
        let (notes, checks) = (Notes::default(), Checks::default());
        self.preset(&preset.value, &preset, preset.at, &from, &notes, &checks);
    }

    /// Pods never reach the API server through the proxy, whatever a wildcard says: those with `api_server: allow` have
    /// a way past it.
    fn api_server(&mut self, workloads: &[At<document::Workload>]) {
        let Some(server) = &self.cluster.api_server else { return };
        let pods = workloads.iter().filter(|workload| workload.value.namespace.is_some());
        let pods = pods.map(|workload| Peer::Workload(Arc::clone(&workload.value.name)));
        let addresses = self
            .cluster
            .networks
            .pods
            .iter()
            .map(|network| Peer::Cidr(network.value));
        let from: Vec<_> = pods.chain(addresses).collect();
        if from.is_empty() {
            return;
        }
        let notes = Notes {
            reason: Some(
                "pods have no business with the API server, or say `api_server: allow` and go past the proxy".into(),
            ),
            ..Notes::default()
        };
        let to = Destination {
            scheme: None,
            host: HostMatch::Name(HostPattern::Exact(server.value.clone())),
            ports: 1..=u16::MAX,
        };
        let at = self.problems.position(server.at);
        let from = self.from(from);
        self.add(rule(
            Effect::Deny,
            API_SERVER.into(),
            at,
            from,
            to.into(),
            notes,
            Checks::default(),
        ));
    }

    fn written_from(&mut self, from: Option<Vec<At<Peer>>>) -> From {
        match from {
            None => From::Everyone,
            Some(peers) => self.from(peers.into_iter().map(|peer| peer.value).collect()),
        }
    }

    /// Rules that name the same sources share them.
    fn from(&mut self, peers: Vec<Peer>) -> From {
        if let Some(shared) = self.sources.get(&*peers) {
            return From::Any(shared.clone());
        }
        let new: Peers = peers.into_iter().collect();
        self.sources.insert(new.clone());
        From::Any(new)
    }

    /// What a rule is called: by its author, or as its destination is written.
    fn name(&self, given: Option<&At<Text>>, to: &[At<Destination>]) -> Text {
        if let Some(given) = given {
            return Arc::clone(&given.value);
        }
        let Some((first, rest)) = to.split_first() else {
            return Arc::from("");
        };
        let written = self.problems.quote(first.at).trim_matches(['"', '\'']);
        match rest.len() {
            // Most rules are one plain name, whose text need not be held twice.
            0 => match &first.value.host {
                HostMatch::Name(HostPattern::Exact(name)) if name.as_str() == written => name.text(),
                HostMatch::Name(_) | HostMatch::Cidr(_) => Arc::from(written),
            },
            more => Arc::from(format!("{written} and {more} more")),
        }
    }
}

fn rule(
    effect: Effect,
    name: Text,
    at: Position,
    from: From,
    to: Few<Destination>,
    notes: Notes,
    checks: Checks,
) -> Rule {
    Rule {
        name,
        effect,
        collection: None,
        at,
        from,
        to,
        until: notes.until.map(|until| end_of(until.value)),
        owner: notes.owner,
        why: notes.reason,
        addresses: checks.addresses.into_iter().map(|range| range.value).collect(),
        sni: checks.sni,
        no_sni: checks.no_sni,
        ech_outer: checks.ech_outer,
        report: checks.report,
        hits: Hits::default(),
    }
}

fn mode(document: &Document) -> Mode {
    let mode = document.mode.as_ref().map(|mode| mode.value);
    match &document.report_until {
        Some(until) if mode == Some(document::Mode::Report) => Mode::Report {
            until: end_of(until.value),
        },
        _ => Mode::Enforce,
    }
}

fn closed(cluster: &Cluster) -> Vec<IpNet> {
    let networks = cluster.networks.iter().chain(&cluster.api_server_addresses);
    let mut closed: Vec<_> = networks.map(|network| network.value).collect();
    closed.sort_unstable();
    closed.dedup();
    closed
}

fn known(workload: &document::Workload) -> Workload {
    Workload {
        name: Arc::clone(&workload.name),
        port: workload.port,
        cidrs: workload.cidrs.iter().map(|network| network.value).collect(),
    }
}

/// What the rule is called that nobody writes, and nobody can remove.
pub(crate) const API_SERVER: &str = "cluster.api_server";
const WORKLOAD_IDENTITY: &str = "aks/workload-identity";
