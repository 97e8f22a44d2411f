//! Add-ons and features of a cluster, and the presets that they need.
//! Must not open anything for a feature that the output does not show; what it cannot show is said.
//! Called by the draft.

use serde_json::Value;

use super::Facts;
use super::pools::Gpu;
use crate::azure::resource::{Resource, plain, shell};

/// One thing that the policy begins with, or one thing to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    Preset {
        name: &'static str,
        /// What shows that it is needed.
        why: String,
        /// Of a vault or the like, where the preset asks for one.
        with: Option<(&'static str, String)>,
    },
    /// Something is needed, and not enough is known of it.
    Missing {
        what: String,
        how: String,
    },
    Note(String),
}

pub(super) fn features(facts: &Facts<'_>, vaults: &[String]) -> Vec<Feature> {
    let mut all = Vec::new();
    node_updates(facts, &mut all);
    monitoring(facts, &mut all);
    if facts.is_on("addonProfiles.azurepolicy.enabled") {
        all.push(preset("aks/azure-policy", "addonProfiles.azurepolicy"));
    }
    key_vault(facts, vaults, &mut all);
    for path in [
        "securityProfile.defender.securityMonitoring.enabled",
        "securityProfile.azureDefender.enabled",
    ] {
        if facts.is_on(path) {
            all.push(preset("aks/defender", path));
        }
    }
    if facts.is_on("metricsProfile.costAnalysis.enabled") {
        all.push(preset("aks/cost-analysis", "metricsProfile.costAnalysis"));
    }
    pools(facts, &mut all);
    extensions(facts, &mut all);
    others(facts, &mut all);
    all
}

fn node_updates(facts: &Facts<'_>, all: &mut Vec<Feature>) {
    let is_ubuntu = |sku: &str| {
        let sku = sku.to_ascii_lowercase();
        sku.is_empty() || sku.starts_with("ubuntu")
    };
    // Of the others only Ubuntu asks Canonical; Azure Linux asks packages.microsoft.com, which is in aks/core.
    let ubuntu = facts.pools.is_empty() || facts.pools.iter().any(|pool| !pool.windows && is_ubuntu(pool.os_sku()));
    let path = "autoUpgradeProfile.nodeOsUpgradeChannel";
    let field = facts.resource.field(path);
    match field.word().as_deref() {
        Some("unmanaged" | "securitypatch") if ubuntu => all.push(preset("aks/node-os-updates", &field.to_string())),
        Some("unmanaged" | "securitypatch") => {
            all.push(Feature::Note(format!(
                "{field}, and no pool runs Ubuntu: updates come from hosts of aks/core"
            )));
        }
        Some("nodeimage" | "none") => all.push(Feature::Note(format!(
            "{field}: nodes do not patch themselves, so that aks/node-os-updates is not opened"
        ))),
        _ => all.push(Feature::Missing {
            what: format!("{field}: whether nodes patch themselves is not known"),
            how: "if they do, add `{preset: aks/node-os-updates, from: [nodes]}`".to_owned(),
        }),
    }
}

/// The agent of Container insights, and whatever is on of Azure Monitor's own profile: all of it sends to the same hosts.
fn monitoring(facts: &Facts<'_>, all: &mut Vec<Feature>) {
    let mut on = Vec::new();
    if facts.is_on("addonProfiles.omsagent.enabled") {
        on.push("addonProfiles.omsagent".to_owned());
    }
    on.extend(enabled_below(
        "azureMonitorProfile",
        facts.resource.entries("azureMonitorProfile"),
    ));
    if !on.is_empty() {
        all.push(preset("aks/azure-monitor", &on.join(", ")));
    }
}

/// The paths of everything that says `enabled: true`.
fn enabled_below(path: &str, entries: Vec<(&str, &Value)>) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in entries {
        let path = format!("{path}.{}", plain(key));
        if let Some(inner) = Resource::of(value) {
            if inner.flag("enabled") == Some(true) {
                found.push(path.clone());
            }
            let entries = value.as_object().into_iter().flatten();
            found.extend(enabled_below(
                &path,
                entries.map(|(key, value)| (key.as_str(), value)).collect(),
            ));
        }
    }
    found
}

