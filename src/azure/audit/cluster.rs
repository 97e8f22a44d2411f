//! The cluster: who reaches its API server, what enforces policies, who has keys, which other ways out there are.
//! Must not accept a word that it does not know.
//! Called by the audit.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::{Check, Finding, Subject, fail, pass, unknown};
use crate::azure::resource::{Field, Look, Resource, plain, shell};
use crate::criterion::Criterion;

pub(super) fn check(
    subject: &Subject<'_>,
    egress: &[IpAddr],
    known: &BTreeMap<String, IpAddr>,
    checks: &mut Vec<Check>,
) {
    let target = subject.target();
    let update = |flags: &str| format!("az aks update {target} {flags}");
    subject.report(checks, API_SERVER, api_server(subject, egress));
    subject.report(checks, EGRESS_ADDRESS, egress_address(subject, egress, known));
    let run = subject.set(
        "apiServerAccessProfile.disableRunCommand",
        true,
        update("--disable-run-command"),
    );
    subject.report(checks, RUN_COMMAND, run);
    let entra = subject.field("aadProfile").look;
    let accounts = if matches!(entra, Look::Value(_)) {
        update("--disable-local-accounts")
    } else {
        // Without Entra ID nobody could log in any more.
        update("--enable-aad --disable-local-accounts")
    };
    let accounts = subject.set("disableLocalAccounts", true, accounts);
    subject.report(checks, LOCAL_ACCOUNTS, accounts);
    subject.report(checks, ENGINE, engine(subject));
    let issuer = subject.set("oidcIssuerProfile.enabled", true, update("--enable-oidc-issuer"));
    subject.report(checks, OIDC_ISSUER, issuer);
    let identity = update("--enable-oidc-issuer --enable-workload-identity");
    let identity = subject.set("securityProfile.workloadIdentity.enabled", true, identity);
    subject.report(checks, WORKLOAD_IDENTITY, identity);
    subject.report(checks, OUTBOUND, outbound(subject));
    subject.report(checks, NODE_ADDRESSES, node_addresses(subject));
}

fn private<'j>(subject: &Subject<'j>) -> Field<'j> {
    subject.field("apiServerAccessProfile.enablePrivateCluster")
}

fn api_server(subject: &Subject<'_>, egress: &[IpAddr]) -> Finding {
    let private = private(subject);
    if private.flag() == Some(true) {
        return pass(&private);
    }
    let ranges = subject.field("apiServerAccessProfile.authorizedIpRanges");
    let mend = update_ranges(subject, egress, &[]);
    match ranges.items() {
        Some([]) => fail(format!("{private}, {ranges}"), mend),
        None if ranges.is_null() => fail(format!("{private}, {ranges}"), mend),
        Some(items) => match parsed(items) {
            Err(wrong) => unknown(format!("{ranges}: `{wrong}` is no address"), subject.show()),
            Ok(parsed) => match IpNet::aggregate(&parsed).iter().find(|range| is_everyone(range)) {
                Some(wide) => fail(format!("{ranges}: {wide} is as good as everyone"), mend),
                None => pass(&ranges),
            },
        },
        // A private cluster has no ranges; whether it is one must be known as well.
        None => subject.unknown(&ranges),
    }
}

fn egress_address(subject: &Subject<'_>, egress: &[IpAddr], known: &BTreeMap<String, IpAddr>) -> Finding {
    let private = private(subject);
    if private.flag() == Some(true) {
        return pass(format!("{private}: no public address is asked for"));
    }
    let ranges = subject.field("apiServerAccessProfile.authorizedIpRanges");
    let ranges = match ranges.items().map(parsed) {
        Some(Ok(parsed)) if !parsed.is_empty() => parsed,
        Some(Err(_)) => return subject.unknown(&ranges),
        _ if ranges.is_null() || ranges.items().is_some() => {
            return fail(
                format!("{ranges}: there is no list that it could be in"),
                update_ranges(subject, egress, &[]),
            );
        }
        _ => return subject.unknown(&ranges),
    };
    let (addresses, whence) = if egress.is_empty() {
        match effective(subject, known) {
            Ok(addresses) => (addresses, "effective outbound addresses of the cluster"),
            Err(finding) => return finding,
        }
    } else {
        (egress.to_vec(), "--egress-address")
    };
    let strangers: Vec<_> = addresses
        .iter()
        .filter(|address| !ranges.iter().any(|range| range.contains(*address)))
        .collect();
    let shown = listed(&addresses);
    if strangers.is_empty() {
        return pass(format!(
            "{shown} ({whence}) is among apiServerAccessProfile.authorizedIpRanges"
        ));
    }
    fail(
        format!(
            "{} ({whence}) is not among apiServerAccessProfile.authorizedIpRanges",
            listed(&strangers)
        ),
        update_ranges(subject, &addresses, &ranges),
    )
}

