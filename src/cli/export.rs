//! `export`: the policy as rules of another firewall, with a report of what that one cannot say.
//! Must not write anything while the report refuses.
//! Called by [`super::main`].

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use jiff::Timestamp;

use crate::azure::export::{Exported, Input, Options, export};
use crate::azure::report::{Kind, Report, Weight};
use crate::policy::document::Document;
use crate::policy::yaml::typed::{listed, nearest};
use crate::source::PolicySource;

use super::Exit;
use super::args::FileArgs;
use super::output::Terminal;

#[derive(Debug, ClapArgs)]
pub(super) struct ExportArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Rule collection groups of Azure Firewall, as an ARM template
    #[command(
        after_help = "Exit codes: 0 written; 1 something cannot be said in Azure and was not accepted, or the \
                            policy is invalid; 2 wrong usage, unreadable input."
    )]
    AzureFirewall(AzureFirewallArgs),
}

#[derive(Debug, ClapArgs)]
struct AzureFirewallArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Write the template here instead of to stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the template of the parent policy here, where `groups` has any of it
    #[arg(long, value_name = "FILE")]
    parent_output: Option<PathBuf>,
    /// Kinds of findings that are as you want them; the report names those it needs
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = acceptable)]
    accept: Vec<Kind>,
    /// Write the report here, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The group for `allow`; that for `deny` is called the same, with `-deny` behind it
    #[arg(long, value_name = "NAME", default_value = "sluicegate")]
    name: String,
    /// The priority of that group; without it one behind all others
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(100..=65_000))]
    priority: Option<u16>,
}

/// Exports.
pub(super) fn export_rules(args: &ExportArgs, terminal: &mut Terminal) -> Exit {
    let What::AzureFirewall(args) = &args.what;
    let now = Timestamp::now();
    let given = match args.files.read(now) {
        Ok(given) => given,
        Err(rejected) => return super::refuse(&rejected, terminal),
    };
    if given.source == PolicySource::Builtin {
        terminal.say(NOTHING);
        return Exit::Unusable;
    }
    let texts = &given.compiled.texts;
    let document = Document::read_noting(&mut given.compiled.problems());
    let options = Options {
        name: &args.name,
        priority: args.priority,
        now,
    };
    let report = Report::accepting(args.accept.iter().copied());
    let input = Input {
        document: &document,
        policy: &given.compiled.policy,
        texts,
        not_carried: &given.compiled.not_carried,
    };
    let Exported {
        report,
        template,
        parent,
    } = export(&input, &options, report);
    if parent.is_some() && args.parent_output.is_none() {
        terminal.say(NO_PARENT);
        return Exit::Unusable;
    }
    terminal.say(&report.render(terminal.colour));
    let json = format!("{:#}\n", report.json());
    if let Some(path) = &args.report
        && !written(path, &json, terminal)
    {
        return Exit::Unusable;
    }
    if report.is_refused() {
        return Exit::No;
    }
    if let (Some(path), Some(parent)) = (&args.parent_output, &parent)
        && !written(path, parent, terminal)
    {
        return Exit::Unusable;
    }
    match &args.output {
        Some(path) if !written(path, &template, terminal) => return Exit::Unusable,
        Some(_) => {}
        None => terminal.result(&template),
    }
    Exit::Yes
}

/// Writes a file, or says why not.
pub(super) fn written(path: &Path, text: &str, terminal: &mut Terminal) -> bool {
    let written = fs::write(path, text);
    if let Err(error) = &written {
        terminal.say(&format!("error: {}: {error}", path.display()));
    }
    written.is_ok()
}

/// A kind that can be accepted at all.
pub(super) fn acceptable(text: &str) -> Result<Kind, String> {
    let asked = || Kind::ALL.iter().filter(|kind| kind.weight() == Weight::Ask);
    if let Some(kind) = asked().find(|kind| kind.as_str() == text) {
        return Ok(*kind);
    }
    let names: Vec<_> = asked().map(|kind| kind.as_str()).collect();
    Err(match nearest(text, &names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the kinds are {}", listed(&names)),
    })
}

const NO_PARENT: &str =
    "error: some groups are of a parent policy, which needs a template of its own: --parent-output FILE";
const NOTHING: &str = "there is no policy.yaml here, and neither --policy nor --config names one: nothing was exported";
