//! How plain HTTP exchanges end: what breaks off must not look complete, and records say whose end it was.
//! Must not repeat what framings pass (`bodies`); here one side goes away, or answers with what cannot be passed on.
//! Called by `tests/run`.

use std::io::Write;

use crate::support::client::{Client, Ending};
use crate::support::http::Message;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::setup::Setup;
use crate::support::world::Origins;

/// A proxy before one origin that answers every request with these bytes and then goes away.
struct Stage {
    origins: Origins,
    origin: Origin,
    proxy: Proxy,
}

impl Stage {
    fn with(answer: &'static str, reset: bool) -> Self {
        let origins = Origins::start();
        let origin = Origin::start("127.0.0.1:0", move |tap| {
            let mut request = Message::read_head(tap)?.unwrap();
            request.read_body(tap, false)?;
            tap.write_all(answer.as_bytes())?;
            if reset {
                tap.reset();
            }
            Ok(())
        });
        let policy = format!(
            "allow: [{{to: [\"http://plain.allowed.test:{}\"], addresses: [127.0.0.0/8]}}]",
            origin.port()
        );
        let proxy = Setup::new(&policy).dns(&origins.dns).start();
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
fn an_upload_that_the_client_breaks_off_is_the_clients_end() {
    let stage = Stage::with("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false);
    let mut client = stage.ask("POST", "1.1", "Content-Length: 10\r\n\r\nhalf");
    assert_eq!(stage.proxy.nth_decision(0).verdict(), "allow rule");
    client.finish();
    assert_eq!(stage.end(), "client_reset");
}
