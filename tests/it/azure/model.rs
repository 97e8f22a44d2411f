//! Azure Firewall as its documentation describes it, literally and slowly, on the ARM JSON as it stands in a file.
//! Must not share anything with the program: what both misread in the same way would never be found.
//! Called by the tests of import and export.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

/// Everything that a firewall was given.
#[derive(Debug, Default)]
pub struct Firewall {
    /// In the order of evaluation.
    collections: Vec<Collection>,
    /// Entries by lower-case name.
    ip_groups: BTreeMap<String, Vec<String>>,
}

/// One connection that reaches the firewall.
#[derive(Clone, Debug)]
pub struct Flow {
    pub source: IpAddr,
    pub protocol: Protocol,
    /// SNI, Host, or the name in a proxied SQL login; for plain TCP the name that the client resolved.
    pub name: Option<String>,
    /// Where the packets go. `None`: somewhere that no rule names.
    pub address: Option<IpAddr>,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Https,
    Mssql,
    /// None of these.
    Tcp,
}

/// What decided, if anything did; nothing is the default deny.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub allowed: bool,
    pub by: Option<By>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    pub kind: Kind,
    /// Empty for a classic firewall.
    pub group: String,
    pub collection: String,
    pub rule: String,
}

/// Type beats everything else; the order is that of evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Nat,
    Network,
    Application,
}

#[derive(Debug)]
struct Collection {
    kind: Kind,
    of_parent: bool,
    group: (i64, String),
    priority: i64,
    name: String,
    allows: bool,
    rules: Vec<Value>,
}

impl Firewall {
    /// Reads templates, lists and single resources; a policy resource with a `basePolicy` says which groups are of the
    /// parent.
    pub fn read(documents: &[Value]) -> Self {
        Self::inherited(documents, &[])
    }

    /// The same, with files that hold the groups of the parent.
    pub fn inherited(documents: &[Value], parents: &[Value]) -> Self {
        let mut firewall = Self::default();
        firewall.add(documents, false);
        firewall.add(parents, true);
        firewall.collections.sort_by_key(Collection::key);
        for pair in firewall.collections.windows(2) {
            assert!(
                pair[0].key() != pair[1].key(),
                "Azure refuses equal priorities: {pair:?}"
            );
        }
        firewall
    }

