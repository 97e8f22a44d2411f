//! The Jobs that observe for `verify`: one as a workload in its locked namespace, one with the same probes outside of it.
//! Must not make their pods endpoints of the workload's Service, nor give them a token of the API server.
//! Called by `generate verify-jobs`; `generate all` leaves them out, as a Job runs once and is not applied again.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMap, ConfigMapVolumeSource, Container, EnvVar, EnvVarSource, KeyToPath, Namespace,
    ObjectFieldSelector, PodReadinessGate, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements,
    SeccompProfile, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::object::{File, Form, Object, cluster_metadata, managed, metadata};
use super::plan::{Plan, Pods};
use super::probe::Targets;
use crate::policy::document::{Document, Identity};
use crate::policy::problem::{Place, Problems};

/// What the Jobs need beside the policy.
#[derive(Clone, Copy, Debug)]
pub struct Jobs<'a> {
    /// Only this one; else every workload with pods in a locked namespace.
    pub workload: Option<&'a str>,
    pub image: &'a str,
    /// Of the pods inside; a federated identity belongs to one account.
    pub service_account: &'a str,
    pub targets: &'a Targets,
}

/// A file for each workload.
pub fn verify_jobs(document: &Document, jobs: Jobs<'_>, problems: &mut Problems<'_>) -> Vec<File> {
    let plan = Plan::of(document, problems);
    let all = plan.locked.iter().flat_map(|namespace| &namespace.workloads);
    let wanted = all.filter(|pods| jobs.workload.is_none_or(|name| name == pods.name()));
    let data = data(jobs.targets, problems);
    let mut files: Vec<_> = wanted.map(|pods| file(pods, jobs, &data, problems)).collect();
    files.sort_by(|one, other| one.path.cmp(&other.path));
    if files.is_empty() {
        let message = match jobs.workload {
            Some(name) => format!("`{name}` is no workload with pods in a locked namespace"),
            None => "no workload has pods in a locked namespace".to_owned(),
        };
        problems
            .error(Place::default(), message)
            .help("give the workload `namespace` and `pods`, and no `locked: false`")
            .span = None;
    }
    files
}

fn file(pods: &Pods<'_>, jobs: Jobs<'_>, data: &BTreeMap<String, String>, problems: &mut Problems<'_>) -> File {
    let name = format!("{PREFIX}{}", pods.name());
    if name.len() > LONGEST {
        problems
            .error(pods.at, format!("`{}` is too long a name for its Job", pods.name()))
            .help(format!("at most {} characters", LONGEST - PREFIX.len()));
    }
    let inside = Side {
        namespace: pods.namespace,
        labels: pods.workload.pods.clone(),
        federated: pods.workload.identity.value == Identity::Workload,
        service_account: jobs.service_account,
        purpose: format!("observes as {} what comes through the lock", pods.name()),
    };
    let control = Side {
        namespace: CONTROL,
        labels: BTreeMap::new(),
        federated: false,
        service_account: "default",
        purpose: format!("observes without a lock what {} must not reach", pods.name()),
    };
    let mut objects = vec![control_namespace()];
    for side in [&inside, &control] {
        objects.push(side.files(&name, data));
        objects.push(side.job(&name, pods.name(), jobs.image, data));
    }
    File {
        path: format!("verify-jobs/{}.yaml", pods.name()),
        header: header(pods, &name),
        objects,
        form: Form::Applied,
    }
}

/// What both pods read: the same policy, the same targets.
fn data(targets: &Targets, problems: &mut Problems<'_>) -> BTreeMap<String, String> {
    let mut data = BTreeMap::new();
    for (number, text) in problems.policies().iter().enumerate() {
        let stem = text.name.rsplit('/').next().unwrap_or_default();
        let stem = stem.trim_end_matches(".yaml").trim_end_matches(".yml");
        let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let stem: String = stem.chars().map(safe).take(STEM).collect();
        data.insert(format!("policy-{number:03}-{stem}.yaml"), text.text.to_string());
    }
    if let Some((file, name, _)) = problems.presets().next() {
        problems
            .error_of_file(file, format!("the Jobs cannot take presets from files, such as `{name}`"))
            .help("run `sluicegate verify --observe --presets DIR` in pods of your own, with both from an image or a volume");
    }
    // Maps with text keys become JSON without fail.
    data.insert(TARGETS.to_owned(), format!("{:#}\n", serde_json::json!(targets)));
    let size: usize = data.iter().map(|(key, text)| key.len() + text.len()).sum();
    if size > CONFIG_MAP {
        problems
            .error(
                Place::default(),
                format!("the policy has {size} bytes, and a ConfigMap holds {CONFIG_MAP}"),
            )
            .help("run `sluicegate verify --observe` in pods of your own, with the policy from an image or a volume")
            .span = None;
    }
    data
}

/// One of the two pods.
struct Side<'a> {
    namespace: &'a str,
    labels: BTreeMap<String, String>,
    /// Whether the webhook of Workload ID gives it a federated token.
    federated: bool,
    service_account: &'a str,
    purpose: String,
}

