//! The gate: the one function that every entry, `check`, `explain` and the tests call.
//! Must not resolve, log, count or read a clock. Same policy, time, source and ask: same decision.
//! Called up to three times per connection: before resolving, for each address, and when the hello was read.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use jiff::Timestamp;

use super::ask::{Action, Ask, Decision, Inspect, Seen, Source};
use super::compiled::Policy;
use super::index::Asker;
use super::reason::Reason;
use super::rule::{Destination, Effect, From, HostMatch, Listed, Peer, Rule, RuleId, Scheme, SniCheck};
use crate::address::{AddressClass, classify, classify_net, translated};
use crate::name::{Host, HostName};

pub(super) use ranking::{Failure, Look, Specificity};

use ranking::Looks;
use walk::{Ended, Walk};

#[cfg(test)]
pub(super) mod properties;
mod ranking;
mod walk;

/// Judges one ask.
pub fn gate(policy: &Policy, now: Timestamp, source: &Source, ask: &Ask) -> Decision {
    let mut judge = Judge::new(policy, source, Some(now));
    let strict = judge.verdict(ask);
    let Verdict::Deny { reason: would_deny, .. } = strict else {
        return strict.into_decision(policy, None);
    };
    let mut verdict = strict;
    if policy.has_report_rules() {
        judge.report_rules = true;
        verdict = judge.verdict(ask);
    }
    if policy.reports(now) {
        verdict = judge.reported(verdict, ask);
    }
    verdict.into_decision(policy, Some(would_deny))
}

/// Judges as if neither report mode nor any `report: true` opened anything: the answer of `explain`.
pub fn enforce(policy: &Policy, now: Timestamp, source: &Source, ask: &Ask) -> Decision {
    let judge = Judge::new(policy, source, Some(now));
    judge.verdict(ask).into_decision(policy, None)
}

/// Like [`enforce`], and every `until` still lies ahead: what `expect` is compared with, so that the clock never makes a
/// valid file invalid.
pub fn expected(policy: &Policy, source: &Source, ask: &Ask) -> Decision {
    let judge = Judge::new(policy, source, None);
    judge.verdict(ask).into_decision(policy, None)
}

/// One source before one policy at one moment.
pub(super) struct Judge<'a> {
    pub(super) policy: &'a Policy,
    pub(super) source: &'a Source,
    /// `None`: no `until` has passed.
    pub(super) now: Option<Timestamp>,
    /// Whether rules with `report: true` exist.
    pub(super) report_rules: bool,
}

pub(super) enum Verdict {
    Allow { rule: Option<RuleId>, inspect: Inspect },
    Deny { rule: Option<RuleId>, reason: Reason },
}

impl<'a> Judge<'a> {
    /// No `report: true` opens anything.
    pub(super) fn new(policy: &'a Policy, source: &'a Source, now: Option<Timestamp>) -> Self {
        Self {
            policy,
            source,
            now,
            report_rules: false,
        }
    }

