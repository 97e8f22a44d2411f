//! What is tried for each workload of the golden policy, as a list for a reviewer; and what one line of it changes.
//! Must not run a probe. `UPDATE_GOLDEN=1` writes the lists anew.
//! Called by every test run.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use jiff::Timestamp;

use super::*;
use crate::policy::problem::render;
use crate::policy::{Generation, SourceText, load};

#[test]
fn the_lists_hold() {
    for workload in ["trips", "poi", "hooks"] {
        let mut text = format!(
            "# What `sluicegate verify --as {workload}` tries: what must come of it, id, and for which criterion.\n"
        );
        for probe in planned(&policy(), workload).unwrap() {
            let tried = match &probe.attempt {
                Attempt::None(why) => format!(" (not tried: {why})"),
                _ => String::new(),
            };
            let _ = writeln!(
                text,
                "{:<26}  {}{tried}  [{}]",
                format!("{:?}", probe.must),
                probe.id,
                probe.criterion.as_str()
            );
            assert!(!probe.advice.is_empty(), "{probe:?}");
            assert!(!probe.proves.is_empty() || probe.must == Must::BeSaid, "{probe:?}");
        }
        let path = golden().join(format!("probes-{workload}.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &text).unwrap();
        }
        assert_eq!(
            fs::read_to_string(&path).unwrap_or_default(),
            text,
            "{}",
            path.display()
        );
    }
}

/// Both pods, and every caller, must mean the same by an id.
#[test]
fn ids_are_unique_and_shared() {
    let all: Vec<_> = ["trips", "poi", "hooks"]
        .map(|name| planned(&policy(), name).unwrap())
        .into();
    for probes in &all {
        let ids: BTreeSet<_> = probes.iter().map(|probe| &probe.id).collect();
        assert_eq!(ids.len(), probes.len());
    }
    let [trips, poi, hooks] = &*all else { panic!() };
    let find = |probes: &[Probe], id: &str| probes.iter().find(|probe| probe.id == id).unwrap().must;
    let call = "L07 poi poi.geo.svc.cluster.local:8080";
    assert_eq!(find(trips, call), Must::WorkHereOnly);
    assert_eq!(find(hooks, call), Must::BeBlockedToBoth);
    assert_eq!(find(trips, "L08 proxy port 3201"), Must::WorkHereOnly);
    assert_eq!(find(poi, "L08 proxy port 3201"), Must::BeBlockedToBoth);
    assert_eq!(find(poi, "L08 proxy port 3128"), Must::WorkHereOnly);
    assert_eq!(find(trips, "L08 proxy port 3128"), Must::BeBlockedToBoth);
    let database = "direct 10.1.2.4:1433";
    assert_eq!(find(trips, database), Must::Work);
    assert_eq!(find(poi, database), Must::BeBlocked(Credit::Optional));
}

/// A file of targets that names none does not make the internet closed.
#[test]
fn no_public_address_is_not_proven() {
    let probes = planned_at(&policy(), "trips", Vec::new()).unwrap();
    let probe = probes.iter().find(|probe| probe.cases.contains(&"L01")).unwrap();
    assert_eq!(probe.must, Must::BeBlocked(Credit::NeedsControl));
    assert!(matches!(probe.attempt, Attempt::None(_)), "{probe:?}");
}

/// One changed line of the policy changes the probes that it concerns, and no other.
#[test]
fn each_line_changes_its_own_probes() {
    for (workload, from, to, expected) in [
        (
            "trips",
            "    calls: [poi]\n",
            "",
            &[
                "L07 poi poi.geo.svc.cluster.local:8080",
                "L07 poi poi.geo.svc.cluster.local:8081",
            ][..],
        ),
        (
            "trips",
            "    direct: [\"10.1.2.4:1433\"]\n",
            "",
            &["direct 10.1.2.4:1433"],
        ),
        (
            "trips",
            "    identity: workload\n",
            "",
            &["works: token of the workload's identity"],
        ),
        ("hooks", ", identity: imds", "", &["L03 metadata 169.254.169.254:80"]),
        (
            "hooks",
            ", api_server: allow",
            "",
            &[
                "L06 API server by Service 10.0.0.1:443",
                "L06 API server by address 20.50.1.2:443",
                "L06 API server by name myaks-1a2b3c4d.hcp.westeurope.azmk8s.io:443",
            ],
        ),
        ("poi", "engine: cilium", "engine: azure-npm", &["L11 icmp 1.1.1.1"]),
        (
            "poi",
            "  - {from: poi, deny: https://api.stripe.com}\n",
            "",
            &["expect deny tls://api.stripe.com:443"],
        ),
        // What the policy lets through is not held against the proxy.
        (
            "poi",
            "  - {to: [maps",
            "  - {to: [\"tcp://1.1.1.0/24:443\"]}\n  - {to: [maps",
            &["L09 address through the proxy 1.1.1.1:443"],
        ),
        (
            "poi",
            "  - {to: [maps",
            "  - {to: [\"tcp://*.database.windows.net:1433\"]}\n  - {to: [maps",
            &["SQL by a public name sluicegate-verify.database.windows.net:1433"],
        ),
    ] {
        let text = policy();
        let changed = text.replacen(from, to, 1);
        assert_ne!(text, changed, "{from}");
        let (before, after) = (planned(&text, workload).unwrap(), planned(&changed, workload).unwrap());
        let differs = |one: &[Probe], other: &[Probe]| {
            let lost = one.iter().filter(|probe| !other.contains(probe));
            lost.map(|probe| probe.id.clone()).collect::<BTreeSet<_>>()
        };
        let changed: Vec<_> = differs(&before, &after)
            .union(&differs(&after, &before))
            .cloned()
            .collect();
        assert_eq!(changed, expected, "{from} -> {to}");
    }
}

#[test]
fn there_must_be_a_lock() {
    for (workload, said) in [
        ("ingress", "there are `trips`, `hooks`, `poi`"),
        ("nodes", "`nodes` is no workload with pods"),
        ("trip", "`trip` is no workload"),
    ] {
        let error = planned(&policy(), workload).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}

fn planned(text: &str, workload: &str) -> Result<Vec<Probe>, String> {
    planned_at(text, workload, Targets::default().public)
}

fn planned_at(text: &str, workload: &str, public: Vec<SocketAddr>) -> Result<Vec<Probe>, String> {
    let texts = [SourceText {
        name: "policy.yaml".into(),
        text: text.into(),
    }];
    let now: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
    let loaded = load(&texts, now, Generation(1), None)
        .unwrap_or_else(|problems| panic!("{}", render(&problems, &texts, false)));
    let mut problems = Problems::new(&texts);
    let document = Document::read_noting(&mut problems);
    let targets = Targets {
        api_server: Some("10.0.0.1:443".parse().unwrap()),
        nodes: vec!["10.224.0.5".parse().unwrap()],
        own_node: Some("10.224.0.4".parse().unwrap()),
        public,
        ..Targets::default()
    };
    probes(&document, &loaded.policy, workload, &targets, &mut problems)
}

fn policy() -> String {
    fs::read_to_string(golden().join("policy.yaml")).unwrap()
}

fn golden() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kubernetes")
}
