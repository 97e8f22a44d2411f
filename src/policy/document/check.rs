//! What only all files together can get wrong: names of workloads, ports, networks, modes.
//! Must not know the clock; what is past is a warning of the lints.
//! Called by the document when its files are read.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;

use super::{Caller, Document, Doubts, Identity, Mode, Opens, Tester, Text, Workload, address, collection, rule};
use crate::policy::problem::{At, Place, Problems};
use crate::policy::rule::{HostMatch, Peer};
use crate::policy::yaml::typed;

/// Notes everything that does not fit together.
pub(super) fn check(document: &Document, problems: &mut Problems<'_>) {
    check_names(document, problems);
    check_ports(document, problems);
    check_networks(document, problems);
    check_closed(document, problems);
    check_mode(document, problems);
    collection::check(document, problems);
}

/// Every name of a workload that something refers to.
fn check_names(document: &Document, problems: &mut Problems<'_>) {
    let mut names = Names {
        workloads: document
            .workloads
            .iter()
            .map(|workload| (&*workload.value.name, &workload.value))
            .collect(),
        lacking: Vec::new(),
        by_name: HashMap::new(),
    };
    for scope in &document.scopes {
        names.known(&scope.value, scope.at, Use::Rule);
    }
    let allow = document.all_allow().map(|rule| &rule.value.from);
    let deny = document.all_deny().map(|rule| &rule.value.from);
    for from in allow.chain(deny) {
        for (peer, at) in rule::sources(from.as_deref()) {
            if let Peer::Workload(name) = peer {
                names.known(name, at, Use::Rule);
            }
        }
    }
    for expectation in &document.expect {
        for tester in expectation.value.from.as_deref().unwrap_or_default() {
            if let Tester::Workload(name) = &tester.value {
                names.known(name, tester.at, Use::Name);
            }
        }
    }
    for workload in &document.workloads {
        let workload = &workload.value;
        for name in &workload.calls {
            names.known(&name.value, name.at, Use::Name);
        }
        for caller in &workload.called_by {
            if let Caller::Workload(name) = &caller.value {
                names.known(name, caller.at, Use::Name);
            }
        }
        if workload.identity.value == Identity::Workload {
            names.known(&workload.name, workload.identity.at, Use::Rule);
        }
    }
    // In a file that could not be read to its end the workload may well be there.
    if !problems.is_cut_short() && !document.doubts.workloads {
        names.note(document, problems);
    }
}

/// What a name is needed for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// The proxy must recognise the workload.
    Rule,
    /// It must only exist.
    Name,
}

struct Names<'d> {
    workloads: HashMap<&'d str, &'d Workload>,
    /// One for each name, whatever number of places it stands in: one mistake is one problem.
    lacking: Vec<Lacking<'d>>,
    by_name: HashMap<&'d str, usize>,
}

/// A name without a workload, or one of a workload that rules cannot speak of.
struct Lacking<'d> {
    name: &'d str,
    places: Vec<Place>,
    seen: HashSet<Place>,
    for_rules: bool,
}

impl<'d> Names<'d> {
    fn known(&mut self, name: &'d Text, at: Place, used: Use) {
        let workload = self.workloads.get(&**name);
        if workload.is_some_and(|workload| used == Use::Name || workload.is_recognisable()) {
            return;
        }
        let index = *self.by_name.entry(name).or_insert_with(|| {
            self.lacking.push(Lacking {
                name,
                places: Vec::new(),
                seen: HashSet::new(),
                for_rules: false,
            });
            self.lacking.len() - 1
        });
        let Some(lacking) = self.lacking.get_mut(index) else {
            return;
        };
        lacking.for_rules |= used == Use::Rule;
        // A `scope` puts one place into many rules.
        if lacking.seen.insert(at) {
            lacking.places.push(at);
        }
    }

    fn note(&self, document: &Document, problems: &mut Problems<'_>) {
        for lacking in &self.lacking {
            if document.doubts.names.contains(lacking.name) {
                continue;
            }
            let Some((first, others)) = lacking.places.split_first() else {
                continue;
            };
            let (message, help) = if self.workloads.contains_key(lacking.name) {
                (
                    format!("the proxy has no way to recognise the workload `{}`", lacking.name),
                    format!(
                        "add `port: {}` to the workload, a port of its own, or `cidrs` with the addresses that it comes from",
                        self.free_port()
                    ),
                )
            } else {
                (
                    format!("there is no workload `{}`", lacking.name),
                    self.meant(lacking, &document.doubts),
                )
            };
            let mut label: Vec<_> = others
                .iter()
                .take(PLACES)
                .map(|at| problems.position(*at).to_string())
                .collect();
            if others.len() > PLACES {
                label.push(format!("{} more", others.len() - PLACES));
            }
            let problem = problems.error(*first, message);
            problem.help(help);
            if !label.is_empty() {
                problem.label(format!("also at {}", label.join(", ")));
            }
        }
    }

