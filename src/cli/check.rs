//! `check`: everything that a start would refuse, and what a person should look at, all in one go.
//! Must not judge by itself: it calls what `run` and every reload call, and prints what they say.
//! Called by [`super::main`].

use jiff::Timestamp;
use serde::Serialize;

use crate::policy::{Problem, Severity, SourceText};
use crate::source::{Cause, Compiled, PolicySource, Rejected, render};

use super::Exit;
use super::args::{CheckArgs, FileArgs, Output};
use super::output::Terminal;

/// Checks settings and policy.
pub(super) fn check(args: &CheckArgs, terminal: &mut Terminal) -> Exit {
    let Some(findings) = Findings::of(&args.files) else {
        terminal.say(NOTHING);
        return Exit::Unusable;
    };
    let exit = findings.exit(args.deny_warnings);
    match args.output {
        Output::Text => {
            terminal.say(&render(&findings.problems, &findings.texts));
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
    causes: Vec<Cause>,
    problems: Vec<Problem>,
    texts: Vec<SourceText>,
    rules: usize,
}

impl Findings {
    /// `None` where no policy file is named or there.
    fn of(files: &FileArgs) -> Option<Self> {
        let mut findings = Self::default();
        let source = match files.read() {
            Ok(given) => given.source,
            // Without settings only the command line says where the policy is.
            Err(rejected) => {
                findings.reject(rejected);
                if files.policy.is_empty() {
                    return Some(findings);
                }
                PolicySource::Files(files.policy.as_slice().into())
            }
        };
        if source == PolicySource::Builtin {
            return None;
        }
        match source.compile(Timestamp::now()) {
            Ok(Compiled {
                policy,
                warnings,
                texts,
            }) => {
                findings.rules = policy.rules().len();
                findings.problems.extend(warnings);
                findings.texts.extend(texts);
            }
            Err(rejected) => findings.reject(rejected),
        }
        Some(findings)
    }

    fn reject(&mut self, Rejected { cause, problems, texts }: Rejected) {
        self.causes.push(cause);
        self.problems.extend(problems);
        self.texts.extend(texts);
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems
            .iter()
            .filter(|problem| problem.severity == severity)
            .count()
    }

    fn exit(&self, deny_warnings: bool) -> Exit {
        if self.causes.contains(&Cause::Unreadable) {
            Exit::Unusable
        } else if !self.causes.is_empty() || (deny_warnings && !self.problems.is_empty()) {
            Exit::No
        } else {
            Exit::Yes
        }
    }

    /// `2 errors, 1 warning in 3 files`, or `valid: 12 rules in 1 file`.
    fn summary(&self) -> String {
        let mut parts = Vec::new();
        if self.causes.is_empty() {
            parts.push(format!("valid: {}", counted(self.rules, "rule")));
        }
        for (severity, noun) in [(Severity::Error, "error"), (Severity::Warning, "warning")] {
            match self.count(severity) {
                0 => {}
                count => parts.push(counted(count, noun)),
            }
        }
        format!("{} in {}", parts.join(", "), counted(self.files().len(), "file"))
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

    fn json(&self, exit: Exit) -> String {
        let report = Report {
            valid: exit == Exit::Yes,
            errors: self.count(Severity::Error),
            warnings: self.count(Severity::Warning),
            rules: self.rules,
            files: self.files(),
            problems: self
                .problems
                .iter()
                .map(|problem| Entry::of(problem, &self.texts))
                .collect(),
        };
        // Strings and numbers always serialize.
        serde_json::to_string_pretty(&report).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Report<'a> {
    valid: bool,
    errors: usize,
    warnings: usize,
    rules: usize,
    files: Vec<&'a str>,
    problems: Vec<Entry<'a>>,
}

/// A problem for machines. Line and column count from 1, columns in characters; absent where the whole file is meant.
#[derive(Serialize)]
struct Entry<'a> {
    severity: &'static str,
    file: &'a str,
    line: Option<usize>,
    column: Option<usize>,
    message: &'a str,
    label: &'a str,
    help: Option<&'a str>,
}

impl<'a> Entry<'a> {
    fn of(problem: &'a Problem, texts: &[SourceText]) -> Self {
        let text = texts.iter().find(|text| text.name == problem.file);
        let start = text
            .zip(problem.span)
            .and_then(|(text, span)| text.text.get(..span.start));
        Self {
            severity: match problem.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            file: &problem.file,
            line: start.map(|before| before.matches('\n').count() + 1),
            column: start.map(|before| before.chars().rev().take_while(|letter| *letter != '\n').count() + 1),
            message: &problem.message,
            label: &problem.label,
            help: problem.help.as_deref(),
        }
    }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

const NOTHING: &str = "there is no policy.yaml here, and neither --policy nor --config names one: nothing was checked";
