//! `replay`, `suggest` and `unused` on logs of the real proxy: what it wrote is what they judge by.
//! Must not repeat the tables of the readers; the proxy's own records are the measure.
//! Called by `tests/run`.

use std::fs;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::folder::Ended;
use crate::support::hello::Hello;
use crate::support::proxy::{Outcome, fetch, free_port};
use crate::support::setup::Setup;
use crate::support::world::Origins;

fn run(folder: &tempfile::TempDir, words: &[&str]) -> Ended {
    Ended::in_directory(folder.path(), words, "")
}

/// The policy before the reload, and after it.
fn policies(origins: &Origins, trips: u16) -> [String; 2] {
    let (tls, http, echo) = (origins.https.port(), origins.http.port(), origins.echo.port());
    let first = format!(
        r#"workloads:
  trips: {{namespace: api, pods: {{app: trips}}, port: {trips}}}
allow:
  - {{name: exact, to: ["https://api.allowed.test:{tls}"], addresses: [127.0.0.0/8]}}
  - {{name: wild, to: ["https://*.wild.test:{tls}"], addresses: [127.0.0.0/8], sni: listed}}
  - {{name: own, from: [trips], to: ["https://own.wild.test:{tls}"], addresses: [127.0.0.0/8]}}
  - {{name: plain, to: ["http://plain.allowed.test:{http}"], addresses: [127.0.0.0/8]}}
  - {{name: echo, to: ["tcp://echo.allowed.test:{echo}"], addresses: [127.0.0.0/8]}}
  - {{name: closed, to: ["https://other.allowed.test:{tls}"]}}
  - {{name: trial, to: ["https://trial.allowed.test:{tls}"], addresses: [127.0.0.0/8], report: true}}
  - {{name: kept, from: [trips], to: ["https://kept.allowed.test:{tls}"]}}
deny:
  - {{name: bad, to: [bad.wild.test]}}
"#
    );
    let second = first.replace(
        "deny:\n",
        "  - {name: late, to: [\"http://late.allowed.test:1\"]}\nmode: report\nreport_until: 2099-01-01\ndeny:\n",
    );
    [first, second]
}

/// One of everything: allowed and denied for every reason that a policy has, malformed, transparent, HTTP, by a
/// workload's port, while reporting, before and after a reload.
fn mixed(origins: &Origins, trips: u16) -> (Outcome, [String; 2]) {
    let (tls, http, echo) = (origins.https.port(), origins.http.port(), origins.echo.port());
    let [first, second] = policies(origins, trips);
    let proxy = Setup::new(&first)
        .dns(&origins.dns)
        .listener(json!({"name": "tls", "mode": "tls", "bind": "127.0.0.1:0", "port": tls}))
        .listener(json!({"name": "http", "mode": "http", "bind": "127.0.0.1:0", "port": http}))
        .set("timeouts.head", json!("1s"))
        .start();
    let own = (std::net::Ipv4Addr::LOCALHOST, trips).into();
    let connect = |address, name: &str, port: u16, inside: &[u8]| {
        let (mut client, answer) = Client::connect_request(address, &format!("{name}:{port}"));
        if answer.status() == 200 {
            client.send(inside);
            client.finish();
            client.read_to_end();
        }
    };
    let hello = |name: &str| Hello::sni(name).bytes();
    let mut asked = 0;
    for _ in 0..2 {
        for (name, port, inside) in [
            ("api.allowed.test", tls, hello("api.allowed.test")),
            ("api.allowed.test", tls, hello("else.test")),
            ("api.allowed.test", tls, Hello::bare().bytes()),
            (
                "api.allowed.test",
                tls,
                Hello::sni("api.allowed.test").with_ech().bytes(),
            ),
            ("api.allowed.test", tls, b"SSH-2.0-x\r\n".to_vec()),
            ("api.allowed.test", tls, Hello::sni("api..test").bytes()),
            ("a.wild.test", tls, hello("b.wild.test")),
            ("a.wild.test", tls, hello("bad.wild.test")),
            ("bad.wild.test", tls, hello("bad.wild.test")),
            ("api.allowed.test", 1, hello("api.allowed.test")),
            ("unknown.test", 443, hello("unknown.test")),
            ("203.0.113.7", 443, hello("unknown.test")),
            ("other.allowed.test", tls, hello("other.allowed.test")),
            ("trial.allowed.test", tls, hello("trial.allowed.test")),
            ("kept.allowed.test", tls, hello("kept.allowed.test")),
            ("gone.wild.test.", tls, hello("gone.wild.test")),
            ("echo.allowed.test", echo, b"any".to_vec()),
            (
                "plain.allowed.test",
                http,
                b"GET / HTTP/1.1\r\nHost: plain.allowed.test\r\nConnection: close\r\n\r\n".to_vec(),
            ),
            (
                "plain.allowed.test",
                http,
                b"GET / HTTP/1.1\r\nHost: denied.test\r\n\r\n".to_vec(),
            ),
            ("a_b..test", 443, Vec::new()),
        ] {
            for address in [proxy.address(), own] {
                connect(address, name, port, &inside);
            }
        }
        for name in ["plain.allowed.test", "api.allowed.test", "denied.test"] {
            fetch(proxy.address(), &origins.url(name, "/x?secret=1"));
        }
        for host in [
            format!("plain.allowed.test:{http}"),
            "plain.allowed.test:81".to_owned(),
            "denied.test".to_owned(),
        ] {
            let mut client = Client::connect(proxy.at("http"));
            client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
            client.read_to_end();
        }
        for bytes in [
            hello("api.allowed.test"),
            hello("denied.test"),
            Hello::bare().bytes(),
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        ] {
            let mut client = Client::connect(proxy.at("tls"));
            client.send(bytes);
            client.finish();
            client.read_to_end();
        }
        asked += 1;
        if asked == 1 {
            proxy.reload(&second);
        }
    }
    (proxy.stop(), [first, second])
}

