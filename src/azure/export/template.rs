//! The ARM template as it is written: exactly the fields that Azure documents, in a fixed order.
//! Must not choose anything; whoever fills it has. Nothing here depends on chance, so equal policies give equal texts.
//! Called by the export.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

/// A deployment template with parameters for what a policy file cannot know.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Template {
    #[serde(rename = "$schema")]
    schema: &'static str,
    content_version: &'static str,
    parameters: BTreeMap<&'static str, Parameter>,
    resources: Vec<Resource>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameter {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_value: Option<&'static str>,
    metadata: Metadata,
}

#[derive(Debug, Serialize)]
struct Metadata {
    description: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    r#type: &'static str,
    api_version: &'static str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    depends_on: Vec<String>,
    properties: Properties,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Properties {
    #[serde(rename_all = "camelCase")]
    IpGroup { ip_addresses: Vec<String> },
    #[serde(rename_all = "camelCase")]
    Group {
        priority: u16,
        rule_collections: Vec<Collection>,
    },
}

/// A rule collection group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: Arc<str>,
    pub(super) priority: u16,
    /// It belongs to the parent policy, which has a template of its own.
    pub(super) parent: bool,
    pub(super) collections: Vec<Collection>,
}

/// The addresses of a workload.
#[derive(Debug)]
pub(super) struct IpGroup {
    pub(super) name: Arc<str>,
    pub(super) addresses: Vec<String>,
}

/// Rules of one type with one action.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Collection {
    rule_collection_type: &'static str,
    pub(super) name: String,
    pub(super) priority: u16,
    action: Action,
    pub(super) rules: Vec<Rule>,
}

#[derive(Debug, Serialize)]
struct Action {
    r#type: &'static str,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "ruleType")]
pub(super) enum Rule {
    #[serde(rename = "ApplicationRule", rename_all = "camelCase")]
    Application {
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        #[serde(flatten)]
        source: Source,
        protocols: Vec<Protocol>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        target_fqdns: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        fqdn_tags: Vec<String>,
    },
    #[serde(rename = "NetworkRule", rename_all = "camelCase")]
    Network {
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        ip_protocols: [&'static str; 1],
        #[serde(flatten)]
        source: Source,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        destination_addresses: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        destination_fqdns: Vec<String>,
        destination_ports: Vec<String>,
    },
}

/// Never empty: `*` is every source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Source {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) source_addresses: Vec<String>,
    /// Expressions that give the ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) source_ip_groups: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Protocol {
    pub(super) protocol_type: Spoken,
    pub(super) port: u16,
}

/// What an application rule can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Spoken {
    Http,
    Https,
    Mssql,
}

impl Template {
    /// Azure changes one group of a policy at a time, so each waits for the one before it.
    pub(super) fn new(groups: Vec<Group>, ip_groups: Vec<IpGroup>) -> Self {
        let mut parameters = BTreeMap::from([(POLICY, text("The firewall policy that gets the rules"))]);
        let mut resources: Vec<Resource> = Vec::new();
        let ids: Vec<_> = ip_groups.iter().map(|group| ip_group_id(&group.name)).collect();
        if !ip_groups.is_empty() {
            let location = Parameter {
                default_value: Some("[resourceGroup().location]"),
                ..text("Where the IP groups are")
            };
            parameters.insert("location", location);
        }
        for group in ip_groups {
            resources.push(Resource {
                r#type: IP_GROUPS,
                api_version: API_VERSION,
                name: group.name.to_string(),
                location: Some("[parameters('location')]"),
                depends_on: Vec::new(),
                properties: Properties::IpGroup {
                    ip_addresses: group.addresses,
                },
            });
        }
        let mut before = ids;
        for group in groups {
            let depends_on = before;
            before = vec![format!(
                "[resourceId('{GROUPS}', parameters('{POLICY}'), '{}')]",
                group.name
            )];
            resources.push(Resource {
                r#type: GROUPS,
                api_version: API_VERSION,
                name: format!("[concat(parameters('{POLICY}'), '/{}')]", group.name),
                location: None,
                depends_on,
                properties: Properties::Group {
                    priority: group.priority,
                    rule_collections: group.collections.into_iter().map(Collection::literal).collect(),
                },
            });
        }
        Self {
            schema: "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
            content_version: "1.0.0.0",
            parameters,
            resources,
        }
    }
}

impl Collection {
    pub(super) fn new(name: &str, priority: u16, allows: bool, rules: Vec<Rule>) -> Self {
        let r#type = if allows { "Allow" } else { "Deny" };
        Self {
            rule_collection_type: "FirewallPolicyFilterRuleCollection",
            name: name.to_string(),
            priority,
            action: Action { r#type },
            rules,
        }
    }

    /// With what a person wrote of its rules as text, which Azure would evaluate where it stands in brackets. Names of
    /// groups and collections have no brackets.
    fn literal(mut self) -> Self {
        for rule in &mut self.rules {
            let (Rule::Application { name, description, .. } | Rule::Network { name, description, .. }) = rule;
            *name = literal(std::mem::take(name));
            *description = description.take().map(literal);
        }
        self
    }
}

impl Rule {
    /// The IP groups that it refers to.
    pub(super) fn ip_groups(&self) -> &[String] {
        let (Self::Application { source, .. } | Self::Network { source, .. }) = self;
        &source.source_ip_groups
    }
}

/// How rules refer to an IP group of the same template.
pub(super) fn ip_group_id(name: &str) -> String {
    format!("[resourceId('{IP_GROUPS}', '{name}')]")
}

fn literal(text: String) -> String {
    if text.starts_with('[') && text.ends_with(']') {
        format!("[{text}")
    } else {
        text
    }
}

fn text(description: &'static str) -> Parameter {
    Parameter {
        r#type: "string",
        default_value: None,
        metadata: Metadata { description },
    }
}

const POLICY: &str = "firewallPolicyName";
const GROUPS: &str = "Microsoft.Network/firewallPolicies/ruleCollectionGroups";
const IP_GROUPS: &str = "Microsoft.Network/ipGroups";
const API_VERSION: &str = "2024-05-01";
