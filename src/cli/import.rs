//! `import`: the rules of another firewall as a policy, with a report of everything that is not exactly the same.
//! Must not write anything while the report refuses, and judges nothing by itself.
//! Called by [`super::main`].

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use jiff::Timestamp;

use crate::azure::import::{Imported, Mapping, Options, import};
use crate::azure::input::Texts;
use crate::azure::report::{Kind, Weight};
use crate::policy::SourceText;
use crate::source::PolicySource;

use super::Exit;
use super::azure_file;
use super::export::{acceptable, written};
use super::output::Terminal;

#[derive(Debug, ClapArgs)]
pub(super) struct ImportArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Rules of Azure Firewall, from JSON: ARM, `az ... -o json`, REST lists, `terraform show -json`; policy or classic
    #[command(
        after_help = "Best is what Azure itself says: az network firewall policy rule-collection-group list \
                      --policy-name POLICY -g GROUP -o json\n\nExit codes: 0 written; 1 something is wrong, or cannot \
                      be said here and was not accepted: nothing was written; 2 wrong usage, unreadable input.",
        after_long_help = kinds()
    )]
    AzureFirewall(AzureFirewallArgs),
}

#[derive(Debug, ClapArgs)]
struct AzureFirewallArgs {
    /// Rules as JSON, of one policy or firewall; `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Rules of the parent policy; may be repeated
    #[arg(long, value_name = "FILE")]
    parent: Vec<PathBuf>,
    /// Who the sources are here: each range exactly as the rules name it, or the name of an IP group; may be repeated
    #[arg(long, value_name = "SOURCE=WORKLOAD,...", value_parser = Mapping::parse_list)]
    sources: Vec<Vec<Mapping>>,
    /// IP groups as JSON: ARM, or `az network ip-group list -o json`; may be repeated
    #[arg(long, value_name = "FILE")]
    ip_groups: Vec<PathBuf>,
    /// Service tags as Microsoft publishes them, `ServiceTags_Public_DATE.json`
    #[arg(long, value_name = "FILE")]
    service_tags: Option<PathBuf>,
    /// Policy file or directory whose workloads and cluster are referred to, and not written again; may be repeated
    #[arg(long, value_name = "PATH")]
    policy: Vec<PathBuf>,
    /// Kinds of findings that are as you want them; the report names those it needs
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = acceptable)]
    accept: Vec<Kind>,
    /// Write the policy here instead of to stdout
    #[arg(short, long, alias = "output", value_name = "FILE")]
    output_file: Option<PathBuf>,
    /// Write the report here, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Imports.
pub(super) fn import_rules(args: &ImportArgs, terminal: &mut Terminal) -> Exit {
    let What::AzureFirewall(args) = &args.what;
    let read = |files: &[PathBuf]| -> Result<Vec<SourceText>, String> { files.iter().map(|file| text(file)).collect() };
    let texts = [
        read(&args.files),
        read(&args.parent),
        read(&args.ip_groups),
        read(args.service_tags.as_slice()),
    ];
    let [Ok(rules), Ok(parents), Ok(ip_groups), Ok(service_tags)] = &texts else {
        for why in texts.iter().filter_map(|read| read.as_ref().err()) {
            terminal.say(&format!("error: {why}"));
        }
        return Exit::Unusable;
    };
    let policy = if args.policy.is_empty() {
        Vec::new()
    } else {
        match PolicySource::Files(args.policy.clone().into()).texts() {
            Ok(texts) => texts,
            Err(rejected) => return super::refuse(&rejected, terminal),
        }
    };
    let options = Options {
        sources: args.sources.concat(),
        accept: args.accept.clone(),
        policy,
    };
    let texts = Texts {
        rules,
        parents,
        ip_groups,
        service_tags: service_tags.first(),
    };
    let Imported { report, policy } = import(texts, &options, Timestamp::now());
    terminal.say(&report.render(terminal.colour));
    if let Some(path) = &args.report
        && !written(path, &format!("{:#}\n", report.json()), terminal)
    {
        return Exit::Unusable;
    }
    let Some(policy) = policy else {
        return Exit::No;
    };
    match &args.output_file {
        Some(path) if !written(path, &policy, terminal) => return Exit::Unusable,
        Some(_) => {}
        None => terminal.result(&policy),
    }
    Exit::Yes
}

/// What can be accepted, with a line about each.
fn kinds() -> String {
    let mut text = String::from(
        "Best is what Azure itself says: az network firewall policy rule-collection-group list --policy-name POLICY -g \
         GROUP -o json\n\nExit codes: 0 written; 1 something is wrong, or cannot be said here and was not accepted: \
         nothing was written; 2 wrong usage, unreadable input.\n\nKinds for --accept:\n",
    );
    for kind in Kind::ALL.iter().filter(|kind| kind.weight() == Weight::Ask) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {:26} {}", kind.as_str(), kind.doc());
    }
    text
}

fn text(file: &Path) -> Result<SourceText, String> {
    Ok(SourceText {
        text: azure_file::read(file)?.into(),
        name: azure_file::name(file).into(),
    })
}