    pub(super) fn verdict(&self, ask: &Ask) -> Verdict {
        let mut denied = None;
        let mut passed = None;
        let mut failed = None;
        let mut looks = Looks::default();
        let mut walk = Walk::default();
        let found = |id, rule: &Rule, destination: &Destination| {
            if !self.exists(rule) {
                return;
            }
            let from = self.named_source(rule);
            let specificity = Specificity::of(id, destination, from);
            match rule.effect {
                Effect::Deny if from.is_some() && destination.covers_port(ask.port) => {
                    if rule.collection.is_some() {
                        walk.deny(id);
                    } else {
                        denied = denied.max(Some(specificity));
                    }
                }
                Effect::Deny => {}
                Effect::Allow => match self.check(rule, destination, ask) {
                    Ok(look) => {
                        // A rule that still wants to see something has not passed for good; where another one has,
                        // nobody will look, and that one is named.
                        let for_good = look == Look::Nothing || ask.seen != Seen::Nothing;
                        if rule.collection.is_some() {
                            walk.pass(id, look, for_good);
                        } else {
                            looks.add(look);
                            passed = passed.max(Some((for_good, specificity)));
                        }
                    }
                    Err(reason) => failed = failed.max(Some(Failure::new(reason, specificity))),
                },
            }
        };
        let mut other = None;
        let (index, rules, asker) = (self.policy.index(), self.policy.rules(), || self.asker());
        index.visit_from(rules, &ask.host, &asker, found, |id, rule, destination| {
            if !self.exists(rule) {
                return ControlFlow::Continue(());
            }
            // If it is for this asker after all, it has passed, or failed later.
            let specificity = Specificity::of(id, destination, None);
            other = other.max(Some(Failure::new(Reason::NoRuleForSource, specificity)));
            ControlFlow::Break(())
        });
        failed = failed.max(other);
        denied = denied.max(self.denied_address(ask, &mut walk));

        if let Some(specificity) = denied {
            let rule = Some(specificity.rule());
            let reason = Reason::DenyRule;
            return Verdict::Deny { rule, reason };
        }
        let (ended, first_look, looked) = walk.end();
        match (ended, first_look) {
            (Some(Ended::Passed(rule, look)), _) => {
                looks = Looks::default();
                looks.add(look);
                let inspect = looks.union();
                return Verdict::Allow {
                    rule: Some(rule),
                    inspect,
                };
            }
            (Some(Ended::Denied(rule)), None) => {
                let reason = Reason::DenyRule;
                return Verdict::Deny {
                    rule: Some(rule),
                    reason,
                };
            }
            // What must be seen decides whether the walk gets as far as the rule that denies.
            (Some(Ended::Denied(_)), rule @ Some(_)) => {
                let inspect = looked.union();
                return Verdict::Allow { rule, inspect };
            }
            (None, None) => {}
            (None, first_look) => {
                looks.join(&looked);
                let for_good = passed.filter(|(for_good, _)| *for_good);
                let rule = for_good.map(|(_, specificity)| specificity.rule()).or(first_look);
                let inspect = looks.union();
                return Verdict::Allow { rule, inspect };
            }
        }
        if let Some((_, specificity)) = passed {
            let rule = Some(specificity.rule());
            let inspect = looks.union();
            return Verdict::Allow { rule, inspect };
        }
        Verdict::failed(failed, &ask.host)
    }

    /// Every check of one allow rule whose host covers the ask, in the order in which they can fail.
    pub(super) fn check(&self, rule: &Rule, destination: &Destination, ask: &Ask) -> Result<Look, Reason> {
        if self.named_source(rule).is_none() {
            return Err(Reason::NoRuleForSource);
        }
        if !destination.covers_port(ask.port) {
            return Err(Reason::Port);
        }
        let look = self.check_seen(rule, destination, ask)?;
        if !self.address_fits(rule, destination, ask) {
            return Err(Reason::ForbiddenAddress);
        }
        Ok(look)
    }

    fn check_seen(&self, rule: &Rule, destination: &Destination, ask: &Ask) -> Result<Look, Reason> {
        // Only deny rules speak of every scheme; an allow rule that names none is read as the strictest.
        let scheme = destination.scheme.unwrap_or(Scheme::Tls);
        match (scheme, &ask.seen) {
            (Scheme::Tcp, _) => Ok(Look::Nothing),
            (Scheme::Tls, _) if rule.sni == SniCheck::Off => Ok(Look::Nothing),
            (Scheme::Tls, Seen::Nothing) => Ok(Look::Hello),
            (Scheme::Tls, Seen::Hello { sni, ech }) => {
                self.check_name(rule, sni.as_ref(), ask)?;
                if *ech && !rule.ech_outer {
                    return Err(Reason::Ech);
                }
                Ok(Look::Hello)
            }
            (Scheme::Tls, Seen::Http | Seen::Other) => Err(Reason::NotTls),
            (Scheme::Http, Seen::Nothing | Seen::Http) => Ok(Look::Http),
            (Scheme::Http, Seen::Hello { .. } | Seen::Other) => Err(Reason::NotHttp),
        }
    }

