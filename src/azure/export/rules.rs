//! One rule of ours as rules of Azure: protocols times names, ports times addresses, sources.
//! Must not leave anything out without noting it. What is left out of an allow rule narrows; a deny rule may only grow.
//! Called by the export.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::gather::{Closing, Opening};
use super::losses::Losses;
use super::products::{Grouped, application_rules, network_rules, ports};
use super::template::{Protocol, Rule, Source, Spoken, ip_group_id};
use crate::azure::report::Kind;
use crate::name::HostPattern;
use crate::policy::document::{Document, Text};
use crate::policy::problem::{At, Place};
use crate::policy::rule::{Destination, HostMatch, Peer, Scheme, SniCheck};

/// Where a rule stands, which decides what `tcp://name` becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    Application,
    Network,
    /// In `allow` or `deny`: whatever fits.
    Plain,
}

/// The rules of both types that one rule becomes.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) network: Vec<Rule>,
    pub(super) application: Vec<Rule>,
}

/// What all allow rules open together. A deny rule for every port closes exactly these: nothing else is open anyway.
#[derive(Debug, Default)]
pub(super) struct Opened {
    pub(super) protocols: BTreeSet<Protocol>,
    /// Names that network rules open, with their ports.
    pub(super) names: Vec<(HostPattern, RangeInclusive<u16>)>,
}

/// Turns rules into Azure's.
#[derive(Debug)]
pub(super) struct Writer<'a, 't> {
    pub(super) document: &'a Document,
    pub(super) losses: &'a mut Losses<'t>,
    pub(super) opened: Opened,
    /// Workloads that rules refer to.
    pub(super) ip_groups: BTreeMap<Text, Vec<String>>,
}

impl Writer<'_, '_> {
    pub(super) fn allow(&mut self, rule: &Opening, place: Where) -> Written {
        let Some(source) = self.source(rule.from.as_deref(), rule.at, true) else {
            return Written::default();
        };
        self.checks(rule);
        let mut written = Written::default();
        if !rule.tags.is_empty() {
            written.application.push(Rule::Application {
                name: rule.name.clone(),
                description: rule.description.clone(),
                source: source.clone(),
                protocols: TAG_PROTOCOLS.to_vec(),
                target_fqdns: Vec::new(),
                fqdn_tags: rule.tags.iter().map(ToString::to_string).collect(),
            });
        }
        let (mut targets, mut addresses, mut names) = (Grouped::default(), Grouped::default(), Grouped::default());
        for to in &rule.to {
            match is_application(to, place) {
                None => self.address(rule, to, &mut addresses),
                Some(false) => {
                    if let Some(name) = self.exact(rule, to) {
                        names.add(name, [ports(to)]);
                    }
                }
                Some(true) => {
                    let target = self.target(to, rule.at);
                    let protocols = self.protocols(to, rule.at);
                    if let (Some(target), Some(protocols)) = (target, protocols) {
                        targets.add(target, protocols);
                    }
                }
            }
        }
        let (name, description) = (&rule.name, rule.description.as_ref());
        written
            .application
            .extend(application_rules(name, description, &source, targets));
        written.network = network_rules(name, description, &source, addresses, names);
        written
    }

    /// A deny rule closes a name for all that is open anywhere, and a range of addresses for all ports written.
    pub(super) fn deny(&mut self, rule: &Closing, place: Where) -> Written {
        let Some(source) = self.source(rule.from.as_deref(), rule.at, false) else {
            return Written::default();
        };
        let (mut targets, mut addresses, mut names) = (Grouped::default(), Grouped::default(), Grouped::default());
        for to in &rule.to {
            match &to.host {
                HostMatch::Cidr(_) => {
                    if let Some(network) = self.v4(to, &rule.to, rule.at) {
                        addresses.add(network, [ports(to)]);
                    }
                }
                HostMatch::Name(HostPattern::Exact(name)) if place == Where::Network => {
                    names.add(name.to_string(), [ports(to)]);
                }
                HostMatch::Name(pattern) if place == Where::Network => {
                    let why = format!("`{pattern}`: a network rule takes no wildcard");
                    self.losses.note(
                        Kind::TcpWildcard,
                        rule.at,
                        why,
                        "only names that network rules open are closed",
                    );
                    self.close_names(pattern, to, &mut names);
                }
                HostMatch::Name(pattern) => {
                    let target = self.closed_target(pattern, rule.at);
                    targets.add(target, self.closing(to));
                    if place == Where::Plain {
                        self.close_names(pattern, to, &mut names);
                    }
                }
            }
        }
        let (name, description) = (&rule.name, rule.description.as_ref());
        Written {
            network: network_rules(name, description, &source, addresses, names),
            application: application_rules(name, description, &source, targets),
        }
    }

