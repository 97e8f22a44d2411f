//! Both listeners on real sockets: every page, its filters, and what it refuses.
//! Must not know how an answer is made; it sends bytes and reads bytes.
//! Called by the test run.

mod fixture;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::fixture::*;
use super::*;
use crate::name::Host;
use crate::policy::Reason;
use crate::state::RefusedLoad;
use crate::telemetry::DecisionRecord;
use crate::telemetry::samples::{self, PATIENCE};

#[tokio::test]
async fn health_answers_and_readiness_names_what_is_missing() {
    let server = Server::health().await;
    assert_eq!(server.read("/healthz").await, (200, "ok\n".to_owned()));
    let missing = "not ready: listeners are not bound, no policy is in force\n";
    assert_eq!(server.read("/readyz").await, (503, missing.to_owned()));
    server.pages.readiness.listeners_bound();
    server.pages.readiness.policy_in_force();
    assert_eq!(server.read("/readyz").await, (200, "ready\n".to_owned()));
    server.pages.readiness.drain();
    assert_eq!(server.read("/readyz").await, (503, "not ready: draining\n".to_owned()));
    assert_eq!(server.read("/healthz").await.0, 200, "draining is not dying");
}

#[tokio::test]
async fn health_shows_metrics_and_nothing_of_the_policy() {
    let server = Server::health().await;
    server.pages.telemetry.decision(samples::denied(1));
    let answer = server.get("/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains(r#"reason="no_rule",listener="proxy",workload="trips"} 1"#),
        "{answer}"
    );
    for path in [
        "/policy",
        "/decisions",
        "/tunnels",
        "/metrics/",
        "//policy",
        "/../policy",
    ] {
        let (status, body) = server.read(path).await;
        assert_eq!(status, 404, "{path}");
        assert!(body.ends_with("there is: / /healthz /readyz /metrics\n"), "{body}");
    }
}

