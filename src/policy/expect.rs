//! Runs the policy's own tests through the gate, as if enforcing and before every `until`.
//! Must not judge in any other way than the data path does.
//! Called by `load`, before a set of files may come into force.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::ask::{Action, Ask, Decision, Inspect, Seen, Source};
use super::compiled::{Policy, Workload};
use super::document::{Expectation, Tester, Verdict, Wanted};
use super::gate::expected;
use super::problem::{At, Problems};
use super::reason::Reason;
use super::rule::{Effect, From, Peer, Rule, Scheme};
use crate::name::Host;

/// Notes every test that fails, with the gate's answer.
pub(super) fn run(expectations: &[At<Expectation>], policy: &Policy, problems: &mut Problems<'_>) {
    let testers = Testers::of(policy);
    for expectation in expectations {
        for wanted in &expectation.value.of {
            let askers: Vec<_> = match &expectation.value.from {
                Some(from) => from
                    .iter()
                    .flat_map(|tester| testers.named(&tester.value, &wanted.value.host))
                    .collect(),
                None => testers.everyone(&wanted.value.host),
            };
            let answers = askers
                .iter()
                .map(|asker| (asker, ask(policy, &asker.source, &wanted.value)));
            let wrong = answers
                .into_iter()
                .find(|(_, answer)| answer.decision.is_allowed() != (expectation.value.verdict == Verdict::Allow));
            if let Some((asker, answer)) = wrong {
                note(wanted, expectation.value.verdict, asker, &answer, policy, problems);
            }
        }
    }
}

/// Every way in which a workload comes in, as far as it matters to a host: through its port, and from each stretch of
/// its ranges that rules treat alike. `None`: there is no such workload.
pub(crate) fn ways(policy: &Policy, workload: &str, host: &Host) -> Option<Vec<Asker>> {
    let workload = policy.workload(workload)?;
    let testers = Testers::of(policy);
    Some(testers.ways(workload, &testers.samples(host)))
}

/// One way in which a test can be asked.
#[derive(Clone)]
pub(crate) struct Asker {
    /// For the message: `trips`, `trips at 10.1.0.0`, `10.1.2.3`.
    pub(crate) shown: String,
    pub(crate) source: Source,
}

/// The last word of the gate, and after what it came.
struct Answer {
    decision: Decision,
    /// What the connection showed when it was refused, where that was not the request itself.
    after: Option<&'static str>,
}

struct Testers<'p> {
    policy: &'p Policy,
    /// An address that nothing names, if there is one.
    stranger: Option<IpAddr>,
}

impl<'p> Testers<'p> {
    fn of(policy: &'p Policy) -> Self {
        Self {
            policy,
            stranger: stranger(policy),
        }
    }

    /// Every way in which this tester comes in, as far as it matters to a host.
    fn named(&self, tester: &Tester, host: &Host) -> Vec<Asker> {
        match tester {
            Tester::Address(address) => vec![Asker {
                shown: address.to_string(),
                source: Source::at(*address),
            }],
            Tester::Workload(name) => match self.policy.workload(name) {
                Some(workload) => self.ways(workload, &self.samples(host)),
                None => Vec::new(),
            },
        }
    }

    /// Through its port, and from its ranges. One that the proxy cannot recognise is asked as if it could: what is
    /// tested then is that no rule speaks of it.
    fn ways(&self, workload: &Workload, samples: &BTreeSet<IpAddr>) -> Vec<Asker> {
        let name = &workload.name;
        let stranger = self.stranger.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let through = Asker {
            shown: name.to_string(),
            source: Source::through(stranger, Arc::clone(name)),
        };
        let own = |address: &&IpAddr| workload.cidrs.iter().any(|range| range.contains(*address));
        let from = samples.iter().filter(own).map(|address| Asker {
            shown: format!("{name} at {address}"),
            source: Source::at(*address),
        });
        let through = (workload.port.is_some() || workload.cidrs.is_empty()).then_some(through);
        through.into_iter().chain(from).collect()
    }

    /// Someone whom nothing names, each workload, and everyone else whom a rule for this host could tell apart.
    fn everyone(&self, host: &Host) -> Vec<Asker> {
        let samples = self.samples(host);
        let stranger = self.stranger.map(|address| Asker {
            shown: "a client that no rule names".to_owned(),
            source: Source::at(address),
        });
        let mut askers: Vec<_> = stranger.into_iter().collect();
        let workloads = self.policy.workloads();
        askers.extend(workloads.iter().flat_map(|workload| self.ways(workload, &samples)));
        askers.extend(samples.into_iter().map(|address| Asker {
            shown: address.to_string(),
            source: Source::at(address),
        }));
        askers
    }