    fn add(&mut self, documents: &[Value], are_parents: bool) {
        let mut resources = Vec::new();
        for document in documents {
            flatten(document, &mut resources);
        }
        let of_type = |end: &'static str| {
            let all = resources.iter();
            all.filter(move |resource| text(resource, "type").to_ascii_lowercase().ends_with(end))
        };
        let base =
            of_type("/firewallpolicies").map(|policy| last_name(text(&policy["properties"]["basePolicy"], "id")));
        let parents: Vec<_> = base.filter(|name| !name.is_empty()).collect();
        for group in of_type("/ipgroups") {
            let entries = strings(&group["properties"], "ipAddresses");
            self.ip_groups
                .insert(last_name(text(group, "name")).to_ascii_lowercase(), entries);
        }
        for group in of_type("/rulecollectiongroups") {
            let properties = group.get("properties").unwrap_or(group);
            let name = text(group, "name");
            let of_parent = are_parents || parents.iter().any(|parent| is_of(name, parent));
            let key = (number(&properties["priority"]), last_name(name));
            for collection in list(properties, "ruleCollections") {
                self.collections
                    .push(Collection::of_policy(collection, of_parent, key.clone()));
            }
        }
        for classic in of_type("/azurefirewalls") {
            for (key, kind) in [
                ("natRuleCollections", Kind::Nat),
                ("networkRuleCollections", Kind::Network),
                ("applicationRuleCollections", Kind::Application),
            ] {
                for collection in list(&classic["properties"], key) {
                    self.collections.push(Collection::classic(collection, kind));
                }
            }
        }
    }

    /// The names of the collections, in the order of evaluation.
    pub fn order(&self) -> Vec<&str> {
        self.collections.iter().map(|collection| &*collection.name).collect()
    }

    /// What happens to a flow. Translation of destinations is for what comes in, and none of it.
    pub fn answer(&self, flow: &Flow) -> Answer {
        for collection in &self.collections {
            for rule in &collection.rules {
                let matches = match collection.kind {
                    Kind::Nat => false,
                    Kind::Network => self.network(rule, flow),
                    Kind::Application => flow.protocol != Protocol::Tcp && self.application(rule, flow),
                };
                if matches {
                    let by = By {
                        kind: collection.kind,
                        group: collection.group.1.clone(),
                        collection: collection.name.clone(),
                        rule: text(rule, "name").to_owned(),
                    };
                    return Answer {
                        allowed: collection.allows,
                        by: Some(by),
                    };
                }
            }
        }
        Answer {
            allowed: false,
            by: None,
        }
    }

    fn network(&self, rule: &Value, flow: &Flow) -> bool {
        let protocols = [strings(rule, "ipProtocols"), strings(rule, "protocols")].concat();
        let spoken = protocols
            .iter()
            .any(|protocol| is(protocol, "TCP") || is(protocol, "Any"));
        let ports = strings(rule, "destinationPorts");
        let by_address = strings(rule, "destinationAddresses");
        let by_group = self.entries(rule, "destinationIpGroups");
        let mut addresses = by_address.iter().chain(&by_group);
        let by_name = strings(rule, "destinationFqdns");
        spoken
            && self.is_from(rule, flow.source)
            && ports.iter().any(|ports| has_port(ports, flow.port))
            && (addresses.any(|range| leads_into(range, flow.address))
                || by_name
                    .iter()
                    .any(|name| flow.name.as_deref().is_some_and(|asked| plain(name) == plain(asked))))
    }

    fn application(&self, rule: &Value, flow: &Flow) -> bool {
        assert!(
            rule.get("destinationAddresses")
                .is_none_or(|given| list_of(given).is_empty()),
            "not documented: {rule}"
        );
        let Some(name) = &flow.name else { return false };
        let spoken = list(rule, "protocols").iter().any(|protocol| {
            is(text(protocol, "protocolType"), &format!("{:?}", flow.protocol))
                && number(&protocol["port"]) == i64::from(flow.port)
        });
        let targets = strings(rule, "targetFqdns");
        spoken && self.is_from(rule, flow.source) && targets.iter().any(|target| matches_name(target, name))
    }

    fn is_from(&self, rule: &Value, source: IpAddr) -> bool {
        let addresses = strings(rule, "sourceAddresses");
        let groups = self.entries(rule, "sourceIpGroups");
        let by_pod = list(rule, "sourceKubeSelectorGroups");
        let stated = !strings(rule, "sourceIpGroups").is_empty() || !addresses.is_empty() || !by_pod.is_empty();
        assert!(stated, "Azure refuses a rule without a source: {rule}");
        addresses
            .iter()
            .chain(&groups)
            .any(|range| leads_into(range, Some(source)))
    }

    /// The entries of the IP groups that a rule refers to by id or by an expression that ends in the name.
    fn entries(&self, rule: &Value, key: &str) -> Vec<String> {
        let of = |id: &String| {
            let name = last_name(id).to_ascii_lowercase();
            self.ip_groups
                .get(&name)
                .unwrap_or_else(|| panic!("no IP group {name}"))
                .clone()
        };
        strings(rule, key).iter().flat_map(of).collect()
    }
}

impl Collection {
    fn of_policy(collection: &Value, of_parent: bool, group: (i64, String)) -> Self {
        let rules = list(collection, "rules").to_vec();
        let nat = text(collection, "ruleCollectionType")
            .to_ascii_lowercase()
            .contains("nat");
        let network = rules.iter().any(|rule| is(text(rule, "ruleType"), "NetworkRule"));
        let application = rules.iter().any(|rule| is(text(rule, "ruleType"), "ApplicationRule"));
        assert!(!(network && application), "one collection, one type: {collection}");
        Self {
            kind: match (nat, network) {
                (true, _) => Kind::Nat,
                (_, true) => Kind::Network,
                _ => Kind::Application,
            },
            of_parent,
            group,
            priority: number(&collection["priority"]),
            name: text(collection, "name").to_owned(),
            allows: is(text(&collection["action"], "type"), "Allow"),
            rules,
        }
    }

