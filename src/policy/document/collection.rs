//! Ordered collections and the groups that they stand in: Azure Firewall's order of evaluation.
//! Must not evaluate: it reads them, and says which one comes before which.
//! Called by the reader of a file; the order by the compiler and by whoever needs to know it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::rule::{self, AllowRule, DenyRule, Opens};
use super::{Document, Shared, Text, syntax};
use crate::policy::problem::{At, Problems};
use crate::policy::rule::{CollectionKind, Destination, Effect, HostMatch, Scheme};
use crate::policy::yaml::{
    Node, Value,
    typed::{self, Empty, Fields},
};

/// One entry of `groups`: a rule collection group of Azure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: Text,
    pub priority: Option<At<u16>>,
    /// Of the parent policy: before every group that is not.
    pub parent: bool,
}

/// One entry of `collections`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    pub name: At<Text>,
    pub group: Option<At<Text>>,
    pub kind: CollectionKind,
    /// The lower, the earlier.
    pub priority: At<u16>,
    /// The list order counts.
    pub rules: CollectionRules,
}

/// The rules of a collection, which has one action for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CollectionRules {
    Allow(Vec<At<AllowRule>>),
    Deny(Vec<At<DenyRule>>),
}

impl Collection {
    pub fn action(&self) -> Effect {
        match self.rules {
            CollectionRules::Allow(_) => Effect::Allow,
            CollectionRules::Deny(_) => Effect::Deny,
        }
    }

    /// Empty in a collection that denies.
    pub fn allow(&self) -> &[At<AllowRule>] {
        match &self.rules {
            CollectionRules::Allow(rules) => rules,
            CollectionRules::Deny(_) => &[],
        }
    }

    /// Empty in a collection that allows.
    pub fn deny(&self) -> &[At<DenyRule>] {
        match &self.rules {
            CollectionRules::Allow(_) => &[],
            CollectionRules::Deny(rules) => rules,
        }
    }
}

impl Document {
    /// A group by its name.
    pub fn group(&self, name: &str) -> Option<&At<Group>> {
        self.groups.iter().find(|group| &*group.value.name == name)
    }

    /// Every allow rule, those of collections first, not in the order of evaluation.
    pub fn all_allow(&self) -> impl Iterator<Item = &At<AllowRule>> + Clone {
        let ordered = self.collections.iter().flat_map(|collection| collection.value.allow());
        ordered.chain(&self.allow)
    }

    /// Every deny rule, those of collections first, not in the order of evaluation.
    pub fn all_deny(&self) -> impl Iterator<Item = &At<DenyRule>> + Clone {
        let ordered = self.collections.iter().flat_map(|collection| collection.value.deny());
        ordered.chain(&self.deny)
    }

    /// Puts them into the order of evaluation.
    pub(in crate::policy) fn sort_collections(&mut self) {
        let mut all = std::mem::take(&mut self.collections);
        let orders = Orders::of(self);
        all.sort_by_cached_key(|collection| orders.of_collection(&collection.value));
        self.collections = all;
    }

    /// The collections in the order of evaluation.
    pub fn in_order(&self) -> Vec<&At<Collection>> {
        let orders = Orders::of(self);
        let mut all: Vec<_> = self.collections.iter().collect();
        all.sort_by_cached_key(|collection| orders.of_collection(&collection.value));
        all
    }
}

/// What groups say of the order, by their names.
struct Orders(HashMap<Text, (Reverse<bool>, u16)>);

/// Where a collection stands among the others; the lower is judged first. Two that are equal have no order.
type Order = (CollectionKind, Reverse<bool>, u16, u16);

impl Orders {
    fn of(document: &Document) -> Self {
        let groups = document.groups.iter().map(|group| {
            let priority = group.value.priority.map_or(0, |at| at.value);
            (Arc::clone(&group.value.name), (Reverse(group.value.parent), priority))
        });
        Self(groups.collect())
    }

    fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Network before application, the parent's groups before others, then by the priority of the group, then by that
    /// of the collection.
    fn of_collection(&self, collection: &Collection) -> Order {
        let group = collection.group.as_ref().and_then(|group| self.0.get(&group.value));
        let (parent, priority) = group.copied().unwrap_or((Reverse(false), 0));
        (collection.kind, parent, priority, collection.priority.value)
    }
}

/// Reads the key `groups`.
pub(super) fn read_groups(node: &Node<'_>, problems: &mut Problems<'_>) -> Vec<At<Group>> {
    let Some(entries) = typed::map(node, "`groups`", problems) else {
        return Vec::new();
    };
    let read = |(key, value): &(Node<'_>, Node<'_>)| read_group(key, value, problems);
    entries.iter().filter_map(read).collect()
}