    fn check_name(&self, rule: &Rule, sni: Option<&HostName>, ask: &Ask) -> Result<(), Reason> {
        let Some(sni) = sni else {
            return if rule.no_sni { Ok(()) } else { Err(Reason::NoSni) };
        };
        if ask.host.name() == Some(sni) {
            return Ok(());
        }
        match rule.sni {
            SniCheck::Off => Ok(()),
            SniCheck::Strict => Err(Reason::SniMismatch),
            SniCheck::Listed if self.is_listed(sni, ask) => Ok(()),
            SniCheck::Listed => Err(Reason::SniNotListed),
        }
    }

    /// Whether a name may be reached by this source on the port of the ask. It is judged as if asked for itself, so this
    /// ends after one step; the address and ECH belong to the outer ask.
    fn is_listed(&self, sni: &HostName, ask: &Ask) -> bool {
        let seen = Seen::Hello {
            sni: Some(sni.clone()),
            ech: false,
        };
        let own = Ask::new(Host::Name(sni.clone()), ask.port).seeing(seen);
        matches!(self.verdict(&own), Verdict::Allow { .. })
    }

    /// Whether the rule lets this address be dialled. Ranges that are closed to everyone are open to a rule whose
    /// `addresses` hold the address. A special range such as `10.0.0.0/8` is also open to a rule whose own range lies
    /// within it, because that names it as well as `addresses` could: nobody writes `tcp://10.1.3.7:6379` by accident,
    /// and everybody may write `0.0.0.0/0`. The cluster's own networks need `addresses` in any case.
    fn address_fits(&self, rule: &Rule, destination: &Destination, ask: &Ask) -> bool {
        let Some(address) = dialled(ask) else {
            return true;
        };
        let class = classify(address);
        if let AddressClass::Never(_) = class {
            return false;
        }
        if rule.addresses.iter().any(|range| holds(range, address)) {
            return true;
        }
        let own = match &destination.host {
            HostMatch::Cidr(range) if range.contains(&address) => Some(range),
            HostMatch::Cidr(_) | HostMatch::Name(_) => None,
        };
        let class_fits = class == AddressClass::Public || own.is_some_and(|range| classify_net(*range) == class);
        class_fits && !self.policy.closed().iter().any(|range| holds(range, address))
    }

    /// The deny rule that names a range around the address that is about to be dialled. What collections say of it is
    /// added to their walk.
    fn denied_address(&self, ask: &Ask, walk: &mut Walk) -> Option<Specificity> {
        let address = dialled(ask)?;
        let inside = translated(address);
        let mut denied = None;
        let mut found = |id, rule: &Rule, destination: &Destination, is_inside: bool| {
            if !self.exists(rule) || !destination.covers_port(ask.port) {
                return;
            }
            match (rule.effect, &rule.collection) {
                (Effect::Deny, None) => {
                    let from = self.named_source(rule);
                    denied = denied.max(from.map(|_| Specificity::of(id, destination, from)));
                }
                (Effect::Deny, Some(_)) if self.named_source(rule).is_some() => walk.deny_address(id),
                // As if the address itself had been asked for; the one inside it was not.
                (Effect::Allow, Some(_)) if !is_inside && self.check(rule, destination, ask).is_ok() => walk.shield(id),
                (Effect::Deny | Effect::Allow, _) => {}
            }
        };
        let (index, rules, asker) = (self.policy.index(), self.policy.rules(), || self.asker());
        index.visit_address_from(rules, address, &asker, &mut |id, rule, to| found(id, rule, to, false));
        if inside != address {
            index.visit_address_from(rules, inside, &asker, &mut |id, rule, to| found(id, rule, to, true));
        }
        denied
    }

