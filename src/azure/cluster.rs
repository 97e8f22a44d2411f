//! A cluster as `az aks show` prints it, and the policy file to begin with.
//! Must not guess: what the output does not say is missing, and what it says in an unknown word is named.
//! Called by `init`.

mod draft;
mod features;
mod pools;

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::resource::{Resource, plain, resources};
use crate::name::HostName;
use crate::policy::document::{Cloud, Engine};

pub use draft::{Draft, Given, draft};
use pools::Pool;

/// What a policy needs to know of a cluster.
#[derive(Debug)]
pub struct Facts<'j> {
    resource: Resource<'j>,
    cloud: Option<Cloud>,
    region: Option<String>,
    kubernetes: Option<String>,
    engine: EngineFact,
    private: bool,
    api_server: Option<HostName>,
    pods: Vec<IpNet>,
    services: Vec<IpNet>,
    dns: Option<IpAddr>,
    pools: Vec<Pool<'j>>,
}

/// What enforces policies.
#[derive(Debug)]
enum EngineFact {
    Is(Engine),
    /// Nothing, says Azure.
    None,
    /// Whatever the cluster's people have installed.
    Own,
    /// A word that is not known here.
    Unknown(String),
}

/// Reads one cluster.
///
/// # Errors
/// A line for each thing that makes no sense: not a cluster, more than one, values that cannot be what they claim to be.
pub fn read(value: &Value) -> Result<Facts<'_>, Vec<String>> {
    let found = resources(value).map_err(|why| vec![why])?;
    let resource = match &*found {
        [one] => *one,
        [] => return Err(vec!["the list is empty: there is no cluster in it".to_owned()]),
        many => {
            let names = many.iter().map(|one| format!("`{}`", plain(one.name().unwrap_or("?"))));
            let names: Vec<_> = names.take(5).collect();
            return Err(vec![format!(
                "there are {} clusters in it ({}): give one, as `az aks show -g GROUP -n NAME -o json` prints it",
                many.len(),
                names.join(", ")
            )]);
        }
    };
    if resource.kind() != KIND {
        let kind = resource.kind();
        let is = if kind.is_empty() {
            "nothing known".to_owned()
        } else {
            format!("of type `{}`", plain(&kind))
        };
        return Err(vec![format!("this is {is}, not what `az aks show -o json` prints")]);
    }
    let mut wrong = Vec::new();
    let private = resource.flag("apiServerAccessProfile.enablePrivateCluster") == Some(true);
    let api_server = api_server(resource, private, &mut wrong);
    let facts = Facts {
        resource,
        cloud: cloud(resource, &mut wrong),
        region: region(resource, &mut wrong),
        kubernetes: version(resource, &mut wrong),
        engine: engine(resource),
        private,
        api_server,
        pods: ranges(resource, "podCidrs", "podCidr", &mut wrong),
        services: ranges(resource, "serviceCidrs", "serviceCidr", &mut wrong),
        dns: address(resource, &mut wrong),
        pools: pools::read(resource),
    };
    if wrong.is_empty() { Ok(facts) } else { Err(wrong) }
}

impl Facts<'_> {
    fn text(&self, path: &str) -> Option<&str> {
        self.resource.text(path)
    }

    fn is_on(&self, path: &str) -> bool {
        self.resource.flag(path) == Some(true)
    }

    /// The pools whose pods have no range of their own, and stand among the nodes (Azure CNI without overlay and without
    /// subnets for pods).
    fn shared_pools(&self) -> Vec<&str> {
        if !self.pods.is_empty() || self.word("networkProfile.networkPlugin").as_deref() != Some("azure") {
            return Vec::new();
        }
        if self.pools.is_empty() {
            return vec!["pools that the output does not show"];
        }
        let shared = self.pools.iter().filter(|pool| pool.pod_subnet().is_none());
        shared.map(|pool| &*pool.name).collect()
    }

    /// In lower case: Azure compares words without regard to case.
    fn word(&self, path: &str) -> Option<String> {
        self.resource.text(path).map(str::to_ascii_lowercase)
    }
}

/// By the suffix of the API server's name; the region must not contradict.
fn cloud(resource: Resource<'_>, wrong: &mut Vec<String>) -> Option<Cloud> {
    let mut found = Vec::new();
    for path in ["fqdn", "privateFqdn"] {
        let Some(name) = resource.text(path) else { continue };
        let lower = name.to_ascii_lowercase();
        match SUFFIXES.iter().find(|(suffix, _)| lower.ends_with(suffix)) {
            Some((_, cloud)) => found.push((*cloud, path)),
            // A private zone of one's own can have any name; a public one cannot.
            None if path == "privateFqdn" => {}
            None => wrong.push(format!(
                "`{path}` is `{}`, which is of no cloud that is known here",
                plain(name)
            )),
        }
    }
    let region = short(resource.text("location").unwrap_or_default());
    if AIR_GAPPED.iter().any(|prefix| region.starts_with(prefix)) {
        wrong.push(format!(
            "`location` is `{}`, a cloud whose endpoints are in no public list",
            plain(&region)
        ));
    }
    if let Some((_, cloud)) = REGIONS.iter().find(|(prefix, _)| region.starts_with(prefix)) {
        found.push((*cloud, "location"));
    } else if let Some((cloud, path)) = found.iter().find(|(cloud, _)| *cloud != Cloud::Public) {
        wrong.push(format!(
            "`{path}` is of the cloud {}, and `location` is `{}`",
            cloud.as_str(),
            plain(&region)
        ));
    }
    let (first, path) = *found.first()?;
    if let Some((other, other_path)) = found.iter().find(|(other, _)| *other != first) {
        wrong.push(format!(
            "`{path}` is of the cloud {}, and `{other_path}` of {}",
            first.as_str(),
            other.as_str()
        ));
    }
    Some(first)
}

