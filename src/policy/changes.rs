//! What differs between two policies: rules added, removed and altered; and which rules are the same ones.
//! Must not compare places: moving a line changes nothing.
//! Called by `load`, so that counters live on, and by whoever reports a reload.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::compiled::{Mode, Policy};
use super::rule::{Effect, Rule};

/// What a reload changed. Rules are told apart by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: Vec<Arc<str>>,
    pub removed: Vec<Arc<str>>,
    pub altered: Vec<Arc<str>>,
    /// Rules of collections that both have come in another order, so that another one may match first.
    pub reordered: bool,
    /// Set where the mode is another one.
    pub mode: Option<Mode>,
}

/// Compares two policies.
pub fn changes(old: &Policy, new: &Policy) -> Changes {
    let mut pairs = Pairs::of(old.rules());
    let mut added = Vec::new();
    let mut reordered = false;
    let mut last = None;
    for rule in new.rules() {
        match pairs.take(rule) {
            // Outside of collections order means nothing.
            Some(place) if rule.collection.is_some() => {
                reordered |= last > Some(place);
                last = Some(place);
            }
            Some(_) => {}
            None => added.push(rule),
        }
    }
    let removed = old.rules().iter().enumerate().filter(|(place, _)| !pairs.taken[*place]);
    let mut gone: HashMap<(Effect, &str), usize> = HashMap::new();
    let removed: Vec<_> = removed.map(|(_, rule)| rule).collect();
    for rule in &removed {
        *gone.entry((rule.effect, &rule.name)).or_default() += 1;
    }
    let mut changes = Changes {
        reordered,
        mode: (old.mode() != new.mode()).then_some(new.mode()),
        ..Changes::default()
    };
    for rule in added {
        // One that went and one that came under the same name are one that was altered.
        match gone.get_mut(&(rule.effect, &*rule.name)) {
            Some(count) if *count > 0 => {
                *count -= 1;
                changes.altered.push(Arc::clone(&rule.name));
            }
            _ => changes.added.push(Arc::clone(&rule.name)),
        }
    }
    for rule in removed {
        if let Some(count) = gone.get_mut(&(rule.effect, &*rule.name))
            && *count > 0
        {
            *count -= 1;
            changes.removed.push(Arc::clone(&rule.name));
        }
    }
    changes
}

/// Lets the rules that the last policy had as well go on counting where it stopped.
pub(super) fn keep_hits(rules: &mut [Rule], previous: &Policy) {
    let mut pairs = Pairs::of(previous.rules());
    for rule in rules {
        if let Some(same) = pairs.take(rule).and_then(|place| previous.rules().get(place)) {
            rule.hits = same.hits.clone();
        }
    }
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Changes {
    /// `2 rules added (a, b), 1 removed (c)`, or `no rule changed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("added", &self.added),
            ("removed", &self.removed),
            ("altered", &self.altered),
        ];
        let mut first = true;
        for (kind, names) in kinds.into_iter().filter(|(_, names)| !names.is_empty()) {
            let noun = match (first, names.len()) {
                (false, _) => "",
                (true, 1) => " rule",
                (true, _) => " rules",
            };
            let comma = if first { "" } else { ", " };
            let shown: Vec<_> = names.iter().take(SHOWN).map(|name| &**name).collect();
            write!(f, "{comma}{}{noun} {kind} ({}", names.len(), shown.join(", "))?;
            f.write_str(if names.len() > SHOWN { ", ...)" } else { ")" })?;
            first = false;
        }
        if first && !self.reordered {
            f.write_str("no rule changed")?;
        }
        if self.reordered {
            f.write_str(if first { "" } else { "; " })?;
            f.write_str("collections are judged in another order")?;
        }
        match self.mode {
            None => Ok(()),
            Some(Mode::Enforce) => f.write_str("; enforcing now"),
            Some(Mode::Report { until }) => write!(f, "; only reporting now, until {until}"),
        }
    }
}

/// Rules by what they say, each to be taken once.
struct Pairs<'r> {
    rules: &'r [Rule],
    state: RandomState,
    /// Of the rules with one hash the first that is not taken yet.
    first: HashMap<u64, usize, RandomState>,
    /// For each rule the next one with the same hash. No list for each hash: a hundred thousand would leave as many holes.
    next: Vec<Option<usize>>,
    taken: Vec<bool>,
}

