//! Firewall policies as ARM writes them: who inherits from whom, which settings have no place here; and pod selectors.
//! Must not read rules, except of groups that stand inside of a policy.
//! Called by the reader of files for each resource.

use super::value::{RESOURCE_KEYS, last_segment, segment_after, word};
use super::{Named, group, properties};
use crate::azure::json::{Fields, Json, Node};
use crate::azure::model::{Firewall, Placed, SelectorGroup};
use crate::azure::report::{Kind, Place, Report};
use crate::azure::template;

/// A policy as far as it concerns the order of rules.
#[derive(Clone, Debug)]
pub(in crate::azure) struct PolicyFacts {
    pub(in crate::azure) name: Option<String>,
    /// The name of the parent policy.
    pub(in crate::azure) base: Option<String>,
    /// The groups that it says it has.
    pub(in crate::azure) groups: Vec<Placed<String>>,
    pub(in crate::azure) at: Place,
}

/// Reads what of a policy concerns its rules; says which of its settings have no place here.
pub(in crate::azure) fn policy(
    node: &Node<'_>,
    named: Named,
    firewall: &mut Firewall,
    report: &mut Report,
) -> Option<PolicyFacts> {
    let mut fields = properties(node, "a firewall policy", report)?;
    fields.ignore(RESOURCE_KEYS);
    fields.ignore(POLICY_IGNORED);
    let own = fields.take("name").and_then(|name| name.value.as_text());
    let id = fields.take("id").and_then(|id| id.value.as_text());
    let name = named
        .name
        .or_else(|| own.map(str::to_owned))
        .or_else(|| id.and_then(|id| segment_after(id, "firewallPolicies")));
    let at = name
        .as_deref()
        .map_or_else(|| node.at.clone(), |name| node.at.within("policy", name));
    fields.place(&at);
    let mut base = None;
    if let Some(node) = fields.take("basePolicy") {
        let id = node.find("id").unwrap_or_else(|| node.clone());
        base = match id.value {
            Json::Text(id) => Some(last_segment(id).to_owned()),
            Json::Expression(text) => template::resource_name(text).or_else(|| Some(text.clone())),
            _ => {
                id.refuse("`basePolicy` must hold an `id`", report);
                None
            }
        };
    }
    let mut groups = Vec::new();
    if let Some(node) = fields.take("ruleCollectionGroups") {
        for item in node.list("`ruleCollectionGroups`", report).unwrap_or_default() {
            if item.find("ruleCollections").is_some() || item.find("properties").is_some() {
                let named = Named {
                    policy: name.clone(),
                    name: None,
                };
                firewall.groups.extend(group(&item, named, false, report));
            } else if let Some(id) = item.find("id") {
                groups.extend(id.value.as_text().map(|id| Placed {
                    value: last_segment(id).to_owned(),
                    at: id_place(&item),
                }));
            } else {
                item.refuse("a rule collection group must be an object with an `id`", report);
            }
        }
    }
    settings(&mut fields, report);
    fields.finish(report);
    Some(PolicyFacts { name, base, groups, at })
}

fn id_place(item: &Node<'_>) -> Place {
    item.at.key("id")
}

/// Threat intelligence, intrusion detection and the like; classic firewalls have the first.
pub(in crate::azure) fn settings(fields: &mut Fields<'_>, report: &mut Report) {
    if let Some(node) = fields.take("threatIntelMode") {
        threat_intelligence(&node, report);
    }
    fields.ignore(&["threatIntelWhitelist"]);
    if let Some(node) = fields.take("intrusionDetection")
        && let Some(mode) = node.find("mode").and_then(|mode| mode.value.as_text())
        && mode.eq_ignore_ascii_case("deny")
    {
        report
            .note(
                Kind::Idps,
                &node.at,
                "intrusion detection denies what its signatures match",
            )
            .outcome("not carried over: there are no signatures here");
    }
    for (key, what) in [
        ("dnsSettings", "the DNS settings are no rule"),
        ("explicitProxy", "the explicit proxy is no rule"),
        ("snat", "SNAT is no rule"),
        ("sql", "how SQL is redirected is no rule"),
        ("transportSecurity", "the certificate of TLS inspection is no rule"),
    ] {
        if let Some(node) = fields.take(key)
            && !matches!(node.value, Json::Map(entries) if entries.is_empty())
        {
            report.note(Kind::Setting, &node.at, what).outcome("not carried over");
        }
    }
}

/// `Deny` closes what no rule of the input names.
pub(in crate::azure) fn threat_intelligence(node: &Node<'_>, report: &mut Report) {
    match word(node, "the mode of threat intelligence", &THREAT_MODES, report) {
        Some("Deny") => {
            report
                .note(
                    Kind::ThreatIntelligence,
                    &node.at,
                    "threat intelligence denies what Microsoft lists",
                )
                .outcome("not carried over: there is no such list here");
        }
        Some("Alert") => {
            report
                .note(
                    Kind::Setting,
                    &node.at,
                    "threat intelligence only alerts, and decides nothing",
                )
                .outcome("not carried over");
        }
        _ => {}
    }
}

/// Reads a group of pods.
pub(in crate::azure) fn selector_group(node: &Node<'_>, named: Named, report: &mut Report) -> Option<SelectorGroup> {
    let mut fields = properties(node, "a selector group", report)?;
    fields.ignore(RESOURCE_KEYS);
    let own = fields.take("name").and_then(|name| name.value.as_text());
    let id = fields.take("id").and_then(|id| id.value.as_text());
    let name = named.name.or_else(|| own.map(|own| last_segment(own).to_owned()));
    let name = name.or_else(|| id.map(|id| last_segment(id).to_owned()))?;
    let at = node.at.within("selector group", &name);
    let pods = fields.take("podSelector").map(|node| labels(&node, report));
    let namespaces = fields.take("namespaceSelector").map(|node| labels(&node, report));
    fields.finish(report);
    Some(SelectorGroup {
        name,
        id: id.map(str::to_owned),
        pods: pods.unwrap_or(Some(Vec::new()))?,
        namespaces: namespaces.unwrap_or(Some(Vec::new()))?,
        at,
    })
}

fn labels(node: &Node<'_>, report: &mut Report) -> Option<Vec<(String, String)>> {
    let mut fields = node.fields("a selector", report)?;
    let mut all = Vec::new();
    if let Some(node) = fields.take("matchLabels") {
        let Json::Map(entries) = node.value else {
            node.refuse("`matchLabels` must be an object", report);
            return None;
        };
        for (key, value) in entries {
            let value = Node::new(value, node.at.key(key)).text("a label", report)?;
            all.push((key.clone(), value.to_owned()));
        }
    }
    if let Some(node) = fields.take("matchExpressions")
        && node
            .list("`matchExpressions`", report)
            .is_none_or(|all| !all.is_empty())
    {
        report
            .note(Kind::BadValue, &node.at, "`matchExpressions` cannot be said here")
            .help("a workload's pods are named by labels; map the group: `--sources NAME=WORKLOAD`");
        return None;
    }
    fields.finish(report);
    Some(all)
}

const POLICY_IGNORED: &[&str] = &["afcManaged", "childPolicies", "firewalls", "insights", "size", "sku"];
const THREAT_MODES: [(&str, &str); 3] = [("Off", "Off"), ("Alert", "Alert"), ("Deny", "Deny")];
