//! What is looked at inside tunnels: `ClientHellos` in every cut, and what is not a hello.
//! Must not repeat the byte tables of the hello reader; here it is the sockets, the alert, the record that count.
//! Called by `tests/run`.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::QUIET;
use crate::support::client::{Client, Ending};
use crate::support::hello::{self, Hello, alert};
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::world::{Origins, World};

/// A recording upstream under one rule with these extra keys, and a proxy in front.
fn recorder(keys: &str) -> (Origins, Origin, Proxy) {
    let origins = Origins::start();
    let upstream = Origin::echo();
    let policy = format!(
        "allow:\n  - {{name: one, to: [\"https://*.allowed.test:{port}\", \"https://x.wild.test:{port}\"], addresses: \
         [127.0.0.0/8]{keys}}}\n",
        port = upstream.port()
    );
    let proxy = Setup::new(&policy)
        .dns(&origins.dns)
        .set("timeouts.head", json!("700ms"))
        .start();
    (origins, upstream, proxy)
}

/// Sends `bytes` in a tunnel and says what came back.
fn tunnelled(proxy: &Proxy, upstream: &Origin, bytes: &[u8]) -> (Vec<u8>, Ending) {
    let mut client = Client::tunnel(proxy.address(), &format!("api.allowed.test:{}", upstream.port()));
    client.send(bytes);
    client.read_to_end()
}

/// Each hello is passed on byte by byte as it came.
#[test]
fn e01_e13_e14_e16_a_hello_passes_whole_in_any_cut() {
    let (_origins, upstream, proxy) = recorder("");
    let plain = Hello::sni("api.allowed.test");
    let before = Hello::sni("api.allowed.test").with_big_key_share();
    let after = Hello::bare().with_big_key_share().with_sni(b"api.allowed.test");
    let mut number = 0;
    for (bytes, size, apart) in [
        (plain.bytes(), 10_000, 0),
        (plain.bytes(), 1, 2),
        (plain.in_records(70), 10_000, 0),
        (plain.in_records(1), 10_000, 0),
        (plain.in_records(50), 33, 1),
        (before.bytes(), 1000, 5),
        (after.bytes(), 1000, 5),
        (after.in_records(500), 700, 5),
    ] {
        let mut client = Client::tunnel(proxy.address(), &format!("api.allowed.test:{}", upstream.port()));
        client.trickle(&bytes, size, Duration::from_millis(apart));
        assert_eq!(client.read_exact(bytes.len()), bytes);
        let seen = upstream.connections.with(|all| all[number].bytes.clone());
        assert_eq!(seen, bytes, "cut into {size}");
        assert_eq!(proxy.nth_decision(number).verdict(), "allow rule");
        number += 1;
    }
    assert_eq!(proxy.stop().decisions.len(), number);
}

#[test]
fn a_refused_hello_gets_an_alert_and_not_a_byte_passes() {
    let (_origins, upstream, proxy) = recorder("");
    let denied = Hello::sni("denied.test");
    let cases = [
        (denied.bytes(), "sni_mismatch", hello::ACCESS_DENIED),
        (denied.in_records(1), "sni_mismatch", hello::ACCESS_DENIED),
        (Hello::sni("x.wild.test").bytes(), "sni_mismatch", hello::ACCESS_DENIED),
        (Hello::bare().bytes(), "no_sni", hello::ACCESS_DENIED),
        (
            Hello::sni("api.allowed.test").with_ech().bytes(),
            "ech",
            hello::ACCESS_DENIED,
        ),
        (denied.with_ech().bytes(), "sni_mismatch", hello::ACCESS_DENIED),
        (Hello::sni("10.0.0.1").bytes(), "bad_sni", hello::DECODE_ERROR),
        (Hello::sni("api.allowed.test.").bytes(), "bad_sni", hello::DECODE_ERROR),
        (
            hello::record(&[1, 0xff, 0xff, 0xff, 3, 3]),
            "bad_hello",
            hello::DECODE_ERROR,
        ),
        (hello::record(&[2, 0, 0, 2, 3, 3]), "bad_hello", hello::DECODE_ERROR),
    ];
    for (number, (bytes, reason, expected)) in cases.iter().enumerate() {
        let (answer, ending) = tunnelled(&proxy, &upstream, bytes);
        assert_eq!(alert(&answer), Some(*expected), "{reason}: {answer:?}");
        assert_eq!(ending, Ending::Closed, "{reason}");
        let record = proxy.nth_decision(number);
        assert_eq!(record.verdict(), format!("deny {reason}"));
        assert_eq!(record.text("stage"), "hello");
    }
    // The bare connect is all that an upstream sees.
    assert_eq!(upstream.received(), b"");
    assert_eq!(
        proxy.metric("sluicegate_decisions_total", &[("reason", "sni_mismatch")]),
        4
    );
    assert_eq!(proxy.stop().decisions.len(), cases.len());
}

