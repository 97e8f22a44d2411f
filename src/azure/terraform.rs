//! `terraform show -json` of a plan or a state: firewall rules of azurerm resources, policy or classic, and IP groups.
//! Must not follow references: what is known only after apply is an error.
//! Called by the reader of files.

use std::collections::HashMap;

use super::arm::policy::{PolicyFacts, threat_intelligence};
use super::arm::value::{
    action, description, fits, ip_protocols, last_segment, optional_name, policy_id, ports, protocol, required_list,
    required_name, required_priority, segment_after,
};
use super::json::{Fields, Json, Node};
use super::model::{
    Action, Application, Collection, CollectionKind, Firewall, Group, IpGroup, Network, Placed, Rule, Sources, Target,
};
use super::report::{Kind, Place, Report};

/// Reads the resources of all modules.
pub(super) fn read(node: &Node<'_>, firewall: &mut Firewall, policies: &mut Vec<PolicyFacts>, report: &mut Report) {
    if node.find("errored").is_some_and(|flag| *flag.value == Json::Bool(true)) {
        report.note(
            Kind::Incomplete,
            &node.at.key("errored"),
            "the plan ended with an error, so part of it may be missing",
        );
    }
    if node
        .find("complete")
        .is_some_and(|flag| *flag.value == Json::Bool(false))
    {
        report.note(Kind::Incomplete, &node.at.key("complete"), "the plan is not complete");
    }
    let Some(root) = node.find("planned_values").or_else(|| node.find("values")) else {
        report
            .note(Kind::Incomplete, &node.at, "the state or plan holds no values")
            .help("`terraform show -json PLAN` of a plan that creates or keeps the rules, or of the state after apply");
        return;
    };
    let mut reader = Reader {
        unknown: unknown(node),
        firewall,
        policies,
        report,
    };
    if let Some(module) = root.find("root_module") {
        reader.module(&module);
    }
}

/// What of each resource is known only after apply, by address.
fn unknown<'j>(node: &Node<'j>) -> HashMap<&'j str, Node<'j>> {
    let Some(changes) = node.find("resource_changes") else {
        return HashMap::new();
    };
    let items = changes.value.as_list().unwrap_or_default().iter().enumerate();
    let of_change = |(index, item): (usize, &'j Json)| {
        let change = Node::new(item, changes.at.item(index));
        // What is left of an object that was replaced is no resource of the plan.
        if change.find("deposed").is_some() {
            return None;
        }
        let address = change.find("address")?.value.as_text()?;
        Some((address, change.find("change")?.find("after_unknown")?))
    };
    items.filter_map(of_change).collect()
}

struct Reader<'j, 'r> {
    unknown: HashMap<&'j str, Node<'j>>,
    firewall: &'r mut Firewall,
    policies: &'r mut Vec<PolicyFacts>,
    report: &'r mut Report,
}

