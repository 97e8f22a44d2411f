//! Deny rules that the policy implies anyhow: pods never reach the API server. Export has to write that out for Azure.
//! Must look at what a rule closes and for whom, never at what it is called.
//! Called by import for each rule, before its sources are mapped.

use ipnet::IpNet;

use super::ranges::ranges;
use crate::azure::ip_groups;
use crate::azure::model::{Action, Application, Firewall, Placed, Rule, Target};
use crate::name::HostName;
use crate::policy::document::Document;

/// Whether `cluster.api_server` of the files that exist closes all that this rule closes, for all that it names.
pub(super) fn is_implied(rule: &Rule, action: Action, known: &Document, firewall: &Firewall) -> bool {
    let cluster = known.cluster();
    let (Action::Deny, Target::Application(target), Some(server)) = (action, &rule.target, &cluster.api_server) else {
        return false;
    };
    let pods = known.workloads.iter().map(|workload| &workload.value);
    let pods = pods.filter(|workload| workload.namespace.is_some());
    let closed: Vec<IpNet> = pods
        .flat_map(|workload| &workload.cidrs)
        .chain(&cluster.networks.pods)
        .map(|network| network.value)
        .collect();
    is_only(target, &server.value) && is_within(rule, firewall, &closed)
}

fn is_only(target: &Application, server: &HostName) -> bool {
    let is_server = |name: &Placed<String>| HostName::parse(name.value.as_bytes()).is_ok_and(|name| name == *server);
    !target.fqdns.is_empty()
        && target.fqdns.iter().all(is_server)
        && target.fqdn_tags.is_empty()
        && target.urls.is_empty()
        && target.web_categories.is_empty()
        && target.addresses.is_empty()
        && target.terminate_tls.is_none()
        && target.headers.is_none()
}

/// A source that cannot be read is not within anything.
fn is_within(rule: &Rule, firewall: &Firewall, closed: &[IpNet]) -> bool {
    let sources = &rule.sources;
    if !sources.selectors.is_empty() || !sources.geo_locations.is_empty() {
        return false;
    }
    let mut addresses: Vec<&str> = sources.addresses.iter().map(|address| &*address.value).collect();
    for id in &sources.ip_groups {
        let Ok(group) = ip_groups::find(&firewall.ip_groups, id) else {
            return false;
        };
        addresses.extend(group.addresses.iter().map(|address| &*address.value));
    }
    let is_closed = |range: &IpNet| closed.iter().any(|network| network.contains(range));
    let within = |address: &&str| ranges(address).is_ok_and(|ranges| ranges.iter().all(is_closed));
    !addresses.is_empty() && addresses.iter().all(within)
}
