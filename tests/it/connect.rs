//! CONNECT on an explicit listener: what is answered, what reaches the upstream, what is written down.
//! Must not test what is pure; spellings of hosts and ports are table tests of the library.
//! Called by `tests/run`.

use std::time::Duration;

use serde_json::json;

use crate::support::QUIET;
use crate::support::client::{Client, Ending, get};
use crate::support::hello::Hello;
use crate::support::setup::Setup;
use crate::support::world::{Origins, World};

#[test]
fn an_allowed_tunnel_carries_tls_and_leaves_two_records() {
    let world = World::start();
    let target = world.origins.tls_target("api.allowed.test");
    let client = Client::tunnel(world.proxy.address(), &target);
    let mut stream = client.tls(&world.origins.ca.client_config(), "api.allowed.test");
    assert_eq!(
        get(&mut stream, "api.allowed.test", "/x").unwrap().text(),
        "/x of api.allowed.test\n"
    );
    let decision = world.proxy.nth_decision(0);
    assert_eq!(decision.verdict(), "allow rule");
    assert_eq!(
        (
            decision.text("entry"),
            decision.text("stage"),
            decision.text("listener"),
            decision.host()
        ),
        ("connect", "hello", "proxy", "api.allowed.test")
    );
    assert_eq!(
        (decision.text("sni"), decision.text("rule")),
        ("api.allowed.test", "exact")
    );
    assert_eq!(decision.text("address"), "127.0.0.1");
    assert!(decision.text("rule_at").ends_with("policy.yaml:3"), "{}", decision.0);
    assert_eq!(
        world.proxy.metric("sluicegate_open_tunnels", &[("listener", "proxy")]),
        1
    );
    drop(stream);
    let tunnel = world.proxy.tunnel(decision.id());
    assert!(
        tunnel.number("up_bytes") > 300 && tunnel.number("down_bytes") > 300,
        "{}",
        tunnel.0
    );
    let labels = [
        ("action", "allow"),
        ("reason", "rule"),
        ("listener", "proxy"),
        ("workload", ""),
    ];
    assert_eq!(world.proxy.metric("sluicegate_decisions_total", &labels), 1);
    world
        .proxy
        .wait_metric("sluicegate_open_tunnels", &[], |open| open == 0);
    let outcome = world.stop();
    assert_eq!((outcome.decisions.len(), outcome.tunnels.len()), (1, 1));
    assert_eq!(outcome.status.code(), Some(0));
}

#[test]
fn a_denied_name_is_refused_readably_and_never_resolved() {
    let world = World::start();
    let (mut client, answer) = world.connect("denied.test:443");
    assert_eq!(answer.line(), "HTTP/1.1 403 Denied by sluicegate (no_rule)");
    assert!(
        answer
            .field("proxy-status")
            .unwrap()
            .contains("error=http_request_denied"),
        "{}",
        answer.head
    );
    assert!(answer.field("content-type").unwrap().starts_with("text/plain"));
    let (body, ending) = client.read_to_end();
    let body = String::from_utf8(body).unwrap();
    assert_eq!(ending, Ending::Closed);
    for part in [
        "denied.test:443",
        "127.0.0.1",
        "no_rule",
        "- denied.test",
        "policy.yaml",
    ] {
        assert!(body.contains(part), "{part} is missing:\n{body}");
    }
    let record = world.proxy.nth_decision(0);
    assert!(
        answer.head.contains(record.id()) && body.contains(record.id()),
        "{}\n{body}",
        answer.head
    );
    assert_eq!((record.text("stage"), record.0.get("address")), ("request", None));
    assert_eq!(world.origins.dns.questions(), []);
    let labels = [("action", "deny"), ("reason", "no_rule")];
    assert_eq!(world.proxy.metric("sluicegate_decisions_total", &labels), 1);
    assert_eq!(world.origins.https.accepted(), 0);
    world.only_verdict("deny no_rule");
}

#[test]
fn http_1_0_may_connect_too() {
    let world = World::start();
    let mut client = Client::connect(world.proxy.address());
    client.send(format!("CONNECT {} HTTP/1.0\r\n\r\n", world.origins.echo_target()));
    assert_eq!(client.head().status(), 200);
    client.send("ping");
    assert_eq!(client.read_exact(4), b"ping");
    drop(client);
    world.only_verdict("allow rule");
}

#[test]
fn bytes_sent_with_the_connect_are_not_lost() {
    let world = World::start();
    let target = world.origins.echo_target();
    let mut client = Client::connect(world.proxy.address());
    client.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\nearly"));
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.read_exact(5), b"early");
    world.origins.echo.expect_bytes(b"early");
}

#[test]
fn half_a_connection_closes_alone() {
    let world = World::start();
    let mut client = world.echo_tunnel();
    client.send("last words");
    client.finish();
    assert_eq!(client.read_to_end(), (b"last words".to_vec(), Ending::Closed));
    let outcome = world.stop();
    assert_eq!(outcome.tunnels[0].text("end"), "finished");
    assert_eq!(outcome.tunnels[0].number("up_bytes"), 10);
    assert_eq!(outcome.tunnels[0].number("down_bytes"), 10);
}

