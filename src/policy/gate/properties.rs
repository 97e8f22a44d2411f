//! What holds for every policy and every ask: the gate agrees with a slow model, and order never matters.
//! Must not depend on chance: each property names what every answer must satisfy.
//! Called by the test run alone.

use std::net::IpAddr;

use jiff::Timestamp;
use proptest::prelude::*;

use super::{enforce, expected, gate};
use crate::name::{Host, HostName};
use crate::policy::compiled::Mode;
use crate::policy::rule::{Effect, SniCheck};
use crate::policy::{Action, Ask, Decision, Reason, Seen};

use model::Model;
use world::{Described, World, address, ask, crowd, denying, moment, ordered, ranges, rule, source, world};

mod model;
mod walk;
pub(in crate::policy) mod world;

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_gate_agrees_with_a_slow_model(world in world(), source in source(), ask in ask(), now in moment()) {
        let model = Model { world: &world, source: &source, now };
        let policy = world.policy();
        for (decision, (allowed, reasons)) in [
            (enforce(&policy, now, &source, &ask), model.verdict(&ask, false)),
            (gate(&policy, now, &source, &ask), model.in_force(&ask)),
        ] {
            prop_assert_eq!(decision.is_allowed(), allowed.is_some(), "{:?} but {:?}", &decision, &reasons);
            match allowed {
                Some(inspect) => prop_assert_eq!(decision.action, Action::Allow(inspect)),
                None => prop_assert!(reasons.contains(&decision.reason), "{:?} but {:?}", &decision, &reasons),
            }
            if let Some(would_deny) = decision.would_deny {
                prop_assert!(reasons.contains(&would_deny));
            }
            prop_assert_eq!(decision.would_deny.is_some(), decision.reason == Reason::Report);
        }
    }

    #[test]
    fn the_gate_agrees_with_a_slow_model_on_ranges(world in ranges(), source in source(), ask in ask(), to in address(), now in moment()) {
        let model = Model { world: &world, source: &source, now };
        let name = HostName::parse(b"a.host.test").unwrap();
        let ask = Ask { host: Host::Name(name), address: Some(to), ..ask };
        let decision = enforce(&world.policy(), now, &source, &ask);
        let (allowed, reasons) = model.verdict(&ask, false);
        prop_assert_eq!(decision.is_allowed(), allowed.is_some(), "{:?} but {:?}", &decision, &reasons);
        if allowed.is_none() {
            prop_assert!(reasons.contains(&decision.reason), "{:?} but {:?}", &decision, &reasons);
        }
    }

    #[test]
    fn the_gate_agrees_with_a_slow_model_on_many_rules_for_one_host(
        world in crowd(), source in source(), ask in ask(), now in moment(),
    ) {
        let model = Model { world: &world, source: &source, now };
        let (allowed, reasons) = model.verdict(&ask, false);
        let decision = enforce(&world.policy(), now, &source, &ask);
        prop_assert_eq!(decision.is_allowed(), allowed.is_some(), "{:?} but {:?}", &decision, &reasons);
        if allowed.is_none() {
            prop_assert!(reasons.contains(&decision.reason), "{:?} but {:?}", &decision, &reasons);
        }
    }

    /// Rules that name more sources than a few are looked at one by one; these ones never ask.
    #[test]
    fn who_is_found_by_source_is_found_as_by_a_look_at_each(
        world in crowd(), source in source(), ask in ask(), now in moment(),
    ) {
        let nobody = ["203.0.113.1/32", "203.0.113.2/32", "203.0.113.3/32", "203.0.113.4/32", "203.0.113.5/32",
            "203.0.113.6/32", "203.0.113.7/32", "203.0.113.8/32"];
        let mut each = world.clone();
        for rule in each.ordered.iter_mut().chain(&mut each.rules) {
            rule.from.iter_mut().for_each(|from| from.extend(nobody));
        }
        prop_assert_eq!(gate(&world.policy(), now, &source, &ask), gate(&each.policy(), now, &source, &ask));
    }

    #[test]
    fn deny_beats_allow(world in world(), source in source(), ask in ask(), now in moment()) {
        let mut world = World { mode: Mode::Enforce, ..world };
        world.rules.push(Described { effect: Effect::Deny, to: vec![denying(&ask.host)], ..Described::default() });
        let decision = gate(&world.policy(), now, &source, &ask);
        prop_assert_eq!((decision.action, decision.reason), (Action::Deny, Reason::DenyRule));
    }

    #[test]
    fn one_more_allow_rule_closes_nothing(world in world(), more in rule(), source in source(), ask in ask(), now in moment()) {
        let before = gate(&world.policy(), now, &source, &ask);
        let mut wider = world;
        wider.rules.push(Described { effect: Effect::Allow, ..more });
        let after = gate(&wider.policy(), now, &source, &ask);
        prop_assert!(after.is_allowed() || !before.is_allowed(), "{:?} became {:?}", before, after);
    }

    #[test]
    fn one_more_allow_rule_in_a_collection_closes_nothing(
        world in world(), more in rule(), place in any::<prop::sample::Index>(), source in source(), ask in ask(), now in moment(),
    ) {
        let before = gate(&world.policy(), now, &source, &ask);
        let mut wider = world;
        let place = place.index(wider.ordered.len() + 1);
        wider.ordered.insert(place, Described { effect: Effect::Allow, ..more });
        let after = gate(&wider.policy(), now, &source, &ask);
        prop_assert!(after.is_allowed() || !before.is_allowed(), "{:?} became {:?}", before, after);
    }

    #[test]
    fn behind_the_first_match_nothing_counts(world in world(), more in prop::collection::vec(ordered(), 0..6), source in source(), ask in ask(), now in moment()) {
        // A listed name may well be allowed further behind.
        let mut world = world;
        for rule in world.ordered.iter_mut().filter(|rule| rule.sni == SniCheck::Listed) {
            rule.sni = SniCheck::Strict;
        }
        let before = enforce(&world.policy(), now, &source, &ask);
        let place = before.rule.map_or(usize::MAX, |rule| rule.0 as usize);
        let decided = ask.seen != Seen::Nothing && (before.is_allowed() || before.reason == Reason::DenyRule);
        if decided && place < world.ordered.len() {
            let mut other = world;
            other.ordered.truncate(place + 1);
            other.ordered.extend(more);
            other.rules.retain(|rule| rule.effect == Effect::Deny);
            let after = enforce(&other.policy(), now, &source, &ask);
            prop_assert_eq!((before.action, before.rule), (after.action, after.rule));
        }
    }

    #[test]
    fn nothing_that_is_seen_opens_what_was_refused_unseen(world in world(), source in source(), ask in ask(), now in moment()) {
        let policy = world.policy();
        let unseen = ask.clone().seeing(Seen::Nothing);
        if enforce(&policy, now, &source, &ask).is_allowed() {
            prop_assert!(enforce(&policy, now, &source, &unseen).is_allowed());
        }
    }

    #[test]
    fn what_is_never_dialled_is_never_allowed(world in world(), source in source(), ask in ask(), now in moment()) {
        let policy = world.policy();
        for address in ["169.254.169.254", "168.63.129.16", "fe80::1", "::ffff:93.184.216.34", "2002::1", "64:ff9b::a9fe:a9fe"] {
            let address: IpAddr = address.parse().unwrap();
            prop_assert!(!gate(&policy, now, &source, &ask.clone().dialling(address)).is_allowed());
            let literal = Ask { host: Host::Address(address), address: None, ..ask.clone() };
            prop_assert!(!gate(&policy, now, &source, &literal).is_allowed());
        }
    }

    #[test]
    fn between_two_changes_time_changes_nothing(world in world(), source in source(), ask in ask(), now in moment()) {
        let policy = world.policy();
        if let Some(change) = policy.next_change(now) {
            prop_assert!(change > now);
            let last = Timestamp::from_nanosecond(change.as_nanosecond() - 1).unwrap();
            prop_assert_eq!(gate(&policy, now, &source, &ask), gate(&policy, last, &source, &ask));
        } else {
            prop_assert_eq!(gate(&policy, now, &source, &ask), gate(&policy, Timestamp::MAX, &source, &ask));
        }
        prop_assert_eq!(expected(&policy, &source, &ask), enforce(&policy, Timestamp::MIN, &source, &ask));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// J13.
    #[test]
    fn the_order_of_rules_never_matters(
        (world, shuffled) in world().prop_flat_map(|world| (Just(world.rules.clone()).prop_shuffle(), Just(world)))
            .prop_map(|(rules, world)| (world.clone(), World { rules, ..world })),
        source in source(),
        ask in ask(),
        now in moment(),
    ) {
        let answer = |world: &World| {
            let Decision { action, reason, would_deny, .. } = gate(&world.policy(), now, &source, &ask);
            (action, reason, would_deny)
        };
        prop_assert_eq!(answer(&world), answer(&shuffled));
    }
}
