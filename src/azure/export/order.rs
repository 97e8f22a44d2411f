//! Which group and which priority everything gets, so that Azure's order is ours: deny, collections, allow.
//! Must not move what a file has ordered; only the places before and behind it are chosen here.
//! Called by the export.

use super::Options;
use super::losses::Losses;
use super::rules::Written;
use super::template::{Collection, Group, Rule};
use crate::azure::report::Kind;
use crate::policy::document::{self, Document, Text};
use crate::policy::problem::At;

/// Groups and collections with their priorities.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    document: &'a Document,
    groups: Vec<Group>,
    /// Whether the file orders its groups. If not, the collections order themselves, and all are in one group.
    ordered: bool,
}

/// At which end something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    First,
    Last,
}

impl<'a> Layout<'a> {
    pub(super) fn new(document: &'a Document) -> Self {
        Self {
            document,
            groups: Vec::new(),
            ordered: document.groups.iter().any(|group| group.value.priority.is_some()),
        }
    }

    /// A collection of the file, where the file puts it.
    pub(super) fn collection(
        &mut self,
        collection: &At<document::Collection>,
        allows: bool,
        rules: Vec<Rule>,
        options: &Options<'_>,
        losses: &mut Losses<'_>,
    ) {
        if rules.is_empty() {
            return;
        }
        let collection = &collection.value;
        let own = collection.group.as_ref().map(|name| &name.value);
        let known = own.and_then(|name| self.document.group(name));
        let parent = known.is_some_and(|group| group.value.parent);
        let priority = known.and_then(|group| group.value.priority);
        let (name, priority) = match (own, priority) {
            // Import tells a parent's group from one of the child that is called the same.
            (Some(name), Some(priority)) if parent => {
                (name.strip_suffix(" (parent)").unwrap_or(name).into(), priority.value)
            }
            (Some(name), Some(priority)) => (Text::clone(name), priority.value),
            _ if parent => (format!("{}-parent", options.name).into(), PRIORITY),
            _ => (options.name.into(), options.priority.unwrap_or(PRIORITY)),
        };
        let group = self.group(&name, priority, parent);
        let name = free(&collection.name.value, |name| {
            group.collections.iter().any(|other| other.name == name)
        });
        if name != collection.name.value {
            let why = format!(
                "`{}`: another collection of its group is called so",
                collection.name.value
            );
            losses.note(
                Kind::Renamed,
                collection.name.at,
                why,
                &format!("it is `{name}` in Azure"),
            );
        }
        let written = Collection::new(&name, collection.priority.value, allows, rules);
        group.collections.push(written);
    }

    /// `deny`, before everything else.
    pub(super) fn deny(&mut self, written: Written, options: &Options<'_>, losses: &mut Losses<'_>) {
        let parent = self.groups.iter().any(|group| group.parent);
        self.add("deny", End::First, parent, written, options, losses);
    }

    /// `allow`, behind everything else.
    pub(super) fn allow(&mut self, written: Written, options: &Options<'_>, losses: &mut Losses<'_>) {
        self.add("allow", End::Last, false, written, options, losses);
    }

    /// In the order of evaluation.
    pub(super) fn into_groups(mut self) -> Vec<Group> {
        self.groups.sort_by_key(|group| (!group.parent, group.priority));
        for group in &mut self.groups {
            group.collections.sort_by_key(|collection| collection.priority);
        }
        self.groups
    }

    fn add(
        &mut self,
        what: &str,
        end: End,
        parent: bool,
        written: Written,
        options: &Options<'_>,
        losses: &mut Losses<'_>,
    ) {
        let lists = [("network", written.network), ("application", written.application)];
        let lists: Vec<_> = lists.into_iter().filter(|(_, rules)| !rules.is_empty()).collect();
        if lists.is_empty() {
            return;
        }
        let Some((name, priority)) = self.place(end, parent, options, losses) else {
            return;
        };
        let group = self.group(&name, priority, parent);
        let taken: Vec<_> = group.collections.iter().map(|collection| collection.priority).collect();
        let Some(first) = free_priority(&taken, end, lists.len()) else {
            let why = format!(
                "the group `{name}` has no free priority {} its collections",
                end.as_str()
            );
            losses.overall(
                Kind::Limit,
                why,
                "priorities are from 100 to 65000; move the collections",
            );
            return;
        };
        for (priority, (kind, rules)) in (first..).zip(lists) {
            let name = free(&format!("{what}-{kind}"), |name| {
                group.collections.iter().any(|other| other.name == name)
            });
            group
                .collections
                .push(Collection::new(&name, priority, end == End::Last, rules));
        }
    }

