//! The lock of one namespace: everything closed, then DNS, the proxy, and what each of its workloads may do.
//! Must not open a way that the policy file does not name.
//! Called once for each locked namespace.

use std::net::{IpAddr, Ipv4Addr};

use super::cilium::{self, Entity, Protocol};
use super::engine::LOCAL_DNS_OF_VNET;
use super::object::{File, Form, Object};
use super::plan::{Namespace, Plan, Pods};
use super::selector::{self, Subject, block, default_deny, tcp, udp_and_tcp, way_out};
use super::{ProxyPorts, edges, engine};
use crate::policy::document::{Engine, Identity, address};
use crate::policy::problem::Problems;

/// The policies of a namespace.
pub(super) fn file(
    namespace: &Namespace<'_>,
    plan: &Plan<'_>,
    engine: Engine,
    proxy: &ProxyPorts,
    problems: &mut Problems<'_>,
) -> File {
    let mut objects = vec![default_deny(namespace.name)];
    objects.extend(dns(namespace.name, engine));
    for pods in &namespace.workloads {
        let ways = Ways { pods, plan, engine };
        objects.push(ways.to_proxy(proxy));
        objects.extend(ways.to_databases(problems));
        objects.extend(ways.to_metadata(problems));
        objects.extend(ways.to_api_server(problems));
        let edges = || plan.edges.iter();
        objects.extend(edges().filter(|edge| edge.from.name() == pods.name()).map(edges::out));
        objects.extend(edges().filter(|edge| edge.to.name() == pods.name()).map(edges::into));
        objects.extend(edges::from_outside(pods, plan, engine, problems));
    }
    File {
        path: format!("network-policies/{}.yaml", namespace.name),
        header: engine::header(&format!("The lock of the namespace {}.", namespace.name), engine),
        objects,
        form: Form::Applied,
    }
}

/// To the cluster's DNS and to no other, in either protocol.
fn dns(namespace: &str, engine: Engine) -> Vec<Object> {
    let servers = [("k8s-app".to_owned(), "kube-dns".to_owned())];
    let mut ways = vec![way_out(
        vec![selector::pods("kube-system", &servers.into())],
        udp_and_tcp(DNS),
    )];
    let purpose = "names may be asked of the cluster's DNS";
    let mut objects = Vec::new();
    match engine {
        Engine::Calico | Engine::AzureNpm => {
            let local = LOCAL_DNS.iter().map(|address| block(IpAddr::V4(*address).into(), &[]));
            ways.push(way_out(local.collect(), udp_and_tcp(DNS)));
        }
        Engine::Cilium => objects.push(cilium::to_entity(
            namespace,
            "sluicegate-local-dns",
            "names may be asked of the resolver on the pod's own node (LocalDNS, node-local DNS)",
            Subject::EveryPod,
            Entity::Host,
            &[(DNS, Protocol::Udp), (DNS, Protocol::Tcp)],
        )),
    }
    objects.insert(
        0,
        selector::egress(namespace, "sluicegate-dns", purpose, Subject::EveryPod, ways),
    );
    objects
}

/// The ways of one workload out of its namespace.
struct Ways<'a, 'd> {
    pods: &'a Pods<'d>,
    plan: &'a Plan<'d>,
    engine: Engine,
}

impl Ways<'_, '_> {
    /// The port that is its identity, and no other; or those that workloads without one share.
    fn to_proxy(&self, ports: &ProxyPorts) -> Object {
        let proxy = &self.plan.cluster.proxy;
        let (ports, purpose) = match self.pods.workload.port {
            Some(own) => (vec![tcp(own.value.number())], "may use its own port of the proxy"),
            None => (
                ports.shared.iter().map(|port| tcp(*port)).collect(),
                "may use the proxy's shared ports",
            ),
        };
        let peer = selector::pods(&proxy.namespace, &proxy.pods);
        self.egress("proxy", purpose, vec![way_out(vec![peer], ports)])
    }

