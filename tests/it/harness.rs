//! Tests of the harness itself: that the stub, the origins and the raw client do what the other tests take for granted.
//! Must not start the proxy.
//! Called first when something looks impossible.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use crate::support::DEADLINE;
use crate::support::ca::Ca;
use crate::support::client::{Client, Ending, get};
use crate::support::dns::{Answer, Dns};
use crate::support::hello::Hello;
use crate::support::origin::{Ended, Origin};

#[test]
fn the_stub_answers_and_counts() {
    let dns = Dns::start();
    dns.set("*.wild.test", [IpAddr::from([127, 0, 0, 7])]);
    dns.script(
        "turns.test",
        [
            Answer::of([Ipv4Addr::LOCALHOST]),
            Answer {
                truncate: true,
                ..Answer::default()
            },
        ],
    );
    let query = |name: &str| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut message = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
        socket.send_to(&message, dns.address).unwrap();
        let mut reply = vec![0; 512];
        let len = socket.recv(&mut reply).unwrap();
        reply.truncate(len);
        reply
    };
    assert!(query("A.wild.test").ends_with(&[127, 0, 0, 7]));
    assert!(query("turns.test").ends_with(&[127, 0, 0, 1]));
    assert_eq!(query("turns.test")[2] & 2, 2);
    assert_eq!(query("nobody.test")[3] & 15, 3);
    assert_eq!(
        (
            dns.asked("turns.test"),
            dns.asked("a.wild.test"),
            dns.asked("wild.test")
        ),
        (2, 1, 0)
    );
}

#[test]
fn origins_record_bytes_and_ends() {
    let origin = Origin::echo();
    let mut client = Client::connect(origin.address);
    client.send("abc");
    assert_eq!(client.read_exact(3), b"abc");
    client.finish();
    assert_eq!(client.read_to_end(), (Vec::new(), Ending::Closed));
    assert_eq!(origin.expect_end(0), Ended::Finished);
    assert_eq!(origin.received(), b"abc");

    let mut client = Client::connect(origin.address);
    client.send("x");
    assert_eq!(client.read_exact(1), b"x");
    client.reset();
    assert_eq!(origin.expect_end(1), Ended::Reset);

    let resetting = Origin::start("127.0.0.1:0", |tap| {
        tap.read_exact(&mut [0])?;
        tap.reset();
        Ok(())
    });
    let mut client = Client::connect(resetting.address);
    client.send("x");
    assert_eq!(client.read_to_end(), (Vec::new(), Ending::Reset));
}

#[test]
fn tls_origins_speak_http() {
    let ca = Ca::new("harness");
    let origin = Origin::https(ca.server_config(&["a.test"]));
    let mut stream = Client::connect(origin.address).tls(&ca.client_config(), "a.test");
    assert_eq!(
        get(&mut stream, "a.test", "/chunked").unwrap().text(),
        "/chunked of a.test\n"
    );
    assert_eq!(get(&mut stream, "a.test", "/size/1000").unwrap().body.len(), 1000);
    assert_eq!(origin.requests().len(), 2);
    assert_eq!(origin.received()[0], 0x16);
    let mut stranger = Client::connect(origin.address).tls(&ca.client_config(), "b.test");
    assert!(stranger.write_all(b"x").is_err());
}

#[test]
fn hand_made_hellos_are_hellos() {
    let hello = Hello::sni("a.test").with_big_key_share();
    let mut acceptor = rustls::server::Acceptor::default();
    acceptor.read_tls(&mut &hello.in_records(100)[..]).unwrap();
    let _ = acceptor.accept();
    let ca = Ca::new("harness");
    let origin = Origin::https(ca.server_config(&["a.test"]));
    let mut client = Client::connect(origin.address);
    client.trickle(&hello.bytes(), 700, Duration::from_millis(1));
    // Not a hello that could be answered (it offers no signature algorithms), but one that is understood.
    let (answer, _) = client.read_to_end();
    assert_eq!(answer.first(), Some(&0x15), "{answer:?}");
    origin.expect_bytes(&hello.bytes());
}
