//! `generate`: Kubernetes objects from the policy, to stdout or into a directory.
//! Must not decide what they say, and writes nothing at all while anything is wrong.
//! Called by [`super::main`].

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;

use crate::kubernetes::probe::Targets;
use crate::kubernetes::{self, ExplicitPort, File, ProxyPorts, What};
use crate::policy::document::Document;
use crate::policy::problem::{Cause, Rejected, render, summary};
use crate::settings::{Mode, Settings};
use crate::source::{Compiled, PolicySource};

use super::Exit;
use super::args::{GenerateArgs, Generated};
use super::output::Terminal;
use super::verify::targets;

/// Generates.
pub(super) fn generate(args: &GenerateArgs, terminal: &mut Terminal) -> Exit {
    let given = match args.files.read(Timestamp::now()) {
        Ok(given) => given,
        Err(rejected) => return super::refuse(&rejected, terminal),
    };
    if given.source == PolicySource::Builtin {
        terminal.say(NOTHING);
        return Exit::Unusable;
    }
    let in_pods = args.files.config.is_some().then_some(&given.settings);
    let targets = match targets::named(&args.jobs.targets, in_pods) {
        Ok(targets) => targets,
        Err(why) => {
            terminal.say(&format!("error: {why}"));
            return Exit::Unusable;
        }
    };
    let files = match files(args, &given.compiled, &proxy_ports(&given.settings), &targets, terminal) {
        Ok(files) => files,
        Err(rejected) => return super::refuse(&rejected, terminal),
    };
    let Some(texts) = texts(&files, terminal) else {
        return Exit::No;
    };
    let Some(directory) = &args.output_dir else {
        terminal.result(&texts.concat());
        return Exit::Yes;
    };
    for (file, text) in files.iter().zip(&texts) {
        let path = directory.join(&file.path);
        if let Err(error) = write(&path, text) {
            terminal.say(&format!("error: {}: {error}", path.display()));
            return Exit::Unusable;
        }
        terminal.say(&format!("wrote {}", path.display()));
    }
    Exit::Yes
}

fn files(
    args: &GenerateArgs,
    compiled: &Compiled,
    proxy: &ProxyPorts,
    targets: &Targets,
    terminal: &mut Terminal,
) -> Result<Vec<File>, Rejected> {
    let mut problems = compiled.problems();
    let document = Document::read_noting(&mut problems);
    let inputs = kubernetes::Inputs {
        document: &document,
        policy: &compiled.policy,
        proxy,
    };
    let jobs = kubernetes::Jobs {
        workload: args.jobs.workload.as_deref(),
        image: &args.jobs.image,
        service_account: &args.jobs.service_account,
        targets,
    };
    let mut one = |what| kubernetes::generate(Some(what), inputs, &mut problems);
    let files = match args.what {
        Generated::All => kubernetes::generate(None, inputs, &mut problems),
        Generated::NetworkPolicies => one(What::NetworkPolicies),
        Generated::ServicePorts => one(What::ServicePorts),
        Generated::Namespaces => one(What::Namespaces),
        Generated::Admission => one(What::Admission),
        Generated::WorkloadEnv => one(What::WorkloadEnv),
        Generated::AksHttpProxy => one(What::AksHttpProxy),
        Generated::VerifyJobs => kubernetes::verify_jobs(&document, jobs, &mut problems),
    };
    let failed = problems.has_errors();
    let problems = problems.into_sorted();
    if failed {
        return Err(Rejected {
            cause: Cause::Invalid,
            problems,
            texts: compiled.texts.clone(),
        });
    }
    if !problems.is_empty() {
        terminal.say(&render(&problems, &compiled.texts, terminal.colour));
        terminal.say(&summary(&problems));
    }
    Ok(files)
}

fn texts(files: &[File], terminal: &mut Terminal) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    for file in files {
        match file.text() {
            Ok(text) => texts.push(text),
            Err(error) => {
                terminal.say(&format!("error: {}: {error}", file.path));
                return None;
            }
        }
    }
    Some(texts)
}

/// What of the settings shows in the cluster.
fn proxy_ports(settings: &Settings) -> ProxyPorts {
    let explicit = settings.listeners.iter().find_map(|listener| match &listener.mode {
        Mode::Explicit { tls } => Some(ExplicitPort {
            port: listener.bind.port(),
            tls: tls.is_some(),
        }),
        _ => None,
    });
    ProxyPorts {
        shared: shared_ports(settings),
        explicit,
        health: settings.health.port(),
        dns: settings.dns.servers.clone(),
    }
}

/// Of all listeners, ascending, each once.
pub(super) fn shared_ports(settings: &Settings) -> Vec<u16> {
    let mut shared: Vec<_> = settings.listeners.iter().map(|listener| listener.bind.port()).collect();
    shared.sort_unstable();
    shared.dedup();
    shared
}

/// Through a neighbour that is renamed, so that no reader sees half a file.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

const NOTHING: &str =
    "there is no policy.yaml here, and neither --policy nor --config names one: nothing was generated";
