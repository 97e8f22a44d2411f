//! The design, rule by rule and without an index: slow, and written apart from the gate.
//! Must not share code with the gate, except for the classes of addresses, which have a table of their own.
//! Called by the properties.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;

use super::walk::Walked;
use super::world::{Described, World};
use crate::address::{AddressClass, classify, classify_net};
use crate::name::Host;
use crate::policy::compiled::Mode;
use crate::policy::rule::{Destination, Effect, From, HostMatch, Peer, Rule, Scheme, SniCheck};
use crate::policy::{Ask, Inspect, Reason, Seen, Source};

/// The design, rule by rule and without an index.
pub(super) struct Model<'a> {
    pub(super) world: &'a World,
    pub(super) source: &'a Source,
    pub(super) now: Timestamp,
}

impl Model<'_> {
    pub(super) fn in_force(&self, ask: &Ask) -> (Option<Inspect>, Vec<Reason>) {
        let (strict, why) = self.verdict(ask, false);
        if strict.is_some() {
            return (strict, why);
        }
        let (trial, all) = self.verdict(ask, true);
        if trial.is_some() {
            return (trial, why);
        }
        let reporting = matches!(self.world.mode, Mode::Report { until } if self.now < until);
        if !reporting {
            return (None, all);
        }
        let target = dialled(ask);
        if target.is_some_and(|target| classify(target) != AddressClass::Public || !self.around(target).is_empty()) {
            let unseen = ask.clone().seeing(Seen::Nothing);
            if self.verdict(&unseen, true).0.is_some() {
                return (None, all);
            }
            return (None, vec![Reason::ForbiddenAddress]);
        }
        let inner = ask
            .host
            .name()
            .is_some_and(|name| !name.as_str().contains('.') || name.parents().last() == Some("svc"));
        if inner && all == [Reason::NoRule] {
            return (None, all);
        }
        (Some(Inspect::Nothing), why)
    }

    /// What must be seen, or the reasons that may be given.
    pub(super) fn verdict(&self, ask: &Ask, trial: bool) -> (Option<Inspect>, Vec<Reason>) {
        let exists = |rule: &Rule| rule.until.is_none_or(|until| self.now < until);
        let existing =
            |rules: &[Described]| -> Vec<Rule> { rules.iter().map(Described::rule).filter(exists).collect() };
        let (ordered, rules) = (existing(&self.world.ordered), existing(&self.world.rules));
        for rule in rules.iter().filter(|rule| rule.effect == Effect::Deny) {
            for destination in &rule.to {
                let hit = covers(&destination.host, &ask.host)
                    || dialled(ask).is_some_and(|address| in_range(&destination.host, address));
                if hit && self.is_from(rule) && destination.ports.contains(&ask.port.number()) {
                    return (None, vec![Reason::DenyRule]);
                }
            }
        }
        let (mut looks, failed) = match self.walk(&ordered, ask, trial) {
            Walked::Denied => return (None, vec![Reason::DenyRule]),
            // The reasons are not asked for.
            Walked::Allowed(inspect) => return (Some(inspect), Vec::new()),
            Walked::On(looks, failed) => (looks, failed),
        };
        let mut failures = vec![(
            0,
            match ask.host {
                Host::Name(_) => Reason::NoRule,
                Host::Address(_) => Reason::IpLiteral,
            },
        )];
        failures.extend(failed);
        for rule in rules.iter().filter(|rule| rule.effect == Effect::Allow) {
            for destination in &rule.to {
                if covers(&destination.host, &ask.host) && (trial || !rule.report) {
                    match self.allows(rule, destination, ask, trial) {
                        Ok(look) => looks.push(look),
                        Err(failure) => failures.push(failure),
                    }
                }
            }
        }
        let hello = looks.contains(&Inspect::Hello);
        let http = looks.contains(&Inspect::Http);
        if looks.contains(&Inspect::Nothing) {
            (Some(Inspect::Nothing), reasons(failures))
        } else if hello && http {
            (Some(Inspect::HelloOrHttp), reasons(failures))
        } else if hello || http {
            (looks.first().copied(), reasons(failures))
        } else {
            (None, reasons(failures))
        }
    }

    pub(super) fn allows(
        &self,
        rule: &Rule,
        to: &Destination,
        ask: &Ask,
        trial: bool,
    ) -> Result<Inspect, (u8, Reason)> {
        if !self.is_from(rule) {
            return Err((1, Reason::NoRuleForSource));
        }
        if !to.ports.contains(&ask.port.number()) {
            return Err((2, Reason::Port));
        }
        let look = match to.scheme.unwrap() {
            Scheme::Tcp => Inspect::Nothing,
            Scheme::Tls if rule.sni == SniCheck::Off => Inspect::Nothing,
            Scheme::Tls => Inspect::Hello,
            Scheme::Http => Inspect::Http,
        };
        match (look, &ask.seen) {
            (Inspect::Hello, Seen::Http | Seen::Other) => return Err((3, Reason::NotTls)),
            (Inspect::Http, Seen::Hello { .. } | Seen::Other) => return Err((3, Reason::NotHttp)),
            (Inspect::Hello, Seen::Hello { sni, ech }) => {
                match sni {
                    None if !rule.no_sni => return Err((4, Reason::NoSni)),
                    Some(sni) if Host::Name(sni.clone()) != ask.host => {
                        let hello = Seen::Hello {
                            sni: Some(sni.clone()),
                            ech: false,
                        };
                        let own = Ask::new(Host::Name(sni.clone()), ask.port).seeing(hello);
                        if rule.sni == SniCheck::Strict {
                            return Err((4, Reason::SniMismatch));
                        }
                        if self.verdict(&own, trial).0.is_none() {
                            return Err((4, Reason::SniNotListed));
                        }
                    }
                    _ => {}
                }
                if *ech && !rule.ech_outer {
                    return Err((5, Reason::Ech));
                }
            }
            _ => {}
        }
        let named = |address: IpAddr| {
            let own = match &to.host {
                HostMatch::Cidr(range) => Some(range),
                HostMatch::Name(_) => None,
            };
            match classify(address) {
                AddressClass::Never(_) => return false,
                _ if rule.addresses.iter().any(|range| range.contains(&address)) => return true,
                AddressClass::Special(name) => {
                    if own.is_none_or(|own| classify_net(*own) != AddressClass::Special(name)) {
                        return false;
                    }
                }
                AddressClass::Public => {}
            }
            self.around(address).is_empty()
        };
        match dialled(ask) {
            Some(address) if !named(address) => Err((6, Reason::ForbiddenAddress)),
            _ => Ok(look),
        }
    }

    fn around(&self, address: IpAddr) -> Vec<IpNet> {
        let closed = self.world.closed.iter();
        closed.filter(|range| range.contains(&address)).copied().collect()
    }

    pub(super) fn is_from(&self, rule: &Rule) -> bool {
        let From::Any(peers) = &rule.from else { return true };
        let address = self.source.address;
        let narrow = |range: &str| range.parse::<IpNet>().unwrap().contains(&address);
        peers.iter().any(|peer| match (peer, &self.source.workload) {
            (Peer::Cidr(range), _) => range.contains(&address),
            (Peer::Workload(name), Some(own)) => name == own,
            (Peer::Workload(name), None) => match &**name {
                "wide" => narrow("10.0.0.0/8"),
                "narrow" => narrow("10.9.0.0/16") || narrow("2600:1::/32"),
                _ => false,
            },
        })
    }
}