#[test]
fn e23_e25_what_is_no_tls_gets_no_alert() {
    let (_origins, upstream, proxy) = recorder("");
    let cases: [&[u8]; 5] = [
        b"SSH-2.0-x\r\n",
        b"GET / HTTP/1.1\r\nHost: api.allowed.test\r\n\r\n",
        b"\x00\x00\x00\x08",
        b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10",
        b"\x16\xfe\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x5a",
    ];
    for (number, bytes) in cases.iter().enumerate() {
        let (answer, _) = tunnelled(&proxy, &upstream, bytes);
        let tls = bytes[0] == 0x16;
        assert_eq!(answer.is_empty(), !tls, "{answer:?}");
        let record = proxy.nth_decision(number);
        let expected: &[&str] = if tls { &["not_tls", "bad_hello"] } else { &["not_tls"] };
        assert!(expected.contains(&record.reason()), "{}", record.0);
    }
    assert!(
        proxy.nth_decision(0).text("detail").contains("tcp://"),
        "{}",
        proxy.nth_decision(0).0
    );
    assert_eq!(upstream.received(), b"");
}

#[test]
fn e19_the_deadline_is_total() {
    let (_origins, upstream, proxy) = recorder("");
    let bytes = Hello::sni("api.allowed.test").bytes();
    let started = Instant::now();
    let (answer, ending) = tunnelled(&proxy, &upstream, &bytes[..5]);
    assert_eq!((alert(&answer), ending), (Some(hello::DECODE_ERROR), Ending::Closed));
    let mut client = Client::tunnel(proxy.address(), &format!("api.allowed.test:{}", upstream.port()));
    for byte in &bytes {
        if client.try_send([*byte]).is_err() {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    client.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_ne!(client.read_to_end().1, Ending::Open);
    assert!(started.elapsed() < Duration::from_secs(10));
    for number in 0..2 {
        assert_eq!(proxy.nth_decision(number).verdict(), "deny hello_timeout");
    }
    assert_eq!(upstream.received(), b"");
}

#[test]
fn e24_a_server_that_speaks_first_is_held_back_and_explained() {
    let origins = Origins::start();
    let banner = Origin::banner("220 mail.allowed.test ESMTP\r\n");
    let policy = format!(
        "allow: [{{to: [\"https://mail.allowed.test:{}\"], addresses: [127.0.0.0/8]}}]",
        banner.port()
    );
    let proxy = Setup::new(&policy)
        .dns(&origins.dns)
        .set("timeouts.head", json!("3s"))
        .start();
    let mut client = Client::tunnel(proxy.address(), &format!("mail.allowed.test:{}", banner.port()));
    let (answer, ending) = client.read_to_end();
    assert_eq!(
        (answer, ending),
        (Vec::new(), Ending::Closed),
        "not one byte of the banner passes"
    );
    let record = proxy.nth_decision(0);
    assert_eq!(record.verdict(), "deny hello_timeout");
    assert!(record.text("detail").contains("tcp://"), "{}", record.0);
    assert_eq!(banner.received(), b"");
    assert_eq!(proxy.stop().decisions.len(), 1);
}

#[test]
fn a_silent_client_costs_the_upstream_nothing() {
    let (_origins, upstream, proxy) = recorder("");
    let (answer, ending) = tunnelled(&proxy, &upstream, b"");
    assert_eq!((answer, ending), (Vec::new(), Ending::Closed));
    assert_eq!(proxy.nth_decision(0).verdict(), "deny hello_timeout");
    assert_eq!(upstream.received(), b"");
}

#[test]
fn rules_may_ask_for_less() {
    let (_origins, upstream, proxy) = recorder(", sni: listed, no_sni: allow, ech: outer");
    let allowed = [
        Hello::sni("x.wild.test").bytes(),
        Hello::bare().bytes(),
        Hello::sni("api.allowed.test").with_ech().bytes(),
    ];
    for (number, bytes) in allowed.iter().enumerate() {
        let mut client = Client::tunnel(proxy.address(), &format!("api.allowed.test:{}", upstream.port()));
        client.send(bytes);
        assert_eq!(client.read_exact(bytes.len()), *bytes);
        assert_eq!(proxy.nth_decision(number).verdict(), "allow rule");
    }
    assert_eq!(proxy.nth_decision(2).0["ech"], true);
    let (answer, _) = tunnelled(&proxy, &upstream, &Hello::sni("denied.test").bytes());
    assert_eq!(alert(&answer), Some(hello::ACCESS_DENIED));
    assert_eq!(proxy.nth_decision(3).verdict(), "deny sni_not_listed");
}

/// E33, a residual: what follows the first ClientHello is not looked at. After a `HelloRetryRequest` the second one must
/// not differ (RFC 8446, section 4.1.2), which is the server's to enforce.
#[test]
fn e33_residual_a_second_hello_is_not_judged() {
    let (_origins, upstream, proxy) = recorder("");
    let first = Hello::sni("api.allowed.test").bytes();
    let second = Hello::sni("denied.test").bytes();
    let mut client = Client::tunnel(proxy.address(), &format!("api.allowed.test:{}", upstream.port()));
    client.send(&first);
    client.read_exact(first.len());
    client.send(&second);
    assert_eq!(client.read_exact(second.len()), second);
    drop(client);
    assert_eq!(proxy.stop().verdicts(), ["allow rule"]);
}

#[test]
fn a_tunnel_of_http_rules_serves_http() {
    let world = World::start();
    let target = format!("plain.allowed.test:{}", world.origins.http.port());
    let mut client = Client::tunnel(world.proxy.address(), &target);
    client.send(format!("GET /a HTTP/1.1\r\nHost: {target}\r\n\r\n"));
    assert_eq!(client.response().text(), format!("/a of {target}\n"));
    client.send("GET /b HTTP/1.1\r\nHost: denied.test\r\n\r\n");
    assert_eq!(
        client.response().line(),
        "HTTP/1.1 400 Refused by sluicegate (host_mismatch)"
    );
    assert_eq!(client.read_to_end().1, Ending::Closed);
    assert_eq!(world.origins.http.requests().len(), 1);
    let outcome = world.stop();
    assert_eq!(outcome.decisions.last().unwrap().verdict(), "deny host_mismatch");
}

#[test]
fn http_in_a_tunnel_of_http_rules_must_be_http() {
    let world = World::with(|setup, _| setup.set("timeouts.head", json!("700ms")));
    let target = format!("plain.allowed.test:{}", world.origins.http.port());
    for bytes in [Hello::sni("plain.allowed.test").bytes(), b"SSH-2.0-x\r\n\r\n".to_vec()] {
        let mut client = Client::tunnel(world.proxy.address(), &target);
        client.send(&bytes);
        client.stream.set_read_timeout(Some(QUIET * 10)).unwrap();
        assert_ne!(client.read_to_end().1, Ending::Open);
    }
    assert_eq!(world.origins.http.received(), b"");
}

#[test]
fn where_both_are_allowed_the_first_byte_tells() {
    let origins = Origins::start();
    let (upstream, port) = (&origins.http, origins.http.port());
    let policy = format!(
        "allow: [{{to: [\"https://both.allowed.test:{port}\", \"http://both.allowed.test:{port}\"], addresses: [127.0.0.0/8]}}]"
    );
    let proxy = Setup::new(&policy).dns(&origins.dns).start();
    let target = format!("both.allowed.test:{port}");
    let mut client = Client::tunnel(proxy.address(), &target);
    client.send(format!("GET /x HTTP/1.1\r\nHost: {target}\r\n\r\n"));
    assert_eq!(client.response().text(), format!("/x of {target}\n"));
    drop(client);
    let before = upstream.received();
    let mut client = Client::tunnel(proxy.address(), &target);
    client.send(Hello::sni("denied.test").bytes());
    assert_eq!(alert(&client.read_to_end().0), Some(hello::ACCESS_DENIED));
    assert_eq!(upstream.received(), before);
    let mut client = Client::tunnel(proxy.address(), &target);
    let hello = Hello::sni("both.allowed.test").bytes();
    client.send(&hello);
    client.finish();
    client.read_to_end();
    assert_eq!(upstream.received(), [before, hello].concat());
}

#[test]
fn c08_behind_an_address_the_server_name_is_judged_by_itself() {
    let upstream = Origin::echo();
    let port = upstream.port();
    let policy = |keys: &str| {
        format!(
            "allow:\n  - {{name: range, to: [\"tls://127.0.0.0/8:{port}\"], addresses: [127.0.0.0/8], sni: listed{keys}}}\n  - \
             {{name: named, to: [\"https://api.allowed.test:{port}\"]}}\n"
        )
    };
    let proxy = Setup::new(&policy("")).start();
    let target = format!("127.0.0.1:{port}");
    let cases = [
        (Hello::sni("denied.test"), "deny sni_not_listed"),
        (Hello::bare(), "deny no_sni"),
        (Hello::sni("api.allowed.test"), "allow rule"),
    ];
    for (number, (hello, verdict)) in cases.into_iter().enumerate() {
        let mut client = Client::tunnel(proxy.address(), &target);
        client.send(hello.bytes());
        client.finish();
        client.read_to_end();
        assert_eq!(proxy.nth_decision(number).verdict(), verdict);
    }
    proxy.reload(&policy(", no_sni: allow"));
    let mut client = Client::tunnel(proxy.address(), &target);
    let bare = Hello::bare().bytes();
    client.send(&bare);
    assert_eq!(client.read_exact(bare.len()), bare);
}
