//! The policy file to begin with: what is known as keys, what is not as comments that say how to find it.
//! Must not write a value that the output or the caller did not give.
//! Called by `init`.

use ipnet::IpNet;

use super::features::{Feature, features, is_vault};
use super::pools::LocalDns;
use super::{EngineFact, Facts};
use crate::azure::resource::{plain, shell};
use crate::policy::document::{Cloud, Engine};
use crate::policy::presets;
use crate::policy::yaml::write::{List, Map, file};

/// What the caller knows and the output does not say.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub nodes: Vec<IpNet>,
    pub pods: Vec<IpNet>,
    pub api_server: Vec<IpNet>,
    pub key_vaults: Vec<String>,
}

/// A policy file, and what to tell beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub text: String,
    /// What must be filled in, and how to find it.
    pub missing: Vec<String>,
    /// What a reader should know; all of it stands in the file too.
    pub notes: Vec<String>,
}

/// Writes the file.
///
/// # Errors
/// A line for each thing that was given and contradicts the output, or cannot be what it is given as.
pub fn draft(facts: &Facts<'_>, given: &Given) -> Result<Draft, Vec<String>> {
    let mut wrong: Vec<_> = given
        .key_vaults
        .iter()
        .filter(|name| !is_vault(name))
        .map(|name| format!("--key-vault: `{}` is not the name of a vault", plain(name)))
        .collect();
    if !given.pods.is_empty() && !facts.pods.is_empty() && given.pods != facts.pods {
        wrong.push(format!("--pods: the cluster says {}", listed(&facts.pods)));
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut told = Told::default();
    let mut policy = Map::default();
    let cluster = cluster(facts, given, &mut told);
    if cluster.is_empty() {
        // An empty map has no room for comments of its own.
        let lines = told.missing.iter().map(|line| format!("TODO {line}"));
        policy.comment(&lines.collect::<Vec<_>>().join("\n"));
    }
    policy.set("cluster", cluster);
    for note in around(facts) {
        policy.comment(&told.note(note));
    }
    if is_isolated(facts) {
        policy.comment(WORKLOAD).comment(&told.note(ISOLATED.to_owned()));
        policy.set("allow", List::default());
    } else {
        policy.set("workloads", workloads(facts, given, &mut told));
        policy.comment(NODES);
        policy.set("allow", allow(facts, given, &mut told));
    }
    let text = file(&header(facts), &policy);
    Ok(Draft {
        text,
        missing: told.missing,
        notes: told.notes,
    })
}

/// What is said in comments and once more beside the file.
#[derive(Default)]
struct Told {
    missing: Vec<String>,
    notes: Vec<String>,
}

impl Told {
    /// A comment that says what is missing.
    fn missing(&mut self, what: &str, how: &str) -> String {
        let line = format!("{what}; {how}");
        self.missing.push(line.clone());
        format!("TODO {line}")
    }

    fn note(&mut self, note: String) -> String {
        self.notes.push(note.clone());
        note
    }
}

fn header(facts: &Facts<'_>) -> String {
    format!(
        "What may leave the cluster {} of the resource group {}.\n\
         Written by `sluicegate init --from-aks` from what `az aks show` says. It is a beginning: read every line, fill in \
         what is marked TODO, add your workloads, then run `sluicegate check --policy THIS-FILE`.",
        plain(facts.resource.name().unwrap_or("?")),
        plain(facts.resource.group().unwrap_or("?")),
    )
}

fn cluster(facts: &Facts<'_>, given: &Given, told: &mut Told) -> Map {
    let mut map = Map::default();
    map.block();
    match facts.cloud {
        Some(cloud) => map.set("cloud", cloud.as_str()),
        None => map.comment(&told.missing("cloud: neither `fqdn` nor `location` says it", "public, china or usgov")),
    };
    match &facts.region {
        Some(region) => map.set("region", region.as_str()),
        None => map.comment(&told.missing("region: `location` is not in the output", "Azure's short name")),
    };
    match &facts.kubernetes {
        Some(version) => map.set("kubernetes", version.as_str()),
        None => map.comment(&told.missing("kubernetes: no version is in the output", "`kubectl version` prints it")),
    };
    engine(facts, &mut map, told);
    let show = format!(
        "az aks show -g {} -n {} --query",
        shell(facts.resource.group().unwrap_or("RESOURCE-GROUP")),
        shell(facts.resource.name().unwrap_or("CLUSTER"))
    );
    match &facts.api_server {
        Some(name) => {
            if facts.private {
                map.comment(
                    &told.note("a private cluster: the API server has an address in the virtual network".to_owned()),
                );
            }
            map.set("api_server", name.as_str());
        }
        None => {
            map.comment(&told.missing(
                "api_server: the output names none",
                &format!("is the cluster still being made? `{show} \"[fqdn, privateFqdn]\"` prints it"),
            ));
        }
    }
    if given.api_server.is_empty() {
        let name = facts.api_server.as_ref().map_or("API-SERVER", |name| name.as_str());
        let whence = if facts.private {
            " from inside the virtual network"
        } else {
            ""
        };
        map.comment(&told.missing(
            "api_server_addresses: not in the output",
            &format!(
                "`dig +short {name}`{whence} prints it, `kubectl get endpointslices -l \
                 kubernetes.io/service-name=kubernetes` too; give it as \
                 --api-server-address. Without it no NetworkPolicies are generated, and it can change"
            ),
        ));
    } else {
        map.set("api_server_addresses", list(&given.api_server));
    }
    let networks = networks(facts, given, told);
    // A map of nothing but comments is no map.
    if networks.has_entries {
        map.set("networks", networks.map);
    } else {
        map.comment(&networks.comments.join("\n"));
    }
    map
}

fn engine(facts: &Facts<'_>, map: &mut Map, told: &mut Told) {
    match &facts.engine {
        EngineFact::Is(engine) => {
            if *engine == Engine::AzureNpm {
                map.comment(&told.note(NPM.to_owned()));
            }
            map.set("engine", engine.as_str());
        }
        EngineFact::None => {
            map.comment(&told.missing(
                "engine: NOTHING ENFORCES NETWORK POLICIES in this cluster (networkProfile.networkPolicy = none), so that the \
                 lock would lock nothing",
                &format!(
                    "`az aks update -g {} -n {} --network-dataplane cilium --network-policy cilium` changes that; from kubenet \
                     or a flat network first `--network-plugin azure --network-plugin-mode overlay`",
                    shell(facts.resource.group().unwrap_or("RESOURCE-GROUP")),
                    shell(facts.resource.name().unwrap_or("CLUSTER"))
                ),
            ));
        }
        EngineFact::Own => {
            map.comment(&told.missing(
                "engine: the cluster brings its own CNI (networkProfile.networkPlugin = none), and Azure does not know what \
                 enforces policies",
                "write cilium or calico if one of them does; without any the lock would lock nothing",
            ));
        }
        EngineFact::Unknown(seen) => {
            map.comment(&told.missing(
                &format!("engine: {seen}: what that enforces is not known here"),
                "known are cilium, calico and azure-npm; is it one of them in a new name?",
            ));
        }
    }
}

/// Ranges that are known, and comments on those that are not.
#[derive(Default)]
struct Networks {
    map: Map,
    has_entries: bool,
    comments: Vec<String>,
}

impl Networks {
    fn set(&mut self, key: &str, ranges: &[IpNet]) {
        self.map.set(key, list(ranges));
        self.has_entries = true;
    }

    fn comment(&mut self, comment: String) {
        self.map.comment(&comment);
        self.comments.push(comment);
    }
}

fn networks(facts: &Facts<'_>, given: &Given, told: &mut Told) -> Networks {
    let mut networks = Networks::default();
    if given.nodes.is_empty() {
        networks.comment(told.missing("networks.nodes: not in the output", &node_ranges(facts)));
    } else {
        networks.set("nodes", &given.nodes);
    }
    let pods = if facts.pods.is_empty() {
        &given.pods
    } else {
        &facts.pods
    };
    if pods.is_empty() {
        networks.comment(pods_missing(facts, told));
    } else {
        networks.set("pods", pods);
    }
    if facts.services.is_empty() {
        let comment = told.missing(
            "networks.services: not in the output",
            "`kubectl cluster-info dump | grep service-cluster-ip-range`",
        );
        networks.comment(comment);
    } else {
        networks.set("services", &facts.services);
    }
    networks
}

fn node_ranges(facts: &Facts<'_>) -> String {
    match subnets(facts.pools.iter().filter_map(super::pools::Pool::subnet)) {
        Some(print) => format!("{print} prints it; give it as --nodes"),
        None => format!(
            "AKS has made the network itself: `az network vnet list -g {} --query \"[].subnets[].{{name: name, range: \
             addressPrefix, ranges: addressPrefixes}}\"` prints it; give it as --nodes",
            shell(facts.text("nodeResourceGroup").unwrap_or("NODE-RESOURCE-GROUP"))
        ),
    }
}

fn pods_missing(facts: &Facts<'_>, told: &mut Told) -> String {
    let shared = facts.shared_pools();
    if !shared.is_empty() {
        return told.missing(
            &format!(
                "networks.pods: pods and nodes of {} share a subnet (Azure CNI without overlay and without subnets for pods), so \
                 that nobody can tell a pod from a node by its address, and what nodes may do would be open to pods",
                shared.join(", ")
            ),
            "move to an overlay (`az aks update --network-plugin-mode overlay`) or give pods subnets of their own, before \
             anything is open to nodes",
        );
    }
    if let Some(print) = subnets(facts.pools.iter().filter_map(super::pools::Pool::pod_subnet)) {
        return told.missing(
            "networks.pods: pods have subnets of their own, whose ranges are not in the output",
            &format!("{print} prints it; give it as --pods"),
        );
    }
    told.missing(
        "networks.pods: not in the output",
        "the CNI knows it; give it as --pods",
    )
}

/// The command that prints the ranges of subnets.
fn subnets<'i>(ids: impl Iterator<Item = &'i str>) -> Option<String> {
    let mut ids: Vec<_> = ids.map(shell).collect();
    ids.sort();
    ids.dedup();
    // Of several the answer is a list.
    let each = match ids.len() {
        0 => return None,
        1 => "",
        _ => "[].",
    };
    let query = format!("{each}{{range: addressPrefix, ranges: addressPrefixes}}");
    Some(format!(
        "`az network vnet subnet show --ids {} --query \"{query}\"`",
        ids.join(" ")
    ))
}

