//! `explain`: would this be allowed, by which rule, and if not, what is missing.
//! Must not judge by itself: it asks the gate what the proxy would ask, step by step, and prints the answer.
//! Called by [`super::main`].

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use crate::name::{Host, HostName};
use crate::net::Resolver;
use crate::net::resolve::Family;
use crate::policy::document::destination::{BadDestination, parse_exact};
use crate::policy::expect::{Asker, stranger, ways};
use crate::policy::explain::{Explanation, explain};
use crate::policy::problem::render_each;
use crate::policy::yaml::typed::{listed, nearest};
use crate::policy::{
    Action, Ask, Inspect, Policy, Problem, Reason, Scheme, Seen, Severity, Source, SourceText, Span, enforce,
};
use crate::settings;
use crate::source::{Compiled, PolicySource};

use super::Exit;
use super::args::{ExplainArgs, Output};
use super::inputs::Given;
use super::output::Terminal;

/// Explains one destination.
pub(super) fn explain_destination(args: &ExplainArgs, terminal: &mut Terminal) -> Exit {
    let now = Timestamp::now();
    let Given {
        settings,
        source,
        compiled: Compiled { policy, .. },
    } = match args.files.read(now) {
        Ok(given) => given,
        // 1 is for "denied"; without a policy there is no answer.
        Err(rejected) => {
            super::refuse(&rejected, terminal);
            return Exit::Unusable;
        }
    };
    let questions = match Question::read(args, &policy, source == PolicySource::Builtin) {
        Ok(questions) => questions,
        Err(problem) => {
            terminal.say(&problem);
            return Exit::Unusable;
        }
    };
    // As in `expect`: allowed is what is allowed on every way in which the workload comes in.
    let answer = |question: Question| {
        let answer = question.answer(&policy, now);
        (question, answer)
    };
    let (allowed, denied): (Vec<_>, Vec<_>) = questions
        .into_iter()
        .map(answer)
        .partition(|(_, answer)| answer.allowed);
    let differ = !allowed.is_empty() && !denied.is_empty();
    let Some((question, mut answer)) = denied.into_iter().chain(allowed).next() else {
        terminal.say("--from: nothing comes in as this");
        return Exit::Unusable;
    };
    if differ || question.is_stranger {
        answer.from.clone_from(&question.called);
    }
    let resolved = (args.resolve && answer.allowed).then(|| question.resolve(&policy, now, &settings.dns));
    let reachable = resolved
        .as_ref()
        .is_none_or(|resolved| resolved.iter().any(Resolved::is_good));
    match args.output {
        Output::Text => {
            let mut text = answer.to_string();
            for row in resolved.iter().flatten() {
                let _ = write!(text, "\n  address: {row}");
            }
            terminal.result(&text);
        }
        Output::Json => {
            let rows: Option<Vec<_>> = resolved.as_ref().map(|rows| rows.iter().map(Resolved::json).collect());
            let mut report = json!(answer);
            if let (Some(report), Some(rows)) = (report.as_object_mut(), rows) {
                report.insert("addresses".to_owned(), json!(rows));
            }
            terminal.result(&format!("{report:#}"));
        }
    }
    if answer.allowed && reachable {
        Exit::Yes
    } else {
        Exit::No
    }
}

/// Who asks for what.
struct Question {
    source: Source,
    /// What to call it, where that is not clear.
    called: String,
    /// Nobody named it.
    is_stranger: bool,
    ask: Ask,
    /// What the client shows first, unless nothing is looked at.
    seen: Seen,
    /// Whether the SNI was given, so that the answer is about it.
    shown: bool,
}

impl Question {
    /// The question, for each way in which who asks comes in.
    fn read(args: &ExplainArgs, policy: &Policy, is_builtin: bool) -> Result<Vec<Self>, String> {
        let (scheme, host, port) = parse_exact(&args.destination).map_err(|bad| said(&args.destination, bad))?;
        let mut ask = Ask::new(host, port);
        if let Host::Address(address) = ask.host {
            ask = ask.dialling(address);
        }
        let sni = match args.sni.as_deref() {
            None => ask.host.name().cloned(),
            Some("none") => None,
            Some(text) => Some(sni(text)?),
        };
        let seen = match scheme {
            Scheme::Http => Seen::Http,
            Scheme::Tls => Seen::Hello { sni, ech: false },
            Scheme::Tcp if args.sni.is_some() => Seen::Hello { sni, ech: false },
            Scheme::Tcp => Seen::Other,
        };
        let (is_stranger, askers) = askers(args.from.as_deref(), &ask.host, policy, is_builtin)?;
        let questions = askers.into_iter().map(|asker| Self {
            source: asker.source,
            called: asker.shown,
            is_stranger,
            ask: ask.clone(),
            seen: seen.clone(),
            shown: args.sni.is_some(),
        });
        Ok(questions.collect())
    }

    fn answer(&self, policy: &Policy, now: Timestamp) -> Explanation {
        let mut answer = self.judge(policy, now);
        if self.is_stranger && answer.reason == Reason::NoRuleForSource {
            // Rules keep this host for others, and there is nobody here whom an entry could name.
            answer.suggestion = None;
        }
        answer
    }

