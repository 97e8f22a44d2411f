//! Facts of the cluster, who may change the lock, and what namespaces get: the keys that generators and presets read.
//! Must not fill in what was not written, except where the names of our own objects have defaults.
//! Called by the reader of a file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Text;
use super::{address, destination, syntax};
use crate::name::HostName;
use crate::policy::problem::{At, Problems};
use crate::policy::yaml::{
    Node, Value,
    typed::{self, Empty},
};

/// Labels that select pods: all of them must be there.
pub type Labels = BTreeMap<String, String>;

/// The `cluster` key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    pub cloud: Option<At<Cloud>>,
    pub region: Option<At<Text>>,
    /// `1.35` or `1.35.2`.
    pub kubernetes: Option<At<Text>>,
    pub engine: Option<At<Engine>>,
    pub api_server: Option<At<HostName>>,
    pub api_server_addresses: Vec<At<IpNet>>,
    pub networks: Networks,
    pub proxy: Proxy,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cloud {
    #[default]
    Public,
    China,
    UsGov,
}

/// What enforces a `NetworkPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Cilium,
    Calico,
    AzureNpm,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    pub nodes: Vec<At<IpNet>>,
    pub pods: Vec<At<IpNet>>,
    pub services: Vec<At<IpNet>>,
}

/// Where generated manifests expect the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    pub namespace: Text,
    pub pods: Labels,
    pub service: Text,
    /// Of a proxy outside the cluster, for its nodes.
    pub address: Option<At<SocketAddr>>,
}

/// The `lock` key: who may change the lock, and where it does not apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// Users, groups and service accounts as Kubernetes names them.
    pub owners: Vec<At<Text>>,
    pub system_namespaces: Vec<At<Text>>,
}

/// One entry of `namespaces`; amounts in Kubernetes' own terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    pub name: At<Text>,
    pub quota: BTreeMap<String, String>,
    pub limits: BTreeMap<String, String>,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            namespace: Arc::from("sluicegate"),
            pods: BTreeMap::from([("app.kubernetes.io/name".to_owned(), "sluicegate".to_owned())]),
            service: Arc::from("sluicegate"),
            address: None,
        }
    }
}

impl Cloud {
    pub(crate) const WORDS: [(&str, Self); 3] =
        [("public", Self::Public), ("china", Self::China), ("usgov", Self::UsGov)];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::China => "china",
            Self::UsGov => "usgov",
        }
    }
}

impl Engine {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cilium => "cilium",
            Self::Calico => "calico",
            Self::AzureNpm => "azure-npm",
        }
    }
}

impl Networks {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &At<IpNet>> {
        self.nodes.iter().chain(&self.pods).chain(&self.services)
    }
}

pub(super) fn read(node: &Node<'_>, problems: &mut Problems<'_>) -> Option<Cluster> {
    let keys = [
        "cloud",
        "region",
        "kubernetes",
        "engine",
        "api_server",
        "api_server_addresses",
        "networks",
        "proxy",
    ];
    let fields = typed::fields(node, "`cluster`", &keys, problems)?;
    let mut cluster = Cluster::default();
    if let Some(node) = fields.value("cloud") {
        let value = typed::word(node, "`cloud`", &Cloud::WORDS, problems);
        cluster.cloud = value.map(|value| At { value, at: node.at });
    }
    if let Some(node) = fields.value("region") {
        cluster.region = region(node, problems);
    }
    if let Some(node) = fields.value("kubernetes") {
        cluster.kubernetes = version(node, problems);
    }
    if let Some(node) = fields.value("engine") {
        let value = typed::word(node, "`engine`", &ENGINES, problems);
        cluster.engine = value.map(|value| At { value, at: node.at });
    }
    if let Some(node) = fields.value("api_server") {
        cluster.api_server = destination::exact_name(node, "`api_server`", problems);
    }
    if let Some(node) = fields.value("api_server_addresses") {
        cluster.api_server_addresses = address::networks(node, "`api_server_addresses`", problems);
    }
    if let Some(node) = fields.value("networks") {
        cluster.networks = networks(node, problems);
    }
    if let Some(node) = fields.value("proxy") {
        cluster.proxy = proxy(node, problems);
    }
    Some(cluster)
}

pub(super) fn read_lock(node: &Node<'_>, problems: &mut Problems<'_>) -> Option<Lock> {
    let fields = typed::fields(node, "`lock`", &["owners", "system_namespaces"], problems)?;
    let mut lock = Lock::default();
    if let Some(node) = fields.value("owners") {
        for item in typed::list(node, "`owners`", Empty::Refused, problems).unwrap_or_default() {
            let owner = syntax::line(item, "an item of `owners`", problems);
            lock.owners.extend(owner.map(|owner| At {
                value: owner.into(),
                at: item.at,
            }));
        }
    }
    if let Some(node) = fields.value("system_namespaces") {
        for item in typed::list(node, "`system_namespaces`", Empty::Refused, problems).unwrap_or_default() {
            let name = syntax::dns_label(item, "a namespace", problems);
            lock.system_namespaces
                .extend(name.map(|value| At { value, at: item.at }));
        }
    }
    Some(lock)
}