impl Side<'_> {
    fn files(&self, name: &str, data: &BTreeMap<String, String>) -> Object {
        Object::of(&ConfigMap {
            metadata: metadata(self.namespace, name, "the policy and the targets that `verify` reads"),
            data: Some(data.clone()),
            ..ConfigMap::default()
        })
    }

    fn job(&self, name: &str, workload: &str, image: &str, data: &BTreeMap<String, String>) -> Object {
        let mut labels = managed();
        labels.extend(self.labels.clone());
        if self.federated {
            labels.insert(FEDERATED.to_owned(), "true".to_owned());
        }
        Object::of(&Job {
            metadata: metadata(self.namespace, name, &*self.purpose),
            spec: Some(JobSpec {
                active_deadline_seconds: Some(300),
                backoff_limit: Some(0),
                ttl_seconds_after_finished: Some(3600),
                template: PodTemplateSpec {
                    metadata: Some(ObjectMeta {
                        labels: Some(labels),
                        ..ObjectMeta::default()
                    }),
                    spec: Some(self.pod(name, workload, image, data)),
                },
                ..JobSpec::default()
            }),
            ..Job::default()
        })
    }

    fn pod(&self, name: &str, workload: &str, image: &str, data: &BTreeMap<String, String>) -> PodSpec {
        PodSpec {
            service_account_name: Some(self.service_account.to_owned()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            restart_policy: Some("Never".to_owned()),
            // Nobody ever sets this condition, so the pod never becomes ready and no Service sends it anything.
            readiness_gates: Some(vec![PodReadinessGate {
                condition_type: "sluicegate/never-ready".to_owned(),
            }]),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            containers: vec![container(workload, image)],
            volumes: Some(vec![Volume {
                name: "files".to_owned(),
                config_map: Some(ConfigMapVolumeSource {
                    name: name.to_owned(),
                    items: Some(data.keys().map(|key| place(key)).collect()),
                    ..ConfigMapVolumeSource::default()
                }),
                ..Volume::default()
            }]),
            ..PodSpec::default()
        }
    }
}

fn container(workload: &str, image: &str) -> Container {
    let args = [
        "verify",
        "--observe",
        "--as",
        workload,
        "--policy",
        "/etc/sluicegate-verify/policy",
        "--targets",
        "/etc/sluicegate-verify/targets.json",
    ];
    let amounts = |amounts: &[(&str, &str)]| {
        let amounts = amounts.iter();
        let amounts = amounts.map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())));
        Some(amounts.collect())
    };
    Container {
        name: "verify".to_owned(),
        image: Some(image.to_owned()),
        args: Some(args.map(str::to_owned).into()),
        env: Some(vec![EnvVar {
            name: "NODE_IP".to_owned(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    field_path: "status.hostIP".to_owned(),
                    ..ObjectFieldSelector::default()
                }),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        }]),
        resources: Some(ResourceRequirements {
            requests: amounts(&[("cpu", "50m"), ("memory", "32Mi")]),
            limits: amounts(&[("cpu", "500m"), ("memory", "128Mi")]),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![VolumeMount {
            name: "files".to_owned(),
            mount_path: "/etc/sluicegate-verify".to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

/// The policy in a directory of its own, as everything in it is read.
fn place(key: &str) -> KeyToPath {
    KeyToPath {
        key: key.to_owned(),
        path: if key == TARGETS {
            key.to_owned()
        } else {
            format!("policy/{key}")
        },
        ..KeyToPath::default()
    }
}

/// Open on purpose, and with nothing in it but these Jobs.
fn control_namespace() -> Object {
    let mut metadata = cluster_metadata(
        CONTROL,
        "without a lock: what is blocked elsewhere must come through here",
    );
    let labels = metadata.labels.get_or_insert_default();
    labels.insert("pod-security.kubernetes.io/enforce".to_owned(), "restricted".to_owned());
    Object::of(&Namespace {
        metadata,
        ..Namespace::default()
    })
}

fn header(pods: &Pods<'_>, name: &str) -> Vec<String> {
    let (workload, namespace) = (pods.name(), pods.namespace);
    let mut lines = vec![
        format!("Observes as {workload} in {namespace}, and in {CONTROL} without a lock, for `sluicegate verify`."),
        "Generated by `sluicegate generate verify-jobs`, with the policy and the targets of that moment.".to_owned(),
        "A Job runs once: to run it again, delete it and apply this file again, as an owner of the lock.".to_owned(),
        format!("  kubectl wait --for=condition=complete --timeout=5m job/{name} -n {namespace}"),
        format!("  kubectl wait --for=condition=complete --timeout=5m job/{name} -n {CONTROL}"),
        format!("  kubectl logs job/{name} -n {namespace} > inside.json"),
        format!("  kubectl logs job/{name} -n {CONTROL} > control.json"),
        "  sluicegate verify --policy POLICY --inside inside.json --control control.json".to_owned(),
        "To remove it:".to_owned(),
        format!("  kubectl delete jobs,configmaps {name} -n {namespace}"),
        format!("  kubectl delete namespace {CONTROL}"),
        String::new(),
        format!("The pod inside carries the labels of {workload}, so that its policies are in force for it. It never becomes"),
        "ready, so that no Service sends it anything; but a Service with `publishNotReadyAddresses: true` names it, and".to_owned(),
        "a headless one of that kind does so in DNS: pause such a Service's clients for the minute.".to_owned(),
    ];
    if pods.workload.identity.value == Identity::Workload {
        lines.push(format!(
            "Its token request needs the ServiceAccount that is federated: --service-account, the one of {workload}."
        ));
    }
    lines
}

const PREFIX: &str = "sluicegate-verify-";
/// Of a Job, as its pods carry its name in a label.
const LONGEST: usize = 63;
const CONTROL: &str = "sluicegate-verify";
/// Of Microsoft Entra Workload ID.
const FEDERATED: &str = "azure.workload.identity/use";
const TARGETS: &str = "targets.json";
const CONFIG_MAP: usize = 1024 * 1024;
/// Of a file's name, as much as its key shows.
const STEM: usize = 40;
/// As the image's.
const USER: i64 = 65532;

#[cfg(test)]
mod tests;
