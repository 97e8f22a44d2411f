//! `explain` as a command: what it prints for each way in, and what it asks DNS.
//! Must not repeat the tables of the gate; the grounds of an answer are tested where they are made.
//! Called by `tests/run`.

use std::net::IpAddr;

use serde_json::Value;

use super::POLICY;
use crate::support::dns::Dns;
use crate::support::folder::Folder;

#[test]
fn explain_names_the_rule_the_miss_and_the_line_that_helps() {
    let folder = Folder::with(&[("policy.yaml", POLICY)]);
    let ended = folder.run(&["explain", "--from", "trips", "https://api.stripe.com"]);
    let said = "\
allowed: api.stripe.com:443 from trips
  reason:  rule: an allow rule matched
  by:      rule payments (policy.yaml:5), owned by team-payments, because OPS-12
  then:    a ClientHello must follow whose SNI is this name, unless the rule says otherwise
";
    assert_eq!((ended.code, &*ended.out, &*ended.err), (0, said, ""));

    let ended = folder.run(&["explain", "api.stripe.com"]);
    let said = "\
denied: api.stripe.com:443 from a client that no rule names (--from says who)
  reason:  no_rule_for_source: rules name this host, but not for this client
  nearest: rule payments (policy.yaml:5): allowed only from trips
";
    assert_eq!((ended.code, &*ended.out), (1, said));

    // The line speaks of what was asked for, not of what the port suggests, and of this client alone.
    let line = |words: &[&str]| {
        folder
            .run(&[&["explain"], words].concat())
            .out
            .lines()
            .last()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        line(&["https://new.example.com:9999"]),
        "    - tls://new.example.com:9999"
    );
    assert_eq!(line(&["tcp://new.example.com:443"]), "    - tcp://new.example.com:443");
    assert_eq!(
        line(&["--from", "10.9.9.9", "api.stripe.com"]),
        "    - {from: [\"10.9.9.9/32\"], to: [api.stripe.com]}"
    );
}

/// The same answer as `expect`: a workload with a port and ranges comes in both ways.
#[test]
fn explain_asks_on_every_way_in() {
    let policy = "workloads: {both: {port: 3299, cidrs: [10.1.0.0/16]}}\nallow:\n  - {from: [both], to: [a.example.com]}\n\
                  deny:\n  - {from: [10.1.9.0/24], to: [a.example.com]}\n";
    let folder = Folder::with(&[("policy.yaml", policy)]);
    let ended = folder.run(&["explain", "--from", "both", "a.example.com"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended
            .out
            .starts_with("denied: a.example.com:443 from both at 10.1.9.0\n"),
        "{}",
        ended.out
    );
    let tested = format!("{policy}expect:\n  - {{from: both, allow: a.example.com}}\n");
    let folder = Folder::with(&[("policy.yaml", &tested)]);
    let ended = folder.run(&["check", "--policy", "policy.yaml"]);
    assert!(
        ended.code == 1 && ended.err.contains("both at 10.1.9.0"),
        "{}{}",
        ended.out,
        ended.err
    );
}

#[test]
fn explain_follows_the_connection_as_the_proxy_does() {
    let folder = Folder::with(&[("policy.yaml", POLICY)]);
    let reason = |words: &[&str]| {
        let ended = folder.run(&[&["explain", "--output", "json"], words].concat());
        let answer: Value = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:?}"));
        assert_eq!(ended.code, i32::from(answer["allowed"] == false));
        answer["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(reason(&["api.github.com"]), "rule");
    assert_eq!(reason(&["--sni", "api.github.com", "api.github.com"]), "rule");
    assert_eq!(reason(&["--sni", "gist.github.com", "api.github.com"]), "sni_mismatch");
    assert_eq!(reason(&["--sni", "none", "api.github.com"]), "no_sni");
    assert_eq!(reason(&["http://api.github.com:443"]), "not_tls");
    assert_eq!(reason(&["tcp://api.github.com:443"]), "not_tls");
    assert_eq!(reason(&["api.github.com:8443"]), "port");
    assert_eq!(reason(&["https://169.254.169.254"]), "ip_literal");
}

#[test]
fn explain_asks_dns_for_allowed_names_alone_and_judges_each_address() {
    let dns = Dns::start();
    dns.set("api.github.com", [IpAddr::from([20, 1, 2, 3]), [10, 0, 0, 5].into()]);
    dns.set("api.stripe.com", [IpAddr::from([10, 0, 0, 6])]);
    let settings = format!("dns: {{servers: [\"{}\"]}}\n", dns.address);
    let folder = Folder::with(&[("policy.yaml", POLICY), ("sluicegate.yaml", &settings)]);
    let resolve = |words: &[&str]| folder.run(&[&["explain", "-c", "sluicegate.yaml", "--resolve"], words].concat());

    let ended = resolve(&["api.github.com"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("address: 20.1.2.3 may be dialled"), "{}", ended.out);
    assert!(
        ended.out.contains("address: 10.0.0.5 is never dialled"),
        "{}",
        ended.out
    );

    let ended = resolve(&["--from", "trips", "--output", "json", "api.stripe.com"]);
    let answer: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(
        (ended.code, &answer["allowed"]),
        (1, &Value::Bool(true)),
        "allowed, and nowhere to go"
    );
    assert_eq!(answer["addresses"][0]["reason"], "forbidden_address");

    let before = dns.questions().len();
    assert_eq!(resolve(&["api.stripe.com"]).code, 1);
    assert_eq!(dns.questions().len(), before, "a denied name was asked for");
}

#[test]
fn explain_needs_a_question_that_has_an_answer() {
    let folder = Folder::with(&[("policy.yaml", POLICY)]);
    for (words, part) in [
        (&["--from", "trip", "api.github.com"][..], "did you mean `trips`?"),
        (&["*.github.com"], "write one of the names that it matches"),
        (&["https://api.github.com/repos"], "paths are not matched"),
        (&["tcp://api.github.com"], "command line"),
        (&["--sni", "a b", "api.github.com"], "--sni: `a b`"),
    ] {
        let ended = folder.run(&[&["explain"], words].concat());
        assert_eq!((ended.code, &*ended.out), (2, ""), "{words:?}");
        assert!(ended.err.contains(part), "{words:?}: {}", ended.err);
    }
}
