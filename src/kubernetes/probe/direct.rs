//! Straight past the proxy: the internet, DNS servers outside, metadata, Azure's platform, nodes.
//! Must not count as proof what Azure closes by itself.
//! Called for each workload.

use std::net::{IpAddr, SocketAddr};

use super::{Attempt, Case, Credit, Criterion, Must, Opener, Probe, Target};
use crate::name::HostName;
use crate::policy::document::{Engine, Identity};

pub(super) fn probes(case: &Case<'_>) -> Vec<Probe> {
    let mut probes: Vec<_> = early(case).into_iter().collect();
    probes.extend(internet(case));
    probes.extend(platform(case));
    probes.extend(nodes(case));
    probes.extend(names(case));
    probes
}

/// Some engines open a pod before they close it.
fn early(case: &Case<'_>) -> Option<Probe> {
    let to = *case.targets.public.first()?;
    let tries = case.targets.early;
    let opener = *Opener::of(to.port()).first()?;
    (tries > 0).then(|| Probe {
        id: format!("L13 early {to}"),
        cases: &["L13"],
        criterion: Criterion::LeastEgress,
        attempt: Attempt::Early { to, opener, tries },
        must: Must::BeBlocked(Credit::NeedsControl),
        proves: "the lock is in force from the pod's first moment on".to_owned(),
        advice: "the engine opens new pods before it closes them: let pods start behind an init container that waits, \
                 and report it to the engine's makers"
            .to_owned(),
    })
}

fn internet(case: &Case<'_>) -> Vec<Probe> {
    let targets = case.targets;
    let mut probes = Vec::new();
    let mut outside = |id: String, cases, attempt, credit| {
        probes.push(Probe {
            id,
            cases,
            criterion: Criterion::LeastEgress,
            attempt,
            must: Must::BeBlocked(credit),
            proves: "there is no way to the internet but the proxy, whatever a client makes of its proxy variables"
                .to_owned(),
            advice: NO_LOCK.to_owned(),
        });
    };
    for to in &targets.public {
        outside(format!("L01 tcp {to}"), &["L01", "L09"], tcp(*to), Credit::NeedsControl);
        if to.port() == QUIC {
            let udp = udp(*to, Opener::Quic);
            outside(format!("L02 quic {to}"), &["L02"], udp, Credit::NeedsControl);
        }
    }
    if targets.public.is_empty() {
        let nothing = Attempt::None("no public address was named".to_owned());
        outside("L01 tcp".to_owned(), &["L01", "L09"], nothing, Credit::NeedsControl);
    }
    let dns = targets.public_dns;
    let dot = SocketAddr::new(dns.ip(), DNS_OVER_TLS);
    let over_tcp = Target::at(dns).map(|to| Attempt::Tcp {
        to,
        openers: &[Opener::Dns],
    });
    let over_tcp = over_tcp.unwrap_or_else(|| no_port(dns));
    outside(
        format!("L02 dns/udp {dns}"),
        &["L02"],
        udp(dns, Opener::Dns),
        Credit::NeedsControl,
    );
    outside(format!("L02 dns/tcp {dns}"), &["L02"], over_tcp, Credit::NeedsControl);
    // Few networks leave these open to begin with.
    outside(format!("L02 dot {dot}"), &["L02"], tcp(dot), Credit::Optional);
    outside(
        format!("L02 doq {dot}"),
        &["L02"],
        udp(dot, Opener::Quic),
        Credit::Optional,
    );
    let ntp = targets.public_ntp;
    outside(
        format!("L02 ntp {ntp}"),
        &["L02"],
        udp(ntp, Opener::Ntp),
        Credit::Optional,
    );
    let v6 = targets.public_v6;
    outside(format!("L10 tcp {v6}"), &["L10"], tcp(v6), Credit::Optional);
    for to in &targets.hairpin {
        outside(format!("L18 hairpin {to}"), &["L18"], tcp(*to), Credit::NeedsControl);
    }
    probes.push(ping(case, dns.ip()));
    probes
}

fn ping(case: &Case<'_>, to: IpAddr) -> Probe {
    let npm = case
        .plan
        .cluster
        .engine
        .is_some_and(|engine| engine.value == Engine::AzureNpm);
    let must = if npm {
        Must::BeSaid
    } else {
        Must::BeBlocked(Credit::Optional)
    };
    Probe {
        id: format!("L11 icmp {to}"),
        cases: &["L11"],
        criterion: Criterion::LeastEgress,
        attempt: Attempt::Ping { to },
        must,
        proves: "pings, which can carry data, do not leave either".to_owned(),
        advice:
            "NetworkPolicies name TCP, UDP and SCTP only; what becomes of ICMP is the engine's choice (azure-npm lets \
                 it pass): close it in the subnet's network security group"
                .to_owned(),
    }
}

