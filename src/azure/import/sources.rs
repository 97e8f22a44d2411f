//! Who asks: sources of Azure's rules to workloads, as `--sources` says, and never by guess.
//! Must not split or join ranges: a source is mapped exactly, or it is an error.
//! Called by import for each rule.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::Lossy;
use super::draft::{Draft, Who};
use super::mapping::Mapping;
use super::ranges::{looks_like_address, ranges};
use crate::azure::arm::value::last_segment;
use crate::azure::ip_groups::{self, Missing};
use crate::azure::json::shortened;
use crate::azure::model::{Action, Firewall, IpGroup, Placed, Rule, SelectorGroup};
use crate::azure::report::{Kind, Place, Report};
use crate::policy::document::{Document, Workload, syntax};

/// The mappings, and what they were used for.
#[derive(Debug)]
pub(super) struct Mapped<'f> {
    mappings: &'f [Mapping],
    firewall: &'f Firewall,
    known: &'f Document,
    /// By the text of the source: where it stands first, and in how many places.
    unmapped: BTreeMap<String, (Place, usize, String)>,
    used: BTreeSet<usize>,
    /// Workloads made of groups of pods.
    pods: BTreeMap<String, (String, Vec<(String, String)>)>,
}

impl<'f> Mapped<'f> {
    pub(super) fn new(mappings: &'f [Mapping], firewall: &'f Firewall, known: &'f Document) -> Self {
        Self {
            mappings,
            firewall,
            known,
            unmapped: BTreeMap::new(),
            used: BTreeSet::new(),
            pods: BTreeMap::new(),
        }
    }

    /// The workloads that a rule is for. `None`: nobody is left, or something was wrong; that was noted.
    pub(super) fn of(&mut self, rule: &Rule, lossy: &mut Lossy<'_>) -> Option<Who> {
        let sources = &rule.sources;
        if let Some(geo) = sources.geo_locations.first() {
            let message = "the rule is for sources in some countries".to_owned();
            lossy.lost(Kind::GeoLocation, &geo.at, message, "not carried over");
            return None;
        }
        if sources.addresses.is_empty() && sources.ip_groups.is_empty() && sources.selectors.is_empty() {
            lossy
                .report
                .note(Kind::Empty, &rule.at, "the rule has no source")
                .help("Azure wants one; `*` is every source");
            return None;
        }
        let mut found = BTreeSet::new();
        let (mut any, mut failed) = (false, false);
        for address in &sources.addresses {
            match self.address(address, lossy) {
                Some(Found::Any) => any = true,
                Some(Found::Mapped(indices)) => found.extend(indices),
                None => failed = true,
            }
        }
        for id in &sources.ip_groups {
            match self.ip_group(id, lossy) {
                Ok(Found::Any) => any = true,
                Ok(Found::Mapped(indices)) => found.extend(indices),
                Err(Unread::Wrong) => failed = true,
                Err(Unread::Lost) => {}
            }
        }
        let mut workloads: BTreeSet<String> = BTreeSet::new();
        for id in &sources.selectors {
            match self.selector(id, lossy.report) {
                Some(Ok(index)) => found.extend(index),
                Some(Err(name)) => {
                    workloads.insert(name);
                }
                None => failed = true,
            }
        }
        self.add_within(&mut found);
        self.used.extend(found.iter().copied());
        if failed {
            return None;
        }
        if any {
            return Some(Who::Everyone);
        }
        self.check_joined(&found, rule, lossy);
        self.check_parted(&found, rule, lossy);
        workloads.extend(
            found
                .iter()
                .filter_map(|index| Some(self.mappings.get(*index)?.workload.clone())),
        );
        if workloads.is_empty() {
            None
        } else {
            Some(Who::Workloads(workloads.into_iter().collect()))
        }
    }

    /// Says which sources nobody mapped, and adds the workloads that have to be written.
    pub(super) fn finish(self, mut draft: Draft, report: &mut Report) -> Draft {
        for (source, (place, count, why)) in &self.unmapped {
            let more = match count {
                1 => String::new(),
                2 => ", and in one more place".to_owned(),
                count => format!(", and in {} more places", count - 1),
            };
            report
                .note(
                    Kind::UnmappedSource,
                    place,
                    format!("`{}` {why}{more}", shortened(source)),
                )
                .help(format!(
                    "say which workload it is here: `--sources {}=WORKLOAD`",
                    last_segment_of(source)
                ));
        }
        for (index, mapping) in self.mappings.iter().enumerate() {
            if !self.used.contains(&index) || self.known.workload(&mapping.workload).is_some() {
                continue;
            }
            let ranges = self.ranges_of(&mapping.source);
            if self.is_unsure(mapping, report) {
                continue;
            }
            if ranges.is_empty() {
                report
                    .note(
                        Kind::UnmappedSource,
                        &Place::default(),
                        format!("nothing says who the workload `{}` is", mapping.workload),
                    )
                    .help("give the policy file that has it: `--policy FILE`");
            }
            draft.add_workload(&mapping.workload, &ranges);
        }
        for (name, (namespace, labels)) in self.pods {
            draft.add_pods(&name, namespace, labels, self.known, report);
        }
        draft
    }