    /// What report mode makes of a verdict: everything goes out to public addresses, but not to names that only exist
    /// inside a cluster, nor to the API server, which may have a public address that nobody wrote down.
    fn reported(&self, verdict: Verdict, ask: &Ask) -> Verdict {
        let Verdict::Deny { rule, reason } = verdict else {
            return verdict;
        };
        if dialled(ask).is_some_and(|address| self.is_closed(address)) {
            // Where a rule opens this address, it is what was seen that failed.
            let unseen = ask.clone().seeing(Seen::Nothing);
            if matches!(self.verdict(&unseen), Verdict::Allow { .. }) {
                return verdict;
            }
            let reason = Reason::ForbiddenAddress;
            return Verdict::Deny { rule, reason };
        }
        if reason == Reason::NoRule && ask.host.name().is_some_and(is_cluster_name) {
            return verdict;
        }
        let api_server = self.policy.api_server();
        if reason == Reason::DenyRule && api_server.is_some() && ask.host.name() == api_server {
            return verdict;
        }
        let inspect = Inspect::Nothing;
        Verdict::Allow { rule, inspect }
    }

    pub(super) fn is_closed(&self, address: IpAddr) -> bool {
        classify(address) != AddressClass::Public || self.policy.closed().iter().any(|range| holds(range, address))
    }

    fn asker(&self) -> Asker<impl Iterator<Item = &'a Arc<str>>> {
        Asker {
            address: self.source.address,
            workloads: self.policy.workloads_with(self.source),
        }
    }

    fn exists(&self, rule: &Rule) -> bool {
        self.is_in_time(rule) && (self.report_rules || !rule.report)
    }

    pub(super) fn is_in_time(&self, rule: &Rule) -> bool {
        match (self.now, rule.until) {
            (Some(now), Some(until)) => now < until,
            (None, _) | (_, None) => true,
        }
    }

    /// How narrowly the rule names this source: 0 for everyone, 1 and more for address ranges, more still for a workload.
    /// `None` where it does not.
    pub(super) fn named_source(&self, rule: &Rule) -> Option<u8> {
        let peers = match &rule.from {
            From::Everyone => return Some(0),
            From::Any(peers) => peers,
        };
        let members = match peers.listed() {
            Listed::Few(peers) => return self.named_in(peers),
            Listed::Many(members) => members,
        };
        if members.has_workloads() && self.policy.workloads_with(self.source).any(|name| members.holds(name)) {
            return Some(u8::MAX);
        }
        members.narrowest(self.source.address).map(|length| 1 + length)
    }

    fn named_in(&self, peers: &[Peer]) -> Option<u8> {
        let named = peers.iter().filter_map(|peer| match peer {
            Peer::Workload(name) => self.policy.belongs_to(self.source, name).then_some(u8::MAX),
            Peer::Cidr(range) => range.contains(&self.source.address).then_some(1 + range.prefix_len()),
        });
        named.max()
    }
}

impl Verdict {
    /// Where nothing passed: the failure that is nearest to it.
    fn failed(nearest: Option<Failure>, host: &Host) -> Self {
        let reason = match (nearest, host) {
            (Some(failure), _) => failure.reason,
            (None, Host::Name(_)) => Reason::NoRule,
            (None, Host::Address(_)) => Reason::IpLiteral,
        };
        let rule = nearest.map(|failure| failure.rule());
        Self::Deny { rule, reason }
    }

    /// `would_deny` is the reason without reporting, where that was a denial.
    fn into_decision(self, policy: &Policy, would_deny: Option<Reason>) -> Decision {
        let generation = policy.generation();
        match self {
            Self::Allow { rule, inspect } => Decision {
                action: Action::Allow(inspect),
                rule,
                reason: would_deny.map_or(Reason::Rule, |_| Reason::Report),
                would_deny,
                generation,
            },
            Self::Deny { rule, reason } => Decision {
                action: Action::Deny,
                rule,
                reason,
                would_deny: None,
                generation,
            },
        }
    }
}

/// The address that the ask will dial or has dialled, if it is known yet.
pub(super) fn dialled(ask: &Ask) -> Option<IpAddr> {
    match ask.host {
        Host::Name(_) => ask.address,
        Host::Address(literal) => ask.address.or(Some(literal)),
    }
}

fn holds(range: &ipnet::IpNet, address: IpAddr) -> bool {
    range.contains(&address) || range.contains(&translated(address))
}