    /// One address out of each stretch that the rules for a host treat alike: the first of every range that they or the
    /// workloads name, and the one behind its end.
    fn samples(&self, host: &Host) -> BTreeSet<IpAddr> {
        let mut samples = BTreeSet::new();
        let mut add = |range: &IpNet| samples.extend([Some(range.network()), behind(range)].into_iter().flatten());
        for workload in self.policy.workloads() {
            workload.cidrs.iter().for_each(&mut add);
        }
        self.policy.index().visit(self.policy.rules(), host, |_, rule, _| {
            peers(rule).iter().filter_map(range).for_each(&mut add);
        });
        samples
    }
}

/// The first address behind a range, if there is one.
fn behind(range: &IpNet) -> Option<IpAddr> {
    match range.broadcast() {
        IpAddr::V4(last) => u32::from(last).checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(last) => u128::from(last).checked_add(1).map(|next| IpAddr::V6(next.into())),
    }
}

/// An address that no rule and no workload names, if there is one.
pub(crate) fn stranger(policy: &Policy) -> Option<IpAddr> {
    let peers = policy.rules().iter().flat_map(peers);
    let ranges = peers
        .filter_map(range)
        .chain(policy.workloads().iter().flat_map(|workload| &workload.cidrs));
    let mut candidates = vec![
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
        IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    ];
    for range in ranges {
        candidates.retain(|address| !range.contains(address));
    }
    candidates.first().copied()
}

fn peers(rule: &Rule) -> &[Peer] {
    match &rule.from {
        From::Everyone => &[],
        From::Any(peers) => peers,
    }
}

fn range(peer: &Peer) -> Option<&IpNet> {
    match peer {
        Peer::Cidr(range) => Some(range),
        Peer::Workload(_) => None,
    }
}

/// Asks as a client would: the request, then what its protocol shows first.
fn ask(policy: &Policy, source: &Source, wanted: &Wanted) -> Answer {
    let mut request = Ask::new(wanted.host.clone(), wanted.port);
    if let Host::Address(address) = wanted.host {
        request = request.dialling(address);
    }
    let decision = expected(policy, source, &request);
    let Action::Allow(inspect) = decision.action else {
        return Answer { decision, after: None };
    };
    let (seen, after) = match wanted.scheme {
        Scheme::Tls => {
            let sni = wanted.host.name().cloned();
            (Seen::Hello { sni, ech: false }, "after the ClientHello")
        }
        Scheme::Http => (Seen::Http, "after the request"),
        // Opaque bytes pass where nobody looks at them.
        Scheme::Tcp if inspect == Inspect::Nothing => return Answer { decision, after: None },
        Scheme::Tcp => (Seen::Other, "when bytes come that are not TLS or HTTP"),
    };
    Answer {
        decision: expected(policy, source, &request.seeing(seen)),
        after: Some(after),
    }
}

fn note(
    wanted: &At<Wanted>,
    verdict: Verdict,
    asker: &Asker,
    answer: &Answer,
    policy: &Policy,
    problems: &mut Problems<'_>,
) {
    let decision = &answer.decision;
    let (is, should) = match verdict {
        Verdict::Allow => ("denied", "allowed"),
        Verdict::Deny => ("allowed", "denied"),
    };
    let rule = decision.rule.and_then(|id| policy.rule(id));
    let label = match rule {
        Some(rule) => {
            let how = match (rule.effect, decision.is_allowed()) {
                (_, true) => " by",
                (Effect::Deny, false) => " by the deny rule",
                (Effect::Allow, false) => "; the nearest is",
            };
            format!("{is}{how} `{}` ({})", rule.name, rule.at)
        }
        None => is.to_owned(),
    };
    let written = problems.quote(wanted.at).trim_matches(['"', '\'']).to_owned();
    let problem = problems.error(
        wanted.at,
        format!("`{written}` is {is} for {}, and should be {should}", asker.shown),
    );
    problem.label(label);
    if decision.reason != Reason::Rule {
        let after = answer.after.map_or_else(String::new, |after| format!(", {after}"));
        problem.help(format!(
            "the gate says `{}`{after}: {}",
            decision.reason.as_str(),
            decision.reason.doc()
        ));
    }
}
