//! Warnings: what is valid and probably not meant. Each has a name, says why it matters, and can be accepted where it
//! stands; none stops anything. Must not repeat what is an error, nor warn of what a careful author would write: noise
//! hides the rest. Called by `load`, for files that were read without an error.

mod cover;
mod destination;
mod overlap;
mod suffix;
mod time;
mod who;

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use jiff::Timestamp;

use super::document::{Accept, AllowRule, Collection, DenyRule, Document, Notes, Opens};
use super::problem::lint::{Lint, Linted};
use super::problem::{At, Place, Problem, Problems};
use super::rule::{Effect, Position, SniCheck};

pub(crate) use suffix::{any_tenant, opened_suffix, shared_suffix};

/// Notes everything worth a look.
pub(super) fn check(document: &Document, now: Timestamp, problems: &mut Problems<'_>) {
    let rules = Rules::of(document);
    let mut noted = Noted {
        problems,
        used: HashSet::new(),
    };
    time::check(document, &rules, now, &mut noted);
    for (_, entry) in &rules.allow {
        check_rule(document, entry, &mut noted);
    }
    who::check(document, &rules, &mut noted);
    overlap::check(&rules, &mut noted);
    check_names(&rules, &mut noted);
    check_silence(document, &mut noted);
    check_accepted(document, &rules, &mut noted);
}

/// The rules of a document in the order in which they are asked, each with its rank there.
struct Rules<'d> {
    allow: Vec<(usize, &'d At<AllowRule>)>,
    deny: Vec<(usize, &'d At<DenyRule>)>,
    /// The rank of all of `allow`, behind that of every collection.
    last: usize,
}

impl<'d> Rules<'d> {
    /// The rank of all of `deny`: among them order means nothing.
    const DENY: usize = 0;

    fn of(document: &'d Document) -> Self {
        let (mut allow, mut rank) = (Vec::new(), Self::DENY);
        let mut deny: Vec<_> = document.deny.iter().map(|rule| (rank, rule)).collect();
        for collection in document.in_order() {
            rank += 1;
            allow.extend(collection.value.allow().iter().map(|rule| (rank, rule)));
            deny.extend(collection.value.deny().iter().map(|rule| (rank, rule)));
        }
        rank += 1;
        allow.extend(document.allow.iter().map(|rule| (rank, rule)));
        Self {
            allow,
            deny,
            last: rank,
        }
    }

    /// What rules say about themselves, where they say anything.
    fn notes(&self) -> impl Iterator<Item = &'d Notes> {
        let allow = self.allow.iter().filter_map(|(_, rule)| rule.value.notes.as_deref());
        let deny = self.deny.iter().filter_map(|(_, rule)| rule.value.notes.as_deref());
        allow.chain(deny)
    }
}

/// Where lints are noted, and which `accept` was needed.
struct Noted<'p, 't> {
    problems: &'p mut Problems<'t>,
    used: HashSet<Place>,
}

impl Noted<'_, '_> {
    /// Notes a lint, as accepted where that is what its bearer says.
    fn note(&mut self, lint: Lint, accept: &[At<Accept>], at: Place, message: impl Into<String>) -> &mut Problem {
        let accepted = accept.iter().find(|accept| accept.value.lint == lint);
        self.used.extend(accepted.map(|accept| accept.at));
        let problem = self.problems.warning(at, message);
        problem.lint = Some(Linted {
            lint,
            accepted: accepted.map(|accept| accept.value.reason.clone()),
        });
        problem
    }

    fn position(&self, at: Place) -> Position {
        self.problems.position(at)
    }
}

/// What a rule accepts.
fn accepts(notes: Option<&Notes>) -> &[At<Accept>] {
    notes.map_or(&[], |notes| &notes.accept)
}

fn check_rule(document: &Document, entry: &At<AllowRule>, noted: &mut Noted<'_, '_>) {
    let rule = &entry.value;
    let (accept, checks) = (accepts(rule.notes.as_deref()), rule.checks.as_deref());
    if let Opens::To(to) = &rule.opens {
        for to in to {
            destination::check(to, checks, accept, noted);
        }
    }
    if let Opens::Preset(name) = &rule.opens {
        destination::check_preset(document, name, checks, accept, noted);
    }
    let Some(checks) = checks else { return };
    for range in &checks.addresses {
        destination::check_addresses(range, accept, noted);
    }
    if checks.sni == SniCheck::Off {
        noted
            .note(
                Lint::SniOff,
                accept,
                entry.at,
                "`sni: off` looks at nothing in the tunnel",
            )
            .help("any protocol and any other host of that server pass; `sni: listed` still reads the name");
    }
}