impl<'j> Reader<'j, '_> {
    fn module(&mut self, module: &Node<'j>) {
        if let Some(resources) = module.find("resources") {
            for resource in resources.list("`resources`", self.report).unwrap_or_default() {
                self.resource(&resource);
            }
        }
        if let Some(children) = module.find("child_modules") {
            for child in children.list("`child_modules`", self.report).unwrap_or_default() {
                self.module(&child);
            }
        }
    }

    fn resource(&mut self, resource: &Node<'j>) {
        let text = |key: &str| resource.find(key).and_then(|node| node.value.as_text());
        let kind = text("type").unwrap_or_default();
        let is_data = text("mode") == Some("data");
        let address = text("address").unwrap_or(kind);
        let at = resource.at.within("resource", address);
        if kind.starts_with("azapi_") {
            let body = text_of_values(resource).to_ascii_lowercase();
            if body.contains("microsoft.network/firewallpolicies") || body.contains("microsoft.network/azurefirewalls")
            {
                let message = "rules in `azapi` resources are not read";
                self.report
                    .note(Kind::UnknownShape, &at, message)
                    .help(super::json::EXPORT);
            }
            return;
        }
        let known = kind.starts_with("azurerm_firewall") || kind.starts_with("azurerm_ip_group");
        if !known || is_data && kind != "azurerm_ip_group" {
            return;
        }
        let Some(values) = resource.find("values") else {
            self.report.note(Kind::Incomplete, &at, "the resource has no `values`");
            return;
        };
        let values = values.with(&at);
        self.refuse_unknown(address, &at);
        match kind {
            "azurerm_firewall_policy_rule_collection_group" => {
                let group = group(&values, self.report);
                self.firewall.groups.extend(group);
            }
            "azurerm_firewall_application_rule_collection" => self.classic(&values, CollectionKind::Application),
            "azurerm_firewall_network_rule_collection" => self.classic(&values, CollectionKind::Network),
            "azurerm_firewall_nat_rule_collection" => self.classic(&values, CollectionKind::Nat),
            "azurerm_firewall_policy" => self.policy(&values, address),
            "azurerm_firewall" => {
                if let Some(mode) = values.find("threat_intel_mode") {
                    mode_of(&mode, self.report);
                }
            }
            "azurerm_ip_group" => self.ip_group(&values),
            "azurerm_ip_group_cidr" => self.ip_group_cidr(&values),
            _ => {
                let message = format!("`{kind}` is not a known type of resource");
                self.report.note(Kind::UnknownShape, &at, message);
            }
        }
    }

    /// What is known only after apply, but for ids and the like.
    fn refuse_unknown(&mut self, address: &str, at: &Place) {
        let Some(unknown) = self.unknown.get(address) else {
            return;
        };
        let Json::Map(entries) = unknown.value else { return };
        for (key, value) in entries {
            if UNKNOWN_IS_FINE.contains(&key.as_str()) {
                continue;
            }
            let node = Node::new(value, unknown.at.key(key)).with(at);
            if let Some(place) = first_true(&node) {
                self.report
                    .note(
                        Kind::Expression,
                        &place,
                        format!("`{key}` is known only after apply, so far it is an expression"),
                    )
                    .help("apply it first, and give the state: `terraform show -json`");
            }
        }
    }

    /// Each collection is a resource of its own; those of one firewall belong together.
    fn classic(&mut self, values: &Node<'_>, kind: CollectionKind) {
        let Some(mut fields) = values.fields("a rule collection", self.report) else {
            return;
        };
        let firewall = fields
            .take("azure_firewall_name")
            .and_then(|name| name.text("`azure_firewall_name`", self.report));
        let resource_group = fields.take("resource_group_name").and_then(|name| name.value.as_text());
        let policy = firewall.map(|firewall| match resource_group {
            Some(group) => format!("{group}/{firewall}"),
            None => firewall.to_owned(),
        });
        fields.ignore(&["id", "timeouts"]);
        let Some(collection) = collection(fields, &values.at, kind, true, self.report) else {
            return;
        };
        let groups = &mut self.firewall.groups;
        let same =
            |group: &&mut Group| group.name.is_none() && group.policy == policy && group.at.file == values.at.file;
        if let Some(group) = groups.iter_mut().find(same) {
            group.collections.push(collection);
        } else {
            groups.push(Group {
                policy,
                collections: vec![collection],
                at: values.at.clone(),
                ..Group::default()
            });
        }
    }

    fn policy(&mut self, values: &Node<'_>, address: &str) {
        let text = |key: &str| values.find(key).and_then(|node| node.value.as_text());
        if let Some(mode) = values.find("threat_intelligence_mode") {
            mode_of(&mode, self.report);
        }
        let detection = values.find("intrusion_detection").and_then(|node| {
            let first = node.value.as_list()?.first()?;
            Some((first.find("mode")?.as_text()?.to_owned(), node.at))
        });
        if let Some((mode, at)) = detection
            && mode.eq_ignore_ascii_case("deny")
        {
            self.report
                .note(Kind::Idps, &at, "intrusion detection denies what its signatures match")
                .outcome("not carried over: there are no signatures here");
        }
        let base_unknown = self
            .unknown
            .get(address)
            .and_then(|unknown| unknown.find("base_policy_id"));
        if base_unknown.is_some_and(|flag| *flag.value == Json::Bool(true)) {
            self.report
                .note(
                    Kind::Expression,
                    &values.at,
                    "which policy is the parent is known only after apply",
                )
                .help("apply it first, and give the state: `terraform show -json`");
        }
        self.policies.push(PolicyFacts {
            name: text("name").map(str::to_owned),
            base: text("base_policy_id").map(|id| last_segment(id).to_owned()),
            groups: Vec::new(),
            at: values.at.clone(),
        });
    }

    fn ip_group(&mut self, values: &Node<'_>) {
        let text = |key: &str| values.find(key).and_then(|node| node.value.as_text());
        let Some(name) = text("name").or_else(|| text("id").map(last_segment)) else {
            return;
        };
        let cidrs = values.find("cidrs");
        self.firewall.ip_groups.push(IpGroup {
            name: name.to_owned(),
            id: text("id").map(str::to_owned),
            addresses: cidrs
                .map(|cidrs| cidrs.texts("`cidrs`", self.report))
                .unwrap_or_default(),
            at: values.at.clone(),
        });
    }

    /// One address of a group that is described elsewhere.
    fn ip_group_cidr(&mut self, values: &Node<'_>) {
        let Some(mut fields) = values.fields("an address of an IP group", self.report) else {
            return;
        };
        let id = fields
            .take("ip_group_id")
            .and_then(|id| id.text("`ip_group_id`", self.report));
        let cidr = fields.take("cidr");
        let (Some(id), Some(cidr)) = (id, cidr) else { return };
        let Some(value) = cidr.text("`cidr`", self.report) else {
            return;
        };
        let address = Placed {
            value: value.to_owned(),
            at: cidr.at,
        };
        let groups = &mut self.firewall.ip_groups;
        let same = |group: &&mut IpGroup| group.id.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(id));
        match groups.iter_mut().find(same) {
            Some(group) if group.addresses.iter().any(|known| known.value == address.value) => {}
            Some(group) => group.addresses.push(address),
            None => groups.push(IpGroup {
                name: last_segment(id).to_owned(),
                id: Some(id.to_owned()),
                at: values.at.clone(),
                addresses: vec![address],
            }),
        }
    }
}

