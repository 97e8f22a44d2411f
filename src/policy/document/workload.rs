//! Workloads: named groups of clients, how the proxy knows them, and what the generators must open for them.
//! Must not look at other workloads; whether the names in `calls` exist is checked when all files are read.
//! Called by the reader of a file.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::cluster::{Labels, labels};
use super::{Accept, Doubts, Text, accept, address, syntax};
use crate::name::Port;
use crate::policy::problem::lint::Bearer;
use crate::policy::problem::{At, Problems};
use crate::policy::yaml::{
    Node, Value,
    typed::{self, Empty, Fields},
};

/// One entry of `workloads`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    pub name: Text,
    pub namespace: Option<At<Text>>,
    /// Empty where there is no `namespace`.
    pub pods: Labels,
    /// Its own explicit listener.
    pub port: Option<At<Port>>,
    /// The container ports that it serves.
    pub ports: Vec<At<Port>>,
    pub calls: Vec<At<Text>>,
    pub called_by: Vec<At<Caller>>,
    pub identity: At<Identity>,
    /// Straight past the proxy: exact addresses and ports.
    pub direct: Vec<At<SocketAddr>>,
    pub cidrs: Vec<At<IpNet>>,
    /// Whether generated policies close its namespace.
    pub locked: bool,
    /// `api_server: allow`.
    pub api_server: bool,
    /// The warnings that stand where they are.
    pub accept: Vec<At<Accept>>,
}

/// Who may call a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    Workload(Text),
    Cidr(IpNet),
    /// The API server, through its tunnel: webhooks and aggregated APIs.
    Konnectivity,
}

/// Which identity a workload's pods use towards Azure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    #[default]
    None,
    /// Federated service account tokens.
    Workload,
    /// The node's, through instance metadata.
    Imds,
}

impl Workload {
    /// Whether the proxy has any way to see that a connection is its.
    pub fn is_recognisable(&self) -> bool {
        self.port.is_some() || !self.cidrs.is_empty()
    }
}

/// Reads the key `workloads`.
pub(super) fn read_all(node: &Node<'_>, doubts: &mut Doubts, problems: &mut Problems<'_>) -> Vec<At<Workload>> {
    if matches!(&node.value, Value::Map(entries) if entries.is_empty()) {
        return Vec::new();
    }
    let Some(entries) = typed::map(node, "`workloads`", problems) else {
        doubts.workloads = true;
        return Vec::new();
    };
    let mut all = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let Some(name) = syntax::dns_label(key, "the name of a workload", problems) else {
            if let Value::Text(name) = &key.value {
                doubts
                    .names
                    .extend([Text::from(&**name), syntax::near_label(name).into()]);
            }
            continue;
        };
        if &*name == KONNECTIVITY {
            problems
                .error(key.at, "`konnectivity` cannot be the name of a workload")
                .help("in `called_by` it stands for the API server");
            continue;
        }
        let errors = problems.errors();
        let workload = read(Text::clone(&name), value, key.at, problems);
        if problems.errors() > errors {
            doubts.names.insert(name);
        }
        all.extend(workload.map(|value| At { value, at: key.at }));
    }
    all
}

fn read(
    name: Text,
    node: &Node<'_>,
    key: crate::policy::problem::Place,
    problems: &mut Problems<'_>,
) -> Option<Workload> {
    let fields = typed::fields(node, "a workload", &KEYS, problems)?;
    let identity = fields.value("identity");
    let workload = Workload {
        namespace: fields.value("namespace").and_then(|node| {
            let value = syntax::dns_label(node, "`namespace`", problems)?;
            Some(At { value, at: node.at })
        }),
        pods: fields
            .value("pods")
            .map(|node| labels(node, "`pods`", problems))
            .unwrap_or_default(),
        port: fields.value("port").and_then(|node| port(node, "`port`", problems)),
        ports: ports(&fields, problems),
        calls: calls(&fields, problems),
        called_by: called_by(&fields, problems),
        identity: At {
            value: identity
                .and_then(|node| typed::word(node, "`identity`", &IDENTITIES, problems))
                .unwrap_or_default(),
            at: identity.map_or(key, |node| node.at),
        },
        direct: direct(&fields, problems),
        cidrs: fields
            .value("cidrs")
            .map(|node| address::networks(node, "`cidrs`", problems))
            .unwrap_or_default(),
        locked: fields
            .value("locked")
            .and_then(|node| typed::flag(node, "`locked`", problems))
            .unwrap_or(true),
        api_server: fields
            .value("api_server")
            .and_then(|node| typed::word(node, "`api_server`", &API_SERVER, problems))
            .unwrap_or(false),
        accept: fields
            .value("accept")
            .map(|node| accept::read(node, Bearer::Workload, problems))
            .unwrap_or_default(),
        name,
    };
    check_selector(&fields, key, problems);
    Some(workload)
}

