//! `suggest`: what an allowlist lacks, as entries that load, each with its evidence and its risks.
//! Must not put anything under `allow:` that opens more than was asked for; what needs a decision is a remark.
//! Called by [`super::main`].

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Exit;
use super::args::FileArgs;
use super::logs::Logs;
use super::output::Terminal;
use crate::history::suggest::{Kind, Learner, Suggested, Suggestions, Undecided};
use crate::policy::compiled::Parts;
use crate::policy::{Generation, Policy};
use crate::source::PolicySource;

#[derive(Debug, Args)]
pub(super) struct SuggestArgs {
    #[command(flatten)]
    files: FileArgs,
    /// A piece of a policy file, or JSON
    #[arg(long, value_enum, default_value_t)]
    output: Form,
    /// Logs: our records, Azure Firewall's, queries of `CoreDNS`, or `-` for standard input
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    #[default]
    Yaml,
    Json,
}

/// Proposes entries for what the logs call for and the policy does not allow.
pub(super) fn suggest(args: &SuggestArgs, terminal: &mut Terminal) -> Exit {
    let now = Timestamp::now();
    let policy = match args.files.read(now) {
        // Nothing is allowed yet: a list is learned from the beginning.
        Ok(given) if given.source == PolicySource::Builtin => Policy::new(Parts::default(), Generation(1)),
        Ok(given) => given.compiled.policy,
        Err(rejected) => {
            super::refuse(&rejected, terminal);
            return Exit::Unusable;
        }
    };
    let mut learner = Learner::new(&policy, now);
    let logs = match Logs::read(&args.logs, terminal, |event| learner.add(&event)) {
        Ok(logs) => logs,
        Err(exit) => return exit,
    };
    let suggestions = learner.suggestions();
    match args.output {
        Form::Yaml => terminal.result(&yaml(&learner, &suggestions)),
        Form::Json => terminal.result(&format!("{:#}", as_json(&learner, &suggestions, &logs))),
    }
    if logs.is_whole() { Exit::Yes } else { Exit::No }
}

fn yaml(learner: &Learner<'_>, suggestions: &Suggestions) -> String {
    let mut text = "# What the logs call for. Each entry opens what it names and nothing else; read its remarks before you take it.\n"
        .to_owned();
    let takes = |entry: &&Suggested| entry.kind != Kind::Wildcard;
    if suggestions.entries.iter().any(|entry| takes(&entry)) {
        text.push_str("allow:\n");
    } else {
        text.push_str("allow: []\n");
    }
    let mut from: Option<&Option<String>> = None;
    for entry in &suggestions.entries {
        if from != Some(&entry.from) {
            let whom = entry.from.as_deref().unwrap_or("every client");
            let _ = writeln!(text, "  # --- for {whom}");
            from = Some(&entry.from);
        }
        let reasons: Vec<_> = entry.reasons.iter().map(|reason| reason.as_str()).collect();
        let _ = writeln!(text, "  # {} ({})", entry.evidence, reasons.join(", "));
        for risk in &entry.risks {
            let _ = writeln!(text, "  # risk: {risk}");
        }
        for need in &entry.needed_by {
            let _ = writeln!(text, "  # {need}");
        }
        let _ = match entry.kind {
            Kind::Wildcard => writeln!(
                text,
                "  # instead of those above below the same name, if really all are meant:\n  # {}",
                entry.entry
            ),
            Kind::Exact | Kind::Dns => writeln!(text, "  {}", entry.entry),
        };
    }
    undecided(
        &mut text,
        "somebody must decide: rules name these, but what was shown or where the name leads does not pass",
        &suggestions.decide,
    );
    undecided(
        &mut text,
        "denied by a deny rule, or an address that is private, reserved or never opened",
        &suggestions.on_purpose,
    );
    if !suggestions.ignored.is_empty() {
        text.push_str("\n# --- nothing is proposed for\n");
        for ignored in &suggestions.ignored {
            let _ = writeln!(text, "# {}: {} times", ignored.what, ignored.count);
        }
    }
    let _ = writeln!(
        text,
        "\n# records that the policy allows as it is: {}; that no policy decided: {}{}",
        learner.settled,
        learner.not_by_policy,
        match learner.unlisted {
            0 => String::new(),
            unlisted => format!("; of too many kinds to be listed: {unlisted}"),
        }
    );
    text
}

fn undecided(text: &mut String, title: &str, list: &[Undecided]) {
    if list.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n# --- {title}");
    for one in list.iter().take(SHOWN) {
        let _ = writeln!(
            text,
            "# {} -> {}: {}, {}",
            one.who,
            one.asked,
            one.reason.as_str(),
            one.evidence
        );
        if let Some(entry) = &one.entry {
            let _ = writeln!(text, "#   would open exactly this: {entry}");
        }
    }
    if list.len() > SHOWN {
        let _ = writeln!(text, "# and {} more, see --output json", list.len() - SHOWN);
    }
}

fn as_json(learner: &Learner<'_>, suggestions: &Suggestions, logs: &Logs) -> Value {
    let mut report = json!(suggestions);
    if let Some(report) = report.as_object_mut() {
        report.insert("already_allowed".to_owned(), json!(learner.settled));
        report.insert("not_by_policy".to_owned(), json!(learner.not_by_policy));
        report.insert("unlisted".to_owned(), json!(learner.unlisted));
        report.insert("logs".to_owned(), logs.json());
    }
    report
}

const SHOWN: usize = 50;
