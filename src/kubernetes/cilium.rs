//! CiliumNetworkPolicies: ways to what Cilium calls entities and no `ipBlock` ever selects (the node, the API server).
//! Must not use more than plain L3 and L4; names and HTTP belong to the proxy.
//! Called by the lock of a namespace where the engine is Cilium. Source: docs.cilium.io, "Layer 3 Policies", entities.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::object::{Object, metadata};
use super::selector::Subject;

/// What Cilium knows by other means than addresses.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entity {
    /// The pod's own node; LocalDNS and node-local DNS listen there.
    Host,
    KubeApiserver,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

/// A policy that opens an entity.
pub(super) fn to_entity(
    namespace: &str,
    name: impl Into<String>,
    purpose: impl Into<String>,
    subject: Subject<'_>,
    entity: Entity,
    ports: &[(u16, Protocol)],
) -> Object {
    let match_labels = match subject {
        Subject::EveryPod => BTreeMap::new(),
        Subject::Pods(labels) => labels.clone(),
    };
    let ports = ports.iter().map(|(port, protocol)| Port {
        port: port.to_string(),
        protocol: match protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        },
    });
    Object::of(&CiliumNetworkPolicy {
        api_version: "cilium.io/v2",
        kind: "CiliumNetworkPolicy",
        metadata: metadata(namespace, name, purpose),
        spec: Spec {
            endpoint_selector: EndpointSelector { match_labels },
            egress: [Egress {
                to_entities: [match entity {
                    Entity::Host => "host",
                    Entity::KubeApiserver => "kube-apiserver",
                }],
                to_ports: [Ports { ports: ports.collect() }],
            }],
        },
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CiliumNetworkPolicy {
    api_version: &'static str,
    kind: &'static str,
    metadata: ObjectMeta,
    spec: Spec,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    endpoint_selector: EndpointSelector,
    egress: [Egress; 1],
}

/// Without labels it selects every pod of the namespace, and is written as `{}`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointSelector {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    match_labels: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Egress {
    to_entities: [&'static str; 1],
    to_ports: [Ports; 1],
}

#[derive(Debug, Serialize)]
struct Ports {
    ports: Vec<Port>,
}

/// Cilium writes ports as text.
#[derive(Debug, Serialize)]
struct Port {
    port: String,
    protocol: &'static str,
}
