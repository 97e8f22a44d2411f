//! What a document means for a cluster: which namespaces are locked, which workloads are in them, who calls whom.
//! Must not make objects; it notes what cannot be generated, with its place in the files.
//! Called by every generator.

use std::collections::BTreeMap;

use crate::policy::document::{Caller, Cluster, Document, Engine, Labels, Workload};
use crate::policy::problem::{At, Place, Problems};

/// The document as generators see it.
#[derive(Debug)]
pub struct Plan<'d> {
    pub(super) document: &'d Document,
    pub(super) cluster: Cluster,
    /// By name.
    pub(super) locked: Vec<Namespace<'d>>,
    /// In the order of the caller's name, then of the callee's; each once.
    pub(super) edges: Vec<Edge<'d>>,
}

/// A namespace that generated policies close.
#[derive(Debug)]
pub(super) struct Namespace<'d> {
    pub(super) name: &'d str,
    /// By name.
    pub(super) workloads: Vec<Pods<'d>>,
}

/// A workload that is pods of one namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pods<'d> {
    pub(super) workload: &'d Workload,
    pub(super) namespace: &'d str,
    /// Where the workload stands.
    pub(super) at: Place,
}

/// One workload may call another, on the ports that it serves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge<'d> {
    pub(super) from: Pods<'d>,
    pub(super) to: Pods<'d>,
}

impl<'d> Plan<'d> {
    /// Reads a document that is free of errors.
    pub fn of(document: &'d Document, problems: &mut Problems<'_>) -> Self {
        let cluster = document.cluster();
        let mut namespaces: BTreeMap<&str, Vec<Pods<'_>>> = BTreeMap::new();
        for pods in document.workloads.iter().filter_map(Pods::of) {
            namespaces.entry(pods.namespace).or_default().push(pods);
        }
        for workloads in namespaces.values_mut() {
            workloads.sort_by_key(|pods| &pods.workload.name);
            agree_on_lock(workloads, problems);
            warn_of_overlap(workloads, problems);
        }
        if let Some(workloads) = namespaces.remove(&*cluster.proxy.namespace) {
            for pods in workloads {
                problems
                    .error(pods.at, format!("`{}` is the namespace of the proxy", pods.namespace))
                    .help("move the workload to another namespace: there it would share the proxy's own way out");
            }
        }
        namespaces.retain(|_, workloads| workloads.iter().any(|pods| pods.workload.locked));
        for pods in namespaces.values().flatten() {
            refuse_system(pods, document, problems);
        }
        let locked = namespaces.into_iter();
        let locked = locked.map(|(name, workloads)| Namespace { name, workloads });
        Self {
            locked: locked.collect(),
            edges: edges(document, problems),
            cluster,
            document,
        }
    }

    /// The engine, without which nobody can say what a policy does.
    pub(super) fn engine(&self, problems: &mut Problems<'_>) -> Option<Engine> {
        let engine = self.cluster.engine.map(|engine| engine.value);
        if engine.is_none() {
            let at = self
                .document
                .cluster
                .as_ref()
                .map_or_else(Place::default, |cluster| cluster.at);
            problems
                .error(at, "NetworkPolicies need to know what enforces them")
                .help("add `engine: cilium`, `calico` or `azure-npm` to `cluster` (`az aks show --query networkProfile.networkPolicy`)");
        }
        engine
    }

    /// Of Kubernetes 1.x, where the policy file says it.
    pub(super) fn minor_version(&self) -> Option<u16> {
        let version = self.cluster.kubernetes.as_ref()?;
        version.value.split('.').nth(1)?.parse().ok()
    }

    /// Whether generated policies close a namespace.
    pub(super) fn is_locked(&self, namespace: &str) -> bool {
        self.locked.iter().any(|locked| locked.name == namespace)
    }
}

impl<'d> Pods<'d> {
    pub(super) fn of(workload: &'d At<Workload>) -> Option<Self> {
        Some(Self {
            workload: &workload.value,
            namespace: &workload.value.namespace.as_ref()?.value,
            at: workload.at,
        })
    }

    pub(super) fn name(&self) -> &'d str {
        &self.workload.name
    }
}

