//! The policy that is being made: what each rule of Azure came to, and its text.
//! Must not know Azure's notations, nor decide what is carried over.
//! Filled by import; its text is what a person reads and goes on with.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::azure::input::Texts;
use crate::azure::model::{Action, CollectionKind};
use crate::azure::report::{Kind, Place, Report};
use crate::policy::document::{Document, address};
use crate::policy::rule::Destination;
use crate::policy::yaml::write::{List, Map, file};

#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) groups: Vec<DraftGroup>,
    workloads: BTreeMap<String, DraftWorkload>,
    pub(super) collections: Vec<DraftCollection>,
}

#[derive(Debug)]
pub(super) struct DraftGroup {
    /// As Azure has it.
    pub(super) name: String,
    /// As it is called here: another, where parent and child have a group of one name.
    pub(super) shown: String,
    pub(super) priority: Option<u16>,
    pub(super) parent: bool,
}

#[derive(Debug)]
enum DraftWorkload {
    Addresses(Vec<IpNet>),
    Pods {
        namespace: String,
        labels: Vec<(String, String)>,
        port: u16,
    },
}

#[derive(Debug)]
pub(super) struct DraftCollection {
    pub(super) name: String,
    pub(super) group: Option<String>,
    pub(super) kind: CollectionKind,
    pub(super) priority: u16,
    pub(super) action: Action,
    pub(super) entries: Vec<Entry>,
}

#[derive(Debug)]
pub(super) enum Entry {
    Rule(DraftRule),
    /// A rule that is not carried over, as a comment where it was.
    Left(String),
}

