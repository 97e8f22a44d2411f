//! The lock itself: its policies, the marks on its namespaces, and the namespace of the proxy are its owners' alone.
//! Must not stop what the cluster does by itself, or a namespace could never be deleted.
//! Called once for each set of admission rules.

use super::rule::{CONNECT, CREATE, DELETE, Rule, UPDATE, in_namespaces, is_none_of, list, resources};
use super::{Owners, namespaces};
use crate::kubernetes::plan::Plan;

/// Policies in the locked namespaces and in the proxy's. Policies add up, so one more undoes the lock.
pub(super) fn policies(plan: &Plan<'_>, owners: &Owners<'_>) -> Rule {
    let write = &[CREATE, UPDATE, DELETE];
    Rule {
        name: "sluicegate-policies".to_owned(),
        purpose: "only the owners of the lock write network policies where it holds".to_owned(),
        namespaces: Some(in_namespaces(&guarded(plan))),
        resources: vec![
            resources("networking.k8s.io", "*", &["networkpolicies"], write),
            resources(
                "cilium.io",
                "*",
                &["ciliumlocalredirectpolicies", "ciliumnetworkpolicies"],
                write,
            ),
            resources("crd.projectcalico.org", "*", &["networkpolicies"], write),
            resources("projectcalico.org", "*", &["networkpolicies"], write),
        ],
        conditions: vec![
            owners.condition(),
            (
                "not-the-end-of-the-namespace",
                format!(
                    "!(request.operation == 'DELETE' && request.userInfo.username == '{CONTROLLERS}namespace-controller')"
                ),
            ),
        ],
        variables: Vec::new(),
        validations: vec![never("only the owners of the lock write network policies here")],
    }
}

/// Policies that stand in no namespace, and are judged before those that do.
pub(super) fn cluster_policies(owners: &Owners<'_>, system_namespaces: &[&str]) -> Rule {
    let write = &[CREATE, UPDATE, DELETE];
    let accounts: Vec<_> = system_namespaces
        .iter()
        .map(|name| format!("system:serviceaccounts:{name}"))
        .collect();
    let accounts: Vec<_> = accounts.iter().map(String::as_str).collect();
    let kubernetes = [
        "adminnetworkpolicies",
        "baselineadminnetworkpolicies",
        "clusternetworkpolicies",
    ];
    Rule {
        name: "sluicegate-cluster-policies".to_owned(),
        purpose: "only the owners of the lock, and the system, write network policies of the whole cluster".to_owned(),
        namespaces: None,
        resources: vec![
            resources(
                "cilium.io",
                "*",
                &["ciliumclusterwidenetworkpolicies", "ciliumegressgatewaypolicies"],
                write,
            ),
            resources("crd.projectcalico.org", "*", &["globalnetworkpolicies"], write),
            resources("policy.networking.k8s.io", "*", &kubernetes, write),
            resources("projectcalico.org", "*", &["globalnetworkpolicies"], write),
        ],
        conditions: vec![owners.condition(), ("not-the-system", is_none_of(&[], &accounts))],
        variables: Vec::new(),
        validations: vec![never(
            "only the owners of the lock write network policies of the whole cluster",
        )],
    }
}

/// The namespaces: their marks stay, and so do they.
pub(super) fn marks(plan: &Plan<'_>, owners: &Owners<'_>) -> Rule {
    let names = list(&guarded(plan));
    let keys = namespaces::lock_labels();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    Rule {
        name: "sluicegate-namespaces".to_owned(),
        purpose: "only the owners of the lock create, unlock or delete a locked namespace".to_owned(),
        namespaces: None,
        // `namespaces/status` and `namespaces/finalize` write labels too.
        resources: vec![
            resources("", "v1", &["namespaces"], &[CREATE, UPDATE, DELETE]),
            resources("", "v1", &["namespaces/*"], &[UPDATE]),
        ],
        conditions: vec![
            owners.condition(),
            (
                "locked",
                format!(
                    "request.name in {names} || (request.operation == 'CREATE' && has(object.metadata.name) && \
                     object.metadata.name in {names})"
                ),
            ),
        ],
        variables: vec![
            ("keys", list(&keys)),
            (
                "after",
                "object != null && has(object.metadata.labels) ? object.metadata.labels : {}".to_owned(),
            ),
            (
                "before",
                "oldObject != null && has(oldObject.metadata.labels) ? oldObject.metadata.labels : {}".to_owned(),
            ),
        ],
        validations: vec![
            (
                "request.operation == 'UPDATE'".to_owned(),
                "only the owners of the lock create or delete this namespace".to_owned(),
            ),
            (
                "request.operation != 'UPDATE' || variables.keys.all(key, key in variables.before ? key in \
                 variables.after && variables.after[key] == variables.before[key] : !(key in variables.after))"
                    .to_owned(),
                "only the owners of the lock change sluicegate/locked and the Pod Security labels of this namespace"
                    .to_owned(),
            ),
        ],
    }
}

/// The namespace of the proxy: whoever writes there lets anything out. To enter a pod is to write.
pub(super) fn proxy(plan: &Plan<'_>, owners: &Owners<'_>) -> Rule {
    let mut everything = resources("*", "*", &["*/*"], &[CREATE, UPDATE, DELETE, CONNECT]);
    everything.scope = Some("Namespaced".to_owned());
    Rule {
        name: "sluicegate-proxy".to_owned(),
        purpose: "only the owners of the lock, and the cluster itself, write where the proxy runs".to_owned(),
        namespaces: Some(in_namespaces(&[&plan.cluster.proxy.namespace])),
        resources: vec![everything],
        conditions: vec![
            owners.condition(),
            ("not-the-cluster", is_none_of(&CONTROL_PLANE, &CLUSTER)),
            // Whoever upgrades nodes empties them first, under names that are the cloud's. The disruption budget holds.
            (
                "not-an-eviction",
                "!(request.resource.resource == 'pods' && has(request.subResource) && request.subResource == 'eviction')"
                    .to_owned(),
            ),
        ],
        variables: Vec::new(),
        validations: vec![never("only the owners of the lock write in the proxy's namespace")],
    }
}

fn guarded<'a>(plan: &'a Plan<'_>) -> Vec<&'a str> {
    let locked = plan.locked.iter().map(|locked| locked.name);
    let mut names: Vec<_> = locked.chain([&*plan.cluster.proxy.namespace]).collect();
    names.sort_unstable();
    names
}

/// For who is not exempt, whatever is asked.
fn never(message: &str) -> (String, String) {
    ("false".to_owned(), message.to_owned())
}

/// What stands before the names of Kubernetes' own controllers.
pub(super) const CONTROLLERS: &str = "system:serviceaccount:kube-system:";
const CONTROL_PLANE: [&str; 3] = [
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-scheduler",
];
/// Kubelets, and what runs in kube-system: the controllers that make pods, endpoints and certificates.
const CLUSTER: [&str; 2] = ["system:nodes", "system:serviceaccounts:kube-system"];