/// A lock there would take the cluster's own traffic away: DNS, the tunnel of the API server, the ingress.
fn refuse_system(pods: &Pods<'_>, document: &Document, problems: &mut Problems<'_>) {
    let written = document
        .lock
        .as_ref()
        .map_or(&[][..], |lock| &lock.value.system_namespaces);
    let is_system = if written.is_empty() {
        SYSTEM.contains(&pods.namespace)
    } else {
        written.iter().any(|name| *name.value == *pods.namespace) || pods.namespace == SYSTEM_ITSELF
    };
    if is_system {
        problems
            .error(
                pods.at,
                format!("`{}` would lock `{}`, a namespace of the system", pods.name(), pods.namespace),
            )
            .help("write `locked: false` here: others may call it all the same; `lock.system_namespaces` says what the system's are");
    }
}

/// A namespace is locked or it is not.
fn agree_on_lock(workloads: &[Pods<'_>], problems: &mut Problems<'_>) {
    let Some(open) = workloads.iter().find(|pods| !pods.workload.locked) else {
        return;
    };
    for pods in workloads.iter().filter(|pods| pods.workload.locked) {
        problems
            .error(
                pods.at,
                format!(
                    "`{}` would lock the namespace `{}`, and `{}` says `locked: false`",
                    pods.name(),
                    pods.namespace,
                    open.name()
                ),
            )
            .help("a namespace is locked as a whole: say the same in both");
    }
}

/// Policies add up: a pod that two selectors match may do what either may.
fn warn_of_overlap(workloads: &[Pods<'_>], problems: &mut Problems<'_>) {
    for (place, one) in workloads.iter().enumerate() {
        for other in &workloads[place + 1..] {
            if can_share_a_pod(&one.workload.pods, &other.workload.pods) {
                problems
                    .warning(
                        other.at,
                        format!("a pod can be both `{}` and `{}`", one.name(), other.name()),
                    )
                    .label("policies add up: it may do what either may")
                    .help("select by one label that has different values in the two, such as `app`");
            }
        }
    }
}

fn can_share_a_pod(one: &Labels, other: &Labels) -> bool {
    one.iter()
        .all(|(key, value)| other.get(key).is_none_or(|theirs| theirs == value))
}

/// `calls` and `called_by` are two ways to say the same.
fn edges<'d>(document: &'d Document, problems: &mut Problems<'_>) -> Vec<Edge<'d>> {
    let mut edges: BTreeMap<(&str, &str), Edge<'_>> = BTreeMap::new();
    for workload in &document.workloads {
        let calls = workload.value.calls.iter().map(|name| (&name.value, name.at));
        for (name, at) in calls {
            let ends = (Some(workload), document.workload(name));
            edges.extend(edge(ends, at, problems));
        }
        for caller in &workload.value.called_by {
            if let Caller::Workload(name) = &caller.value {
                let ends = (document.workload(name), Some(workload));
                edges.extend(edge(ends, caller.at, problems));
            }
        }
    }
    edges.into_values().collect()
}

fn edge<'d>(
    (from, to): (Option<&'d At<Workload>>, Option<&'d At<Workload>>),
    at: Place,
    problems: &mut Problems<'_>,
) -> Option<((&'d str, &'d str), Edge<'d>)> {
    let (from, to) = (from?, to?);
    for end in [from, to] {
        if end.value.namespace.is_none() {
            problems
                .error(
                    at,
                    format!("`{}` has no pods that a policy could select", end.value.name),
                )
                .help("give it `namespace` and `pods`; addresses are written as `called_by: [{cidr: 10.3.0.0/24}]`");
        }
    }
    let (from, to) = (Pods::of(from)?, Pods::of(to)?);
    if to.workload.ports.is_empty() {
        problems
            .error(at, format!("`{}` does not say on which ports it is called", to.name()))
            .help(format!(
                "add `ports: [8080]` to `{}`: the container's port, not the Service's",
                to.name()
            ));
        return None;
    }
    Some(((from.name(), to.name()), Edge { from, to }))
}

/// Without it nothing in a cluster works.
pub(super) const SYSTEM_ITSELF: &str = "kube-system";
/// What AKS, its add-ons and its extensions run themselves.
pub(super) const SYSTEM: [&str; 14] = [
    "aks-istio-egress",
    "aks-istio-ingress",
    "aks-istio-system",
    "app-routing-system",
    "azure-arc",
    "azure-extensions-usage-system",
    "calico-apiserver",
    "calico-system",
    "dataprotection-microsoft",
    "gatekeeper-system",
    "kube-node-lease",
    "kube-public",
    SYSTEM_ITSELF,
    "tigera-operator",
];