fn group(values: &Node<'_>, report: &mut Report) -> Option<Group> {
    let mut fields = values.fields("a rule collection group", report)?;
    let name = required_name(&mut fields, &values.at, "the rule collection group", report)?;
    let at = values.at.within("group", &name);
    fields.place(&at);
    fields.ignore(&["id", "timeouts"]);
    let priority = required_priority(fields.take("priority"), &at, "the group", report);
    let id = fields.take("firewall_policy_id").and_then(|id| id.value.as_text());
    let mut collections = Vec::new();
    for (key, kind) in [
        ("application_rule_collection", CollectionKind::Application),
        ("network_rule_collection", CollectionKind::Network),
        ("nat_rule_collection", CollectionKind::Nat),
    ] {
        let Some(list) = fields.take(key) else { continue };
        for item in list.list(&format!("`{key}`"), report).unwrap_or_default() {
            let Some(inner) = item.fields("a rule collection", report) else {
                continue;
            };
            collections.extend(collection(inner, &item.at, kind, false, report));
        }
    }
    fields.finish(report);
    Some(Group {
        name: Some(name),
        priority: Some(priority?),
        policy: id.and_then(|id| segment_after(id, "firewallPolicies")),
        policy_id: id.and_then(policy_id),
        parent: false,
        collections,
        at,
    })
}

fn collection(
    mut fields: Fields<'_>,
    at: &Place,
    kind: CollectionKind,
    classic: bool,
    report: &mut Report,
) -> Option<Collection> {
    let name = required_name(&mut fields, at, "the rule collection", report)?;
    let at = at.within("collection", &name);
    fields.place(&at);
    let priority = required_priority(fields.take("priority"), &at, "the collection", report);
    let action = match kind {
        CollectionKind::Nat => {
            fields.ignore(&["action"]);
            Some(Action::Dnat)
        }
        _ => action(&mut fields, &at, report),
    };
    let rules = fields.take("rule");
    fields.finish(report);
    let rules = required_list(rules, "`rule`", &at, report);
    let rules: Vec<_> = rules
        .iter()
        .filter_map(|item| rule(item, kind, classic, report))
        .collect();
    Some(Collection {
        name,
        priority: priority?,
        kind,
        action: fits(action?, kind, &at, report)?,
        rules,
        at,
    })
}