    /// Straight past the proxy: exact addresses and ports.
    fn to_databases(&self, problems: &mut Problems<'_>) -> Option<Object> {
        let networks = &self.plan.cluster.networks;
        let mut direct = Vec::new();
        for way in &self.pods.workload.direct {
            let address = way.value.ip().into();
            let inside = |own: &[crate::policy::problem::At<ipnet::IpNet>]| {
                own.iter().any(|own| address::overlap(own.value, address))
            };
            if inside(&networks.pods) || inside(&networks.services) {
                problems
                    .error(way.at, format!("`{}` is inside the cluster", way.value))
                    .help(
                        "name the workload in `calls`: pods are selected by labels, and Services are translated first",
                    );
            } else if way.value.port() == DNS {
                problems
                    .error(way.at, format!("`{}` is a DNS server", way.value))
                    .help("names are asked of the cluster's DNS alone: let it forward the zones of that server");
            } else if Some(way.value.ip()) == self.plan.cluster.proxy.address.map(|proxy| proxy.value.ip()) {
                problems
                    .error(way.at, format!("`{}` is the proxy of the nodes", way.value))
                    .help("remove it: there this workload would come in as a node, and have a node's ways");
            } else if inside(&self.plan.cluster.api_server_addresses) {
                problems
                    .error(way.at, format!("`{}` is the API server", way.value))
                    .help("write `api_server: allow` if this workload must reach it");
            } else if !engine::is_covered(address, self.engine) {
                problems
                    .error(
                        way.at,
                        format!("`{}` is IPv6, which azure-npm does not filter", way.value),
                    )
                    .help("write its IPv4 address");
            } else {
                direct.push(way.value);
            }
            if inside(&networks.nodes) {
                problems
                    .warning(way.at, format!("`{}` is in the network of the nodes", way.value))
                    .help("a private endpoint belongs in a subnet of its own; under cilium a node's address is never opened");
            }
        }
        direct.sort_unstable();
        direct.dedup();
        let ways = direct
            .iter()
            .map(|way| way_out(vec![block(way.ip().into(), &[])], vec![tcp(way.port())]));
        let ways: Vec<_> = ways.collect();
        (!ways.is_empty()).then(|| self.egress("direct", "may go straight to these addresses, past the proxy", ways))
    }

    fn to_metadata(&self, problems: &mut Problems<'_>) -> Option<Object> {
        let identity = &self.pods.workload.identity;
        if identity.value != Identity::Imds {
            return None;
        }
        problems
            .warning(
                identity.at,
                format!("`{}` can take the identity of its node", self.pods.name()),
            )
            .help("`identity: workload` gives it one of its own (Microsoft Entra Workload ID)");
        let metadata = block(IpAddr::V4(METADATA).into(), &[]);
        Some(self.egress(
            "metadata",
            "may ask for tokens of its node's identity",
            vec![way_out(vec![metadata], vec![tcp(80)])],
        ))
    }

    fn to_api_server(&self, problems: &mut Problems<'_>) -> Option<Object> {
        if !self.pods.workload.api_server {
            return None;
        }
        let purpose = "may reach the API server, past the proxy";
        if self.engine == Engine::Cilium {
            return Some(cilium::to_entity(
                self.pods.namespace,
                self.name("api-server"),
                format!("{} {purpose}", self.pods.name()),
                Subject::Pods(&self.pods.workload.pods),
                Entity::KubeApiserver,
                &[(443, Protocol::Tcp)],
            ));
        }
        let addresses = &self.plan.cluster.api_server_addresses;
        if addresses.is_empty() {
            problems
                .error(
                    self.pods.at,
                    format!("`{}` may reach the API server, whose addresses are not known", self.pods.name()),
                )
                .help("add `api_server_addresses: [20.50.1.2/32]` to `cluster` (`az aks show --query fqdn`, then its addresses)");
            return None;
        }
        let covered = addresses.iter().map(|range| range.value);
        let covered = covered.filter(|range| engine::is_covered(*range, self.engine));
        let peers: Vec<_> = covered.map(|range| block(range, &[])).collect();
        if peers.is_empty() {
            // No list of peers is everybody; and this engine lets IPv6 through as it is.
            return None;
        }
        Some(self.egress("api-server", purpose, vec![way_out(peers, vec![tcp(443)])]))
    }

    fn egress(
        &self,
        to: &str,
        purpose: &str,
        ways: Vec<k8s_openapi::api::networking::v1::NetworkPolicyEgressRule>,
    ) -> Object {
        selector::egress(
            self.pods.namespace,
            self.name(to),
            format!("{} {purpose}", self.pods.name()),
            Subject::Pods(&self.pods.workload.pods),
            ways,
        )
    }

    /// `to` stands behind a word that no edge has, so that no workload's name can clash with it.
    fn name(&self, to: &str) -> String {
        format!("sluicegate-{}-way-{to}", self.pods.name())
    }
}

const DNS: u16 = 53;
/// AKS LocalDNS (its resolver for the `VNet` and the one for the cluster), and Kubernetes' node-local DNS.
const LOCAL_DNS: [Ipv4Addr; 3] = [
    LOCAL_DNS_OF_VNET,
    Ipv4Addr::new(169, 254, 10, 11),
    Ipv4Addr::new(169, 254, 20, 10),
];
/// Azure Instance Metadata Service.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
