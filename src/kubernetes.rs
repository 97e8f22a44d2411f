//! From a policy document to Kubernetes objects: what locks namespaces down so that the proxy is the only way out.
//! Must not decide who may reach what, that is the gate's; nor write text templates: every object is a checked type.
//! Called by `generate`.

mod admission;
mod aks_http_proxy;
mod cilium;
mod edges;
mod engine;
pub mod judge;
mod namespace_lock;
mod namespaces;
mod object;
mod plan;
pub mod probe;
mod proxy_lock;
mod selector;
mod service_ports;
mod verify_jobs;
mod workload_env;

use std::collections::HashSet;
use std::net::SocketAddr;

use crate::policy::Policy;
use crate::policy::document::Document;
use crate::policy::problem::{Place, Problems};

pub use object::{File, Form, Object};
pub use plan::Plan;
pub use verify_jobs::{Jobs, verify_jobs};

/// One kind of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// What closes namespaces, and what opens the ways that the policy names.
    NetworkPolicies,
    /// The ports of workloads, as a patch for the proxy's Service.
    ServicePorts,
    /// The locked namespaces themselves.
    Namespaces,
    /// What the API server refuses.
    Admission,
    /// What sends the clients of a workload to the proxy.
    WorkloadEnv,
    /// What sends the nodes of an AKS cluster to a proxy outside it. No object of Kubernetes, so no part of all.
    AksHttpProxy,
}

/// What the objects must agree with.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    pub document: &'a Document,
    /// The same files, compiled.
    pub policy: &'a Policy,
    pub proxy: &'a ProxyPorts,
}

/// What of the proxy's settings shows in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyPorts {
    /// Of the listeners that workloads without a port of their own share, ascending.
    pub shared: Vec<u16>,
    /// The one of them that takes CONNECT.
    pub explicit: Option<ExplicitPort>,
    /// Probes and metrics.
    pub health: u16,
    /// The servers that the proxy asks. Empty: those of the node, which on AKS are Azure's own resolver.
    pub dns: Vec<SocketAddr>,
}

/// A listener for clients that know of it. Workload ports are like the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExplicitPort {
    pub port: u16,
    /// Whether clients speak TLS to the proxy itself.
    pub tls: bool,
}

impl What {
    /// Those that belong to a cluster, in the order in which they are written.
    pub const ALL: [Self; 5] = [
        Self::NetworkPolicies,
        Self::ServicePorts,
        Self::Namespaces,
        Self::Admission,
        Self::WorkloadEnv,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NetworkPolicies => "network-policies",
            Self::ServicePorts => "service-ports",
            Self::Namespaces => "namespaces",
            Self::Admission => "admission",
            Self::WorkloadEnv => "workload-env",
            Self::AksHttpProxy => "aks-http-proxy",
        }
    }
}

/// Makes the files of one kind of output, or of all kinds with the list that `kubectl apply -k` reads. What cannot be
/// generated is noted as an error; then nothing of it may be used.
pub fn generate(what: Option<What>, inputs: Inputs<'_>, problems: &mut Problems<'_>) -> Vec<File> {
    let plan = Plan::of(inputs.document, problems);
    let kinds = what.as_ref().map_or(&What::ALL[..], std::slice::from_ref);
    let mut files = Vec::new();
    for kind in kinds {
        files.extend(match kind {
            What::NetworkPolicies => network_policies(&plan, inputs, problems),
            What::ServicePorts => vec![service_ports::file(&plan)],
            What::Namespaces => namespaces::files(&plan, problems),
            What::Admission => vec![admission::file(&plan, problems)],
            What::WorkloadEnv => workload_env::files(&plan, inputs.proxy, problems),
            What::AksHttpProxy => aks_http_proxy::file(&plan, problems).into_iter().collect(),
        });
    }
    refuse_twins(&files, problems);
    if what.is_none() {
        files.push(File::kustomization(&files));
    }
    files
}

/// Names are made from those of workloads; of two objects with one name only the second would be in force.
fn refuse_twins(files: &[File], problems: &mut Problems<'_>) {
    let mut known = HashSet::new();
    for object in files.iter().flat_map(|file| &file.objects) {
        let value = object.value();
        let text = |field: &serde_json::Value| field.as_str().unwrap_or_default().to_owned();
        let metadata = &value["metadata"];
        let key = (
            text(&value["kind"]),
            text(&metadata["namespace"]),
            text(&metadata["name"]),
        );
        if !key.2.is_empty() && !known.insert(key.clone()) {
            let (kind, namespace, name) = key;
            problems
                .error(
                    Place::default(),
                    format!("two different objects would be the {kind} `{name}` of `{namespace}`"),
                )
                .help("rename a workload that has `-to-`, `-from-` or `-way-` in its name, or is called `addresses`")
                .span = None;
        }
    }
}

fn network_policies(plan: &Plan<'_>, inputs: Inputs<'_>, problems: &mut Problems<'_>) -> Vec<File> {
    let Some(engine) = plan.engine(problems) else {
        return Vec::new();
    };
    let mut files = vec![proxy_lock::file(plan, engine, inputs, problems)];
    for namespace in &plan.locked {
        files.push(namespace_lock::file(namespace, plan, engine, inputs.proxy, problems));
    }
    files
}

#[cfg(test)]
mod tests;
