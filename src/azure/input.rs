//! Texts to rules: which of Azure's shapes each text has, and whether all of them together are the rules of one firewall.
//! Must not translate anything; a shape that is not known for certain is an error, with the command that gives a known one.
//! Called by import.

mod link;
mod shape;

use super::arm::policy::{PolicyFacts, policy, selector_group};
use super::arm::value::last_segment;
use super::arm::{self, Named, group};
use super::json::{EXPORT, Json, Node, shortened};
use super::model::{Collection, Firewall, Group, IpGroup};
use super::report::{Kind, Place, Report};
use super::template::{self, Resource, Values};
use super::{classic, ip_groups, terraform};
use crate::policy::SourceText;
use link::link;
use shape::{is_parameter_file, is_template, refuse_text, source_code, speaks_of_rules};

/// Everything that an import is given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Texts<'t> {
    pub rules: &'t [SourceText],
    /// Of the parent policy.
    pub parents: &'t [SourceText],
    pub ip_groups: &'t [SourceText],
    pub service_tags: Option<&'t SourceText>,
}

/// Reads all files.
pub(super) fn read(texts: Texts<'_>, report: &mut Report) -> Firewall {
    let mut files = Files {
        firewall: Firewall::default(),
        policies: Vec::new(),
        report,
    };
    let parents_from = files.all(texts.rules);
    let others_from = files.all(texts.parents);
    files.all(texts.ip_groups);
    let Files {
        mut firewall, policies, ..
    } = files;
    for group in firewall.groups.iter_mut().skip(parents_from) {
        group.parent = true;
    }
    if let Some(group) = firewall.groups.get(others_from) {
        let message = "rules stand in a file that was given for IP groups";
        report.note(Kind::UnknownShape, &group.at, message);
    }
    firewall.groups.truncate(others_from);
    for (index, group) in firewall.ip_groups.iter().enumerate() {
        let same = |other: &IpGroup| {
            let same_id = match (&other.id, &group.id) {
                (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
                (None, None) => other.name.eq_ignore_ascii_case(&group.name),
                _ => false,
            };
            same_id
                && !other
                    .addresses
                    .iter()
                    .map(|at| &at.value)
                    .eq(group.addresses.iter().map(|at| &at.value))
        };
        if firewall.ip_groups.iter().take(index).any(same) {
            let message = format!(
                "the IP group `{}` was given twice, with different addresses",
                shortened(&group.name)
            );
            report.note(Kind::Duplicate, &group.at, message);
        }
    }
    link(&mut firewall, &policies, !texts.parents.is_empty(), report);
    firewall
}

struct Files<'r> {
    firewall: Firewall,
    policies: Vec<PolicyFacts>,
    report: &'r mut Report,
}

