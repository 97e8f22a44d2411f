//! What NetworkPolicies mean: from the generated text to who may open a connection to whom, with each engine's reading
//! of it. Must not use anything of the generators; it is written from the documentation of Kubernetes and the engines.
//! Called by the lab, which enforces the outcome with nftables, and tested here against tables.

mod nft;
mod peers;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

pub use peers::{Engine, Pod, World};

/// The ways of each pod, in the order of the world's pods.
#[derive(Debug)]
pub struct Ways<'w> {
    world: &'w World,
    pods: Vec<PodWays>,
}

/// `None`: no policy selects the pod for that direction, so everything passes.
#[derive(Debug, Default)]
struct PodWays {
    egress: Option<Vec<Way>>,
    ingress: Option<Vec<Way>>,
}

/// Some addresses on some ports.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Way {
    /// `None`: every address.
    peers: Option<Vec<Range>>,
    /// `None`: every protocol and port.
    ports: Option<Vec<Ports>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    cidr: IpNet,
    except: Vec<IpNet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ports {
    protocol: Protocol,
    first: u16,
    last: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl<'w> Ways<'w> {
    /// Reads YAML documents; what is no policy is passed over, and a policy that is not understood fails the test.
    pub fn of(texts: &[String], world: &'w World) -> Self {
        let mut ways = Self {
            world,
            pods: world.pods.iter().map(|_| PodWays::default()).collect(),
        };
        for text in texts {
            let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
            for document in documents {
                match document["kind"].as_str() {
                    Some("NetworkPolicy") => ways.add(&serde_json::from_value(document).unwrap()),
                    Some("CiliumNetworkPolicy") if world.engine == Engine::Cilium => ways.add_entities(&document),
                    Some("CiliumNetworkPolicy") => panic!("a Cilium policy for another engine: {document}"),
                    _ => {}
                }
            }
        }
        ways
    }

    /// Whether a connection from one address to another may be opened, as the two policies of its ends say. An address
    /// that is no pod's has no policy.
    pub fn allow(&self, from: IpAddr, to: IpAddr, protocol: Protocol, port: u16) -> bool {
        if self.world.engine == Engine::AzureNpm && from.is_ipv6() {
            return true;
        }
        let of = |address: IpAddr| {
            let pod = self.world.pods.iter().position(|pod| pod.addresses.contains(&address));
            pod.map(|pod| &self.pods[pod])
        };
        let passes = |ways: Option<&Vec<Way>>, peer| {
            ways.is_none_or(|ways| ways.iter().any(|way| way.covers(peer, protocol, port)))
        };
        // A node always reaches its own pods, and policies never see it.
        let into = of(to).filter(|_| !self.world.nodes.contains(&from));
        passes(of(from).and_then(|pod| pod.egress.as_ref()), to)
            && passes(into.and_then(|pod| pod.ingress.as_ref()), from)
    }

    fn add(&mut self, policy: &NetworkPolicy) {
        let namespace = policy.metadata.namespace.as_deref().expect("a namespace");
        let spec = policy.spec.as_ref().expect("a spec");
        let types = spec.policy_types.as_deref().expect("policy types are written out");
        let subject = spec.pod_selector.as_ref().expect("a pod selector is written out");
        for (number, pod) in self.world.pods.iter().enumerate() {
            if pod.namespace != namespace || !peers::selects(subject, &pod.labels) {
                continue;
            }
            let ways = &mut self.pods[number];
            if types.iter().any(|kind| kind == "Egress") {
                let rules = spec.egress.iter().flatten();
                ways.egress.get_or_insert_default().extend(rules.map(|rule| Way {
                    peers: self.world.peers(rule.to.as_deref(), namespace),
                    ports: ports(rule.ports.as_deref()),
                }));
            }
            if types.iter().any(|kind| kind == "Ingress") {
                let rules = spec.ingress.iter().flatten();
                ways.ingress.get_or_insert_default().extend(rules.map(|rule| Way {
                    peers: self.world.peers(rule.from.as_deref(), namespace),
                    ports: ports(rule.ports.as_deref()),
                }));
            }
        }
    }

    /// A CiliumNetworkPolicy of the one shape that is generated: egress to entities, on ports.
    fn add_entities(&mut self, document: &Value) {
        let policy: cilium::Policy = serde_json::from_value(document.clone()).unwrap();
        for (number, pod) in self.world.pods.iter().enumerate() {
            let labels = &policy.spec.endpoint_selector.match_labels;
            let selected = labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
            if pod.namespace != policy.metadata.namespace || !selected {
                continue;
            }
            for rule in &policy.spec.egress {
                let entities = rule.to_entities.iter().flat_map(|entity| self.world.entity(entity));
                let ports = rule.to_ports.iter().flat_map(|ports| &ports.ports).map(|port| Ports {
                    protocol: protocol(&port.protocol),
                    first: port.port.parse().unwrap(),
                    last: port.port.parse().unwrap(),
                });
                self.pods[number].egress.get_or_insert_default().push(Way {
                    peers: Some(entities.map(Range::from).collect()),
                    ports: Some(ports.collect()),
                });
            }
        }
    }
}

impl Way {
    fn covers(&self, peer: IpAddr, protocol: Protocol, port: u16) -> bool {
        let addresses = self.peers.as_ref();
        let ports = self.ports.as_ref();
        addresses.is_none_or(|ranges| ranges.iter().any(|range| range.holds(peer)))
            && ports.is_none_or(|all| {
                all.iter()
                    .any(|ports| ports.protocol == protocol && (ports.first..=ports.last).contains(&port))
            })
    }
}

impl Range {
    fn holds(&self, address: IpAddr) -> bool {
        self.cidr.contains(&address) && !self.except.iter().any(|hole| hole.contains(&address))
    }
}

impl From<IpAddr> for Range {
    fn from(address: IpAddr) -> Self {
        Self {
            cidr: address.into(),
            except: Vec::new(),
        }
    }
}

/// Absent and empty mean every port. Named ports are none of ours.
fn ports(ports: Option<&[NetworkPolicyPort]>) -> Option<Vec<Ports>> {
    let ports = ports.filter(|ports| !ports.is_empty())?;
    let one = |port: &NetworkPolicyPort| {
        let number = match &port.port {
            Some(IntOrString::Int(number)) => Some(u16::try_from(*number).unwrap()),
            Some(IntOrString::String(name)) => panic!("a named port: {name}"),
            None => None,
        };
        let last = port.end_port.map(|last| u16::try_from(last).unwrap());
        Ports {
            protocol: protocol(port.protocol.as_deref().unwrap_or("TCP")),
            first: number.unwrap_or(0),
            last: last.or(number).unwrap_or(u16::MAX),
        }
    };
    Some(ports.iter().map(one).collect())
}

fn protocol(name: &str) -> Protocol {
    match name {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        other => panic!("the protocol {other}"),
    }
}

/// Every key that is understood; another one fails the test.
mod cilium {
    use super::BTreeMap;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    pub struct Policy {
        pub metadata: Metadata,
        pub spec: Spec,
    }

    #[derive(Debug, Deserialize)]
    pub struct Metadata {
        pub namespace: String,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub struct Spec {
        pub endpoint_selector: EndpointSelector,
        pub egress: Vec<Egress>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub struct EndpointSelector {
        #[serde(default)]
        pub match_labels: BTreeMap<String, String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub struct Egress {
        pub to_entities: Vec<String>,
        pub to_ports: Vec<Ports>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Ports {
        pub ports: Vec<Port>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Port {
        pub port: String,
        pub protocol: String,
    }
}
