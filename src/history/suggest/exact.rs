//! Two hundred wrong requests around a policy: the proposed line makes exactly that request pass, and nothing beside it.
//! Must not share code with what proposes; what a line may open is said here once more, from the request alone.
//! Called by the test runner.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::*;
use crate::history::{Entry as Way, Teller};
use crate::name::Port;
use crate::policy::explain::suggestion;
use crate::policy::fixture::{load, source};

const POLICY: &str = "workloads:
  trips: {namespace: api, pods: {app: trips}, port: 3201}
  poi: {namespace: geo, pods: {app: poi}, port: 3202}
  nodes: {cidrs: [10.224.0.0/16]}
cluster: {networks: {pods: [10.244.0.0/16]}}
allow:
  - api.github.com
  - \"*.packages.example.com\"
  - http://ocsp.digicert.com
  - tcp://smtp.sendgrid.net:587
  - {name: payments, from: [trips], to: [api.stripe.com, \"*.pay.example.com\"]}
  - {from: [nodes], to: [mcr.microsoft.com, \"tls://registry.example.org:5000\"]}
  - {from: [10.9.0.0/16], to: [legacy.example.net]}
  - {from: [poi], to: [\"tcp://93.184.216.0/24:5432\"]}
  - {to: [orders.blob.core.windows.net], addresses: [10.1.2.0/24]}
  - tls://broker.example.net:5671
deny: [blocked.packages.example.com]
";
const HOSTS: &[&str] = &[
    "api.github.com",
    "github.com",
    "x.api.github.com",
    "packages.example.com",
    "a.packages.example.com",
    "blocked.packages.example.com",
    "ocsp.digicert.com",
    "smtp.sendgrid.net",
    "api.stripe.com",
    "eu.pay.example.com",
    "mcr.microsoft.com",
    "registry.example.org",
    "legacy.example.net",
    "orders.blob.core.windows.net",
    "others.blob.core.windows.net",
    "broker.example.net",
    "new.example.com",
    "93.184.216.34",
    "93.184.215.14",
    "[2606:2800:21f::1]",
    "10.244.1.1",
    "169.254.169.254",
    "yes",
    "true.no",
];
const PORTS: &[u16] = &[443, 80, 22, 587, 5000, 5432, 5671, 8443];
const SOURCES: &[&str] = &[
    "trips@10.244.0.7",
    "poi@10.244.0.7",
    "10.224.3.4",
    "10.9.1.1",
    "10.9.1.2",
    "192.0.2.9",
];
const ADDRESSES: &[Option<&str>] = &[
    None,
    Some("93.184.216.99"),
    Some("10.1.2.3"),
    Some("10.1.3.3"),
    Some("10.244.9.9"),
];

#[derive(Clone, Debug)]
struct Request {
    source: Source,
    ask: Ask,
}

fn shows(host: &Host) -> Vec<Seen> {
    let hello = |sni: Option<&str>, ech| Seen::Hello {
        sni: sni.map(|sni| HostName::parse(sni.as_bytes()).unwrap()),
        ech,
    };
    let own = host.name().map(|name| name.as_str().to_owned());
    let mut all = vec![
        Seen::Nothing,
        Seen::Http,
        Seen::Other,
        hello(None, false),
        hello(Some("sni.example.com"), false),
    ];
    if let Some(own) = own.as_deref() {
        all.extend([hello(Some(own), false), hello(Some(own), true)]);
    }
    all
}

fn requests() -> Vec<Request> {
    let mut all = Vec::new();
    for host in HOSTS {
        let host = Host::parse(host.as_bytes()).unwrap();
        for port in PORTS {
            for from in SOURCES {
                for seen in shows(&host) {
                    for address in ADDRESSES {
                        let address = match (&host, address) {
                            (Host::Address(literal), None) => Some(*literal),
                            (Host::Address(_), Some(_)) => continue,
                            (Host::Name(_), address) => address.map(|address| address.parse::<IpAddr>().unwrap()),
                        };
                        let ask = Ask {
                            address,
                            ..Ask::new(host.clone(), Port::new(*port).unwrap()).seeing(seen.clone())
                        };
                        all.push(Request {
                            source: source(from),
                            ask,
                        });
                    }
                }
            }
        }
    }
    all
}

fn allowed(policy: &Policy, request: &Request) -> bool {
    enforce(policy, now(), &request.source, &request.ask).is_allowed()
}

fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

/// Whether a line for `wanted` may also open `other`: only the same host and port to the same kind of client, showing
/// no more than `wanted` did, at an address that was open anyway or is the same.
fn may_open(wanted: &Request, other: &Request, entry: &str, names_client: bool) -> bool {
    let hosts_fit = wanted.ask.host == other.ask.host
        || matches!(
            // An inner name that must be allowed itself is part of the request.
            (&wanted.ask.seen, other.ask.host.name()),
            (Seen::Hello { sni: Some(sni), .. }, Some(name)) if sni == name
        );
    let who = |request: &Request| match (&request.source.workload, request.source.address) {
        (Some(workload), _) => workload.to_string(),
        (None, address) if address.to_string().starts_with("10.224.") => "nodes".to_owned(),
        (None, address) => address.to_string(),
    };
    let clients_fit = !names_client || who(wanted) == who(other);
    let shown_fits = match (&wanted.ask.seen, &other.ask.seen) {
        (_, Seen::Nothing) | (Seen::Other, _) | (Seen::Http, Seen::Http) => true,
        // What it will be is guessed from the port, but never more than one of them.
        (Seen::Nothing, Seen::Hello { sni, ech }) => {
            entry.contains("tcp://") || !ech && sni.as_ref() == other.ask.host.name()
        }
        (Seen::Nothing, Seen::Http) => entry.contains("tcp://") || entry.contains("http://"),
        (Seen::Nothing, Seen::Other) => entry.contains("tcp://"),
        (Seen::Hello { sni: a, ech: e }, Seen::Hello { sni: b, ech: f }) => {
            let own = other.ask.host.name();
            (*e || !f) && (a == b || b.as_ref() == own)
        }
        // An address has no name that HTTP could be held to.
        (Seen::Http, _) => matches!(wanted.ask.host, Host::Address(_)),
        (Seen::Hello { .. }, _) => false,
    };
    let private = |address: IpAddr| address.to_string().starts_with("10.");
    let addresses_fit = other
        .ask
        .address
        .is_none_or(|address| !private(address) || Some(address) == wanted.ask.address);
    hosts_fit && clients_fit && shown_fits && addresses_fit && wanted.ask.port == other.ask.port
}

#[test]
fn the_proposed_line_opens_exactly_what_was_asked() {
    let policy = load(POLICY);
    let all = requests();
    let before: Vec<_> = all.iter().map(|request| allowed(&policy, request)).collect();
    let wrong: Vec<_> = all
        .iter()
        .zip(&before)
        .filter(|(_, allowed)| !**allowed)
        .map(|(request, _)| request)
        .collect();
    // A stride that shares no factor with the pools goes through all of their mixtures.
    let mut tried = 0;
    let (mut lines, mut reasons) = (BTreeSet::new(), BTreeSet::new());
    for step in 0..wrong.len() {
        let wanted = wrong[step * 7919 % wrong.len()];
        let Some(entry) = suggestion(&policy, now(), &wanted.source, &wanted.ask) else {
            continue;
        };
        if !lines.insert(entry.clone()) {
            continue;
        }
        reasons.insert(enforce(&policy, now(), &wanted.source, &wanted.ask).reason);
        let with = load(&POLICY.replacen("allow:\n", &format!("allow:\n  {entry}\n"), 1));
        assert!(allowed(&with, wanted), "{entry} does not open {wanted:?}");
        // Of other hosts it is enough to look at those that lead nowhere yet.
        let near = |other: &Request| other.ask.host == wanted.ask.host || other.ask.address.is_none();
        for (other, before) in all.iter().zip(&before).filter(|(other, _)| near(other)) {
            let after = allowed(&with, other);
            assert!(after || !before, "{entry} closes {other:?}");
            let opened = after && !before;
            assert!(
                !opened || may_open(wanted, other, &entry, entry.contains("from:")),
                "{entry}, for {wanted:?}, also opens {other:?}"
            );
        }
        if let Some(learned) = learned(&policy, wanted) {
            assert_eq!(learned, entry, "{wanted:?}");
        }
        tried += 1;
        if tried == 200 {
            break;
        }
    }
    assert!(tried == 200, "{tried}");
    assert!(reasons.len() >= 8, "{reasons:?}");
}

/// What `suggest` makes of a record of that request; `None` where there can be no such record.
fn learned(policy: &Policy, request: &Request) -> Option<String> {
    let Request { source, ask } = request;
    let decided = Decided {
        at: None,
        teller: Teller::Proxy,
        entry: match ask.seen {
            Seen::Http => Way::Http,
            _ => Way::Connect,
        },
        source: source.address,
        workload: source.workload.clone(),
        own_port: source.workload.is_some(),
        host: Some(ask.host.clone()),
        port: Some(ask.port),
        seen: ask.seen.clone(),
        address: ask.address,
        refused: Vec::new(),
        allowed: false,
        reason: Some(enforce(policy, now(), source, ask).reason),
        would_deny: None,
        rule: None,
        rule_at: None,
    };
    let mut learner = Learner::new(policy, now());
    learner.add(&Event::Decision(Box::new(decided)));
    let found = learner.suggestions();
    let entries = found.entries.into_iter().map(|entry| entry.entry);
    let mut entries = entries.chain(found.decide.into_iter().filter_map(|one| one.entry));
    let entry = entries.next()?;
    assert_eq!(entries.next(), None);
    Some(entry)
}
