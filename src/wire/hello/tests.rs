//! The hello reader against tables, captured hellos, every way to cut them, mutations, and rustls as the oracle.
//! Must not open sockets; hellos come from files and from rustls' client.
//! Called by every test run.

mod template;

use std::sync::Arc;

use proptest::prelude::*;
use rustls::client::{EchConfig, EchGreaseConfig, EchMode};
use rustls::crypto::aws_lc_rs::hpke::ALL_SUPPORTED_SUITES;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde::Deserialize;

use super::*;
use template::{build, in_records};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    ext: Option<String>,
    message: Option<String>,
    bytes: Option<String>,
    records: Option<Vec<usize>>,
    name: Option<String>,
    #[serde(default)]
    ech: bool,
    refuse: Option<String>,
}

impl Case {
    fn all() -> Vec<Self> {
        let cases: Vec<Self> = serde_saphyr::from_str(include_str!("../../../tests/corpus/hello.yaml")).unwrap();
        assert!(cases.len() > 100, "only {} cases", cases.len());
        cases
    }

    fn sent(&self) -> Vec<u8> {
        let message = match (&self.ext, &self.message, &self.bytes) {
            (Some(ext), None, None) => build(&format!("01 {{3: $start {{2: {ext}}}}}")),
            (None, Some(message), None) => build(message),
            (None, None, Some(bytes)) => return build(bytes),
            _ => panic!("{}: one of ext, message and bytes", self.id),
        };
        match &self.records {
            Some(sizes) => in_records(&message, sizes),
            None => in_records(&message, &[MAX_RECORD]),
        }
    }

    fn expected(&self) -> Result<Hello, &str> {
        match (&self.name, &self.refuse) {
            (Some(name), None) => Ok(Hello {
                sni: (name != "none").then(|| HostName::parse_sni(name.as_bytes()).unwrap()),
                ech: self.ech,
            }),
            (None, Some(reason)) => Err(reason),
            _ => panic!("{}: either name or refuse", self.id),
        }
    }
}

#[test]
fn the_table_holds() {
    for case in Case::all() {
        let sent = case.sent();
        for pieces in [vec![sent.len()], vec![1; sent.len()], vec![7; sent.len().div_ceil(7)]] {
            let read = read_in(&sent, pieces.iter().copied());
            let found = match &read {
                Progress::Value(hello) => Ok(hello.clone()),
                Progress::Reject(reject) => Err(reject.reason.as_str()),
                Progress::Need(_) => panic!("{}: still waits after {} bytes", case.id, sent.len()),
            };
            assert_eq!(found, case.expected(), "{}: {read:?}", case.id);
        }
        agrees_with_rustls(&sent);
    }
}

/// What can never become a hello is refused at the first byte that says so, not at the last.
#[test]
fn nothing_hopeless_is_waited_for() {
    for (bytes, at) in [
        ("'G'", 1),
        ("15", 1),
        ("80", 1),
        ("16 fe", 2),
        ("16 0301 0000", 5),
        ("16 0301 4001", 5),
        ("16 0301 0200 02", 6),
        ("16 0301 0200 01 00fffd", 9),
        ("16 0301 0200 01 0001fb", 9),
        ("16 0301 0001 01 15", 7),
    ] {
        let sent = build(bytes);
        assert_eq!(sent.len(), at, "{bytes}");
        let mut reader = HelloReader::new();
        assert!(matches!(reader.advance(&sent[..at - 1]), Progress::Need(_)), "{bytes}");
        assert!(matches!(reader.advance(&sent), Progress::Reject(_)), "{bytes}");
    }
}

#[test]
fn captured_hellos_are_read() {
    for (file, sent) in CAPTURED {
        let Progress::Value(hello) = read_in(sent, [sent.len()]) else {
            panic!("{file} is refused");
        };
        let name = hello.sni.map(|name| name.to_string());
        let expected = (*file != "openssl-no-sni").then(|| "api.allowed.test".to_owned());
        assert_eq!(name, expected, "{file}");
        let ech = ["chrome-boringssl", "firefox-like-boringssl"].contains(file);
        assert_eq!(hello.ech, ech, "{file}");
        assert_eq!(agrees_with_rustls(sent), *file != "openssl-tls10", "{file}");
    }
}

#[test]
fn an_expected_name_changes_nothing_that_is_read() {
    for case in Case::all() {
        let sent = case.sent();
        let read = HelloReader::new().advance(&sent);
        let own = case.name.filter(|name| name != "none");
        for name in [own.as_deref(), Some("api.allowed.test"), Some("test")]
            .into_iter()
            .flatten()
        {
            let name = HostName::parse(name.as_bytes()).unwrap();
            let expecting = HelloReader::expecting(Some(name.clone())).advance(&sent);
            assert_eq!(expecting, read, "{}: {name}", case.id);
        }
    }
}