/// A workload says who it is: pods, address ranges, or the port that they come in through.
fn check_selector(fields: &Fields<'_, '_>, key: crate::policy::problem::Place, problems: &mut Problems<'_>) {
    match (fields.place("namespace"), fields.place("pods")) {
        (Some(at), None) => {
            problems
                .error(at, "`namespace` without `pods`")
                .help("name the pods by their labels: `pods: {app: NAME}`");
        }
        (None, Some(at)) => {
            problems
                .error(at, "`pods` without `namespace`")
                .help("labels select pods of one namespace: `namespace: NAME`");
        }
        (None, None) if fields.place("port").is_none() && fields.place("cidrs").is_none() => {
            problems
                .error(key, "the workload does not say who it is")
                .help("name its pods (`namespace` and `pods`), its own `port`, or its addresses (`cidrs`)");
        }
        _ => {}
    }
}

fn port(node: &Node<'_>, what: &str, problems: &mut Problems<'_>) -> Option<At<Port>> {
    let number = typed::integer(node, what, problems)?;
    let port = u16::try_from(number).ok().and_then(Port::new);
    if port.is_none() {
        problems
            .error(node.at, format!("{what} cannot be {number}"))
            .help("a port is a number from 1 to 65535");
    }
    port.map(|value| At { value, at: node.at })
}

fn ports(fields: &Fields<'_, '_>, problems: &mut Problems<'_>) -> Vec<At<Port>> {
    let Some(node) = fields.value("ports") else {
        return Vec::new();
    };
    let items = typed::list(node, "`ports`", Empty::Refused, problems).unwrap_or_default();
    let mut all: Vec<At<Port>> = Vec::with_capacity(items.len());
    for item in items {
        let Some(port) = port(item, "a port", problems) else {
            continue;
        };
        if all.contains(&port) {
            problems
                .error(item.at, format!("the port {} stands here twice", port.value))
                .help("remove one of the two");
        }
        all.push(port);
    }
    all
}

fn calls(fields: &Fields<'_, '_>, problems: &mut Problems<'_>) -> Vec<At<Text>> {
    let Some(node) = fields.value("calls") else {
        return Vec::new();
    };
    let items = typed::list(node, "`calls`", Empty::Fine, problems).unwrap_or_default();
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        let name = typed::text(item, "an item of `calls`", problems);
        all.extend(name.map(|name| At {
            value: name.into(),
            at: item.at,
        }));
    }
    all
}

fn called_by(fields: &Fields<'_, '_>, problems: &mut Problems<'_>) -> Vec<At<Caller>> {
    let Some(node) = fields.value("called_by") else {
        return Vec::new();
    };
    let items = typed::list(node, "`called_by`", Empty::Fine, problems).unwrap_or_default();
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        all.extend(caller(item, problems).map(|value| At { value, at: item.at }));
    }
    all
}

fn caller(item: &Node<'_>, problems: &mut Problems<'_>) -> Option<Caller> {
    if matches!(item.value, Value::Map(_)) {
        let fields = typed::fields(item, "an item of `called_by`", &["cidr"], problems)?;
        let cidr = address::one(fields.value("cidr")?, "`cidr`", problems)?;
        return Some(Caller::Cidr(cidr.value));
    }
    let name = typed::text(item, "an item of `called_by`", problems)?;
    if name == KONNECTIVITY {
        return Some(Caller::Konnectivity);
    }
    if address::network(name).is_some() {
        problems
            .error(item.at, "an address stands where a workload is expected")
            .help(format!("write `{{cidr: {name}}}`"));
        return None;
    }
    Some(Caller::Workload(name.into()))
}

fn direct(fields: &Fields<'_, '_>, problems: &mut Problems<'_>) -> Vec<At<SocketAddr>> {
    let Some(node) = fields.value("direct") else {
        return Vec::new();
    };
    let items = typed::list(node, "`direct`", Empty::Fine, problems).unwrap_or_default();
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        let Some(text) = typed::text(item, "an item of `direct`", problems) else {
            continue;
        };
        let Some(value) = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0) else {
            let why = if text.contains('/') {
                "`direct` takes no ranges: each way past the proxy is one address and one port".to_owned()
            } else {
                format!("`{text}` is not an address with a port")
            };
            problems
                .error(item.at, why)
                .help("write `\"10.1.2.4:1433\"` or `\"[2001:db8::1]:1433\"`; names are not known to NetworkPolicies");
            continue;
        };
        if let Some(never) = address::never(value.ip().into()) {
            problems
                .error(item.at, never.why)
                .help("`direct` cannot open it; for instance metadata write `identity: imds`");
            continue;
        }
        all.push(At { value, at: item.at });
    }
    all
}

const KONNECTIVITY: &str = "konnectivity";
const KEYS: [&str; 12] = [
    "namespace",
    "pods",
    "port",
    "ports",
    "calls",
    "called_by",
    "identity",
    "direct",
    "cidrs",
    "locked",
    "api_server",
    "accept",
];
const IDENTITIES: [(&str, Identity); 3] = [
    ("none", Identity::None),
    ("workload", Identity::Workload),
    ("imds", Identity::Imds),
];
const API_SERVER: [(&str, bool); 2] = [("allow", true), ("deny", false)];