/// Names that no public resolver knows: a single label, and what Kubernetes gives out.
fn is_cluster_name(name: &HostName) -> bool {
    let name = name.as_str();
    !name.contains('.') || CLUSTER_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

const CLUSTER_SUFFIXES: &[&str] = &[".svc", ".cluster.local"];

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::policy::fixture::{self, Question, source};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Group {
        what: String,
        policy: String,
        cases: Vec<Case>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        id: String,
        ask: String,
        from: Option<String>,
        hello: Option<String>,
        #[serde(default)]
        ech: bool,
        seen: Option<String>,
        address: Option<IpAddr>,
        now: Option<String>,
        r#as: Option<String>,
        is: String,
        inspect: Option<String>,
        rule: Option<String>,
        marked: Option<String>,
    }

    #[test]
    fn the_gate_answers_as_written_down() {
        let groups: Vec<Group> = serde_saphyr::from_str(include_str!("../../tests/corpus/gate.yaml")).unwrap();
        let mut wrong = Vec::new();
        for group in &groups {
            let policy = fixture::load(&group.policy);
            for case in &group.cases {
                let decision = case.decide(&policy);
                let found = said(&policy, &decision);
                let expected = (
                    case.is.as_str(),
                    case.inspect.as_deref(),
                    case.rule.as_deref(),
                    case.marked.as_deref(),
                );
                if found != expected {
                    wrong.push(format!("{}: {} {case:?}\n    found {found:?}", group.what, case.id));
                }
            }
        }
        assert!(groups.len() > 6);
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }

    /// J13, where two rules are equally narrow and fail at the same check for different reasons.
    #[test]
    fn the_order_of_equal_rules_does_not_choose_the_reason() {
        let reason = |entries: [&str; 2]| {
            let policy = fixture::load(&format!("allow:\n  - {}\n  - {}\n", entries[0], entries[1]));
            let hello = Seen::Hello {
                sni: Some(HostName::parse(b"other.test").unwrap()),
                ech: false,
            };
            let ask = fixture::ask("a.test:443").seeing(hello);
            gate(&policy, Timestamp::UNIX_EPOCH, &source("10.9.9.9"), &ask).reason
        };
        let (strict, listed) = ("{to: [a.test]}", "{to: [a.test], sni: listed}");
        assert_eq!(reason([strict, listed]), reason([listed, strict]));
        let (tls, http) = ("{to: [a.test]}", "{to: [\"http://a.test:443\"]}");
        assert_eq!(reason([tls, http]), reason([http, tls]));
    }

    impl Case {
        fn decide(&self, policy: &Policy) -> Decision {
            let question = Question {
                ask: &self.ask,
                hello: self.hello.as_deref(),
                ech: self.ech,
                seen: self.seen.as_deref(),
                address: self.address,
            };
            let ask = question.ask();
            let source = source(self.from.as_deref().unwrap_or("10.9.9.9"));
            let day = self.now.as_deref().unwrap_or("2026-11-20");
            let now = format!("{day}T12:00:00Z").parse().unwrap();
            match self.r#as.as_deref() {
                None => gate(policy, now, &source, &ask),
                Some("enforce") => enforce(policy, now, &source, &ask),
                Some("expected") => expected(policy, &source, &ask),
                Some(other) => panic!("{other}"),
            }
        }
    }

    type Said<'a> = (&'a str, Option<&'a str>, Option<&'a str>, Option<&'a str>);

    fn said<'a>(policy: &'a Policy, decision: &Decision) -> Said<'a> {
        let rule = decision.rule.and_then(|id| policy.rule_label(id));
        let (is, inspect) = match decision.action {
            Action::Deny => (decision.reason.as_str(), None),
            Action::Allow(inspect) => {
                let expected = decision.would_deny.map_or(Reason::Rule, |_| Reason::Report);
                assert_eq!(decision.reason, expected);
                let inspect = match inspect {
                    Inspect::Nothing => None,
                    Inspect::Hello => Some("hello"),
                    Inspect::Http => Some("http"),
                    Inspect::HelloOrHttp => Some("either"),
                };
                ("allow", inspect)
            }
        };
        let marked = decision.would_deny.map(Reason::as_str);
        (is, inspect, rule.map(|(name, _)| &**name), marked)
    }
}