/// Whatever came first, the reader is in the same state after the same bytes. So one cut is as good as none, and so
/// is every number of cuts.
#[test]
fn every_cut_of_every_hello_is_the_same() {
    for (file, sent) in CAPTURED {
        cuts_do_not_matter(file, sent);
    }
    let message = build("01 {3: $start {2: $sni}}");
    cuts_do_not_matter("records of 1", &in_records(&message, &[1]));
    cuts_do_not_matter("records of 40, 3 and more", &in_records(&message, &[40, 3]));
}

fn cuts_do_not_matter(file: &str, sent: &[u8]) {
    let whole = read_in(sent, [sent.len()]);
    assert!(matches!(whole, Progress::Value(_)), "{file}");
    let after: Vec<HelloReader> = (0..sent.len())
        .map(|cut| {
            let mut reader = HelloReader::new();
            assert!(
                matches!(reader.advance(&sent[..cut]), Progress::Need(n) if n <= sent.len() - cut),
                "{file} {cut}"
            );
            reader
        })
        .collect();
    for (cut, reader) in after.iter().enumerate() {
        for (second, other) in after.iter().enumerate().skip(cut + 1) {
            let mut reader = reader.clone();
            reader.advance(&sent[..second]);
            assert_eq!(reader, *other, "{file} {cut} {second}");
        }
        assert_eq!(reader.clone().advance(sent), whole, "{file} {cut}");
    }
}

#[test]
fn every_record_size_gives_the_same_hello() {
    for (file, sent) in CAPTURED {
        let whole = read_in(sent, [sent.len()]);
        for size in (1..sent.len()).step_by(1 + sent.len() / 400) {
            let cut = in_records(&sent[RECORD_HEADER..], &[size]);
            assert_eq!(read_in(&cut, [cut.len()]), whole, "{file} {size}");
        }
        let tiny = in_records(&sent[RECORD_HEADER..], &[1]);
        assert_eq!(read_in(&tiny, vec![1; tiny.len()]), whole, "{file}");
    }
}

/// The hellos of rustls' own client: plain, with a decoy ECH, and with a real one, whose outer name is the cover's.
#[test]
fn rustls_hellos_are_read() {
    let suite = ALL_SUPPORTED_SUITES[0];
    let (key, _) = suite.generate_key_pair().unwrap();
    let list = build("{2: fe0d {2: 07 0020 {2: 09*32} {2: 0001 0001} 00 {1: 'cover.allowed.test'} {2:}}}");
    let config = EchConfig::new(list.as_slice().into(), ALL_SUPPORTED_SUITES).unwrap();
    for (mode, name, ech) in [
        (None, "api.allowed.test", false),
        (
            Some(EchMode::Grease(EchGreaseConfig::new(suite, key))),
            "api.allowed.test",
            true,
        ),
        (Some(EchMode::Enable(config)), "cover.allowed.test", true),
    ] {
        let sent = rustls_hello(mode);
        let Progress::Value(hello) = read_in(&sent, [sent.len()]) else {
            panic!("refused");
        };
        assert_eq!((hello.sni.unwrap().as_str(), hello.ech), (name, ech));
        assert!(agrees_with_rustls(&sent));
        assert!(sent.len() > 1400, "no post-quantum key share in {} bytes", sent.len());
    }
}

fn rustls_hello(ech: Option<EchMode>) -> Vec<u8> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let builder = match ech {
        Some(mode) => builder.with_ech(mode).unwrap(),
        None => builder.with_safe_default_protocol_versions().unwrap(),
    };
    let config = builder
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), "api.allowed.test".try_into().unwrap()).unwrap();
    let mut sent = Vec::new();
    client.write_tls(&mut sent).unwrap();
    sent
}

