//! The ways inside the cluster: for each edge one policy on either side, and who may come in from outside.
//! Must not open ranges with nodes in them: every source-NATed connection looks like a node.
//! Called by the lock of a namespace. Policies are judged after Service translation, so ports are the container's.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::NetworkPolicyPort;

use super::engine;
use super::object::Object;
use super::plan::{Edge, Plan, Pods};
use super::selector::{self, Subject, block, tcp, way_in, way_out};
use crate::policy::document::{Caller, Engine, Workload, address};
use crate::policy::problem::{At, Place, Problems};

/// The caller's side of an edge.
pub(super) fn out(edge: &Edge<'_>) -> Object {
    let (from, to) = (&edge.from, &edge.to);
    selector::egress(
        from.namespace,
        format!("sluicegate-{}-to-{}", from.name(), to.name()),
        format!("{} may call {}", from.name(), to.name()),
        Subject::Pods(&from.workload.pods),
        vec![way_out(vec![selector::workload(to)], served(to.workload))],
    )
}

/// The callee's side.
pub(super) fn into(edge: &Edge<'_>) -> Object {
    let (from, to) = (&edge.from, &edge.to);
    selector::ingress(
        to.namespace,
        format!("sluicegate-{}-from-{}", to.name(), from.name()),
        format!("{} may be called by {}", to.name(), from.name()),
        Subject::Pods(&to.workload.pods),
        vec![way_in(vec![selector::workload(from)], served(to.workload))],
    )
}

/// Callers that are no workload: address ranges, and the API server through its tunnel.
pub(super) fn from_outside(
    pods: &Pods<'_>,
    plan: &Plan<'_>,
    engine: Engine,
    problems: &mut Problems<'_>,
) -> Vec<Object> {
    let mut ranges = Vec::new();
    let mut konnectivity = false;
    for caller in &pods.workload.called_by {
        match &caller.value {
            Caller::Workload(_) => continue,
            Caller::Cidr(cidr) => {
                if !engine::is_covered(*cidr, engine) {
                    problems
                        .error(caller.at, format!("`{cidr}` is IPv6, which azure-npm does not filter"))
                        .help("write its IPv4 range");
                } else if is_outside(*cidr, caller, plan, problems) {
                    ranges.push(*cidr);
                }
            }
            Caller::Konnectivity => konnectivity = true,
        }
        if pods.workload.ports.is_empty() {
            note_portless(pods, caller.at, problems);
        }
    }
    ranges.sort_unstable();
    ranges.dedup();
    let mut objects = Vec::new();
    if !ranges.is_empty() {
        let peers = ranges.iter().map(|range| block(*range, &[])).collect();
        objects.push(selector::ingress(
            pods.namespace,
            format!("sluicegate-{}-from-addresses", pods.name()),
            format!("{} may be called from these addresses", pods.name()),
            Subject::Pods(&pods.workload.pods),
            vec![way_in(peers, served(pods.workload))],
        ));
    }
    if konnectivity {
        let agents = [(KONNECTIVITY_LABEL.0.to_owned(), KONNECTIVITY_LABEL.1.to_owned())];
        objects.push(selector::ingress(
            pods.namespace,
            format!("sluicegate-{}-from-konnectivity", pods.name()),
            format!("{} may be called by the API server, through its tunnel", pods.name()),
            Subject::Pods(&pods.workload.pods),
            vec![way_in(
                vec![selector::pods("kube-system", &agents.into())],
                served(pods.workload),
            )],
        ));
    }
    objects
}

fn is_outside(cidr: IpNet, caller: &At<Caller>, plan: &Plan<'_>, problems: &mut Problems<'_>) -> bool {
    let networks = &plan.cluster.networks;
    for (own, what, help) in [
        (
            &networks.nodes,
            "nodes",
            "kubelet probes need no rule, and every source-NATed connection would come in: \
            name the range of the load balancer or gateway instead",
        ),
        (
            &networks.pods,
            "pods",
            "name the workload: pods are selected by labels, not by addresses",
        ),
        (
            &networks.services,
            "Services",
            "policies never see the address of a Service; name the workload behind it",
        ),
    ] {
        if let Some(own) = own.iter().find(|own| address::overlap(own.value, cidr)) {
            problems
                .error(
                    caller.at,
                    format!("`{cidr}` overlaps `{}`, a network of {what}", own.value),
                )
                .help(help);
            return false;
        }
    }
    true
}

fn note_portless(pods: &Pods<'_>, at: Place, problems: &mut Problems<'_>) {
    problems
        .error(
            at,
            format!("`{}` does not say on which ports it is called", pods.name()),
        )
        .help(format!(
            "add `ports: [8080]` to `{}`: the container's port, not the Service's",
            pods.name()
        ));
}

fn served(workload: &Workload) -> Vec<NetworkPolicyPort> {
    let mut ports: Vec<_> = workload.ports.iter().map(|port| port.value.number()).collect();
    ports.sort_unstable();
    ports.into_iter().map(tcp).collect()
}

/// Of the agents that AKS runs in kube-system.
const KONNECTIVITY_LABEL: (&str, &str) = ("app", "konnectivity-agent");
