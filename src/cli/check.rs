//! `check`: everything that a start would refuse, and what a person should look at, all in one go.
//! Must not judge by itself: it calls what `run` and every reload call, and prints what they say.
//! Called by [`super::main`].

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::json;

use crate::app;
use crate::policy::problem::{Cause, Rejected};
use crate::policy::{Policy, Problem, Severity, SourceText, problem};
use crate::proxy::tls::Certificates;
use crate::settings::{Mode, Settings};
use crate::source::PolicySource;

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
    /// What presets name and no proxy can carry.
    not_carried: Vec<String>,
}

impl Findings {
    /// `None` where no policy file is named or there.
    fn of(files: &FileArgs) -> Option<Self> {
        let mut findings = Self::default();
        let (source, settings) = match files.read() {
            Ok(given) => (given.source, Some(given.settings)),
            // Without settings only the command line says where the policy is.
            Err(rejected) => {
                findings.reject(rejected);
                if files.policy.is_empty() {
                    return Some(findings);
                }
                (PolicySource::Files(files.policy.as_slice().into()), None)
            }
        };
        if source == PolicySource::Builtin {
            return None;
        }
        let compiled = source.compile(Timestamp::now());
        if let Some(settings) = &settings {
            findings.fit(settings, compiled.as_ref().ok().map(|compiled| &compiled.policy));
        }
        match compiled {
            Ok(compiled) => {
                findings.rules = compiled.policy.rules().len();
                findings.problems.extend(compiled.warnings);
                findings.texts.extend(compiled.texts);
                findings.not_carried = compiled.not_carried;
            }
            Err(rejected) => findings.reject(rejected),
        }
        Some(findings)
    }

    /// What neither the settings nor the policy can know alone, as far as it shows without binding a socket.
    fn fit(&mut self, settings: &Settings, policy: Option<&Policy>) {
        let listeners = settings.listeners.iter();
        let binds = listeners
            .map(|listener| listener.bind)
            .chain([settings.admin, settings.health]);
        let fixed: HashSet<u16> = binds.map(|bind| bind.port()).collect();
        let mut problems = policy.map(|policy| app::taken(policy, &fixed)).unwrap_or_default();
        for listener in &settings.listeners {
            let Mode::Explicit { tls: Some(tls) } = &listener.mode else {
                continue;
            };
            if let Err(bad) = Certificates::load(tls) {
                problems.push(Problem {
                    severity: Severity::Error,
                    file: tls.cert.display().to_string().into(),
                    span: None,
                    message: format!("listener `{}`: {bad}", listener.name),
                    label: String::new(),
                    help: None,
                });
            }
        }
        if !problems.is_empty() {
            self.causes.push(Cause::Unfit);
            self.problems.extend(problems);
        }
    }

    fn reject(&mut self, Rejected { cause, problems, texts }: Rejected) {
        self.causes.push(cause);
        self.problems.extend(problems);
        self.texts.extend(texts);
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
        if !self.problems.is_empty() {
            parts.push(problem::summary(&self.problems));
        }
        format!("{} in {}", parts.join(", "), counted(self.files().len(), "file"))
    }

    fn json(&self, exit: Exit) -> String {
        let report = json!({
            "valid": exit == Exit::Yes,
            "rules": self.rules,
            "files": self.files(),
            "not_carried": self.not_carried,
            "problems": problem::json(&self.problems, &self.texts),
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
