//! Rules and policies for tests, from a few words each.
//! Must not be part of any build but a test's; the policy language has its own reader.
//! Called by the unit tests of the policy.

use std::sync::Arc;

use super::compiled::{Parts, Policy};
use super::rule::{Destination, Effect, From, Generation, HostMatch, Peer, Position, Rule, Scheme, SniCheck};
use crate::name::{Host, HostPattern, Port};
use crate::policy::{Ask, Source};

/// A rule for everyone, without any option.
pub(crate) fn rule(effect: Effect, to: &[&str]) -> Rule {
    Rule {
        name: to.join(" ").into(),
        effect,
        at: Position {
            file: "policy.yaml".into(),
            line: 1,
        },
        from: From::Everyone,
        to: to.iter().map(|to| destination(effect, to)).collect(),
        until: None,
        owner: None,
        why: None,
        addresses: Vec::new(),
        sni: SniCheck::Strict,
        no_sni: false,
        ech_outer: false,
        report: false,
        hits: Arc::default(),
    }
}

pub(crate) fn allow(to: &[&str]) -> Rule {
    rule(Effect::Allow, to)
}

pub(crate) fn deny(to: &[&str]) -> Rule {
    rule(Effect::Deny, to)
}

impl Rule {
    /// Names of workloads, and CIDRs.
    pub(crate) fn from(mut self, peers: &[&str]) -> Self {
        let peers = peers.iter().map(|peer| match peer.parse() {
            Ok(range) => Peer::Cidr(range),
            Err(_) => Peer::Workload((*peer).into()),
        });
        self.from = From::Any(peers.collect());
        self
    }
}

/// A policy of these rules and nothing else.
pub(crate) fn policy(rules: Vec<Rule>) -> Policy {
    let parts = Parts {
        rules,
        ..Parts::default()
    };
    Policy::new(parts, Generation(1))
}

/// `host:port`.
pub(crate) fn ask(text: &str) -> Ask {
    let (host, port) = text.rsplit_once(':').unwrap();
    Ask::new(
        Host::parse(host.as_bytes()).unwrap(),
        Port::parse(port.as_bytes()).unwrap(),
    )
}

pub(crate) fn source(address: &str) -> Source {
    Source::at(address.parse().unwrap())
}

/// `[scheme://]host[:port[-port]]`, with the defaults of the policy language.
pub(crate) fn destination(effect: Effect, text: &str) -> Destination {
    let (scheme, rest) = match text.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("tcp", rest)) => (Scheme::Tcp, rest),
        Some((_, rest)) => (Scheme::Tls, rest),
        None => (Scheme::Tls, text),
    };
    let bracketed = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (host, port) = match bracketed {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => rest
            .rsplit_once(':')
            .map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    let ports = match port.map(|port| port.split_once('-').unwrap_or((port, port))) {
        Some((first, last)) => first.parse().unwrap()..=last.parse().unwrap(),
        None if effect == Effect::Deny => 1..=u16::MAX,
        None if scheme == Scheme::Http => 80..=80,
        None => 443..=443,
    };
    let scheme = (effect == Effect::Allow).then_some(scheme);
    let host = host
        .parse()
        .map_or_else(|_| HostMatch::Name(HostPattern::parse(host).unwrap()), HostMatch::Cidr);
    Destination { scheme, host, ports }
}
