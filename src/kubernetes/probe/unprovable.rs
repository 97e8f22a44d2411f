//! What no pod of a workload can try: it is said, so that nobody takes silence for proof.
//! Must not hold anything that could be tried.
//! Called for each workload.

use super::{Attempt, Criterion, Must, Probe};

pub(super) fn probes() -> Vec<Probe> {
    let all = NOTES.iter().map(|(cases, what, criterion, why, advice)| Probe {
        id: format!("{} {what}", cases[0]),
        cases,
        criterion: *criterion,
        attempt: Attempt::None((*why).to_owned()),
        must: Must::BeSaid,
        proves: String::new(),
        advice: (*advice).to_owned(),
    });
    all.collect()
}

type Note = (
    &'static [&'static str],
    &'static str,
    Criterion,
    &'static str,
    &'static str,
);

const NOTES: &[Note] = &[
    (
        &["L11"],
        "GRE and SCTP",
        Criterion::LeastEgress,
        "they need raw sockets, which a restricted pod does not have",
        "Pod Security `restricted` keeps it so; subnets' network security groups close other protocols for nodes too",
    ),
    (
        &["L14"],
        "other containers of the pod",
        Criterion::LeastEgress,
        "policies select pods: init containers, sidecars and debug containers share this verdict",
        "nothing to do",
    ),
    (
        &["L15"],
        "pods without these labels",
        Criterion::LeastEgress,
        "this pod has the workload's labels: others of its namespace have less than it, and other namespaces are open",
        "lock namespaces when they are made: `generate admission` keeps what is not locked in a named list",
    ),
    (
        &["L16"],
        "pods with hostNetwork",
        Criterion::LeastEgress,
        "not enforceable by NetworkPolicy: such a pod is its node",
        "the generated namespaces and admission policies refuse them; node traffic needs a firewall outside",
    ),
    (
        &["L19"],
        "the proxy's own pods",
        Criterion::LeastEgress,
        "they have another policy, and this is not one of them",
        "the generated policy of its namespace takes the cluster, metadata and Azure's platform out of its world",
    ),
    (
        &["L20"],
        "no proxy at all",
        Criterion::LeastEgress,
        "it would have to be stopped",
        "`kubectl scale deployment sluicegate --replicas 0` in a test cluster: all `works` lines must break, none open",
    ),
];