impl Files<'_> {
    /// Reads files that belong together; says how many groups there are then.
    fn all(&mut self, texts: &[SourceText]) -> usize {
        let mut parsed = Vec::new();
        for text in texts {
            let at = Place::of_file(&text.name);
            if let Some(what) = source_code(&text.name, &text.text) {
                self.report
                    .note(
                        Kind::SourceCode,
                        &at,
                        format!("this is {} source, and only JSON is read", what.0),
                    )
                    .help(what.1);
                continue;
            }
            match Json::parse(text.text.trim_start_matches('\u{feff}')) {
                Ok(json) => parsed.push((json, at)),
                Err(why) => refuse_text(&text.text, &at, &why, self.report),
            }
        }
        let templates = parsed.iter().filter(|(json, _)| is_template(json)).count();
        let (parameter_files, others): (Vec<_>, Vec<_>) = parsed
            .iter()
            .partition(|(json, _)| templates > 0 && is_parameter_file(json));
        let mut given = Values::new();
        for (json, at) in &parameter_files {
            if templates > 1 || parameter_files.len() > 1 {
                self.report
                    .note(
                        Kind::Incomplete,
                        at,
                        "it is not clear which template these parameters are for",
                    )
                    .help("give one template and one file of parameters");
            }
            given.extend(json.find("parameters").map(template::values).unwrap_or_default());
        }
        for (json, at) in others {
            self.document(&Node::new(json, at.clone()), &given);
        }
        self.firewall.groups.len()
    }

    fn document(&mut self, node: &Node<'_>, given: &Values) {
        match node.value {
            Json::List(items) if items.is_empty() => {
                self.report
                    .note(Kind::NoRules, &node.at, "the file is an empty array")
                    .help(EXPORT);
            }
            Json::List(_) => self.items(node),
            Json::Map(entries) if entries.is_empty() => {
                self.report
                    .note(Kind::NoRules, &node.at, "the file is an empty object")
                    .help(EXPORT);
            }
            json if is_template(json) => {
                for resource in template::resources(node, given, self.report) {
                    self.templated(&resource);
                }
            }
            json if is_parameter_file(json) => self.parameters(node),
            json if json.find("format_version").is_some()
                && ["planned_values", "values", "terraform_version", "resource_changes"]
                    .iter()
                    .any(|key| json.find(key).is_some()) =>
            {
                terraform::read(node, &mut self.firewall, &mut self.policies, self.report);
            }
            json if json.find("terraform_version").is_some() => {
                self.report
                    .note(
                        Kind::UnknownShape,
                        &node.at,
                        "this is the state file itself, whose layout may change",
                    )
                    .help("give what `terraform show -json` prints");
            }
            Json::Map(_) => match node.find("value") {
                Some(list) if node.find("type").is_none() && node.find("properties").is_none() => {
                    if let Some(next) = node.find("nextLink").filter(|next| next.value.as_text() != Some("")) {
                        self.report
                            .note(Kind::Incomplete, &next.at, "the list goes on at `nextLink`")
                            .help("fetch all pages; `az network firewall policy rule-collection-group list` does");
                    }
                    self.items(&list);
                }
                _ => match node.find("data") {
                    // Azure Resource Graph.
                    Some(list)
                        if node
                            .find("total_records")
                            .or_else(|| node.find("totalRecords"))
                            .is_some() =>
                    {
                        let token = ["skip_token", "$skipToken", "skipToken"]
                            .iter()
                            .find_map(|key| node.find(key));
                        if let Some(token) = token {
                            self.report.note(
                                Kind::Incomplete,
                                &token.at,
                                "the answer goes on, and this is its first page",
                            );
                        }
                        self.items(&list);
                    }
                    _ => self.alone(node),
                },
            },
            _ => node.refuse("the file must be a JSON object or array", self.report),
        }
    }

    /// The items of a list: resources, or the collections of one group.
    fn items(&mut self, list: &Node<'_>) {
        let mut loose = Vec::new();
        let items = list.list("the list", self.report).unwrap_or_default();
        if items.is_empty() {
            self.report
                .note(Kind::NoRules, &list.at, "the list is empty")
                .help(EXPORT);
        }
        for item in items {
            self.resource(&item, &mut loose);
        }
        self.group_of(loose, &list.at);
    }

    fn alone(&mut self, node: &Node<'_>) {
        let mut loose = Vec::new();
        self.resource(node, &mut loose);
        self.group_of(loose, &node.at);
    }

    /// Collections that stand in no group.
    fn group_of(&mut self, collections: Vec<Collection>, at: &Place) {
        if !collections.is_empty() {
            self.firewall.groups.push(Group {
                collections,
                at: at.clone(),
                ..Group::default()
            });
        }
    }

    fn templated(&mut self, resource: &Resource) {
        let node = Node::new(&resource.value, resource.at.clone());
        self.typed(&node, &resource.kind, resource.named.clone());
    }

    /// One resource; a collection without a group goes to the others of its list.
    fn resource(&mut self, node: &Node<'_>, loose: &mut Vec<Collection>) {
        if !matches!(node.value, Json::Map(_)) {
            node.refuse("a resource must be an object", self.report);
            return;
        }
        if let Some(copy) = node.find("copy") {
            self.report
                .note(
                    Kind::Expression,
                    &copy.at,
                    "a loop (`copy`) makes this resource, and its rules are not literal",
                )
                .help(EXPORT);
            return;
        }
        if !self.is_deployed(node) {
            return;
        }
        let kind = node.find("type").and_then(|kind| kind.value.as_text());
        let has = |key: &str| {
            node.find(key).is_some() || node.find("properties").is_some_and(|inner| inner.find(key).is_some())
        };
        let kind = kind.map(|kind| kind.split('@').next().unwrap_or(kind).to_ascii_lowercase());
        let is_resource = kind.as_deref().is_some_and(|kind| kind.contains('/'));
        if let Some(kind) = kind.filter(|_| is_resource) {
            if kind.ends_with("rulecollections") {
                loose.extend(classic::collection(node, None, self.report));
            } else {
                let named = Named {
                    policy: None,
                    name: node
                        .find("name")
                        .and_then(|name| name.value.as_text())
                        .map(|name| last_segment(name).to_owned()),
                };
                let policy = node
                    .find("name")
                    .and_then(|name| name.value.as_text()?.split_once('/').map(|(outer, _)| outer.to_owned()));
                self.typed(node, &kind, Named { policy, ..named });
            }
        } else if has("ruleCollections") {
            self.typed(node, GROUP, Named::default());
        } else if has("ruleCollectionType") {
            loose.extend(arm::collection(node, self.report));
        } else if [
            "applicationRuleCollections",
            "networkRuleCollections",
            "natRuleCollections",
        ]
        .iter()
        .any(|key| has(key))
        {
            self.typed(node, FIREWALL, Named::default());
        } else if has("rules") && has("priority") {
            loose.extend(classic::collection(node, None, self.report));
        } else if has("ipAddresses") {
            self.typed(node, IP_GROUP, Named::default());
        } else if has("podSelector") || has("namespaceSelector") {
            self.typed(node, SELECTORS, Named::default());
        } else if has("ruleCollectionGroups") {
            self.typed(node, POLICY, Named::default());
        } else if has("ruleType") || has("targetFqdns") || has("destinationPorts") {
            self.report
                .note(
                    Kind::UnknownShape,
                    &node.at,
                    "a rule without a collection: nobody knows its action and its order",
                )
                .help(EXPORT);
        } else {
            self.report
                .note(
                    Kind::UnknownShape,
                    &node.at,
                    "this is none of the shapes that firewall rules come in",
                )
                .help(EXPORT);
        }
    }

    /// Resources that were cut out of a template bring its conditions, and others inside of them.
    fn is_deployed(&mut self, node: &Node<'_>) -> bool {
        if let Some(inner) = node.find("resources")
            && !matches!(inner.value, Json::List(items) if items.is_empty())
        {
            self.report
                .note(
                    Kind::UnknownShape,
                    &inner.at,
                    "resources inside of a resource are read in templates only",
                )
                .help(EXPORT);
            return false;
        }
        let flag = |key: &str| {
            node.find(key)
                .map(|flag| (*flag.value == Json::Bool(key == "condition"), flag))
        };
        for (fits, flag) in [flag("condition"), flag("existing")].into_iter().flatten() {
            if !fits {
                self.report
                    .note(
                        Kind::UnknownShape,
                        &flag.at,
                        "nothing says whether this resource is deployed at all",
                    )
                    .help(EXPORT);
                return false;
            }
        }
        true
    }

    fn typed(&mut self, node: &Node<'_>, kind: &str, named: Named) {
        match kind {
            GROUP => self.firewall.groups.extend(group(node, named, false, self.report)),
            POLICY => self
                .policies
                .extend(policy(node, named, &mut self.firewall, self.report)),
            FIREWALL => self.firewall.groups.extend(classic::firewall(node, named, self.report)),
            IP_GROUP => self
                .firewall
                .ip_groups
                .extend(ip_groups::group(node, named, self.report)),
            SELECTORS => self.firewall.selectors.extend(selector_group(node, named, self.report)),
            "microsoft.network/firewallpolicies/rulegroups" => {
                self.report
                    .note(
                        Kind::UnknownShape,
                        &node.at,
                        "rule groups of an API version before 2020-05-01 are not read",
                    )
                    .help(EXPORT);
            }
            _ if kind.starts_with("microsoft.network/firewallpolicies/") => {
                self.report
                    .note(
                        Kind::Setting,
                        &node.at,
                        format!("a resource of type `{}` holds no rules", shortened(kind)),
                    )
                    .outcome("not carried over");
            }
            _ => {
                self.report
                    .note(
                        Kind::UnknownShape,
                        &node.at,
                        format!("a resource of type `{}` holds no firewall rules", shortened(kind)),
                    )
                    .help(EXPORT);
            }
        }
    }

    /// A file of parameters alone: each that holds collections or groups is read, each that holds rules otherwise refused.
    fn parameters(&mut self, node: &Node<'_>) {
        let Some(parameters) = node.find("parameters") else {
            return;
        };
        let Json::Map(entries) = parameters.value else {
            parameters.refuse("`parameters` must be an object", self.report);
            return;
        };
        let before = self.firewall.groups.len() + self.firewall.ip_groups.len() + self.policies.len();
        let errors = self.report.findings().len();
        for (name, held) in entries {
            let held = Node::new(held, parameters.at.key(name));
            let Some(value) = held.find("value") else { continue };
            if !speaks_of_rules(value.value) {
                continue;
            }
            match value.value {
                Json::List(_) => self.items(&value),
                Json::Map(_) => self.alone(&value),
                _ => {}
            }
        }
        let after = self.firewall.groups.len() + self.firewall.ip_groups.len() + self.policies.len();
        if before == after && errors == self.report.findings().len() {
            self.report
                .note(Kind::NoRules, &node.at, "no parameter holds rule collections")
                .help("give the template as well, or what Azure has made of both");
        }
    }
}

const GROUP: &str = "microsoft.network/firewallpolicies/rulecollectiongroups";
const POLICY: &str = "microsoft.network/firewallpolicies";
const FIREWALL: &str = "microsoft.network/azurefirewalls";
const IP_GROUP: &str = "microsoft.network/ipgroups";
const SELECTORS: &str = "microsoft.network/firewallpolicies/kubeselectorgroups";