/// The whole list, because the command replaces it.
fn update_ranges(subject: &Subject<'_>, addresses: &[IpAddr], ranges: &[IpNet]) -> String {
    let own = addresses.iter().map(|address| IpNet::from(*address));
    let mut all: Vec<_> = ranges.to_vec();
    for address in own {
        if !all.iter().any(|range| range.contains(&address)) {
            all.push(address);
        }
    }
    let mut all: Vec<_> = all.iter().map(ToString::to_string).collect();
    if ranges.is_empty() {
        all.push(
            if addresses.is_empty() {
                EVERYBODY
            } else {
                ADMINISTRATORS
            }
            .to_owned(),
        );
    }
    format!(
        "az aks update {} --api-server-authorized-ip-ranges {}",
        subject.target(),
        all.join(",")
    )
}

/// The addresses from which the cluster leaves, when the files hold them and not only their ids.
fn effective(subject: &Subject<'_>, known: &BTreeMap<String, IpAddr>) -> Result<Vec<IpAddr>, Finding> {
    let mut ids = Vec::new();
    for profile in ["loadBalancerProfile", "natGatewayProfile"] {
        let field = subject.field(&format!("networkProfile.{profile}.effectiveOutboundIps"));
        let items = field.items().unwrap_or_default();
        ids.extend(items.iter().filter_map(|item| Resource::of(item)?.text("id")));
    }
    if ids.is_empty() {
        let seen = "no --egress-address was given, and the cluster names no outbound address of its own";
        return Err(unknown(
            seen,
            "sluicegate audit ... --egress-address ADDRESS-FROM-WHICH-THE-PROXY-LEAVES",
        ));
    }
    let addresses: Option<Vec<_>> = ids
        .iter()
        .map(|id| known.get(&id.to_ascii_lowercase()).copied())
        .collect();
    addresses.ok_or_else(|| {
        let shell_ids: Vec<_> = ids.iter().map(|id| shell(id)).collect();
        unknown(
            "networkProfile holds only the ids of the outbound addresses: give the addresses too, or --egress-address",
            format!("az network public-ip show --ids {} -o json", shell_ids.join(" ")),
        )
    })
}

fn engine(subject: &Subject<'_>) -> Finding {
    let policy = subject.field("networkProfile.networkPolicy");
    match policy.word().as_deref() {
        Some("cilium" | "calico" | "azure") => return pass(&policy),
        Some("none" | "") => {}
        None if policy.is_null() => {}
        _ => return subject.unknown(&policy),
    }
    let dataplane = subject.field("networkProfile.networkDataplane");
    if dataplane.word().as_deref() == Some("cilium") {
        // Older outputs name the engine only as the data plane that it is part of.
        return if policy.is_null() {
            pass(&dataplane)
        } else {
            unknown(format!("{policy} and {dataplane}"), subject.show())
        };
    }
    let plugin = subject.field("networkProfile.networkPlugin");
    if plugin.word().as_deref() == Some("none") {
        let seen = format!("{policy}, {plugin}: what the cluster's own CNI enforces, Azure does not know");
        return unknown(seen, "kubectl get pods -A -l 'k8s-app in (cilium,calico-node)'");
    }
    let target = subject.target();
    let cilium = format!("az aks update {target} --network-dataplane cilium --network-policy cilium");
    let mode = subject.field("networkProfile.networkPluginMode");
    let mend = if mode.word().as_deref() == Some("overlay") {
        cilium
    } else {
        // Cilium comes to an overlay, or to subnets of pods; the overlay is one step away from everything else.
        format!("az aks update {target} --network-plugin azure --network-plugin-mode overlay && {cilium}")
    };
    fail(
        format!("{policy}, {plugin}: NetworkPolicies are accepted and not enforced"),
        mend,
    )
}

