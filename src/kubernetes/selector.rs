//! The pieces that NetworkPolicies are made of: selectors, peers, ports, and the policy around them.
//! Must not know who may reach whom. An absent selector and an empty one read alike, so both are always written.
//! Called by the generators of policies.

use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::object::{Object, metadata};
use super::plan::Pods;
use crate::policy::document::Labels;

/// Whom a policy speaks of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'a> {
    EveryPod,
    Pods(&'a Labels),
}

/// A policy that opens ways out.
pub(super) fn egress(
    namespace: &str,
    name: impl Into<String>,
    purpose: impl Into<String>,
    subject: Subject<'_>,
    to: Vec<NetworkPolicyEgressRule>,
) -> Object {
    Object::of(&NetworkPolicy {
        metadata: metadata(namespace, name, purpose),
        spec: Some(NetworkPolicySpec {
            egress: Some(to),
            ..spec(subject, &["Egress"])
        }),
    })
}

/// A policy that opens ways in.
pub(super) fn ingress(
    namespace: &str,
    name: impl Into<String>,
    purpose: impl Into<String>,
    subject: Subject<'_>,
    from: Vec<NetworkPolicyIngressRule>,
) -> Object {
    Object::of(&NetworkPolicy {
        metadata: metadata(namespace, name, purpose),
        spec: Some(NetworkPolicySpec {
            ingress: Some(from),
            ..spec(subject, &["Ingress"])
        }),
    })
}

/// The policy that closes both directions for every pod of a namespace.
pub(super) fn default_deny(namespace: &str) -> Object {
    Object::of(&NetworkPolicy {
        metadata: metadata(
            namespace,
            "sluicegate-default-deny",
            "nothing comes in and nothing goes out but what another policy opens",
        ),
        spec: Some(spec(Subject::EveryPod, &["Ingress", "Egress"])),
    })
}

fn spec(subject: Subject<'_>, types: &[&str]) -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(match subject {
            Subject::EveryPod => LabelSelector::default(),
            Subject::Pods(labels) => matching(labels),
        }),
        policy_types: Some(types.iter().map(|kind| (*kind).to_owned()).collect()),
        ..NetworkPolicySpec::default()
    }
}

/// One way out: to these peers, on these ports. Both must be named, since an empty list opens everything.
pub(super) fn way_out(to: Vec<NetworkPolicyPeer>, ports: Vec<NetworkPolicyPort>) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule {
        ports: Some(ports),
        to: Some(to),
    }
}

/// One way in; likewise.
pub(super) fn way_in(from: Vec<NetworkPolicyPeer>, ports: Vec<NetworkPolicyPort>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from: Some(from),
        ports: Some(ports),
    }
}

/// Pods of one namespace: both selectors in one peer, so that both must match.
pub(super) fn pods(namespace: &str, labels: &Labels) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(named(namespace)),
        pod_selector: Some(matching(labels)),
        ip_block: None,
    }
}

/// The pods of a workload.
pub(super) fn workload(pods: &Pods<'_>) -> NetworkPolicyPeer {
    self::pods(pods.namespace, &pods.workload.pods)
}

/// Every pod of a namespace.
pub(super) fn namespace(name: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(named(name)),
        pod_selector: Some(LabelSelector::default()),
        ip_block: None,
    }
}

/// Addresses, without some of them.
pub(super) fn block(cidr: IpNet, except: &[IpNet]) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: cidr.to_string(),
            except: (!except.is_empty()).then(|| except.iter().map(IpNet::to_string).collect()),
        }),
        ..NetworkPolicyPeer::default()
    }
}

pub(super) fn tcp(port: u16) -> NetworkPolicyPort {
    protocol("TCP", port)
}

/// The same port of both protocols: DNS, RFC 7766.
pub(super) fn udp_and_tcp(port: u16) -> Vec<NetworkPolicyPort> {
    vec![protocol("UDP", port), protocol("TCP", port)]
}

/// A range, or one port.
pub(super) fn tcp_range(first: u16, last: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        end_port: (last > first).then(|| i32::from(last)),
        ..tcp(first)
    }
}

fn protocol(name: &str, port: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(port))),
        protocol: Some(name.to_owned()),
        end_port: None,
    }
}

fn named(namespace: &str) -> LabelSelector {
    matching(&BTreeMap::from([(NAMESPACE_NAME.to_owned(), namespace.to_owned())]))
}

fn matching(labels: &Labels) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels.clone()),
        match_expressions: None,
    }
}

/// Set by the API server on every namespace, and not to be changed.
pub(super) const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
