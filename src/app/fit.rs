//! What neither the settings nor the policy can know alone, as far as it shows without binding a socket: certificates
//! that cannot be used, workload ports that listeners have.
//! Must not bind or serve. Called by `run` and `check` before anything starts, and for the ports around every reload.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::name::Port;
use crate::policy::problem::{At, Cause, Place, Rejected};
use crate::policy::{Policy, Problem, Severity, SourceText, Span};
use crate::proxy::tls::{BadCertificates, Certificates};
use crate::settings::{Listener, Mode, Settings, Tls};

/// The ports that listeners of the settings have, and the names of these listeners.
pub(crate) type Fixed = HashMap<u16, Arc<str>>;

/// What keeps these settings, and this policy if there is one, from being served.
///
/// `file` is the text of the settings file, and empty where there is none.
pub(crate) fn unfit(settings: &Settings, file: &SourceText, policy: Option<&Policy>) -> Option<Rejected> {
    let mut rejected = Rejected {
        cause: Cause::Unfit,
        problems: Vec::new(),
        texts: Vec::new(),
    };
    for listener in &settings.listeners {
        if let Mode::Explicit { tls: Some(tls) } = &listener.mode {
            certificates(listener, tls, file, &mut rejected);
        }
    }
    if !rejected.problems.is_empty() {
        rejected.texts.push(file.clone());
    }
    if let Some(policy) = policy {
        rejected.problems.extend(taken(policy, &fixed(settings)));
    }
    (!rejected.problems.is_empty()).then_some(rejected)
}

/// The workloads whose port a listener of the settings has.
pub(super) fn taken(policy: &Policy, fixed: &Fixed) -> Vec<Problem> {
    let workloads = policy.workloads().iter();
    let ports = workloads.filter_map(|workload| Some((&workload.name, workload.port?)));
    let taken = ports.filter_map(|(name, port)| {
        let listener = fixed.get(&port.value.number())?;
        Some(port_problem(policy, name, port, &format!("`{listener}` listens there")))
    });
    taken.collect()
}

/// A workload that cannot have its port.
pub(super) fn port_problem(policy: &Policy, workload: &str, port: At<Port>, cause: &str) -> Problem {
    let file = policy.files().get(port.at.file as usize);
    Problem {
        severity: Severity::Error,
        file: file.cloned().unwrap_or_else(|| "policy".into()),
        span: file.map(|_| span(port.at)),
        message: format!("workload `{workload}` cannot have port {}: {cause}", port.value),
        label: "taken".to_owned(),
        help: Some("give the workload a port that nothing else on this host listens on".to_owned()),
        lint: None,
    }
}

fn fixed(settings: &Settings) -> Fixed {
    let listeners = settings.listeners.iter();
    let listeners = listeners.map(|listener| (listener.bind.port(), Arc::clone(&listener.name)));
    let pages = [(settings.admin, "admin"), (settings.health, "health")];
    let pages = pages.map(|(bind, name)| (bind.port(), Arc::from(name)));
    listeners.chain(pages).collect()
}

/// Every file that cannot be read; where all can, what is wrong with what they hold.
fn certificates(listener: &Listener, tls: &Tls, file: &SourceText, rejected: &mut Rejected) {
    let at = &tls.at;
    let files = [
        ("certificate", Some(&tls.cert), at.cert),
        ("key", Some(&tls.key), at.key),
        ("list of client CAs", tls.client_ca.as_ref(), at.client_ca),
    ];
    let files = files.map(|(what, path, at)| path.map(|path| (what, path, at.at)));
    let mut note = |cause: Cause, at: Place, message: String, label: String, help: &str| {
        rejected.cause = rejected.cause.max(cause);
        rejected.problems.push(Problem {
            severity: Severity::Error,
            file: Arc::clone(&file.name),
            span: Some(span(at)),
            message,
            label,
            help: Some(help.to_owned()),
            lint: None,
        });
    };
    let mut all_read = true;
    for (what, path, at) in files.into_iter().flatten() {
        if let Err(error) = fs::File::open(path).and_then(|mut file| io::copy(&mut file, &mut io::sink())) {
            all_read = false;
            let message = format!("the {what} of listener `{}` cannot be read: {error}", listener.name);
            note(Cause::Unreadable, at, message, path.display().to_string(), NOT_READ);
        }
    }
    let Some(bad) = all_read.then(|| Certificates::load(tls).err()).flatten() else {
        return;
    };
    let (BadCertificates::Unreadable { file: named, .. }
    | BadCertificates::NotPem { file: named, .. }
    | BadCertificates::Unusable { file: named, .. }) = &bad;
    let place = files.into_iter().flatten().find(|(_, path, _)| is(path, named));
    let message = format!("listener `{}`: {bad}", listener.name);
    let at = place.map_or(at.cert.at, |(_, _, at)| at);
    note(Cause::Invalid, at, message, String::new(), NOT_USED);
}

fn is(path: &Path, name: &str) -> bool {
    path.display().to_string() == name
}

fn span(at: Place) -> Span {
    Span {
        start: at.start as usize,
        end: at.end as usize,
    }
}

const NOT_READ: &str = "name a file that the user of sluicegate can read; relative paths start at the settings file";
const NOT_USED: &str = "`cert` is a chain and `key` its private key, both in PEM form; `client_ca` holds certificates";
