//! Any bytes as a request head: the same answer however they are cut, and what passes hyper reads in the same way.
//! Must not panic; every assertion here is a promise of the head reader.
//! Called by `cargo fuzz run`.

#![no_main]

mod oracle;

use libfuzzer_sys::fuzz_target;
use sluicegate::name::{Authority, Port};
use sluicegate::wire::Progress;
use sluicegate::wire::body::Framing;
use sluicegate::wire::head::{Form, HeadReader, HeadReject, MAX_HEAD, RequestHead, Target};

fuzz_target!(|sent: &[u8]| {
    for form in [Form::Proxy, Form::Origin] {
        let whole = read(form, sent, sent.len().max(1));
        assert_eq!(read(form, sent, 1), whole);
        assert_eq!(read(form, sent, 1 + sent.len() % 61), whole);
        if let Progress::Value(head) = whole {
            assert!(head.len <= MAX_HEAD && head.len <= sent.len());
            compare(&head, &sent[..head.len]);
        }
    }
});

fn read(form: Form, sent: &[u8], piece: usize) -> Progress<RequestHead, HeadReject> {
    let mut reader = HeadReader::new(form);
    let mut end = 0;
    loop {
        let progress = reader.advance(&sent[..end]);
        if !matches!(progress, Progress::Need(1..)) || end == sent.len() {
            return progress;
        }
        end = (end + piece).min(sent.len());
    }
}

fn compare(head: &RequestHead, sent: &[u8]) {
    let taken = oracle::hyper_takes(sent);
    let first = &taken[0];
    assert_eq!(first.parts.method, head.method);
    let named = first.parts.uri.authority();
    let named = named.map(|named| Authority::parse(named.as_str().as_bytes()).unwrap());
    match (&head.target, named) {
        (Target::Connect { host, port }, Some(named)) => assert_eq!((&named.host, named.port), (host, Some(*port))),
        (Target::Absolute { host, port, .. }, Some(named)) => {
            assert_eq!((&named.host, named.port.unwrap_or(Port::HTTP)), (host, *port));
        }
        (Target::Origin, None) => assert!(head.host.is_some()),
        (target, named) => panic!("{target:?}, and hyper says {named:?}"),
    }
    let hosts = first.parts.headers.get_all("host").iter();
    let hosts: Vec<_> = hosts.map(|host| Authority::parse(host.as_bytes()).unwrap()).collect();
    assert_eq!(hosts, head.host.iter().cloned().collect::<Vec<_>>());
    let length = match head.framing {
        Framing::Empty => Some(0),
        Framing::Length(length) => Some(length),
        Framing::Chunked => None,
    };
    assert_eq!(first.length, length);
}