/// Any name may lead to the health listener: probes and scrapers come through Services.
#[tokio::test]
async fn health_takes_any_host_and_admin_only_addresses() {
    let health = Server::health().await;
    let admin = Server::admin().await;
    let request = "GET /readyz HTTP/1.1\r\nHost: sluicegate.sluicegate.svc:9091\r\nConnection: close\r\n\r\n";
    assert!(health.send(request).await.starts_with("HTTP/1.1 503 "));
    for (head, status) in [
        ("GET /policy HTTP/1.1\r\nHost: evil.example:9090", 421),
        ("GET /policy HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example", 421),
        ("GET http://evil.example/policy HTTP/1.1\r\nHost: 127.0.0.1", 421),
        ("GET /nothing HTTP/1.1\r\nHost: evil.example", 421),
        ("GET /policy HTTP/1.1\r\nHost: localhost:9090", 200),
        ("GET /policy HTTP/1.1\r\nHost: 127.0.0.1:9090", 200),
        ("GET /policy HTTP/1.0", 200),
    ] {
        let answer = admin.send(&format!("{head}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(status_of(&answer), status, "{head}: {answer}");
        assert!(answer.contains("x-content-type-options: nosniff"), "{answer}");
    }
}

#[tokio::test]
async fn every_answer_is_read_only_and_never_cached() {
    let server = Server::admin().await;
    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/policy",
        "/decisions",
        "/tunnels",
        "/x",
        "/decisions?x=1",
    ] {
        let answer = server.get(path).await;
        for field in [
            "cache-control: no-store",
            "x-content-type-options: nosniff",
            "content-type: ",
        ] {
            assert!(answer.contains(field), "{path}: {answer}");
        }
        assert!(!answer.contains("text/html"), "{path}");
        let head = server
            .send(&format!(
                "HEAD {path} HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert_eq!(status_of(&head), status_of(&answer), "{path}");
        assert!(head.ends_with("\r\n\r\n"), "HEAD has no body: {head}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let answer = server
            .send(&format!(
                "{method} /policy HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert_eq!(status_of(&answer), 405, "{answer}");
        assert!(answer.contains("allow: GET, HEAD"), "{answer}");
        assert!(answer.contains("GET and HEAD\n"), "{answer}");
    }
    let (status, index) = server.read("/").await;
    assert_eq!(status, 200);
    for path in ["/healthz", "/readyz", "/metrics", "/policy", "/decisions", "/tunnels"] {
        assert!(index.contains(&format!("\n{path} ")), "{index}");
    }
}

#[tokio::test]
async fn policy_shows_rules_by_page_and_by_text() {
    let server = Server::admin().await;
    let policy = server.json("/policy").await;
    assert_eq!(policy["generation"], 1);
    assert_eq!(policy["mode"], "enforce");
    assert_eq!(policy["files"], serde_json::json!(["policy.yaml"]));
    assert_eq!(
        policy["workloads"][0],
        serde_json::json!({"name": "trips", "port": 3201})
    );
    assert_eq!(policy["rules_in_all"], RULES);
    assert_eq!(policy["shown"], 100);
    assert!(policy.get("refused").is_none());
    assert_eq!(
        policy["rules"][1],
        serde_json::json!({
            "name": "rule 1", "at": "policy.yaml:2", "effect": "allow", "from": ["trips"], "to": ["host1.example.com"],
            "hits": 0,
        })
    );

    assert_eq!(
        policy["rules"][0]["collection"],
        serde_json::json!({"name": "AppRC2", "group": "BaseRCG2", "type": "application", "priority": 1200})
    );
    assert_eq!(names(&server.json("/policy?match=baserc").await), ["rule 0"]);

    let some = server.json("/policy?match=HOST11&offset=2&limit=3").await;
    assert_eq!(some["matching"], 11, "host11 and host110 to host119");
    assert_eq!(names(&some), ["rule 111", "rule 112", "rule 113"]);
    assert_eq!(server.json("/policy?offset=1000").await["shown"], 0);
    for (query, words) in [
        ("limit=10001", "`limit` is a number from 0 to 10000"),
        ("limit=-1", "`limit` is a number"),
        (
            "macth=x",
            "`macth` is not a key of this page; its keys are: match, offset, limit",
        ),
        ("limit=1&limit=2", "`limit` is written twice"),
    ] {
        let (status, body) = server.read(&format!("/policy?{query}")).await;
        assert_eq!(status, 400, "{query}");
        assert!(body.contains(words), "{body}");
    }
}

#[tokio::test]
async fn policy_shows_hits_and_a_refused_load() {
    let server = Server::admin().await;
    let policy = server.pages.state.policy();
    policy.rules()[0].hits.record(at("2026-03-01T12:00:00.5Z"));
    server.pages.state.refuse(RefusedLoad {
        at: at("2026-03-02T00:00:00Z"),
        problems: "error: unknown key `alow`".to_owned(),
    });
    let page = server.json("/policy?limit=1").await;
    assert_eq!(page["rules"][0]["hits"], 1);
    assert_eq!(page["rules"][0]["last_hit"], "2026-03-01T12:00:00.500Z");
    assert_eq!(
        page["refused"],
        serde_json::json!({"at": "2026-03-02T00:00:00.000Z", "problems": "error: unknown key `alow`"})
    );
}

#[tokio::test]
async fn decisions_are_filtered_and_wrong_filters_refused() {
    let server = Server::admin().await;
    let other = |id| DecisionRecord {
        host: Some(Host::parse(b"a.other.test").unwrap()),
        workload: None,
        source: "[2001:db8::7]:1".parse().unwrap(),
        listener: "tls".into(),
        ..samples::denied(id)
    };
    let reported = |id| DecisionRecord {
        reason: Reason::Report,
        would_deny: Some(Reason::Ech),
        ..samples::allowed(id)
    };
    for record in [samples::allowed(1), samples::denied(2), other(3), reported(4)] {
        server.pages.telemetry.decision(record);
    }
    for (query, ids) in [
        ("", vec![4, 3, 2, 1]),
        ("?limit=2", vec![4, 3]),
        ("?action=deny", vec![3, 2]),
        ("?reason=ech", vec![4]),
        ("?reason=no_rule&listener=tls", vec![3]),
        ("?host=API.example.com", vec![4, 2, 1]),
        ("?host=*.other.test", vec![3]),
        ("?host=*.a.other.test", vec![]),
        ("?workload=trips", vec![4, 2, 1]),
        ("?workload=", vec![3]),
        ("?source=10.1.0.0/16", vec![4, 2, 1]),
        ("?source=2001:db8::7", vec![3]),
    ] {
        let page = server.json(&format!("/decisions{query}")).await;
        let found: Vec<_> = page["decisions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["id"].clone())
            .collect();
        let ids: Vec<Value> = ids.into_iter().map(|id: u64| format!("{id:016x}").into()).collect();
        assert_eq!(found, ids, "{query}");
        assert_eq!(page["shown"], found.len());
    }
    for (query, words) in [
        (
            "actoin=deny",
            "its keys are: action, reason, host, workload, listener, source, limit",
        ),
        ("action=denied", "`action` is one of: allow, deny"),
        ("reason=norule", "`reason` is one of: rule, report, no_rule, "),
        ("source=10.1", "`source` is an address or a range"),
        ("limit=many", "`limit` is a number from 0 to 2000"),
        ("%1b%5b2J=1", r"`\u{1b}[2J` is not a key"),
    ] {
        let (status, body) = server.read(&format!("/decisions?{query}")).await;
        assert_eq!(status, 400, "{query}");
        assert!(body.contains(words), "{body}");
    }
}

/// M03: markup and control characters in what clients chose.
#[tokio::test]
async fn what_clients_chose_is_shown_as_data() {
    let server = Server::admin().await;
    server.pages.telemetry.decision(DecisionRecord {
        host: None,
        path: Some("/<script>\u{1b}[2J\u{9b}\u{202e}".to_owned()),
        ..samples::denied(1)
    });
    let answer = server.get("/decisions").await;
    assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
    assert!(
        answer.contains("content-security-policy: default-src 'none'"),
        "{answer}"
    );
    assert!(answer.contains(r"/<script>\u001b[2J\u009b\u202e"), "{answer}");
    let missing = server.get("/%3Cscript%3E%1b").await;
    assert!(missing.contains("content-type: text/plain"), "{missing}");
    assert!(
        answer
            .chars()
            .chain(missing.chars())
            .all(|c| c.is_ascii_graphic() || " \r\n".contains(c))
    );
}

#[tokio::test]
async fn tunnels_are_the_live_ones_youngest_first() {
    let server = Server::admin().await;
    let page = server.json("/tunnels").await;
    assert_eq!(page["open"], 3);
    assert_eq!(page["tunnels"][0]["id"], "0000000000000003");
    assert_eq!(
        page["tunnels"][2],
        serde_json::json!({
            "id": "0000000000000001", "since": "2026-03-01T12:00:01.000Z", "listener": "proxy", "entry": "connect",
            "source": "10.1.2.1", "source_port": 5555, "workload": "trips", "host": "api.example.com", "port": 443,
            "sni": "api.example.com", "address": "203.0.113.7", "rule": "payments", "up_bytes": 517,
            "down_bytes": 48213, "idle_ms": 1500.0,
        })
    );
    let page = server.json("/tunnels?source=10.1.2.2").await;
    assert_eq!((&page["open"], &page["matching"]), (&3.into(), &1.into()));
    let (status, body) = server.read("/tunnels?action=deny").await;
    assert_eq!(status, 400);
    assert!(
        body.contains("its keys are: host, workload, listener, source, limit"),
        "{body}"
    );
}

#[tokio::test]
async fn the_end_waits_for_no_idle_client() {
    let server = Server::health().await;
    let mut kept = server.connect().await;
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 15];
    kept.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let mut silent = server.connect().await;
    tokio::time::pause();
    let told = tokio::time::Instant::now();
    server.stop.cancel();
    server.task.await.unwrap();
    assert!(told.elapsed() <= serve::FINISH, "{:?}", told.elapsed());
    for stream in [&mut kept, &mut silent] {
        let mut rest = Vec::new();
        let closed = timeout(PATIENCE, stream.read_to_end(&mut rest))
            .await
            .expect("it is closed");
        assert!(closed.is_ok() || closed.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    }
    assert!(
        TcpStream::connect(server.address).await.is_err(),
        "the listener is closed"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_cut() {
    let server = Server::health().await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHo").await.unwrap();
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).await.unwrap();
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn silent_clients_do_not_keep_a_probe_out() {
    let server = Server::health().await;
    let mut silent = Vec::new();
    for _ in 0..serve::MAX_CONNECTIONS {
        silent.push(server.connect().await);
    }
    assert_eq!(server.read("/healthz").await.0, 200);
    // From here on, time passes only while everyone waits: the oldest is closed now, not by a time limit.
    tokio::time::pause();
    let asked = tokio::time::Instant::now();
    silent[0].read_to_end(&mut Vec::new()).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
}
