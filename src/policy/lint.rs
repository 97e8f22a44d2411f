//! Warnings: what is valid and probably not meant. Each says why it matters, none stops anything.
//! Must not repeat what is an error, and must not warn of what a careful author would write: noise hides the rest.
//! Called by `load`, for files that were read without an error.

mod overlap;
mod suffix;

#[allow(unused_imports, reason = "what reads them is being written")]
pub(crate) use suffix::{any_tenant, opened_suffix, shared_suffix};

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use ipnet::IpNet;
use jiff::Timestamp;

use super::compile::end_of;
use super::document::{Caller, Document, Identity, Mode, Opens, Tester, Workload, address};
use super::presets;
use super::problem::{At, Place, Problems};
use super::rule::{Destination, HostMatch, Peer, SniCheck};
use crate::address::{AddressClass, classify_net};
use crate::name::HostPattern;

/// Notes everything worth a look.
pub(super) fn check(document: &Document, now: Timestamp, problems: &mut Problems<'_>) {
    check_past(document, now, problems);
    check_presets(document, problems);
    for entry in &document.allow {
        let rule = &entry.value;
        if let Opens::To(to) = &rule.opens {
            for to in to {
                check_shared(to, problems);
                check_wide_destination(to, problems);
            }
        }
        for peer in rule.from.as_deref().unwrap_or_default() {
            check_everyone(peer, problems);
        }
        if let Some(checks) = &rule.checks {
            for range in &checks.addresses {
                check_wide_addresses(range, problems);
            }
            if checks.sni == SniCheck::Off {
                problems
                    .warning(entry.at, "`sni: off` looks at nothing in the tunnel")
                    .help("any protocol and any other host of that server pass; `sni: listed` still reads the name");
            }
        }
    }
    overlap::check(document, problems);
    check_unused(document, problems);
    check_names(document, problems);
    check_silence(document, problems);
}

fn check_past(document: &Document, now: Timestamp, problems: &mut Problems<'_>) {
    let allow = document.allow.iter().map(|rule| &rule.value.notes);
    let deny = document.deny.iter().map(|rule| &rule.value.notes);
    let notes = allow.chain(deny).flatten();
    for until in notes.filter_map(|notes| notes.until.as_ref()) {
        if end_of(until.value) <= now {
            problems
                .warning(until.at, "this day is past: the rule matches nothing any more")
                .help("remove the rule, or give it a later `until`");
        }
    }
    let reporting = document.mode.as_ref().is_some_and(|mode| mode.value == Mode::Report);
    if let Some(until) = document
        .report_until
        .as_ref()
        .filter(|until| reporting && end_of(until.value) <= now)
    {
        problems
            .warning(
                until.at,
                "this day is past: the policy enforces, though it says `mode: report`",
            )
            .help("remove both keys, or give `report_until` a later day");
    }
}