fn read_group(key: &Node<'_>, node: &Node<'_>, problems: &mut Problems<'_>) -> Option<At<Group>> {
    let name = syntax::line(key, "the name of a group", problems)?;
    let fields = typed::fields(node, &format!("the group `{name}`"), &GROUP_KEYS, problems)?;
    let value = Group {
        name: name.into(),
        priority: match fields.value("priority") {
            Some(node) => Some(priority(node, problems)?),
            None => None,
        },
        parent: match fields.value("parent") {
            Some(node) => typed::flag(node, "`parent`", problems)?,
            None => false,
        },
    };
    Some(At { value, at: key.at })
}

/// Reads one entry of `collections`.
pub(super) fn read(node: &Node<'_>, shared: &mut Shared, problems: &mut Problems<'_>) -> Option<At<Collection>> {
    let errors = problems.errors();
    let fields = typed::fields(node, "a collection", &KEYS, problems)?;
    let keys_fit = problems.errors() == errors;
    for key in ["name", "priority", "action", "rules"] {
        // An unknown key may well have been meant for it.
        if keys_fit && fields.value(key).is_none() {
            let what = match fields.value("name").map(|name| &name.value) {
                Some(Value::Text(name)) => format!("the collection `{name}`"),
                _ => "the collection".to_owned(),
            };
            problems
                .error(node.at, format!("{what} has no `{key}`"))
                .help(match key {
                    "name" => "add `name: NAME`: records and pages show it",
                    "priority" => "add `priority: 100`, up to 65000; the lower one is judged first",
                    "action" => "add `action: allow` or `action: deny`, for all of its rules",
                    _ => "add `rules:` with a list of what it opens or closes",
                });
        }
    }
    let named = |key: &str, what: &str, shared: &mut Shared, problems: &mut Problems<'_>| {
        let node = fields.value(key)?;
        let value = shared.text(syntax::line(node, what, problems)?);
        Some(At { value, at: node.at })
    };
    let name = named("name", "the name of a collection", shared, problems);
    let group = named("group", "`group`", shared, problems);
    let kind = match fields.value("type") {
        Some(node) => typed::word(node, "`type`", &KINDS, problems),
        None => Some(CollectionKind::Application),
    };
    let priority = fields.value("priority").and_then(|node| priority(node, problems));
    let action = fields
        .value("action")
        .and_then(|node| typed::word(node, "`action`", &ACTIONS, problems));
    let rules = rules(&fields, kind, action, shared, problems);
    let value = Collection {
        name: name?,
        group: match fields.value("group") {
            Some(_) => Some(group?),
            None => None,
        },
        kind: kind?,
        priority: priority?,
        rules: rules?,
    };
    Some(At { value, at: node.at })
}

/// What does not depend on another file is refused here; each rule has its say before the collection fails.
fn rules(
    fields: &Fields<'_, '_>,
    kind: Option<CollectionKind>,
    action: Option<Effect>,
    shared: &mut Shared,
    problems: &mut Problems<'_>,
) -> Option<CollectionRules> {
    let items = typed::list(fields.value("rules")?, "`rules`", Empty::Refused, problems)?;
    match action? {
        Effect::Allow => {
            let all: Vec<_> = items
                .iter()
                .filter_map(|item| rule::read_allow(item, shared, problems))
                .collect();
            for entry in &all {
                check_allow(&entry.value.opens, kind?, problems);
            }
            Some(CollectionRules::Allow(all))
        }
        Effect::Deny => {
            let all: Vec<_> = items
                .iter()
                .filter_map(|item| rule::read_deny(item, shared, problems))
                .collect();
            if kind? == CollectionKind::Application {
                for to in all.iter().flat_map(|entry| &entry.value.to) {
                    refuse_address(to, problems);
                }
            }
            Some(CollectionRules::Deny(all))
        }
    }
}

fn check_allow(opens: &Opens, kind: CollectionKind, problems: &mut Problems<'_>) {
    let (to, key, lists) = match opens {
        Opens::To(to) => (&**to, "", &[][..]),
        Opens::Preset(name) => (&[][..], "preset", std::slice::from_ref(name)),
        Opens::Tags(tags) => (&[][..], "fqdnTags", tags.as_slice()),
    };
    if kind == CollectionKind::Application {
        for to in to {
            refuse_address(to, problems);
        }
        return;
    }
    for name in lists {
        problems
            .error(name.at, format!("`{key}` cannot stand in a network collection"))
            .help("put the rule into a collection of `type: application`");
    }
    for to in to.iter().filter(|to| to.value.scheme != Some(Scheme::Tcp)) {
        problems
            .error(to.at, "a network collection opens only `tcp://` destinations")
            .help("put the rule into a collection of `type: application`, where names are looked at");
    }
}

