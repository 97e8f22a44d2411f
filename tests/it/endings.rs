//! How plain HTTP exchanges end: what breaks off must not look complete, and records say whose end it was.
//! Must not repeat what framings pass (`bodies`); here one side goes away, or answers with what cannot be passed on.
//! Called by `tests/run`.

use std::io::{self, Read, Write};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::DEADLINE;
use crate::support::client::{Client, Ending};
use crate::support::http::Message;
use crate::support::origin::{Ended, Origin, Tap, pattern};
use crate::support::proxy::{Proxy, is_open};
use crate::support::record::Record;
use crate::support::setup::Setup;
use crate::support::world::{Origins, World};

/// A proxy before one origin that answers every request with these bytes and then goes away.
struct Stage {
    origins: Origins,
    origin: Origin,
    proxy: Proxy,
}

impl Stage {
    fn with(answer: impl Into<String>, reset: bool) -> Self {
        let answer = answer.into();
        Self::of(move |tap| {
            let mut request = Message::read_head(tap)?.unwrap();
            request.read_body(tap, false)?;
            tap.write_all(answer.as_bytes())?;
            if reset {
                tap.reset();
            }
            Ok(())
        })
    }

    /// The origin reads a head, answers with these bytes, then says nothing more until it is left alone.
    fn silent_after(answer: &'static str) -> Self {
        Self::of(move |tap| {
            Message::read_head(tap)?;
            tap.write_all(answer.as_bytes())?;
            tap.read_to_end(&mut Vec::new())?;
            Ok(())
        })
    }

    fn of(serve: impl Fn(&mut Tap) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::within(json!("60s"), serve)
    }

    fn within(idle: Value, serve: impl Fn(&mut Tap) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let origins = Origins::start();
        let origin = Origin::start("127.0.0.1:0", serve);
        let policy = format!(
            "allow: [{{to: [\"http://plain.allowed.test:{}\"], addresses: [127.0.0.0/8]}}]",
            origin.port()
        );
        let proxy = Setup::new(&policy)
            .dns(&origins.dns)
            .set("timeouts.half_close", json!("500ms"))
            .set("timeouts.idle", idle)
            .start();
        Self { origins, origin, proxy }
    }

    fn ask(&self, method: &str, version: &str, rest: &str) -> Client {
        let host = format!("plain.allowed.test:{}", self.origin.port());
        let mut client = Client::connect(self.proxy.address());
        client.send(format!(
            "{method} http://{host}/ HTTP/{version}\r\nHost: {host}\r\n{rest}"
        ));
        client
    }

    /// Waits until the origin has a whole head.
    fn wait_request(&self) {
        let whole = |bytes: &[u8]| bytes.windows(4).any(|end| end == b"\r\n\r\n");
        let came = self
            .origin
            .connections
            .wait(DEADLINE, |all| whole(&all.first()?.bytes).then_some(()));
        came.expect("the request reaches the origin");
    }

