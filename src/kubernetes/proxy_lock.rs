//! The lock of the proxy's own namespace: its ports from those whose they are, and the world without the cluster.
//! Must not open the admin port to anyone, nor the world inside the cluster.
//! Called once for each set of policies.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::api::networking::v1::NetworkPolicyEgressRule;

use super::cilium::{self, Entity, Protocol};
use super::engine::LOCAL_DNS_OF_VNET;
use super::object::{File, Form, Object};
use super::plan::{Plan, Pods};
use super::selector::{self, Subject, block, default_deny, namespace, tcp, tcp_range, udp_and_tcp, way_in, way_out};
use super::{Inputs, ProxyPorts, engine};
use crate::name::Port;
use crate::policy::Policy;
use crate::policy::document::{Engine, address};
use crate::policy::problem::{At, Place, Problems};
use crate::policy::rule::Effect;

/// The policies of the proxy's namespace.
pub(super) fn file(plan: &Plan<'_>, engine: Engine, inputs: Inputs<'_>, problems: &mut Problems<'_>) -> File {
    need_networks(plan, problems);
    let mut objects = vec![default_deny(&plan.cluster.proxy.namespace)];
    objects.extend(ways_in(plan, inputs.proxy, problems));
    objects.push(health(plan, inputs.proxy));
    objects.extend(ways_out(plan, engine, inputs));
    let name = &plan.cluster.proxy.namespace;
    File {
        path: format!("network-policies/{name}.yaml"),
        header: engine::header(&format!("The lock of the proxy's own namespace, {name}."), engine),
        objects,
        form: Form::Applied,
    }
}

/// Without them "the world except the cluster" would be the whole world.
fn need_networks(plan: &Plan<'_>, problems: &mut Problems<'_>) {
    let networks = &plan.cluster.networks;
    for (given, key, example) in [
        (!networks.nodes.is_empty(), "networks.nodes", "10.224.0.0/16"),
        (!networks.pods.is_empty(), "networks.pods", "10.244.0.0/16"),
        (!networks.services.is_empty(), "networks.services", "10.0.0.0/16"),
        (
            !plan.cluster.api_server_addresses.is_empty(),
            "api_server_addresses",
            "20.50.1.2/32",
        ),
    ] {
        if !given {
            let at = plan
                .document
                .cluster
                .as_ref()
                .map_or_else(Place::default, |cluster| cluster.at);
            problems
                .error(at, format!("the proxy's own policy needs `cluster.{key}`"))
                .help(format!(
                    "add it to `cluster`, such as `[{example}]`: the proxy may reach the world, not the cluster"
                ));
        }
    }
}

/// Each workload's port from that workload alone; the shared ones from the workloads that have none.
fn ways_in(plan: &Plan<'_>, ports: &ProxyPorts, problems: &mut Problems<'_>) -> Vec<Object> {
    let proxy = &plan.cluster.proxy;
    let mut workloads: Vec<_> = plan.document.workloads.iter().collect();
    workloads.sort_by_key(|workload| &workload.value.name);
    let mut objects = Vec::new();
    let mut sharing = Vec::new();
    for workload in workloads {
        if let Some(own) = workload.value.port {
            refuse_taken(own, &workload.value.name, ports, problems);
        }
        match (Pods::of(workload), workload.value.port) {
            (Some(pods), Some(own)) => objects.push(selector::ingress(
                &proxy.namespace,
                format!("sluicegate-port-of-{}", pods.name()),
                format!("port {} is {}'s and nobody else's", own.value, pods.name()),
                Subject::Pods(&proxy.pods),
                vec![way_in(vec![selector::workload(&pods)], vec![tcp(own.value.number())])],
            )),
            (None, Some(own)) => {
                problems
                    .warning(
                        own.at,
                        format!("no pod may come in on the port of `{}`", workload.value.name),
                    )
                    .help("give the workload `namespace` and `pods`, so that a policy can open its port to it alone");
            }
            (Some(pods), None) if plan.is_locked(pods.namespace) => sharing.push(selector::workload(&pods)),
            _ => {}
        }
    }
    if !sharing.is_empty() {
        let shared = ports.shared.iter().map(|port| tcp(*port)).collect();
        objects.push(selector::ingress(
            &proxy.namespace,
            "sluicegate-shared-ports",
            "workloads without a port of their own may use the shared ones",
            Subject::Pods(&proxy.pods),
            vec![way_in(sharing, shared)],
        ));
    }
    objects
}

/// Ports where the proxy's pods cannot listen, or where someone else already comes in.
fn refuse_taken(own: At<Port>, name: &str, ports: &ProxyPorts, problems: &mut Problems<'_>) {
    let number = own.value.number();
    let why = if number < UNPRIVILEGED {
        "the proxy's pods have no privileges, so they cannot listen there"
    } else if ports.shared.contains(&number) {
        "it is a listener that workloads share"
    } else if number == ports.health {
        "it is the port for probes and monitoring"
    } else {
        return;
    };
    problems
        .error(own.at, format!("port {number} cannot be that of `{name}`: {why}"))
        .help("write a free port from 1024 on, such as 3201");
}

/// Monitoring; the kubelet's probes need no rule. A workload called `monitoring` says who scrapes.
fn health(plan: &Plan<'_>, ports: &ProxyPorts) -> Object {
    let scraper = plan.document.workload(MONITORING).and_then(Pods::of);
    let peer = scraper.map_or_else(|| namespace(MONITORING), |pods| selector::workload(&pods));
    selector::ingress(
        &plan.cluster.proxy.namespace,
        "sluicegate-monitoring",
        "monitoring may read what the proxy counts",
        Subject::Pods(&plan.cluster.proxy.pods),
        vec![way_in(vec![peer], vec![tcp(ports.health)])],
    )
}

