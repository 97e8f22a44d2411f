//! Transparent listeners on loopback: the name comes from the SNI, the Host, or the settings.
//! Must not test original destinations; those need a kernel that redirects, which the ring `lab` has.
//! Called by `tests/run`.

use std::net::TcpStream;

use serde_json::json;

use crate::support::client::{Client, Ending, get};
use crate::support::dns::{Answer, SERVFAIL};
use crate::support::hello::{self, Hello, alert};
use crate::support::origin::Origin;
use crate::support::setup::Setup;
use crate::support::world::{Origins, World};

fn start() -> World {
    World::with(|setup, origins| {
        setup
            .listener(json!({"name": "tls", "mode": "tls", "bind": "127.0.0.1:0", "port": origins.https.port()}))
            .listener(json!({"name": "http", "mode": "http", "bind": "127.0.0.1:0", "port": origins.http.port()}))
            .listener(json!({"name": "tls6", "mode": "tls", "bind": "[::1]:0", "port": origins.https.port()}))
            .set("timeouts.head", json!("1s"))
    })
}

#[test]
fn tls_goes_where_its_sni_says() {
    let world = start();
    for listener in ["tls", "tls6"] {
        let client = Client::connect(world.proxy.at(listener));
        let mut stream = client.tls(&world.origins.ca.client_config(), "a.b.wild.test");
        // Not in the certificate, which names one level; what matters here is who answered.
        assert!(get(&mut stream, "a.b.wild.test", "/").is_err());
        let client = Client::connect(world.proxy.at(listener));
        let mut stream = client.tls(&world.origins.ca.client_config(), "a.wild.test");
        assert_eq!(
            get(&mut stream, "a.wild.test", "/").unwrap().text(),
            "/ of a.wild.test\n"
        );
    }
    let outcome = world.stop();
    assert_eq!(outcome.verdicts(), ["allow rule"; 4]);
    let last = &outcome.decisions[3];
    assert_eq!(
        (last.text("entry"), last.text("listener"), last.host()),
        ("tls", "tls6", "a.wild.test")
    );
    assert_eq!((last.text("source"), last.text("stage")), ("::1", "address"));
    assert_eq!(outcome.tunnels.len(), 4);
}

#[test]
fn refused_tls_gets_an_alert_and_no_question_is_asked() {
    let world = start();
    let cases = [
        (
            Hello::sni("denied.test").in_records(40),
            "no_rule",
            hello::ACCESS_DENIED,
        ),
        (Hello::sni("x.bad.wild.test").bytes(), "deny_rule", hello::ACCESS_DENIED),
        (Hello::bare().bytes(), "no_sni", hello::ACCESS_DENIED),
        (
            Hello::sni("api.allowed.test").with_ech().bytes(),
            "ech",
            hello::ACCESS_DENIED,
        ),
        (
            Hello::sni("cdn.test").with_ech().bytes(),
            "no_rule",
            hello::ACCESS_DENIED,
        ),
        (Hello::sni("api..test").bytes(), "bad_sni", hello::DECODE_ERROR),
        (
            Hello::sni("api.allowed.test").bytes()[..9].to_vec(),
            "hello_timeout",
            hello::DECODE_ERROR,
        ),
    ];
    for (number, (bytes, reason, expected)) in cases.iter().enumerate() {
        let mut client = Client::connect(world.proxy.at("tls"));
        client.send(bytes);
        let (answer, ending) = client.read_to_end();
        assert_eq!((alert(&answer), ending), (Some(*expected), Ending::Closed), "{reason}");
        let record = world.proxy.nth_decision(number);
        assert_eq!(
            (record.verdict(), record.text("listener")),
            (format!("deny {reason}"), "tls"),
            "{}",
            record.0
        );
    }
    assert_eq!(
        (world.origins.dns.questions(), world.origins.https.accepted()),
        (Vec::new(), 0)
    );
    assert_eq!(world.stop().decisions.len(), cases.len());
}

#[test]
fn what_is_no_tls_gets_no_alert() {
    let world = start();
    let mut client = Client::connect(world.proxy.at("tls"));
    client.send("GET / HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n");
    assert_eq!(client.read_to_end().0, b"");
    world.only_verdict("deny not_tls");
}