/// What lies around the proxy and has no key of its own.
fn around(facts: &Facts<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(dns) = facts.dns {
        notes.push(format!(
            "DNS: the cluster's own is {dns} (`sluicegate verify --dns {dns}:53`)."
        ));
    }
    notes.push(local_dns(facts));
    let kind = facts.word("networkProfile.outboundType");
    let shown = facts.resource.field("networkProfile.outboundType").to_string();
    notes.push(match kind.as_deref() {
        Some("none" | "block") => format!("{shown}: network isolated; nodes have no way out and need none."),
        Some("userdefinedrouting") => {
            format!("{shown}: what leaves takes the route of the subnet; what waits at its end must let the proxy through.")
        }
        Some("loadbalancer" | "managednatgateway" | "managednatgatewayv2" | "userassignednatgateway") => format!(
            "{shown}: nodes, and pods with hostNetwork, have a way out that is not through the proxy; the lock is for pods. \
             `sluicegate audit` says how to close it."
        ),
        _ => format!("{shown}: how nodes leave is not known here."),
    });
    if facts.text("httpProxyConfig.httpProxy").is_some() || facts.text("httpProxyConfig.httpsProxy").is_some() {
        let off = if facts.resource.flag("httpProxyConfig.enabled") == Some(false) {
            ", switched off"
        } else {
            ""
        };
        notes.push(format!(
            "httpProxyConfig is set already ({}{off}): nodes and pods ask that proxy. Changing it re-images every node.",
            plain(
                facts
                    .text("httpProxyConfig.httpsProxy")
                    .or_else(|| facts.text("httpProxyConfig.httpProxy"))
                    .unwrap_or_default()
            )
        ));
    }
    if facts.is_on("apiServerAccessProfile.enableVnetIntegration") {
        notes.push(
            "apiServerAccessProfile.enableVnetIntegration: nodes reach the API server at an address in its subnet \
             (apiServerAccessProfile.subnetId); that address belongs to api_server_addresses."
                .to_owned(),
        );
    }
    if facts.word("sku.name").as_deref() == Some("automatic") {
        notes.push(
            "sku.name = Automatic: AKS runs the system pools; their traffic is not in any pool of the output."
                .to_owned(),
        );
    }
    if facts.is_on("networkProfile.staticEgressGatewayProfile.enabled") {
        notes.push("networkProfile.staticEgressGatewayProfile: pods with its annotation leave by a gateway; keep it off locked \
                    namespaces."
            .to_owned());
    }
    notes
}