/// The policy that wrote a log agrees with every record of it.
#[test]
fn a_log_replayed_against_its_own_policy_agrees() {
    let origins = Origins::start();
    let (outcome, policies) = mixed(&origins, free_port());
    let folder = tempfile::tempdir().unwrap();
    let mut reasons: Vec<_> = outcome
        .decisions
        .iter()
        .map(|record| record.reason().to_owned())
        .collect();
    reasons.sort();
    reasons.dedup();
    for (generation, policy) in (1..).zip(&policies) {
        let of_this = outcome
            .decisions
            .iter()
            .filter(|record| record.number("generation") == generation);
        let log = of_this
            .map(|record| record.0.to_string())
            .collect::<Vec<_>>()
            .join("\n");
        assert!(log.lines().count() > 40, "{}", log.lines().count());
        fs::write(folder.path().join("log.json"), &log).unwrap();
        fs::write(folder.path().join("policy.yaml"), policy).unwrap();
        let ended = run(
            &folder,
            &["replay", "log.json", "--policy", "policy.yaml", "--output", "json"],
        );
        let report: Value = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{} {}", ended.out, ended.err));
        assert_eq!((ended.code, &report["changes"]), (0, &json!([])), "{report:#}");
        let others: u64 = report["not_by_policy"]
            .as_object()
            .unwrap()
            .values()
            .map(|count| count.as_u64().unwrap())
            .sum();
        let agreed = report["agreed"].as_u64().unwrap();
        assert_eq!(agreed + others, log.lines().count() as u64, "{report:#}");
        assert!(others < agreed / 2, "{report:#}");
    }
    for reason in [
        "rule",
        "report",
        "no_rule",
        "no_rule_for_source",
        "deny_rule",
        "port",
        "ip_literal",
        "forbidden_address",
        "sni_mismatch",
        "sni_not_listed",
        "no_sni",
        "ech",
        "not_tls",
        "bad_sni",
        "bad_host",
        "host_mismatch",
    ] {
        assert!(
            reasons.iter().any(|other| other == reason),
            "{reason} is missing in {reasons:?}"
        );
    }
}