    fn address(&mut self, address: &Placed<String>, lossy: &mut Lossy<'_>) -> Option<Found> {
        let text = address.value.as_str();
        // The firewall carries IPv4 alone, so the whole of it is `*`.
        let whole = [IpNet::V4(ipnet::Ipv4Net::default())];
        let is_everyone = text == "*" || ranges(text).is_ok_and(|ranges| ranges == whole);
        // A deny rule for everyone closes for every workload, whichever one `*` was mapped to.
        if is_everyone && lossy.action == Action::Deny {
            return Some(Found::Any);
        }
        let by_name = self.indices(|mapping| mapping.source == text);
        if !by_name.is_empty() {
            return Some(Found::Mapped(by_name));
        }
        if text == "*" {
            return Some(Found::Any);
        }
        let report = &mut *lossy.report;
        let wanted = match ranges(text) {
            Ok(ranges) => ranges,
            Err(why) if looks_like_address(text) => {
                report.note(
                    Kind::BadValue,
                    &address.at,
                    format!("the source `{}` {why}", shortened(text)),
                );
                return None;
            }
            Err(_) => {
                self.miss(text, &address.at, "is mapped to no workload");
                return None;
            }
        };
        let same = self.indices(|mapping| ranges(&mapping.source).is_ok_and(|own| own == wanted));
        if !same.is_empty() {
            return Some(Found::Mapped(same));
        }
        if is_everyone {
            return Some(Found::Any);
        }
        let why = self.near(&wanted);
        self.miss(text, &address.at, &why);
        None
    }

    /// Why no mapping is that of these ranges.
    fn near(&self, wanted: &[IpNet]) -> String {
        let holds =
            |outer: &[IpNet], inner: &[IpNet]| inner.iter().all(|one| outer.iter().any(|other| other.contains(one)));
        for mapping in self.mappings {
            let Ok(own) = ranges(&mapping.source) else { continue };
            if holds(&own, wanted) {
                return format!(
                    "is only a part of `{}`, and a mapped range must be equal",
                    mapping.source
                );
            }
            if holds(wanted, &own) {
                return format!("is more than `{}`, and a mapped range must be equal", mapping.source);
            }
        }
        "is mapped to no workload".to_owned()
    }

    fn ip_group(&mut self, id: &Placed<String>, lossy: &mut Lossy<'_>) -> Result<Found, Unread> {
        let name = last_segment(&id.value);
        let by_name = self.indices(|mapping| {
            mapping.source.eq_ignore_ascii_case(name) || mapping.source.eq_ignore_ascii_case(&id.value)
        });
        if !by_name.is_empty() {
            return Ok(Found::Mapped(by_name));
        }
        let group = match ip_groups::find(&self.firewall.ip_groups, id) {
            Ok(group) => group,
            Err(missing) => {
                let message = missing_group(name, missing);
                let help = format!("give it with `--ip-groups FILE`, or map it: `--sources {name}=WORKLOAD`");
                lossy
                    .lost(Kind::IpGroup, &id.at, message, "not carried over as a source")
                    .help(help);
                return Err(Unread::Lost);
            }
        };
        if group.addresses.is_empty() {
            lossy
                .report
                .note(Kind::Empty, &group.at, "the IP group is empty, and is a source");
            return Err(Unread::Wrong);
        }
        let mut found = BTreeSet::new();
        let (mut any, mut failed) = (false, false);
        for address in &group.addresses {
            match self.address(address, lossy) {
                Some(Found::Mapped(indices)) => found.extend(indices),
                Some(Found::Any) => any = true,
                None => failed = true,
            }
        }
        match (failed, any) {
            (true, _) => Err(Unread::Wrong),
            (false, true) => Ok(Found::Any),
            (false, false) => Ok(Found::Mapped(found)),
        }
    }

