//! Labels are identity: only the lock's owners give pods those by which a workload with ways of its own is selected.
//! Must not trust who creates a pod alone: controllers create what a template says, so the template's author is judged.
//! Called once for each locked namespace.

use super::Owners;
use super::lock::CONTROLLERS;
use super::rule::{CREATE, Rule, UPDATE, in_namespaces, is_none_of, literal, resources};
use crate::kubernetes::plan::{Namespace, Plan, Pods};
use crate::policy::document::{Identity, Labels};

/// The rule of one namespace, where it has a workload that is worth forging.
pub(super) fn rule(namespace: &Namespace<'_>, plan: &Plan<'_>, owners: &Owners<'_>) -> Option<Rule> {
    let workloads: Vec<_> = namespace
        .workloads
        .iter()
        .filter(|pods| has_ways_of_its_own(pods, plan))
        .collect();
    if workloads.is_empty() {
        return None;
    }
    let mut validations = vec![(
        format!("request.resource.resource != '{REVISIONS}'"),
        "only controllers write the revisions that they make pods from".to_owned(),
    )];
    validations.extend(workloads.into_iter().map(validation));
    let write = &[CREATE, UPDATE];
    let controllers: Vec<_> = BUILT_IN.iter().map(|name| format!("{CONTROLLERS}{name}")).collect();
    let controllers = controllers.iter().map(String::as_str);
    let controllers: Vec<_> = controllers.chain(["system:kube-controller-manager"]).collect();
    Some(Rule {
        name: format!("sluicegate-identity-{}", namespace.name),
        purpose: format!(
            "only the owners of the lock give pods of {} the labels that open ways",
            namespace.name
        ),
        namespaces: Some(in_namespaces(&[namespace.name])),
        resources: vec![
            // Labels are also written through `pods/status` and, by who binds pods to nodes, `pods/binding`.
            resources("", "v1", &["pods", "pods/*", "bindings"], write),
            resources("", "v1", &["podtemplates", "replicationcontrollers"], write),
            resources(
                "apps",
                "v1",
                &["daemonsets", "deployments", "replicasets", "statefulsets", REVISIONS],
                write,
            ),
            resources("batch", "v1", &["cronjobs", "jobs"], write),
        ],
        conditions: vec![
            owners.condition(),
            ("not-a-built-in-controller", is_none_of(&controllers, &[])),
        ],
        variables: vec![
            ("template", template("object")),
            ("after", labels("variables.template")),
            // Absent where something is created: then nothing was there to keep.
            (
                "oldTemplate",
                format!("oldObject == null ? null : ({})", template("oldObject")),
            ),
            (
                "before",
                format!("oldObject == null ? {{}} : ({})", labels("variables.oldTemplate")),
            ),
        ],
        validations,
    })
}

/// Whether its labels open more than what every workload of a locked namespace may.
fn has_ways_of_its_own(pods: &Pods<'_>, plan: &Plan<'_>) -> bool {
    let workload = pods.workload;
    workload.port.is_some()
        || !workload.direct.is_empty()
        || workload.api_server
        || workload.identity.value == Identity::Imds
        || plan.edges.iter().any(|edge| edge.from.name() == pods.name())
}

/// Who had the labels keeps them: scaling, restarting and the status of a pod are not judged.
fn validation(pods: &Pods<'_>) -> (String, String) {
    let labels = &pods.workload.pods;
    let written: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    (
        format!(
            "!({}) || ({})",
            selected("variables.after", labels),
            selected("variables.before", labels)
        ),
        format!(
            "only the owners of the lock give pods the labels of {} ({}): they are its identity",
            pods.name(),
            written.join(",")
        ),
    )
}

fn selected(map: &str, labels: &Labels) -> String {
    let each = labels.iter().map(|(key, value)| {
        let (key, value) = (literal(key), literal(value));
        format!("{key} in {map} && {map}[{key}] == {value}")
    });
    each.collect::<Vec<_>>().join(" && ")
}

/// Where the pods' metadata stands in an object of any of the kinds.
fn template(object: &str) -> String {
    format!(
        "request.resource.resource in ['bindings', '{REVISIONS}', 'pods'] ? {object} : \
         request.resource.resource == 'cronjobs' ? {object}.spec.jobTemplate.spec.template : \
         request.resource.resource == 'podtemplates' ? {object}.template : {object}.spec.template"
    )
}

fn labels(template: &str) -> String {
    format!("has({template}.metadata) && has({template}.metadata.labels) ? {template}.metadata.labels : {{}}")
}

/// From them `StatefulSet`s and `DaemonSet`s make pods that their templates no longer describe.
const REVISIONS: &str = "controllerrevisions";
/// They make pods, or what pods are made from, as a template says that was judged itself.
const BUILT_IN: [&str; 7] = [
    "cronjob-controller",
    "daemon-set-controller",
    "deployment-controller",
    "job-controller",
    "replicaset-controller",
    "replication-controller",
    "statefulset-controller",
];
