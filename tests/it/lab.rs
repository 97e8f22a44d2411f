//! The real binary between network namespaces: original destinations, real public addresses, clients without settings.
//! Must not touch the host's own network; every namespace is made here and has no link to the outside.
//! Called by `tests/run` as root.

mod built_in;
mod clock;
mod cluster;
mod guard;
mod hints;
mod lock;
pub mod netns;
mod proof;
mod rolling;
mod transparent;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde_json::json;

use self::netns::Netns;
use crate::clients::{Run, bare, run};
use crate::support::ca::Ca;
use crate::support::dns::Dns;
use crate::support::origin::{Origin, pages};
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;

/// A pod whose only way out is the gate, and a world behind it:
///
/// ```text
/// pod 10.244.0.2 -- 10.244.0.1 gate 10.245.0.1 -- 10.245.0.2 world: public addresses on its loopback
///     fd44::2    -- fd44::1         fd45::1    -- fd45::2
/// ```
pub struct Lab {
    pub pod: Netns,
    pub gate: Netns,
    pub world: Netns,
    pub ca: Ca,
    /// In the gate, for the pod and for the proxy; its port is 53.
    pub dns: Dns,
    /// `api.allowed.test` and `denied.test` at [`SERVER4`] and [`SERVER6`], port 443.
    pub https: [Origin; 2],
    /// The same on port 80.
    pub http: [Origin; 2],
    /// What a pod may wrongly want to dial: it listens and must never hear anything.
    pub attacker: Origin,
}

impl Lab {
    pub fn start() -> Self {
        let (pod, gate, world) = (Netns::new("pod"), Netns::new("gate"), Netns::new("world"));
        pod.link("eth0", &gate, "pod0");
        world.link("eth0", &gate, "world0");
        for (netns, device, addresses) in [
            (&pod, "eth0", ["10.244.0.2/24", "fd44::2/64"]),
            (&gate, "pod0", ["10.244.0.1/24", "fd44::1/64"]),
            (&gate, "world0", ["10.245.0.1/24", "fd45::1/64"]),
            (&world, "eth0", ["10.245.0.2/24", "fd45::2/64"]),
        ] {
            for address in addresses {
                netns.ip(&["addr", "add", address, "dev", device, "nodad"]);
            }
        }
        for address in [SERVER4, SERVER6, ATTACKER] {
            world.ip(&["addr", "add", address, "dev", "lo", "nodad"]);
        }
        for (netns, via) in [
            (&pod, ["10.244.0.1", "fd44::1"]),
            (&gate, ["10.245.0.2", "fd45::2"]),
            (&world, ["10.245.0.1", "fd45::1"]),
        ] {
            for via in via {
                netns.ip(&["route", "add", "default", "via", via]);
            }
        }
        let ca = Ca::new("lab");
        let dns = gate.run(|| Dns::start_at("10.244.0.1:53".parse().unwrap()));
        let both: [IpAddr; 2] = [SERVER4.parse().unwrap(), SERVER6.parse().unwrap()];
        for name in [
            "api.allowed.test",
            "four.allowed.test",
            "six.allowed.test",
            "denied.test",
        ] {
            let wanted = |address: &&IpAddr| match name {
                "four.allowed.test" => address.is_ipv4(),
                "six.allowed.test" => address.is_ipv6(),
                _ => true,
            };
            dns.set(name, both.iter().filter(wanted).copied().collect::<Vec<_>>());
        }
        let config = ca.server_config(&["*.allowed.test", "denied.test"]);
        let at = |address: &str, port| SocketAddr::new(address.parse().unwrap(), port).to_string();
        let (https, http, attacker) = world.run(|| {
            (
                [SERVER4, SERVER6]
                    .map(|address| Origin::https_at(&at(address, 443), Arc::clone(&config), Arc::new(pages))),
                [SERVER4, SERVER6].map(|address| Origin::http_at(&at(address, 80), Arc::new(pages))),
                Origin::https_at(&at(ATTACKER, 443), Arc::clone(&config), Arc::new(pages)),
            )
        });
        pod.file("resolv.conf", "nameserver 10.244.0.1\noptions timeout:1 attempts:2\n");
        Self {
            pod,
            gate,
            world,
            ca,
            dns,
            https,
            http,
            attacker,
        }
    }

    /// A proxy in the gate, with a transparent listener for TLS and one for HTTP.
    pub fn proxy(&self, original: &str, policy: &str) -> Proxy {
        let setup = Setup::new(policy)
            .dns(&self.dns)
            .listener(json!({"name": "tls", "mode": "tls", "bind": "[::]:15443", "original": original}))
            .listener(json!({"name": "http", "mode": "http", "bind": "[::]:15080", "original": original}));
        let proxy = self.gate.run(|| setup.start());
        std::fs::write(proxy.path("ca.pem"), self.ca.pem()).unwrap();
        proxy
    }

    /// curl in the pod.
    pub fn curl(&self, proxy: &Proxy, arguments: &[&str]) -> Run {
        self.client(proxy, "curl", &[&["-sS", "--max-time", "20"], arguments].concat())
    }

    /// A program in the pod, which trusts the lab's authority.
    pub fn client(&self, proxy: &Proxy, program: &str, arguments: &[&str]) -> Run {
        let bundle = proxy.path("ca.pem");
        let mut command = bare("ip", proxy.folder.path());
        command.args(["netns", "exec", &self.pod.name, program]).args(arguments);
        for name in ["CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"] {
            command.env(name, &bundle);
        }
        run(command)
    }
}

pub const SERVER4: &str = "93.184.216.34";
pub const SERVER6: &str = "2606:2800:220:1::34";
pub const ATTACKER: &str = "93.184.216.99";
