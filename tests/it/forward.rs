//! Plain HTTP on an explicit listener: each request judged alone, bytes forwarded faithfully, nothing private passed on.
//! Must not repeat the tables of the head reader; here it is connections, bodies, records and what upstreams see.
//! Called by `tests/run`.

use serde_json::json;

use crate::support::client::{Client, Ending};
use crate::support::proxy::fetch;
use crate::support::world::World;

#[test]
fn a_request_is_forwarded_in_origin_form() {
    let world = World::start();
    let answer = fetch(
        world.proxy.address(),
        &world.origins.url("plain.allowed.test", "/head?q=secret"),
    );
    assert_eq!(answer.status(), 200);
    let host = format!("plain.allowed.test:{}", world.origins.http.port());
    let seen = &world.origins.http.requests()[0];
    assert_eq!(seen.line(), "GET /head?q=secret HTTP/1.1");
    assert_eq!(seen.field("host"), Some(host.as_str()));
    assert_eq!(answer.text(), seen.head);
    let record = world.proxy.nth_decision(0);
    assert_eq!(record.verdict(), "allow rule");
    assert_eq!(
        (record.text("entry"), record.text("method"), record.text("path")),
        ("http", "GET", "/head")
    );
    assert!(!record.0.to_string().contains("secret"));
    world.only_verdict("allow rule");
}