/// The reasons of those that got furthest.
fn reasons(failures: Vec<(u8, Reason)>) -> Vec<Reason> {
    let furthest = failures.iter().map(|(progress, _)| *progress).max();
    let of_them = failures.into_iter().filter(|(progress, _)| Some(*progress) == furthest);
    of_them.map(|(_, reason)| reason).collect()
}

pub(super) fn dialled(ask: &Ask) -> Option<IpAddr> {
    ask.address.or(match ask.host {
        Host::Address(address) => Some(address),
        Host::Name(_) => None,
    })
}

pub(super) fn covers(written: &HostMatch, host: &Host) -> bool {
    match (written, host) {
        (HostMatch::Cidr(range), Host::Address(address)) => range.contains(address),
        (HostMatch::Name(pattern), Host::Name(name)) => matches(&pattern.to_string(), name.as_str()),
        _ => false,
    }
}

pub(super) fn in_range(written: &HostMatch, address: IpAddr) -> bool {
    matches!(written, HostMatch::Cidr(range) if range.contains(&address))
}

/// By labels, from what is written.
fn matches(pattern: &str, name: &str) -> bool {
    let written: Vec<_> = pattern.split('.').collect();
    let asked: Vec<_> = name.split('.').collect();
    if written[0] == "*" {
        return asked.len() >= written.len() && asked.ends_with(&written[1..]);
    }
    let Some((before, after)) = written[0].split_once('*') else {
        return pattern == name;
    };
    let middle = asked[0].strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    middle.is_some() && asked[1..] == written[1..]
}
