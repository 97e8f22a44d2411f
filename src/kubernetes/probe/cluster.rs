//! Inside the cluster: the API server, other workloads, declared calls, databases past the proxy, DNS, the process itself.
//! Must not take a refused call for a closed way where the name was not found.
//! Called for each workload.

use std::net::SocketAddr;

use super::direct::NO_LOCK;
use super::{Attempt, Case, Credit, Criterion, Must, Opener, Probe, Target};
use crate::kubernetes::plan::Pods;
use crate::name::{HostName, Port};

pub(super) fn probes(case: &Case<'_>) -> Vec<Probe> {
    let mut probes = vec![dns(case)];
    probes.extend(api_server(case));
    probes.extend(workloads(case));
    probes.extend(databases(case));
    probes.push(process());
    probes
}

fn dns(case: &Case<'_>) -> Probe {
    let proxy = case.proxy_host();
    // Without a name of the proxy, any name of the cluster will do.
    let name = match proxy.as_ref().and_then(|host| host.name()) {
        Some(name) => Ok(name.clone()),
        None => HostName::parse(b"kubernetes.default.svc.cluster.local"),
    };
    Probe {
        id: "works: DNS".to_owned(),
        cases: &[],
        criterion: Criterion::NamedServices,
        attempt: name.map_or_else(
            |error| Attempt::None(error.to_string()),
            |name| Attempt::Lookup { name },
        ),
        must: Must::BeAnswered,
        proves: "the lock leaves the cluster's DNS open".to_owned(),
        advice:
            "compare the labels of the DNS pods with the policy `sluicegate-dns` (k8s-app: kube-dns in kube-system), \
                 and /etc/resolv.conf of the pod with its addresses"
                .to_owned(),
    }
}

fn api_server(case: &Case<'_>) -> Vec<Probe> {
    let cluster = &case.plan.cluster;
    let mut targets = Vec::new();
    targets.extend(
        case.targets
            .api_server
            .and_then(|to| Some(("Service", Target::at(to)?))),
    );
    let name = cluster.api_server.as_ref();
    targets.extend(name.and_then(|name| Some(("name", Target::of_name(name.value.as_str(), Port::HTTPS)?))));
    let single = cluster
        .api_server_addresses
        .iter()
        .map(|range| range.value)
        .filter(|range| range.prefix_len() == range.max_prefix_len());
    targets.extend(single.filter_map(|range| Some(("address", Target::at(SocketAddr::new(range.addr(), 443))?))));
    let allowed = case.pods.workload.api_server;
    let must = |what| match (allowed, what) {
        (false, _) => Must::BeBlocked(Credit::NeedsControl),
        // Client libraries of pods go through the Service; the generated way may know no other.
        (true, "Service") => Must::Work,
        (true, _) => Must::BeSaid,
    };
    let probe = |id, attempt, must| Probe {
        id,
        cases: &["L06"],
        criterion: Criterion::ApiServer,
        attempt,
        must,
        proves: if allowed {
            "the API server is open to this workload, as `api_server: allow` says".to_owned()
        } else {
            "the API server is out of reach without the proxy".to_owned()
        },
        advice: if allowed {
            "see that the policy of this workload's way to the API server is applied, and that \
             `cluster.api_server_addresses` are the right ones"
                .to_owned()
        } else {
            NO_LOCK.to_owned()
        },
    };
    if targets.is_empty() {
        let nothing = Attempt::None("neither its Service nor `cluster.api_server` is known".to_owned());
        let must = must("Service");
        return vec![Probe {
            advice: "write `cluster.api_server`, run in a pod, or name it with --api-server".to_owned(),
            ..probe("L06 API server".to_owned(), nothing, must)
        }];
    }
    let probes = targets.into_iter().map(|(what, to)| {
        let id = format!("L06 API server by {what} {to}");
        let openers = &[Opener::Tls];
        probe(id, Attempt::Tcp { to, openers }, must(what))
    });
    probes.collect()
}

/// Those that this one calls must answer, all others must not be reached.
fn workloads(case: &Case<'_>) -> Vec<Probe> {
    let others = case.plan.document.workloads.iter().filter_map(Pods::of);
    let mut probes = Vec::new();
    for other in others {
        let edges = &case.plan.edges;
        let called = edges
            .iter()
            .any(|edge| edge.from.name() == case.name() && edge.to.name() == other.name());
        for to in targets(case, &other) {
            probes.push(if called {
                call(case, &other, to)
            } else {
                no_call(case, &other, to)
            });
        }
    }
    probes
}