fn platform(case: &Case<'_>) -> Vec<Probe> {
    let metadata = case.targets.metadata;
    let takes_identity = case.pods.workload.identity.value == Identity::Imds;
    let to_metadata = Target::at(metadata).map_or_else(
        || no_port(metadata),
        |to| Attempt::Tcp {
            to,
            openers: &[Opener::Metadata],
        },
    );
    let mut probes = vec![Probe {
        id: format!("L03 metadata {metadata}"),
        cases: &["L03"],
        criterion: if takes_identity {
            Criterion::Identities
        } else {
            Criterion::LeastEgress
        },
        attempt: to_metadata,
        must: if takes_identity {
            Must::Work
        } else {
            Must::BeBlocked(Credit::NeedsControl)
        },
        proves: if takes_identity {
            "the node's identity can be used, as `identity: imds` says".to_owned()
        } else {
            "no pod of this workload takes the identity of its node".to_owned()
        },
        advice: if takes_identity {
            "apply the generated policies; the metadata service must answer on the node".to_owned()
        } else {
            NO_LOCK.to_owned()
        },
    }];
    for (port, openers) in [(80, &[Opener::Http]), (32526, &[Opener::Http])] {
        let to = SocketAddr::new(case.targets.wire_server, port);
        probes.push(Probe {
            id: format!("L04 wireserver {to}"),
            cases: &["L04"],
            criterion: Criterion::LeastEgress,
            attempt: Target::at(to).map_or_else(|| no_port(to), |to| Attempt::Tcp { to, openers }),
            must: Must::BeBlocked(Credit::Optional),
            proves: "Azure's platform address gives nothing to this pod; AKS blocks it by itself".to_owned(),
            advice: NO_LOCK.to_owned(),
        });
    }
    probes
}

fn nodes(case: &Case<'_>) -> Vec<Probe> {
    let targets = case.targets;
    let own = targets.own_node;
    let mut probes = Vec::new();
    for node in &targets.nodes {
        let credit = Credit::NeedsControl;
        probes.push(node_port(SocketAddr::new(*node, KUBELET), "kubelet", credit, own));
        // Many clusters run no SSH server on their nodes.
        probes.push(node_port(SocketAddr::new(*node, SSH), "ssh", Credit::Optional, own));
    }
    for port in &targets.node_ports {
        probes.push(node_port(*port, "node port", Credit::NeedsControl, own));
    }
    if let Some(own) = own {
        probes.push(node_port(
            SocketAddr::new(own, KUBELET),
            "kubelet",
            Credit::Optional,
            Some(own),
        ));
    }
    if targets.nodes.is_empty() && targets.node_ports.is_empty() {
        probes.push(Probe {
            id: "L05 nodes".to_owned(),
            cases: &["L05"],
            criterion: Criterion::LeastEgress,
            attempt: Attempt::None("no node was named".to_owned()),
            must: Must::BeBlocked(Credit::NeedsControl),
            proves: "kubelets and other servers of nodes are closed to this workload".to_owned(),
            advice: "name nodes with --node, also to `generate verify-jobs`: `kubectl get nodes -o wide` lists their \
                     addresses"
                .to_owned(),
        });
    }
    probes
}

fn node_port(to: SocketAddr, what: &str, credit: Credit, own: Option<IpAddr>) -> Probe {
    if own == Some(to.ip()) {
        return Probe {
            // Each pod has an own node of its own, so the address is no part of it.
            id: format!("L05 own node {what} {}", to.port()),
            cases: &["L05"],
            criterion: Criterion::LeastEgress,
            attempt: tcp(to),
            must: Must::BeSaid,
            proves: "the pod's own node is closed to it".to_owned(),
            advice: "no NetworkPolicy covers a pod's own node: the kubelet must ask who calls (AKS does), and nothing \
                     else on a node may trust its pods"
                .to_owned(),
        };
    }
    Probe {
        id: format!("L05 {what} {to}"),
        cases: &["L05"],
        criterion: Criterion::LeastEgress,
        attempt: tcp(to),
        must: Must::BeBlocked(credit),
        proves: "kubelets and other servers of nodes are closed to this workload".to_owned(),
        advice: NO_LOCK.to_owned(),
    }
}

/// Names that are asked carry data out, wherever they end.
fn names(case: &Case<'_>) -> Option<Probe> {
    let name = HostName::parse(case.targets.outside_name.as_bytes()).ok()?;
    Some(Probe {
        id: format!("L12 names {name}"),
        cases: &["L12"],
        criterion: Criterion::LeastEgress,
        attempt: Attempt::Lookup { name },
        must: Must::BeSaid,
        proves: "names outside the cluster are not asked for through its DNS".to_owned(),
        advice:
            "a question for SECRET.attacker.example reaches its owner through the cluster's DNS: let it answer only \
                 the cluster's own names, as clients of a proxy need no others"
                .to_owned(),
    })
}

fn tcp(to: SocketAddr) -> Attempt {
    Target::at(to).map_or_else(
        || no_port(to),
        |to| Attempt::Tcp {
            openers: Opener::of(to.port.number()),
            to,
        },
    )
}

fn udp(to: SocketAddr, opener: Opener) -> Attempt {
    Attempt::Udp { to, opener }
}

fn no_port(address: SocketAddr) -> Attempt {
    Attempt::None(format!("`{address}` has no port"))
}

/// What is wrong where something is open.
pub(super) const NO_LOCK: &str = "see that the generated policies are applied in this namespace, that something enforces \
                                  them (`az aks show --query networkProfile.networkPolicy`), and that no other policy \
                                  opens more: `kubectl get networkpolicies -n NAMESPACE`";
const KUBELET: u16 = 10250;
const SSH: u16 = 22;
const DNS_OVER_TLS: u16 = 853;
/// What browsers and clients speak it on.
const QUIC: u16 = 443;