/// Records name rules, and the collection of one that stands in such.
fn check_names(rules: &Rules<'_>, noted: &mut Noted<'_, '_>) {
    let mut first: HashMap<(usize, &str), Place, RandomState> = HashMap::default();
    let allow = rules.allow.iter().map(|(rank, rule)| (rank, &rule.value.notes));
    let deny = rules.deny.iter().map(|(rank, rule)| (rank, &rule.value.notes));
    for (rank, said) in allow.chain(deny) {
        let Some(said) = said else { continue };
        let Some(name) = &said.name else { continue };
        let collection = if *rank == rules.last { Rules::DENY } else { *rank };
        if let Some(twin) = first.insert((collection, &name.value), name.at) {
            let line = noted.position(twin);
            let message = format!("another rule is called `{}` too", name.value);
            noted
                .note(Lint::DuplicateName, &said.accept, name.at, message)
                .help(format!("records name rules; the other one stands at {line}"));
        }
    }
}

/// Nobody asks for a policy that lets nothing through without saying so.
fn check_silence(document: &Document, noted: &mut Noted<'_, '_>) {
    let opens = |collection: &At<Collection>| collection.value.action() == Effect::Allow;
    if !document.says_allow && !document.collections.iter().any(opens) {
        noted
            .note(
                Lint::NothingAllowed,
                &document.accept,
                Place::default(),
                "no file has `allow`: everything is denied",
            )
            .help("if that is meant, write `allow: []`")
            .span = None;
    }
}

/// What was accepted and is not there: the next one like it would pass unseen.
fn check_accepted(document: &Document, rules: &Rules<'_>, noted: &mut Noted<'_, '_>) {
    let of_rules = rules.notes().flat_map(|notes| &notes.accept);
    let of_workloads = document.workloads.iter().flat_map(|workload| &workload.value.accept);
    let unused = of_rules.chain(of_workloads).chain(&document.accept);
    let unused: Vec<_> = unused.filter(|accept| !noted.used.contains(&accept.at)).collect();
    for accept in unused {
        let message = format!("`{}` is accepted, and nothing here needs that", accept.value.lint);
        noted
            .note(Lint::UnusedAccept, &[], accept.at, message)
            .help("remove it: it would hide the next one without a word");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::problem::SourceText;
    use crate::policy::problem::lint::Bearer;
    use crate::policy::{Generation, load};

    /// The corpus shows what each looks like, and that each can be accepted.
    #[test]
    fn every_lint_is_noted_and_accepted_somewhere() {
        let (mut noted, mut accepted) = (HashSet::new(), HashSet::new());
        for text in CORPUS {
            let texts = [SourceText {
                name: "p.yaml".into(),
                text: (*text).into(),
            }];
            let loaded = load(&texts, "2026-11-20T12:00:00Z".parse().unwrap(), Generation(1), None).unwrap();
            let names = |problems: &[Problem]| -> Vec<_> {
                let named = problems.iter().map(|problem| problem.lint.clone().expect("a name"));
                named.map(|linted| (linted.lint, linted.accepted)).collect()
            };
            noted.extend(names(&loaded.warnings).into_iter().map(|(lint, reason)| {
                assert_eq!(reason, None);
                lint
            }));
            accepted.extend(names(&loaded.accepted).into_iter().map(|(lint, reason)| {
                assert!(reason.is_some());
                lint
            }));
        }
        for lint in Lint::ALL {
            assert!(noted.contains(&lint), "{lint} is never noted");
            let bearable: Option<Bearer> = lint.bearer();
            assert_eq!(accepted.contains(&lint), bearable.is_some(), "{lint}");
        }
    }

    const CORPUS: &[&str] = &[
        include_str!("../../tests/corpus/policy/valid/J11-the-past.yaml"),
        include_str!("../../tests/corpus/policy/valid/lints.yaml"),
        include_str!("../../tests/corpus/policy/valid/lints-accepted.yaml"),
        include_str!("../../tests/corpus/policy/valid/lints-accepted-file.yaml"),
        include_str!("../../tests/corpus/policy/valid/lints-azure.yaml"),
        include_str!("../../tests/corpus/policy/valid/lints-collections.yaml"),
        include_str!("../../tests/corpus/policy/valid/no-allow.yaml"),
    ];
}