    /// The sources of a rule; nothing if none of them can be said, which of a deny rule is never the case.
    fn source(&mut self, from: Option<&[At<Peer>]>, at: Place, allows: bool) -> Option<Source> {
        let everyone = || Source {
            source_addresses: vec!["*".to_owned()],
            source_ip_groups: Vec::new(),
        };
        let Some(from) = from else { return Some(everyone()) };
        let (mut source, mut lost) = (Source::default(), false);
        for peer in from {
            match &peer.value {
                Peer::Cidr(IpNet::V6(_)) => lost |= self.lost_source(&peer.value, peer.at, allows),
                Peer::Cidr(network) => source.source_addresses.push(shown(*network)),
                Peer::Workload(name) => match self.ip_group(name, peer.at) {
                    Some(group) => source.source_ip_groups.push(group),
                    None => lost |= self.lost_source(&peer.value, peer.at, allows),
                },
            }
        }
        if lost && !allows {
            return Some(everyone());
        }
        if source == Source::default() {
            let why = "none of the rule's sources can be said";
            self.losses.note(Kind::WorkloadSource, at, why, LEFT_OUT);
            return None;
        }
        Some(source)
    }

    fn lost_source(&mut self, peer: &Peer, at: Place, allows: bool) -> bool {
        let (kind, why) = match peer {
            Peer::Cidr(network) => (
                Kind::Ipv6,
                format!("Azure Firewall knows no IPv6 source such as `{network}`"),
            ),
            Peer::Workload(name) => {
                let why = format!("the workload `{name}` has no IPv4 `cidrs`, and Azure knows sources by address");
                (Kind::WorkloadSource, why)
            }
        };
        let outcome = if allows {
            "narrowed to the rule's other sources"
        } else {
            "the rule closes for every source"
        };
        self.losses.note(kind, at, why, outcome);
        true
    }

    fn ip_group(&mut self, name: &Text, at: Place) -> Option<String> {
        let workload = &self.document.workload(name)?.value;
        let v4 = workload
            .cidrs
            .iter()
            .filter(|network| matches!(network.value, IpNet::V4(_)));
        let cidrs: Vec<_> = v4.map(|network| shown(network.value)).collect();
        if cidrs.is_empty() {
            return None;
        }
        if workload.port.is_some() || cidrs.len() < workload.cidrs.len() {
            let why = format!("to Azure the workload `{name}` is its IPv4 `cidrs`, whatever port it comes in through");
            self.losses.note(Kind::WorkloadPort, at, why, "");
        }
        self.ip_groups.insert(Text::clone(name), cidrs);
        Some(ip_group_id(name))
    }

    /// What Azure cannot be asked to look at, or not to look at.
    fn checks(&mut self, rule: &Opening) {
        let checks = &rule.checks;
        let at = rule.at;
        let mut unlike = |key: &str, azure: &str| {
            self.losses
                .note(Kind::Sni, at, format!("`{key}`: {azure}"), "carried over without it");
        };
        match checks.sni {
            SniCheck::Strict => {}
            SniCheck::Listed => unlike("sni: listed", "Azure looks at the SNI alone"),
            SniCheck::Off => unlike("sni: off", "Azure always compares the SNI"),
        }
        if checks.no_sni {
            unlike("no_sni: allow", "Azure denies TLS without a name");
        }
        if checks.ech_outer {
            unlike("ech: outer", "what Azure makes of ECH is not documented");
        }
        for range in &checks.addresses {
            let why = format!("`addresses: {}`: Azure dials whatever a name resolves to", range.value);
            self.losses.note(Kind::Addresses, range.at, why, "");
        }
    }

