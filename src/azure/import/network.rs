//! Network rules: TCP to addresses, and to names, by port.
//! Must not carry what no proxy can: UDP and ICMP are left out, with a finding.
//! Called by import for each network rule.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Lossy;
use super::draft::Opens;
use super::ranges::{looks_like_address, ranges};
use super::sources::missing_group;
use crate::address::never_within;
use crate::azure::arm::value::last_segment;
use crate::azure::ip_groups;
use crate::azure::json::shortened;
use crate::azure::model::{Action, Firewall, IpProtocol, Network, Placed, Rule};
use crate::azure::report::Kind;
use crate::azure::service_tags::ServiceTags;
use crate::name::HostPattern;
use crate::policy::rule::{Destination, HostMatch, Scheme};
use crate::policy::yaml::typed::nearest;

/// What the rule opens or closes. None: nothing is left of it, or something was wrong; that was noted.
pub(super) fn opens(
    target: &Network,
    rule: &Rule,
    firewall: &Firewall,
    tags: &(Option<ServiceTags>, bool),
    lossy: &mut Lossy<'_>,
) -> Option<Opens> {
    if !is_complete(target, rule, lossy) {
        return None;
    }
    if let Some(geo) = target.geo_locations.first() {
        lossy.lost(
            Kind::GeoLocation,
            &geo.at,
            "the rule is for destinations in some countries".to_owned(),
            "not carried over",
        );
        return None;
    }
    for other in target
        .protocols
        .iter()
        .filter(|protocol| protocol.value != IpProtocol::Tcp)
    {
        let message = match other.value {
            IpProtocol::Any => "`Any` is UDP and ICMP as well, which no proxy carries",
            IpProtocol::Icmp => "ICMP, which no proxy carries",
            IpProtocol::Udp | IpProtocol::Tcp => "UDP, which no proxy carries",
        };
        lossy.changed(
            Kind::NotTcp,
            &other.at,
            message.to_owned(),
            "not carried over; the network around the cluster must say it",
        );
    }
    if !target
        .protocols
        .iter()
        .any(|protocol| matches!(protocol.value, IpProtocol::Tcp | IpProtocol::Any))
    {
        return None;
    }
    let hosts = hosts(target, firewall, tags, lossy)?;
    let mut ports: Vec<(u16, u16)> = Vec::new();
    for port in &target.ports {
        if !ports.contains(&port.value) {
            ports.push(port.value);
        }
    }
    let scheme = (lossy.action == Action::Allow).then_some(Scheme::Tcp);
    let mut to = Vec::with_capacity(hosts.len() * ports.len());
    for host in &hosts {
        for (first, last) in &ports {
            to.push(Destination {
                scheme,
                host: host.clone(),
                ports: *first..=*last,
            });
        }
    }
    if hosts.iter().any(|host| matches!(host, HostMatch::Cidr(_))) && lossy.action == Action::Allow {
        let wide = hosts
            .iter()
            .any(|host| matches!(host, HostMatch::Cidr(network) if network.prefix_len() < NAMING));
        let mut outcome =
            "matches only clients that ask for the address itself, never a name that resolves to it".to_owned();
        if wide {
            outcome.push_str("; so wide a range is the public space here, private ranges have to be named");
        }
        lossy
            .report
            .note(Kind::AddressRule, &rule.at, "a network rule for addresses")
            .outcome(outcome);
    }
    (!to.is_empty()).then_some(Opens::To(to))
}

fn is_complete(target: &Network, rule: &Rule, lossy: &mut Lossy<'_>) -> bool {
    let mut complete = true;
    let mut lacks = |what: &str| {
        complete = false;
        lossy
            .report
            .note(Kind::Empty, &rule.at, format!("the rule has no {what}"))
            .help("Azure wants them; empty is not any, `*` is");
    };
    if target.protocols.is_empty() {
        lacks("protocols");
    }
    if target.ports.is_empty() {
        lacks("`destinationPorts`");
    }
    let (addresses, names) = (
        !target.addresses.is_empty() || !target.ip_groups.is_empty(),
        !target.fqdns.is_empty(),
    );
    if !addresses && !names && target.geo_locations.is_empty() {
        lacks("destination");
    }
    if addresses && names {
        complete = false;
        lossy
            .report
            .note(
                Kind::BadValue,
                &rule.at,
                "the rule has both addresses and names as destinations",
            )
            .help("make a rule of each");
    }
    complete
}

/// The destinations of the rule. None: something was wrong.
fn hosts(
    target: &Network,
    firewall: &Firewall,
    tags: &(Option<ServiceTags>, bool),
    lossy: &mut Lossy<'_>,
) -> Option<Vec<HostMatch>> {
    let mut all = Hosts::default();
    let mut failed = false;
    for address in &target.addresses {
        match addresses(address, tags, lossy) {
            Some(networks) => add(&networks, address, &mut all, lossy),
            None => failed = true,
        }
    }
    for id in &target.ip_groups {
        let name = last_segment(&id.value);
        match ip_groups::find(&firewall.ip_groups, id) {
            Ok(group) => {
                if group.addresses.is_empty() {
                    lossy
                        .report
                        .note(Kind::Empty, &group.at, "the IP group is empty, and is a destination");
                    failed = true;
                }
                for address in &group.addresses {
                    match addresses(address, tags, lossy) {
                        Some(networks) => add(&networks, address, &mut all, lossy),
                        None => failed = true,
                    }
                }
            }
            Err(missing) => {
                let message = missing_group(name, missing);
                lossy
                    .lost(Kind::IpGroup, &id.at, message, "not carried over")
                    .help("give it with `--ip-groups FILE`");
            }
        }
    }
    for name in &target.fqdns {
        match fqdn(name, lossy) {
            Some(pattern) => {
                all.add(HostMatch::Name(pattern));
            }
            None => failed = true,
        }
    }
    (!failed).then_some(all.ordered)
}

