//! What plain HTTP carries: bodies both ways, answers of every framing, upgrades, `Expect`, and what breaks midway.
//! Must not judge who may ask whom; that is `forward`.
//! Called by `tests/run`.

use crate::support::client::{Client, Ending};
use crate::support::http::Message;
use crate::support::origin::{Origin, pattern};
use crate::support::proxy::fetch;
use crate::support::setup::Setup;
use crate::support::world::{Origins, World};

#[test]
fn bodies_of_any_size_stream_both_ways() {
    const SIZE: usize = 24 << 20;
    let world = World::start();
    let before = resident(&world);
    let mut client = Client::connect(world.proxy.address());
    client.get(&world.origins.url("plain.allowed.test", &format!("/size/{SIZE}")));
    assert!(client.response().body == pattern(SIZE));

    let url = world.origins.url("plain.allowed.test", "/echo");
    let host = url.split('/').nth(2).unwrap().to_owned();
    let mut head = format!("PUT {url} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    let mut sender = client.stream.try_clone().unwrap();
    let upload = std::thread::spawn(move || {
        for chunk in pattern(SIZE).chunks(60_000) {
            head.extend(format!("{:x}\r\n", chunk.len()).bytes());
            head.extend(chunk);
            head.extend(b"\r\n");
            std::io::Write::write_all(&mut sender, &head).unwrap();
            head.clear();
        }
        std::io::Write::write_all(&mut sender, b"0\r\n\r\n").unwrap();
    });
    let answer = client.response();
    upload.join().unwrap();
    assert!(answer.body == pattern(SIZE));
    // Neither body was held: 48 MiB went through, and the process has not grown by as many.
    let grown = resident(&world).saturating_sub(before);
    assert!(grown < 16_000_000, "grew by {grown}");
    // The connection still works.
    client.get(&world.origins.url("plain.allowed.test", "/after"));
    assert!(client.response().text().starts_with("/after of"));
}

#[test]
fn answers_of_every_framing_arrive() {
    let world = World::start();
    let mut client = Client::connect(world.proxy.address());
    client.get(&world.origins.url("plain.allowed.test", "/chunked"));
    assert!(client.response().text().starts_with("/chunked of"));
    let url = world.origins.url("plain.allowed.test", "/size/100");
    let host = url.split('/').nth(2).unwrap().to_owned();
    client.send(format!("HEAD {url} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(client.head().field("content-length"), Some("100"));
    client.get(&world.origins.url("plain.allowed.test", "/close"));
    assert!(client.response().text().starts_with("/close of"));
    // HTTP/1.0 knows neither chunks nor keep-alive.
    let mut old = Client::connect(world.proxy.address());
    old.send(format!(
        "GET {} HTTP/1.0\r\n\r\n",
        world.origins.url("plain.allowed.test", "/chunked")
    ));
    let (bytes, ending) = old.read_to_end();
    let text = String::from_utf8(bytes).unwrap();
    assert!(
        ending == Ending::Closed && !text.to_lowercase().contains("transfer-encoding"),
        "{text}"
    );
    assert!(
        text.ends_with(&format!(
            "/chunked of plain.allowed.test:{}\n",
            world.origins.http.port()
        )),
        "{text}"
    );
}

#[test]
fn f28_f29_an_upgrade_becomes_a_tunnel_only_if_the_server_agrees() {
    let world = World::start();
    let upgrade = |path: &str, protocol: &str| {
        let url = world.origins.url("plain.allowed.test", path);
        let host = url.split('/').nth(2).unwrap();
        format!(
            "GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
    };
    let mut client = Client::connect(world.proxy.address());
    client.send(upgrade("/socket", "websocket"));
    let answer = client.head();
    assert_eq!((answer.status(), answer.field("upgrade")), (101, Some("websocket")));
    client.send(b"\x81\x05hello");
    assert_eq!(client.read_exact(7), b"\x81\x05hello");
    client.finish();
    client.read_to_end();
    let decision = world.proxy.nth_decision(0);
    assert_eq!(world.proxy.tunnel(decision.id()).number("up_bytes"), 7);

    // The server stays with HTTP, and so does the proxy: what follows is judged.
    let mut client = Client::connect(world.proxy.address());
    client.send(upgrade("/page", "websocket"));
    assert_eq!(client.response().status(), 200);
    client.get("http://denied.test/");
    assert_eq!(client.response().status(), 403);

    // h2c is not passed on.
    let mut client = Client::connect(world.proxy.address());
    client.send(upgrade("/head", "h2c"));
    let answer = client.response();
    assert!(
        answer.status() == 400 || !answer.text().to_lowercase().contains("upgrade"),
        "{}",
        answer.text()
    );
}

#[test]
fn f36_expect_is_answered_by_the_one_who_decides() {
    let world = World::start();
    let mut client = Client::connect(world.proxy.address());
    client.send("POST http://denied.test/ HTTP/1.1\r\nHost: denied.test\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response().line(), "HTTP/1.1 403 Denied by sluicegate (no_rule)");

    let url = world.origins.url("plain.allowed.test", "/echo");
    let host = url.split('/').nth(2).unwrap();
    let mut client = Client::connect(world.proxy.address());
    client.send(format!(
        "POST {url} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    ));
    assert_eq!(client.head().status(), 100);
    client.send("body");
    assert_eq!(client.response().text(), "body");

    // The server does not want the body.
    let refuse = world.origins.url("plain.allowed.test", "/refuse");
    let mut client = Client::connect(world.proxy.address());
    client.send(format!(
        "POST {refuse} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    ));
    let answer = client.response();
    let answer = if answer.status() == 100 {
        client.response()
    } else {
        answer
    };
    assert_eq!(answer.status(), 417);
}

#[test]
fn f08_a_body_that_breaks_its_framing_goes_no_further() {
    let world = World::start();
    let url = world.origins.url("plain.allowed.test", "/echo");
    let host = url.split('/').nth(2).unwrap();
    for body in [
        "3\r\nabc\r\nzz\r\nGET http://denied.test/ HTTP/1.1\r\n\r\n",
        "3\r\nabc\r\nFFFFFFFFFFFFFFFFF\r\n",
        "3\r\nabc\r\n5\nabcde\r\n0\r\n\r\n",
        "3\r\nabc\r\n5;ext=\"\r\nabcde\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "0\r\nHost: denied.test\r\n\r\n",
    ] {
        let mut client = Client::connect(world.proxy.address());
        client.send(format!(
            "POST {url} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        ));
        let (answer, ending) = client.read_to_end();
        let text = String::from_utf8_lossy(&answer);
        assert!(
            text.is_empty() || text.starts_with("HTTP/1.1 400 Refused by sluicegate (bad_framing)"),
            "{text}"
        );
        assert_ne!(ending, Ending::Open);
    }
    assert_eq!(world.origins.http.requests(), []);
    assert_eq!(world.origins.dns.asked("denied.test"), 0);
}

#[test]
fn an_upstream_that_talks_nonsense_is_502() {
    let world = World::start();
    let answer = fetch(
        world.proxy.address(),
        &world.origins.url("plain.allowed.test", "/broken"),
    );
    assert_eq!(answer.line(), "HTTP/1.1 502 Failed by sluicegate (upstream)");
    let origins = Origins::start();
    let resetting = Origin::start("127.0.0.1:0", |tap| {
        Message::read_head(tap)?;
        tap.reset();
        Ok(())
    });
    let policy = format!(
        "allow: [{{to: [\"http://gone.allowed.test:{}\"], addresses: [127.0.0.0/8]}}]",
        resetting.port()
    );
    let proxy = Setup::new(&policy).dns(&origins.dns).start();
    assert_eq!(
        fetch(
            proxy.address(),
            &format!("http://gone.allowed.test:{}/", resetting.port())
        )
        .status(),
        502
    );
}

fn resident(world: &World) -> u64 {
    world.proxy.metric("process_resident_memory_bytes", &[])
}
