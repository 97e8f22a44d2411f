//! Which requests two policies answer differently, grouped by the rules that answer: what opens, what closes, and what
//! only another rule decides now. Exact, because both gates are asked about one sample of everything that neither can tell
//! apart; report mode aside, as `explain` and `expect` do. Called by the command `diff`.

mod breadth;
mod compare;
mod hosts;
mod nets;
mod sent;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use jiff::Timestamp;

use super::compiled::{Mode, Policy};
use super::rule::Position;
use crate::name::HostName;

use compare::{Change, Comparison, Found, named};

pub use breadth::Breadth;
pub use hosts::HostClass;
pub use sent::{Sent, shown as shown_sent};
pub use sources::Shown as Sources;

/// What differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// What lets most through first.
    pub groups: Vec<Group>,
    /// The old and the new mode, where one lets through what the other does not.
    pub mode: Option<(Mode, Mode)>,
}

/// What two rules, an old one and a new one, change together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub kind: Kind,
    /// The rule that decided. A denial for want of a rule has none.
    pub old: Option<Decider>,
    pub new: Option<Decider>,
    /// Not yet: from this moment on.
    pub since: Option<Timestamp>,
    /// What lets most through first.
    pub rows: Vec<Row>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Denied before, allowed now.
    Opened,
    /// Allowed before, denied now.
    Closed,
    /// Answered alike by another rule.
    Rule,
}

/// A rule that decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decider {
    pub name: String,
    pub file: String,
    pub line: u32,
    pub allows: bool,
}

/// Requests of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub host: HostClass,
    /// In ascending order, none beside another.
    pub ports: Vec<RangeInclusive<u16>>,
    pub sent: BTreeSet<Sent>,
    /// Whether `sent` was chosen among all forms, or only among those that the rules can tell apart.
    pub tried_all: bool,
    pub from: Sources,
    /// Ranges that the name resolves into; empty where that changes nothing.
    pub into: Vec<String>,
    pub breadth: Breadth,
}

/// Compares two policies at a moment, and at all later ones at which a rule ends.
pub fn diff(old: &Policy, new: &Policy, now: Timestamp) -> Diff {
    let mut groups: BTreeMap<Key, Vec<Row>> = BTreeMap::new();
    if let Some(comparison) = Comparison::of(old, new, now) {
        comparison.run(|found| {
            for (change, row) in rows(&found) {
                groups.entry(Key::of(&comparison, change)).or_default().push(row);
            }
        });
    }
    let mut groups: Vec<_> = groups.into_iter().map(|(key, rows)| key.group(rows)).collect();
    groups.sort_by_key(|group| {
        (
            group.since.is_some(),
            group.kind,
            group.rows.first().map(|row| row.breadth),
        )
    });
    let reports = |policy: &Policy| policy.reports(now).then(|| policy.mode());
    let mode = (reports(old) != reports(new)).then(|| (old.mode(), new.mode()));
    Diff { groups, mode }
}

impl Diff {
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.mode.is_none()
    }

    /// How many classes of requests change so.
    pub fn count(&self, kind: Kind) -> usize {
        let of_kind = self.groups.iter().filter(|group| group.kind == kind);
        of_kind.map(|group| group.rows.len()).sum()
    }
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Closed => "closed",
            Self::Rule => "rule",
        }
    }

    fn of(change: Change) -> Self {
        match (change.old.allowed, change.new.allowed) {
            (false, true) => Self::Opened,
            (true, false) => Self::Closed,
            _ => Self::Rule,
        }
    }
}

/// What makes requests stand in one group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: Kind,
    old: Option<Decider>,
    new: Option<Decider>,
    since: Option<Timestamp>,
}

impl Key {
    fn of(comparison: &Comparison, change: Change) -> Self {
        let [old, new] = comparison.policies();
        let decider = |policy, answer: compare::Answer| {
            let (name, Position { file, line }) = named(policy, answer)?;
            Some(Decider {
                name: name.to_owned(),
                file: file.to_string(),
                line: *line,
                allows: answer.allowed,
            })
        };
        Self {
            kind: Kind::of(change),
            old: decider(old, change.old),
            new: decider(new, change.new),
            since: change.since,
        }
    }

    fn group(self, mut rows: Vec<Row>) -> Group {
        rows.sort_by(|one, other| {
            let place = |row: &Row| {
                (
                    row.breadth,
                    row.host.to_string(),
                    row.ports.first().map(|ports| *ports.start()),
                )
            };
            place(one).cmp(&place(other))
        });
        fold(&mut rows);
        Group {
            kind: self.kind,
            old: self.old,
            new: self.new,
            since: self.since,
            rows,
        }
    }
}