fn rule(node: &Node<'_>, kind: CollectionKind, classic: bool, report: &mut Report) -> Option<Rule> {
    let mut fields = node.fields("a rule", report)?;
    let (name, at) = optional_name(&mut fields, node, report);
    fields.place(&at);
    if kind == CollectionKind::Nat {
        return Some(Rule {
            description: None,
            sources: Sources::default(),
            target: Target::Nat,
            name,
            at,
        });
    }
    let description = description(&mut fields, "description");
    let sources = Sources {
        addresses: fields.texts("source_addresses", report),
        ip_groups: fields.texts("source_ip_groups", report),
        ..Sources::default()
    };
    let target = match kind {
        CollectionKind::Application => Target::Application(application(&mut fields, classic, report)),
        CollectionKind::Network | CollectionKind::Nat => Target::Network(Network {
            addresses: fields.texts("destination_addresses", report),
            ip_groups: fields.texts("destination_ip_groups", report),
            fqdns: fields.texts("destination_fqdns", report),
            protocols: fields
                .take("protocols")
                .map(|node| ip_protocols(&node, "protocols", report))
                .unwrap_or_default(),
            ports: fields
                .take("destination_ports")
                .map(|node| ports(&node, "destination_ports", report))
                .unwrap_or_default(),
            geo_locations: Vec::new(),
        }),
    };
    fields.finish(report);
    Some(Rule {
        name,
        description,
        sources,
        target,
        at,
    })
}

fn application(fields: &mut Fields<'_>, classic: bool, report: &mut Report) -> Application {
    let (fqdns, tags, protocols) = if classic {
        ("target_fqdns", "fqdn_tags", "protocol")
    } else {
        ("destination_fqdns", "destination_fqdn_tags", "protocols")
    };
    let mut target = Application {
        fqdns: fields.texts(fqdns, report),
        fqdn_tags: fields.texts(tags, report),
        urls: fields.texts("destination_urls", report),
        web_categories: fields.texts("web_categories", report),
        addresses: fields.texts("destination_addresses", report),
        ..Application::default()
    };
    if let Some(node) = fields.take(protocols) {
        for item in node.list(&format!("`{protocols}`"), report).unwrap_or_default() {
            let value = protocol(&item, "type", report);
            target
                .protocols
                .extend(value.map(|value| Placed { value, at: item.at }));
        }
    }
    if let Some(node) = fields.take("terminate_tls")
        && node.flag("`terminate_tls`", report) == Some(true)
    {
        target.terminate_tls = Some(node.at);
    }
    if let Some(node) = fields.take("http_headers")
        && node
            .list("`http_headers`", report)
            .is_some_and(|headers| !headers.is_empty())
    {
        target.headers = Some(node.at);
    }
    target
}

/// Absent, null and empty are `Alert` or `Off`, neither of which decides.
fn mode_of(node: &Node<'_>, report: &mut Report) {
    if node.value.as_text() != Some("") {
        threat_intelligence(node, report);
    }
}

/// Of an azapi resource: what it is, in the values.
fn text_of_values(resource: &Node<'_>) -> String {
    let kind = resource.find("values").and_then(|values| values.find("type"));
    kind.and_then(|kind| kind.value.as_text())
        .unwrap_or_default()
        .to_owned()
}

fn first_true(node: &Node<'_>) -> Option<Place> {
    match node.value {
        Json::Bool(true) => Some(node.at.clone()),
        Json::List(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(index, item)| first_true(&Node::new(item, node.at.item(index))))
        }
        Json::Map(entries) => entries
            .iter()
            .find_map(|(key, value)| first_true(&Node::new(value, node.at.key(key)))),
        _ => None,
    }
}

/// Made by Azure, or not about what a rule means.
const UNKNOWN_IS_FINE: &[&str] = &[
    "base_policy_id",
    "child_policies",
    "dns_servers",
    "firewall_ids",
    "firewall_policy_id",
    "firewall_policy_ids",
    "firewalls",
    "id",
    "identity",
    "insights",
    "ip_configuration",
    "ip_group_id",
    "location",
    "management_ip_configuration",
    "private_ip_ranges",
    "resource_group_name",
    "rule_collection_groups",
    "sku",
    "tags",
    "timeouts",
    "tls_certificate",
    "virtual_hub",
    "zones",
];
