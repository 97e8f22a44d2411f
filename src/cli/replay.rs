//! `replay`: recorded decisions before a candidate policy, and what would break.
//! Must not judge: the gate does, through `history`.
//! Called by [`super::main`].

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Exit;
use super::args::{FileArgs, Output};
use super::logs::{Logs, moment};
use super::output::Terminal;
use crate::history::Event;
use crate::history::replay::{Clock, Kind, Replay};
use crate::source::PolicySource;

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Judge every record as of this time, instead of each at its own
    #[arg(long, value_name = "TIME", value_parser = moment)]
    as_of: Option<Timestamp>,
    /// For people, or for machines
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Logs: our records, Azure Firewall's, or `-` for standard input
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
}

/// Judges every record of the logs again.
pub(super) fn replay(args: &ReplayArgs, terminal: &mut Terminal) -> Exit {
    let now = Timestamp::now();
    let given = match args.files.read(now) {
        Ok(given) if given.source == PolicySource::Builtin => {
            terminal
                .say("there is no policy.yaml here, and neither --policy nor --config names one: name the candidate");
            return Exit::Unusable;
        }
        Ok(given) => given,
        Err(rejected) => {
            super::refuse(&rejected, terminal);
            return Exit::Unusable;
        }
    };
    let clock = args.as_of.map_or(Clock::Own(now), Clock::AsOf);
    let mut replay = Replay::new(&given.compiled.policy, clock);
    let read = Logs::read(&args.logs, terminal, |event| match event {
        Event::Decision(decided) => replay.add(&decided),
        Event::Question(_) => {}
    });
    let logs = match read {
        Ok(logs) => logs,
        Err(exit) => return exit,
    };
    if replay.is_empty() {
        terminal.say("error: no record here is a decision that can be judged again: questions to DNS and UDP are none");
        return Exit::Unusable;
    }
    match args.output {
        Output::Text => terminal.result(&text(&replay)),
        Output::Json => terminal.result(&format!("{:#}", as_json(&replay, &logs))),
    }
    let breaks = replay.count(Kind::Breaks) + replay.count(Kind::Unclear);
    if breaks > 0 || !logs.is_whole() {
        Exit::No
    } else {
        Exit::Yes
    }
}

fn text(replay: &Replay<'_>) -> String {
    let mut text = String::new();
    let changes = replay.changes();
    for kind in Kind::ALL {
        let count = replay.count(*kind);
        if count == 0 {
            continue;
        }
        let _ = writeln!(text, "{} ({count})", kind.title());
        for (change, evidence) in changes.iter().filter(|(change, _)| change.kind == *kind) {
            let _ = writeln!(
                text,
                "  {} -> {}: {evidence}\n    was {}; would be {}",
                change.who, change.asked, change.was, change.now
            );
        }
        if let Some(unlisted) = replay.unlisted.get(kind) {
            let _ = writeln!(text, "  and {unlisted} more of other kinds, which are not listed");
        }
        text.push('\n');
    }
    let different: u64 = Kind::ALL.iter().map(|kind| replay.count(*kind)).sum();
    let _ = write!(
        text,
        "{} of {} verdicts stay as they are",
        replay.agreed,
        replay.agreed + different
    );
    let others: u64 = replay.others.values().sum();
    if others > 0 {
        let reasons: Vec<_> = replay
            .others
            .iter()
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        let _ = write!(
            text,
            "; {others} more were not the policy's doing ({})",
            reasons.join(", ")
        );
    }
    text
}

fn as_json(replay: &Replay<'_>, logs: &Logs) -> Value {
    let changes: Vec<_> = replay
        .changes()
        .into_iter()
        .map(|(change, evidence)| {
            let mut row = json!(change);
            if let (Some(row), Value::Object(evidence)) = (row.as_object_mut(), json!(evidence)) {
                row.extend(evidence);
            }
            row
        })
        .collect();
    let counts = Kind::ALL.iter().map(|kind| {
        (
            json!(kind).as_str().unwrap_or_default().to_owned(),
            json!(replay.count(*kind)),
        )
    });
    json!({
        "agreed": replay.agreed,
        "changed": Value::Object(counts.collect()),
        "not_by_policy": replay.others,
        "changes": changes,
        "unlisted": replay.unlisted.values().sum::<u64>(),
        "logs": logs.json(),
    })
}