/// However large a hello and however small its pieces, no byte is gathered twice and nothing grows beyond the cap.
#[test]
fn memory_is_bounded() {
    let message = build("01 {3: $start {2: $sni 0015 {2: 00*10000}}}");
    let sent = in_records(&message, &[1]);
    let mut reader = HelloReader::new();
    for end in 0..sent.len() {
        assert!(matches!(reader.advance(&sent[..end]), Progress::Need(_)));
        assert_eq!(reader.gathered.len(), (end / 6).min(message.len()));
    }
    assert!(matches!(reader.advance(&sent), Progress::Value(_)));
    let endless = build("16 0301 4000 01 00fff0 00*16380  16 0301 4000 00*16384  16 0301 4000 00*16384  16 0301 4000");
    assert!(matches!(read_in(&endless, [endless.len()]), Progress::Reject(_)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_have_one_answer(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        start in prop::sample::select(vec!["", "16", "16 0301", "16 0301 0100 01", "16 0301 0020 01 0000f0 0303"]),
        pieces in prop::collection::vec(1..40_usize, 0..40),
    ) {
        let mut sent = build(start);
        sent.append(&mut bytes);
        one_answer(&sent, &pieces)?;
    }

    #[test]
    fn mutated_hellos_have_one_answer_that_rustls_shares(
        base in 0..CAPTURED.len() + 4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..6),
        records in prop::option::of(prop::collection::vec(1..600_usize, 1..5)),
        pieces in prop::collection::vec(1..600_usize, 0..10),
    ) {
        let mut message = match CAPTURED.get(base) {
            Some((_, sent)) => sent[RECORD_HEADER..].to_vec(),
            // Small ones, in which a change more often meets the name.
            None => build("01 {3: 0303 00*32 {1:} {2: 1301} {1: 00} {2: $sni 000d {2: {2: 0403}} 000a {2: {2: 001d}}}}"),
        };
        for (at, byte, change) in changes {
            let at = at.index(message.len());
            match change {
                0 => message[at] = byte,
                1 => message[at] ^= 1 << (byte % 8),
                2 => message.insert(at, byte),
                _ => { message.remove(at); }
            }
        }
        one_answer(&in_records(&message, &records.unwrap_or(vec![MAX_RECORD])), &pieces)?;
    }

    #[test]
    fn made_up_hellos_have_one_answer_that_rustls_shares(
        names in prop::collection::vec("[a-zA-Z0-9_.*\\x00 -]{0,12}(\\.test)?\\.?", 0..3),
        kinds in prop::collection::vec(prop::sample::select(vec![0x0000_u16, 0x0010, 0x0a0a, 0xfe0d, 0xffce, 0x002b]), 0..4),
        list_extra in prop::sample::select(vec![0, 0, 0, 0, 1, -1_i32]),
        records in prop::collection::vec(1..200_usize, 1..4),
        pieces in prop::collection::vec(1..100_usize, 0..10),
    ) {
        let entries: Vec<_> = names.iter().map(|name| format!("00 {{2: {}}}", hex(name.as_bytes()))).collect();
        let entries = build(&entries.concat());
        let length = i32::try_from(entries.len()).unwrap() + list_extra;
        let sni = format!("0000 {{2: {:04x} {}}}", length & 0xffff, hex(&entries));
        let others = kinds.iter().map(|kind| format!("{kind:04x} {{2:}}")).collect::<Vec<_>>().concat();
        let needed = "000d {2: {2: 0403}} 000a {2: {2: 001d}}";
        let message = build(&format!("01 {{3: $start {{2: {needed} {sni} {others}}}}}"));
        one_answer(&in_records(&message, &records), &pieces)?;
    }
}

fn one_answer(sent: &[u8], pieces: &[usize]) -> Result<(), TestCaseError> {
    let whole = read_in(sent, [sent.len()]);
    let cut = read_in(sent, pieces.iter().copied().chain([sent.len()]));
    let same = match (&whole, &cut) {
        (Progress::Need(_), Progress::Need(_)) => true,
        (whole, cut) => whole == cut,
    };
    prop_assert!(same, "{whole:?} {cut:?}");
    agrees_with_rustls(sent);
    Ok(())
}

/// Feeds the pieces, the last one as far as it goes; the first answer that is not `Need`.
fn read_in(sent: &[u8], pieces: impl IntoIterator<Item = usize>) -> Progress<Hello, HelloReject> {
    let mut reader = HelloReader::new();
    let mut end = 0;
    let mut progress = Progress::Need(1);
    for piece in pieces {
        end = (end + piece).min(sent.len());
        progress = reader.advance(&sent[..end]);
        match progress {
            Progress::Need(0) => panic!("needs nothing"),
            Progress::Need(_) => {}
            _ => break,
        }
    }
    progress
}

/// Where both accept, both read the same name. Returns whether rustls accepts.
fn agrees_with_rustls(sent: &[u8]) -> bool {
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = sent;
    let accepted = loop {
        match acceptor.read_tls(&mut rest) {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => break accepted,
            Ok(None) => {}
            Err(_) => return false,
        }
    };
    if let Progress::Value(hello) = read_in(sent, [sent.len()]) {
        let theirs = accepted.client_hello().server_name().map(str::to_owned);
        assert_eq!(hello.sni.map(|name| name.to_string()), theirs, "{}", hex(sent));
    }
    true
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .concat()
}

macro_rules! captured {
    ($($name:literal)*) => {
        &[$(($name, include_bytes!(concat!("../../../tests/corpus/hello/", $name, ".bin")))),*]
    };
}

/// `tests/corpus/hello/README.md` says where they come from.
const CAPTURED: &[(&str, &[u8])] = captured! {
    "apt-gnutls" "chrome-boringssl" "curl" "curl-tls12" "firefox-like-boringssl" "git" "go" "java17-httpclient" "node"
    "node24-openssl35" "openssl" "openssl-no-sni" "openssl-tls10" "openssl-tls13" "python" "wget-gnutls"
};