    /// Clients of early answers that have not read theirs, each somewhat longer. The last ones are longer than the kernel
    /// holds, so that the proxy holds the rest.
    fn beyond_the_buffers(idle: &str) -> (Self, Vec<(usize, Client)>) {
        let stage = Self::within(json!(idle), |tap| {
            let request = Message::read_head(tap)?.unwrap();
            let body = pattern(request.field("x-size").unwrap().parse().unwrap());
            // What a server leaves unread makes its close a reset.
            tap.read_exact(&mut [0; b"half".len()])?;
            write!(tap, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
            tap.write_all(&body)
        });
        let waiting = stage.until_it_waits(|size| {
            let rest = format!("X-Size: {size}\r\nContent-Length: 10\r\n\r\nhalf");
            stage.ask("POST", "1.1", &rest)
        });
        (stage, waiting)
    }

    /// Asks for exchanges of growing sizes, up to the first that does not come to its end by itself. Gives the others.
    fn until_it_waits(&self, ask: impl Fn(usize) -> Client) -> Vec<(usize, Client)> {
        let mut all = Vec::new();
        loop {
            let size = (all.len() + 1) * (32 << 10);
            let client = ask(size);
            let ended = |records: &[Record]| {
                let tunnels = records.iter().filter(|record| record.is_tunnel()).count();
                (tunnels > all.len()).then_some(())
            };
            if self.proxy.records.wait(PATIENCE, ended).is_none() {
                return all;
            }
            all.push((size, client));
        }
    }

    fn end(&self) -> String {
        let record = self.proxy.record(|record| record.text("type") == "tunnel");
        record.text("end").to_owned()
    }
}

#[test]
fn a_broken_answer_never_ends_cleanly() {
    let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    for version in ["1.0", "1.1"] {
        let stage = Stage::with(chunk, false);
        let mut client = stage.ask("GET", version, "\r\n");
        let (_, ending) = client.read_to_end();
        assert_eq!(ending, Ending::Reset, "HTTP/{version}");
        assert_eq!(stage.end(), "upstream_reset");
        assert_eq!(stage.origins.dns.asked("plain.allowed.test"), 2, "A and AAAA");
    }
}

/// To HTTP/1.0 the end of the connection is the end of the answer.
#[test]
fn an_answer_that_the_end_of_a_drain_cuts_never_ends_cleanly() {
    let stage = Stage::silent_after("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    let mut clients: Vec<_> = (0..CUT_AT_ONCE).map(|_| stage.ask("GET", "1.0", "\r\n")).collect();
    for client in &mut clients {
        client.head();
        assert_eq!(client.read_exact(5), b"hello");
    }
    stage.proxy.signal(Signal::TERM);
    while is_open(stage.proxy.address()) {}
    stage.proxy.signal(Signal::TERM);
    let endings: Vec<_> = clients.iter_mut().map(Client::read_to_end).collect();
    let outcome = stage.proxy.wait_end();
    let clean = endings.iter().filter(|(_, ending)| *ending != Ending::Reset).count();
    assert_eq!(clean, 0, "of {CUT_AT_ONCE}");
    let ends: Vec<_> = outcome.tunnels.iter().map(|tunnel| tunnel.text("end")).collect();
    assert_eq!(ends, ["drain"; CUT_AT_ONCE]);
}

/// Behind a 101 there is a tunnel like any other.
#[test]
fn an_upgraded_connection_is_cut_by_a_reload_and_by_the_end_of_a_drain() {
    for reason in ["reload", "drain"] {
        let world = World::with(|setup, _| setup.set("reload.grace", json!("100ms")));
        let url = world.origins.url("plain.allowed.test", "/socket");
        let host = url.split('/').nth(2).unwrap();
        let mut clients = [(); 2].map(|()| {
            let mut client = Client::connect(world.proxy.address());
            client.send(format!(
                "GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
            ));
            assert_eq!(client.head().status(), 101);
            client
        });
        // The other one has not said anything yet.
        clients[0].send("hello");
        assert_eq!(clients[0].read_exact(5), b"hello");
        if reason == "reload" {
            world.proxy.reload("allow: []\n");
        } else {
            world.proxy.signal(Signal::TERM);
            while is_open(world.proxy.address()) {}
            clients[0].send("more");
            assert_eq!(clients[0].read_exact(4), b"more");
            world.proxy.signal(Signal::TERM);
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.read_to_end(), (Vec::new(), Ending::Reset), "{reason}");
            assert_eq!(world.origins.http.expect_end(number), Ended::Reset, "{reason}");
        }
        let Origins { http, .. } = &world.origins;
        assert_eq!(http.accepted(), 2);
        let outcome = match reason {
            "reload" => world.proxy.stop(),
            _ => world.proxy.wait_end(),
        };
        let mut ends: Vec<_> = outcome
            .tunnels
            .iter()
            .map(|tunnel| {
                (
                    tunnel.number("up_bytes"),
                    tunnel.number("down_bytes"),
                    tunnel.text("end"),
                )
            })
            .collect();
        ends.sort_unstable();
        let moved = if reason == "reload" { 5 } else { 9 };
        assert_eq!(ends, [(0, 0, reason), (moved, moved, reason)]);
        assert_eq!(outcome.verdicts(), ["allow rule"; 2]);
    }
}

#[test]
fn chunks_of_a_get_are_not_lost() {
    let stage = Stage::with("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false);
    let mut client = stage.ask(
        "GET",
        "1.1",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    assert_eq!(client.response().text(), "ok");
    let request = String::from_utf8(stage.origin.received()).unwrap();
    assert!(request.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{request}");
}

#[test]
fn a_response_with_two_framings_keeps_the_one_that_counts() {
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let answer = Stage::with(both, false).ask("GET", "1.1", "\r\n").response();
    assert_eq!(
        (answer.text().as_str(), answer.field("content-length")),
        ("hello", None)
    );

    let coded = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(
        Stage::with(coded, false).ask("GET", "1.1", "\r\n").response().status(),
        502
    );
}

#[test]
fn an_upload_may_outlast_its_answer() {
    const SIZE: usize = 4 << 20;
    for reading in [
        "Content-Length: 2\r\n\r\nok",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ] {
        let stage = Stage::of(move |tap| {
            let mut request = Message::read_head(tap)?.unwrap();
            write!(tap, "HTTP/1.1 200 OK\r\n{reading}")?;
            request.read_body(tap, false)?;
            let whole = request.body == pattern(SIZE);
            Message::read_head(tap)?;
            write!(tap, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{whole:5}")
        });
        let mut client = stage.ask("POST", "1.1", &format!("Content-Length: {SIZE}\r\n\r\n"));
        // The answer is here before the first byte of the body has left.
        assert_eq!(client.response().text(), "ok");
        assert!(
            stage.proxy.all_records().iter().all(Record::is_decision),
            "it is still under way"
        );
        client.send(pattern(SIZE));
        assert_eq!(stage.end(), "finished");
        let record = stage.proxy.record(Record::is_tunnel);
        assert_eq!(
            (record.number("up_bytes"), record.number("down_bytes")),
            (SIZE as u64, 2)
        );
        let host = format!("plain.allowed.test:{}", stage.origin.port());
        client.get(&format!("http://{host}/"));
        assert!(client.response().text().starts_with("true"));
    }
}

#[test]
fn a_response_head_has_a_bound() {
    let status = |size: usize, fields: usize| {
        let field = format!("X: {}\r\n", "a".repeat(size / fields));
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{}\r\n", field.repeat(fields));
        Stage::with(head + "ok", false)
            .ask("GET", "1.1", "\r\n")
            .response()
            .status()
    };
    assert_eq!(status(65_000, 2), 200);
    assert_eq!(status(65_600, 2), 502);
    assert_eq!(status(70_000, 10), 502);
    assert_eq!(status(200_000, 2), 502);
    assert_eq!((status(100, 99), status(101, 100)), (200, 502));
}

#[test]
fn an_upload_that_the_client_breaks_off_is_the_clients_end() {
    let stage = Stage::with("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false);
    let mut client = stage.ask("POST", "1.1", "Content-Length: 10\r\n\r\nhalf");
    assert_eq!(stage.proxy.nth_decision(0).verdict(), "allow rule");
    client.finish();
    assert_eq!(stage.end(), "client_reset");
}

#[test]
fn a_client_that_goes_away_ends_its_exchange_at_once() {
    let begun = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let pipelined = "\r\nGET http://plain.allowed.test/next HTTP/1.1\r\nHost: plain.allowed.test\r\n\r\n";
    let flood = "\r\n".to_owned() + &pipelined[2..].repeat(1000);
    for (answer, rest) in [
        ("", "\r\n"),
        (begun, "\r\n"),
        ("", pipelined),
        // More than is read ahead.
        ("", &flood),
        ("", "Content-Length: 10\r\n\r\nhalf"),
    ] {
        let stage = Stage::silent_after(answer);
        let client = stage.ask("GET", "1.1", rest);
        stage.wait_request();
        client.reset();
        stage.origin.expect_end(0);
        assert_eq!(stage.end(), "client_reset", "{rest}");
        assert_eq!(stage.proxy.stop().verdicts(), ["allow rule"], "{rest}");
    }
}

#[test]
fn a_client_that_has_finished_waits_for_a_silent_server_no_longer_than_a_tunnel_would() {
    let pipelined = "\r\nGET http://plain.allowed.test/next HTTP/1.1\r\nHost: plain.allowed.test\r\n\r\n";
    let flood = "\r\n".to_owned() + &pipelined[2..].repeat(1000);
    for rest in ["\r\n", pipelined, &flood] {
        let stage = Stage::silent_after("");
        let mut client = stage.ask("GET", "1.1", rest);
        client.finish();
        assert_eq!(client.read_to_end(), (Vec::new(), Ending::Reset));
        stage.origin.expect_end(0);
        assert_eq!(stage.end(), "half_closed");
    }
}

#[test]
fn a_client_that_has_finished_still_gets_its_answers() {
    let (tell, told) = mpsc::channel();
    let told = Mutex::new(told);
    let stage = Stage::of(move |tap| {
        while let Some(request) = Message::read_head(tap)? {
            told.lock().unwrap().recv().unwrap();
            write!(
                tap,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                request.target().len()
            )?;
            tap.write_all(request.target().as_bytes())?;
        }
        Ok(())
    });
    let mut client = stage.ask("GET", "1.1", "\r\n");
    let host = format!("plain.allowed.test:{}", stage.origin.port());
    client.send(format!("GET http://{host}/next HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    client.finish();
    stage.wait_request();
    tell.send(()).unwrap();
    assert_eq!(client.response().text(), "/");
    tell.send(()).unwrap();
    assert_eq!(client.response().text(), "/next");
    assert_eq!(client.read_to_end().1, Ending::Closed);
}

#[test]
fn an_answer_that_comes_early_arrives_whole_at_a_client_that_reads_late() {
    let (stage, waiting) = Stage::beyond_the_buffers("60s");
    for (size, mut client) in waiting {
        assert_eq!(client.response().body.len(), size);
    }
    drop(stage);
}

#[test]
fn a_client_that_never_takes_the_rest_of_its_answer_is_given_up() {
    let (stage, waiting) = Stage::beyond_the_buffers("3s");
    stage
        .proxy
        .wait_metric("sluicegate_open_connections", &[("listener", "proxy")], |open| {
            open == 0
        });
    let (size, mut client) = waiting.into_iter().next_back().unwrap();
    let (answer, ending) = client.read_to_end();
    assert_eq!(ending, Ending::Reset, "{} of {size}", answer.len());
}

#[test]
fn an_upload_that_its_server_never_reads_ends_with_its_client() {
    let (leave, left) = mpsc::channel::<()>();
    let left = Mutex::new(left);
    let stage = Stage::of(move |tap| {
        Message::read_head(tap)?;
        let _ = left.lock().unwrap().recv();
        Ok(())
    });
    let mut client = stage.ask("POST", "1.1", "Content-Length: 1000000000\r\n\r\n");
    stage.wait_request();
    client.stream.set_write_timeout(Some(PATIENCE)).unwrap();
    while client.try_send(pattern(1 << 20)).is_ok() {}
    client.reset();
    assert_eq!(stage.end(), "client_reset");
    drop(leave);
}

/// What a server answers early and then never reads is not waited for by the next request.
#[test]
fn a_kept_connection_that_is_stuck_is_not_used_again() {
    let (leave, left) = mpsc::channel::<()>();
    let left = Mutex::new(left);
    let stage = Stage::of(move |tap| {
        Message::read_head(tap)?;
        tap.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        let _ = left.lock().unwrap().recv();
        Ok(())
    });
    let taken = stage.until_it_waits(|size| {
        let mut client = stage.ask("POST", "1.1", &format!("Content-Length: {size}\r\n\r\n"));
        assert_eq!(client.response().text(), "ok");
        client.stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let _ = client.try_send(pattern(size));
        client
    });
    let (_, mut client) = taken.into_iter().next_back().unwrap();
    client.get(&format!("http://plain.allowed.test:{}/", stage.origin.port()));
    assert_eq!(client.response().text(), "ok", "over another connection");
    drop(leave);
}

/// So many that the proxy does not get to all of them before the end of the drain has come to them, too.
const CUT_AT_ONCE: usize = 50;
/// Longer than anything takes that need not wait.
const PATIENCE: Duration = Duration::from_secs(1);
