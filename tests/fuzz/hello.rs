//! Any bytes as the first flight of a client: the same answer however they are cut, and never another name than rustls'.
//! Must not panic; every assertion here is a promise of the hello reader.
//! Called by `cargo fuzz run`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluicegate::wire::Progress;
use sluicegate::wire::hello::{Hello, HelloReader};

fuzz_target!(|sent: &[u8]| {
    let whole = read(sent, sent.len().max(1));
    assert_eq!(read(sent, 1), whole);
    assert_eq!(read(sent, 1 + sent.len() % 61), whole);
    if let Some((header, message)) = sent.split_at_checked(5)
        && let Some(hello) = &whole
        && header[3..5] == u16::try_from(message.len()).unwrap_or(0).to_be_bytes()
    {
        // One record held it; several must do as well.
        for size in [1, 1 + message.len() / 3] {
            let records = message.chunks(size).flat_map(|record| {
                let length = u16::try_from(record.len()).unwrap().to_be_bytes();
                [&[0x16, 3, 1], &length[..], record].concat()
            });
            let records: Vec<u8> = records.collect();
            if records.len() <= sluicegate::wire::hello::MAX_HELLO {
                assert_eq!(read(&records, records.len()).as_ref(), Some(hello));
            }
        }
    }
    if let (Some(hello), Some(theirs)) = (whole, rustls_reads(sent)) {
        assert_eq!(hello.sni.map(|name| name.to_string()), theirs);
    }
});

/// What is read when so many bytes come at a time. `None` also stands for waiting for more.
fn read(sent: &[u8], piece: usize) -> Option<Hello> {
    let mut reader = HelloReader::new();
    let mut end = 0;
    while end < sent.len() {
        end = (end + piece).min(sent.len());
        match reader.advance(&sent[..end]) {
            Progress::Need(more) => assert!(more > 0),
            Progress::Value(hello) => return Some(hello),
            Progress::Reject(_) => return None,
        }
    }
    None
}

/// The name in a hello that rustls accepts.
fn rustls_reads(mut sent: &[u8]) -> Option<Option<String>> {
    let mut acceptor = rustls::server::Acceptor::default();
    loop {
        if !acceptor.read_tls(&mut sent).is_ok_and(|read| read > 0) {
            return None;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Some(accepted.client_hello().server_name().map(str::to_owned)),
            Ok(None) => {}
            Err(_) => return None,
        }
    }
}
