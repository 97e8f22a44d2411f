//! Rule collection groups and policies as ARM writes them, with `properties` or flattened as `az` prints them.
//! Must not guess: what is unknown, missing where it decides, or an expression is noted as an error.
//! Called by the reader of files for each resource.

pub(super) mod policy;
pub(super) mod value;

use super::json::{EXPORT, Fields, Json, Node};
use super::model::{Application, Collection, CollectionKind, Group, Network, Placed, Rule, Sources, Target};
use super::report::{Kind, Place, Report};
use super::template;
use value::{
    RESOURCE_KEYS, action, description, fits, ip_protocols, last_segment, optional_name, policy_id, ports, protocol,
    required_list, required_name, required_priority, segment_after, word,
};

/// What a resource is called, where its name says more than its own properties do.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    pub(super) policy: Option<String>,
    pub(super) name: Option<String>,
}

/// The resource's properties, whether they stand in `properties` or beside `name`.
pub(super) fn properties<'j>(node: &Node<'j>, what: &'static str, report: &mut Report) -> Option<Fields<'j>> {
    let mut fields = node.fields(what, report)?;
    if let Some(inner) = fields.take("properties") {
        if let Some(copy) = inner.find("copy") {
            let message = "a loop (`copy`) makes some of these properties, and they are not literal";
            report.note(Kind::Expression, &copy.at, message).help(EXPORT);
            return None;
        }
        let inner = inner.fields(what, report)?;
        fields.merge(inner, report);
    }
    Some(fields)
}

/// Reads a rule collection group.
pub(super) fn group(node: &Node<'_>, named: Named, parent: bool, report: &mut Report) -> Option<Group> {
    let mut fields = properties(node, "a rule collection group", report)?;
    fields.ignore(RESOURCE_KEYS);
    fields.ignore(&["size"]);
    let own = fields.take("name");
    let id = fields.take("id").and_then(|id| id.value.as_text());
    let name = match (named.name, own) {
        (Some(name), _) => name,
        (None, Some(own)) => last_segment(own.text("`name`", report)?).to_owned(),
        (None, None) => {
            report.note(Kind::Empty, &node.at, "the rule collection group has no `name`");
            return None;
        }
    };
    let at = node.at.within("group", &name);
    let policy = named
        .policy
        .or_else(|| id.and_then(|id| segment_after(id, "firewallPolicies")));
    let priority = fields.take("priority").map(|node| node.with(&at));
    let priority = required_priority(priority, &at, "the group", report);
    let mut all = Vec::new();
    match fields.take("ruleCollections") {
        Some(collections) => {
            for item in collections.list("`ruleCollections`", report).unwrap_or_default() {
                all.extend(collection(&item.with(&at), report));
            }
        }
        None => {
            report
                .note(Kind::Empty, &at, "the rule collection group has no `ruleCollections`")
                .help(EXPORT);
        }
    }
    fields.finish(report);
    Some(Group {
        name: Some(name),
        priority: Some(priority?),
        policy,
        policy_id: id.and_then(policy_id),
        parent,
        collections: all,
        at,
    })
}

/// Reads a rule collection of a policy.
pub(super) fn collection(node: &Node<'_>, report: &mut Report) -> Option<Collection> {
    let mut fields = node.fields("a rule collection", report)?;
    let name = required_name(&mut fields, &node.at, "the rule collection", report)?;
    let at = node.at.within("collection", &name);
    let Some(kind) = fields.take("ruleCollectionType") else {
        report.note(Kind::Empty, &at, "the rule collection has no `ruleCollectionType`");
        return None;
    };
    let nat = word(&kind.with(&at), "`ruleCollectionType`", &COLLECTION_TYPES, report)?;
    let priority = fields.take("priority").map(|node| node.with(&at));
    let priority = required_priority(priority, &at, "the collection", report);
    let action = action(&mut fields, &at, report);
    let rules = fields.take("rules").map(|node| node.with(&at));
    fields.finish(report);
    let mut kinds = Vec::new();
    let mut all = Vec::new();
    for item in required_list(rules, "`rules`", &at, report) {
        if let Some((kind, rule)) = rule(&item, report) {
            kinds.push(kind);
            all.push(rule);
        }
    }
    let kind = if nat { CollectionKind::Nat } else { *kinds.first()? };
    if kinds.iter().any(|other| *other != kind) {
        report
            .note(Kind::BadValue, &at, "the collection holds rules of different types")
            .help("Azure takes only one type of rule in a collection");
        return None;
    }
    Some(Collection {
        name,
        priority: priority?,
        kind,
        action: fits(action?, kind, &at, report)?,
        rules: all,
        at,
    })
}