fn local_dns(facts: &Facts<'_>) -> String {
    let mut groups: Vec<(LocalDns, Vec<&str>)> = Vec::new();
    for pool in &facts.pools {
        let state = pool.local_dns();
        match groups.iter_mut().find(|(known, _)| *known == state) {
            Some((_, pools)) => pools.push(&pool.name),
            None => groups.push((state, vec![&pool.name])),
        }
    }
    let said: Vec<_> = groups
        .iter()
        .map(|(state, pools)| {
            let pools = pools.join(", ");
            match state {
                LocalDns::On => format!("on in {pools}"),
                LocalDns::Off => format!("off in {pools}"),
                LocalDns::Mode(mode) => format!("{mode} in {pools}"),
                LocalDns::Unsaid => format!("not said for {pools}"),
            }
        })
        .collect();
    if said.is_empty() {
        return "LocalDNS: there is no pool that could say whether it is on.".to_owned();
    }
    format!(
        "LocalDNS: {}. Where it is on, nodes and pods ask 169.254.10.10 and 169.254.10.11; the generated lock lets them.",
        said.join("; ")
    )
}

fn workloads(facts: &Facts<'_>, given: &Given, told: &mut Told) -> Map {
    let mut workloads = Map::default();
    workloads.block();
    let shared = facts.shared_pools();
    let mut nodes = Map::default();
    if given.nodes.is_empty() {
        workloads.comment("TODO the ranges of networks.nodes. As long as there are none, `check` refuses this file.");
    } else if shared.is_empty() {
        workloads.comment("kubelet, containerd, and pods in the host's network.");
    } else {
        workloads.comment(&told.missing(
            &format!(
                "workloads.nodes: ranges in which only nodes are; those of {} hold pods as well",
                shared.join(", ")
            ),
            "as long as there are none, `check` refuses this file",
        ));
    }
    nodes.set("cidrs", list(if shared.is_empty() { &given.nodes } else { &[] }));
    workloads.set("nodes", nodes);
    workloads.comment(WORKLOAD);
    if facts.is_on("securityProfile.workloadIdentity.enabled") {
        workloads.comment("With a federated identity: `identity: workload`.");
    }
    workloads
}