#[test]
fn e40_without_dns_there_is_no_other_way() {
    let world = start();
    world.origins.dns.script("api.allowed.test", [Answer::rcode(SERVFAIL)]);
    let mut client = Client::connect(world.proxy.at("tls"));
    client.send(Hello::sni("api.allowed.test").bytes());
    let (answer, ending) = client.read_to_end();
    assert_eq!((alert(&answer), ending), (Some(hello::INTERNAL_ERROR), Ending::Closed));
    let record = world.only_verdict("deny dns");
    assert_eq!(record.text("stage"), "address");
}

#[test]
fn http_goes_where_its_host_says_each_time() {
    let world = start();
    let mut client = Client::connect(world.proxy.at("http"));
    for name in ["plain.allowed.test", "other.allowed.test"] {
        client.send(format!("GET /head HTTP/1.1\r\nHost: {name}\r\n\r\n"));
        let seen = client.response().text();
        assert!(
            seen.starts_with("GET /head HTTP/1.1\r\n") && seen.contains(&format!("Host: {name}")),
            "{seen}"
        );
    }
    // F11: the second Host is not covered by the first one's verdict.
    client.send("GET / HTTP/1.1\r\nHost: denied.test\r\n\r\n");
    assert_eq!(client.response().line(), "HTTP/1.1 403 Denied by sluicegate (no_rule)");
    assert_eq!(client.read_to_end(), (Vec::new(), Ending::Closed));
    let outcome = world.stop();
    assert_eq!(outcome.verdicts(), ["allow rule", "allow rule", "deny no_rule"]);
    assert_eq!(outcome.decisions[2].text("listener"), "http");
}

#[test]
fn b10_the_port_is_the_listeners_and_never_the_hosts() {
    let world = start();
    let mut client = Client::connect(world.proxy.at("http"));
    client.send("GET / HTTP/1.1\r\nHost: plain.allowed.test:22\r\n\r\n");
    let answer = client.response();
    assert!([400, 403].contains(&answer.status()), "{}", answer.head);
    assert_eq!(world.origins.http.accepted(), 0);
    let verdict = world.stop().verdicts();
    assert!(
        verdict == ["deny port"] || verdict == ["deny host_mismatch"],
        "{verdict:?}"
    );
}

#[test]
fn a_proxy_request_has_no_place_on_a_transparent_listener() {
    let world = start();
    let mut client = Client::connect(world.proxy.at("http"));
    client.send("CONNECT api.allowed.test:443 HTTP/1.1\r\nHost: api.allowed.test:443\r\n\r\n");
    assert_eq!(
        client.response().line(),
        "HTTP/1.1 405 Refused by sluicegate (bad_method)"
    );
    let mut client = Client::connect(world.proxy.at("http"));
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().status(), 400);
    assert_eq!(world.stop().decisions.len(), 2);
}

#[test]
fn a_fixed_target_is_judged_like_any_other() {
    let origins = Origins::start();
    let banner = Origin::banner("220 mail ready\r\n");
    let port = banner.port();
    let policy = format!("allow: [{{name: mail, to: [\"tcp://mail.allowed.test:{port}\"], addresses: [127.0.0.0/8]}}]");
    let proxy = Setup::new(&policy)
        .dns(&origins.dns)
        .listener(
            json!({"name": "mail", "mode": "tcp", "bind": "127.0.0.1:0", "to": format!("mail.allowed.test:{port}")}),
        )
        .listener(
            json!({"name": "other", "mode": "tcp", "bind": "127.0.0.1:0", "to": format!("other.allowed.test:{port}")}),
        )
        .start();
    let mut client = Client::connect(proxy.at("mail"));
    assert_eq!(client.read_exact(16), b"220 mail ready\r\n");
    client.send("EHLO\r\n");
    assert_eq!(client.read_exact(6), b"EHLO\r\n");
    drop(client);
    // Refused at once, and by a reset: it may be there before the connection is.
    if let Ok(stream) = TcpStream::connect(proxy.at("other")) {
        let (bytes, ending) = Client::over(stream).read_to_end();
        assert_eq!((bytes, ending), (Vec::new(), Ending::Reset));
    }
    assert_eq!(origins.dns.asked("other.allowed.test"), 0);
    let outcome = proxy.stop();
    assert_eq!(outcome.verdicts(), ["allow rule", "deny no_rule"]);
    assert_eq!(
        (
            outcome.decisions[0].text("entry"),
            outcome.decisions[0].text("listener")
        ),
        ("tcp", "mail")
    );
}