/// The preset asks which vault; only Istio's own certificate authority says it.
fn key_vault(facts: &Facts<'_>, vaults: &[String], all: &mut Vec<Feature>) {
    let addon = "addonProfiles.azureKeyvaultSecretsProvider";
    let is_on = facts.is_on(&format!("{addon}.enabled"));
    let why = if is_on { addon } else { "--key-vault" };
    let mut found: Vec<(String, String)> = vaults.iter().map(|vault| (vault.clone(), why.to_owned())).collect();
    let plugin = "serviceMeshProfile.istio.certificateAuthority.plugin.keyVaultId";
    let of_istio = facts.text(plugin).and_then(|id| id.rsplit('/').next());
    if let Some(vault) = of_istio.filter(|name| is_vault(name) && !vaults.iter().any(|known| known == name)) {
        found.push((vault.to_owned(), plugin.to_owned()));
    }
    if is_on && vaults.is_empty() {
        all.push(Feature::Missing {
            what: format!("{addon} is on, and which vaults it reads stands only in the cluster"),
            how: "`kubectl get secretproviderclass -A -o jsonpath='{..keyvaultName}'` prints them; give each as \
                  `--key-vault NAME`"
                .to_owned(),
        });
    }
    for (vault, why) in found {
        all.push(Feature::Preset {
            name: "aks/key-vault-csi",
            why,
            with: Some(("keyvault_name", vault)),
        });
    }
}

