//! Classic firewalls: three flat lists of rule collections, as ARM writes them or flattened as `az` prints them.
//! Must not know policies; a firewall that has one holds no rules of its own.
//! Called by the reader of files for each resource.

use super::arm::policy::settings;
use super::arm::value::{
    RESOURCE_KEYS, action, fits, optional_name, required_list, required_name, required_priority, segment_after,
};
use super::arm::{Named, application_rule, network_rule, properties};
use super::json::Node;
use super::model::{Collection, CollectionKind, Group, Rule, Sources, Target};
use super::report::{Kind, Report};

/// Reads a firewall. `None`: it has a policy, and rules of its own nowhere.
pub(super) fn firewall(node: &Node<'_>, named: Named, report: &mut Report) -> Option<Group> {
    let mut fields = properties(node, "a firewall", report)?;
    fields.ignore(RESOURCE_KEYS);
    fields.ignore(IGNORED);
    let own = fields.take("name").and_then(|name| name.value.as_text());
    let id = fields.take("id").and_then(|id| id.value.as_text());
    let name = named
        .name
        .or_else(|| own.map(str::to_owned))
        .or_else(|| id.and_then(|id| segment_after(id, "azureFirewalls")));
    let at = name
        .as_deref()
        .map_or_else(|| node.at.clone(), |name| node.at.within("firewall", name));
    fields.place(&at);
    settings(&mut fields, report);
    let policy = fields.take("firewallPolicy");
    let mut all = Vec::new();
    for (key, kind) in LISTS {
        if let Some(list) = fields.take(key) {
            for item in list.list(&format!("`{key}`"), report).unwrap_or_default() {
                all.extend(collection(&item, Some(kind), report));
            }
        }
    }
    fields.finish(report);
    if let Some(policy) = policy {
        let message = "the firewall has a policy, and the rules are there";
        report
            .note(Kind::Incomplete, &policy.at, message)
            .help(super::json::EXPORT);
        return None;
    }
    Some(Group {
        policy: name,
        collections: all,
        at,
        ..Group::default()
    })
}

/// Reads a collection; what kind it is stands in the firewall, or in its id.
pub(super) fn collection(node: &Node<'_>, kind: Option<CollectionKind>, report: &mut Report) -> Option<Collection> {
    let mut fields = properties(node, "a rule collection", report)?;
    fields.ignore(RESOURCE_KEYS);
    let id = fields.take("id").and_then(|id| id.value.as_text());
    let by_id = id.and_then(|id| LISTS.iter().find(|(key, _)| segment_after(id, key).is_some()));
    let kind = kind.or(by_id.map(|(_, kind)| *kind)).or_else(|| {
        let rules = node.find("rules").or_else(|| node.find("properties")?.find("rules"))?;
        kind_of(&rules)
    });
    let name = required_name(&mut fields, &node.at, "the rule collection", report)?;
    let at = node.at.within("collection", &name);
    fields.place(&at);
    let Some(kind) = kind else {
        report
            .note(
                Kind::UnknownShape,
                &at,
                "nothing says whether the collection is for applications or the network",
            )
            .help("give the whole firewall: `az network firewall show -n NAME -g GROUP -o json`");
        return None;
    };
    let priority = required_priority(fields.take("priority"), &at, "the collection", report);
    let action = match kind {
        CollectionKind::Nat => {
            fields.ignore(&["action"]);
            Some(crate::azure::model::Action::Dnat)
        }
        _ => action(&mut fields, &at, report),
    };
    let rules = fields.take("rules");
    fields.finish(report);
    let rules = required_list(rules, "`rules`", &at, report);
    let rules: Vec<_> = rules.iter().filter_map(|item| rule(item, kind, report)).collect();
    Some(Collection {
        name,
        priority: priority?,
        kind,
        action: fits(action?, kind, &at, report)?,
        rules,
        at,
    })
}

fn rule(node: &Node<'_>, kind: CollectionKind, report: &mut Report) -> Option<Rule> {
    let mut fields = node.fields("a rule", report)?;
    let (name, at) = optional_name(&mut fields, node, report);
    Some(match kind {
        CollectionKind::Application => application_rule(fields, name, at, report),
        CollectionKind::Network => network_rule(fields, "protocols", name, at, report),
        CollectionKind::Nat => Rule {
            description: None,
            sources: Sources::default(),
            target: Target::Nat,
            name,
            at,
        },
    })
}

/// What kind rules are, if what they hold leaves no doubt.
fn kind_of(rules: &Node<'_>) -> Option<CollectionKind> {
    let rules = rules.value.as_list()?;
    let has = |keys: &[&str]| rules.iter().any(|rule| keys.iter().any(|key| rule.find(key).is_some()));
    let nat = has(&["translatedAddress", "translatedPort", "translatedFqdn"]);
    let application = has(&["targetFqdns", "fqdnTags"]);
    let network = has(&["destinationPorts"]);
    match (nat, application, network) {
        (true, false, _) => Some(CollectionKind::Nat),
        (false, true, false) => Some(CollectionKind::Application),
        (false, false, true) => Some(CollectionKind::Network),
        _ => None,
    }
}

const LISTS: [(&str, CollectionKind); 3] = [
    ("applicationRuleCollections", CollectionKind::Application),
    ("networkRuleCollections", CollectionKind::Network),
    ("natRuleCollections", CollectionKind::Nat),
];
const IGNORED: &[&str] = &[
    "additionalProperties",
    "afcConfiguration",
    "autoscaleConfiguration",
    "createAfcControlPlane",
    "hubIPAddresses",
    "hubIpAddresses",
    "ipConfigurations",
    "ipGroups",
    "managementIpConfiguration",
    "privateIPAddress",
    "sku",
    "virtualHub",
];