fn targets(case: &Case<'_>, other: &Pods<'_>) -> Vec<Target> {
    if let Some(named) = case.targets.workloads.get(other.name()) {
        return named.clone();
    }
    let service = format!("{}.{}.svc.cluster.local", other.name(), other.namespace);
    let mut ports: Vec<_> = other.workload.ports.iter().map(|port| port.value).collect();
    ports.sort_unstable();
    let targets = ports.into_iter().filter_map(|port| Target::of_name(&service, port));
    targets.collect()
}

fn call(case: &Case<'_>, other: &Pods<'_>, to: Target) -> Probe {
    let name = other.name();
    let locked = case.plan.is_locked(other.namespace);
    Probe {
        id: format!("L07 {name} {to}"),
        cases: &["L07"],
        criterion: Criterion::NamedServices,
        attempt: Attempt::Tcp {
            openers: Opener::of(to.port.number()),
            to,
        },
        must: if locked { Must::WorkHereOnly } else { Must::Work },
        proves: if locked {
            format!("`{name}` answers, as `calls` says, and not to a pod outside of the locked namespaces")
        } else {
            format!("`{name}` answers, as `calls` says")
        },
        advice: format!(
            "if it does not answer here, see that `{name}` runs with the labels and on the container ports that the \
             policy file names, in both namespaces; --target {name}=ADDRESS:PORT names another Service. If it answers \
             the control, the policies of `{}` are not in force, or another policy there lets anyone in",
            other.namespace
        ),
    }
}

fn no_call(case: &Case<'_>, other: &Pods<'_>, to: Target) -> Probe {
    let name = other.name();
    // Its own lock keeps the control out as well; the observations of one of its callers are a control too.
    let must = if case.plan.is_locked(other.namespace) {
        Must::BeBlockedToBoth
    } else {
        Must::BeBlocked(Credit::NeedsControl)
    };
    Probe {
        id: format!("L07 {name} {to}"),
        cases: &["L07"],
        criterion: Criterion::NamedServices,
        attempt: Attempt::Tcp {
            openers: Opener::of(to.port.number()),
            to,
        },
        must,
        proves: format!("`{name}`, which is not in `calls`, is out of reach"),
        advice: format!(
            "{NO_LOCK}. If `{name}` has another Service, --target {name}=ADDRESS:PORT names it; if it is called, add it \
             to `calls`"
        ),
    }
}

/// Its own must answer, those of others must not.
fn databases(case: &Case<'_>) -> Vec<Probe> {
    let mut own: Vec<_> = case.pods.workload.direct.iter().map(|way| way.value).collect();
    own.sort_unstable();
    let all = case.plan.document.workloads.iter();
    let mut others: Vec<_> = all
        .flat_map(|workload| &workload.value.direct)
        .map(|way| way.value)
        .filter(|way| !own.contains(way))
        .collect();
    others.sort_unstable();
    others.dedup();
    let probe = |way: SocketAddr, must, proves: &str, advice: &str| {
        let to = Target::at(way)?;
        Some(Probe {
            id: format!("direct {to}"),
            cases: &[],
            criterion: Criterion::Sql,
            attempt: Attempt::Tcp {
                openers: Opener::of(way.port()),
                to,
            },
            must,
            proves: proves.to_owned(),
            advice: advice.to_owned(),
        })
    };
    let own = own.into_iter().filter_map(|way| {
        probe(
            way,
            Must::Work,
            "what `direct` names answers, inside the virtual network and past the proxy",
            "see that the private endpoint has this address and that its subnet lets the pods in",
        )
    });
    let others = others.into_iter().filter_map(|way| {
        probe(
            way,
            Must::BeBlocked(Credit::Optional),
            "what `direct` names for other workloads is out of reach for this one",
            NO_LOCK,
        )
    });
    own.chain(others).collect()
}

fn process() -> Probe {
    Probe {
        id: "root: this pod".to_owned(),
        cases: &[],
        criterion: Criterion::NoRoot,
        attempt: Attempt::Process,
        must: Must::BeRefused(Credit::Optional),
        proves: "this pod runs without root and without capabilities, as Pod Security `restricted` wants it".to_owned(),
        advice: "set `runAsNonRoot: true` and drop all capabilities; the generated namespaces and admission policies \
                 refuse pods that do not"
            .to_owned(),
    }
}
