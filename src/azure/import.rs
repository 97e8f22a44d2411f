//! From Azure Firewall rules to a policy file, and a report of everything that is not exactly the same.
//! Must not drop, widen or narrow anything without a finding, and writes nothing that does not load again as it was meant.
//! Called by the command `import`, and by whoever compares policies with production's rules.

mod application;
mod draft;
mod host;
mod implied;
mod mapping;
mod network;
mod order;
mod overview;
mod ranges;
mod sources;
mod verify;

use jiff::Timestamp;

use super::input::{self, Texts};
use super::model::{Action, Collection, CollectionKind, Firewall, Rule, Target};
use super::report::{Fate, Finding, Kind, Place, Report};
use super::service_tags::ServiceTags;
use crate::policy::SourceText;
use crate::policy::document::Document;
use draft::{Draft, DraftCollection, DraftRule, Entry};
use implied::is_implied;
use sources::Mapped;

pub use mapping::Mapping;

/// What is decided by who imports, beside the rules.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub sources: Vec<Mapping>,
    pub accept: Vec<Kind>,
    /// Files whose workloads and cluster are referred to, and not written again.
    pub policy: Vec<SourceText>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Imported {
    pub report: Report,
    /// The policy file; nothing, if the report refuses it.
    pub policy: Option<String>,
}

/// Imports. Files are judged together; the result is one file.
pub fn import(texts: Texts<'_>, options: &Options, now: Timestamp) -> Imported {
    let mut report = Report::accepting(options.accept.iter().copied());
    let firewall = input::read(texts, &mut report);
    let tags = texts.service_tags.and_then(|text| ServiceTags::read(text, &mut report));
    let known = existing(&options.policy, &mut report);
    let mut import = Import {
        sources: Mapped::new(&options.sources, &firewall, &known),
        firewall: &firewall,
        known: &known,
        tags: (tags, texts.service_tags.is_some()),
        report,
        allows_elsewhere: known.all_allow().next().is_some(),
    };
    let draft = import.draft();
    let Import {
        mut report, sources, ..
    } = import;
    let draft = sources.finish(draft, &mut report);
    if !report.has_errors() && draft.rules() == 0 {
        report
            .note(
                Kind::NoRules,
                &Place::default(),
                "there is no rule that could be carried over",
            )
            .help("nothing would be allowed: check that these are the rules that were meant");
    }
    let text = draft.text(texts);
    if !report.has_errors() {
        verify::verify(&draft, &text, &options.policy, now, &mut report);
    }
    report.carried = draft.counts();
    let policy = (!report.is_refused()).then_some(text);
    Imported { report, policy }
}

/// The files that exist already, as far as they can be read.
fn existing(texts: &[SourceText], report: &mut Report) -> Document {
    if texts.is_empty() {
        return Document::default();
    }
    match Document::read(texts) {
        Ok(document) => document,
        Err(problems) => {
            for problem in problems {
                if problem.severity == crate::policy::Severity::Error {
                    verify::note(&problem, texts, report);
                }
            }
            Document::default()
        }
    }
}

/// One import.
struct Import<'f> {
    firewall: &'f Firewall,
    /// What the files that exist say.
    known: &'f Document,
    sources: Mapped<'f>,
    /// And whether they were given at all, readable or not.
    tags: (Option<ServiceTags>, bool),
    report: Report,
    /// Whether files that exist allow anything behind the collections.
    allows_elsewhere: bool,
}