    fn target(&mut self, to: &Destination, at: Place) -> Option<String> {
        let HostMatch::Name(pattern) = &to.host else {
            return None;
        };
        if let HostPattern::Label(_) = pattern {
            let why = format!("`{pattern}`: Azure takes a `*` only as the first character");
            self.losses.note(Kind::InLabelWildcard, at, why, LEFT_OUT);
            return None;
        }
        Some(pattern.to_string())
    }

    /// What a deny rule closes at least; the wildcard that holds it, where Azure has none so narrow.
    fn closed_target(&mut self, pattern: &HostPattern, at: Place) -> String {
        let HostPattern::Label(label) = pattern else {
            return pattern.to_string();
        };
        let wider = format!("*.{}", label.suffix);
        let why = format!("`{pattern}`: Azure takes a `*` only as the first character");
        let outcome = format!("`{wider}` is closed instead");
        self.losses.note(Kind::InLabelWildcard, at, why, &outcome);
        wider
    }

    fn protocols(&mut self, to: &Destination, at: Place) -> Option<Vec<Protocol>> {
        let all = each_port(to);
        if all.is_none() {
            let why = format!("`{to}`: an application rule lists single ports, and these are more than {MOST_PORTS}");
            self.losses.note(Kind::PortRange, at, why, LEFT_OUT);
        }
        if to.scheme == Some(Scheme::Tcp) {
            let why =
                format!("`{to}` becomes Mssql: Azure lets SQL pass, in its proxy connection policy, and nothing else");
            self.losses.note(Kind::SqlOnly, at, why, "");
        }
        all
    }

    /// The ports of a deny rule that matter: what is open, or what would be.
    fn closing(&self, to: &Destination) -> Vec<Protocol> {
        let open = self.opened.protocols.iter().copied();
        let matter: Vec<_> = open.filter(|open| to.ports.contains(&open.port)).collect();
        if !matter.is_empty() {
            return matter;
        }
        match (*to.ports.start(), *to.ports.end()) {
            (80, 80) => vec![HTTP],
            (first, last) if first == last => vec![Protocol {
                protocol_type: Spoken::Https,
                port: first,
            }],
            _ => TAG_PROTOCOLS.to_vec(),
        }
    }

    /// Network rules come before every application rule, so what they open must be closed among them. They take no
    /// wildcards, but each name that is open is known.
    fn close_names(&self, pattern: &HostPattern, to: &Destination, names: &mut Grouped<String>) {
        for (open, open_ports) in &self.opened.names {
            let HostPattern::Exact(name) = open else { continue };
            if overlap(open_ports, &to.ports) && holds(pattern, name.as_str()) {
                names.add(name.to_string(), [ports(to)]);
            }
        }
    }

    fn address(&mut self, rule: &Opening, to: &Destination, addresses: &mut Grouped<String>) {
        let HostMatch::Cidr(network) = to.host else { return };
        let Some(shown) = self.v4(to, &rule.to, rule.at) else {
            return;
        };
        if to.scheme == Some(Scheme::Tls) {
            let why = format!("`{to}`: a network rule looks at nothing");
            self.losses
                .note(Kind::Sni, rule.at, why, "carried over without looking for TLS");
        }
        let open = &self.opened.protocols;
        if network.prefix_len() == 0 && open.iter().any(|open| to.ports.contains(&open.port)) {
            let why = format!("`{to}`: in Azure no application rule for these ports decides any more");
            self.losses.note(Kind::Shadows, rule.at, why, "");
        } else {
            let why = format!("`{to}`: in Azure also for every name that leads there, before all application rules");
            self.losses.note(Kind::AddressRule, rule.at, why, "");
        }
        addresses.add(shown, [ports(to)]);
    }

