//! Azure's limits: what it would refuse at deployment is refused here.
//! Must not cut anything to fit.
//! Called by the export.

use std::collections::BTreeMap;

use super::losses::Losses;
use super::template::{Group, Protocol, Rule};
use crate::azure::report::Kind;
use crate::policy::document::Text;

/// Notes every limit that is passed.
pub(super) fn check(groups: &[Group], ip_groups: &BTreeMap<Text, Vec<String>>, losses: &mut Losses<'_>) {
    let rules = groups
        .iter()
        .flat_map(|group| &group.collections)
        .flat_map(|collection| &collection.rules);
    if rules.clone().next().is_none() {
        let help = "Azure denies what no rule allows, and needs no rule for that";
        losses.overall(Kind::NoRules, "there is no rule to write", help);
    }
    at_most(MOST_GROUPS, groups.len(), "rule collection groups", losses);
    at_most(
        MOST_PAIRS,
        rules.clone().map(pairs).sum(),
        "pairs of source and destination in network rules",
        losses,
    );
    at_most(MOST_IP_GROUPS, ip_groups.len(), "IP groups", losses);
    for (name, addresses) in ip_groups {
        at_most(
            MOST_ADDRESSES,
            addresses.len(),
            &format!("addresses of `{name}`"),
            losses,
        );
    }
    for group in groups {
        check_name("group", &group.name, losses);
        for collection in &group.collections {
            check_name("collection", &collection.name, losses);
        }
        let bytes = serde_json::to_string(&group.collections).unwrap_or_default().len();
        at_most(
            MOST_BYTES,
            bytes,
            &format!("bytes of the group `{}`", group.name),
            losses,
        );
    }
    for (name, port) in rules.flat_map(high_ports) {
        let why = format!("the rule `{name}` names port {port}, and application rules end at {LAST_PORT}");
        losses.overall(Kind::Limit, why, "move the service, or the rule out of this policy");
    }
}

fn at_most(most: usize, count: usize, what: &str, losses: &mut Losses<'_>) {
    if count > most {
        let why = format!("{count} {what} are more than the {most} that Azure takes");
        losses.overall(Kind::Limit, why, "split the policy, or write wider rules");
    }
}

fn check_name(what: &str, name: &str, losses: &mut Losses<'_>) {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric();
    let fits = name.len() <= LONGEST_NAME
        && name.bytes().next().is_some_and(|first| is_letter(&first))
        && name.bytes().last().is_some_and(|last| is_letter(&last) || last == b'_')
        && name.bytes().all(|byte| is_letter(&byte) || b"_.-".contains(&byte));
    if !fits {
        let why = format!("Azure takes no {what} with the name `{name}`");
        let help = "letters, digits, `_`, `.` and `-`, at most 80; a letter or digit first, one of these or `_` last";
        losses.overall(Kind::Limit, why, help);
    }
}

/// Sources times destinations; an IP group counts as one.
fn pairs(rule: &Rule) -> usize {
    let Rule::Network {
        source,
        destination_addresses,
        destination_fqdns,
        ..
    } = rule
    else {
        return 0;
    };
    let sources = source.source_addresses.len() + source.source_ip_groups.len();
    sources * (destination_addresses.len() + destination_fqdns.len())
}

fn high_ports(rule: &Rule) -> Vec<(&str, u16)> {
    let Rule::Application { name, protocols, .. } = rule else {
        return Vec::new();
    };
    let ports = protocols.iter().map(|Protocol { port, .. }| *port);
    ports
        .filter(|port| *port > LAST_PORT)
        .map(|port| (name.as_str(), port))
        .collect()
}

const LONGEST_NAME: usize = 80;
const MOST_GROUPS: usize = 60;
const MOST_PAIRS: usize = 20_000;
const MOST_IP_GROUPS: usize = 200;
const MOST_ADDRESSES: usize = 5_000;
const MOST_BYTES: usize = 2 * 1024 * 1024;
/// The REST model's; a page of limits says 65535.
const LAST_PORT: u16 = 64_000;