fn is_isolated(facts: &Facts<'_>) -> bool {
    let outbound = facts.word("networkProfile.outboundType");
    matches!(outbound.as_deref(), Some("none" | "block"))
        && facts.word("bootstrapProfile.artifactSource").as_deref() == Some("cache")
}

fn allow(facts: &Facts<'_>, given: &Given, told: &mut Told) -> List {
    let mut rules = List::default();
    rules.block();
    rules.comment("What every node needs.").push(opening("aks/core", None));
    for feature in features(facts, &given.key_vaults) {
        match feature {
            Feature::Preset { name, why, with } => {
                if is_listed(name, facts.cloud) {
                    rules
                        .comment(&format!("Needed by {why}."))
                        .push(opening(name, with.as_ref()));
                } else {
                    let note = format!("{why}: Microsoft lists no endpoints of {name} for this cloud");
                    rules.comment(&told.note(note));
                }
            }
            Feature::Missing { what, how } => {
                rules.comment(&told.missing(&what, &how));
            }
            Feature::Note(note) => {
                rules.comment(&told.note(note));
            }
        }
    }
    rules
}

fn opening(name: &str, with: Option<&(&'static str, String)>) -> Map {
    let mut rule = Map::default();
    rule.set("preset", name);
    if let Some((key, value)) = with {
        let mut facts = Map::default();
        facts.set(key, value.as_str());
        rule.set("with", facts);
    }
    rule.set("from", ["nodes"].into_iter().collect::<List>());
    rule
}

fn is_listed(name: &str, cloud: Option<Cloud>) -> bool {
    let cloud = cloud.unwrap_or_default();
    presets::preset(name).is_some_and(|preset| preset.rows_for(cloud).next().is_some())
}

fn list(ranges: &[IpNet]) -> List {
    ranges.iter().map(ToString::to_string).collect()
}

fn listed(ranges: &[IpNet]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

const NODES: &str = "What nodes and the add-ons on them ask for. Nodes come to the proxy only where they are told to \
                     (`sluicegate generate aks-http-proxy`).";
const ISOLATED: &str = "The cluster is network isolated, and what nodes need comes from a registry in its network \
                        (bootstrapProfile.artifactSource = Cache): Microsoft says that nothing has to leave, so that nothing is \
                        opened to nodes.";
const NPM: &str = "Azure NPM filters no IPv6 and gets no more features; Azure's successor is Cilium.";
const WORKLOAD: &str = "Each workload that may leave gets an entry and a port of its own:\n\
                        `trips: {namespace: api, pods: {app: trips}, port: 3201}`";
