//! The values that rules are made of, as ARM writes them: ports, protocols, priorities, names, words of closed lists.
//! Must not repair: what Azure would not take is an error.
//! Called by the readers of every notation.

use crate::azure::json::{EXPORT, Fields, Json, Node, shortened};
use crate::azure::model::{Action, CollectionKind, IpProtocol, Placed, Protocol};
use crate::azure::report::{Kind, Place, Report};

/// `{protocolType, port}`; Terraform calls the first `type`.
pub(in crate::azure) fn protocol(node: &Node<'_>, kind: &str, report: &mut Report) -> Option<(Protocol, u16)> {
    let mut fields = node.fields("a protocol", report)?;
    let protocol = fields.take(kind);
    let port = fields.take("port");
    fields.finish(report);
    let (Some(protocol), Some(port)) = (protocol, port) else {
        report
            .note(Kind::Empty, &node.at, "the protocol is not complete")
            .help(format!("it has a `{kind}` and a `port`"));
        return None;
    };
    let protocol = word(&protocol, &format!("`{kind}`"), &PROTOCOLS, report);
    let number = port.number("`port`", report)?;
    let Some(number) = u16::try_from(number).ok().filter(|port| *port > 0) else {
        report.note(Kind::BadValue, &port.at, format!("{number} is not a port: 1 to 65535"));
        return None;
    };
    Some((protocol?, number))
}

pub(in crate::azure) fn ip_protocols(node: &Node<'_>, key: &str, report: &mut Report) -> Vec<Placed<IpProtocol>> {
    let mut all = Vec::new();
    for item in node.list(&format!("`{key}`"), report).unwrap_or_default() {
        let value = word(&item, &format!("an item of `{key}`"), &IP_PROTOCOLS, report);
        all.extend(value.map(|value| Placed { value, at: item.at }));
    }
    all
}

/// `443`, `"443"`, `"8000-8100"`, `"*"`.
pub(in crate::azure) fn ports(node: &Node<'_>, key: &str, report: &mut Report) -> Vec<Placed<(u16, u16)>> {
    let mut all = Vec::new();
    for item in node.list(&format!("`{key}`"), report).unwrap_or_default() {
        let text = match item.value {
            Json::Int(number) => number.to_string(),
            _ => match item.text(&format!("an item of `{key}`"), report) {
                Some(text) => text.to_owned(),
                None => continue,
            },
        };
        if let Some(value) = port_range(&text) {
            all.push(Placed { value, at: item.at });
            continue;
        }
        let message = format!("`{}` is neither a port nor a range of ports", shortened(&text));
        report
            .note(Kind::BadValue, &item.at, message)
            .help("one item for each: `443`, `8000-8100`, or `*` for all");
    }
    all
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    if text == "*" {
        return Some((1, u16::MAX));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    // No TCP connection goes to port 0, but ranges that mean every port begin with it.
    let first = if first == 0 && last > 0 { 1 } else { first };
    (first > 0 && first <= last).then_some((first, last))
}

pub(in crate::azure) fn required_name(
    fields: &mut Fields<'_>,
    at: &Place,
    what: &str,
    report: &mut Report,
) -> Option<String> {
    let Some(node) = fields.take("name") else {
        report.note(Kind::Empty, at, format!("{what} has no `name`"));
        return None;
    };
    let name = node.text("`name`", report)?;
    if name.trim().is_empty() {
        report.note(Kind::Empty, &node.at, format!("{what} has no `name`"));
        return None;
    }
    Some(name.to_owned())
}

pub(in crate::azure) fn optional_name(
    fields: &mut Fields<'_>,
    node: &Node<'_>,
    report: &mut Report,
) -> (Option<String>, Place) {
    let name = fields.take("name").and_then(|name| name.text("`name`", report));
    let name = name.filter(|name| !name.is_empty()).map(str::to_owned);
    let at = name
        .as_deref()
        .map_or_else(|| node.at.clone(), |name| node.at.within("rule", name));
    (name, at)
}

/// Not part of what a rule means, so whatever it holds is only text.
pub(in crate::azure) fn description(fields: &mut Fields<'_>, key: &str) -> Option<String> {
    let text = fields.take(key)?.value.as_text()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

pub(in crate::azure) fn required_priority(
    node: Option<Node<'_>>,
    at: &Place,
    what: &str,
    report: &mut Report,
) -> Option<u16> {
    let Some(node) = node else {
        report.note(Kind::Empty, at, format!("{what} has no `priority`"));
        return None;
    };
    let number = node.number("`priority`", report)?;
    let priority = u16::try_from(number).ok().filter(|number| PRIORITIES.contains(number));
    if priority.is_none() {
        report.note(
            Kind::BadValue,
            &node.at,
            format!("{number} is not a priority: 100 to 65000"),
        );
    }
    priority
}

pub(in crate::azure) fn required_list<'j>(
    node: Option<Node<'j>>,
    what: &str,
    at: &Place,
    report: &mut Report,
) -> Vec<Node<'j>> {
    let Some(node) = node else {
        report.note(Kind::Empty, at, format!("there is no {what}")).help(EXPORT);
        return Vec::new();
    };
    let items = node.list(what, report).unwrap_or_default();
    if items.is_empty() && matches!(node.value, Json::List(_)) {
        report.note(Kind::Empty, &node.at, format!("{what} is empty"));
    }
    items
}

