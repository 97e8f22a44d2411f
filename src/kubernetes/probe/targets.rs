//! Against what probes are run: addresses outside, nodes, the API server, where the proxy and its ports are.
//! Must not look anything up. It stands in the observations, so that whoever judges them judges what was tried.
//! Called by `verify`, which fills it from flags and environment, and by the generator of its Jobs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{Authority, Host, HostName, Port};

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    pub host: Host,
    pub port: Port,
}

/// All targets. What a file leaves out has its usual value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Targets {
    /// TCP is tried at each, and on port 443 QUIC as well.
    pub public: Vec<SocketAddr>,
    /// A DNS server outside; its ports 53 and 853, and ICMP.
    pub public_dns: SocketAddr,
    pub public_ntp: SocketAddr,
    pub public_v6: SocketAddr,
    pub metadata: SocketAddr,
    /// Azure's platform address.
    pub wire_server: IpAddr,
    /// As pods find it: its Service.
    pub api_server: Option<SocketAddr>,
    /// Nodes other than the pod's own. Without a port: the kubelet and SSH.
    pub nodes: Vec<IpAddr>,
    /// More ports of nodes: node ports.
    pub node_ports: Vec<SocketAddr>,
    pub own_node: Option<IpAddr>,
    /// Where a workload is called, if not at its Service of the same name.
    pub workloads: BTreeMap<String, Vec<Target>>,
    /// The cluster's own public addresses: ingress, load balancers.
    pub hairpin: Vec<SocketAddr>,
    /// A name outside that exists.
    pub outside_name: String,
    /// How often the first seconds of a pod's life are tried.
    pub early: u16,
    pub proxy: ProxyAt,
}

/// Where the proxy is, for pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyAt {
    /// Empty: its Service, as `cluster.proxy` says.
    pub host: String,
    /// The explicit listener that workloads without a port of their own use.
    pub explicit: u16,
    /// Whether explicit listeners speak TLS.
    pub tls: bool,
    /// All shared listeners.
    pub shared: Vec<u16>,
    pub admin: u16,
    pub health: u16,
}

impl Default for Targets {
    fn default() -> Self {
        Self {
            public: vec![v4([1, 1, 1, 1], 443), v4([1, 1, 1, 1], 80)],
            public_dns: v4([1, 1, 1, 1], 53),
            public_ntp: v4([162, 159, 200, 123], 123),
            public_v6: SocketAddr::new(Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111).into(), 443),
            metadata: v4([169, 254, 169, 254], 80),
            wire_server: Ipv4Addr::new(168, 63, 129, 16).into(),
            api_server: None,
            nodes: Vec::new(),
            node_ports: Vec::new(),
            own_node: None,
            workloads: BTreeMap::new(),
            hairpin: Vec::new(),
            outside_name: "example.com".to_owned(),
            early: 50,
            proxy: ProxyAt::default(),
        }
    }
}

impl Default for ProxyAt {
    /// The ports of the built-in settings.
    fn default() -> Self {
        Self {
            host: String::new(),
            explicit: 3128,
            tls: false,
            shared: vec![3128, 8080, 8443],
            admin: 9090,
            health: 9091,
        }
    }
}

impl Target {
    pub(super) fn at(address: SocketAddr) -> Option<Self> {
        let port = Port::new(address.port())?;
        let host = Host::Address(address.ip());
        Some(Self { host, port })
    }

    pub(super) fn of_name(name: &str, port: Port) -> Option<Self> {
        let host = Host::Name(HostName::parse(name.as_bytes()).ok()?);
        Some(Self { host, port })
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let authority = Authority::parse(text.as_bytes()).map_err(|error| format!("`{text}`: {error}"))?;
        let port = authority
            .port
            .ok_or_else(|| format!("`{text}` has no port: write `host:port`"))?;
        Ok(Self {
            host: authority.host,
            port,
        })
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

const fn v4(address: [u8; 4], port: u16) -> SocketAddr {
    let [a, b, c, d] = address;
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}
