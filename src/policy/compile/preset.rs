//! Rules that name a preset or a tag: one rule for each row that is opened, with the facts that it needs.
//! Must not open anything in the place of a row that cannot be filled; each missing fact is one problem.
//! Called by the compiler.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::{Compiler, rule};
use crate::policy::document::{Checks, Choice, Notes, Text};
use crate::policy::presets::{Facts, MissingFact, Preset, Row, Unfilled, fqdn_tag};
use crate::policy::problem::{At, Place};
use crate::policy::rule::{Effect, From, HostMatch};
use crate::policy::yaml::typed::{listed, nearest};

impl Compiler<'_, '_> {
    pub(super) fn tag(&mut self, tag: &At<Text>, entry: Place, from: &From, notes: &Notes, checks: &Checks) {
        match fqdn_tag(&tag.value) {
            Ok(presets) => {
                for preset in presets {
                    let preset = At {
                        value: Text::from(*preset),
                        at: tag.at,
                    };
                    self.preset(&tag.value, &preset, entry, from, notes, checks);
                }
                self.note_tag(tag, presets);
            }
            Err(bad) => {
                self.problems.error(tag.at, bad.why).help(bad.help);
            }
        }
    }

    /// Nobody publishes what a tag holds, so what it stands for here must be said.
    fn note_tag(&mut self, tag: &At<Text>, presets: &[&str]) {
        let cloud = self.cluster.cloud.map_or_else(Default::default, |cloud| cloud.value);
        let rows = |name: &&str| {
            let preset = self.presets.preset(name)?;
            let opened = preset
                .rows_for(cloud)
                .filter(|row| row.is_opened_unasked() && row.to.is_some());
            let ids: Vec<_> = opened.map(|row| &*row.id).collect();
            Some(format!("{name} ({})", ids.join(", ")))
        };
        let parts: Vec<_> = presets.iter().filter_map(rows).collect();
        let line = format!("`{}` stands for {}", tag.value, parts.join(" and "));
        if !self.tags.contains(&line) {
            self.tags.push(line);
        }
    }

    /// `label` is what its rules are called by: the preset, or the tag that it stands for.
    pub(super) fn preset(
        &mut self,
        label: &str,
        name: &At<Text>,
        entry: Place,
        from: &From,
        notes: &Notes,
        checks: &Checks,
    ) {
        let Some(preset) = self.presets.preset(&name.value) else {
            // It may be what could not be read.
            if self.problems.is_cut_short() {
                return;
            }
            let help = self.presets.help_for(&name.value);
            let message = format!("there is no preset `{}`", name.value);
            self.problems.error(name.at, message).help(help);
            return;
        };
        let choice = checks.rows.clone().unwrap_or_default();
        let cloud = self.cluster.cloud.map_or_else(Default::default, |cloud| cloud.value);
        let is_understood = self.check_choice(&preset, name, &choice) && !choice.in_doubt;
        if preset.rows_for(cloud).next().is_none() && preset.is_readable() && !self.facts_in_doubt {
            let message = format!("`{}` has no rows for the cloud `{}`", name.value, cloud.as_str());
            self.problems.error(name.at, message).help(format!(
                "remove the rule, and write what {} lists for that cloud as rules of your own",
                preset.source
            ));
        }
        let is_chosen = |row: &&Row| row.to.is_some() && choice.opens(row);
        if preset.rows_for(cloud).next().is_some() && !preset.rows_for(cloud).any(|row| is_chosen(&row)) {
            let carried = preset.rows_for(cloud).find(|row| row.to.is_some());
            let help = match carried.map(|row| &*row.id) {
                Some(_) if !choice.without.is_empty() => "remove the rule, or keep one of its rows".to_owned(),
                Some(id) => format!(
                    "name the rows that are needed, such as `also: [{id}]`; `sluicegate presets show {}` lists them",
                    name.value
                ),
                None => "remove the rule: its rows are for the network around the cluster".to_owned(),
            };
            let message = format!("this opens no row of `{}`", name.value);
            self.problems.error(name.at, message).help(help);
        }
        let with = choice.with();
        let mut missing = HashSet::new();
        for row in preset.rows_for(cloud).filter(|row| choice.opens(row)) {
            let facts = Facts {
                cluster: &self.cluster,
                with: &with,
            };
            match row.expand(&facts) {
                Some(Ok(expanded)) => {
                    if self.collection.is_some() && matches!(expanded.to.host, HostMatch::Cidr(_)) {
                        let message = format!("the row `{}` of `{}` is an address", row.id, name.value);
                        self.problems
                            .error(name.at, message)
                            .label("an application collection speaks of names")
                            .help("name the preset in `allow`, or leave out that row");
                    }
                    let at = self.problems.position(entry);
                    let mut notes = notes.clone();
                    notes.reason.get_or_insert_with(|| Arc::from(&*row.purpose));
                    let mut rule = rule(
                        Effect::Allow,
                        format!("{label}: {}", row.id).into(),
                        at,
                        from.clone(),
                        expanded.to.into(),
                        notes,
                        checks.clone(),
                    );
                    rule.addresses = expanded.addresses.into();
                    self.add(rule);
                }
                Some(Err(Unfilled::Missing(fact))) if fact.with => {
                    if is_understood && missing.insert(fact.key.clone()) {
                        self.refuse_missing_with(name, row, &fact);
                    }
                }
                Some(Err(Unfilled::Missing(_))) if self.facts_in_doubt => {}
                Some(Err(Unfilled::Missing(fact))) => {
                    if self.missing.insert(fact.key.clone()) {
                        let help = self.add_fact(&fact);
                        let message = format!("`{}` needs `cluster.{}`", name.value, fact.key);
                        self.problems
                            .error(name.at, message)
                            .label(format!("its row `{}`: {}", row.id, row.purpose))
                            .help(help);
                    }
                }
                Some(Err(Unfilled::Bad(bad))) => {
                    let message = format!("the row `{}` of `{}` cannot be filled: {}", row.id, name.value, bad.why);
                    self.problems.error(name.at, message).help(bad.help);
                }
                None => self.not_carried.extend(not_carried(&preset, row, &facts)),
            }
        }
    }