#[derive(Debug)]
pub(super) struct DraftRule {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) remarks: Vec<String>,
    pub(super) from: Who,
    pub(super) opens: Opens,
    pub(super) at: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Everyone,
    Workloads(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Opens {
    To(Vec<Destination>),
    Tags(Vec<String>),
}

impl Draft {
    pub(super) fn group_name(&self, name: &str, parent: bool) -> String {
        let mut groups = self.groups.iter();
        let group = groups.find(|group| group.parent == parent && group.name == name);
        group.map_or_else(|| name.to_owned(), |group| group.shown.clone())
    }

    pub(super) fn add_workload(&mut self, name: &str, ranges: &[IpNet]) {
        let empty = || DraftWorkload::Addresses(Vec::new());
        if let DraftWorkload::Addresses(all) = self.workloads.entry(name.to_owned()).or_insert_with(empty) {
            for range in ranges {
                if !all.contains(range) {
                    all.push(*range);
                }
            }
        }
    }

    /// With the first port that no workload has.
    pub(super) fn add_pods(
        &mut self,
        name: &str,
        namespace: String,
        labels: Vec<(String, String)>,
        known: &Document,
        report: &mut Report,
    ) {
        let of_known = known
            .workloads
            .iter()
            .filter_map(|workload| workload.value.port.as_ref());
        let of_known: Vec<u16> = of_known.map(|port| port.value.number()).collect();
        let of_own = self.workloads.values().filter_map(|workload| match workload {
            DraftWorkload::Pods { port, .. } => Some(*port),
            DraftWorkload::Addresses(_) => None,
        });
        let taken: Vec<u16> = of_known.into_iter().chain(of_own).collect();
        let port = (FIRST_PORT..=u16::MAX)
            .find(|port| !taken.contains(port))
            .unwrap_or(FIRST_PORT);
        let workload = DraftWorkload::Pods {
            namespace,
            labels,
            port,
        };
        if self.workloads.insert(name.to_owned(), workload).is_some() {
            report.note(
                Kind::Duplicate,
                &Place::default(),
                format!("`{name}` is a group of pods, and `--sources` maps addresses to a workload of that name"),
            );
        }
    }

    /// How many rules there are.
    pub(super) fn rules(&self) -> usize {
        self.collections
            .iter()
            .map(|collection| collection.rules().count())
            .sum()
    }

    /// For the last line of the report.
    pub(super) fn counts(&self) -> Vec<(&'static str, usize)> {
        let collections = self
            .collections
            .iter()
            .filter(|collection| collection.rules().next().is_some());
        vec![("collection", collections.count()), ("rule", self.rules())]
    }

    /// The policy file.
    pub(super) fn text(&self, texts: Texts<'_>) -> String {
        let names = |texts: &[crate::policy::SourceText]| {
            let names: Vec<_> = texts.iter().map(|text| &*text.name).collect();
            names.join(", ")
        };
        let mut header = format!("Rules of Azure Firewall, from {}", names(texts.rules));
        if !texts.parents.is_empty() {
            header.push_str(", below those of the parent policy in ");
            header.push_str(&names(texts.parents));
        }
        header.push_str(
            ".\nCollections are judged in the order in which they stand here; the first rule that matches decides.",
        );
        let mut top = Map::default();
        if !self.workloads.is_empty() {
            top.set("workloads", self.workloads());
        }
        let used = |group: &&DraftGroup| {
            let mut collections = self
                .collections
                .iter()
                .filter(|collection| collection.rules().next().is_some());
            collections.any(|collection| collection.group.as_deref() == Some(&group.shown))
        };
        let groups: Vec<_> = self.groups.iter().filter(used).collect();
        if !groups.is_empty() {
            let mut map = Map::default();
            for group in groups {
                let mut inner = Map::default();
                if let Some(priority) = group.priority {
                    inner.set("priority", priority);
                }
                if group.parent {
                    inner.set("parent", true);
                }
                map.set(&group.shown, inner);
            }
            map.block();
            top.set("groups", map);
        }
        let mut list = List::default();
        list.block();
        for collection in &self.collections {
            collection.write(&mut list);
        }
        if list.is_empty() {
            top.set("allow", List::default());
        } else {
            top.set("collections", list);
        }
        file(&header, &top)
    }

    fn workloads(&self) -> Map {
        let mut map = Map::default();
        map.block();
        for (name, workload) in &self.workloads {
            let mut inner = Map::default();
            match workload {
                DraftWorkload::Addresses(ranges) => {
                    let cidrs: List = ranges.iter().map(|range| address::shown(*range)).collect();
                    inner.set("cidrs", cidrs);
                }
                DraftWorkload::Pods {
                    namespace,
                    labels,
                    port,
                } => {
                    let mut pods = Map::default();
                    for (key, value) in labels {
                        pods.set(key, value.as_str());
                    }
                    inner
                        .set("namespace", namespace.as_str())
                        .set("pods", pods)
                        .set("port", *port);
                }
            }
            map.set(name, inner);
        }
        map
    }
}

impl DraftCollection {
    pub(super) fn rules(&self) -> impl Iterator<Item = &DraftRule> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Rule(rule) => Some(rule),
            Entry::Left(_) => None,
        })
    }

    fn write(&self, list: &mut List) {
        let mut rules = List::default();
        rules.block();
        let mut comments = Vec::new();
        for entry in &self.entries {
            match entry {
                Entry::Rule(rule) => {
                    for comment in comments.drain(..) {
                        rules.comment(comment);
                    }
                    rule.write(&mut rules);
                }
                Entry::Left(comment) => comments.push(comment),
            }
        }
        if rules.is_empty() {
            list.comment(&format!("Nothing of the collection {} is carried over:", self.name));
            for comment in comments {
                list.comment(comment);
            }
            return;
        }
        for comment in comments {
            rules.comment(comment);
        }
        let mut map = Map::default();
        map.block().set("name", self.name.as_str());
        if let Some(group) = &self.group {
            map.set("group", group.as_str());
        }
        if self.kind == CollectionKind::Network {
            map.set("type", "network");
        }
        map.set("priority", self.priority);
        map.set("action", if self.action == Action::Deny { "deny" } else { "allow" });
        map.set("rules", rules);
        list.push(map);
    }
}

impl DraftRule {
    fn write(&self, list: &mut List) {
        if let Some(description) = &self.description {
            list.comment(description);
        }
        for remark in &self.remarks {
            list.comment(remark);
        }
        let mut map = Map::default();
        if let Some(name) = &self.name {
            map.set("name", name.as_str());
        }
        if let Who::Workloads(workloads) = &self.from {
            let from: List = workloads.iter().map(String::as_str).collect();
            map.set("from", from);
        }
        match &self.opens {
            Opens::To(to) => {
                let to: List = to.iter().map(Destination::to_string).collect();
                map.set("to", to);
            }
            Opens::Tags(tags) => {
                let tags: List = tags.iter().map(String::as_str).collect();
                map.set("fqdnTags", tags);
            }
        }
        list.push(map);
    }
}

/// Names end up in records and pages: one line, not too long.
pub(super) fn check_line(name: Option<&str>, what: &str, at: &Place, report: &mut Report) {
    let Some(name) = name else { return };
    if name.chars().any(char::is_control) || name.len() > MAX_LINE {
        report
            .note(
                Kind::BadValue,
                at,
                format!("{what} holds control characters, or more than {MAX_LINE} bytes"),
            )
            .help("it ends up in records and in answers to clients; shorten it");
    }
}

/// As the reader of policies has it.
const MAX_LINE: usize = 500;
const FIRST_PORT: u16 = 3201;
