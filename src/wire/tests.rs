//! hyper as the oracle: what our readers accept, hyper reads the same way, to the byte at which the next request begins.
//! Must not test what our readers refuse; hyper accepts much of that, which is why they exist.
//! Called by every test run.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use super::Progress;
use super::body::{BodyReader, BodyStep, Framing};
use super::head::tests::Case;
use super::head::{Form, HeadReader, RequestHead, Target, Version};
use crate::name::{Authority, Port};

/// What hyper took from a connection.
#[derive(Debug)]
struct Taken {
    parts: http::request::Parts,
    /// What hyper said of the body's length before reading it.
    length: Option<u64>,
    body: Option<Bytes>,
}

#[test]
fn hyper_reads_the_table_as_we_do() {
    let mut accepted = 0;
    for case in Case::all() {
        let sent = case.sent();
        if let Progress::Value(head) = HeadReader::new(case.form()).advance(&sent) {
            same(&head, &sent[..head.len], &case.id);
            accepted += 1;
        }
    }
    assert!(accepted > 40, "only {accepted} were accepted");
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyCase {
    id: String,
    send: String,
    ends: Option<usize>,
    #[serde(default)]
    more: bool,
    #[serde(default)]
    refuse: bool,
}

#[test]
fn chunked_bodies_end_where_the_table_says() {
    let cases: Vec<BodyCase> = serde_saphyr::from_str(include_str!("../../tests/corpus/body.yaml")).unwrap();
    assert!(cases.len() > 25, "only {} cases", cases.len());
    for case in cases {
        let sent: Vec<u8> = case.send.chars().map(|byte| u8::try_from(byte).unwrap()).collect();
        for piece in [1, 3, sent.len().max(1)] {
            let end = follow(Framing::Chunked, &sent, piece);
            match (case.ends, case.more, case.refuse) {
                (Some(ends), false, false) => assert_eq!(end, BodyStep::Done(ends), "{}", case.id),
                (None, true, false) => assert_eq!(end, BodyStep::More(sent.len()), "{}", case.id),
                (None, false, true) => assert!(matches!(end, BodyStep::Reject(_)), "{}: {end:?}", case.id),
                _ => panic!("{}: one of ends, more and refuse", case.id),
            }
        }
        if let Some(ends) = case.ends {
            next_request_is_found(&sent[..ends]);
        }
    }
}

#[test]
fn bodies_with_a_length_end_there() {
    for piece in [1, 3, 100] {
        assert_eq!(follow(Framing::Length(5), b"ABCDEGET http", piece), BodyStep::Done(5));
        assert_eq!(follow(Framing::Length(5), b"ABCD", piece), BodyStep::More(4));
        assert_eq!(follow(Framing::Empty, b"GET", piece), BodyStep::Done(0));
    }
    assert_eq!(follow(Framing::Length(u64::MAX), b"ABCD", 4), BodyStep::More(4));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hyper_reads_accepted_heads_as_we_do(
        form in prop::sample::select(vec![Form::Proxy, Form::Origin]),
        method in prop::sample::select(vec!["GET", "GET", "POST", "CONNECT", "CONNECT", "HEAD", "OPTIONS", "X-Y", "get"]),
        target in target(),
        version in prop::sample::select(vec!["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]),
        host in prop::sample::select(vec!["a.test", "a.test", "a.test:443", "a.test:80", "A.test.", "b.test", "[2001:db8::1]"]),
        fields in prop::collection::vec(prop::sample::select(FIELDS.to_vec()), 0..4),
        change in prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>(), any::<bool>())),
    ) {
        let mut sent = format!("{method} {target} {version}\r\nHost: {host}\r\n{}\r\n", fields.concat()).into_bytes();
        if let Some((at, byte, insert)) = change {
            let at = at.index(sent.len());
            if insert { sent.insert(at, byte) } else { sent[at] = byte }
        }
        if let Progress::Value(head) = HeadReader::new(form).advance(&sent) {
            same(&head, &sent[..head.len], "generated");
        }
    }

    #[test]
    fn hyper_ends_chunked_bodies_where_we_do(
        chunks in prop::collection::vec(1..40_usize, 0..5),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"\r\n 0123456789aAfFgG;=\"x".to_vec()), 0..3_u8), 0..3),
        piece in 1..50_usize,
    ) {
        let mut sent = Vec::new();
        for size in chunks {
            sent.extend(format!("{size:x}\r\n{}\r\n", "0".repeat(size)).bytes());
        }
        sent.extend(b"0\r\n\r\n");
        prop_assert_eq!(follow(Framing::Chunked, &sent, piece), BodyStep::Done(sent.len()));
        for (at, byte, change) in changes {
            let at = at.index(sent.len());
            match change {
                0 => sent[at] = byte,
                1 => sent.insert(at, byte),
                _ => { sent.remove(at); }
            }
        }
        let end = follow(Framing::Chunked, &sent, sent.len().max(1));
        prop_assert_eq!(follow(Framing::Chunked, &sent, piece), end);
        if let BodyStep::Done(end) = end {
            next_request_is_found(&sent[..end]);
        }
    }

    #[test]
    fn arbitrary_bodies_have_one_end(
        bytes in prop::collection::vec(any::<u8>(), 0..100),
        digits in "[0-9a-fA-F]{0,18}",
        piece in 1..50_usize,
    ) {
        let sent = [digits.as_bytes(), b"\r\n", &bytes].concat();
        prop_assert_eq!(follow(Framing::Chunked, &sent, piece), follow(Framing::Chunked, &sent, sent.len()));
    }
}

