//! In which order Azure looks at collections, and what leaves that order open.
//! Must not break ties: two that could come first are an error.
//! Called by import.

use super::draft::{Draft, DraftGroup, check_line};
use crate::azure::model::{Action, Collection, CollectionKind, Firewall, Group};
use crate::azure::report::{Kind, Report};

/// The collections, first to last: by type, the parent's first, by the group's priority, by their own.
pub(super) fn ordered(firewall: &Firewall) -> Vec<(&Group, &Collection)> {
    let groups = firewall.groups.iter();
    let mut all: Vec<_> = groups
        .flat_map(|group| group.collections.iter().map(move |collection| (group, collection)))
        .collect();
    all.sort_by_key(|(group, collection)| (collection.kind, !group.parent, group.priority, collection.priority));
    all
}

/// Whether anything is allowed by an application rule that comes after this one.
pub(super) fn allows_behind(ordered: &[(&Group, &Collection)], index: usize, rule: usize) -> bool {
    let Some((_, own)) = ordered.get(index) else {
        return false;
    };
    let rest = own.action == Action::Allow && rule + 1 < own.rules.len();
    let later = ordered.iter().skip(index + 1);
    rest || later
        .into_iter()
        .any(|(_, collection)| collection.kind == CollectionKind::Application && collection.action == Action::Allow)
}

/// The groups of the draft; notes every tie.
pub(super) fn draft(firewall: &Firewall, report: &mut Report) -> Draft {
    let groups = &firewall.groups;
    let named: Vec<_> = groups
        .iter()
        .filter_map(|group| Some((group, group.name.as_deref()?)))
        .collect();
    check_loose(groups, !named.is_empty(), report);
    check_named(&named, report);
    for group in groups {
        check_collections(group, report);
    }
    let mut draft = Draft::default();
    let mut sorted = named.clone();
    sorted.sort_by_key(|(group, _)| (!group.parent, group.priority));
    for (group, name) in sorted {
        let taken = named
            .iter()
            .any(|(other, twin)| !other.parent && group.parent && twin == &name);
        let shown = if taken {
            format!("{name} (parent)")
        } else {
            name.to_owned()
        };
        if taken {
            report
                .note(
                    Kind::Renamed,
                    &group.at,
                    format!("parent and child have a group `{name}`"),
                )
                .outcome(format!("that of the parent is called `{shown}`"));
        }
        draft.groups.push(DraftGroup {
            name: name.to_owned(),
            shown,
            priority: group.priority,
            parent: group.parent,
        });
    }
    draft
}

/// Collections without a group have no place among those of groups, nor among those of another list.
fn check_loose(groups: &[Group], others: bool, report: &mut Report) {
    let loose: Vec<_> = groups
        .iter()
        .filter(|group| group.name.is_none() && !group.collections.is_empty())
        .collect();
    if groups.iter().all(|group| group.collections.is_empty()) && !report.has_errors() {
        let place = groups.first().map(|group| group.at.clone()).unwrap_or_default();
        report
            .note(Kind::NoRules, &place, "the input holds no rule collection")
            .help(crate::azure::json::EXPORT);
    }
    if let (Some(first), true) = (loose.first(), others) {
        report
            .note(
                Kind::Incomplete,
                &first.at,
                "these collections are in no group, and others are: nobody knows which come first",
            )
            .help(crate::azure::json::EXPORT);
    }
    if let Some(parent) = loose.iter().find(|group| group.parent) {
        report
            .note(
                Kind::Incomplete,
                &parent.at,
                "the rules of a parent policy need their groups",
            )
            .help(crate::azure::json::EXPORT);
    }
    for (index, group) in loose.iter().enumerate() {
        for earlier in loose.iter().take(index) {
            let same = |own: &&Collection| earlier.collections.iter().any(|other| other.kind == own.kind);
            if let Some(collection) = group.collections.iter().find(same) {
                report
                    .note(
                        Kind::Incomplete,
                        &collection.at,
                        format!(
                            "these collections, and those at `{}`, are in no group: nobody knows which come first",
                            earlier.at
                        ),
                    )
                    .help(crate::azure::json::EXPORT);
            }
        }
    }
}

fn check_named(named: &[(&Group, &str)], report: &mut Report) {
    for (index, (group, name)) in named.iter().enumerate() {
        check_line(Some(name), "the name of the group", &group.at, report);
        for (earlier, other) in named
            .iter()
            .take(index)
            .filter(|(earlier, _)| earlier.parent == group.parent)
        {
            if other.eq_ignore_ascii_case(name) {
                report.note(
                    Kind::Duplicate,
                    &group.at,
                    format!("another group is called `{name}` too"),
                );
            } else if earlier.priority == group.priority {
                let priority = group.priority.unwrap_or_default();
                report
                    .note(
                        Kind::Duplicate,
                        &group.at,
                        format!("`{name}` and `{other}` have the same priority, {priority}"),
                    )
                    .help("one of them must come first");
            }
        }
    }
}

fn check_collections(group: &Group, report: &mut Report) {
    for (index, collection) in group.collections.iter().enumerate() {
        let name = &collection.name;
        check_line(Some(name), "the name of the collection", &collection.at, report);
        let earlier = group.collections.iter().take(index);
        for other in earlier.filter(|other| other.kind == collection.kind) {
            if other.name.eq_ignore_ascii_case(name) {
                report.note(
                    Kind::Duplicate,
                    &collection.at,
                    format!("another collection is called `{name}` too"),
                );
            } else if other.priority == collection.priority {
                report
                    .note(
                        Kind::Duplicate,
                        &collection.at,
                        format!(
                            "`{name}` and `{}` have the same priority, {}",
                            other.name, collection.priority
                        ),
                    )
                    .help("the first rule that matches decides, so one of them must come first");
            }
        }
        let mut seen = std::collections::HashSet::new();
        for rule in &collection.rules {
            if let Some(name) = &rule.name
                && !seen.insert(name.to_ascii_lowercase())
            {
                report.note(
                    Kind::Duplicate,
                    &rule.at,
                    format!("another rule of the collection is called `{name}` too"),
                );
            }
        }
    }
}
