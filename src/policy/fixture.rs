//! Policies, sources and asks for tests, from a few words each.
//! Must not be part of any build but a test's.
//! Called by the unit tests of the policy.

use std::net::IpAddr;

use super::compiled::{Parts, Policy};
use super::document::destination::{self, Role};
use super::problem::{SourceText, render};
use super::rule::{Effect, From, Generation, Hits, Position, Rule, SniCheck};
use crate::name::{Authority, HostName};
use crate::policy::{Ask, Seen, Source};

/// The policy of one file, `policy.yaml`.
pub(crate) fn load(text: &str) -> Policy {
    let texts = [SourceText {
        name: "policy.yaml".into(),
        text: text.into(),
    }];
    let now = "2026-11-20T12:00:00Z".parse().unwrap();
    match super::load(&texts, now, Generation(1), None) {
        Ok(loaded) => loaded.policy,
        Err(problems) => panic!("{}", render(&problems, &texts, false)),
    }
}

/// `host:port`, before anything is seen.
pub(crate) fn ask(text: &str) -> Ask {
    let (host, port) = Authority::parse_connect(text.as_bytes()).unwrap();
    Ask::new(host, port)
}

/// A policy of these rules and nothing else.
pub(crate) fn policy(rules: Vec<Rule>) -> Policy {
    let parts = Parts {
        rules,
        ..Parts::default()
    };
    Policy::new(parts, Generation(1))
}

/// A rule for everyone, without any option.
pub(crate) fn allow(to: &[&str]) -> Rule {
    rule(Effect::Allow, Role::Allow, to)
}

pub(crate) fn deny(to: &[&str]) -> Rule {
    rule(Effect::Deny, Role::Deny, to)
}

fn rule(effect: Effect, role: Role, to: &[&str]) -> Rule {
    Rule {
        name: to.join(" ").into(),
        effect,
        collection: None,
        at: Position {
            file: "policy.yaml".into(),
            line: 1,
        },
        from: From::Everyone,
        to: to.iter().map(|to| destination::parse(to, role).unwrap()).collect(),
        until: None,
        owner: None,
        why: None,
        addresses: Box::default(),
        sni: SniCheck::Strict,
        no_sni: false,
        ech_outer: false,
        report: false,
        hits: Hits::default(),
    }
}

/// What is asked in a case of the corpus; the fields are described in `gate.yaml`.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) ask: &'a str,
    pub(crate) hello: Option<&'a str>,
    pub(crate) ech: bool,
    pub(crate) seen: Option<&'a str>,
    pub(crate) address: Option<IpAddr>,
}

impl Question<'_> {
    pub(crate) fn ask(&self) -> Ask {
        let seen = match (self.hello, self.seen) {
            (Some(hello), None) => Seen::Hello {
                sni: (hello != "none").then(|| HostName::parse(hello.as_bytes()).unwrap()),
                ech: self.ech,
            },
            (None, Some("http")) => Seen::Http,
            (None, Some("other")) => Seen::Other,
            (None, None) => Seen::Nothing,
            _ => panic!("{self:?}"),
        };
        let address = self.address;
        Ask {
            address,
            ..ask(self.ask).seeing(seen)
        }
    }
}

/// An address, the name of a workload that came in through its own port, or both: `a@10.1.2.3`.
pub(crate) fn source(text: &str) -> Source {
    let (workload, address) = match text.split_once('@') {
        Some((workload, address)) => (Some(workload), address.parse().unwrap()),
        None => match text.parse() {
            Ok(address) => (None, address),
            Err(_) => (Some(text), [10, 9, 9, 9].into()),
        },
    };
    match workload {
        Some(workload) => Source::through(address, workload.into()),
        None => Source::at(address),
    }
}