/// A candidate that lacks a rule breaks what used it, and the log says for whom.
#[test]
fn a_narrower_candidate_breaks_what_its_log_names() {
    let origins = Origins::start();
    let trips = free_port();
    let (outcome, [first, _]) = mixed(&origins, trips);
    let folder = tempfile::tempdir().unwrap();
    let of_first = outcome
        .decisions
        .iter()
        .filter(|record| record.number("generation") == 1);
    let log = of_first
        .map(|record| record.0.to_string())
        .collect::<Vec<_>>()
        .join("\n");
    fs::write(folder.path().join("log.json"), &log).unwrap();
    let without: Vec<_> = first.lines().filter(|line| !line.contains("name: echo")).collect();
    fs::write(folder.path().join("new.yaml"), without.join("\n")).unwrap();
    let ended = run(&folder, &["replay", "log.json", "--policy", "new.yaml"]);
    assert_eq!(ended.code, 1, "{}", ended.out);
    let echo = format!(
        "trips -> echo.allowed.test:{}: once from 127.0.0.1",
        origins.echo.port()
    );
    assert!(
        ended.out.starts_with("would break: was allowed, would be denied (2)"),
        "{}",
        ended.out
    );
    assert!(
        ended.out.contains(&echo) && ended.out.contains("was allowed by echo; would be denied (no_rule)"),
        "{}",
        ended.out
    );

    // What it proposes for the candidate makes up for it, and the new candidate breaks nothing.
    let ended = run(
        &folder,
        &["suggest", "log.json", "--policy", "new.yaml", "--output", "json"],
    );
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(ended.code, 0, "{}", ended.err);
    let entries = report["entries"]
        .as_array()
        .unwrap()
        .iter()
        .chain(report["decide"].as_array().unwrap());
    let entries: Vec<_> = entries
        .filter_map(|row| row["entry"].as_str())
        .filter(|entry| entry.contains("echo"))
        .collect();
    assert!(!entries.is_empty(), "{report:#}");
    let added: Vec<_> = entries.iter().map(|entry| format!("  {entry}")).collect();
    let mended = without
        .join("\n")
        .replace("allow:\n", &format!("allow:\n{}\n", added.join("\n")));
    fs::write(folder.path().join("mended.yaml"), mended).unwrap();
    let ended = run(&folder, &["replay", "log.json", "--policy", "mended.yaml"]);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
}

#[test]
fn what_cannot_be_read_is_named_and_makes_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let good = r#"{"type":"decision","time":"2026-03-01T12:00:01.250Z","action":"deny","reason":"no_rule","entry":"connect","source":"10.1.2.3","host":"a.test","port":443,"ech":false}"#;
    for (name, text) in [
        ("good.log", format!("{good}\n")),
        ("torn.log", format!("{good}\n{}\n", &good[..80])),
        ("text.log", "12:00:01 DENY  trips 10.1.2.3:5555 -> CONNECT a.test:443 no_rule id=1\n".to_owned()),
        ("empty.log", String::new()),
        (
            "dns.log",
            "[INFO] 10.1.2.3:4000 - 1 \"A IN a.test. udp 55 false 1232\" NOERROR qr,rd,ra 104 0.012s\n".to_owned(),
        ),
        ("policy.yaml", "allow: [{name: never, to: [b.test]}]\n".to_owned()),
        ("page.json", r#"{"since":"2026-01-01T00:00:00.000Z","matching":1,"shown":1,"rules":[{"name":"never","at":"policy.yaml:1","hits":0}]}"#.to_owned()),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let code = |words: &[&str]| {
        let ended = run(&folder, words);
        (ended.code, ended.err)
    };
    for command in [&["replay"][..], &["suggest"], &["unused", "--since", "2026-03-02"]] {
        let with = |logs: &[&str]| code(&[command, logs].concat());
        assert_eq!(with(&["good.log"]).0, 0, "{command:?}");
        let (torn, said) = with(&["torn.log"]);
        assert_eq!(torn, 1, "{command:?}");
        assert!(
            said.contains("torn.log:2 cannot be read: the line ends within a text"),
            "{said}"
        );
        let (text, said) = with(&["good.log", "text.log"]);
        assert_eq!(text, 2, "{command:?}");
        assert!(said.contains("text.log holds no record"), "{said}");
        assert!(with(&["good.log", "empty.log"]).1.contains("empty.log is empty"));
        assert_eq!(with(&["empty.log"]).0, 2, "{command:?}");
        assert_eq!(with(&["nowhere.log"]).0, 2);
        assert_eq!(with(&["good.log", "--policy", "good.log"]).0, 2);
    }
    let (dns, said) = code(&["replay", "dns.log"]);
    assert_eq!(
        dns, 2,
        "nothing was judged, so nobody may read that nothing would break"
    );
    assert!(said.contains("no record here is a decision"), "{said}");
    assert_eq!(code(&["suggest", "dns.log"]).0, 0);
    let ended = run(
        &folder,
        &["unused", "--since", "2026-02-01", "--policy-page", "page.json"],
    );
    assert_eq!((ended.code, &*ended.err), (1, ""), "{}", ended.out);
    assert!(ended.out.contains("never (policy.yaml:1): never hit"), "{}", ended.out);
    assert_eq!(
        run(
            &folder,
            &["unused", "--since", "2025-02-01", "--policy-page", "page.json"]
        )
        .code,
        0
    );
    assert_eq!(code(&["unused", "--since", "yesterday", "good.log"]).0, 2);
}
