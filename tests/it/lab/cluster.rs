//! A cluster in network namespaces: pods behind a node that enforces generated policies, Services, a second node, and a
//! world with the API server, metadata, Azure's platform address and a database in it.
//! Must not open anything by itself. Called by the tests of the lock and of `verify`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use serde_json::json;

use super::netns::Netns;
use crate::clients::{Run, bare, run};
use crate::netpol::{Engine, Pod, Ways, World};
use crate::support::ca::Ca;
use crate::support::dns::Dns;
use crate::support::origin::{Origin, pages};
use crate::support::proxy::Proxy;
use crate::support::setup::{BINARY, Setup};

/// ```text
/// pods 10.244.x.y/32 --- node 10.224.0.4: routes, translates Services, enforces --- world: every other address
///      fd44::x:y                      |
///                            other 10.224.0.5
/// ```
pub struct Cluster {
    pub policy: String,
    pub model: World,
    pub node: Netns,
    pub world: Netns,
    pub ca: Ca,
    /// In the pod `dns`: what pods ask.
    pub pods_dns: Dns,
    /// At Azure's platform address: what the proxy asks.
    pub azure_dns: Dns,
    pods: BTreeMap<&'static str, Netns>,
    other_node: Netns,
    _origins: Vec<Origin>,
}