    /// The first answer that is no, or the last one; as the proxy would come to it.
    fn judge(&self, policy: &Policy, now: Timestamp) -> Explanation {
        let mut request = explain(policy, now, &self.source, &self.ask);
        let looked_at = match enforce(policy, now, &self.source, &self.ask).action {
            Action::Allow(inspect) => inspect != Inspect::Nothing,
            Action::Deny => false,
        };
        if looked_at || !request.allowed {
            let after = explain(policy, now, &self.source, &self.ask.clone().seeing(self.seen.clone()));
            if looked_at {
                // Of two that allow, the first one says what must follow.
                return if after.allowed && !self.shown { request } else { after };
            }
            // The entry that helps speaks of the scheme that was asked for, not of the one that the port suggests.
            request.suggestion = after.suggestion;
        }
        request
    }

    fn resolve(&self, policy: &Policy, now: Timestamp, dns: &settings::Dns) -> Vec<Resolved> {
        let Some(name) = self.ask.host.name() else {
            return Vec::new();
        };
        let found = match lookup(name, dns) {
            Ok(found) => found,
            Err(problem) => return vec![Resolved::Failed(problem)],
        };
        let judge = |address| {
            let answer = explain(policy, now, &self.source, &self.ask.clone().dialling(address));
            Resolved::Judged {
                address,
                answer: Box::new(answer),
            }
        };
        found.into_iter().map(judge).collect()
    }
}

/// What DNS says, and what the guard says of it.
enum Resolved {
    Judged { address: IpAddr, answer: Box<Explanation> },
    Failed(String),
}

impl Resolved {
    fn is_good(&self) -> bool {
        matches!(self, Self::Judged { answer, .. } if answer.allowed)
    }

    fn json(&self) -> serde_json::Value {
        match self {
            Self::Judged { address, answer } => json!({
                "address": address,
                "allowed": answer.allowed,
                "reason": answer.reason.as_str(),
            }),
            Self::Failed(problem) => json!({ "problem": problem }),
        }
    }
}

impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Judged { address, answer } if answer.allowed => write!(f, "{address} may be dialled"),
            Self::Judged { address, answer } => {
                write!(
                    f,
                    "{address} is never dialled for this ({}: {})",
                    answer.reason.as_str(),
                    answer.meaning
                )
            }
            Self::Failed(problem) => f.write_str(problem),
        }
    }
}

fn lookup(name: &HostName, dns: &settings::Dns) -> Result<Vec<IpAddr>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let resolver = Resolver::new(dns).map_err(|error| error.to_string())?;
        let asker = Ipv4Addr::LOCALHOST.into();
        let (v4, v6) = tokio::join!(
            resolver.lookup(name, Family::V4, asker),
            resolver.lookup(name, Family::V6, asker)
        );
        let mut addresses = Vec::new();
        let mut problem = None;
        for answer in [v4, v6] {
            match answer {
                Ok(answer) => addresses.extend_from_slice(&answer.addresses),
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        match problem {
            Some(problem) if addresses.is_empty() => Err(problem.to_string()),
            _ => Ok(addresses),
        }
    })
}

/// Who `--from` names, by each way in which it comes in. Without it: the clients that the built-in policy is for, or
/// one that no rule names, which is what the first part says.
fn askers(from: Option<&str>, host: &Host, policy: &Policy, is_builtin: bool) -> Result<(bool, Vec<Asker>), String> {
    let at = |address: IpAddr, shown: &str| {
        let (shown, source) = (shown.to_owned(), Source::at(address));
        vec![Asker { shown, source }]
    };
    let Some(from) = from else {
        return Ok(if is_builtin {
            (false, at(Ipv4Addr::LOCALHOST.into(), "this host"))
        } else {
            let address = stranger(policy).unwrap_or(Ipv4Addr::UNSPECIFIED.into());
            (true, at(address, "a client that no rule names (--from says who)"))
        });
    };
    if let Ok(address) = from.parse() {
        return Ok((false, at(address, from)));
    }
    if let Some(askers) = ways(policy, from, host) {
        return Ok((false, askers));
    }
    let names: Vec<_> = policy.workloads().iter().map(|workload| &*workload.name).collect();
    let known = match nearest(from, &names) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => "the policy has no workloads; write an address".to_owned(),
        None => format!("write an address, or one of the workloads {}", listed(&names)),
    };
    Err(format!(
        "--from: `{from}` is neither an address nor a workload of the policy; {known}"
    ))
}

fn sni(text: &str) -> Result<HostName, String> {
    let read = HostName::parse_sni(text.as_bytes());
    read.map_err(|error| {
        format!("--sni: `{text}` is no name that a ClientHello can carry: {error}; write a name, or none")
    })
}

/// A bad destination, shown like a bad line of a policy file.
fn said(destination: &str, BadDestination { part, why, help }: BadDestination) -> String {
    let file: Arc<str> = "command line".into();
    let text = SourceText {
        name: Arc::clone(&file),
        text: destination.into(),
    };
    let problem = Problem {
        severity: Severity::Error,
        file,
        span: Some(Span {
            start: part.start,
            end: part.end,
        }),
        message: why,
        label: String::new(),
        help: Some(help),
        lint: None,
    };
    render_each(&[problem], &[text], false)
}
