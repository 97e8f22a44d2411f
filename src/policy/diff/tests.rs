//! That the comparison is exact: for random policies and asks, what differs stands in a class, and no class holds what
//! does not. Must not use samples of the comparison itself: asks come from the gate's own world.
//! Called by the test run alone.

use proptest::prelude::*;

use super::compare::{Comparison, Found};
use super::*;
use crate::name::Host;
use crate::policy::ask::{Ask, Seen, Source};
use crate::policy::gate::properties::world::{World, ask, moment, source, world};
use crate::policy::{Reason, enforce};

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_differs_is_found_and_nothing_else(
        old in world(), new in world(), kept in prop::sample::subsequence((0..12_usize).collect::<Vec<_>>(), 0..12),
        asks in prop::collection::vec((source(), ask()), 40), now in moment(),
    ) {
        // Most rules stand in both.
        let mut new = new;
        for place in kept {
            if let Some(rule) = old.rules.get(place) {
                new.rules.insert(place.min(new.rules.len()), rule.clone());
            }
        }
        let (old, new) = (old.policy(), new.policy());
        let comparison = Comparison::of(&old, &new, now).unwrap();
        let mut found = Vec::new();
        comparison.run(|class| found.push(class));
        for (mut source, ask) in asks {
            // Nobody comes in through a port that a workload does not have.
            source.workload = source.workload.filter(|name| &**name == "own");
            let ask = Ask { seen: if ask.seen == Seen::Nothing { Seen::Other } else { ask.seen }, ..ask };
            let differs = differs(&old, &new, now, &source, &ask);
            if let Some(covered) = covered(&comparison, &found, [&old, &new], now, &source, &ask) {
                prop_assert_eq!(covered, differs.is_some(), "{:?} {:?}", source, ask);
            } else if differs == Some(true) {
                // It hangs on another name, or on what names resolve into.
                let explained = explained(&found, [&old, &new], now, &source, &ask);
                prop_assert!(explained, "{:?} {:?}", source, ask);
            }
        }
    }

    #[test]
    fn nothing_differs_from_itself(one in world(), now in moment()) {
        let (old, new) = (one.policy(), World { rules: one.rules.clone(), ..one }.policy());
        prop_assert_eq!(diff(&old, &new, now), Diff::default());
    }
}

/// Whether two policies answer differently: by another answer, or only by another rule.
fn differs(old: &Policy, new: &Policy, now: Timestamp, source: &Source, ask: &Ask) -> Option<bool> {
    let said = |policy: &Policy| {
        let decision = enforce(policy, now, source, ask);
        let decides = decision.is_allowed() || decision.reason == Reason::DenyRule;
        let rule = decision.rule.filter(|_| decides).and_then(|id| policy.rule(id));
        (decision.is_allowed(), rule.map(|rule| rule.name.clone()))
    };
    let (before, after) = (said(old), said(new));
    (before != after).then_some(before.0 != after.0)
}

/// Whether a class that differs now holds the ask; nothing where it hangs on something else than its host.
fn covered(
    comparison: &Comparison,
    found: &[Found],
    policies: [&Policy; 2],
    now: Timestamp,
    source: &Source,
    ask: &Ask,
) -> Option<bool> {
    let sent = sent_of(policies, now, source, ask)?;
    // Addresses are looked at below for ranges that rules open; elsewhere as what every name meets.
    let of_host = found.iter().find(|found| match (&ask.host, &found.host) {
        (Host::Name(name), class) => comparison.hosts.class_of(name).as_ref() == Some(class),
        (Host::Address(_), _) => false,
    });
    let literal = |address| {
        let tree = comparison.hosts.addresses(policies);
        let place = tree.place_of(address)?;
        let net = tree.node(place)?.net;
        found.iter().find(|found| found.host == HostClass::Range(net))
    };
    let found = match ask.host {
        Host::Address(address) => literal(address),
        Host::Name(_) => of_host,
    };
    let into = match (ask.address, &ask.host) {
        (None, _) | (_, Host::Address(_)) => None,
        (Some(address), Host::Name(name)) => {
            let opened = policies.iter().flat_map(|policy| {
                let mut ranges = Vec::new();
                policy
                    .index()
                    .visit(policy.rules(), &Host::Name(name.clone()), |_, rule, _| {
                        ranges.extend(rule.addresses.iter().copied());
                    });
                ranges
            });
            if !opened.into_iter().any(|range| range.contains(&address)) {
                return None;
            }
            Some(address)
        }
    };
    let Some(found) = found else { return Some(false) };
    let who = found.sources.who(source)?;
    Some(found.cells.iter().any(|cell| {
        cell.change.since.is_none()
            && found.ports[cell.port].contains(&ask.port.number())
            && is_sent(found, cell.sent, sent)
            && cell.who == who
            && cell.into == into.and_then(|address| found.into.place_of(address))
    }))
}

/// Whether another class says why an ask is answered differently: that of the name in its hello, of the same ask before
/// it is resolved, or of everything that resolves into such an address.
fn explained(found: &[Found], policies: [&Policy; 2], now: Timestamp, source: &Source, ask: &Ask) -> bool {
    let [old, new] = policies;
    let unresolved = Ask {
        address: None,
        ..ask.clone()
    };
    let own = match &ask.seen {
        Seen::Hello { sni: Some(sni), .. } => {
            let hello = Seen::Hello {
                sni: Some(sni.clone()),
                ech: false,
            };
            Some(Ask::new(Host::Name(sni.clone()), ask.port).seeing(hello))
        }
        _ => None,
    };
    let mut others = [Some(unresolved), own].into_iter().flatten();
    others.any(|other| other != *ask && differs(old, new, now, source, &other) == Some(true))
        || ask.address.is_some_and(|address| {
            found.iter().any(|found| {
                let HostClass::Resolving(net) = found.host else {
                    return false;
                };
                let node = found.into.place_of(address).and_then(|place| found.into.node(place));
                node.is_some_and(|node| node.net == net)
                    && found.cells.iter().any(|cell| {
                        found.ports[cell.port].contains(&ask.port.number())
                            && found.sources.who(source).is_none_or(|who| who == cell.who)
                    })
            })
        })
}

fn is_sent(found: &Found, cell: Sent, sent: Sent) -> bool {
    cell == sent || !found.tried.contains(&sent) && cell == Sent::Opaque
}

fn sent_of(policies: [&Policy; 2], now: Timestamp, source: &Source, ask: &Ask) -> Option<Sent> {
    let Seen::Hello { sni, ech } = &ask.seen else {
        return Some(if ask.seen == Seen::Http {
            Sent::Http
        } else {
            Sent::Opaque
        });
    };
    let one = |plain, with_ech| Some(if *ech { with_ech } else { plain });
    let Some(sni) = sni else {
        return one(Sent::Unnamed, Sent::UnnamedEch);
    };
    if ask.host.name() == Some(sni) {
        return one(Sent::Tls, Sent::TlsEch);
    }
    let hello = Seen::Hello {
        sni: Some(sni.clone()),
        ech: false,
    };
    let own = Ask::new(Host::Name(sni.clone()), ask.port).seeing(hello);
    match policies.map(|policy| enforce(policy, now, source, &own).is_allowed()) {
        [true, true] => one(Sent::Listed, Sent::ListedEch),
        [false, false] => one(Sent::Unlisted, Sent::UnlistedEch),
        _ => None,
    }
}