impl Cluster {
    /// A cluster in which nothing is enforced yet.
    pub fn start(engine: Engine) -> Self {
        let model = model(engine);
        let node = quick("node");
        for setting in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
            node.sysctl(setting);
        }
        node.ip(&["addr", "add", NODE, "dev", "lo"]);
        let world = quick("world");
        world.link("eth0", &node, "world");
        let other = quick("other");
        other.link("eth0", &node, "other");
        for (netns, device, address) in [
            (&world, "eth0", "100.64.0.2/30"),
            (&node, "world", "100.64.0.1/30"),
            (&world, "eth0", "fd64::2/64"),
            (&node, "world", "fd64::1/64"),
            (&other, "eth0", "10.224.0.5/16"),
            (&node, "other", "10.224.0.4/16"),
        ] {
            netns.ip(&["addr", "add", address, "dev", device, "nodad"]);
        }
        for (netns, via) in [(&node, ["100.64.0.2", "fd64::2"]), (&world, ["100.64.0.1", "fd64::1"])] {
            for via in via {
                netns.ip(&["route", "add", "default", "via", via]);
            }
        }
        other.ip(&["route", "add", "default", "via", "10.224.0.4"]);
        for address in [WEB, RESOLVER, RESOLVER6, API_SERVER, METADATA, PLATFORM, DATABASE] {
            world.ip(&["addr", "add", address, "dev", "lo", "nodad"]);
        }
        let pods: BTreeMap<_, _> = model.pods.iter().map(|pod| (pod.name, plug_in(pod, &node))).collect();
        let cluster = Self {
            ca: Ca::new("cluster"),
            pods_dns: pods["dns"].run(|| Dns::start_at("0.0.0.0:53".parse().unwrap())),
            azure_dns: world.run(|| Dns::start_at(format!("{PLATFORM}:53").parse().unwrap())),
            policy: POLICY.replace("ENGINE", engine_word(engine)),
            model,
            node,
            world,
            pods,
            other_node: other,
            _origins: Vec::new(),
        };
        cluster.names();
        cluster.services(&["proxy"]);
        let origins = cluster.origins();
        Self {
            _origins: origins,
            ..cluster
        }
    }

    /// A pod's namespace.
    pub fn pod(&self, name: &str) -> &Netns {
        &self.pods[name]
    }

    pub fn address(&self, pod: &str) -> IpAddr {
        self.model.pods.iter().find(|one| one.name == pod).unwrap().addresses[0]
    }

    /// What `sluicegate generate network-policies` writes for this cluster's policy.
    pub fn generated(&self) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.yaml");
        std::fs::write(&file, &self.policy).unwrap();
        let mut command = Command::new(BINARY);
        let output = command
            .args(["generate", "network-policies", "--policy"])
            .arg(&file)
            .env_remove("SLUICEGATE_CONFIG")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        vec![String::from_utf8(output.stdout).unwrap()]
    }

    /// Puts policies in force on the node.
    pub fn enforce(&self, policies: &[String]) {
        self.enforce_on(policies, &self.model);
    }

    /// The same for pods that are not quite as they should be.
    pub fn enforce_on(&self, policies: &[String], model: &World) {
        self.node.nft(&Ways::of(policies, model).nft(device));
    }

    /// The proxy, in a pod of its own, with the settings of `deploy/` as far as a pod sees them.
    pub fn proxy_in(&self, pod: &str) -> Proxy {
        let netns = self.pod(pod);
        netns.file("resolv.conf", &format!("nameserver {PLATFORM}\n"));
        let setup = Setup::new(&self.policy)
            .set(
                "listeners",
                json!([
                    {"name": "proxy", "mode": "explicit", "bind": "0.0.0.0:3128"},
                    {"name": "tls", "mode": "tls", "bind": "0.0.0.0:8443", "port": 443},
                    {"name": "http", "mode": "http", "bind": "0.0.0.0:8080", "port": 80},
                ]),
            )
            .set("health.bind", "0.0.0.0:9091".into())
            .set("admin.bind", "127.0.0.1:9090".into())
            .set("dns.servers", json!([]))
            .wrapped(&["ip", "netns", "exec", &netns.name]);
        netns.run(|| setup.start())
    }

    /// Translates Services; the proxy's goes to these pods in turn.
    pub fn services(&self, proxies: &[&str]) {
        let mut rules = String::from(
            "table ip services\ndelete table ip services\ntable ip services {\n chain pre {\n  type nat hook \
             prerouting priority dstnat; policy accept;\n",
        );
        for (service, port, pod, target) in SERVICES {
            let pod = self.address(pod);
            for protocol in ["tcp", "udp"] {
                let _ = writeln!(
                    rules,
                    "  ip daddr {service} {protocol} dport {port} dnat to {pod}:{target}"
                );
            }
        }
        let _ = writeln!(rules, "  ip daddr 10.0.0.1 tcp dport 443 dnat to {API_SERVER}:443");
        if let Some(list) = self.backends(proxies) {
            let _ = writeln!(
                rules,
                "  ip daddr {PROXY_SERVICE} dnat to numgen inc mod {} map {{ {list} }}",
                proxies.len()
            );
        }
        self.node.nft(&(rules + " }\n}\n"));
    }

    /// A client program in a pod, which trusts the world's authority.
    pub fn client(&self, pod: &str, program: &str, arguments: &[&str]) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("ca.pem");
        std::fs::write(&bundle, self.ca.pem()).unwrap();
        let mut command = bare("ip", folder.path());
        command
            .args(["netns", "exec", &self.pod(pod).name, program])
            .args(arguments);
        for name in ["CURL_CA_BUNDLE", "SSL_CERT_FILE"] {
            command.env(name, &bundle);
        }
        run(command)
    }

    fn backends(&self, proxies: &[&str]) -> Option<String> {
        let one = |(number, pod): (usize, &&str)| format!("{number} : {}", self.address(pod));
        let all: Vec<_> = proxies.iter().enumerate().map(one).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    fn names(&self) {
        for dns in [&self.pods_dns, &self.azure_dns] {
            for name in ["*.allowed.test", "denied.test"] {
                dns.set(name, [WEB.parse::<IpAddr>().unwrap()]);
            }
            dns.set(API_SERVER_NAME, [API_SERVER.parse::<IpAddr>().unwrap()]);
        }
        for (name, address) in [
            ("kubernetes.default.svc.cluster.local", "10.0.0.1"),
            ("sluicegate.sluicegate.svc.cluster.local", PROXY_SERVICE),
            ("poi.geo.svc.cluster.local", "10.0.1.11"),
            ("orders.geo.svc.cluster.local", "10.0.1.12"),
            ("trips.api.svc.cluster.local", "10.0.1.10"),
        ] {
            self.pods_dns.set(name, [address.parse::<IpAddr>().unwrap()]);
        }
        for netns in self.pods.values() {
            netns.file(
                "resolv.conf",
                "nameserver 10.0.0.10\nsearch svc.cluster.local cluster.local\noptions ndots:5 timeout:1 attempts:1\n",
            );
        }
    }

    /// Everything that could be reached, so that what is not is closed and not merely absent.
    fn origins(&self) -> Vec<Origin> {
        let config = self
            .ca
            .server_config(&["*.allowed.test", "denied.test", API_SERVER_NAME]);
        let https = |at: &str| Origin::https_at(at, Arc::clone(&config), Arc::new(pages));
        let http = |at: &str| Origin::http_at(at, Arc::new(pages));
        let mut all = self.world.run(|| {
            let resolver: SocketAddr = format!("{RESOLVER}:53").parse().unwrap();
            Dns::start_at(resolver).set("example.com", [WEB.parse::<IpAddr>().unwrap()]);
            for port in [443, 123] {
                echo_datagrams(&format!("{RESOLVER}:{port}"));
            }
            vec![
                https(&format!("{WEB}:443")),
                http(&format!("{WEB}:80")),
                https(&format!("{RESOLVER}:443")),
                https(&format!("{RESOLVER}:853")),
                https(&format!("[{RESOLVER6}]:443")),
                https(&format!("{API_SERVER}:443")),
                http(&format!("{METADATA}:80")),
                http(&format!("{PLATFORM}:80")),
                http(&format!("{PLATFORM}:32526")),
                answering(&format!("{DATABASE}:1433"), "", b"\x04"),
                answering(&format!("{DATABASE}:1434"), "", b"\x04"),
            ]
        });
        for pod in ["trips", "poi", "orders", "open"] {
            all.push(self.pod(pod).run(|| http("0.0.0.0:8080")));
            all.push(self.pod(pod).run(|| http("0.0.0.0:8081")));
        }
        all.push(self.pod("ingress").run(|| https("0.0.0.0:443")));
        all.push(self.node.run(|| https("10.224.0.4:10250")));
        all.extend(self.other_node.run(|| {
            [
                https(&format!("{OTHER_NODE}:10250")),
                answering(&format!("{OTHER_NODE}:22"), "SSH-2.0-lab\r\n", b""),
                http(&format!("{OTHER_NODE}:30080")),
            ]
        }));
        all
    }
}

