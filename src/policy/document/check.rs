//! What only all files together can get wrong: names of workloads, ports, networks, modes.
//! Must not know the clock; what is past is a warning of the lints.
//! Called by the document when its files are read.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;

use super::{Caller, Document, Identity, Mode, Tester, Workload, address, rule};
use crate::policy::problem::{At, Place, Problems};
use crate::policy::rule::Peer;
use crate::policy::yaml::typed;

/// Notes everything that does not fit together.
pub(super) fn check(document: &Document, problems: &mut Problems<'_>) {
    let mut names = Names {
        workloads: document
            .workloads
            .iter()
            .map(|workload| (&*workload.value.name, &workload.value))
            .collect(),
        noted: HashSet::new(),
    };
    for scope in &document.scopes {
        names.known(&scope.value, scope.at, problems);
    }
    let allow = document.allow.iter().map(|rule| &rule.value.from);
    let deny = document.deny.iter().map(|rule| &rule.value.from);
    for from in allow.chain(deny) {
        for (peer, at) in rule::sources(from.as_deref()) {
            if let Peer::Workload(name) = peer {
                names.recognisable(name, at, problems);
            }
        }
    }
    for expectation in &document.expect {
        for tester in expectation.value.from.as_deref().unwrap_or_default() {
            if let Tester::Workload(name) = &tester.value {
                names.known(name, tester.at, problems);
            }
        }
    }
    for workload in &document.workloads {
        check_workload(&workload.value, &mut names, problems);
    }
    check_ports(document, problems);
    check_networks(document, problems);
    check_mode(document, problems);
}

struct Names<'d> {
    workloads: HashMap<&'d str, &'d Workload>,
    /// A `scope` puts one place into many rules; one problem is enough.
    noted: HashSet<Place>,
}

impl<'d> Names<'d> {
    fn known(&mut self, name: &str, at: Place, problems: &mut Problems<'_>) -> Option<&'d Workload> {
        if let Some(workload) = self.workloads.get(name) {
            return Some(workload);
        }
        // In a file that could not be read to its end the workload may well be there.
        if !problems.is_cut_short() && self.noted.insert(at) {
            let names: Vec<_> = self.workloads.keys().copied().collect();
            let help = match typed::nearest(name, &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add it to `workloads`: `{name}: {{namespace: NAMESPACE, pods: {{app: {name}}}}}`"),
            };
            problems.error(at, format!("there is no workload `{name}`")).help(help);
        }
        None
    }

    fn recognisable(&mut self, name: &str, at: Place, problems: &mut Problems<'_>) {
        let Some(workload) = self.known(name, at, problems) else {
            return;
        };
        if !workload.is_recognisable() && self.noted.insert(at) {
            problems
                .error(at, format!("the proxy has no way to recognise the workload `{name}`"))
                .help("give it a `port` of its own, or the `cidrs` that it comes from");
        }
    }
}

fn check_workload(workload: &Workload, names: &mut Names<'_>, problems: &mut Problems<'_>) {
    for name in &workload.calls {
        names.known(&name.value, name.at, problems);
    }
    for caller in &workload.called_by {
        if let Caller::Workload(name) = &caller.value {
            names.known(name, caller.at, problems);
        }
    }
    if workload.identity.value == Identity::Workload && !workload.is_recognisable() {
        problems
            .error(
                workload.identity.at,
                format!("the proxy has no way to recognise the workload `{}`", workload.name),
            )
            .label("this opens `aks/workload-identity` for it")
            .help("give it a `port` of its own, or the `cidrs` that it comes from");
    }
}

fn check_ports(document: &Document, problems: &mut Problems<'_>) {
    let mut owners = HashMap::new();
    for workload in &document.workloads {
        let Some(port) = workload.value.port else { continue };
        if let Some(owner) = owners.insert(port.value, &workload.value.name) {
            problems
                .error(port.at, format!("the port {} is already that of `{owner}`", port.value))
                .help("each workload needs a port of its own: coming in there is its identity");
        }
    }
}

fn check_networks(document: &Document, problems: &mut Problems<'_>) {
    let Some(cluster) = &document.cluster else { return };
    let pods = &cluster.value.networks.pods;
    let nodes = document.workload("nodes").map(|nodes| &nodes.value.cidrs);
    for node in cluster.value.networks.nodes.iter().chain(nodes.into_iter().flatten()) {
        if let Some(shared) = overlapping(node.value, pods) {
            problems
                .error(
                    node.at,
                    format!("`{}` overlaps `{}`, a network of pods", node.value, shared.value),
                )
                .help("what nodes may do would be open to pods: write the ranges in which only nodes are");
        }
    }
}

fn overlapping(network: IpNet, others: &[At<IpNet>]) -> Option<&At<IpNet>> {
    others.iter().find(|other| address::overlap(network, other.value))
}

fn check_mode(document: &Document, problems: &mut Problems<'_>) {
    let reporting = document.mode.as_ref().filter(|mode| mode.value == Mode::Report);
    match (reporting, &document.report_until) {
        // What is missing here may stand where nobody could read.
        _ if problems.is_cut_short() => {}
        (Some(mode), None) => {
            problems
                .error(mode.at, "`mode: report` needs an end")
                .help("add `report_until: YYYY-MM-DD`, the last day on which nothing is refused");
        }
        // Not an error: who turns reporting off in a hurry must not be refused for a line that is left.
        (None, Some(until)) => {
            problems
                .warning(until.at, "`report_until` means nothing without `mode: report`")
                .help("remove it");
        }
        _ => {}
    }
}
