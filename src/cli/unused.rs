//! `unused`: rules that decided nothing since a date.
//! Must not call a rule unused that nobody has watched; `history` tells them apart.
//! Called by [`super::main`].

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Exit;
use super::args::{FileArgs, Output};
use super::logs::{Logs, moment};
use super::output::Terminal;
use crate::history::Event;
use crate::history::unused::{Page, Row, Usage, Watch};
use crate::source::PolicySource;

#[derive(Debug, Args)]
pub(super) struct UnusedArgs {
    #[command(flatten)]
    files: FileArgs,
    /// A rule that decided anything on this day or later is used
    #[arg(long, value_name = "DATE", value_parser = moment)]
    since: Timestamp,
    /// What `/policy?limit=10000` of the admin port answered, or `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["logs", "policy"], required_unless_present = "logs")]
    policy_page: Option<PathBuf>,
    /// For people, or for machines
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Logs with records of what was allowed, or `-` for standard input
    #[arg(value_name = "LOG")]
    logs: Vec<PathBuf>,
}

/// What is known of the rules, and what a person must know about that.
struct Found {
    rows: Vec<Row>,
    remarks: Vec<String>,
    is_whole: bool,
    logs: Value,
}

/// Lists the rules.
pub(super) fn unused(args: &UnusedArgs, terminal: &mut Terminal) -> Exit {
    let found = match &args.policy_page {
        Some(path) => from_page(path, args.since, terminal),
        None => from_logs(args, terminal),
    };
    let found = match found {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    for remark in &found.remarks {
        terminal.say(&format!("warning: {remark}"));
    }
    let is_unused = |row: &Row| matches!(row.usage, Usage::Unused | Usage::Expired);
    match args.output {
        Output::Text => terminal.result(&text(&found.rows, args.since)),
        Output::Json => {
            let report = json!({
                "since": args.since.to_string(),
                "rules": found.rows,
                "remarks": found.remarks,
                "logs": found.logs,
            });
            terminal.result(&format!("{report:#}"));
        }
    }
    if found.rows.iter().any(is_unused) || !found.is_whole {
        Exit::No
    } else {
        Exit::Yes
    }
}

fn from_page(path: &Path, since: Timestamp, terminal: &mut Terminal) -> Result<Found, Exit> {
    let mut refuse = |why: String| {
        terminal.say(&format!("error: {}: {why}", path.display()));
        Exit::Unusable
    };
    let text = if path == Path::new("-") {
        let mut text = Vec::new();
        io::stdin().lock().read_to_end(&mut text).map(|_| text)
    } else {
        fs::read(path)
    };
    let text = text.map_err(|error| refuse(error.to_string()))?;
    let page = Page::read(&text).map_err(&mut refuse)?;
    let mut remarks = Vec::new();
    let missing = page.missing();
    if missing > 0 {
        remarks.push(format!(
            "the page leaves out {missing} rules: save /policy?limit=10000, and further pages with offset="
        ));
    }
    let watched_since = page.since().to_owned();
    let rows = page.rows(since).map_err(&mut refuse)?;
    if rows.iter().any(|row| row.usage == Usage::Unwatched) {
        remarks.push(format!(
            "these rules are in force since {watched_since}; what came before that is not known"
        ));
    }
    Ok(Found {
        rows,
        remarks,
        is_whole: missing == 0,
        logs: Value::Null,
    })
}

fn from_logs(args: &UnusedArgs, terminal: &mut Terminal) -> Result<Found, Exit> {
    let now = Timestamp::now();
    let given = args.files.read(now).map_err(|rejected| {
        super::refuse(&rejected, terminal);
        Exit::Unusable
    })?;
    if given.source == PolicySource::Builtin {
        terminal
            .say("there is no policy.yaml here, and neither --policy nor --config names one: whose rules are meant?");
        return Err(Exit::Unusable);
    }
    let policy = given.compiled.policy;
    let mut watch = Watch::new(&policy);
    let logs = Logs::read(&args.logs, terminal, |event| {
        if let Event::Decision(decided) = event {
            watch.add(&decided);
        }
    })?;
    let mut remarks = Vec::new();
    match watch.first() {
        None => {
            remarks.push("no record says when it was made, so nothing can be told of rules without hits".to_owned());
        }
        Some(first) if first > args.since => remarks.push(format!(
            "the log begins only at {first}: what came before that is not known"
        )),
        Some(_) => {}
    }
    if let Some(last) = watch
        .last()
        .filter(|last| *last < args.since || *last < now - SignedDuration::from_hours(24))
    {
        remarks.push(format!(
            "the log ends already at {last}: what came after that is not known"
        ));
    }
    if !watch.saw_allowed() {
        remarks.push(
            "nothing that was allowed is recorded (`log.decisions: denied`?), so nothing can be told of allow rules"
                .to_owned(),
        );
    }
    if watch.strangers > 0 {
        remarks.push(format!(
            "{} records name rules that this policy does not have",
            watch.strangers
        ));
    }
    Ok(Found {
        rows: watch.rows(args.since, now),
        remarks,
        is_whole: logs.is_whole(),
        logs: logs.json(),
    })
}

fn text(rows: &[Row], since: Timestamp) -> String {
    let mut text = String::new();
    for (usage, title) in [
        (Usage::Unused, "decided nothing since"),
        (Usage::Expired, "expired, and match nothing any more; no hits since"),
        (Usage::Unwatched, "no hits, but nobody has watched them since"),
    ] {
        let of_this: Vec<_> = rows.iter().filter(|row| row.usage == usage).collect();
        if of_this.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "{title} {}: {}",
            since.strftime("%Y-%m-%dT%H:%M:%SZ"),
            of_this.len()
        );
        let mut parts: Vec<(&str, usize)> = Vec::new();
        for row in of_this {
            if let Some(part) = row.part_of.as_deref() {
                match parts.iter_mut().find(|(known, _)| *known == part) {
                    Some((_, count)) => *count += 1,
                    None => parts.push((part, 1)),
                }
                continue;
            }
            let last = row
                .last_hit
                .as_deref()
                .map_or("never hit".to_owned(), |last| format!("last hit {last}"));
            let owner = row
                .owner
                .as_deref()
                .map_or(String::new(), |owner| format!(", owned by {owner}"));
            let _ = writeln!(text, "  {} ({}): {last}{owner}", row.name, row.at);
        }
        for (part, count) in parts {
            let all = rows.iter().filter(|row| row.part_of.as_deref() == Some(part)).count();
            let _ = writeln!(text, "  {part}: {count} of its {all} rows; they come and go together");
        }
        text.push('\n');
    }
    let used = rows.iter().filter(|row| row.usage == Usage::Used).count();
    let _ = write!(text, "{used} of {} rules are used", rows.len());
    text
}
