//! Any bytes as a chunked body: one end however they are cut, and hyper finds the next request right behind it.
//! Must not panic; every assertion here is a promise of the body reader.
//! Called by `cargo fuzz run`.

#![no_main]

mod oracle;

use libfuzzer_sys::fuzz_target;
use sluicegate::wire::body::{BodyReader, BodyStep, Framing};

fuzz_target!(|sent: &[u8]| {
    let end = follow(sent, sent.len().max(1));
    assert_eq!(follow(sent, 1), end);
    assert_eq!(follow(sent, 1 + sent.len() % 61), end);
    if let BodyStep::Done(end) = end {
        let head = b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        let taken = oracle::hyper_takes(&[head.as_slice(), &sent[..end], oracle::NEXT].concat());
        assert!(taken[0].whole);
        assert_eq!(taken[1].parts.uri, "http://next.test/");
    }
});

/// How far the reader goes over all of `sent`, given so many bytes at a time.
fn follow(sent: &[u8], piece: usize) -> BodyStep {
    let mut reader = BodyReader::new(Framing::Chunked);
    let (mut passed, mut given) = (0, 0);
    loop {
        given = (given + piece).min(sent.len());
        match reader.advance(&sent[passed..given]) {
            BodyStep::More(n) => passed += n,
            BodyStep::Done(n) => return BodyStep::Done(passed + n),
            BodyStep::Reject(why) => return BodyStep::Reject(why),
        }
        if given == sent.len() {
            assert_eq!(passed, given);
            return BodyStep::More(passed);
        }
    }
}
