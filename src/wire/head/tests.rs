//! The head reader against the table, every way to cut a head, and arbitrary bytes.
//! Must not know what hyper thinks; that is the oracle's, beside the body reader.
//! Called by every test run.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) id: String,
    connect: Option<String>,
    get: Option<String>,
    send: Option<String>,
    fill: Option<(String, usize)>,
    to: Option<String>,
    read: Option<String>,
    refuse: Option<String>,
}

impl Case {
    pub(crate) fn all() -> Vec<Self> {
        let cases: Vec<Self> = serde_saphyr::from_str(include_str!("../../../tests/corpus/head.yaml")).unwrap();
        assert!(cases.len() > 200, "only {} cases", cases.len());
        cases
    }

    pub(crate) fn sent(&self) -> Vec<u8> {
        let text = match (&self.connect, &self.get, &self.send) {
            (Some(target), None, None) => format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"),
            (None, Some(target), None) => format!("GET {target} HTTP/1.1\r\nHost: plain.allowed.test\r\n\r\n"),
            (None, None, Some(text)) => text.clone(),
            _ => panic!("{}: one of connect, get and send", self.id),
        };
        let text = self.filled(&text);
        text.chars().map(|byte| u8::try_from(byte).unwrap()).collect()
    }

    pub(crate) fn form(&self) -> Form {
        match self.to.as_deref() {
            None => Form::Proxy,
            Some("origin") => Form::Origin,
            Some(other) => panic!("{}: no listener {other}", self.id),
        }
    }

    fn expected(&self) -> String {
        match (&self.read, &self.refuse) {
            (Some(read), None) => self.filled(read),
            (None, Some(reason)) => format!("refuse {reason}"),
            _ => panic!("{}: either read or refuse", self.id),
        }
    }

    fn filled(&self, text: &str) -> String {
        match &self.fill {
            Some((fill, times)) => text.replace('@', &fill.repeat(*times)),
            None => text.to_owned(),
        }
    }
}

#[test]
fn the_table_holds() {
    for case in Case::all() {
        let sent = case.sent();
        let whole = HeadReader::new(case.form()).advance(&sent);
        assert_eq!(say(&whole), case.expected(), "{}: {whole:?}", case.id);
        // A head that is far too large is not worth a million calls.
        let bytewise = in_pieces(case.form(), &sent[..sent.len().min(MAX_HEAD + 1)], 1);
        assert_eq!(bytewise, whole, "{}", case.id);
    }
}

/// What a head must not hold is refused at the first byte that says so, not when the head is whole or its time is up.
#[test]
fn nothing_hopeless_is_waited_for() {
    for text in [
        "\u{16}",
        "\r",
        "\n",
        "GET\u{0}",
        "GET /\n",
        "GET / HTTP/1.1\n",
        "GET http://a.test/ HTTP/2.0\r\n",
        "TRACE http://a.test/ HTTP/1.1\r\n",
        "CONNECT a.test:0 HTTP/1.1\r\n",
        "GET http://a.test/ HTTP/1.1\r\nA: b\n",
        "GET http://a.test/ HTTP/1.1\r\nA: b\rc",
        "GET http://a.test/ HTTP/1.1\r\nA: \u{1}",
        "GET http://a.test/ HTTP/1.1\r\nA: \u{7f}",
        "GET http://a.test/ HTTP/1.1\r\nA: 0123456789abcdef\u{7f}",
    ] {
        let sent = text.as_bytes();
        let mut reader = HeadReader::new(Form::Proxy);
        assert_eq!(reader.advance(&sent[..sent.len() - 1]), Progress::Need(1), "{text:?}");
        assert!(matches!(reader.advance(sent), Progress::Reject(_)), "{text:?}");
    }
}

/// No buffer grows beyond these, whatever keeps coming.
#[test]
fn every_bound_ends_the_wait() {
    for (start, more, reason, bound) in [
        ("", "A", "bad_request", MAX_METHOD + 2),
        ("GET /", "a", "uri_too_long", MAX_LINE + 1),
        ("CONNECT ", "a", "bad_host", MAX_LINE + 1),
        ("GET / ", "a", "bad_request", MAX_LINE + 1),
        ("GET / HTTP/1.1\r\n", "a", "head_too_large", MAX_HEAD + 1),
        ("GET / HTTP/1.1\r\n", "a: b\r\n", "head_too_large", MAX_HEAD + 1),
    ] {
        let mut sent = start.to_owned();
        let mut reader = HeadReader::new(Form::Origin);
        let progress = loop {
            match reader.advance(sent.as_bytes()) {
                Progress::Need(_) => sent.push_str(more),
                progress => break progress,
            }
        };
        assert_eq!(say(&progress), format!("refuse {reason}"), "{start:?} {more:?}");
        assert!(sent.len() <= bound, "{start:?} {more:?}: {}", sent.len());
    }
}