    /// A network as Azure writes it. Both families whole, for the same ports, are `*`.
    fn v4(&mut self, to: &Destination, all: &[Destination], at: Place) -> Option<String> {
        let HostMatch::Cidr(network) = to.host else { return None };
        let is_whole = |other: &Destination| {
            let twin = other.host != to.host && other.ports == to.ports;
            twin && matches!(other.host, HostMatch::Cidr(network) if network.prefix_len() == 0)
        };
        match (network, network.prefix_len() == 0 && all.iter().any(is_whole)) {
            (IpNet::V4(_), true) => Some("*".to_owned()),
            (IpNet::V4(_), false) => Some(shown(network)),
            (IpNet::V6(_), true) => None,
            (IpNet::V6(_), false) => {
                let why = format!("`{network}`: Azure Firewall carries no IPv6");
                self.losses.note(Kind::Ipv6, at, why, LEFT_OUT);
                None
            }
        }
    }

    /// A name in a network rule.
    fn exact(&mut self, rule: &Opening, to: &Destination) -> Option<String> {
        let HostMatch::Name(pattern) = &to.host else {
            return None;
        };
        if let HostPattern::Exact(name) = pattern {
            let why = format!("`{to}`: Azure compares addresses that it resolved, and needs its DNS proxy for that");
            self.losses
                .note(Kind::NetworkFqdn, rule.at, why, "a network rule with that name");
            return Some(name.to_string());
        }
        let why = format!("`{to}`: a network rule takes no wildcard, an application rule only HTTP, TLS and SQL");
        self.losses.note(Kind::TcpWildcard, rule.at, why, LEFT_OUT);
        None
    }
}

/// Whether a destination belongs into an application rule; nothing for an address, which never does.
pub(super) fn is_application(to: &Destination, place: Where) -> Option<bool> {
    match (&to.host, to.scheme, place) {
        (HostMatch::Cidr(_), ..) => None,
        (_, _, Where::Network) => Some(false),
        (_, Some(Scheme::Tcp), Where::Plain) => Some(*to.ports.start() == SQL && *to.ports.end() == SQL),
        _ => Some(true),
    }
}

/// What a destination opens, port by port; nothing if there are too many to write out.
pub(super) fn each_port(to: &Destination) -> Option<Vec<Protocol>> {
    let protocol_type = match to.scheme? {
        Scheme::Http => Spoken::Http,
        Scheme::Tls => Spoken::Https,
        Scheme::Tcp => Spoken::Mssql,
    };
    let all = to.ports.clone().map(|port| Protocol { protocol_type, port });
    (to.ports.len() <= MOST_PORTS).then(|| all.collect())
}

/// Whether every name that a pattern matches is one that another matches.
pub(super) fn holds(pattern: &HostPattern, name: &str) -> bool {
    match pattern {
        HostPattern::Exact(exact) => exact.as_str() == name,
        HostPattern::Below(suffix) => name
            .strip_suffix(suffix.as_str())
            .is_some_and(|rest| rest.ends_with('.')),
        HostPattern::Label(label) => name.split_once('.').is_some_and(|(first, rest)| {
            let middle = first
                .strip_prefix(&*label.before)
                .and_then(|rest| rest.strip_suffix(&*label.after));
            rest == label.suffix.as_str() && middle.is_some()
        }),
    }
}

pub(super) fn overlap(a: &RangeInclusive<u16>, b: &RangeInclusive<u16>) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
}

fn shown(network: IpNet) -> String {
    crate::policy::document::address::shown(network)
}

const HTTP: Protocol = Protocol {
    protocol_type: Spoken::Http,
    port: 80,
};
const HTTPS: Protocol = Protocol {
    protocol_type: Spoken::Https,
    port: 443,
};
pub(super) const TAG_PROTOCOLS: [Protocol; 2] = [HTTP, HTTPS];
const LEFT_OUT: &str = "left out";
const SQL: u16 = 1433;
/// Of a range that is written out port by port.
const MOST_PORTS: usize = 16;
