//! `check`: everything that a start would refuse, and what a person should look at, all in one go.
//! Must not judge by itself: it calls what `run` and every reload call, and prints what they say.
//! Called by [`super::main`].

use jiff::Timestamp;
use serde_json::json;

use crate::policy::problem::{self, Cause, Rejected};
use crate::policy::{Problem, SourceText};
use crate::source::{Compiled, PolicySource};

use super::Exit;
use super::args::{CheckArgs, Output};
use super::output::Terminal;

/// Checks settings and policy.
pub(super) fn check(args: &CheckArgs, terminal: &mut Terminal) -> Exit {
    let findings = match args.files.read_to_serve(Timestamp::now()) {
        Ok(given) if given.source == PolicySource::Builtin => {
            terminal.say(NOTHING);
            return Exit::Unusable;
        }
        Ok(given) => Findings::of_valid(given.compiled),
        Err(rejected) => Findings::of_rejected(rejected),
    };
    let exit = findings.exit(args.deny_warnings);
    match args.output {
        Output::Text => {
            terminal.say(&problem::render_each(
                &findings.problems,
                &findings.texts,
                terminal.colour,
            ));
            for row in &findings.not_carried {
                terminal.say(&format!(
                    "note: no proxy can carry this, the network must let it pass: {row}"
                ));
            }
            for tag in &findings.tags {
                terminal.say(&format!("note: {tag}"));
            }
            terminal.result(&findings.summary());
        }
        Output::Json => terminal.result(&findings.json(exit)),
    }
    exit
}

/// What was found in a set of files.
#[derive(Default)]
struct Findings {
    /// Why something was rejected, the settings or the policy.
    cause: Option<Cause>,
    problems: Vec<Problem>,
    /// Warnings that the files accept.
    accepted: Vec<Problem>,
    texts: Vec<SourceText>,
    rules: usize,
    /// What presets name and no proxy can carry.
    not_carried: Vec<String>,
    /// What FQDN tags stand for.
    tags: Vec<String>,
}

impl Findings {
    fn of_valid(compiled: Compiled) -> Self {
        Self {
            cause: None,
            rules: compiled.policy.rules().len(),
            problems: compiled.warnings,
            accepted: compiled.accepted,
            texts: compiled.texts,
            not_carried: compiled.not_carried,
            tags: compiled.tags,
        }
    }

    fn of_rejected(Rejected { cause, problems, texts }: Rejected) -> Self {
        Self {
            cause: Some(cause),
            problems,
            texts,
            ..Self::default()
        }
    }

    fn exit(&self, deny_warnings: bool) -> Exit {
        match self.cause {
            Some(cause) => cause.into(),
            None if deny_warnings && !self.problems.is_empty() => Exit::No,
            None => Exit::Yes,
        }
    }

    /// `2 errors, 1 warning in 3 files`, or `valid: 12 rules, 1 accepted in 1 file`.
    fn summary(&self) -> String {
        let mut parts = Vec::new();
        if self.cause.is_none() {
            parts.push(format!("valid: {}", counted(self.rules, "rule")));
        }
        if !self.problems.is_empty() {
            parts.push(problem::summary(&self.problems));
        }
        if !self.accepted.is_empty() {
            parts.push(format!("{} accepted", self.accepted.len()));
        }
        format!("{} in {}", parts.join(", "), counted(self.files().len(), "file"))
    }

    fn json(&self, exit: Exit) -> String {
        let report = json!({
            "valid": exit == Exit::Yes,
            "rules": self.rules,
            "files": self.files(),
            "not_carried": self.not_carried,
            "tags": self.tags,
            "problems": problem::json(&self.problems, &self.texts),
            "accepted": problem::json(&self.accepted, &self.texts),
        });
        format!("{report:#}")
    }

    /// Those that were read, and those that could not be.
    fn files(&self) -> Vec<&str> {
        let mut files: Vec<&str> = self.texts.iter().map(|text| &*text.name).collect();
        for problem in &self.problems {
            if !files.contains(&&*problem.file) {
                files.push(&problem.file);
            }
        }
        files
    }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

const NOTHING: &str = "there is no policy.yaml here, and neither --policy nor --config names one: nothing was checked";
