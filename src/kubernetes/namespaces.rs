//! The locked namespaces themselves: Pod Security `restricted`, no token in pods that do not ask, quota and limits.
//! Must not let the removal of what was generated take away a namespace, and with it everything in it.
//! Called by `generate`. Sources: kubernetes.io "Pod Security Admission", "Resource Quotas", "Limit Ranges".

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    LimitRange, LimitRangeItem, LimitRangeSpec, Namespace, ResourceQuota, ResourceQuotaSpec, ServiceAccount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::object::{File, Form, Object, cluster_metadata, metadata, unmanaged};
use super::plan::Plan;
use crate::policy::document;
use crate::policy::problem::{At, Problems};

/// A file for each, so that they can be locked one by one.
pub(super) fn files(plan: &Plan<'_>, problems: &mut Problems<'_>) -> Vec<File> {
    for entry in &plan.document.namespaces {
        if !plan.is_locked(&entry.value.name.value) {
            problems
                .warning(entry.at, format!("`{}` is not locked", entry.value.name.value))
                .label("no quota and no limits are generated for it")
                .help("give a workload `namespace` and `pods` there, or remove the entry");
        }
    }
    let locked = plan.locked.iter();
    locked.map(|locked| file(locked.name, plan, problems)).collect()
}

fn file(name: &str, plan: &Plan<'_>, problems: &mut Problems<'_>) -> File {
    let version = plan.minor_version().map(|minor| format!("v1.{minor}"));
    let mut objects = vec![namespace(name, version.as_deref()), default_account(name)];
    let mut given = plan.document.namespaces.iter();
    if let Some(entry) = given.find(|entry| &*entry.value.name.value == name) {
        objects.extend(quota(&entry.value));
        objects.extend(limits(entry, problems));
    }
    File {
        path: format!("namespaces/{name}.yaml"),
        header: header(name),
        objects,
        form: Form::Applied,
    }
}

/// The labels on a namespace that belong to the lock, and that only its owners change.
pub(super) fn lock_labels() -> Vec<String> {
    let levels = LEVELS
        .iter()
        .flat_map(|level| [pod_security(level, ""), pod_security(level, "-version")]);
    std::iter::once(LOCKED.to_owned()).chain(levels).collect()
}

fn namespace(name: &str, version: Option<&str>) -> Object {
    let mut labels = BTreeMap::from([(LOCKED.to_owned(), "true".to_owned())]);
    for level in LEVELS {
        labels.insert(pod_security(level, ""), "restricted".to_owned());
        if let Some(version) = version {
            labels.insert(pod_security(level, "-version"), version.to_owned());
        }
    }
    let mut metadata = unmanaged(cluster_metadata(
        name,
        "locked: what its pods may reach, the policy file names",
    ));
    metadata.labels = Some(labels);
    let kept = NEVER_PRUNED.map(|(key, value)| (key.to_owned(), value.to_owned()));
    metadata.annotations.get_or_insert_default().extend(kept);
    Object::of(&Namespace {
        metadata,
        ..Namespace::default()
    })
}

fn pod_security(level: &str, suffix: &str) -> String {
    format!("pod-security.kubernetes.io/{level}{suffix}")
}

/// The account of every pod that names none. It was there before, and others may have given it secrets for pulling.
fn default_account(namespace: &str) -> Object {
    Object::of(&ServiceAccount {
        metadata: unmanaged(metadata(
            namespace,
            "default",
            "pods that need no token of the API server get none",
        )),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    })
}

fn quota(given: &document::Namespace) -> Option<Object> {
    let purpose = "all pods of the namespace together may ask for no more";
    (!given.quota.is_empty()).then(|| {
        Object::of(&ResourceQuota {
            metadata: metadata(&given.name.value, "sluicegate-quota", purpose),
            spec: Some(ResourceQuotaSpec {
                hard: Some(quantities(&given.quota)),
                ..ResourceQuotaSpec::default()
            }),
            ..ResourceQuota::default()
        })
    })
}

fn limits(entry: &At<document::Namespace>, problems: &mut Problems<'_>) -> Option<Object> {
    let given = &entry.value;
    for name in given.limits.keys().filter(|name| !COMPUTE.contains(&name.as_str())) {
        problems
            .error(entry.at, format!("a container has no limit for `{name}`"))
            .help(
                "`limits` are those of each container: `cpu`, `memory`, `ephemeral-storage`; put the rest in `quota`",
            );
    }
    let purpose = "a container that names no limit gets this one";
    (!given.limits.is_empty()).then(|| {
        Object::of(&LimitRange {
            metadata: metadata(&given.name.value, "sluicegate-limits", purpose),
            spec: Some(LimitRangeSpec {
                limits: vec![LimitRangeItem {
                    default: Some(quantities(&given.limits)),
                    type_: "Container".to_owned(),
                    ..LimitRangeItem::default()
                }],
            }),
        })
    })
}

fn quantities(amounts: &BTreeMap<String, String>) -> BTreeMap<String, Quantity> {
    let quantity = |(name, amount): (&String, &String)| (name.clone(), Quantity(amount.clone()));
    amounts.iter().map(quantity).collect()
}

fn header(name: &str) -> Vec<String> {
    [
        &format!("The locked namespace {name}: Pod Security `restricted`, no token in pods that do not ask, quota and limits."),
        "Generated by `sluicegate generate namespaces`.",
        "Do not edit: change the policy file and generate again.",
        "",
        "The namespace and its default ServiceAccount do NOT carry the label by which one command removes what was",
        "generated: that command would delete the namespace with everything in it. Never `kubectl delete -f` this file.",
        "To remove the rest:",
        &format!("  kubectl delete resourcequotas,limitranges -n {name} -l app.kubernetes.io/managed-by=sluicegate"),
        "To open the namespace again, its network policies first:",
        &format!("  kubectl label namespace {name} sluicegate/locked- pod-security.kubernetes.io/enforce- \\"),
        "    pod-security.kubernetes.io/audit- pod-security.kubernetes.io/warn-",
        &format!("  kubectl patch serviceaccount default -n {name} -p '{{\"automountServiceAccountToken\":null}}'"),
        "",
        "Pods that run already are not judged again: restart what was there before the lock.",
    ]
    .map(str::to_owned)
    .into()
}

/// A mark for people and tools. Policies go by the namespace's name, which nobody can change.
const LOCKED: &str = "sluicegate/locked";
const LEVELS: [&str; 3] = ["enforce", "audit", "warn"];
/// What a container can be limited in, and a `LimitRange` can give by default.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Flux and Argo CD delete what is no longer in their source, unless told otherwise.
const NEVER_PRUNED: [(&str, &str); 2] = [
    ("argocd.argoproj.io/sync-options", "Prune=false"),
    ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
];