    /// The workload that was probably meant, or what would make it one.
    fn meant(&self, lacking: &Lacking<'_>, doubts: &Doubts) -> String {
        let name = lacking.name;
        let names: Vec<_> = self.workloads.keys().copied().collect();
        if let Some(near) = typed::nearest(name, &names) {
            let lacks = self
                .workloads
                .get(near)
                .is_some_and(|workload| !workload.is_recognisable());
            return if lacking.for_rules && lacks && !doubts.names.contains(near) {
                format!("did you mean `{near}`? It needs a `port` of its own then, or `cidrs`")
            } else {
                format!("did you mean `{near}`?")
            };
        }
        if matches!(name, "any" | "all" | "everyone") {
            return "remove the key for every source".to_owned();
        }
        if !super::syntax::is_dns_label(name) {
            return "name a workload: lower-case letters, digits and `-`, as it stands in `workloads`".to_owned();
        }
        let port = if lacking.for_rules {
            format!(", port: {}", self.free_port())
        } else {
            String::new()
        };
        format!("add it to `workloads`: `{name}: {{namespace: NAMESPACE, pods: {{app: {name}}}{port}}}`")
    }

    /// A port that no workload has.
    fn free_port(&self) -> u16 {
        let taken: HashSet<_> = self
            .workloads
            .values()
            .filter_map(|workload| workload.port)
            .map(|port| port.value.number())
            .collect();
        (FIRST_PORT..u16::MAX)
            .find(|port| !taken.contains(port))
            .unwrap_or(FIRST_PORT)
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

/// What lies in the cluster itself stays closed, whatever a rule says that does not open it in so many words.
fn check_closed(document: &Document, problems: &mut Problems<'_>) {
    let Some(cluster) = &document.cluster else { return };
    let closed = || cluster.value.networks.iter().chain(&cluster.value.api_server_addresses);
    for entry in document.all_allow() {
        let Opens::To(to) = &entry.value.opens else { continue };
        let addresses = entry.value.checks.as_ref().map_or(&[][..], |checks| &checks.addresses);
        for to in to {
            let HostMatch::Cidr(network) = to.value.host else {
                continue;
            };
            let opened = overlapping(network, addresses).is_some();
            let Some(around) = closed()
                .find(|closed| closed.value.contains(&network))
                .filter(|_| !opened)
            else {
                continue;
            };
            let (shown, line) = (address::shown(network), problems.position(around.at));
            let address = if shown.contains(':') {
                format!("\"{shown}\"")
            } else {
                shown.clone()
            };
            let help = if entry.at == to.at {
                let written = problems.quote(to.at).trim_matches(['"', '\'']);
                format!("if that is meant, write `{{to: [\"{written}\"], addresses: [{address}]}}`")
            } else {
                format!("if that is meant, add `addresses: [{address}]` to the rule")
            };
            problems
                .error(
                    to.at,
                    format!("`{shown}` lies in the cluster itself, which stays closed"),
                )
                .label(format!("`{}` stands at {line}", address::shown(around.value)))
                .help(help);
        }
    }
}

fn overlapping(network: IpNet, others: &[At<IpNet>]) -> Option<&At<IpNet>> {
    others.iter().find(|other| address::overlap(network, other.value))
}

fn check_mode(document: &Document, problems: &mut Problems<'_>) {
    if document.doubts.mode || problems.is_cut_short() {
        return;
    }
    let reporting = document.mode.as_ref().filter(|mode| mode.value == Mode::Report);
    match (reporting, &document.report_until) {
        // What is missing here may stand where nobody could read.
        _ if problems.is_cut_short() => {}
        (Some(mode), None) => {
            problems
                .error(mode.at, "`mode: report` needs an end")
                .help("add `report_until: YYYY-MM-DD` beside it, the last day on which nothing is refused");
        }
        // Who turns reporting off in a hurry must not be refused for a `report_until` that is left; a lint says it.
        _ => {}
    }
}

/// Of the places where an unknown name stands.
const PLACES: usize = 5;
/// Where the ports of workloads begin in the examples.
const FIRST_PORT: u16 = 3201;
