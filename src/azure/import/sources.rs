//! Who asks: sources of Azure's rules to workloads, as `--sources` says, and never by guess.
//! Must not split or join ranges: a source is mapped exactly, or it is an error.
//! Called by import for each rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::Lossy;
use super::draft::{Draft, Who};
use crate::azure::arm::value::last_segment;
use crate::azure::ip_groups::{self, Missing};
use crate::azure::json::shortened;
use crate::azure::model::{Firewall, Placed, Rule, SelectorGroup};
use crate::azure::report::{Kind, Place, Report};
use crate::policy::document::{Document, Workload, syntax};

/// One `SOURCE=WORKLOAD`: a range of Azure's, or the name of an IP group or of a group of pods, and who it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub source: String,
    pub workload: String,
}

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

impl Mapping {
    /// Reads `SOURCE=WORKLOAD,...`; an item without `=` is one more workload for the source before it.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let mut all: Vec<Self> = Vec::new();
        for item in text.split(',') {
            let (source, workload) = match item.split_once('=') {
                Some((source, workload)) => (source.trim().to_owned(), workload.trim()),
                None => match all.last() {
                    Some(last) => (last.source.clone(), item.trim()),
                    None => return Err(format!("`{item}` has no `=`: write 10.224.0.0/16=nodes")),
                },
            };
            if source.is_empty() {
                return Err(format!(
                    "`{item}` has no source before the `=`: write 10.224.0.0/16=nodes"
                ));
            }
            if !syntax::is_dns_label(workload) || workload == "konnectivity" {
                return Err(format!(
                    "`{workload}` cannot be the name of a workload: lower-case letters, digits and `-`"
                ));
            }
            if looks_like_address(&source) {
                ranges(&source).map_err(|why| format!("`{source}` {why}"))?;
            }
            all.push(Self {
                source,
                workload: workload.to_owned(),
            });
        }
        Ok(all)
    }
}

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Self::parse_list(text)?.as_slice() {
            [one] => Ok(one.clone()),
            _ => Err("one source and one workload: 10.224.0.0/16=nodes".to_owned()),
        }
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.source, self.workload)
    }
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
            match self.address(address, lossy.report) {
                Some(Found::Any) => any = true,
                Some(Found::Mapped(indices)) => found.extend(indices),
                None => failed = true,
            }
        }
        for id in &sources.ip_groups {
            match self.ip_group(id, lossy) {
                Ok(indices) => found.extend(indices),
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
        self.used.extend(found.iter().copied());
        if failed {
            return None;
        }
        if any {
            return Some(Who::Everyone);
        }
        self.check_joined(&found, rule, lossy);
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
                    "say which workload it is here: `--sources {}=nodes`",
                    last_segment_of(source)
                ));
        }
        for (index, mapping) in self.mappings.iter().enumerate() {
            if !self.used.contains(&index) || self.known.workload(&mapping.workload).is_some() {
                continue;
            }
            let ranges = self.ranges_of(&mapping.source);
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

    fn address(&mut self, address: &Placed<String>, report: &mut Report) -> Option<Found> {
        let text = address.value.as_str();
        let by_name = self.indices(|mapping| mapping.source == text);
        if !by_name.is_empty() {
            return Some(Found::Mapped(by_name));
        }
        if text == "*" {
            return Some(Found::Any);
        }
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
        // The firewall carries IPv4 alone, so this is `*`.
        if wanted == [IpNet::V4(ipnet::Ipv4Net::default())] {
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

    fn ip_group(&mut self, id: &Placed<String>, lossy: &mut Lossy<'_>) -> Result<BTreeSet<usize>, Unread> {
        let name = last_segment(&id.value);
        let by_name = self.indices(|mapping| {
            mapping.source.eq_ignore_ascii_case(name) || mapping.source.eq_ignore_ascii_case(&id.value)
        });
        if !by_name.is_empty() {
            return Ok(by_name);
        }
        let group = match ip_groups::find(&self.firewall.ip_groups, id) {
            Ok(group) => group,
            Err(missing) => {
                let message = missing_group(name, missing);
                let help = format!("give it with `--ip-groups FILE`, or map it: `--sources {name}=nodes`");
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
        let mut failed = false;
        for address in &group.addresses {
            match self.address(address, lossy.report) {
                Some(Found::Mapped(indices)) => found.extend(indices),
                Some(Found::Any) | None => failed = true,
            }
        }
        if failed { Err(Unread::Wrong) } else { Ok(found) }
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
        report
            .note(
                Kind::KubeSelector,
                &id.at,
                format!("the pods of `{}` are the workload `{label}`", shortened(&group.name)),
            )
            .outcome("written with a port of its own, by which the proxy knows them");
        self.pods.insert(label.clone(), (namespace.clone(), group.pods.clone()));
        Some(Err(label))
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
        let mut groups = self.firewall.ip_groups.iter();
        let group = groups.find(|group| group.name.eq_ignore_ascii_case(last_segment(source)));
        let addresses = group.map(|group| group.addresses.as_slice()).unwrap_or_default();
        addresses
            .iter()
            .flat_map(|address| ranges(&address.value).unwrap_or_default())
            .collect()
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

/// The networks of an address, a CIDR or a range `a-b`.
pub(super) fn ranges(text: &str) -> Result<Vec<IpNet>, &'static str> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(vec![address.into()]);
    }
    if let Ok(network) = text.parse::<IpNet>() {
        if network.addr() != network.network() {
            return Err("has bits set behind its prefix length, so that it can be read in two ways");
        }
        return Ok(vec![network]);
    }
    let Some((first, last)) = text.split_once('-') else {
        return Err("is neither an address nor a range of addresses");
    };
    match (first.parse::<IpAddr>(), last.parse::<IpAddr>()) {
        (Ok(IpAddr::V4(first)), Ok(IpAddr::V4(last))) if first <= last => {
            Ok(Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect())
        }
        (Ok(IpAddr::V6(first)), Ok(IpAddr::V6(last))) if first <= last => {
            Ok(Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect())
        }
        (Ok(_), Ok(_)) => Err("is a range that ends before it begins"),
        _ => Err("is neither an address nor a range of addresses"),
    }
}

/// Whether a text was meant as an address, and not as a name or a tag.
pub(super) fn looks_like_address(text: &str) -> bool {
    let first = text.split(['/', '-', '.', ':']).next().unwrap_or_default();
    text.contains(':')
        || text.parse::<Ipv4Addr>().is_ok()
        || !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit()) && text.contains('.')
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