fn rule(node: &Node<'_>, report: &mut Report) -> Option<(CollectionKind, Rule)> {
    let mut fields = node.fields("a rule", report)?;
    let (name, at) = optional_name(&mut fields, node, report);
    let Some(kind) = fields.take("ruleType") else {
        report.note(Kind::Empty, &at, "the rule has no `ruleType`");
        return None;
    };
    let kind = word(&kind.with(&at), "`ruleType`", &RULE_TYPES, report)?;
    let rule = match kind {
        CollectionKind::Application => application_rule(fields, name, at, report),
        CollectionKind::Network => network_rule(fields, "ipProtocols", name, at, report),
        CollectionKind::Nat => Rule {
            description: None,
            sources: Sources::default(),
            target: Target::Nat,
            name,
            at,
        },
    };
    Some((kind, rule))
}

/// The rest of an application rule; classic firewalls write it in the same way.
pub(super) fn application_rule(mut fields: Fields<'_>, name: Option<String>, at: Place, report: &mut Report) -> Rule {
    fields.place(&at);
    let description = description(&mut fields, "description");
    let sources = sources(&mut fields, report);
    let mut target = Application {
        fqdns: fields.texts("targetFqdns", report),
        fqdn_tags: fields.texts("fqdnTags", report),
        urls: fields.texts("targetUrls", report),
        web_categories: fields.texts("webCategories", report),
        addresses: fields.texts("destinationAddresses", report),
        ..Application::default()
    };
    if let Some(protocols) = fields.take("protocols") {
        for item in protocols.list("`protocols`", report).unwrap_or_default() {
            target
                .protocols
                .extend(protocol(&item, "protocolType", report).map(|value| Placed {
                    value,
                    at: item.at.clone(),
                }));
        }
    }
    if let Some(node) = fields.take("terminateTLS")
        && node.flag("`terminateTLS`", report) == Some(true)
    {
        target.terminate_tls = Some(node.at);
    }
    if let Some(node) = fields.take("httpHeadersToInsert")
        && node
            .list("`httpHeadersToInsert`", report)
            .is_some_and(|headers| !headers.is_empty())
    {
        target.headers = Some(node.at);
    }
    fields.finish(report);
    Rule {
        name,
        description,
        sources,
        target: Target::Application(target),
        at,
    }
}

/// The rest of a network rule; classic firewalls call one key otherwise.
pub(super) fn network_rule(
    mut fields: Fields<'_>,
    protocols: &str,
    name: Option<String>,
    at: Place,
    report: &mut Report,
) -> Rule {
    fields.place(&at);
    let description = description(&mut fields, "description");
    let sources = sources(&mut fields, report);
    let mut target = Network {
        addresses: fields.texts("destinationAddresses", report),
        ip_groups: ip_groups(&mut fields, "destinationIpGroups", report),
        fqdns: fields.texts("destinationFqdns", report),
        geo_locations: fields.texts("destinationGeoLocations", report),
        ..Network::default()
    };
    if let Some(node) = fields.take(protocols) {
        target.protocols = ip_protocols(&node, protocols, report);
    }
    if let Some(node) = fields.take("destinationPorts") {
        target.ports = ports(&node, "destinationPorts", report);
    }
    fields.finish(report);
    Rule {
        name,
        description,
        sources,
        target: Target::Network(target),
        at,
    }
}

fn sources(fields: &mut Fields<'_>, report: &mut Report) -> Sources {
    Sources {
        addresses: fields.texts("sourceAddresses", report),
        ip_groups: ip_groups(fields, "sourceIpGroups", report),
        selectors: fields.texts("sourceKubeSelectorGroups", report),
        geo_locations: fields.texts("sourceGeoLocations", report),
    }
}

/// Resource ids, and the one expression that names a group of the same deployment.
fn ip_groups(fields: &mut Fields<'_>, key: &str, report: &mut Report) -> Vec<Placed<String>> {
    let Some(node) = fields.take(key) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for item in node.list(&format!("`{key}`"), report).unwrap_or_default() {
        let name = match item.value {
            Json::Expression(text) => template::ip_group(text),
            _ => None,
        };
        let value = name.or_else(|| item.text(&format!("an item of `{key}`"), report).map(str::to_owned));
        all.extend(value.map(|value| Placed {
            value,
            at: item.at.clone(),
        }));
    }
    all
}

const COLLECTION_TYPES: [(&str, bool); 2] = [
    ("FirewallPolicyFilterRuleCollection", false),
    ("FirewallPolicyNatRuleCollection", true),
];
const RULE_TYPES: [(&str, CollectionKind); 3] = [
    ("ApplicationRule", CollectionKind::Application),
    ("NetworkRule", CollectionKind::Network),
    ("NatRule", CollectionKind::Nat),
];
