//! One sentence for the one criterion of a rule that an ask did not meet.
//! Must not judge; the reason is the gate's. No raw input: names are canonical, the rest is the policy's own text.
//! Called by `explain` for each near miss.

use jiff::ToSpan;
use jiff::tz::TimeZone;

use crate::address::{AddressClass, classify};
use crate::policy::ask::{Ask, Seen};
use crate::policy::gate::{Judge, dialled};
use crate::policy::reason::Reason;
use crate::policy::rule::{Destination, From, Rule};

/// What failed among the destinations of a rule whose host covers the ask.
pub(super) fn failed(
    judge: &Judge<'_>,
    rule: &Rule,
    destinations: &[&Destination],
    ask: &Ask,
    reason: Reason,
) -> String {
    match reason {
        Reason::NoRuleForSource => sources(&rule.from),
        Reason::Port => ports(destinations),
        Reason::NotTls => "only TLS passes, and the first bytes are something else".to_owned(),
        Reason::NotHttp => "only plain HTTP passes, and the first bytes are something else".to_owned(),
        Reason::SniMismatch => format!(
            "the ClientHello names {}, and the rule wants {} (`sni: strict`)",
            sni(ask),
            ask.host
        ),
        Reason::SniNotListed => format!(
            "the ClientHello names {}, which is not allowed itself on port {} (`sni: listed`)",
            sni(ask),
            ask.port
        ),
        Reason::NoSni => "the ClientHello names no host, and the rule does not say `no_sni: allow`".to_owned(),
        Reason::Ech => "the ClientHello carries ECH, and the rule does not say `ech: outer`".to_owned(),
        Reason::ForbiddenAddress => address(judge, ask),
        other => other.doc().to_owned(),
    }
}

/// Why a rule that passes every check still allows nothing.
pub(super) fn absent(judge: &Judge<'_>, rule: &Rule) -> String {
    let until = rule.until.filter(|_| !judge.is_in_time(rule));
    let Some(until) = until else {
        return "it only reports (`report: true`)".to_owned();
    };
    let last = until.checked_sub(1.nanosecond()).unwrap_or(until);
    format!("it ended with {} (`until`)", last.to_zoned(TimeZone::UTC).date())
}

fn sources(from: &From) -> String {
    match from {
        From::Everyone => "allowed from everywhere".to_owned(),
        From::Any(peers) => {
            let peers: Vec<_> = peers.iter().map(ToString::to_string).collect();
            format!("allowed only from {}", peers.join(", "))
        }
    }
}

fn ports(destinations: &[&Destination]) -> String {
    let mut ranges: Vec<_> = destinations
        .iter()
        .map(|destination| (*destination.ports.start(), *destination.ports.end()))
        .collect();
    ranges.sort_unstable();
    ranges.dedup();
    let word = match ranges.as_slice() {
        [(first, last)] if first == last => "port",
        _ => "ports",
    };
    let ranges: Vec<_> = ranges
        .into_iter()
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect();
    format!("{word} {} only", ranges.join(", "))
}

fn sni(ask: &Ask) -> String {
    match &ask.seen {
        Seen::Hello { sni: Some(sni), .. } => sni.to_string(),
        _ => "no host".to_owned(),
    }
}

fn address(judge: &Judge<'_>, ask: &Ask) -> String {
    let Some(address) = dialled(ask) else {
        return Reason::ForbiddenAddress.doc().to_owned();
    };
    match classify(address) {
        AddressClass::Never(class) => format!("{address} ({class}) is never dialled, whatever a rule says"),
        AddressClass::Special(class) => {
            format!("{address} ({class}) is not public, and the rule's `addresses` do not hold it")
        }
        AddressClass::Public if judge.is_closed(address) => {
            format!("{address} belongs to the cluster itself, and the rule's `addresses` do not hold it")
        }
        AddressClass::Public => format!("{address} is not open to this rule"),
    }
}