    /// Whether `with`, `without` and `also` speak of what the preset has.
    fn check_choice(&mut self, preset: &Preset, name: &At<Text>, choice: &Choice) -> bool {
        if !preset.is_readable() {
            return false;
        }
        let errors = self.problems.errors();
        let needed: BTreeSet<_> = preset.rows.iter().flat_map(Row::needs_with).collect();
        let needed: Vec<_> = needed.into_iter().collect();
        for (key, _) in &choice.with {
            if needed.contains(&&*key.value) {
                continue;
            }
            let help = if needed.is_empty() {
                "remove `with`: its rows need no more than the facts in `cluster`".to_owned()
            } else {
                match nearest(&key.value, &needed) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its rows need {}", listed(&needed).replace(" or ", " and ")),
                }
            };
            let message = format!("no row of `{}` needs `{}`", name.value, key.value);
            self.problems.error(key.at, message).help(help);
        }
        let ids: Vec<_> = preset.rows.iter().map(|row| &*row.id).collect();
        for id in choice.without.iter().chain(&choice.also) {
            if ids.contains(&&*id.value) {
                continue;
            }
            let help = match nearest(&id.value, &ids) {
                Some(near) => format!("did you mean `{near}`?"),
                None if ids.len() > FEW => format!("`sluicegate presets show {}` lists its rows", name.value),
                None => format!("its rows are {}", listed(&ids).replace(" or ", " and ")),
            };
            let message = format!("`{}` has no row `{}`", name.value, id.value);
            self.problems.error(id.at, message).help(help);
        }
        self.problems.errors() == errors
    }

    fn refuse_missing_with(&mut self, name: &At<Text>, row: &Row, fact: &MissingFact) {
        let MissingFact {
            key, example, source, ..
        } = fact;
        let message = format!("`{}` needs `{key}`", name.value);
        self.problems
            .error(name.at, message)
            .label(format!("its row `{}`: {}", row.id, row.purpose))
            .help(format!(
                "add `with: {{{key}: {example}}}` to the rule ({source}), or leave the row out with `without: [{}]`",
                row.id
            ));
    }

    /// What to add where, as a second `cluster` would be refused.
    fn add_fact(&self, missing: &MissingFact) -> String {
        let MissingFact {
            key, example, source, ..
        } = missing;
        match self.cluster_at {
            None => format!("add `cluster: {{{key}: {example}}}`; {source}"),
            Some(at) => {
                let at = self.problems.position(at);
                format!("add `{key}: {example}` to `cluster` ({at}); {source}")
            }
        }
    }
}

fn not_carried(preset: &Preset, row: &Row, facts: &Facts<'_>) -> Option<String> {
    let network = row.network_for(facts)?;
    let when = row.when.as_ref().map_or_else(String::new, |when| format!(" ({when})"));
    Some(format!("{}: {}: {network}{when}", preset.name, row.id))
}

/// As many names as a line of help can hold.
const FEW: usize = 8;