/// In Azure an application rule speaks of names alone, and so no address can be behind one that is judged last.
fn refuse_address(to: &At<Destination>, problems: &mut Problems<'_>) {
    if matches!(to.value.host, HostMatch::Cidr(_)) {
        problems
            .error(to.at, "an application collection speaks of names, not of addresses")
            .help("put the rule into a collection of `type: network`, which is judged before these");
    }
}

fn priority(node: &Node<'_>, problems: &mut Problems<'_>) -> Option<At<u16>> {
    let number = typed::integer(node, "`priority`", problems)?;
    let priority = u16::try_from(number).ok().filter(|number| PRIORITIES.contains(number));
    if priority.is_none() {
        problems
            .error(node.at, format!("`priority` cannot be {number}"))
            .help("from 100, judged first, to 65000, judged last");
    }
    priority.map(|value| At { value, at: node.at })
}

/// What only all files together can get wrong.
pub(super) fn check(document: &Document, problems: &mut Problems<'_>) {
    if !document.doubts.groups && !problems.is_cut_short() {
        check_groups(document, problems);
    }
    check_names(document, problems);
    // An order that something is missing for is not judged.
    if !problems.has_errors() {
        check_ties(document, problems);
    }
}

/// Where `groups` says anything, it says it of every group: one that is only spelled differently would be judged at
/// another time than its author thinks.
fn check_groups(document: &Document, problems: &mut Problems<'_>) {
    let Some(first) = document.groups.first() else { return };
    let names: Vec<_> = document.groups.iter().map(|group| &*group.value.name).collect();
    let orders = Orders::of(document);
    let numbered = document.groups.iter().find(|group| group.value.priority.is_some());
    for collection in &document.collections {
        match &collection.value.group {
            Some(group) if !orders.knows(&group.value) => {
                let help = match typed::nearest(&group.value, &names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("add it to `groups` ({})", problems.position(first.at)),
                };
                problems
                    .error(group.at, format!("there is no group `{}`", group.value))
                    .help(help);
            }
            None if numbered.is_some() => {
                problems
                    .error(
                        collection.value.name.at,
                        format!(
                            "`{}` is in no group, while groups have priorities",
                            collection.value.name.value
                        ),
                    )
                    .help("add `group: NAME`, so that it is clear what comes first");
            }
            _ => {}
        }
    }
    let Some(numbered) = numbered else { return };
    for group in document.groups.iter().filter(|group| group.value.priority.is_none()) {
        let (name, other) = (&group.value.name, &numbered.value.name);
        problems
            .error(
                group.at,
                format!("the group `{name}` has no `priority`, while `{other}` has one"),
            )
            .help("give all groups one, or none");
    }
}

/// Two of one name could not be told apart in records.
fn check_names(document: &Document, problems: &mut Problems<'_>) {
    let mut first = HashMap::new();
    for collection in &document.collections {
        let Collection { name, group, kind, .. } = &collection.value;
        let group = group.as_ref().map(|group| &group.value);
        if let Some(twin) = first.insert((kind, group, &name.value), name.at) {
            let line = problems.position(twin);
            problems
                .error(name.at, format!("another collection is called `{}` too", name.value))
                .help(format!(
                    "it stands at {line}; records name collections, so give one another name"
                ));
        }
    }
}

/// Nobody should have to guess which of two is judged first.
fn check_ties(document: &Document, problems: &mut Problems<'_>) {
    let orders = Orders::of(document);
    let mut first: BTreeMap<Order, &At<Collection>> = BTreeMap::new();
    for collection in &document.collections {
        let order = orders.of_collection(&collection.value);
        let Some(twin) = first.get(&order) else {
            first.insert(order, collection);
            continue;
        };
        let (priority, line) = (collection.value.priority, problems.position(twin.value.priority.at));
        let (name, twin) = (&collection.value.name.value, &twin.value.name.value);
        problems
            .error(
                priority.at,
                format!("`{name}` and `{twin}` have the same priority, {}", priority.value),
            )
            .label(format!("that of `{twin}` stands at {line}"))
            .help("the first rule that matches decides, so one must come first: give them different priorities");
    }
}

const GROUP_KEYS: [&str; 2] = ["priority", "parent"];
const KEYS: [&str; 6] = ["name", "group", "type", "priority", "action", "rules"];
const KINDS: [(&str, CollectionKind); 2] = [
    ("application", CollectionKind::Application),
    ("network", CollectionKind::Network),
];
const ACTIONS: [(&str, Effect); 2] = [("allow", Effect::Allow), ("deny", Effect::Deny)];
/// As in Azure.
const PRIORITIES: std::ops::RangeInclusive<u16> = 100..=65000;
