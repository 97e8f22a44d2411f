//! `presets`: which maintained lists there are, and what one of them comes to for a cluster.
//! Must not open or judge anything; it prints what rules that name a preset would get.
//! Called by [`super::main`].

mod show;

use std::iter::once;
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::name::HostName;
use crate::policy::document::{Cloud, Cluster, Document, Text};
use crate::policy::presets::expand::With;
use crate::policy::presets::{Library, Preset};
use crate::policy::problem::{At, Place, Rejected};
use crate::settings::{self, Inputs};
use crate::source;

use super::Exit;
use super::args::{FileArgs, Output};
use super::output::Terminal;

#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct PresetsArgs {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List all presets (also what no command means)
    List(ListArgs),
    /// Expand one preset: its rows for a cluster, why each is there, and what is known of it
    Show(Box<ShowArgs>),
}

#[derive(Debug, ClapArgs)]
struct ListArgs {
    /// Settings file, for its `presets`
    #[arg(short, long, value_name = "FILE", env = "SLUICEGATE_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Directory whose FOLDER/NAME.yaml replace or add to the built-in presets, instead of `presets` of the settings
    #[arg(long, value_name = "DIR")]
    presets: Option<PathBuf>,
    /// For people, or for machines
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, ClapArgs)]
struct ShowArgs {
    /// Such as `aks/core`
    name: String,
    #[command(flatten)]
    files: FileArgs,
    /// Instead of `cluster.cloud` of the policy: public, china or usgov
    #[arg(long, value_parser = cloud)]
    cloud: Option<Cloud>,
    /// Instead of `cluster.region` of the policy
    #[arg(long, value_parser = region)]
    region: Option<Text>,
    /// Instead of `cluster.api_server` of the policy
    #[arg(long, value_name = "NAME", value_parser = host)]
    api_server: Option<HostName>,
    /// A fact that a rule would give in `with`; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = fact)]
    with: Vec<(Text, Text)>,
    /// For people, or for machines
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Lists presets, or shows one.
pub(super) fn presets(args: &PresetsArgs, terminal: &mut Terminal) -> Exit {
    let shown = match &args.what {
        None => list(&args.list, terminal),
        Some(What::List(list_args)) => list(list_args, terminal),
        Some(What::Show(args)) => show(args, terminal),
    };
    match shown {
        Ok(exit) => exit,
        Err(rejected) => super::refuse(&rejected, terminal),
    }
}

fn list(args: &ListArgs, terminal: &mut Terminal) -> Result<Exit, Rejected> {
    let library = library(args.config.as_deref(), args.presets.as_deref())?;
    let names = library.names();
    let presets = names.iter().filter_map(|name| library.preset(name));
    match args.output {
        Output::Text => {
            let head = format!(
                "{:<26} {:<9} {:>3} {:>3} {:>3}  {:<10}  {}",
                "NAME", "FOR", "PUB", "CN", "GOV", "DATE", "ABOUT"
            );
            let lines: Vec<_> = once(head).chain(presets.map(|preset| line(&preset))).collect();
            terminal.result(&lines.join("\n"));
            terminal.say("rows for the public cloud, China, US Government; `sluicegate presets show NAME` expands one");
        }
        Output::Json => {
            let all: Vec<_> = presets.map(|preset| object(&preset)).collect();
            terminal.result(&format!("{:#}", json!(all)));
        }
    }
    Ok(Exit::Yes)
}

fn show(args: &ShowArgs, terminal: &mut Terminal) -> Result<Exit, Rejected> {
    let (library, mut cluster) = if args.files.policy.is_empty() {
        let library = library(args.files.config.as_deref(), args.files.presets.as_deref())?;
        (library, Cluster::default())
    } else {
        let compiled = args.files.read(Timestamp::now())?.compiled;
        let document = Document::read_noting(&mut compiled.problems());
        let cluster = document.cluster();
        (document.presets, cluster)
    };
    let at = Place::default();
    if let Some(value) = args.cloud {
        cluster.cloud = Some(At { value, at });
    }
    if let Some(value) = args.region.clone() {
        cluster.region = Some(At { value, at });
    }
    if let Some(value) = args.api_server.clone() {
        cluster.api_server = Some(At { value, at });
    }
    let Some(preset) = library.preset(&args.name) else {
        let help = library.help_for(&args.name);
        terminal.say(&format!("there is no preset `{}`; {help}", args.name));
        return Ok(Exit::Unusable);
    };
    let with: With = args.with.iter().cloned().collect();
    let view = show::View::new(&preset, &cluster, &with);
    match args.output {
        Output::Text => terminal.result(&view.to_string()),
        Output::Json => terminal.result(&format!("{:#}", view.json())),
    }
    Ok(Exit::Yes)
}

/// The presets of the program, and those of the directory that the settings or the command line name.
fn library(config: Option<&Path>, presets: Option<&Path>) -> Result<Library, Rejected> {
    if let Some(presets) = presets {
        return source::library(Some(presets));
    }
    let inputs = Inputs::read(config, std::env::vars_os());
    let settings = settings::load(&inputs).map_err(|refused| refused.rejected)?;
    source::library(settings.presets.as_deref())
}

fn line(preset: &Preset) -> String {
    let counts = CLOUDS.map(|cloud| preset.rows_for(cloud).count());
    let counts = counts.map(|count| format!("{count:>3}")).join(" ");
    let date = preset.date.as_deref().unwrap_or("undated");
    let kind = kind(preset);
    let own = preset
        .file
        .as_ref()
        .map_or_else(String::new, |file| format!(" ({file})"));
    format!(
        "{:<26} {kind:<9} {counts}  {date:<10}  {}{own}",
        preset.name, preset.about
    )
}

fn object(preset: &Preset) -> Value {
    let rows = CLOUDS.map(|cloud| (cloud.as_str(), preset.rows_for(cloud).count()));
    json!({
        "name": &*preset.name,
        "about": preset.about,
        "for": kind(preset),
        "rows": Value::from_iter(rows),
        "source": preset.source,
        "date": preset.date,
        "read": preset.read,
        "file": preset.file.as_deref(),
    })
}

fn kind(preset: &Preset) -> &'static str {
    if preset.for_nodes { "nodes" } else { "workloads" }
}

fn cloud(text: &str) -> Result<Cloud, String> {
    let found = CLOUDS.into_iter().find(|cloud| cloud.as_str() == text);
    found.ok_or_else(|| "write public, china or usgov".to_owned())
}

fn region(text: &str) -> Result<Text, String> {
    let is_short = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let found = Some(text).filter(|text| !text.is_empty() && is_short(text));
    found
        .map(Into::into)
        .ok_or_else(|| "write Azure's short name, such as westeurope".to_owned())
}

fn host(text: &str) -> Result<HostName, String> {
    HostName::parse(text.as_bytes()).map_err(|error| error.to_string())
}

fn fact(text: &str) -> Result<(Text, Text), String> {
    let (key, value) = text.split_once('=').ok_or("write `keyvault_name=kv-test`")?;
    Ok((key.into(), value.into()))
}

const CLOUDS: [Cloud; 3] = [Cloud::Public, Cloud::China, Cloud::UsGov];