impl Import<'_> {
    fn draft(&mut self) -> Draft {
        let mut draft = order::draft(self.firewall, &mut self.report);
        let ordered = order::ordered(self.firewall);
        overview::note(&ordered, &mut self.report);
        for (index, (group, collection)) in ordered.iter().enumerate() {
            if collection.kind == CollectionKind::Nat {
                self.report
                    .note(
                        Kind::Nat,
                        &collection.at,
                        "a NAT collection is about inbound connections",
                    )
                    .outcome("not carried over");
                continue;
            }
            let mut entries = Vec::new();
            for (at, rule) in collection.rules.iter().enumerate() {
                let behind = order::allows_behind(&ordered, index, at) || self.allows_elsewhere;
                let entry = self.rule(rule, collection, behind);
                let fate = match &entry {
                    Some(Entry::Rule(drafted)) if drafted.remarks.is_empty() => Fate::Exact,
                    Some(Entry::Rule(_)) => Fate::Changed,
                    Some(Entry::Left(_)) | None => Fate::NotCarried,
                };
                self.report.rules.push((rule.at.clone(), fate));
                entries.extend(entry);
            }
            let group = group.name.as_deref().map(|name| draft.group_name(name, group.parent));
            draft.collections.push(DraftCollection {
                name: collection.name.clone(),
                group,
                kind: collection.kind,
                priority: collection.priority,
                action: collection.action,
                entries,
            });
        }
        overview::shadows(&draft, &ordered, &mut self.report);
        draft
    }

    fn rule(&mut self, rule: &Rule, collection: &Collection, allows_behind: bool) -> Option<Entry> {
        // What could not be read is not judged as if it were absent.
        if self.report.has_errors_at(&rule.at) {
            return None;
        }
        if is_implied(rule, collection.action, self.known, self.firewall) {
            self.report
                .note(Kind::Implied, &rule.at, "the rule denies the API server to pods")
                .outcome("left out: `cluster.api_server` says so by itself");
            let name = rule.name.as_deref().unwrap_or("a rule without a name");
            return Some(Entry::Left(format!("{name}: `cluster.api_server` says so by itself")));
        }
        let mut lossy = Lossy {
            report: &mut self.report,
            action: collection.action,
            remarks: Vec::new(),
        };
        let from = self.sources.of(rule, &mut lossy);
        let opens = match &rule.target {
            Target::Application(target) => application::opens(target, rule, allows_behind, &mut lossy),
            Target::Network(target) => network::opens(target, rule, self.firewall, &self.tags, &mut lossy),
            Target::Nat => None,
        };
        let remarks = lossy.remarks;
        draft::check_line(rule.name.as_deref(), "the name of the rule", &rule.at, &mut self.report);
        let name = rule.name.clone();
        if let (Some(from), Some(opens)) = (from, opens) {
            return Some(Entry::Rule(DraftRule {
                name,
                description: rule.description.clone(),
                remarks,
                from,
                opens,
                at: rule.at.clone(),
            }));
        }
        let why = remarks.last()?;
        let name = name.unwrap_or_else(|| "a rule without a name".to_owned());
        Some(Entry::Left(format!("{name}: {why}")))
    }
}

/// Notes what is not the same, by what it does to a rule of this action.
struct Lossy<'r> {
    report: &'r mut Report,
    action: Action,
    /// For comments at the rule.
    remarks: Vec<String>,
}

impl Lossy<'_> {
    /// A part of the rule is gone. Of a deny rule that may open something, and so has a kind of its own.
    fn lost(&mut self, kind: Kind, at: &Place, message: String, outcome: &str) -> &mut Finding {
        let kind = if self.action == Action::Deny {
            Kind::DenyLost
        } else {
            kind
        };
        self.changed(kind, at, message, outcome)
    }

    /// The rule means something else here.
    fn changed(&mut self, kind: Kind, at: &Place, message: String, outcome: &str) -> &mut Finding {
        let remark = if outcome.is_empty() {
            message.clone()
        } else {
            format!("{message}: {outcome}")
        };
        // Once for all names of a rule is enough at the rule; the report has each.
        if kind != Kind::NetworkFqdn || self.remarks.iter().all(|other| !other.ends_with(outcome)) {
            self.remarks.push(remark);
        }
        self.report.note(kind, at, message).outcome(outcome)
    }
}

#[cfg(test)]
mod tests;