    /// The group for what comes first or last, and its priority.
    fn place(&self, end: End, parent: bool, options: &Options<'_>, losses: &mut Losses<'_>) -> Option<(Text, u16)> {
        if !self.ordered {
            let name = if parent {
                format!("{}-parent", options.name)
            } else {
                options.name.to_owned()
            };
            let priority = options.priority.filter(|_| !parent);
            return Some((name.into(), priority.unwrap_or(PRIORITY)));
        }
        let others = self.groups.iter().filter(|group| group.parent == parent);
        let taken: Vec<_> = others.map(|group| group.priority).collect();
        let wanted = options.priority.filter(|_| end == End::Last);
        let priority = match wanted {
            Some(wanted) if taken.iter().any(|taken| wanted <= *taken) => None,
            Some(wanted) => Some(wanted),
            None => free_priority(&taken, end, 1),
        };
        if priority.is_none() {
            let why = format!("no priority is free {} the groups of the policy", end.as_str());
            losses.overall(Kind::Limit, why, "priorities are from 100 to 65000; move the groups");
        }
        let suffix = if end == End::First { "-deny" } else { "" };
        let name = free(&format!("{}{suffix}", options.name), |name| {
            self.groups.iter().any(|group| *group.name == *name)
        });
        priority.map(|priority| (name, priority))
    }

    fn group(&mut self, name: &Text, priority: u16, parent: bool) -> &mut Group {
        let known = self
            .groups
            .iter()
            .position(|group| group.name == *name && group.parent == parent);
        let place = known.unwrap_or_else(|| {
            self.groups.push(Group {
                name: Text::clone(name),
                priority,
                parent,
                collections: Vec::new(),
            });
            self.groups.len() - 1
        });
        &mut self.groups[place]
    }
}

impl End {
    const fn as_str(self) -> &'static str {
        match self {
            Self::First => "before",
            Self::Last => "behind",
        }
    }
}

/// The first of several numbers in a row, before or behind all that are taken; a round one if there is one.
fn free_priority(taken: &[u16], end: End, count: usize) -> Option<u16> {
    let more = u16::try_from(count).ok()? - 1;
    let (least, most) = (taken.iter().min(), taken.iter().max());
    match (end, least, most) {
        (End::First, Some(least), _) => (LOWEST + more < *least).then_some(LOWEST),
        (End::Last, _, Some(most)) => {
            let round = (most / 100 + 1)
                .checked_mul(100)
                .filter(|round| *round <= HIGHEST - more);
            round.or_else(|| (*most < HIGHEST - more).then(|| most + 1))
        }
        _ => Some(LOWEST),
    }
}

/// A name, with a number behind it if it is taken.
fn free(name: &str, is_taken: impl Fn(&str) -> bool) -> Text {
    let mut free = name.to_owned();
    let mut number = 2;
    while is_taken(&free) {
        free = format!("{name}-{number}");
        number += 1;
    }
    free.into()
}

const LOWEST: u16 = 100;
const HIGHEST: u16 = 65_000;
/// Of a group that nothing else orders.
const PRIORITY: u16 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_that_are_free() {
        for (taken, end, count, expected) in [
            (&[][..], End::First, 2, Some(100)),
            (&[], End::Last, 2, Some(100)),
            (&[101], End::First, 1, Some(100)),
            (&[101], End::First, 2, None),
            (&[100], End::First, 1, None),
            (&[300, 250], End::Last, 1, Some(400)),
            (&[64_999], End::Last, 1, Some(65_000)),
            (&[64_999], End::Last, 2, None),
            (&[65_000], End::Last, 1, None),
            (&[64_950], End::Last, 1, Some(65_000)),
            (&[64_950], End::Last, 2, Some(64_951)),
        ] {
            assert_eq!(free_priority(taken, end, count), expected, "{taken:?} {end:?} {count}");
        }
    }
}
