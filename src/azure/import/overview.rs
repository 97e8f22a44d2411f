//! What only shows when all rules are looked at together: rules that hide others, ports that a deny closes for all.
//! Must not change what is carried over.
//! Called by import.

use super::draft::{Draft, DraftCollection, DraftRule, Opens, Who};
use crate::azure::model::{Action, Collection, CollectionKind, Group, Network, Protocol, Target};
use crate::azure::report::{Kind, Report};
use crate::policy::rule::Destination;

/// A deny rule for one protocol closes its port for all here; that matters where another protocol is allowed there.
pub(super) fn note(ordered: &[(&Group, &Collection)], report: &mut Report) {
    let application = |action: Action| {
        let of_action = ordered
            .iter()
            .map(|(_, collection)| *collection)
            .filter(move |collection| collection.action == action);
        of_action
            .flat_map(|collection| &collection.rules)
            .filter_map(|rule| match &rule.target {
                Target::Application(target) => Some(target),
                Target::Network(_) | Target::Nat => None,
            })
    };
    let allowed: Vec<(Protocol, u16)> = application(Action::Allow)
        .flat_map(|target| target.protocols.iter().map(|protocol| protocol.value))
        .collect();
    for target in application(Action::Deny) {
        for protocol in &target.protocols {
            let (own, port) = protocol.value;
            let denied = |other: Protocol| target.protocols.iter().any(|protocol| protocol.value == (other, port));
            let other = allowed
                .iter()
                .find(|(other, number)| *number == port && *other != own && !denied(*other));
            if let Some((other, _)) = other {
                report
                    .note(
                        Kind::DenyProtocol,
                        &protocol.at,
                        format!(
                            "the rule denies {} on port {port}, and other rules allow {} there",
                            own.as_str(),
                            other.as_str()
                        ),
                    )
                    .outcome("narrowed: here it closes the port for every protocol");
            }
        }
    }
}

/// Network rules before which no application rule behind them ever decides, in Azure.
pub(super) fn shadows(draft: &Draft, ordered: &[(&Group, &Collection)], report: &mut Report) {
    let behind: Vec<(&DraftRule, Vec<u16>)> = draft
        .collections
        .iter()
        .filter(|collection| collection.kind == CollectionKind::Application)
        .flat_map(DraftCollection::rules)
        .map(|rule| (rule, ports(rule)))
        .collect();
    for (_, collection) in ordered {
        if collection.kind != CollectionKind::Network || collection.action != Action::Allow {
            continue;
        }
        for rule in &collection.rules {
            let Target::Network(target) = &rule.target else {
                continue;
            };
            let Some(wide) = wide(target) else { continue };
            let drafted = draft
                .collections
                .iter()
                .flat_map(DraftCollection::rules)
                .find(|drafted| drafted.at == rule.at);
            let everyone = Who::Everyone;
            let from = drafted.map_or(&everyone, |drafted| &drafted.from);
            let hidden = behind.iter().find_map(|(other, ports)| {
                let port = ports.iter().find(|port| {
                    target
                        .ports
                        .iter()
                        .any(|range| (range.value.0..=range.value.1).contains(port))
                })?;
                meet(from, &other.from).then_some(*port)
            });
            if let Some(port) = hidden {
                let outcome = match drafted {
                    Some(_) => KEPT,
                    None => "not carried over: here the application rules decide",
                };
                report
                    .note(
                        Kind::Shadows,
                        &rule.at,
                        format!("the rule allows port {port} to `{wide}`: in Azure no application rule ever decides about that"),
                    )
                    .outcome(outcome)
                    .help("what passes in production because of it may be denied here, so take it out of both");
            }
        }
    }
}

/// What makes a network rule wide, if anything does.
fn wide(target: &Network) -> Option<&str> {
    let tcp = target.protocols.iter().any(|protocol| {
        matches!(
            protocol.value,
            crate::azure::model::IpProtocol::Tcp | crate::azure::model::IpProtocol::Any
        )
    });
    let wide = target
        .addresses
        .iter()
        .map(|address| address.value.as_str())
        .find(|address| {
            let network = address.parse::<ipnet::IpNet>();
            *address == "*"
                || network.is_ok_and(|network| network.prefix_len() < 8)
                || WIDE_TAGS.iter().any(|tag| {
                    let rest = address.get(..tag.len()).filter(|start| start.eq_ignore_ascii_case(tag));
                    rest.is_some() && matches!(address.as_bytes().get(tag.len()), None | Some(b'.'))
                })
        });
    wide.filter(|_| tcp)
}

fn ports(rule: &DraftRule) -> Vec<u16> {
    match &rule.opens {
        Opens::To(to) => to.iter().map(|to: &Destination| *to.ports.start()).collect(),
        Opens::Tags(_) => vec![443, 80],
    }
}

fn meet(a: &Who, b: &Who) -> bool {
    match (a, b) {
        (Who::Workloads(a), Who::Workloads(b)) => a.iter().any(|name| b.contains(name)),
        _ => true,
    }
}

/// Tags that hold so much that names behind them need no rule of their own.
const WIDE_TAGS: &[&str] = &[
    "Internet",
    "AzureCloud",
    "AzureMonitor",
    "AzureFrontDoor",
    "Storage",
    "AzureContainerRegistry",
];

const KEPT: &str =
    "kept, but here it matches only clients that ask for an address: names are decided by the application rules";