fn target() -> impl Strategy<Value = String> {
    let scheme = prop::sample::select(vec!["http://", "http://", "HTTP://", "", "", "https://", "http:"]);
    let user = prop::sample::select(vec!["", "", "", "", "", "x@", "a.test:443@"]);
    let host = prop::sample::select(vec![
        "a.test",
        "a.test",
        "A.TEST",
        "a.test.",
        "[2001:db8::1]",
        "b.test",
        "127.1",
        "",
    ]);
    let port = prop::sample::select(vec!["", ":80", ":443", ":443", ":0443", ":0", ":65536", ":"]);
    let path = prop_oneof![
        Just(String::new()),
        Just("/".to_owned()),
        "[/?][ -~]{0,20}",
        "/[a-z/?&=.]{0,20}"
    ];
    (scheme, user, host, port, path)
        .prop_map(|(scheme, user, host, port, path)| format!("{scheme}{user}{host}{port}{path}"))
}

/// Holds hyper's reading of a head against ours, and what it takes for the next request.
fn same(head: &RequestHead, sent: &[u8], id: &str) {
    let mut stream = sent.to_vec();
    match head.framing {
        Framing::Empty => {}
        Framing::Length(length) => stream.extend("x".repeat(usize::try_from(length.min(1000)).unwrap()).bytes()),
        Framing::Chunked => stream.extend(b"1\r\nx\r\n0\r\n\r\n"),
    }
    stream.extend(NEXT);
    let taken = hyper_takes(&stream);
    let text = String::from_utf8_lossy(sent);
    let first = taken.first().unwrap_or_else(|| panic!("{id}: hyper refuses {text:?}"));
    let (parts, version) = (&first.parts, head.version == Version::Http11);
    assert_eq!(
        (&parts.method, parts.version == http::Version::HTTP_11),
        (&head.method, version),
        "{id}: {text:?}"
    );
    let named = parts
        .uri
        .authority()
        .map(|named| Authority::parse(named.as_str().as_bytes()).unwrap());
    match (&head.target, named) {
        (Target::Connect { host, port }, Some(named)) => assert_eq!((&named.host, named.port), (host, Some(*port))),
        (Target::Absolute { host, port, .. }, Some(named)) => {
            assert_eq!((&named.host, named.port.unwrap_or(Port::HTTP)), (host, *port));
            assert_eq!(parts.uri.scheme_str(), Some("http"));
        }
        (Target::Origin, None) => {}
        (target, named) => panic!("{id}: {target:?}, and hyper says {named:?}"),
    }
    let hosts: Vec<_> = parts.headers.get_all("host").iter().collect();
    let hosts: Vec<_> = hosts
        .iter()
        .map(|host| Authority::parse(host.as_bytes()).unwrap())
        .collect();
    assert_eq!(hosts, head.host.iter().cloned().collect::<Vec<_>>(), "{id}: {text:?}");
    let length = match head.framing {
        Framing::Empty => Some(0),
        Framing::Length(length) => Some(length),
        Framing::Chunked => None,
    };
    assert_eq!(first.length, length, "{id}: {text:?}");
    let switches = matches!(head.target, Target::Connect { .. });
    let closes = text.to_ascii_lowercase().contains("close") || head.version == Version::Http10;
    if !switches && !closes && length.is_none_or(|length| length <= 1000) {
        let next = taken
            .get(1)
            .unwrap_or_else(|| panic!("{id}: hyper sees no second request behind {text:?}"));
        assert_eq!(next.parts.uri, "http://next.test/", "{id}: {text:?}");
    }
}

/// What we call a whole chunked body, hyper must too: neither a byte of the next request nor one more for itself.
fn next_request_is_found(body: &[u8]) {
    let head = b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let taken = hyper_takes(&[head.as_slice(), body, NEXT].concat());
    let text = String::from_utf8_lossy(body);
    assert!(taken[0].body.is_some(), "hyper refuses {text:?}");
    assert_eq!(taken.len(), 2, "{text:?}");
    assert_eq!(taken[1].parts.uri, "http://next.test/", "{text:?}");
}

/// How far the body reader goes over all of `sent`, given so many bytes at a time.
fn follow(framing: Framing, sent: &[u8], piece: usize) -> BodyStep {
    let mut reader = BodyReader::new(framing);
    let (mut passed, mut given) = (0, 0);
    loop {
        given = (given + piece).min(sent.len());
        match reader.advance(&sent[passed..given]) {
            BodyStep::More(n) => passed += n,
            BodyStep::Done(n) => return BodyStep::Done(passed + n),
            BodyStep::Reject(why) => return BodyStep::Reject(why),
        }
        if given == sent.len() {
            return BodyStep::More(passed);
        }
    }
}

/// Serves a connection over which the client sends this and then ends its side.
fn hyper_takes(sent: &[u8]) -> Vec<Taken> {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&taken);
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let (parts, body) = request.into_parts();
            let length = body.size_hint().exact();
            // The body of a large length never comes whole.
            let body = body.collect().await.ok().map(http_body_util::Collected::to_bytes);
            seen.lock().unwrap().push(Taken { parts, length, body });
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(sent).await.unwrap();
        client.shutdown().await.unwrap();
        // What it answers and how it ends says nothing here; what it took does.
        let _ = http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(server), service)
            .await;
    });
    Arc::into_inner(taken).unwrap().into_inner().unwrap()
}

const NEXT: &[u8] = b"GET http://next.test/ HTTP/1.1\r\nHost: next.test\r\nConnection: close\r\n\r\n";

const FIELDS: &[&str] = &[
    "Host: a.test\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 5 \r\n",
    "content-length: 05\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: +5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding:\tCHUNKED \r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Expect: 100-continue\r\n",
    "Connection: close\r\n",
    "Connection: upgrade\r\n",
    "Upgrade: websocket\r\n",
    "X: \u{e9}\r\n",
    "X: y\n",
    "X: y\r\n z\r\n",
    "X\t: y\r\n",
];
