//! The ways as nftables rules for the router between the pods.
//! Must not decide anything: each way becomes rules, and what no rule accepts is dropped.
//! Called by the lab.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Engine, PodWays, Ports, Protocol, Range, Way, Ways};

impl Ways<'_> {
    /// A ruleset for the node. `device` names the node's end of a pod's link. What a pod sends to its own node never
    /// crosses the forward hook: Cilium judges it nevertheless, the others let it in.
    pub fn nft(&self, device: impl Fn(&str) -> String) -> String {
        let mut text = String::from("table inet netpol\ndelete table inet netpol\ntable inet netpol {\n");
        let mut jumps = String::new();
        let mut own_node = String::new();
        for (pod, ways) in self.world.pods.iter().zip(&self.pods) {
            let PodWays { egress, ingress } = ways;
            let device = device(pod.name);
            if let Some(ways) = egress {
                chain(&mut text, &format!("out_{}", pod.name), ways, "daddr");
                let _ = writeln!(jumps, "  iifname \"{device}\" jump out_{}", pod.name);
                let _ = writeln!(own_node, "  iifname \"{device}\" jump out_{}", pod.name);
            }
            if let Some(ways) = ingress {
                chain(&mut text, &format!("in_{}", pod.name), ways, "saddr");
                let _ = writeln!(jumps, "  oifname \"{device}\" jump in_{}", pod.name);
            }
        }
        let unfiltered = match self.world.engine {
            Engine::AzureNpm => "  meta nfproto ipv6 accept\n",
            Engine::Cilium | Engine::Calico => "",
        };
        if self.world.engine != Engine::Cilium {
            own_node.clear();
        }
        for (hook, jumps) in [("forward", jumps), ("input", own_node)] {
            let _ = write!(
                text,
                " chain {hook} {{\n  type filter hook {hook} priority filter; policy accept;\n  icmpv6 type {{ \
                 nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit }} accept\n{unfiltered}  ct state \
                 established,related accept\n{jumps} }}\n"
            );
        }
        text + "}\n"
    }
}

/// Returns where a way covers the packet, so that the other end's chain is asked too.
fn chain(text: &mut String, name: &str, ways: &[Way], side: &str) {
    let _ = writeln!(text, " chain {name} {{");
    for way in ways {
        for peers in matches(way.peers.as_deref(), side) {
            for ports in ports(way.ports.as_deref()) {
                let _ = writeln!(text, "  {peers}{ports}return");
            }
        }
    }
    text.push_str("  counter drop\n }\n");
}

fn matches(ranges: Option<&[Range]>, side: &str) -> Vec<String> {
    let Some(ranges) = ranges else {
        return vec![String::new()];
    };
    let one = |range: &Range| {
        let family = |net: &IpNet| match net.addr() {
            IpAddr::V4(_) => "ip",
            IpAddr::V6(_) => "ip6",
        };
        let mut text = match range.cidr.prefix_len() {
            // nft takes no zero prefix; the family says it.
            0 => format!(
                "meta nfproto {} ",
                if range.cidr.addr().is_ipv4() { "ipv4" } else { "ipv6" }
            ),
            _ => format!("{} {side} {} ", family(&range.cidr), range.cidr),
        };
        for hole in &range.except {
            let _ = write!(text, "{} {side} != {hole} ", family(hole));
        }
        text
    };
    ranges.iter().map(one).collect()
}

fn ports(ports: Option<&[Ports]>) -> Vec<String> {
    let Some(ports) = ports else {
        return vec![String::new()];
    };
    let one = |ports: &Ports| {
        let protocol = match ports.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        format!("{protocol} dport {}-{} ", ports.first, ports.last)
    };
    ports.iter().map(one).collect()
}