#[test]
fn resets_cross_the_proxy_and_say_whose_they_were() {
    let world = World::start();
    let mut client = world.echo_tunnel();
    client.send("x");
    client.read_exact(1);
    client.reset();
    world.origins.echo.expect_end(0);
    let decision = world.proxy.nth_decision(0);
    assert_eq!(world.proxy.tunnel(decision.id()).text("end"), "client_reset");

    let resetting = crate::support::origin::Origin::start("127.0.0.1:0", |tap| {
        std::io::Read::read_exact(tap, &mut [0])?;
        tap.reset();
        Ok(())
    });
    let policy = format!(
        "allow: [{{to: [\"tcp://echo.allowed.test:{}\"], addresses: [127.0.0.0/8]}}]",
        resetting.port()
    );
    world.proxy.reload(&policy);
    let mut client = Client::tunnel(
        world.proxy.address(),
        &format!("echo.allowed.test:{}", resetting.port()),
    );
    client.send("x");
    assert_eq!(client.read_to_end().1, Ending::Reset);
    let decision = world.proxy.nth_decision(1);
    assert_eq!(world.proxy.tunnel(decision.id()).text("end"), "upstream_reset");
}

#[test]
fn no_address_that_answers_is_502() {
    let origins = Origins::start();
    let port = crate::support::proxy::free_port();
    let policy = format!("allow: [{{to: [\"tcp://closed.allowed.test:{port}\"], addresses: [127.0.0.0/8]}}]");
    let proxy = Setup::new(&policy).dns(&origins.dns).start();
    let (_, answer) = Client::connect_request(proxy.address(), &format!("closed.allowed.test:{port}"));
    assert_eq!(answer.line(), "HTTP/1.1 502 Failed by sluicegate (connect)");
    let outcome = proxy.stop();
    assert_eq!(outcome.verdicts(), ["deny connect"]);
    assert_eq!(outcome.decisions[0].text("stage"), "address");
}

#[test]
fn a_client_that_says_nothing_more_is_told_so() {
    // F23: a total deadline, not one per byte.
    let world = World::with(|setup, _| setup.set("timeouts.head", json!("600ms")));
    let mut client = Client::connect(world.proxy.address());
    let started = std::time::Instant::now();
    client.send("CONNECT api.allo");
    for byte in b"wed.test:443" {
        if client.try_send([*byte]).is_err() {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    assert_eq!(
        client.response().line(),
        "HTTP/1.1 408 Refused by sluicegate (head_timeout)"
    );
    assert!(started.elapsed() < Duration::from_secs(5));
    world.only_verdict("deny head_timeout");
}

#[test]
fn b11_the_proxy_never_serves_itself() {
    let origins = Origins::start();
    origins.dns.set("self.allowed.test", [[127, 0, 0, 1]]);
    let policy =
        "allow: [{to: [\"tcp://*.allowed.test:1-65535\", \"tcp://127.0.0.0/8:1-65535\"], addresses: [127.0.0.0/8]}]";
    let proxy = Setup::new(policy).dns(&origins.dns).start();
    let mut expected = Vec::new();
    for listener in ["proxy", "admin", "health"] {
        let port = proxy.at(listener).port();
        for host in ["self.allowed.test", "127.0.0.1", "127.0.0.2"] {
            let (_, answer) = Client::connect_request(proxy.address(), &format!("{host}:{port}"));
            assert_eq!(
                answer.line(),
                "HTTP/1.1 403 Denied by sluicegate (self)",
                "{listener} as {host}"
            );
            expected.push("deny self");
        }
    }
    assert_eq!(proxy.stop().verdicts(), expected);
}

#[test]
fn f15_after_a_refusal_nothing_more_is_read() {
    let world = World::start();
    let mut client = Client::connect(world.proxy.address());
    let next = world.origins.url("plain.allowed.test", "/");
    client.send(format!(
        "CONNECT denied.test:443 HTTP/1.1\r\nHost: denied.test:443\r\n\r\nGET {next} HTTP/1.1\r\nHost: x\r\n\r\n"
    ));
    let (bytes, ending) = client.read_to_end();
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(
        (text.matches("HTTP/1.1 ").count(), ending),
        (1, Ending::Closed),
        "{text}"
    );
    assert_eq!(world.origins.http.accepted(), 0);
    world.only_verdict("deny no_rule");
}

#[test]
fn f13_early_bytes_with_a_denied_sni_stay_here() {
    let world = World::start();
    let target = world.origins.tls_target("api.allowed.test");
    let mut client = Client::connect(world.proxy.address());
    let mut bytes = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").into_bytes();
    bytes.extend(Hello::sni("denied.test").bytes());
    client.send(bytes);
    assert_eq!(client.head().status(), 200);
    client.read_to_end();
    assert_eq!(world.origins.https.received(), b"");
    world.only_verdict("deny sni_mismatch");
}

#[test]
fn a_tcp_rule_lets_the_server_speak_first() {
    let origins = Origins::start();
    let banner = crate::support::origin::Origin::banner("220 mail ready\r\n");
    let policy = format!(
        "allow: [{{to: [\"tcp://mail.allowed.test:{}\"], addresses: [127.0.0.0/8]}}]",
        banner.port()
    );
    let proxy = Setup::new(&policy).dns(&origins.dns).start();
    let mut client = Client::tunnel(proxy.address(), &format!("mail.allowed.test:{}", banner.port()));
    assert_eq!(client.read_exact(16), b"220 mail ready\r\n");
    drop(client);
    assert_eq!(proxy.stop().verdicts(), ["allow rule"]);
}

#[test]
fn a_quiet_tunnel_stays_open() {
    let world = World::start();
    let mut client = world.echo_tunnel();
    client.expect_quiet(QUIET);
    client.send("still here");
    assert_eq!(client.read_exact(10), b"still here");
}
