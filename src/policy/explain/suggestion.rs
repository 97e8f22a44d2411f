//! The one entry of `allow:` that would let exactly this ask pass, as text that can be pasted into a policy file.
//! Must not suggest what does not load or would not help: no entry beats a deny rule or opens what is never dialled.
//! Called by every refusal and by `explain`; it judges once or twice and walks over no rules.

use std::fmt;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::address::{AddressClass, classify, translated};
use crate::name::{Host, Port};
use crate::policy::ask::{Ask, Seen, Source};
use crate::policy::compiled::{Policy, Workload};
use crate::policy::gate::{Judge, Verdict, dialled};
use crate::policy::reason::Reason;
use crate::policy::rule::Scheme;

/// The entry for an ask that was denied at this moment. It would stand behind every collection, so that it cannot help where
/// one of them denies.
pub fn suggestion(policy: &Policy, now: Timestamp, source: &Source, ask: &Ask) -> Option<String> {
    proposal(policy, now, source, ask).map(|entry| entry.to_string())
}

/// The same in its parts, for who sums up many.
pub(crate) fn proposal(policy: &Policy, now: Timestamp, source: &Source, ask: &Ask) -> Option<Entry> {
    let mut judge = Judge::new(policy, source, Some(now));
    judge.report_rules = true;
    let address = dialled(ask);
    let never = address.is_some_and(|address| matches!(classify(address), AddressClass::Never(_)));
    if never || is_denied(&judge, ask) {
        return None;
    }
    // Whoever needs an address that is closed to everyone must decide that, not paste it.
    if matches!(ask.host, Host::Address(_)) && address.is_some_and(|address| judge.is_closed(address)) {
        return None;
    }
    let mut entry = Entry {
        from: from(&judge, ask).ok()?,
        to: vec![destination(ask, &ask.host)],
        checks: Vec::new(),
    };
    if let Seen::Hello { sni, ech } = &ask.seen {
        match sni {
            None => entry.checks.push("no_sni: allow".to_owned()),
            Some(sni) if ask.host.name() == Some(sni) => {}
            Some(sni) => {
                let name = Host::Name(sni.clone());
                // As a listed name is judged: it has shown itself.
                let seen = Seen::Hello {
                    sni: Some(sni.clone()),
                    ech: false,
                };
                if is_denied(&judge, &Ask::new(name.clone(), ask.port).seeing(seen)) {
                    return None;
                }
                entry.to.push(destination(ask, &name));
                entry.checks.push("sni: listed".to_owned());
            }
        }
        if *ech {
            entry.checks.push("ech: outer".to_owned());
        }
    }
    // An address that was asked for is named by `to` itself.
    if let (Host::Name(_), Some(address)) = (&ask.host, address)
        && judge.is_closed(address)
    {
        let whole = if translated(address).is_ipv4() { 32 } else { 128 };
        entry.checks.push(format!(
            "addresses: [{}]",
            scalar(&format!("{}/{whole}", translated(address)))
        ));
    }
    Some(entry)
}

/// The proxy cannot tell the workload from others, so no entry for it would load.
struct Unrecognisable;

/// Whom the entry is for: the workload; or, where rules keep the host for others, this address alone; or everyone.
fn from(judge: &Judge<'_>, ask: &Ask) -> Result<Option<String>, Unrecognisable> {
    let Judge { policy, source, .. } = judge;
    if let Some(name) = policy.workload_of(source) {
        let known = |workload: &Workload| workload.port.is_some() || !workload.cidrs.is_empty();
        let workload = policy.workload(name).filter(|workload| known(workload));
        return workload
            .map(|workload| Some(workload.name.to_string()))
            .ok_or(Unrecognisable);
    }
    let others_only = matches!(
        judge.verdict(ask),
        Verdict::Deny {
            reason: Reason::NoRuleForSource,
            ..
        }
    );
    Ok(others_only.then(|| IpNet::from(source.address).to_string()))
}

/// Whether a rule that no entry beats denies it. What only reports does not stand in the way of a collection that denies.
fn is_denied(judge: &Judge<'_>, ask: &Ask) -> bool {
    let enforcing = Judge::new(judge.policy, judge.source, judge.now);
    matches!(
        enforcing.verdict(ask),
        Verdict::Deny {
            reason: Reason::DenyRule,
            ..
        }
    )
}

/// An entry in the making; every part is a destination, a name or a key with its value, not yet quoted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) from: Option<String>,
    pub(crate) to: Vec<String>,
    pub(crate) checks: Vec<String>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let ([to], None, []) = (self.to.as_slice(), &self.from, self.checks.as_slice()) {
            return write!(f, "- {}", if to.contains('[') { quoted(to) } else { alone(to) });
        }
        let to: Vec<_> = self.to.iter().map(|to| scalar(to)).collect();
        f.write_str("- {")?;
        if let Some(from) = &self.from {
            write!(f, "from: [{}], ", scalar(from))?;
        }
        write!(f, "to: [{}]", to.join(", "))?;
        for check in &self.checks {
            write!(f, ", {check}")?;
        }
        f.write_str("}")
    }
}

/// A destination in the spelling of the policy language, with the narrowest scheme that can carry what was seen.
fn destination(ask: &Ask, host: &Host) -> String {
    let scheme = match (&ask.seen, host) {
        (Seen::Hello { .. }, _) => Scheme::Tls,
        (Seen::Http, Host::Name(_)) => Scheme::Http,
        (Seen::Nothing, Host::Name(_)) if ask.port == Port::HTTP => Scheme::Http,
        (Seen::Nothing, Host::Name(_)) if TLS_PORTS.contains(&ask.port.number()) => Scheme::Tls,
        (Seen::Http | Seen::Nothing | Seen::Other, _) => Scheme::Tcp,
    };
    match (scheme, host) {
        (Scheme::Tls, Host::Name(name)) if ask.port == Port::HTTPS => name.to_string(),
        (Scheme::Http, host) if ask.port == Port::HTTP => format!("http://{host}"),
        (scheme, host) => format!("{}://{host}:{}", scheme.as_str(), ask.port),
    }
}

/// A block scalar, or a quoted one where YAML would read something else than text.
fn alone(text: &str) -> String {
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    if bare != text || is_plain(text) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// A scalar inside brackets.
fn scalar(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// Whether every YAML reader takes this for text: it begins with a letter, and is none of YAML's own words.
fn is_plain(text: &str) -> bool {
    let letter = text.starts_with(|first: char| first.is_ascii_alphabetic());
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    letter && plain && !YAML_WORDS.contains(&text)
}

/// Where a CONNECT most likely carries TLS from its first byte.
const TLS_PORTS: &[u16] = &[
    443, 465, 563, 636, 853, 990, 993, 995, 5061, 5671, 6380, 6443, 8443, 8883, 9093, 9443,
];

const YAML_WORDS: &[&str] = &["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