impl<'r> Pairs<'r> {
    fn of(rules: &'r [Rule]) -> Self {
        let state = RandomState::default();
        let mut first = HashMap::with_capacity_and_hasher(rules.len(), RandomState::default());
        let mut next = vec![None; rules.len()];
        for ((place, rule), next) in rules.iter().enumerate().zip(&mut next).rev() {
            *next = first.insert(hash(&state, rule), place);
        }
        Self {
            rules,
            state,
            first,
            next,
            taken: vec![false; rules.len()],
        }
    }

    /// The place of the first rule not taken yet that says the same.
    fn take(&mut self, rule: &Rule) -> Option<usize> {
        let Entry::Occupied(mut first) = self.first.entry(hash(&self.state, rule)) else {
            return None;
        };
        let place = match self.next.get(*first.get()).copied().flatten() {
            Some(next) => first.insert(next),
            None => first.remove(),
        };
        self.rules.get(place).filter(|same| says(same) == says(rule))?;
        *self.taken.get_mut(place)? = true;
        Some(place)
    }
}

fn hash(state: &RandomState, rule: &Rule) -> u64 {
    state.hash_one(says(rule))
}

/// Everything that a rule says; not where, and not how often it was asked.
pub(super) fn says(rule: &Rule) -> impl Hash + PartialEq + '_ {
    let Rule {
        name,
        effect,
        collection,
        at: _,
        from,
        to,
        until,
        owner,
        why,
        addresses,
        sni,
        no_sni,
        ech_outer,
        report,
        hits: _,
    } = rule;
    (
        (name, effect, collection, from, to, until),
        (owner, why, addresses, sni),
        (no_sni, ech_outer, report),
    )
}

/// Of each kind, in a line of a log.
const SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture::{allow, deny, load, policy};

    #[test]
    fn added_removed_altered() {
        let rule = |name: &str, to: &str| Rule {
            name: name.into(),
            ..allow(&[to])
        };
        let old = policy(vec![
            rule("a", "a.test"),
            rule("b", "b.test"),
            allow(&["c.test"]),
            deny(&["d.test"]),
        ]);
        let new = policy(vec![
            allow(&["c.test"]),
            rule("b", "other.test"),
            allow(&["e.test"]),
            rule("d.test", "d.test"),
        ]);
        let found = changes(&old, &new);
        let names = |names: &[Arc<str>]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&found.added), ["e.test", "d.test"]);
        assert_eq!(names(&found.removed), ["a", "d.test"]);
        assert_eq!(names(&found.altered), ["b"]);
        assert_eq!(
            found.to_string(),
            "2 rules added (e.test, d.test), 2 removed (a, d.test), 1 altered (b)"
        );
        assert_eq!(changes(&new, &new).to_string(), "no rule changed");
    }

    /// The priority of a group stands in no rule.
    #[test]
    fn another_order_of_collections_is_a_change() {
        let text = |group: u16, more: &str| {
            format!(
                "groups: {{A: {{priority: {group}}}, B: {{priority: 300}}}}
collections:
  - {{name: a, group: A, priority: 100, action: allow, rules: [a.test, b.test]}}
  - {{name: b, group: B, priority: 100, action: deny, rules: [a.test]}}
allow: [{more}]
"
            )
        };
        let load = |group, more| load(&text(group, more));
        let said = |old: &Policy, new: &Policy| changes(old, new).to_string();
        let (before, after) = (load(200, "c.test, d.test"), load(400, "d.test, c.test"));
        assert_eq!(said(&before, &load(250, "d.test, c.test")), "no rule changed");
        assert_eq!(said(&before, &after), "collections are judged in another order");
        assert_eq!(
            said(&before, &load(400, "c.test")),
            "1 rule removed (d.test); collections are judged in another order"
        );
        assert!(!changes(&before, &after).is_empty());
    }

    #[test]
    fn the_same_rule_goes_on_counting() {
        let mut moved = allow(&["a.test"]);
        moved.at.line = 99;
        let other = Rule {
            report: true,
            ..allow(&["b.test"])
        };
        let previous = policy(vec![allow(&["a.test"]), allow(&["b.test"])]);
        previous.rules()[0].hits.record(jiff::Timestamp::UNIX_EPOCH);
        previous.rules()[1].hits.record(jiff::Timestamp::UNIX_EPOCH);
        let mut rules = [moved, other];
        keep_hits(&mut rules, &previous);
        assert_eq!(rules.each_ref().map(|rule| rule.hits.count()), [1, 0]);
    }
}