#[test]
fn options_without_a_path_asks_about_the_whole_server() {
    let world = World::start();
    let host = format!("plain.allowed.test:{}", world.origins.http.port());
    let rows = [
        ("OPTIONS", "", "*"),
        ("OPTIONS", "/", "/"),
        ("OPTIONS", "?q", "/?q"),
        ("GET", "", "/"),
    ];
    for (method, path, _) in rows {
        let mut client = Client::connect(world.proxy.address());
        client.send(format!("{method} http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        client.response();
    }
    let requests = world.origins.http.requests();
    let seen: Vec<_> = requests.iter().map(|seen| (seen.method(), seen.target())).collect();
    assert_eq!(seen, rows.map(|(method, _, target)| (method, target)));
}

#[test]
fn f21_a_405_names_only_methods_that_are_forwarded() {
    let world = World::start();
    let host = format!("plain.allowed.test:{}", world.origins.http.port());
    let ask = |method: &str| {
        let mut client = Client::connect(world.proxy.address());
        client.send(format!(
            "{method} http://{host}/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"
        ));
        client.head()
    };
    let refused = ask("TRACE");
    let named: Vec<_> = refused.field("allow").unwrap().split(", ").collect();
    assert!(named.len() > 5);
    let rare = ["PROPFIND", "QUERY", "X-OWN"];
    for method in named.iter().chain(&rare) {
        assert_eq!(ask(method).status(), 200, "{method}");
        assert_eq!(world.origins.http.requests().last().unwrap().method(), *method);
    }
    for method in ["TRACK", "PURGE", "DEBUG"] {
        assert_eq!(ask(method).line(), "HTTP/1.1 405 Refused by sluicegate (bad_method)");
    }
}

#[test]
fn f10_every_request_is_judged_alone() {
    let world = World::start();
    let mut client = Client::connect(world.proxy.address());
    for name in ["plain.allowed.test", "other.allowed.test", "plain.allowed.test"] {
        client.get(&world.origins.url(name, "/"));
        assert!(client.response().text().contains(name));
    }
    // One connection for each name, the first one used twice.
    assert_eq!(world.origins.http.accepted(), 2);
    client.get(&world.origins.url("denied.test", "/"));
    let answer = client.response();
    assert_eq!(answer.line(), "HTTP/1.1 403 Denied by sluicegate (no_rule)");
    assert!(answer.text().contains("http://denied.test"), "{}", answer.text());
    assert_eq!(client.read_to_end(), (Vec::new(), Ending::Closed));
    assert_eq!(
        fetch(world.proxy.address(), &world.origins.url("plain.allowed.test", "/")).status(),
        200
    );
    assert_eq!(world.origins.dns.asked("denied.test"), 0);
    assert_eq!(
        world.stop().verdicts(),
        ["allow rule", "allow rule", "allow rule", "deny no_rule", "allow rule"]
    );
}

#[test]
fn f09_a_request_behind_a_body_is_judged_as_its_own() {
    let world = World::start();
    let url = world.origins.url("plain.allowed.test", "/echo");
    let host = url.split('/').nth(2).unwrap();
    let mut client = Client::connect(world.proxy.address());
    client.send(format!(
        "POST {url} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nABCDEGET http://denied.test/ HTTP/1.1\r\nHost: denied.test\r\n\r\n"
    ));
    assert_eq!(client.response().text(), "ABCDE");
    assert_eq!(client.response().line(), "HTTP/1.1 403 Denied by sluicegate (no_rule)");
    assert_eq!(world.origins.http.requests().len(), 1);
    assert_eq!(world.stop().verdicts(), ["allow rule", "deny no_rule"]);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let world = World::start();
    let mut client = Client::connect(world.proxy.address());
    for page in 0..20 {
        let name = if page % 2 == 0 {
            "plain.allowed.test"
        } else {
            "other.allowed.test"
        };
        client.get(&world.origins.url(name, &format!("/{page}")));
    }
    for page in 0..20 {
        assert!(client.response().text().starts_with(&format!("/{page} of ")));
    }
}

#[test]
fn f26_f27_hop_by_hop_fields_and_claims_of_identity_stay_here() {
    let world = World::start();
    let url = world.origins.url("plain.allowed.test", "/head");
    let host = url.split('/').nth(2).unwrap();
    let mut client = Client::connect(world.proxy.address());
    client.send(format!(
        "GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: Host, X-Client-Id, close\r\nX-Client-Id: 7\r\n\
         Proxy-Connection: keep-alive\r\nKeep-Alive: 5\r\nTE: trailers\r\nProxy-Authorization: Basic eA==\r\n\
         Forwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\nX-Client-Namespace: admin\r\nX-Upstream-Https-Proxy: http://evil\r\n\
         Accept: */*\r\n\r\n"
    ));
    let seen = client.response().text().to_ascii_lowercase();
    for gone in [
        "x-client-id",
        "proxy-connection",
        "keep-alive",
        "te:",
        "proxy-authorization",
        "forwarded",
        "x-client-namespace",
        "x-upstream",
    ] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
    assert!(
        seen.contains(&format!("host: {host}")) && seen.contains("accept: */*"),
        "{seen}"
    );

    let answer = fetch(world.proxy.address(), &world.origins.url("plain.allowed.test", "/hop"));
    for gone in ["x-private", "keep-alive", "proxy-authenticate"] {
        assert_eq!(answer.field(gone), None, "{}", answer.head);
    }
    assert_eq!(answer.field("x-public"), Some("1"));
}

#[test]
fn f31_redirects_are_the_clients_to_follow() {
    let world = World::start();
    let answer = fetch(
        world.proxy.address(),
        &world.origins.url("plain.allowed.test", "/elsewhere"),
    );
    assert_eq!(
        (answer.status(), answer.field("location")),
        (302, Some("http://denied.test/"))
    );
    assert_eq!(fetch(world.proxy.address(), "http://denied.test/").status(), 403);
    assert_eq!(world.origins.dns.asked("denied.test"), 0);
}

#[test]
fn f32_a_loop_is_seen() {
    // A proxy whose upstream for one name is itself, by another port of the same host.
    let world = World::start();
    let url = world.origins.url("plain.allowed.test", "/head");
    let via = fetch(world.proxy.address(), &url).text();
    let via = via.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("via:")
            .map(|_| line[4..].trim().to_owned())
    });
    let via = via.expect("forwarded requests carry Via");
    let host = url.split('/').nth(2).unwrap();
    let mut client = Client::connect(world.proxy.address());
    client.send(format!(
        "GET {url} HTTP/1.1\r\nHost: {host}\r\nVia: 1.1 other, {via}\r\n\r\n"
    ));
    assert_eq!(client.response().line(), "HTTP/1.1 508 Failed by sluicegate (loop)");
    let (mut client, target) = (Client::connect(world.proxy.address()), world.origins.echo_target());
    client.send(format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nVia: {via}\r\n\r\n"
    ));
    assert_eq!(client.response().status(), 508);
}