fn outbound(subject: &Subject<'_>) -> Finding {
    let kind = subject.field("networkProfile.outboundType");
    let own_subnet = subject
        .resource
        .items("agentPoolProfiles")
        .iter()
        .filter_map(Resource::of)
        .any(|pool| pool.text("vnetSubnetId").is_some());
    let target = subject.target();
    // A route table needs a subnet of one's own; without a way out images must come from a registry in the network.
    let mend = if own_subnet {
        format!(
            "az aks update {target} --outbound-type userDefinedRouting  # first give the subnet of the nodes a default route"
        )
    } else {
        format!(
            "az aks update {target} --bootstrap-artifact-source Cache --bootstrap-container-registry-resource-id REGISTRY-ID \
             && az aks update {target} --outbound-type none"
        )
    };
    match kind.word().as_deref() {
        Some("userdefinedrouting" | "none" | "block") => pass(&kind),
        Some("loadbalancer" | "managednatgateway" | "managednatgatewayv2" | "userassignednatgateway") => {
            fail(&kind, mend)
        }
        _ => subject.unknown(&kind),
    }
}

fn node_addresses(subject: &Subject<'_>) -> Finding {
    let pools = subject.resource.items("agentPoolProfiles");
    if pools.is_empty() {
        return unknown("agentPoolProfiles holds no pool", subject.show());
    }
    for item in pools {
        let Some(pool) = Resource::of(item) else {
            return unknown("agentPoolProfiles holds something that is no pool", subject.show());
        };
        let name = plain(pool.text("name").unwrap_or("?"));
        let own = pool.field("enableNodePublicIp");
        match own.flag() {
            Some(false) => {}
            None if own.is_null() => {}
            Some(true) => {
                return fail(
                    format!("agentPoolProfiles: pool {name}: {own}"),
                    format!(
                        "az aks nodepool add -g {} --cluster-name {} -n NEW-POOL  # without --enable-node-public-ip; then delete {name}",
                        shell(subject.group),
                        shell(subject.name)
                    ),
                );
            }
            None => return unknown(format!("agentPoolProfiles: pool {name}: {own}"), subject.show()),
        }
    }
    pass("agentPoolProfiles: enableNodePublicIp is off in every pool")
}

/// Addresses and ranges; the first that is neither.
fn parsed(items: &[Value]) -> Result<Vec<IpNet>, String> {
    let each = items.iter().map(|item| {
        let text = item.as_str().unwrap_or_default().trim();
        let range = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        range.map(|range| range.trunc()).map_err(|_| plain(&item.to_string()))
    });
    each.collect()
}

/// So wide that it keeps hardly anyone out.
fn is_everyone(range: &IpNet) -> bool {
    range.prefix_len() < WIDEST
}

fn listed<T: ToString>(addresses: &[T]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// No company owns more than this in one piece.
const WIDEST: u8 = 8;

const ADMINISTRATORS: &str = "ADDRESSES-OF-ADMINISTRATORS";
const EVERYBODY: &str = "EGRESS-ADDRESS,ADDRESSES-OF-ADMINISTRATORS";

type About = (&'static str, Criterion, &'static str);
const API_SERVER: About = (
    "api-server-access",
    Criterion::ApiServer,
    "the API server answers only in the network, or to listed addresses, so that a stolen token is of no use from elsewhere",
);
const EGRESS_ADDRESS: About = (
    "egress-address-authorized",
    Criterion::ApiServer,
    "the address from which the proxy leaves is listed, so that who is behind it keeps the API server",
);
const RUN_COMMAND: About = (
    "run-command",
    Criterion::ApiServer,
    "nobody runs commands in the cluster past its private network and its list of addresses (`az aks command invoke`)",
);
const LOCAL_ACCOUNTS: About = (
    "local-accounts",
    Criterion::ApiServer,
    "who comes in is known by name; no copied admin certificate opens the cluster",
);
const ENGINE: About = (
    "network-policy-engine",
    Criterion::NamedServices,
    "something enforces the generated NetworkPolicies",
);
const OIDC_ISSUER: About = (
    "oidc-issuer",
    Criterion::Identities,
    "there is an issuer whose tokens workload identity can exchange",
);
const WORKLOAD_IDENTITY: About = (
    "workload-identity",
    Criterion::Identities,
    "workloads get tokens without the metadata service, which the lock closes",
);
const OUTBOUND: About = (
    "outbound-type",
    Criterion::LeastEgress,
    "nodes, and pods with hostNetwork, have no way out of their own beside the network's routes",
);
const NODE_ADDRESSES: About = (
    "node-public-addresses",
    Criterion::LeastEgress,
    "no node has a public address to leave by, whatever the routes of its subnet say",
);
