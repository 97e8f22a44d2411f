//! No root, no namespaces of the host, no privileges: in every namespace but those of the system.
//! Must not wait for anyone to ask for it, nor take silence for consent: not to be root must be written.
//! Called once for each set of admission rules. Pod Security `restricted` comes on top where a namespace is locked.

use super::rule::{CREATE, Rule, UPDATE, not_in_namespaces, resources};

/// The rule. Pods of every origin pass it when they are created; ephemeral containers are added later.
pub(super) fn no_root(system_namespaces: &[&str]) -> Rule {
    Rule {
        name: "sluicegate-no-root".to_owned(),
        purpose: "nothing runs as root or with the host's privileges outside the system's namespaces".to_owned(),
        namespaces: Some(not_in_namespaces(system_namespaces)),
        resources: vec![
            resources("", "v1", &["pods"], &[CREATE]),
            resources("", "v1", &["pods/ephemeralcontainers"], &[UPDATE]),
        ],
        conditions: Vec::new(),
        variables: VARIABLES.map(|(name, expression)| (name, expression.to_owned())).into(),
        validations: VALIDATIONS
            .map(|(expression, message)| (expression.to_owned(), message.to_owned()))
            .into(),
    }
}

const VARIABLES: [(&str, &str); 3] = [
    (
        "containers",
        "object.spec.containers\
         + (has(object.spec.initContainers) ? object.spec.initContainers : [])\
         + (has(object.spec.ephemeralContainers) ? object.spec.ephemeralContainers : [])",
    ),
    (
        "podNonRoot",
        "has(object.spec.securityContext) && has(object.spec.securityContext.runAsNonRoot) \
         && object.spec.securityContext.runAsNonRoot",
    ),
    // The kubelet starts a pod only on nodes of the system that it names; there the rest has no meaning.
    ("windows", "has(object.spec.os) && object.spec.os.name == 'windows'"),
];

const VALIDATIONS: [(&str, &str); 9] = [
    (
        "(!has(object.spec.hostNetwork) || !object.spec.hostNetwork) && (!has(object.spec.hostPID) || \
         !object.spec.hostPID) && (!has(object.spec.hostIPC) || !object.spec.hostIPC)",
        "hostNetwork, hostPID and hostIPC are for the system's namespaces: a pod on the host's network passes no policy",
    ),
    (
        "variables.containers.all(c, !has(c.securityContext) || !has(c.securityContext.privileged) || \
         !c.securityContext.privileged)",
        "privileged containers are for the system's namespaces",
    ),
    (
        "variables.containers.all(c, has(c.securityContext) && has(c.securityContext.runAsNonRoot) ? \
         c.securityContext.runAsNonRoot : variables.podNonRoot)",
        "nothing runs as root: write securityContext.runAsNonRoot: true for the pod, or for each container",
    ),
    (
        "!has(object.spec.securityContext) || !has(object.spec.securityContext.runAsUser) || \
         object.spec.securityContext.runAsUser != 0",
        "nothing runs as root: securityContext.runAsUser of the pod is 0",
    ),
    (
        "variables.containers.all(c, !has(c.securityContext) || !has(c.securityContext.runAsUser) || \
         c.securityContext.runAsUser != 0)",
        "nothing runs as root: securityContext.runAsUser of a container is 0",
    ),
    (
        "variables.windows || variables.containers.all(c, has(c.securityContext) && \
         has(c.securityContext.allowPrivilegeEscalation) && !c.securityContext.allowPrivilegeEscalation)",
        "nothing becomes root: write securityContext.allowPrivilegeEscalation: false for each container",
    ),
    (
        "variables.containers.all(c, !has(c.securityContext) || !has(c.securityContext.capabilities) || \
         !has(c.securityContext.capabilities.add) || c.securityContext.capabilities.add.all(added, added == \
         'NET_BIND_SERVICE'))",
        "the only capability that may be added is NET_BIND_SERVICE",
    ),
    (
        "(!has(object.spec.securityContext) || !has(object.spec.securityContext.windowsOptions) || \
         !has(object.spec.securityContext.windowsOptions.hostProcess) || \
         !object.spec.securityContext.windowsOptions.hostProcess) && variables.containers.all(c, \
         !has(c.securityContext) || !has(c.securityContext.windowsOptions) || \
         !has(c.securityContext.windowsOptions.hostProcess) || !c.securityContext.windowsOptions.hostProcess)",
        "Windows hostProcess containers are for the system's namespaces",
    ),
    (
        "!has(object.spec.volumes) || object.spec.volumes.all(volume, !has(volume.hostPath))",
        "hostPath volumes are for the system's namespaces: with group 0 the socket of the container runtime is root",
    ),
];