/// An exact name: Azure takes no others in network rules.
fn fqdn(name: &Placed<String>, lossy: &mut Lossy<'_>) -> Option<HostPattern> {
    let text = &name.value;
    let exact = match HostPattern::parse(text) {
        Ok(HostPattern::Exact(exact)) if text.parse::<IpAddr>().is_err() && text.trim() == text && text.is_ascii() => {
            exact
        }
        Ok(_) => {
            lossy
                .report
                .note(
                    Kind::BadValue,
                    &name.at,
                    format!("`{}` is not a name that a network rule can have", shortened(text)),
                )
                .help("Azure takes only whole names in network rules, no wildcards");
            return None;
        }
        Err(bad) => {
            lossy
                .report
                .note(
                    Kind::BadValue,
                    &name.at,
                    format!("`{}` is not a name: {}", shortened(text), bad.why),
                )
                .help(bad.help);
            return None;
        }
    };
    if lossy.action == Action::Allow {
        let message = format!(
            "`{exact}` in a network rule: Azure compares the addresses that it resolves to, here the name counts"
        );
        lossy.changed(
            Kind::NetworkFqdn,
            &name.at,
            message,
            "opens clients that ask for the name, and no others",
        );
    } else {
        let message =
            format!("`{exact}` in a network rule: Azure closes the addresses that it resolves to, here the name alone");
        lossy.changed(
            Kind::DenyLost,
            &name.at,
            message,
            "closes clients that ask for the name, and no others",
        );
    }
    Some(HostPattern::Exact(exact))
}

/// The networks of an address, a CIDR, a range, `*` or a service tag. Empty: not carried over. None: wrong.
fn addresses(
    address: &Placed<String>,
    tags: &(Option<ServiceTags>, bool),
    lossy: &mut Lossy<'_>,
) -> Option<Vec<IpNet>> {
    let text = address.value.as_str();
    // The firewall carries IPv4 alone, so the whole of it is `*`, however it is written.
    let whole = [IpNet::V4(ipnet::Ipv4Net::default())];
    if text == "*" || lossy.action == Action::Deny && ranges(text).is_ok_and(|ranges| ranges == whole) {
        let mut all = vec![IpNet::V4(ipnet::Ipv4Net::default())];
        // What is denied to everyone must not pass by IPv6.
        if lossy.action == Action::Deny {
            all.push(IpNet::V6(ipnet::Ipv6Net::default()));
        }
        return Some(all);
    }
    match ranges(text) {
        Ok(networks) => return Some(networks),
        Err(why) if looks_like_address(text) || !is_tag(text) => {
            lossy.report.note(
                Kind::BadValue,
                &address.at,
                format!("the destination `{}` {why}", shortened(text)),
            );
            return None;
        }
        Err(_) => {}
    }
    match tags {
        (None, true) => Some(Vec::new()),
        (None, false) => {
            let message = format!("`{text}` is a service tag, and its addresses were not given");
            lossy
                .lost(Kind::ServiceTag, &address.at, message, "not carried over")
                .help(
                    "give the file that Microsoft publishes each week: `--service-tags ServiceTags_Public_DATE.json`",
                );
            Some(Vec::new())
        }
        (Some(tags), _) => {
            let Some(prefixes) = tags.find(text) else {
                let names: Vec<_> = tags.names().collect();
                let help = match nearest(text, &names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "the file of service tags does not have it; is it that of the right cloud?".to_owned(),
                };
                lossy
                    .report
                    .note(
                        Kind::UnknownServiceTag,
                        &address.at,
                        format!("there is no service tag `{text}`"),
                    )
                    .help(help);
                return None;
            };
            let networks: Result<Vec<_>, _> = prefixes.iter().map(|prefix| ranges(prefix)).collect();
            match networks {
                Ok(networks) if !prefixes.is_empty() => Some(networks.concat()),
                _ => {
                    let message = format!("the addresses of the service tag `{text}` cannot be read");
                    lossy.report.note(Kind::BadValue, &address.at, message);
                    None
                }
            }
        }
    }
}

fn is_tag(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_')
}

/// Adds networks that a rule can name; what is never dialled, and is named all the same, cannot.
fn add(networks: &[IpNet], address: &Placed<String>, all: &mut Hosts, lossy: &mut Lossy<'_>) {
    for network in networks {
        if lossy.action == Action::Allow
            && network.prefix_len() >= NAMING
            && let Some((range, what)) = never_within(*network)
        {
            let message = format!("`{network}` holds {range}, which is never dialled ({what})");
            lossy
                .lost(Kind::NeverDialled, &address.at, message, "not carried over")
                .help("no rule can open it");
            continue;
        }
        all.add(HostMatch::Cidr(*network));
    }
}

/// Each once, in the order in which they stand; a service tag has thousands.
#[derive(Default)]
struct Hosts {
    ordered: Vec<HostMatch>,
    seen: HashSet<HostMatch>,
}

impl Hosts {
    fn add(&mut self, host: HostMatch) {
        if self.seen.insert(host.clone()) {
            self.ordered.push(host);
        }
    }
}

/// As the reader of rules: a wider range means the public space.
const NAMING: u8 = 8;