/// The cells of one host class as few rows: sources together, then what is sent, then ports.
fn rows(found: &Found) -> Vec<(Change, Row)> {
    type Into = BTreeSet<Option<usize>>;
    type Alike = (BTreeSet<sources::Who>, Into, BTreeSet<Sent>);
    type Places = BTreeMap<sources::Who, Into>;
    let mut by_change: BTreeMap<Change, BTreeMap<usize, BTreeMap<Sent, Places>>> = BTreeMap::new();
    for cell in &found.cells {
        let ports = by_change.entry(cell.change).or_default().entry(cell.port).or_default();
        let places = ports.entry(cell.sent).or_default();
        places.entry(cell.who).or_default().insert(cell.into);
    }
    let mut all = Vec::new();
    for (change, ports) in by_change {
        // Who, resolving into what, sending what; and on which ports.
        let mut merged: BTreeMap<Alike, Vec<usize>> = BTreeMap::new();
        for (port, sents) in ports {
            let mut alike: BTreeMap<Places, BTreeSet<Sent>> = BTreeMap::new();
            for (sent, places) in sents {
                alike.entry(places).or_default().insert(sent);
            }
            for (places, sents) in alike {
                let mut together: BTreeMap<Into, BTreeSet<sources::Who>> = BTreeMap::new();
                for (who, into) in places {
                    together.entry(into).or_default().insert(who);
                }
                for (into, who) in together {
                    merged.entry((who, into, sents.clone())).or_default().push(port);
                }
            }
        }
        for ((who, into, sent), ports) in merged {
            let from = found.sources.shown(&who);
            let row = Row {
                breadth: Breadth::of(&found.host, from.from.is_empty(), Kind::of(change)),
                host: found.host.clone(),
                ports: joined(ports.iter().filter_map(|port| found.ports.get(*port))),
                sent,
                tried_all: found.tried.len() > 3,
                from,
                into: into_shown(found, &into),
            };
            all.push((change, row));
        }
    }
    all
}

/// Only where it is not the same wherever the name resolves into.
fn into_shown(found: &Found, into: &BTreeSet<Option<usize>>) -> Vec<String> {
    if let HostClass::Resolving(net) = found.host {
        return vec![net.to_string()];
    }
    if into.contains(&None) {
        return Vec::new();
    }
    let places = into.iter().copied().flatten().collect();
    let (with, _) = found.into.shown(&places);
    with.iter().map(ToString::to_string).collect()
}

fn joined<'r>(ranges: impl Iterator<Item = &'r RangeInclusive<u16>>) -> Vec<RangeInclusive<u16>> {
    let mut all: Vec<RangeInclusive<u16>> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if last.end().checked_add(1) == Some(*range.start()) => *last = *last.start()..=*range.end(),
            _ => all.push(range.clone()),
        }
    }
    all
}

/// Leaves out what a wider row of the same group says already. Wider ranges stand before narrower ones.
fn fold(rows: &mut Vec<Row>) {
    let mut kept: Vec<Row> = Vec::with_capacity(rows.len());
    let mut ranges: BTreeMap<ipnet::IpNet, usize> = BTreeMap::new();
    let mut below: BTreeMap<HostName, Vec<usize>> = BTreeMap::new();
    for row in rows.drain(..) {
        let same = |wider: &Row| {
            (&wider.ports, &wider.sent, &wider.from, &wider.into) == (&row.ports, &row.sent, &row.from, &row.into)
        };
        if let HostClass::Range(net) = row.host {
            let mut around = std::iter::successors(net.supernet(), ipnet::IpNet::supernet);
            let wider = around
                .find_map(|net| ranges.get(&net))
                .and_then(|place| kept.get(*place));
            if wider.is_some_and(same) {
                continue;
            }
            ranges.insert(net, kept.len());
        }
        let wider = match &row.host {
            HostClass::Exact(name) => name.parents().find_map(|parent| below.get(parent)),
            HostClass::Below(suffix) => suffix.parents().find_map(|parent| below.get(parent)),
            HostClass::Label(label) => std::iter::once(label.suffix.as_str())
                .chain(label.suffix.parents())
                .find_map(|parent| below.get(parent)),
            HostClass::Range(_) | HostClass::Resolving(_) => None,
        };
        let wider = wider.and_then(|places| places.iter().find(|place| kept.get(**place).is_some_and(same)));
        if wider.is_some() {
            continue;
        }
        if let HostClass::Below(suffix) = &row.host {
            below.entry(suffix.clone()).or_default().push(kept.len());
        }
        kept.push(row);
    }
    *rows = kept;
}