    /// A group of pods: mapped by name, or a workload that exists, or one to be written.
    fn selector(&mut self, id: &Placed<String>, report: &mut Report) -> Option<Result<BTreeSet<usize>, String>> {
        let name = last_segment(&id.value);
        let by_name = self.indices(|mapping| mapping.source.eq_ignore_ascii_case(name));
        if !by_name.is_empty() {
            return Some(Ok(by_name));
        }
        let mut groups = self.firewall.selectors.iter();
        let Some(group) = groups.find(|group| is_group(group, &id.value)) else {
            self.miss(&id.value, &id.at, "is a group of pods that was not given");
            return None;
        };
        let [(key, namespace)] = group.namespaces.as_slice() else {
            self.miss(&id.value, &id.at, "does not select one namespace by its name");
            return None;
        };
        if key != "kubernetes.io/metadata.name" || group.pods.is_empty() {
            self.miss(&id.value, &id.at, "does not select pods by labels in one namespace");
            return None;
        }
        let same = |workload: &Workload| {
            let labels = workload.pods.iter().map(|(key, value)| (key.clone(), value.clone()));
            let mut labels: Vec<_> = labels.collect();
            let mut wanted = group.pods.clone();
            labels.sort();
            wanted.sort();
            workload.namespace.as_ref().is_some_and(|own| *own.value == **namespace) && labels == wanted
        };
        if let Some(workload) = self.known.workloads.iter().find(|workload| same(&workload.value)) {
            return Some(Err(workload.value.name.to_string()));
        }
        let label = syntax::near_label(&group.name);
        if !syntax::is_dns_label(&label) || self.known.workload(&label).is_some() {
            self.miss(&id.value, &id.at, "has no name that a workload could have here");
            return None;
        }
        let own = (namespace.clone(), group.pods.clone());
        if self.pods.get(&label).is_some_and(|other| *other != own) {
            self.miss(
                &id.value,
                &id.at,
                "would be the same workload here as another group of pods",
            );
            return None;
        }
        report
            .note(
                Kind::KubeSelector,
                &id.at,
                format!("the pods of `{}` are the workload `{label}`", shortened(&group.name)),
            )
            .outcome("written with a port of its own, by which the proxy knows them");
        self.pods.insert(label.clone(), own);
        Some(Err(label))
    }

    /// A workload whose range lies in one of the rule's is meant as well. Where both are known by their ranges that shows
    /// by itself; workloads of files that exist may be known by pods or ports.
    fn add_within(&self, found: &mut BTreeSet<usize>) {
        let of = |index: &usize| self.mappings.get(*index).map(|mapping| self.ranges_of(&mapping.source));
        let named: Vec<IpNet> = found.iter().filter_map(of).flatten().collect();
        let within = self.indices(|mapping| {
            let own = self.ranges_of(&mapping.source);
            let is_held = |one: &IpNet| named.iter().any(|outer| outer.contains(one));
            self.known.workload(&mapping.workload).is_some() && !own.is_empty() && own.iter().all(is_held)
        });
        found.extend(within);
    }

    /// A deny rule for a part of what a workload stands for. Where the proxy knows that workload by pods or ports, nothing
    /// shows which of its connections are meant, and the rule does not close for them.
    fn check_parted(&self, found: &BTreeSet<usize>, rule: &Rule, lossy: &mut Lossy<'_>) {
        if lossy.action != Action::Deny {
            return;
        }
        let named: Vec<_> = found.iter().filter_map(|index| self.mappings.get(*index)).collect();
        let ranges: Vec<IpNet> = named
            .iter()
            .flat_map(|mapping| self.ranges_of(&mapping.source))
            .collect();
        let touches = |one: &IpNet| ranges.iter().any(|range| range.contains(one) || one.contains(range));
        let parted = self.mappings.iter().find(|mapping| {
            self.known.workload(&mapping.workload).is_some()
                && named.iter().all(|own| own.workload != mapping.workload)
                && self.ranges_of(&mapping.source).iter().any(touches)
        });
        if let Some(mapping) = parted {
            let message = format!(
                "the rule denies for a part of `{}`, which is the workload `{}`",
                mapping.source, mapping.workload
            );
            lossy
                .changed(Kind::DenyLost, &rule.at, message, "not closed for that workload")
                .help("map the part to a workload of its own, with `cidrs`");
        }
    }