pub(super) fn read_namespaces(node: &Node<'_>, problems: &mut Problems<'_>) -> Vec<At<Namespace>> {
    let entries = typed::map(node, "`namespaces`", problems).unwrap_or_default();
    let mut all = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let Some(name) = syntax::dns_label(key, "a namespace", problems) else {
            continue;
        };
        let Some(fields) = typed::fields(value, "a namespace", &["quota", "limits"], problems) else {
            continue;
        };
        let mut amounts = |key: &str| {
            let node = fields.value(key)?;
            Some(amounts(node, &format!("`{key}`"), problems))
        };
        let quota = amounts("quota").unwrap_or_default();
        let limits = amounts("limits").unwrap_or_default();
        let name = At {
            value: name,
            at: key.at,
        };
        let value = Namespace { name, quota, limits };
        all.push(At { value, at: key.at });
    }
    all
}

/// A map of labels that selects something, so not an empty one.
pub(super) fn labels(node: &Node<'_>, what: &str, problems: &mut Problems<'_>) -> Labels {
    let entries = typed::map(node, what, problems).unwrap_or_default();
    let mut labels = Labels::new();
    for (key, value) in entries {
        labels.extend(syntax::label(key, value, problems));
    }
    labels
}

fn region(node: &Node<'_>, problems: &mut Problems<'_>) -> Option<At<Text>> {
    let text = typed::text(node, "`region`", problems)?;
    if text
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    {
        return Some(At {
            value: text.into(),
            at: node.at,
        });
    }
    let short: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    problems
        .error(node.at, format!("`region` cannot be `{text}`"))
        .help(format!("write `{}`, Azure's short name", short.to_ascii_lowercase()));
    None
}

fn version(node: &Node<'_>, problems: &mut Problems<'_>) -> Option<At<Text>> {
    let text = typed::text(node, "`kubernetes`", problems)?;
    let parts: Vec<_> = text.split('.').collect();
    let number = |part: &&str| {
        (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit()) && part.parse::<u16>().is_ok()
    };
    if matches!(parts.len(), 2 | 3) && parts.iter().all(number) {
        return Some(At {
            value: text.into(),
            at: node.at,
        });
    }
    problems
        .error(node.at, format!("`kubernetes` cannot be `{text}`"))
        .help("write the version as \"1.35\" or \"1.35.2\", in quotes");
    None
}

fn networks(node: &Node<'_>, problems: &mut Problems<'_>) -> Networks {
    let mut all = Networks::default();
    let Some(fields) = typed::fields(node, "`networks`", &["nodes", "pods", "services"], problems) else {
        return all;
    };
    let mut read = |key: &str| {
        let node = fields.value(key)?;
        Some(address::networks(node, &format!("`{key}`"), problems))
    };
    all.nodes = read("nodes").unwrap_or_default();
    all.pods = read("pods").unwrap_or_default();
    all.services = read("services").unwrap_or_default();
    all
}

fn proxy(node: &Node<'_>, problems: &mut Problems<'_>) -> Proxy {
    let mut proxy = Proxy::default();
    let Some(fields) = typed::fields(node, "`proxy`", &["namespace", "pods", "service", "address"], problems) else {
        return proxy;
    };
    if let Some(node) = fields.value("namespace") {
        proxy.namespace = syntax::dns_label(node, "`namespace`", problems).unwrap_or(proxy.namespace);
    }
    if let Some(node) = fields.value("pods") {
        proxy.pods = labels(node, "`pods`", problems);
    }
    if let Some(node) = fields.value("service") {
        proxy.service = syntax::dns_label(node, "`service`", problems).unwrap_or(proxy.service);
    }
    if let Some(node) = fields.value("address") {
        proxy.address = proxy_address(node, problems);
    }
    proxy
}

/// An address, not a name: whether it lies inside the cluster must be known before anything runs.
fn proxy_address(node: &Node<'_>, problems: &mut Problems<'_>) -> Option<At<SocketAddr>> {
    let text = typed::text(node, "`address`", problems)?;
    let parsed = text.parse::<SocketAddr>().ok();
    let value = parsed
        .map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()))
        .filter(|address| address.port() != 0 && !address.ip().is_loopback() && !address.ip().is_unspecified())
        .filter(|address| address::never(address.ip().into()).is_none());
    if value.is_none() {
        problems
            .error(node.at, format!("`address` cannot be `{text}`"))
            .help("the address and port of a proxy that nodes can reach: `\"10.1.0.4:3128\"`");
    }
    value.map(|value| At { value, at: node.at })
}

fn amounts(node: &Node<'_>, what: &str, problems: &mut Problems<'_>) -> BTreeMap<String, String> {
    let entries = typed::map(node, what, problems).unwrap_or_default();
    let mut amounts = BTreeMap::new();
    for (key, value) in entries {
        let Value::Text(name) = &key.value else { continue };
        if !syntax::is_label_key(name) {
            problems
                .error(key.at, format!("`{name}` is not the name of a resource"))
                .help("write `cpu`, `memory`, `pods`, `requests.cpu` or the like");
            continue;
        }
        let amount = syntax::quantity(value, &format!("`{name}`"), problems);
        amounts.extend(amount.map(|amount| (name.clone().into_owned(), amount)));
    }
    amounts
}

const ENGINES: [(&str, Engine); 3] = [
    ("cilium", Engine::Cilium),
    ("calico", Engine::Calico),
    ("azure-npm", Engine::AzureNpm),
];