/// Presets of the node kind open what nodes need; a pod that may reach all of it may reach the API server.
fn check_presets(document: &Document, problems: &mut Problems<'_>) {
    for entry in &document.allow {
        let Opens::Preset(name) = &entry.value.opens else {
            continue;
        };
        if !presets::preset(&name.value).is_some_and(|preset| preset.for_nodes) {
            continue;
        }
        let message = format!("`{}` is meant for nodes", name.value);
        let help = "add `from: [nodes]`, with `nodes: {cidrs: [...]}` in `workloads`";
        let Some(from) = &entry.value.from else {
            let problem = problems.warning(name.at, format!("{message}, and is open to every source"));
            problem.help(help);
            continue;
        };
        for peer in from {
            if is_pods(&peer.value, document) {
                problems
                    .warning(peer.at, format!("{message}, and is open to pods"))
                    .help("the API server is in it; write the names that these pods need");
            }
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

/// A wildcard over names that any customer of a cloud can take lets data out to all of them.
fn check_shared(to: &At<Destination>, problems: &mut Problems<'_>) {
    let HostMatch::Name(pattern) = &to.value.host else {
        return;
    };
    let Some(shared) = opened_suffix(pattern) else { return };
    let suffix = match pattern {
        HostPattern::Exact(suffix) | HostPattern::Below(suffix) => suffix,
        HostPattern::Label(label) => &label.suffix,
    };
    let star = if suffix.as_str() == shared {
        ""
    } else {
        ", which this holds"
    };
    problems
        .warning(to.at, format!("anyone can get a name below `{shared}`{star}"))
        .label("data can leave to any tenant")
        .help(if shared.contains('*') {
            "write your own names, each to its end".to_owned()
        } else {
            format!("write your own names: `NAME.{shared}`")
        });
}

fn check_wide_destination(to: &At<Destination>, problems: &mut Problems<'_>) {
    let HostMatch::Cidr(network) = to.value.host else {
        return;
    };
    let shown = address::shown(network);
    let is_v4 = network.addr().is_ipv4();
    match classify_net(network) {
        AddressClass::Public if network.prefix_len() < if is_v4 { 16 } else { 32 } => {
            problems
                .warning(to.at, format!("`{shown}` is a wide range of addresses"))
                .help("no name is checked behind an address rule; write the addresses that are needed");
        }
        AddressClass::Special(class) if network.prefix_len() < if is_v4 { 24 } else { 64 } => {
            problems
                .warning(to.at, format!("`{shown}` is a wide range of addresses ({class})"))
                .label("naming it opens all of it")
                .help("write the addresses that are needed");
        }
        _ => {}
    }
}

fn check_wide_addresses(range: &At<IpNet>, problems: &mut Problems<'_>) {
    let limit = if range.value.addr().is_ipv4() { 8 } else { 32 };
    if range.value.prefix_len() < limit {
        problems
            .warning(
                range.at,
                format!("`{}` is a wide range of addresses", address::shown(range.value)),
            )
            .help("whoever controls the DNS of the destination chooses any of them; write the subnet that is meant");
    }
}

fn check_everyone(peer: &At<Peer>, problems: &mut Problems<'_>) {
    if let Peer::Cidr(network) = peer.value
        && network.prefix_len() == 0
    {
        problems
            .warning(peer.at, format!("`{network}` is every source"))
            .help("leave `from` out if that is meant");
    }
}

fn check_unused(document: &Document, problems: &mut Problems<'_>) {
    let mut used: HashSet<&str> = HashSet::new();
    let allow = document.allow.iter().map(|rule| &rule.value.from);
    let deny = document.deny.iter().map(|rule| &rule.value.from);
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
        used.extend(
            workload
                .value
                .called_by
                .iter()
                .filter_map(|caller| match &caller.value {
                    Caller::Workload(name) => Some(&**name),
                    Caller::Cidr(_) | Caller::Konnectivity => None,
                }),
        );
    }
    used.extend(document.scopes.iter().map(|scope| &*scope.value));
    for workload in &document.workloads {
        let name = &workload.value.name;
        if !used.contains(&**name) && !says_something(&workload.value) {
            problems
                .warning(workload.at, format!("nothing refers to the workload `{name}`"))
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

fn check_names(document: &Document, problems: &mut Problems<'_>) {
    let mut first: HashMap<&str, Place, RandomState> = HashMap::default();
    let allow = document.allow.iter().map(|rule| &rule.value.notes);
    let deny = document.deny.iter().map(|rule| &rule.value.notes);
    let names = allow.chain(deny).flatten().filter_map(|notes| notes.name.as_ref());
    for name in names {
        if let Some(twin) = first.insert(&name.value, name.at) {
            let line = problems.position(twin);
            problems
                .warning(name.at, format!("another rule is called `{}` too", name.value))
                .help(format!("records name rules; the other one stands at {line}"));
        }
    }
}

/// Nobody asks for a policy that lets nothing through without saying so.
fn check_silence(document: &Document, problems: &mut Problems<'_>) {
    if !document.says_allow {
        problems
            .warning(Place::default(), "no file has `allow`: everything is denied")
            .help("if that is meant, write `allow: []`")
            .span = None;
    }
}