fn ways_out(plan: &Plan<'_>, engine: Engine, inputs: Inputs<'_>) -> Vec<Object> {
    let closed = closed(plan);
    let mut ways = Vec::new();
    for world in [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())] {
        if engine::is_covered(world, engine) {
            let except: Vec<_> = closed.iter().filter(|range| world.contains(*range)).copied().collect();
            ways.push(NetworkPolicyEgressRule {
                to: Some(vec![block(world, &except)]),
                ports: None,
            });
        }
    }
    let servers = match &*inputs.proxy.dns {
        [] => NODE_DNS.to_vec(),
        named => named.to_vec(),
    };
    // On the pod's own node, where Cilium sees no addresses.
    let is_local = |server: &SocketAddr| engine == Engine::Cilium && LINK_LOCAL.contains(&IpNet::from(server.ip()));
    let (local, remote): (Vec<_>, Vec<_>) = servers.into_iter().partition(is_local);
    for server in remote {
        if engine::is_covered(server.ip().into(), engine) {
            ways.push(way_out(
                vec![block(server.ip().into(), &[])],
                udp_and_tcp(server.port()),
            ));
        }
    }
    ways.extend(named_ranges(plan, inputs.policy, &closed, engine));
    let mut objects = vec![selector::egress(
        &plan.cluster.proxy.namespace,
        "sluicegate-world",
        "the proxy may reach the world without the cluster, its DNS servers, and the private ranges that rules name",
        Subject::Pods(&plan.cluster.proxy.pods),
        ways,
    )];
    let mut ports: Vec<_> = local.iter().map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    if !ports.is_empty() {
        let both = |port| [(port, Protocol::Udp), (port, Protocol::Tcp)];
        let ports: Vec<_> = ports.into_iter().flat_map(both).collect();
        objects.push(cilium::to_entity(
            &plan.cluster.proxy.namespace,
            "sluicegate-local-dns",
            "the proxy may ask the resolver on its own node (LocalDNS)",
            Subject::Pods(&plan.cluster.proxy.pods),
            Entity::Host,
            &ports,
        ));
    }
    objects
}

/// What the world is taken without, each range once.
fn closed(plan: &Plan<'_>) -> Vec<IpNet> {
    let cluster = plan.cluster.networks.iter().chain(&plan.cluster.api_server_addresses);
    let mut all: Vec<_> = cluster.map(|network| network.value).chain(NEVER).collect();
    all.sort_unstable();
    all.dedup();
    let whole = all.clone();
    all.retain(|range| !whole.iter().any(|other| other != range && other.contains(range)));
    all
}

/// The ranges inside what is closed that rules open, each on the ports of those rules; but never the API server, which
/// `aks/core` opens for nodes: their traffic does not pass a proxy in the cluster. Literal destinations open nothing here:
/// inside the cluster they need `addresses`, and elsewhere they are of the world.
fn named_ranges(plan: &Plan<'_>, policy: &Policy, closed: &[IpNet], engine: Engine) -> Vec<NetworkPolicyEgressRule> {
    let mut ranges: BTreeMap<IpNet, Vec<(u16, u16)>> = BTreeMap::new();
    for rule in policy.rules().iter().filter(|rule| rule.effect == Effect::Allow) {
        for to in &rule.to {
            for range in &rule.addresses {
                ranges
                    .entry(*range)
                    .or_default()
                    .push((*to.ports.start(), *to.ports.end()));
            }
        }
    }
    let api_server = &plan.cluster.api_server_addresses;
    ranges.retain(|range, _| {
        engine::is_covered(*range, engine)
            && closed.iter().any(|closed| address::overlap(*closed, *range))
            && !api_server.iter().any(|server| server.value.contains(range))
    });
    let ways = ranges.into_iter().map(|(range, mut ports)| {
        ports.sort_unstable();
        ports.dedup();
        let ports = ports.into_iter().map(|(first, last)| tcp_range(first, last));
        let except = api_server.iter().map(|server| server.value);
        let mut except: Vec<_> = except.filter(|server| range.contains(server)).collect();
        except.sort_unstable();
        except.dedup();
        way_out(vec![block(range, &except)], ports.collect())
    });
    ways.collect()
}

/// The first port for which nobody needs a privilege. Below stand also 80 and 443, which on the proxy's Service are shared.
const UNPRIVILEGED: u16 = 1024;
/// The namespace that is expected to scrape, and the name of the workload that says otherwise.
const MONITORING: &str = "monitoring";
/// What a node of Azure asks, itself or through LocalDNS. Servers of a network's own are in the world, unless they stand in
/// the subnet of the nodes: then the settings name them.
const NODE_DNS: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(WIRE_SERVER), 53),
    SocketAddr::new(IpAddr::V4(LOCAL_DNS_OF_VNET), 53),
];
const WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
/// Never dialled by the proxy, and closed to it: link-local with the metadata service, and Azure's platform address.
const NEVER: [IpNet; 4] = [
    LINK_LOCAL,
    IpNet::V4(Ipv4Net::new_assert(WIRE_SERVER, 32)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)),
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        128,
    )),
];
const LINK_LOCAL: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16));
