//! Azure Firewall rules as Azure means them, whichever of its notations they came in.
//! Must not know our policy language, and repairs nothing: texts stay as they were written.
//! Filled by the readers of each notation; import turns it into a policy.

use super::report::Place;

/// Everything that was read.
#[derive(Clone, Debug, Default)]
pub struct Firewall {
    /// In the order of the files.
    pub groups: Vec<Group>,
    pub ip_groups: Vec<IpGroup>,
    pub selectors: Vec<SelectorGroup>,
}

/// A value, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    pub value: T,
    pub at: Place,
}

/// A rule collection group; one without name and priority for a classic firewall, and for bare collections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub name: Option<String>,
    pub priority: Option<u16>,
    /// The policy or firewall that it belongs to, as far as the input says it.
    pub policy: Option<String>,
    /// Its whole id in lower case, if the input says it: two policies of one name are two.
    pub policy_id: Option<String>,
    /// Of the parent policy: comes before every group of the child.
    pub parent: bool,
    pub collections: Vec<Collection>,
    pub at: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    pub name: String,
    /// 100 to 65000, the lowest first.
    pub priority: u16,
    pub kind: CollectionKind,
    pub action: Action,
    pub rules: Vec<Rule>,
    pub at: Place,
}

/// In the order in which the firewall looks at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CollectionKind {
    Nat,
    Network,
    Application,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Allow,
    Deny,
    Dnat,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub name: Option<String>,
    pub description: Option<String>,
    pub sources: Sources,
    pub target: Target,
    pub at: Place,
}

/// Who asks: the union of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Addresses, CIDRs, ranges `a-b`, `*`.
    pub addresses: Vec<Placed<String>>,
    /// Resource ids.
    pub ip_groups: Vec<Placed<String>>,
    /// Resource ids of `kubeSelectorGroups`.
    pub selectors: Vec<Placed<String>>,
    pub geo_locations: Vec<Placed<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Application(Application),
    Network(Network),
    /// Inbound; nothing of it is looked at.
    Nat,
}

/// What an application rule matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Application {
    pub protocols: Vec<Placed<(Protocol, u16)>>,
    pub fqdns: Vec<Placed<String>>,
    pub fqdn_tags: Vec<Placed<String>>,
    pub urls: Vec<Placed<String>>,
    pub web_categories: Vec<Placed<String>>,
    pub addresses: Vec<Placed<String>>,
    /// Where it is asked for.
    pub terminate_tls: Option<Place>,
    /// Where headers are inserted.
    pub headers: Option<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Http,
    Https,
    Mssql,
}

/// What a network rule matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    pub protocols: Vec<Placed<IpProtocol>>,
    /// Addresses, CIDRs, ranges `a-b`, `*`, service tags.
    pub addresses: Vec<Placed<String>>,
    /// Resource ids.
    pub ip_groups: Vec<Placed<String>>,
    pub fqdns: Vec<Placed<String>>,
    /// First and last, from 1.
    pub ports: Vec<Placed<(u16, u16)>>,
    pub geo_locations: Vec<Placed<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IpProtocol {
    Tcp,
    Udp,
    Icmp,
    Any,
}

/// Addresses under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpGroup {
    pub name: String,
    /// The resource id, where the input has one.
    pub id: Option<String>,
    pub addresses: Vec<Placed<String>>,
    pub at: Place,
}

/// Pods by labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorGroup {
    pub name: String,
    pub id: Option<String>,
    pub pods: Vec<(String, String)>,
    pub namespaces: Vec<(String, String)>,
    pub at: Place,
}

impl Protocol {
    /// As Azure spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "Http",
            Self::Https => "Https",
            Self::Mssql => "Mssql",
        }
    }
}

impl IpProtocol {
    /// As Azure spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Icmp => "ICMP",
            Self::Any => "Any",
        }
    }
}

impl Action {
    /// As Azure spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "Allow",
            Self::Deny => "Deny",
            Self::Dnat => "DNAT",
        }
    }
}
