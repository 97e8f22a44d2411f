//! Whether the text that was made loads, and says what was meant: the last look before it is handed out.
//! Must not repair anything; what does not come back as it was meant is an error of ours.
//! Called by import.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::draft::{Draft, DraftCollection, DraftRule, Opens, Who};
use crate::azure::model::{Action, CollectionKind};
use crate::azure::report::{Kind, Place, Report};
use crate::policy::document::collection::{Collection, CollectionRules};
use crate::policy::document::rule::{AllowRule, DenyRule, Notes};
use crate::policy::document::{Document, Opens as Written};
use crate::policy::problem::{At, Lines};
use crate::policy::rule::{CollectionKind as Kinds, Destination, Peer};
use crate::policy::{Generation, Problem, Severity, SourceText, load};

/// Loads the text with the files that exist already.
pub(super) fn verify(draft: &Draft, text: &str, policy: &[SourceText], now: Timestamp, report: &mut Report) {
    let own = SourceText {
        name: "the imported policy".into(),
        text: text.into(),
    };
    let mut texts = policy.to_vec();
    texts.push(own);
    let mut loaded = load(&texts, now, Generation(1), None);
    if loaded.is_err() && draft.has_tags() && !says_cluster(policy) {
        // Lists of endpoints need facts that only the cluster's own file says.
        texts.push(SourceText {
            name: "stand-in".into(),
            text: CLUSTER.into(),
        });
        loaded = load(&texts, now, Generation(1), None);
        if loaded.is_ok() {
            report
                .note(
                    Kind::ClusterFacts,
                    &Place::default(),
                    "an FQDN tag needs `cluster`: region and API server",
                )
                .outcome("the policy cannot run without them")
                .help("give the file that says them, `--policy FILE`; `sluicegate init --from-aks` writes one");
        }
    }
    if let Err(problems) = loaded {
        for problem in problems.iter().filter(|problem| problem.severity == Severity::Error) {
            note(problem, &texts, report);
        }
    } else if !Document::read(&texts).is_ok_and(|document| says(&document, draft, policy.len())) {
        report
            .note(
                Kind::BadPolicy,
                &Place::default(),
                "the policy that was made does not say what was meant",
            )
            .help("this is a mistake of sluicegate itself: please report it, with the rules if possible");
    }
}

/// A problem of a policy as a finding.
pub(super) fn note(problem: &Problem, texts: &[SourceText], report: &mut Report) {
    let text = texts
        .iter()
        .find(|text| text.name == problem.file)
        .map_or("", |text| &*text.text);
    let line = problem
        .span
        .map(|span| Lines::of(text).line(u32::try_from(span.start).unwrap_or(0)));
    let file = match line {
        Some(line) => format!("{}:{line}", problem.file),
        None => problem.file.to_string(),
    };
    let place = Place::of_file(&file.into());
    let finding = report.note(Kind::BadPolicy, &place, problem.message.clone());
    if let Some(help) = &problem.help {
        finding.help(help.clone());
    }
}

impl Draft {
    fn has_tags(&self) -> bool {
        let mut rules = self.collections.iter().flat_map(DraftCollection::rules);
        rules.any(|rule| matches!(rule.opens, Opens::Tags(_)))
    }
}

fn says_cluster(policy: &[SourceText]) -> bool {
    Document::read(policy).is_ok_and(|document| document.cluster.is_some())
}

/// Whether the document's collections from one file are those of the draft.
fn says(document: &Document, draft: &Draft, file: usize) -> bool {
    let own = |collection: &&At<Collection>| collection.at.file as usize == file;
    let read: Vec<_> = document
        .collections
        .iter()
        .filter(own)
        .map(|collection| &collection.value)
        .collect();
    let drafted: Vec<_> = draft
        .collections
        .iter()
        .filter(|collection| collection.rules().next().is_some())
        .collect();
    let groups = draft.groups.iter().all(|group| {
        let used = drafted
            .iter()
            .any(|collection| collection.group.as_deref() == Some(&group.shown));
        let read = document.group(&group.shown).map(|read| &read.value);
        !used
            || read.is_some_and(|read| {
                read.parent == group.parent && read.priority.as_ref().map(|at| at.value) == group.priority
            })
    });
    groups
        && read.len() == drafted.len()
        && read
            .iter()
            .zip(drafted)
            .all(|(read, drafted)| same_collection(read, drafted))
}

fn same_collection(read: &Collection, drafted: &DraftCollection) -> bool {
    let kind = match read.kind {
        Kinds::Network => CollectionKind::Network,
        Kinds::Application => CollectionKind::Application,
    };
    let head = *read.name.value == *drafted.name
        && read.group.as_ref().map(|group| &*group.value) == drafted.group.as_deref()
        && kind == drafted.kind
        && read.priority.value == drafted.priority;
    let rules = drafted.rules();
    head && match &read.rules {
        CollectionRules::Allow(all) => {
            drafted.action == Action::Allow
                && all.len() == drafted.rules().count()
                && all
                    .iter()
                    .zip(rules)
                    .all(|(read, drafted)| same_allow(&read.value, drafted))
        }
        CollectionRules::Deny(all) => {
            drafted.action == Action::Deny
                && all.len() == drafted.rules().count()
                && all
                    .iter()
                    .zip(rules)
                    .all(|(read, drafted)| same_deny(&read.value, drafted))
        }
    }
}

fn same_allow(read: &AllowRule, drafted: &DraftRule) -> bool {
    let opens = match (&read.opens, &drafted.opens) {
        (Written::To(read), Opens::To(drafted)) => same_to(read, drafted),
        (Written::Tags(read), Opens::Tags(drafted)) => read
            .iter()
            .map(|tag| &*tag.value)
            .eq(drafted.iter().map(String::as_str)),
        _ => false,
    };
    opens
        && read.checks.is_none()
        && same_who(read.from.as_deref(), &drafted.from)
        && same_name(read.notes.as_deref(), drafted)
}

fn same_deny(read: &DenyRule, drafted: &DraftRule) -> bool {
    let Opens::To(to) = &drafted.opens else { return false };
    same_to(&read.to, to) && same_who(read.from.as_deref(), &drafted.from) && same_name(read.notes.as_deref(), drafted)
}

fn same_to(read: &[At<Destination>], drafted: &[Destination]) -> bool {
    read.iter().map(|to| &to.value).eq(drafted)
}

fn same_name(read: Option<&Notes>, drafted: &DraftRule) -> bool {
    let name = read.and_then(|notes| notes.name.as_ref()).map(|name| &*name.value);
    name == drafted.name.as_deref() && read.is_none_or(|notes| notes.until.is_none() && notes.owner.is_none())
}

fn same_who(read: Option<&[At<Peer>]>, drafted: &Who) -> bool {
    match (read, drafted) {
        (None, Who::Everyone) => true,
        (Some(read), Who::Workloads(drafted)) => {
            let read: Option<BTreeSet<&str>> = read
                .iter()
                .map(|peer| match &peer.value {
                    Peer::Workload(name) => Some(&**name),
                    Peer::Cidr(_) => None,
                })
                .collect();
            read.is_some_and(|read| read == drafted.iter().map(String::as_str).collect())
        }
        _ => false,
    }
}

const CLUSTER: &str =
    "cluster:\n  cloud: public\n  region: westeurope\n  api_server: stand-in.hcp.westeurope.azmk8s.io\n";