/// A routed pod, as Azure CNI and Calico make them.
fn plug_in(pod: &Pod, node: &Netns) -> Netns {
    let netns = quick(pod.name);
    netns.link("eth0", node, &device(pod.name));
    let device = device(pod.name);
    let [v4, v6] = [0, 1].map(|place| pod.addresses[place].to_string());
    node.ip(&["addr", "add", "169.254.1.1/32", "dev", &device]);
    node.ip(&["addr", "add", "fe80::1/64", "dev", &device, "nodad"]);
    node.ip(&["route", "add", &v4, "dev", &device]);
    node.ip(&["route", "add", &v6, "dev", &device]);
    netns.ip(&["addr", "add", &v4, "dev", "eth0"]);
    netns.ip(&["addr", "add", &v6, "dev", "eth0", "nodad"]);
    netns.ip(&["route", "add", "169.254.1.1", "dev", "eth0", "scope", "link"]);
    netns.ip(&["route", "add", "default", "via", "169.254.1.1"]);
    netns.ip(&["route", "add", "default", "via", "fe80::1", "dev", "eth0"]);
    netns
}

/// A namespace whose IPv6 addresses count from the first moment, without a search for duplicates.
fn quick(label: &str) -> Netns {
    let netns = Netns::new(label);
    for scope in ["all", "default"] {
        netns.sysctl(&format!("net.ipv6.conf.{scope}.accept_dad=0"));
    }
    netns
}

fn device(pod: &str) -> String {
    format!("v-{pod}")
}

/// A server that says something first, or answers whatever comes.
fn answering(at: &str, banner: &'static str, answer: &'static [u8]) -> Origin {
    Origin::start(at, move |tap| {
        tap.write_all(banner.as_bytes())?;
        let mut buffer = [0; 512];
        while tap.read(&mut buffer)? > 0 {
            tap.write_all(answer)?;
        }
        Ok(())
    })
}

fn echo_datagrams(at: &str) {
    let socket = UdpSocket::bind(at).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], from);
        }
    });
}

