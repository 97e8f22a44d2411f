//! What `verify` makes of two pods' observations: what holds, and each single thing that breaks it.
//! Must not open a socket where a changed observation says the same.
//! Called by `tests/run`.

use std::fs;

use serde_json::Value;

use super::cluster::Cluster;

#[test]
fn two_pods_make_a_verdict() {
    let cluster = Cluster::start();
    let everywhere = cluster.observe(&[]);
    // Nothing enforces anything: both came through everywhere.
    let (code, report) = cluster.judge(&everywhere, &everywhere);
    assert_eq!((code, &report["holds"]), (1, &Value::Bool(false)));
    for start in [
        "L01",
        "L03",
        "L06 API server by Service",
        "L07 maps",
        "L08 proxy port",
        "L13",
    ] {
        assert_eq!(line(&report, start)["verdict"], "open", "{start}");
    }

    // As a lock would have it.
    let own = format!("L08 proxy port {}", cluster.trips);
    let is_kept_in = |id: &str| {
        let blocked = [
            "L01",
            "L02",
            "L03",
            "L05",
            "L06 API server by",
            "L07 maps",
            "L08",
            "L13",
            "L11",
        ];
        blocked.iter().any(|start| id.starts_with(start)) && id != own
    };
    let mut inside = changed(&everywhere, is_kept_in, "nothing");
    inside = changed(&inside, |id| id.starts_with("works: token"), "answered");
    let mut control = changed(
        &everywhere,
        |id| id.starts_with("L08") || id.starts_with("L07"),
        "nothing",
    );
    control = changed(
        &control,
        |id| id.starts_with("L02 quic") || id.starts_with("L06 API server by"),
        "answered",
    );
    let (code, report) = cluster.judge(&inside, &control);
    assert_eq!((code, &report["holds"]), (0, &Value::Bool(true)), "{report:#}");
    assert_eq!(line(&report, "L12")["verdict"], "residual");
    assert_eq!(line(&report, "L02 ntp")["verdict"], "no-credit");
    assert_eq!(line(&report, "L01")["serves"], "egress is limited to what is necessary");
    each_break_is_seen(&cluster, &inside, &control, &own);
}

/// A control that looked for the proxy elsewhere did not find it, which is no proof that it is closed.
#[test]
fn a_control_with_other_targets_is_none() {
    let cluster = Cluster::start();
    let inside = cluster.observe(&[]);
    for (field, value) in [("outside_name", "other.test"), ("own_node", "10.224.0.9")] {
        let mut control = inside.clone();
        control["targets"][field] = value.into();
        let own_node = field == "own_node";
        for (flag, file) in [("--control", "other.json"), ("--also", "other.json")] {
            fs::write(cluster.proxy.path("inside.json"), inside.to_string()).unwrap();
            fs::write(cluster.proxy.path(file), control.to_string()).unwrap();
            let ended = cluster.run(
                &[
                    "verify",
                    "--policy",
                    "policy.yaml",
                    "--inside",
                    "inside.json",
                    flag,
                    file,
                ],
                &[],
            );
            assert_eq!(ended.code, if own_node { 1 } else { 2 }, "{field}: {ended:?}");
            assert_eq!(
                ended.err.contains("other.json: this was observed with other targets"),
                !own_node,
                "{ended:?}"
            );
        }
    }
}

/// Each of these alone makes it fail, for its own reason.
fn each_break_is_seen(cluster: &Cluster, inside: &Value, control: &Value, own: &str) {
    for (what, inside, control, id, verdict) in [
        (
            "an extra allow",
            changed(inside, |id| id.starts_with("L07 maps"), "answered"),
            control.clone(),
            "L07 maps",
            "open",
        ),
        (
            "a missing label",
            changed(inside, |id| id == own, "nothing"),
            control.clone(),
            own,
            "broken",
        ),
        (
            "no policy of the proxy's own",
            inside.clone(),
            changed(control, |id| id == own, "answered"),
            own,
            "open",
        ),
        (
            "a namespace that lets anyone in",
            inside.clone(),
            changed(control, |id| id.starts_with("L07 poi"), "answered"),
            "L07 poi",
            "open",
        ),
        (
            "nor is it seen only by who may call",
            inside.clone(),
            changed(control, |id| id.starts_with("L07 maps"), "connected"),
            "L07 maps",
            "open",
        ),
        (
            "a Service that was not found",
            changed(inside, |id| id.starts_with("L07 maps"), "untried"),
            changed(control, |id| id.starts_with("L07 maps"), "untried"),
            "L07 maps",
            "not-proven",
        ),
        (
            "DNS open to the world",
            changed(inside, |id| id.starts_with("L02 dns"), "answered"),
            control.clone(),
            "L02 dns/udp",
            "open",
        ),
        (
            "a dead control",
            inside.clone(),
            changed(control, |id| id.starts_with("L03"), "nothing"),
            "L03",
            "not-proven",
        ),
        (
            "a proxy that reports",
            changed(inside, |id| id.starts_with("expect deny"), "answered"),
            control.clone(),
            "expect deny",
            "open",
        ),
    ] {
        let (code, report) = cluster.judge(&inside, &control);
        let line = line(&report, id);
        assert_eq!(
            (code, &line["verdict"], &line["fails"]),
            (1, &verdict.into(), &true.into()),
            "{what}: {line:#}"
        );
        assert!(line["advice"].is_string(), "{what}");
    }
}

/// The observations with another outcome for what `picked` picks.
fn changed(observations: &Value, picked: impl Fn(&str) -> bool, outcome: &str) -> Value {
    let mut observations = observations.clone();
    let mut count = 0;
    for seen in observations["seen"].as_array_mut().unwrap() {
        if picked(seen["id"].as_str().unwrap()) {
            seen["outcome"] = outcome.into();
            count += 1;
        }
    }
    assert!(count > 0);
    observations
}

fn line(report: &Value, start: &str) -> Value {
    let mut lines = report["lines"].as_array().unwrap().iter();
    let found = lines.find(|line| line["id"].as_str().unwrap().starts_with(start));
    found.unwrap_or_else(|| panic!("{start}: {report:#}")).clone()
}
