//! Lints of sources: who may more than was probably meant, and who is named for nothing.
//! Must not judge destinations.
//! Called by the lints.

use std::collections::HashSet;

use ipnet::IpNet;

use super::{Noted, Rules, accepts};
use crate::policy::document::{Accept, Caller, Document, Identity, Opens, Tester, Workload, address};
use crate::policy::presets::fqdn_tag;
use crate::policy::problem::At;
use crate::policy::problem::lint::Lint;
use crate::policy::rule::Peer;

/// Notes sources of allow rules, and workloads.
pub(super) fn check(document: &Document, rules: &Rules<'_>, noted: &mut Noted<'_, '_>) {
    check_presets(document, rules, noted);
    for (_, rule) in &rules.allow {
        for peer in rule.value.from.as_deref().unwrap_or_default() {
            check_everyone(peer, accepts(rule.value.notes.as_deref()), noted);
        }
    }
    check_unused(document, rules, noted);
}

/// Presets of the node kind open what nodes need; a pod that may reach all of it may reach the API server.
fn check_presets(document: &Document, rules: &Rules<'_>, noted: &mut Noted<'_, '_>) {
    for (_, rule) in &rules.allow {
        let (name, presets) = match &rule.value.opens {
            Opens::Preset(name) => (name, vec![&*name.value]),
            Opens::Tags(tags) => {
                let Some(first) = tags.first() else { continue };
                let known = tags.iter().filter_map(|tag| fqdn_tag(&tag.value).ok());
                (first, known.flatten().copied().collect())
            }
            Opens::To(_) => continue,
        };
        let for_nodes = |name: &str| document.presets.preset(name).is_some_and(|preset| preset.for_nodes);
        if !presets.into_iter().any(for_nodes) {
            continue;
        }
        let accept = accepts(rule.value.notes.as_deref());
        let message = format!("`{}` is meant for nodes", name.value);
        let Some(from) = &rule.value.from else {
            noted
                .note(
                    Lint::NodePreset,
                    accept,
                    name.at,
                    format!("{message}, and is open to every source"),
                )
                .help("add `from: [nodes]`, with `nodes: {cidrs: [...]}` in `workloads`");
            continue;
        };
        let is_addon = |peer: &Peer| &*name.value != CORE && is_addon(peer, document);
        for peer in from
            .iter()
            .filter(|peer| is_pods(&peer.value, document) && !is_addon(&peer.value))
        {
            noted
                .note(
                    Lint::NodePreset,
                    accept,
                    peer.at,
                    format!("{message}, and is open to pods"),
                )
                .help(if &*name.value == CORE {
                    "the API server is in it; write the names that these pods need"
                } else {
                    "it is for nodes, and for add-ons in system namespaces; write the names that these pods need"
                });
        }
    }
}

fn is_pods(peer: &Peer, document: &Document) -> bool {
    let overlaps = |network: IpNet| {
        let pods = document.cluster.as_ref().map(|cluster| &cluster.value.networks.pods);
        pods.is_some_and(|pods| pods.iter().any(|pods| address::overlap(pods.value, network)))
    };
    match peer {
        Peer::Cidr(network) => overlaps(*network),
        Peer::Workload(name) => document.workload(name).is_some_and(|workload| {
            let mut cidrs = workload.value.cidrs.iter();
            workload.value.namespace.is_some() || cidrs.any(|cidr| overlaps(cidr.value))
        }),
    }
}

/// Pods of the cluster itself, for which the presets beside the core are made as well.
fn is_addon(peer: &Peer, document: &Document) -> bool {
    let Peer::Workload(name) = peer else { return false };
    let namespace = document
        .workload(name)
        .and_then(|workload| workload.value.namespace.as_ref());
    let lock = document.lock.as_ref().map(|lock| &lock.value.system_namespaces);
    namespace.is_some_and(|namespace| {
        *namespace.value == *SYSTEM
            || lock.is_some_and(|system| system.iter().any(|system| system.value == namespace.value))
    })
}

fn check_everyone(peer: &At<Peer>, accept: &[At<Accept>], noted: &mut Noted<'_, '_>) {
    if let Peer::Cidr(network) = peer.value
        && network.prefix_len() == 0
    {
        noted
            .note(Lint::Everyone, accept, peer.at, format!("`{network}` is every source"))
            .help("leave `from` out if that is meant");
    }
}

fn check_unused(document: &Document, rules: &Rules<'_>, noted: &mut Noted<'_, '_>) {
    let mut used: HashSet<&str> = HashSet::new();
    let allow = rules.allow.iter().map(|(_, rule)| &rule.value.from);
    let deny = rules.deny.iter().map(|(_, rule)| &rule.value.from);
    for peer in allow.chain(deny).flatten().flatten() {
        if let Peer::Workload(name) = &peer.value {
            used.insert(name);
        }
    }
    for tester in document.expect.iter().flat_map(|test| &test.value.from).flatten() {
        if let Tester::Workload(name) = &tester.value {
            used.insert(name);
        }
    }
    for workload in &document.workloads {
        used.extend(workload.value.calls.iter().map(|name| &*name.value));
        let callers = workload.value.called_by.iter();
        used.extend(callers.filter_map(|caller| match &caller.value {
            Caller::Workload(name) => Some(&**name),
            Caller::Cidr(_) | Caller::Konnectivity => None,
        }));
    }
    used.extend(document.scopes.iter().map(|scope| &*scope.value));
    for workload in &document.workloads {
        let name = &workload.value.name;
        if !used.contains(&**name) && !says_something(&workload.value) {
            noted
                .note(
                    Lint::UnusedWorkload,
                    &workload.value.accept,
                    workload.at,
                    format!("nothing refers to the workload `{name}`"),
                )
                .help(format!("name it in a rule, `from: [{name}]`, or remove it"));
        }
    }
}

/// Whether a workload changes what is generated or open all by itself. Pods do: their namespace is locked.
fn says_something(workload: &Workload) -> bool {
    workload.namespace.is_some()
        || !workload.calls.is_empty()
        || !workload.called_by.is_empty()
        || !workload.direct.is_empty()
        || workload.identity.value != Identity::None
        || workload.api_server
        || !workload.locked
}

const CORE: &str = "aks/core";
const SYSTEM: &str = "kube-system";