/// `{type: Allow}`, or the word alone.
pub(in crate::azure) fn action(fields: &mut Fields<'_>, at: &Place, report: &mut Report) -> Option<Action> {
    let Some(node) = fields.take("action") else {
        report.note(Kind::Empty, at, "the collection has no `action`");
        return None;
    };
    let node = match node.value {
        Json::Map(_) => {
            let mut fields = node.fields("an action", report)?;
            let kind = fields.take("type");
            fields.finish(report);
            kind?
        }
        _ => node,
    };
    word(&node, "`action`", &ACTIONS, report)
}

/// Only NAT collections translate, and they do nothing else.
pub(in crate::azure) fn fits(action: Action, kind: CollectionKind, at: &Place, report: &mut Report) -> Option<Action> {
    if kind != CollectionKind::Nat && action == Action::Dnat {
        report.note(
            Kind::BadValue,
            at,
            "the action `DNAT` stands on a collection that is not for NAT",
        );
        return None;
    }
    Some(action)
}

/// A word of a closed list, whatever its case.
pub(in crate::azure) fn word<T: Copy>(
    node: &Node<'_>,
    what: &str,
    words: &[(&str, T)],
    report: &mut Report,
) -> Option<T> {
    let text = node.text(what, report)?;
    let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    if found.is_none() {
        let known: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        report
            .note(
                Kind::BadValue,
                &node.at,
                format!("{what} cannot be `{}`", shortened(text)),
            )
            .help(format!("it is one of {}", known.join(", ")));
    }
    found.map(|(_, value)| *value)
}

pub(in crate::azure) fn last_segment(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}

/// `x` of `/.../KEY/x/...`.
pub(in crate::azure) fn segment_after(id: &str, key: &str) -> Option<String> {
    let mut segments = id.split('/');
    segments.find(|segment| segment.eq_ignore_ascii_case(key))?;
    segments.next().map(str::to_owned)
}

/// The id up to the policy, in lower case.
pub(in crate::azure) fn policy_id(id: &str) -> Option<String> {
    let id = id.to_ascii_lowercase();
    let (scope, rest) = id.split_once("/firewallpolicies/")?;
    let name = rest.split('/').next()?;
    Some(format!("{scope}/firewallpolicies/{name}"))
}

/// Of every resource; none says anything about rules.
pub(in crate::azure) const RESOURCE_KEYS: &[&str] = &[
    "apiVersion",
    "comments",
    "condition",
    "copy",
    "dependsOn",
    "etag",
    "existing",
    "extendedLocation",
    "identity",
    "kind",
    "location",
    "managedBy",
    "metadata",
    "plan",
    "provisioningState",
    "resourceGroup",
    "resources",
    "scope",
    "subscriptionId",
    "systemData",
    "tags",
    "tenantId",
    "type",
    "zones",
];
const PRIORITIES: std::ops::RangeInclusive<u16> = 100..=65000;
const ACTIONS: [(&str, Action); 3] = [("Allow", Action::Allow), ("Deny", Action::Deny), ("DNAT", Action::Dnat)];
const PROTOCOLS: [(&str, Protocol); 3] = [
    ("Http", Protocol::Http),
    ("Https", Protocol::Https),
    ("Mssql", Protocol::Mssql),
];
const IP_PROTOCOLS: [(&str, IpProtocol); 4] = [
    ("TCP", IpProtocol::Tcp),
    ("UDP", IpProtocol::Udp),
    ("ICMP", IpProtocol::Icmp),
    ("Any", IpProtocol::Any),
];
