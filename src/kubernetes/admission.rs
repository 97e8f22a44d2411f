//! What the API server refuses by itself: root anywhere but in the system, and hands on the lock that are not its owners'.
//! Must not need a controller of anyone else's, and must not lock its owners out.
//! Called by `generate`. The rules stand one file each in the folder.

mod identity;
mod lock;
mod pods;
pub(super) mod rule;

use super::namespaces;
use super::object::{File, Form};
use super::plan::{Plan, SYSTEM, SYSTEM_ITSELF};
use crate::policy::document::Lock;
use crate::policy::problem::{At, Place, Problems};
use rule::is_none_of;

/// The file of all rules.
pub(super) fn file(plan: &Plan<'_>, problems: &mut Problems<'_>) -> File {
    need_version(plan, problems);
    let lock = plan.document.lock.as_ref();
    let owners = Owners::of(lock, plan, problems);
    let system = system_namespaces(lock, plan, problems);
    let mut rules = vec![
        pods::no_root(&system),
        lock::policies(plan, &owners),
        lock::cluster_policies(&owners, &system),
        lock::marks(plan, &owners),
        lock::proxy(plan, &owners),
    ];
    let namespaces = plan.locked.iter();
    rules.extend(namespaces.filter_map(|namespace| identity::rule(namespace, plan, &owners)));
    File {
        path: "admission.yaml".to_owned(),
        header: HEADER.map(str::to_owned).into(),
        objects: rules.into_iter().flat_map(rule::Rule::objects).collect(),
        form: Form::Applied,
    }
}

/// Who may change the lock: users, groups and service accounts, each as Kubernetes names it.
#[derive(Debug)]
struct Owners<'d>(Vec<&'d str>);

impl<'d> Owners<'d> {
    fn of(lock: Option<&'d At<Lock>>, plan: &Plan<'_>, problems: &mut Problems<'_>) -> Self {
        let written = lock.map_or(&[][..], |lock| &lock.value.owners);
        if written.is_empty() {
            problems
                .error(lock.map_or_else(Place::default, |lock| lock.at), "nobody could change the lock")
                .help("add `lock: {owners: [GROUP-OR-USER]}`: who applies what is generated, as `kubectl auth whoami` names them");
        }
        for owner in written {
            check_owner(owner, plan, problems);
        }
        let mut owners: Vec<_> = written.iter().map(|owner| &*owner.value).collect();
        owners.sort_unstable();
        owners.dedup();
        Self(owners)
    }

    fn condition(&self) -> (&'static str, String) {
        ("not-an-owner", is_none_of(&self.0, &self.0))
    }
}

/// An owner whom anyone in a locked namespace can become is none.
fn check_owner(owner: &At<crate::policy::document::Text>, plan: &Plan<'_>, problems: &mut Problems<'_>) {
    let name = &*owner.value;
    if EVERYBODY.contains(&name) {
        problems
            .error(owner.at, format!("`{name}` is everybody"))
            .help("name a group of your directory, a user or one service account");
        return;
    }
    let account = name
        .strip_prefix("system:serviceaccount:")
        .and_then(|account| account.split(':').next());
    let namespace = account.or_else(|| name.strip_prefix("system:serviceaccounts:"));
    if let Some(namespace) = namespace.filter(|namespace| plan.is_locked(namespace)) {
        problems
            .error(
                owner.at,
                format!("`{name}` lives in the locked namespace `{namespace}`"),
            )
            .label("who has the role `edit` there can act as it")
            .help("give the lock to a service account of a namespace of its own");
    }
}

/// Where pods of the system run, as the policy file says or as AKS does.
fn system_namespaces<'d>(lock: Option<&'d At<Lock>>, plan: &Plan<'_>, problems: &mut Problems<'_>) -> Vec<&'d str> {
    let written = lock.map_or(&[][..], |lock| &lock.value.system_namespaces);
    let mut names: Vec<_> = written.iter().map(|name| &*name.value).collect();
    for name in written {
        if name.value == plan.cluster.proxy.namespace {
            problems
                .error(
                    name.at,
                    format!("`{}` is the proxy's own, and no namespace of the system", name.value),
                )
                .label("pods could run there as root, on the host's network")
                .help("remove it here");
        }
    }
    if names.is_empty() {
        return SYSTEM.to_vec();
    }
    if !names.contains(&SYSTEM_ITSELF) {
        let at = lock.map_or_else(Place::default, |lock| lock.at);
        problems
            .error(at, "`kube-system` is not among the namespaces of the system")
            .help("add it: nodes could not start what they need");
    }
    names.sort_unstable();
    names.dedup();
    names
}

fn need_version(plan: &Plan<'_>, problems: &mut Problems<'_>) {
    let (Some(version), Some(minor)) = (&plan.cluster.kubernetes, plan.minor_version()) else {
        return;
    };
    if minor < FIRST_VERSION {
        problems
            .error(
                version.at,
                format!("Kubernetes {} has no ValidatingAdmissionPolicy", version.value),
            )
            .help(format!("admission rules need 1.{FIRST_VERSION} or later"));
    }
}

/// The minor version of Kubernetes in which they became stable.
const FIRST_VERSION: u16 = 30;
const EVERYBODY: [&str; 4] = [
    "*",
    "system:authenticated",
    "system:serviceaccounts",
    "system:unauthenticated",
];
const HEADER: [&str; 28] = [
    "What the API server refuses: root outside the system's namespaces, and changes of the lock by who does not own it.",
    "Generated by `sluicegate generate admission`.",
    "Do not edit: change the policy file and generate again.",
    "To remove everything that was generated:",
    "  kubectl delete validatingadmissionpolicies,validatingadmissionpolicybindings \\",
    "    -l app.kubernetes.io/managed-by=sluicegate",
    "To see first what would be refused: change `Deny` to `Audit` and `Warn` in the bindings, for a while.",
    "",
    "What these rules cannot cover, and RBAC must:",
    "- the rules themselves: no admission policy is asked about admission policies. Let nobody but the owners of the lock",
    "  write validatingadmissionpolicies, validatingadmissionpolicybindings and the mutating and webhook kinds beside them.",
    "- who may impersonate an owner, create tokens for its service account, or write in the namespace where it lives.",
    "- who may write in the system's namespaces: kube-system's controllers are believed, and DNS is known by a label there.",
    "- who may change the image or command of a workload that has its labels already, attach an ephemeral container to its",
    "  pods or run commands in them (pods/exec): they act as the workload. Give `edit` in a locked namespace accordingly.",
    "- who writes ServiceAccounts and their federation: pods choose theirs by name.",
    "- nodes: whoever is root on one is every pod there.",
    "- who may create namespaces: one that the policy file does not name is not locked, and only root is refused there.",
    "What was there before is not judged: restart pods, and look through the policies, when a namespace is locked.",
    "",
    "Controllers of other makers (Argo Rollouts, Kueue, operators) make pods under their own names, and are refused the",
    "labels of a workload with ways of its own. To make one an owner is to trust whoever can write the objects it obeys.",
    "Calico's aggregated API writes under its own name as well: owners write Calico's policies as crd.projectcalico.org.",
    "",
    "A pod that already runs as root is not touched, but no ephemeral container can join it.",
    "Windows pods need runAsNonRoot too; their containers need no allowPrivilegeEscalation, which they cannot have.",
    "The list of the system's namespaces is `lock.system_namespaces`; without it, what AKS, its add-ons and extensions use.",
    "Who is in none of these lists is refused, members of system:masters included.",
];