    /// A workload that stands for several sources of which the rule names only some.
    fn check_joined(&self, found: &BTreeSet<usize>, rule: &Rule, lossy: &mut Lossy<'_>) {
        for index in found {
            let Some(mapping) = self.mappings.get(*index) else {
                continue;
            };
            let others = self.mappings.iter().enumerate().find(|(other, candidate)| {
                candidate.workload == mapping.workload && !found.contains(other) && candidate.source != mapping.source
            });
            if let Some((_, other)) = others {
                let message = format!(
                    "the workload `{}` also stands for `{}`, which this rule does not name",
                    mapping.workload, other.source
                );
                lossy
                    .changed(
                        Kind::SourceJoined,
                        &rule.at,
                        message,
                        "carried over for the whole workload",
                    )
                    .help("map them to workloads of their own");
                return;
            }
        }
    }

    fn indices(&self, test: impl Fn(&Mapping) -> bool) -> BTreeSet<usize> {
        let all = self.mappings.iter().enumerate();
        all.filter(|(_, mapping)| test(mapping))
            .map(|(index, _)| index)
            .collect()
    }

    fn miss(&mut self, source: &str, at: &Place, why: &str) {
        let entry = self
            .unmapped
            .entry(source.to_owned())
            .or_insert_with(|| (at.clone(), 0, why.to_owned()));
        entry.1 += 1;
    }

    fn ranges_of(&self, source: &str) -> Vec<IpNet> {
        if let Ok(ranges) = ranges(source) {
            return ranges;
        }
        let mut groups = self.groups_of(source);
        let addresses = groups
            .next()
            .map(|group| group.addresses.as_slice())
            .unwrap_or_default();
        addresses
            .iter()
            .flat_map(|address| ranges(&address.value).unwrap_or_default())
            .collect()
    }

    /// The IP groups that a mapping means: with this id, or of this name.
    fn groups_of<'a>(&'a self, source: &'a str) -> impl Iterator<Item = &'a IpGroup> {
        let has_id = |group: &IpGroup| group.id.as_deref().is_some_and(|id| id.eq_ignore_ascii_case(source));
        let by_id = self.firewall.ip_groups.iter().any(has_id);
        let name = last_segment(source);
        self.firewall.ip_groups.iter().filter(move |group| {
            let of_name = group.name.eq_ignore_ascii_case(name) && (group.id.is_none() || !source.contains('/'));
            if by_id { has_id(group) } else { of_name }
        })
    }

    /// Notes what of a mapped IP group cannot be told: which of several it is, and addresses that cannot be read.
    fn is_unsure(&self, mapping: &Mapping, report: &mut Report) -> bool {
        if ranges(&mapping.source).is_ok() {
            return false;
        }
        let mut groups = self.groups_of(&mapping.source);
        let Some(group) = groups.next() else { return false };
        let values = |group: &IpGroup| {
            group
                .addresses
                .iter()
                .map(|at| at.value.clone())
                .collect::<BTreeSet<_>>()
        };
        if let Some(other) = groups.find(|other| values(other) != values(group)) {
            let message = format!(
                "`{}` is mapped, and several IP groups with different addresses are called so",
                shortened(&mapping.source)
            );
            report
                .note(Kind::Duplicate, &other.at, message)
                .help("map the whole id, `/subscriptions/...`, or give only the group that is meant");
            return true;
        }
        let mut unsure = false;
        for address in &group.addresses {
            if let Err(why) = ranges(&address.value) {
                let message = format!("the address `{}` {why}", shortened(&address.value));
                report.note(Kind::BadValue, &address.at, message);
                unsure = true;
            }
        }
        unsure
    }
}

enum Found {
    Any,
    Mapped(BTreeSet<usize>),
}

enum Unread {
    /// Noted as an error.
    Wrong,
    /// Noted as not carried over.
    Lost,
}

pub(super) fn missing_group(name: &str, missing: Missing) -> String {
    let name = shortened(name);
    match missing {
        Missing::Unknown => format!("the IP group `{name}` was not given"),
        Missing::Elsewhere => format!("an IP group `{name}` was given, but its id is another one"),
        Missing::Ambiguous => format!("several IP groups `{name}` were given, none with this id"),
    }
}

fn is_group(group: &SelectorGroup, id: &str) -> bool {
    match &group.id {
        Some(own) if id.contains('/') => own.eq_ignore_ascii_case(id),
        _ => group.name.eq_ignore_ascii_case(last_segment(id)),
    }
}

fn last_segment_of(source: &str) -> &str {
    if source.starts_with('/') {
        last_segment(source)
    } else {
        source
    }
}
