//! `init`: a policy file to begin with, from what Azure says of a cluster.
//! Must not write over anything unasked, and writes nothing that the loader would misread.
//! Called by [`super::main`].

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use ipnet::IpNet;
use jiff::Timestamp;

use crate::azure::cluster::{Draft, Given, draft, read};
use crate::azure::resource::parse;
use crate::policy::problem::render;
use crate::policy::{Generation, SourceText, load};

use super::Exit;
use super::azure_file;
use super::output::Terminal;

#[derive(Debug, ClapArgs)]
pub(super) struct InitArgs {
    /// What `az aks show -g GROUP -n CLUSTER -o json` prints; `-` is stdin
    #[arg(long, value_name = "FILE", required = true)]
    from_aks: PathBuf,
    /// A range in which only nodes are, which Azure does not print; may be repeated
    #[arg(long, value_name = "CIDR", value_parser = range)]
    nodes: Vec<IpNet>,
    /// A range of pods, where Azure does not print it; may be repeated
    #[arg(long, value_name = "CIDR", value_parser = range)]
    pods: Vec<IpNet>,
    /// An address of the API server, which Azure does not print; may be repeated
    #[arg(long, value_name = "ADDRESS|CIDR", value_parser = range)]
    api_server_address: Vec<IpNet>,
    /// A vault that the Key Vault add-on reads; may be repeated
    #[arg(long, value_name = "NAME")]
    key_vault: Vec<String>,
    /// Where to write, instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output_file: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, requires = "output_file")]
    force: bool,
}

/// Writes the file.
pub(super) fn run(args: &InitArgs, terminal: &mut Terminal) -> Exit {
    let draft = match drafted(args) {
        Ok(draft) => draft,
        Err(wrong) => {
            for why in wrong {
                terminal.say(&format!("error: {why}"));
            }
            return Exit::Unusable;
        }
    };
    if let Some(file) = &args.output_file {
        if let Err(error) = write(file, &draft.text, args.force) {
            terminal.say(&format!("error: {}: {error}", file.display()));
            return Exit::Unusable;
        }
        terminal.say(&format!("wrote {}", file.display()));
    } else {
        terminal.result(&draft.text);
    }
    for note in &draft.notes {
        terminal.say(&format!("note: {note}"));
    }
    for missing in &draft.missing {
        terminal.say(&format!("to do: {missing}"));
    }
    let name = args
        .output_file
        .as_deref()
        .map_or("policy", |file| file.to_str().unwrap_or("policy"));
    judged(name, &draft.text, terminal)
}

fn drafted(args: &InitArgs) -> Result<Draft, Vec<String>> {
    let name = azure_file::name(&args.from_aks);
    let text = azure_file::read(&args.from_aks).map_err(|why| vec![why])?;
    let in_file = |wrong: Vec<String>| {
        wrong
            .into_iter()
            .map(|why| format!("{name}: {why}"))
            .collect::<Vec<_>>()
    };
    let value = parse(&text).map_err(|why| in_file(vec![why]))?;
    let facts = read(&value).map_err(in_file)?;
    let given = Given {
        nodes: args.nodes.clone(),
        pods: args.pods.clone(),
        api_server: args.api_server_address.clone(),
        key_vaults: args.key_vault.clone(),
    };
    draft(&facts, &given)
}

/// What `check` will say of it.
fn judged(name: &str, text: &str, terminal: &mut Terminal) -> Exit {
    let texts = [SourceText {
        name: name.into(),
        text: text.into(),
    }];
    match load(&texts, Timestamp::now(), Generation(1), None) {
        Ok(loaded) => {
            if !loaded.warnings.is_empty() {
                terminal.say(&render(&loaded.warnings, &texts, terminal.colour));
            }
            Exit::Yes
        }
        Err(problems) => {
            terminal.say(&render(&problems, &texts, terminal.colour));
            terminal.say("this is not a policy yet: fill in what is missing, then run `sluicegate check`");
            Exit::No
        }
    }
}

fn write(file: &Path, text: &str, force: bool) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    if !force {
        options.create_new(true);
    }
    let mut open = options.open(file).map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            std::io::Error::new(error.kind(), "it is there already; --force replaces it")
        } else {
            error
        }
    })?;
    open.write_all(text.as_bytes())
}

fn range(text: &str) -> Result<IpNet, String> {
    let range = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let range = range.map_err(|_| "write `10.224.0.0/16` or an address".to_owned())?;
    if range.trunc() == range {
        Ok(range)
    } else {
        Err(format!(
            "write `{}`: the bits behind the prefix must be 0",
            range.trunc()
        ))
    }
}
