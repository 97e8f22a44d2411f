//! `verify`: from inside a locked namespace, that there is no other way out; or the verdict on what was seen there.
//! Must not decide what holds; the judge does. It gathers targets, lets the probes run, and prints.
//! Called by [`super::main`].

mod report;
pub(super) mod targets;

use std::fs;
use std::path::Path;

use jiff::Timestamp;

use crate::kubernetes::judge::{Observations, Others, judge};
use crate::kubernetes::probe::{Probe, Targets, probes};
use crate::policy::document::Document;
use crate::policy::problem::{Cause, Rejected};
use crate::source::{Compiled, PolicySource};
use crate::verify::{Options, observe};

use super::Exit;
use super::args::{Report, VerifyArgs};
use super::inputs::Given;
use super::output::Terminal;

/// Verifies, observes, or judges.
pub(super) fn verify(args: &VerifyArgs, terminal: &mut Terminal) -> Exit {
    match outcome(args, terminal) {
        Ok(exit) => exit,
        Err(Stopped::Rejected(rejected)) => {
            super::refuse(&rejected, terminal);
            Exit::Unusable
        }
        Err(Stopped::Said(why)) => {
            terminal.say(&format!("error: {why}"));
            Exit::Unusable
        }
    }
}

/// Why there is no verdict.
enum Stopped {
    Rejected(Box<Rejected>),
    Said(String),
}

impl From<String> for Stopped {
    fn from(why: String) -> Self {
        Self::Said(why)
    }
}

fn outcome(args: &VerifyArgs, terminal: &mut Terminal) -> Result<Exit, Stopped> {
    let given = args.files.read(Timestamp::now());
    let given = given.map_err(|rejected| Stopped::Rejected(Box::new(rejected)))?;
    if given.source == PolicySource::Builtin {
        return Err(NOTHING.to_owned().into());
    }
    let inside = args.inside.as_deref().map(read).transpose()?;
    let targets = if let Some(inside) = &inside {
        inside.targets.clone()
    } else {
        // A file of targets says where the proxy listens, unless settings are given.
        let with_settings = args.targets.targets.is_none() || args.files.config.is_some();
        targets::gather(&args.targets, with_settings.then_some(&given.settings))?
    };
    let workload = match (&inside, &args.workload) {
        (Some(inside), Some(asked)) if inside.workload != *asked => {
            return Err(format!("these are observations of `{}`, not of `{asked}`", inside.workload).into());
        }
        (Some(inside), _) => inside.workload.clone(),
        (None, Some(asked)) => asked.clone(),
        (None, None) => return Err("--as WORKLOAD is missing".to_owned().into()),
    };
    let probes = planned(&given, &workload, &targets)?;
    let inside = match inside {
        Some(inside) => inside,
        None => Observations {
            sluicegate: env!("CARGO_PKG_VERSION").to_owned(),
            seen: seen(args, &probes, &targets)?,
            workload,
            targets,
        },
    };
    if args.observe {
        let text = serde_json::to_string_pretty(&inside).map_err(|error| error.to_string())?;
        terminal.result(&text);
        return Ok(Exit::Yes);
    }
    let control = args.control.as_deref().map(read).transpose()?;
    if let Some(control) = control.as_ref().filter(|control| control.workload != inside.workload) {
        let (other, own) = (&control.workload, &inside.workload);
        return Err(format!("the control tried what concerns `{other}`, not `{own}`: run it with --as {own}").into());
    }
    if let (Some(file), Some(control)) = (&args.control, &control) {
        same_targets(file, control, &inside)?;
    }
    let also: Vec<_> = args.also.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
    for (file, other) in args.also.iter().zip(&also) {
        same_targets(file, other, &inside)?;
    }
    let others = Others {
        control: control.as_ref(),
        workloads: &also,
    };
    let lines = judge(&probes, &inside, others);
    let verdict = report::verdicts(&inside.workload, control.is_some(), &lines);
    terminal.result(&match args.output {
        Report::Text => verdict.table(),
        Report::Json => report::json(&inside.workload, control.is_some(), &lines),
        Report::Junit => verdict.junit(),
    });
    Ok(if verdict.holds() { Exit::Yes } else { Exit::No })
}

/// What was tried elsewhere, in a pod whose node is its own, says nothing about what was tried here.
fn same_targets(file: &Path, other: &Observations, inside: &Observations) -> Result<(), String> {
    let own_node = inside.targets.own_node;
    let others = Targets {
        own_node,
        ..other.targets.clone()
    };
    if others == inside.targets {
        return Ok(());
    }
    let shown = file.display();
    Err(format!(
        "{shown}: this was observed with other targets: run both pods with the same policy and the same flags"
    ))
}

fn planned(given: &Given, workload: &str, targets: &Targets) -> Result<Vec<Probe>, Stopped> {
    let Compiled { policy, texts, .. } = &given.compiled;
    let mut problems = given.compiled.problems();
    let document = Document::read_noting(&mut problems);
    let probes = probes(&document, policy, workload, targets, &mut problems);
    if problems.has_errors() {
        return Err(Stopped::Rejected(Box::new(Rejected {
            cause: Cause::Invalid,
            problems: problems.into_sorted(),
            texts: texts.clone(),
        })));
    }
    Ok(probes?)
}

fn seen(args: &VerifyArgs, probes: &[Probe], targets: &Targets) -> Result<Vec<crate::kubernetes::judge::Seen>, String> {
    let options = Options {
        timeout: args.timeout,
        dns: args.dns,
        tls: targets.proxy.tls,
    };
    observe(probes, &options).map_err(|error| format!("nothing could be tried: {error}"))
}

fn read(file: &Path) -> Result<Observations, String> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
    serde_json::from_str(&text)
        .map_err(|error| format!("{shown}: {error}; it must be what `sluicegate verify --observe` printed"))
}

const NOTHING: &str = "there is no policy.yaml here, and neither --policy nor --config names one: nothing was verified";
