//! `NO_PROXY`: what a client reaches by itself, in the only forms that all clients read alike.
//! Must not hold what only some of them read, unless the others take it for a name that nobody has.
//! Called for each workload.
//!
//! | Form | Go | curl | Python (urllib, requests) | httpx | Node (undici, proxy-from-env) | .NET | wget, Ruby |
//! |---|---|---|---|---|---|---|---|
//! | `name` | and below | and below | and below; requests: any ending | any ending | **this alone** | **this alone** | and below |
//! | `.name` | below | and below | below | below | below | below | below |
//! | `*.name` | below | **nothing** | **nothing** | below | below | below | **nothing** |
//! | `10.1.2.4` | that | that | that | that | that | that | that |
//! | `10.0.0.0/8` | range | range since 7.86 | requests: range; urllib: nothing | nothing | nothing | nothing | Ruby: range |
//! | `fd00::/8`, `::1` | range, that | that | nothing | **breaks** on the range | **misread** as a port | that | nothing |
//!
//! So: names as `.name` only, addresses one by one, ranges of IPv4 last as a bonus, nothing of IPv6. Java reads none of it
//! (`-Dhttp.nonProxyHosts`). Nothing matches `service` or `service.namespace` alone: in-cluster names are written to the
//! end, `service.namespace.svc`.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::kubernetes::plan::{Plan, Pods};
use crate::policy::document::Identity;

/// The list, names before addresses before ranges.
pub(super) fn value(pods: &Pods<'_>, plan: &Plan<'_>) -> String {
    let networks = &plan.cluster.networks;
    let mut entries: Vec<_> = ALWAYS.map(str::to_owned).into();
    let mut addresses: Vec<_> = pods.workload.direct.iter().map(|way| way.value.ip()).collect();
    if pods.workload.api_server {
        entries.extend(plan.cluster.api_server.iter().map(|name| name.value.to_string()));
        // Kubernetes gives its own Service the first address of the range.
        let first = networks.services.iter().filter_map(|range| range.value.hosts().next());
        addresses.extend(first);
    }
    if pods.workload.identity.value == Identity::Imds {
        addresses.push(METADATA);
    }
    addresses.sort_unstable();
    addresses.dedup();
    let addresses = addresses.into_iter().filter(IpAddr::is_ipv4);
    entries.extend(addresses.map(|address| address.to_string()));
    let inside = networks.pods.iter().chain(&networks.services);
    let ranges = inside.filter(|range| matches!(range.value, IpNet::V4(_)));
    entries.extend(ranges.map(|range| range.value.to_string()));
    entries.join(",")
}

const ALWAYS: [&str; 4] = ["localhost", "127.0.0.1", ".svc", ".cluster.local"];
/// Azure Instance Metadata Service.
const METADATA: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 169, 254));
