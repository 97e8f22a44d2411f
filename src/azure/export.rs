//! A policy as rule collection groups of Azure Firewall, as an ARM template, with a report of what Azure cannot say.
//! Must not drop or widen anything without a finding. The same policy always gives the same text.
//! Called by the command `export`.

mod gather;
mod limits;
mod losses;
mod order;
mod products;
mod rules;
mod template;

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use crate::azure::report::{Kind, Report};
use crate::name::HostPattern;
use crate::policy::document::{Collection, Document, Text};
use crate::policy::rule::{CollectionKind, HostMatch};
use crate::policy::{Policy, SourceText};
use gather::{Gathered, Opening, Rules, gather};
use losses::Losses;
use order::Layout;
use rules::{Opened, TAG_PROTOCOLS, Where, Writer, Written, each_port, holds, is_application, overlap};
use template::{Group, IpGroup, Template};

/// A valid policy.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub document: &'a Document,
    /// Compiled from it.
    pub policy: &'a Policy,
    /// Its files.
    pub texts: &'a [SourceText],
    /// Rows of presets that no proxy carries, a line for each.
    pub not_carried: &'a [String],
}

/// What a policy file does not say.
#[derive(Debug)]
pub struct Options<'a> {
    /// Of the group that gets `allow`; the one for `deny` is called the same with `-deny` behind it.
    pub name: &'a str,
    /// Of that group; without it one behind all others.
    pub priority: Option<u16>,
    /// Rules that have expired by now are left out.
    pub now: Timestamp,
}

/// What came of it; only a report that does not refuse makes the texts worth anything.
#[derive(Clone, Debug)]
pub struct Exported {
    pub report: Report,
    /// The template for the policy.
    pub template: String,
    /// That for the policy that it inherits from, if any group is of that one.
    pub parent: Option<String>,
}

/// Writes a policy as templates.
pub fn export(input: &Input<'_>, options: &Options<'_>, report: Report) -> Exported {
    let document = input.document;
    let mut losses = Losses::new(report, input.texts);
    for row in input.not_carried {
        losses.overall(Kind::PresetRow, row, "");
    }
    let mut gathered = gather(input, options.now, &mut losses);
    too_late(document, &mut gathered, &mut losses);
    let mut writer = Writer {
        document,
        opened: opened(document, &gathered),
        losses: &mut losses,
        ip_groups: BTreeMap::new(),
    };
    let deny = all(&gathered.deny, |rule| writer.deny(rule, Where::Plain));
    let collections: Vec<_> = document
        .collections
        .iter()
        .zip(&gathered.collections)
        .map(|(collection, rules)| {
            let place = place(&collection.value);
            let written = match rules {
                Rules::Allow(rules) => all(rules, |rule| writer.allow(rule, place)),
                Rules::Deny(rules) => all(rules, |rule| writer.deny(rule, place)),
            };
            let allows = matches!(rules, Rules::Allow(_));
            let rules = [written.network, written.application].concat();
            (collection, allows, rules)
        })
        .collect();
    let allow = all(&gathered.allow, |rule| writer.allow(rule, Where::Plain));
    let ip_groups = std::mem::take(&mut writer.ip_groups);
    let mut layout = Layout::new(document);
    for (collection, allows, rules) in collections {
        layout.collection(collection, allows, rules, options, &mut losses);
    }
    layout.deny(deny, options, &mut losses);
    layout.allow(allow, options, &mut losses);
    let groups = layout.into_groups();
    limits::check(&groups, &ip_groups, &mut losses);
    let mut report = losses.report;
    let counts = groups.iter().flat_map(|group| &group.collections);
    report.carried = vec![
        ("group", groups.len()),
        ("collection", counts.clone().count()),
        ("rule", counts.map(|collection| collection.rules.len()).sum()),
    ];
    let (parents, own): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| group.parent);
    Exported {
        report,
        template: text(own, &ip_groups),
        parent: (!parents.is_empty()).then(|| text(parents, &ip_groups)),
    }
}

/// A template that has the IP groups its rules refer to.
fn text(groups: Vec<Group>, ip_groups: &BTreeMap<Text, Vec<String>>) -> String {
    let rules = groups
        .iter()
        .flat_map(|group| &group.collections)
        .flat_map(|collection| &collection.rules);
    let used: HashSet<_> = rules.flat_map(template::Rule::ip_groups).cloned().collect();
    let used = ip_groups
        .iter()
        .filter(|(name, _)| used.contains(&template::ip_group_id(name)));
    let used = used.map(|(name, addresses)| IpGroup {
        name: Text::clone(name),
        addresses: addresses.clone(),
    });
    let template = Template::new(groups, used.collect());
    serde_json::to_string_pretty(&template).unwrap_or_default() + "\n"
}

/// Moves what a deny rule of a collection closes out of network rules of `allow`: in Azure these come first.
fn too_late(document: &Document, gathered: &mut Gathered, losses: &mut Losses<'_>) {
    let denies = document.collections.iter().zip(&gathered.collections);
    let denies: Vec<_> = denies
        .filter(|(collection, _)| collection.value.kind == CollectionKind::Application)
        .filter_map(|(_, rules)| {
            if let Rules::Deny(rules) = rules {
                Some(rules)
            } else {
                None
            }
        })
        .flatten()
        .flat_map(|rule| &rule.to)
        .collect();
    for rule in &mut gathered.allow {
        let at = rule.at;
        rule.to.retain(|to| {
            let HostMatch::Name(HostPattern::Exact(name)) = &to.host else {
                return true;
            };
            let is_first = is_application(to, Where::Plain) == Some(false);
            let closed = denies.iter().find(|deny| {
                let HostMatch::Name(pattern) = &deny.host else {
                    return false;
                };
                overlap(&deny.ports, &to.ports) && holds(pattern, name.as_str())
            });
            let (true, Some(deny)) = (is_first, closed) else {
                return true;
            };
            let why = format!("`{to}` becomes a network rule, and in Azure comes before the rule that denies `{deny}`");
            losses.note(Kind::Order, at, why, "left out");
            false
        });
    }
    gathered
        .allow
        .retain(|rule| !rule.to.is_empty() || !rule.tags.is_empty());
}

/// What all allow rules open together.
fn opened(document: &Document, gathered: &Gathered) -> Opened {
    let mut opened = Opened::default();
    let mut note = |rule: &Opening, place: Where| {
        if !rule.tags.is_empty() {
            opened.protocols.extend(TAG_PROTOCOLS);
        }
        for to in &rule.to {
            match (is_application(to, place), &to.host) {
                (Some(true), _) => opened.protocols.extend(each_port(to).unwrap_or_default()),
                (Some(false), HostMatch::Name(pattern)) => opened.names.push((pattern.clone(), to.ports.clone())),
                _ => {}
            }
        }
    };
    for (collection, rules) in document.collections.iter().zip(&gathered.collections) {
        if let Rules::Allow(rules) = rules {
            for rule in rules {
                note(rule, place(&collection.value));
            }
        }
    }
    for rule in &gathered.allow {
        note(rule, Where::Plain);
    }
    opened
}

/// The rules of both types that many rules become.
fn all<R>(rules: &[R], mut write: impl FnMut(&R) -> Written) -> Written {
    let mut all = Written::default();
    for rule in rules {
        let Written { network, application } = write(rule);
        all.network.extend(network);
        all.application.extend(application);
    }
    all
}

fn place(collection: &Collection) -> Where {
    match collection.kind {
        CollectionKind::Network => Where::Network,
        CollectionKind::Application => Where::Application,
    }
}

#[cfg(test)]
mod tests;