/// As Azure allows them; the name becomes part of a destination.
pub(super) fn is_vault(name: &str) -> bool {
    (3..=24).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn pools(facts: &Facts<'_>, all: &mut Vec<Feature>) {
    let named = |pools: Vec<&str>| format!("agentPoolProfiles: {}", pools.join(", "));
    let windows: Vec<_> = facts
        .pools
        .iter()
        .filter(|pool| pool.windows)
        .map(|pool| &*pool.name)
        .collect();
    if !windows.is_empty() {
        all.push(preset("aks/windows", &named(windows)));
        all.push(Feature::Note(
            "Windows nodes: AKS's own HTTP proxy does not reach them, and Cilium's policies are not for them"
                .to_owned(),
        ));
    }
    let with = |made: Gpu, own: bool| -> Vec<_> {
        let pools = facts
            .pools
            .iter()
            .filter(|pool| pool.gpu() == Some(made) && pool.has_own_driver() == own);
        pools.map(|pool| &*pool.name).collect()
    };
    let nvidia = with(Gpu::Nvidia, false);
    if !nvidia.is_empty() {
        all.push(preset("aks/gpu", &named(nvidia)));
    }
    let own = with(Gpu::Nvidia, true);
    if !own.is_empty() {
        all.push(Feature::Note(format!(
            "{}: gpuProfile.driver = None, so that AKS installs no driver; whatever does may need aks/gpu",
            named(own)
        )));
    }
    let amd = [with(Gpu::Amd, false), with(Gpu::Amd, true)].concat();
    if !amd.is_empty() {
        all.push(Feature::Note(format!(
            "{}: GPUs of AMD; Microsoft lists no endpoints for their drivers, aks/gpu is for those of NVIDIA",
            named(amd)
        )));
    }
    if facts.word("nodeProvisioningProfile.mode").as_deref() == Some("auto") {
        all.push(Feature::Note(
            "nodes are provisioned as pods ask for them: pools that exist only for a while are not in the output, add aks/gpu \
             if some have GPUs"
                .to_owned(),
        ));
    }
}

fn extensions(facts: &Facts<'_>, all: &mut Vec<Feature>) {
    let list = format!(
        "`az k8s-extension list --cluster-type managedClusters -g {} -c {} --query [].extensionType` lists them",
        shell(facts.resource.group().unwrap_or("RESOURCE-GROUP")),
        shell(facts.resource.name().unwrap_or("CLUSTER"))
    );
    let own = "aks/flux, aks/dapr, aks/backup, aks/network-insights-agent, aks/marketplace";
    if facts.is_on("addonProfiles.extensionManager.enabled") {
        all.push(preset("aks/cluster-extensions", "addonProfiles.extensionManager"));
        all.push(Feature::Missing {
            what: "there are cluster extensions, and the output does not say which".to_owned(),
            how: format!("{list}; each has a preset beside aks/cluster-extensions: {own}"),
        });
    } else {
        all.push(Feature::Note(format!(
            "extensions such as Flux and Dapr are not in the output of `az aks show`: {list}; if there are any, add \
             aks/cluster-extensions and theirs: {own}"
        )));
    }
}

/// What needs nothing beyond aks/core, and what is not known here.
fn others(facts: &Facts<'_>, all: &mut Vec<Feature>) {
    for (name, value) in facts.resource.entries("addonProfiles") {
        let on = Resource::of(value).and_then(|addon| addon.flag("enabled")) == Some(true);
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if !on || PRESET_ADDONS.iter().any(|known| is(known)) {
            continue;
        }
        if is("aciConnectorLinux") {
            all.push(Feature::Note(
                "addonProfiles.aciConnectorLinux: no NetworkPolicy holds pods on virtual nodes; keep workloads off them"
                    .to_owned(),
            ));
        } else if CORE_ADDONS.iter().any(|known| is(known)) {
            all.push(Feature::Note(format!(
                "addonProfiles.{name}: Microsoft lists no endpoints of its own for it"
            )));
        } else {
            all.push(Feature::Missing {
                what: format!("the add-on `{}` is on, and not known here", plain(name)),
                how: "see what it asks for, and allow that".to_owned(),
            });
        }
    }
    if facts.is_on("securityProfile.workloadIdentity.enabled") {
        all.push(Feature::Note(
            "workload identity is on: say `identity: workload` at each workload that uses it, which opens \
             aks/workload-identity for that workload alone"
                .to_owned(),
        ));
    }
    if facts.word("serviceMeshProfile.mode").as_deref() == Some("istio") {
        all.push(Feature::Note(
            "serviceMeshProfile.mode = Istio: pods of the mesh need a ServiceEntry for the proxy; a CA or gateway with \
             certificates from Key Vault needs aks/key-vault-csi with that vault"
                .to_owned(),
        ));
    }
    if facts.is_on("ingressProfile.webAppRouting.enabled") {
        all.push(Feature::Note(
            "ingressProfile.webAppRouting: only with certificates from Key Vault it needs more, aks/key-vault-csi with that \
             vault"
                .to_owned(),
        ));
    }
    if facts.is_on("aiToolchainOperatorProfile.enabled") {
        all.push(Feature::Note(
            "aiToolchainOperatorProfile (KAITO): images come from mcr.microsoft.com; models from elsewhere are dependencies of \
             your own"
                .to_owned(),
        ));
    }
    if let Some(registry) = facts.text("bootstrapProfile.containerRegistryId") {
        let name = plain(registry.rsplit('/').next().unwrap_or_default());
        all.push(Feature::Note(format!(
            "bootstrapProfile: nodes take what they need from the registry `{name}`; with Private Link none of that leaves, \
             otherwise add `{{preset: aks/acr, with: {{acr_name: {name}}}, from: [nodes]}}`"
        )));
    }
    all.push(Feature::Note(
        "registries of your own are not in the output: each needs `{preset: aks/acr, with: {acr_name: NAME}, from: [nodes]}`"
            .to_owned(),
    ));
}

fn preset(name: &'static str, why: &str) -> Feature {
    Feature::Preset {
        name,
        why: plain(why),
        with: None,
    }
}

/// Looked at above.
const PRESET_ADDONS: [&str; 4] = [
    "omsagent",
    "azurepolicy",
    "azureKeyvaultSecretsProvider",
    "extensionManager",
];
/// Add-ons that the outbound page does not name: it says that aks/core covers them.
const CORE_ADDONS: [&str; 7] = [
    "ingressApplicationGateway",
    "httpApplicationRouting",
    "kubeDashboard",
    "openServiceMesh",
    "ACCSGXDevicePlugin",
    "gitops",
    "confcom",
];