#[test]
fn what_the_reader_refuses_reaches_nobody() {
    let world = World::start();
    let host = format!("plain.allowed.test:{}", world.origins.http.port());
    let url = format!("http://{host}/");
    let cases = [
        (
            format!("GET {url} HTTP/1.1\r\nHost: denied.test\r\n\r\n"),
            400,
            "host_mismatch",
        ),
        (
            format!("POST {url} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
            400,
            "bad_framing",
        ),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 400, "not_proxy_request"),
        (
            format!("TRACE {url} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            405,
            "bad_method",
        ),
        (
            format!("GET {url} HTTP/2.0\r\nHost: {host}\r\n\r\n"),
            505,
            "bad_version",
        ),
        (
            format!("GET {url}{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "a".repeat(9000)),
            414,
            "uri_too_long",
        ),
        (
            format!(
                "GET {url} HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n",
                "a".repeat(20_000)
            ),
            431,
            "head_too_large",
        ),
        (
            format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\n"),
            400,
            "connect_body",
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505, ""),
        (
            "PROXY TCP4 10.1.2.3 10.1.2.4 1 2\r\n".to_owned() + "GET / HTTP/1.1\r\n\r\n",
            400,
            "",
        ),
        ("\r\n".repeat(50_000), 400, ""),
        (
            "GET ftp://plain.allowed.test/ HTTP/1.1\r\nHost: plain.allowed.test\r\n\r\n".to_owned(),
            400,
            "bad_scheme",
        ),
        (
            "GET http://<img src=x>.test/ HTTP/1.1\r\nHost: <img src=x>.test\r\n\r\n".to_owned(),
            400,
            "",
        ),
    ];
    for (number, (bytes, status, reason)) in cases.iter().enumerate() {
        let mut client = Client::connect(world.proxy.address());
        let _ = client.try_send(bytes);
        let answer = client.response();
        assert_eq!(answer.status(), *status, "{reason}: {}", answer.head);
        assert!(
            answer.head.contains(reason) && !answer.text().contains("<img"),
            "{}",
            answer.text()
        );
        assert_ne!(client.read_to_end().1, Ending::Open);
        let record = world.proxy.nth_decision(number);
        assert_eq!(record.text("action"), "deny");
        assert!(reason.is_empty() || record.reason() == *reason, "{}", record.0);
    }
    assert_eq!(
        (world.origins.http.accepted(), world.origins.dns.questions()),
        (0, Vec::new())
    );
    assert_eq!(world.stop().decisions.len(), cases.len());
}

#[test]
fn f35_names_never_become_labels() {
    let world = World::start();
    let series = || {
        world
            .proxy
            .page("health", "/metrics")
            .text()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .count()
    };
    fetch(world.proxy.address(), "http://first.denied.test/");
    let before = series();
    for number in 0..300 {
        assert_eq!(
            fetch(world.proxy.address(), &format!("http://n{number}.denied.test/")).status(),
            403
        );
    }
    assert_eq!(series(), before);
    assert_eq!(
        world.proxy.metric("sluicegate_decisions_total", &[("action", "deny")]),
        301
    );
    assert_eq!(world.origins.dns.questions(), []);
}

#[test]
fn upstream_connections_end_with_their_generation() {
    let world = World::with(|setup, _| setup.set("reload.grace", json!("0s")));
    let mut client = Client::connect(world.proxy.address());
    let url = world.origins.url("plain.allowed.test", "/");
    client.get(&url);
    assert_eq!(client.response().status(), 200);
    world
        .proxy
        .reload(&(world.origins.policy() + "  - {name: more, to: [more.wild.test]}\n"));
    client.get(&url);
    assert_eq!(client.response().status(), 200);
    assert_eq!(world.origins.http.accepted(), 2);
    let records = world.stop().decisions;
    assert_eq!(records[1].number("generation"), records[0].number("generation") + 1);
}