fn model(engine: Engine) -> World {
    let pod = |name, namespace, labels: &[(&str, &str)], number: u8| {
        let mut pod = Pod::new(name, namespace, labels, &format!("10.244.0.{number}"));
        pod.addresses.push(format!("fd44::{number}").parse().unwrap());
        pod
    };
    World {
        engine,
        pods: vec![
            pod("trips", "api", &[("app", "trips")], 10),
            pod("stray", "api", &[], 13),
            pod("poi", "geo", &[("app", "poi")], 11),
            pod("orders", "geo", &[("app", "orders")], 12),
            pod(
                "ingress",
                "ingress-nginx",
                &[("app.kubernetes.io/name", "ingress-nginx")],
                20,
            ),
            pod("open", "playground", &[("app", "open")], 30),
            pod("dns", "kube-system", &[("k8s-app", "kube-dns")], 53),
            pod("proxy", "sluicegate", &[("app.kubernetes.io/name", "sluicegate")], 40),
            pod("proxy2", "sluicegate", &[("app.kubernetes.io/name", "sluicegate")], 41),
            pod("proxy3", "sluicegate", &[("app.kubernetes.io/name", "sluicegate")], 42),
        ],
        nodes: [NODE, OTHER_NODE].map(|node| node.parse().unwrap()).into(),
        api_server: vec![API_SERVER.parse().unwrap()],
    }
}

fn engine_word(engine: Engine) -> &'static str {
    match engine {
        Engine::Cilium => "cilium",
        Engine::Calico => "calico",
        Engine::AzureNpm => "azure-npm",
    }
}

pub const NODE: &str = "10.224.0.4";
pub const OTHER_NODE: &str = "10.224.0.5";
/// The world's web server: `*.allowed.test` and `denied.test`, 443 and 80.
pub const WEB: &str = "93.184.216.34";
/// A resolver outside: 53, 853, and 443 in every form.
pub const RESOLVER: &str = "1.1.1.1";
pub const RESOLVER6: &str = "2606:4700:4700::1111";
pub const API_SERVER: &str = "20.50.1.2";
pub const API_SERVER_NAME: &str = "myaks.hcp.westeurope.azmk8s.io";
pub const METADATA: &str = "169.254.169.254";
pub const PLATFORM: &str = "168.63.129.16";
/// In the virtual network: 1433 is `trips`' direct way, 1434 nobody's.
pub const DATABASE: &str = "10.1.2.4";
pub const PROXY_SERVICE: &str = "10.0.3.10";
/// The ingress controller from outside, as its load balancer shows it.
pub const LOAD_BALANCER: &str = "52.1.2.3";
/// Address, port, pod and container port.
const SERVICES: &[(&str, u16, &str, u16)] = &[
    ("10.0.0.10", 53, "dns", 53),
    ("10.0.1.10", 80, "trips", 8080),
    ("10.0.1.11", 80, "poi", 8080),
    ("10.0.1.12", 80, "orders", 8080),
    ("10.0.1.10", 8080, "trips", 8080),
    ("10.0.1.11", 8080, "poi", 8080),
    ("10.0.1.12", 8080, "orders", 8080),
    (LOAD_BALANCER, 443, "ingress", 443),
];

/// Two locked namespaces with three workloads, an ingress that is not locked.
const POLICY: &str = r#"
cluster:
  cloud: public
  region: westeurope
  kubernetes: "1.35"
  engine: ENGINE
  api_server: myaks.hcp.westeurope.azmk8s.io
  api_server_addresses: [20.50.1.2/32]
  networks: {nodes: [10.224.0.0/16], pods: [10.244.0.0/16], services: [10.0.0.0/16]}
workloads:
  trips:
    {namespace: api, pods: {app: trips}, port: 3201, ports: [8080], calls: [poi], called_by: [ingress], direct: ["10.1.2.4:1433"]}
  poi: {namespace: geo, pods: {app: poi}, ports: [8080]}
  orders: {namespace: geo, pods: {app: orders}, port: 3202, ports: [8080], api_server: allow}
  ingress: {namespace: ingress-nginx, pods: {app.kubernetes.io/name: ingress-nginx}, locked: false}
allow:
  - {name: web, from: [trips], to: [api.allowed.test, "http://api.allowed.test"]}
  - {name: other, from: [orders], to: [other.allowed.test]}
  - {name: maps, from: [10.244.0.11], to: [maps.allowed.test]}
expect:
  - {from: trips, allow: [api.allowed.test, "http://api.allowed.test"]}
  - {from: trips, deny: [other.allowed.test, denied.test]}
  - {from: orders, deny: api.allowed.test}
"#;