fn region(resource: Resource<'_>, wrong: &mut Vec<String>) -> Option<String> {
    let text = resource.text("location")?;
    let short = short(text);
    let valid = !short.is_empty()
        && short
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !valid {
        wrong.push(format!("`location` cannot be `{}`", plain(text)));
    }
    valid.then_some(short)
}

/// `westeurope` of `West Europe`: older outputs have the name for people.
fn short(location: &str) -> String {
    let kept = location.chars().filter(|c| !matches!(c, ' ' | '-'));
    kept.collect::<String>().to_ascii_lowercase()
}

fn version(resource: Resource<'_>, wrong: &mut Vec<String>) -> Option<String> {
    let path = ["currentKubernetesVersion", "kubernetesVersion"];
    let path = path.into_iter().find(|path| resource.text(path).is_some())?;
    let text = resource.text(path)?;
    let parts: Vec<_> = text.split('.').collect();
    let number = |part: &&str| part.parse::<u16>().is_ok() && part.bytes().all(|byte| byte.is_ascii_digit());
    if matches!(parts.len(), 2 | 3) && parts.iter().all(number) {
        return Some(text.to_owned());
    }
    wrong.push(format!("`{path}` cannot be `{}`", plain(text)));
    None
}

fn engine(resource: Resource<'_>) -> EngineFact {
    let policy = resource.field("networkProfile.networkPolicy");
    match policy.word().as_deref() {
        Some("cilium") => EngineFact::Is(Engine::Cilium),
        Some("calico") => EngineFact::Is(Engine::Calico),
        Some("azure") => EngineFact::Is(Engine::AzureNpm),
        Some("none" | "") => none(resource, &policy.to_string()),
        None if policy.is_null() => {
            // Older outputs name the engine only as the data plane that it is part of.
            if resource.field(DATAPLANE).word().as_deref() == Some("cilium") {
                EngineFact::Is(Engine::Cilium)
            } else {
                none(resource, &policy.to_string())
            }
        }
        _ => EngineFact::Unknown(policy.to_string()),
    }
}

fn none(resource: Resource<'_>, policy: &str) -> EngineFact {
    let dataplane = resource.field(DATAPLANE);
    if dataplane.word().as_deref() == Some("cilium") {
        return EngineFact::Unknown(format!("{policy} and {dataplane}"));
    }
    let plugin = resource.field("networkProfile.networkPlugin").word();
    if plugin.as_deref() == Some("none") {
        EngineFact::Own
    } else {
        EngineFact::None
    }
}

fn api_server(resource: Resource<'_>, private: bool, wrong: &mut Vec<String>) -> Option<HostName> {
    // Without a private zone there is only the public name, which then has the private address.
    let path = if private && resource.text("privateFqdn").is_some() {
        "privateFqdn"
    } else {
        "fqdn"
    };
    let text = resource.text(path)?;
    match HostName::parse(text.as_bytes()) {
        Ok(name) => Some(name),
        Err(why) => {
            wrong.push(format!("`{path}` cannot be `{}`: {why}", plain(text)));
            None
        }
    }
}

/// A list, or where there is none the single value of older outputs.
fn ranges(resource: Resource<'_>, list: &str, single: &str, wrong: &mut Vec<String>) -> Vec<IpNet> {
    let list = format!("networkProfile.{list}");
    let single = format!("networkProfile.{single}");
    let mut texts: Vec<_> = resource
        .items(&list)
        .iter()
        .map(|item| (&list, item.as_str()))
        .collect();
    if texts.is_empty() {
        texts.extend(resource.text(&single).map(|text| (&single, Some(text))));
    }
    let mut all = Vec::new();
    for (path, text) in texts {
        match text.and_then(|text| text.trim().parse::<IpNet>().ok()) {
            Some(range) if range.trunc() == range => all.push(range),
            _ => wrong.push(format!(
                "`{path}` cannot be `{}`: not a range",
                plain(text.unwrap_or("?"))
            )),
        }
    }
    all
}

fn address(resource: Resource<'_>, wrong: &mut Vec<String>) -> Option<IpAddr> {
    let text = resource.text("networkProfile.dnsServiceIp")?;
    let address = text.parse().ok();
    if address.is_none() {
        wrong.push(format!("`networkProfile.dnsServiceIp` cannot be `{}`", plain(text)));
    }
    address
}

const DATAPLANE: &str = "networkProfile.networkDataplane";
const KIND: &str = "microsoft.containerservice/managedclusters";
/// Of the names of API servers.
const SUFFIXES: [(&str, Cloud); 3] = [
    (".azmk8s.io", Cloud::Public),
    (".azk8s.cn", Cloud::China),
    (".azure.us", Cloud::UsGov),
];
/// The regions of clouds of their own; all others are of the public one.
const REGIONS: [(&str, Cloud); 3] = [
    ("china", Cloud::China),
    ("usgov", Cloud::UsGov),
    ("usdod", Cloud::UsGov),
];
const AIR_GAPPED: [&str; 2] = ["usnat", "ussec"];

#[cfg(test)]
mod tests;
