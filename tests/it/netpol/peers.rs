//! Whom a policy names: pods by labels, addresses as the engine reads them, entities.
//! Must not know directions or ports.
//! Called by the evaluator. Sources: kubernetes.io "Network Policies"; docs.cilium.io "Layer 3 Policies".

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::Range;

/// A cluster as far as policies see it.
#[derive(Clone, Debug)]
pub struct World {
    pub engine: Engine,
    pub pods: Vec<Pod>,
    pub nodes: Vec<IpAddr>,
    pub api_server: Vec<IpAddr>,
}

#[derive(Clone, Debug)]
pub struct Pod {
    pub name: &'static str,
    pub namespace: &'static str,
    pub labels: BTreeMap<String, String>,
    pub addresses: Vec<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Cilium,
    Calico,
    AzureNpm,
}

impl Pod {
    pub fn new(name: &'static str, namespace: &'static str, labels: &[(&str, &str)], address: &str) -> Self {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Self {
            name,
            namespace,
            labels: labels.collect(),
            addresses: vec![address.parse().unwrap()],
        }
    }
}

impl World {
    /// The addresses that the peers of one rule stand for. Absent and empty mean everybody.
    pub(super) fn peers(&self, peers: Option<&[NetworkPolicyPeer]>, namespace: &str) -> Option<Vec<Range>> {
        let peers = peers.filter(|peers| !peers.is_empty())?;
        Some(peers.iter().flat_map(|peer| self.peer(peer, namespace)).collect())
    }

    /// What Cilium calls an entity.
    pub(super) fn entity(&self, name: &str) -> Vec<IpAddr> {
        match name {
            "host" => self.nodes.clone(),
            "kube-apiserver" => self.api_server.clone(),
            other => panic!("the entity {other}"),
        }
    }

    fn peer(&self, peer: &NetworkPolicyPeer, namespace: &str) -> Vec<Range> {
        match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
            (Some(block), None, None) => {
                let parse = |text: &String| text.parse::<IpNet>().unwrap();
                let cidr = parse(&block.cidr);
                let mut except: Vec<_> = block.except.iter().flatten().map(parse).collect();
                for hole in &except {
                    assert!(cidr.contains(hole), "the API server refuses {hole} in {cidr}");
                }
                if self.engine == Engine::Cilium {
                    // Addresses that Cilium gives an identity are never selected by a range.
                    let pods = self.pods.iter().flat_map(|pod| &pod.addresses);
                    let own = pods.chain(&self.nodes).map(|address| IpNet::from(*address));
                    except.extend(own.filter(|own| cidr.contains(own)));
                }
                vec![Range { cidr, except }]
            }
            (None, namespaces, pods) => {
                assert!(namespaces.is_some() || pods.is_some(), "a peer that names nobody");
                let selected = self.pods.iter().filter(|pod| {
                    let home = namespaces.as_ref().map_or(pod.namespace == namespace, |selector| {
                        let name = ("kubernetes.io/metadata.name".to_owned(), pod.namespace.to_owned());
                        selects(selector, &[name].into())
                    });
                    home && pods.as_ref().is_none_or(|selector| selects(selector, &pod.labels))
                });
                selected
                    .flat_map(|pod| &pod.addresses)
                    .copied()
                    .map(Range::from)
                    .collect()
            }
            _ => panic!("an ipBlock beside a selector: the API server refuses it"),
        }
    }
}

/// An empty selector selects everything.
pub(super) fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let mut exact = selector.match_labels.iter().flatten();
    let mut terms = selector.match_expressions.iter().flatten();
    exact.all(|(key, value)| labels.get(key) == Some(value)) && terms.all(|term| holds(term, labels))
}

fn holds(term: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let label = labels.get(&term.key);
    let listed = label.is_some_and(|label| term.values.iter().flatten().any(|value| value == label));
    match term.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => label.is_some(),
        "DoesNotExist" => label.is_none(),
        other => panic!("the operator {other}"),
    }
}