/// Whatever came first, the reader is in the same state after the same bytes: every number of cuts is as good as none.
#[test]
fn every_cut_is_the_same() {
    let sent =
        "POST http://plain.allowed.test/path?query HTTP/1.1\r\nHost: plain.allowed.test\r\nUser-Agent: x/1 (y)\r\n\
                Accept: */*\r\nContent-Length: 5\r\nExpect: 100-continue\r\nVia: 1.1 a\r\n\r\n"
            .as_bytes();
    let whole = HeadReader::new(Form::Proxy).advance(sent);
    assert!(matches!(whole, Progress::Value(_)));
    let after: Vec<HeadReader> = (0..sent.len())
        .map(|cut| {
            let mut reader = HeadReader::new(Form::Proxy);
            assert_eq!(reader.advance(&sent[..cut]), Progress::Need(1));
            reader
        })
        .collect();
    for (cut, reader) in after.iter().enumerate() {
        for (second, other) in after.iter().enumerate().skip(cut + 1) {
            let mut reader = reader.clone();
            reader.advance(&sent[..second]);
            assert_eq!(reader, *other, "{cut} {second}");
        }
        assert_eq!(reader.clone().advance(sent), whole, "{cut}");
    }
}

static SENT: LazyLock<Vec<(Form, Vec<u8>)>> = LazyLock::new(|| {
    let short = |case: &Case| case.sent().into_iter().take(1000).collect();
    Case::all().iter().map(|case| (case.form(), short(case))).collect()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_have_one_answer(
        start in prop::sample::select(vec!["", "GET ", "CONNECT ", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a.test\r\n"]),
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b" \r\n:/.a0@\\".to_vec())], 0..200),
        piece in 1..50_usize,
    ) {
        let sent = [start.as_bytes(), &bytes].concat();
        for form in [Form::Proxy, Form::Origin] {
            prop_assert_eq!(in_pieces(form, &sent, piece), HeadReader::new(form).advance(&sent));
        }
    }

    #[test]
    fn mutated_heads_have_one_answer(
        case in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
        piece in 1..50_usize,
    ) {
        let (form, sent) = case.get(&SENT);
        let mut sent = sent.clone();
        for (at, byte, change) in changes {
            let at = at.index(sent.len());
            match change {
                0 => sent[at] = byte,
                1 => sent.insert(at, byte),
                _ => { sent.remove(at); }
            }
        }
        prop_assert_eq!(in_pieces(*form, &sent, piece), HeadReader::new(*form).advance(&sent));
    }
}

fn in_pieces(form: Form, sent: &[u8], piece: usize) -> Progress<RequestHead, HeadReject> {
    let mut reader = HeadReader::new(form);
    let mut end = 0;
    loop {
        let progress = reader.advance(&sent[..end]);
        if progress != Progress::Need(1) || end == sent.len() {
            return progress;
        }
        end = (end + piece).min(sent.len());
    }
}

/// As the table writes it.
fn say(progress: &Progress<RequestHead, HeadReject>) -> String {
    let head = match progress {
        Progress::Value(head) => head,
        Progress::Reject(reject) => return format!("refuse {}", reject.reason.as_str()),
        Progress::Need(_) => return "wait".to_owned(),
    };
    let host = head.host.as_ref().map(ToString::to_string);
    let place = match &head.target {
        Target::Connect { host, port } | Target::Absolute { host, port, .. } => format!("{host}:{port}"),
        Target::Origin => host.clone().unwrap(),
    };
    let framing = match head.framing {
        Framing::Empty => String::new(),
        Framing::Length(length) => format!(" length {length}"),
        Framing::Chunked => " chunked".to_owned(),
    };
    let mut said = format!("{} {place}{framing}", head.method);
    for (set, text) in [
        (head.expect_continue, " expect".to_owned()),
        (
            head.upgrade.is_some(),
            format!(" upgrade={}", head.upgrade.as_deref().unwrap_or("")),
        ),
        (
            head.via.is_some(),
            format!(" via={}", head.via.as_deref().unwrap_or("")),
        ),
        (host.is_none(), " no-host".to_owned()),
    ] {
        if set {
            said.push_str(&text);
        }
    }
    said
}