    fn classic(collection: &Value, kind: Kind) -> Self {
        let properties = &collection["properties"];
        Self {
            kind,
            of_parent: false,
            group: (0, String::new()),
            priority: number(&properties["priority"]),
            name: text(collection, "name").to_owned(),
            allows: is(text(&properties["action"], "type"), "Allow"),
            rules: list(properties, "rules").to_vec(),
        }
    }

    fn key(&self) -> (Kind, Reverse<bool>, i64, i64) {
        (self.kind, Reverse(self.of_parent), self.group.0, self.priority)
    }
}

/// A leading asterisk stands for any text, dots included; there is no other wildcard.
pub fn matches_name(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (plain(pattern), plain(name));
    match pattern.strip_prefix('*') {
        Some(end) => name.ends_with(end),
        None => pattern == name,
    }
}

/// An address, a network, a range or `*`. A service tag holds none of the addresses that are asked for here.
fn leads_into(range: &str, address: Option<IpAddr>) -> bool {
    if range == "*" || range == "0.0.0.0/0" {
        return true;
    }
    let Some(IpAddr::V4(address)) = address else {
        return false;
    };
    let bits = |text: &str| text.trim().parse().ok().map(std::net::Ipv4Addr::to_bits);
    let address = address.to_bits();
    if let Some((network, length)) = range.split_once('/') {
        let length: u32 = length.parse().unwrap();
        let kept = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        return bits(network).unwrap() & kept == address & kept;
    }
    if let Some((first, last)) = range.split_once('-')
        && let (Some(first), Some(last)) = (bits(first), bits(last))
    {
        return (first..=last).contains(&address);
    }
    bits(range) == Some(address)
}

fn has_port(ports: &str, port: u16) -> bool {
    let number = |text: &str| text.trim().parse::<u16>().unwrap();
    match ports.split_once('-') {
        _ if ports == "*" => true,
        Some((first, last)) => (number(first)..=number(last)).contains(&port),
        None => number(ports) == port,
    }
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn is(text: &str, word: &str) -> bool {
    text.eq_ignore_ascii_case(word)
}

/// The last part of an id, or the last literal of an expression such as `[resourceId('a/b', 'name')]`.
fn last_name(id: &str) -> String {
    let literal = if id.starts_with('[') {
        id.rsplit('\'').nth(1).unwrap_or_default()
    } else {
        id
    };
    literal.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Whether a group's name `policy/group`, or an expression that makes it, is about this policy.
fn is_of(name: &str, policy: &str) -> bool {
    if name.starts_with('[') {
        return name.split('\'').skip(1).step_by(2).any(|literal| literal == policy);
    }
    name.split_once('/').is_some_and(|(first, _)| is(first, policy))
}

fn flatten<'v>(document: &'v Value, resources: &mut Vec<&'v Value>) {
    let inner = ["resources", "value"]
        .iter()
        .find_map(|key| document.get(key)?.as_array());
    match document.as_array().or(inner) {
        Some(all) => all.iter().for_each(|one| flatten(one, resources)),
        None => resources.push(document),
    }
    if document.get("type").is_some() && inner.is_some() {
        resources.push(document);
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value) -> i64 {
    let read = value.as_i64().or_else(|| value.as_str()?.parse().ok());
    read.unwrap_or_else(|| panic!("a number is expected: {value}"))
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).map(list_of).unwrap_or_default()
}

fn list_of(value: &Value) -> &[Value] {
    match value {
        Value::Null => &[],
        Value::Array(all) => all,
        other => panic!("a list is expected: {other}"),
    }
}

fn strings(value: &Value, key: &str) -> Vec<String> {
    let one = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    list(value, key).iter().map(one).collect()
}

#[cfg(test)]
mod tests;
