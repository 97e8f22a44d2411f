//! A JSON object, key by key, straight into the bytes of the log: what most of a record is needs no escaping and no copy.
//! Must not decide what is escaped how: whatever is not plainly printable goes through `serde_json`, as everything else
//! that is shown does. Called for the records.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{append, moment};
use crate::name::{Host, HostName};
use crate::policy::rule::Position;

/// An object that is being written. Keys are given as they stand in the line: with the comma before them, quotes and colon,
/// and with the opening quote of their value if it has one.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
}

/// Writes moments; those of one second share all but their milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    second: Option<i64>,
    /// Any moment of that second.
    text: String,
}

impl<'a> Object<'a> {
    /// Begins with the first key and its value, both as they stand in the line.
    pub(super) fn begin(first: &str, out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        out.extend_from_slice(first.as_bytes());
        Self { out }
    }

    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    /// A text that may hold anything.
    pub(super) fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        if is_plain(text) {
            self.rest_of(text);
        } else {
            // It brings its own quotes.
            self.out.pop();
            append(&text, self.out);
        }
    }

    /// A word of ours, which needs no escape.
    pub(super) fn word(&mut self, key: &str, word: &'static str) {
        self.key(key);
        self.rest_of(word);
    }

    /// A name, which needs no escape: none holds more than letters, digits, `-`, `_` and dots.
    pub(super) fn name(&mut self, key: &str, name: &HostName) {
        self.key(key);
        self.rest_of(name.as_str());
    }

    pub(super) fn host(&mut self, key: &str, host: &Host) {
        match host {
            Host::Name(name) => self.name(key, name),
            Host::Address(address @ IpAddr::V4(_)) => self.address(key, *address),
            // In brackets.
            Host::Address(IpAddr::V6(_)) => self.text(key, &host.to_string()),
        }
    }

    pub(super) fn address(&mut self, key: &str, address: IpAddr) {
        self.key(key);
        match address {
            IpAddr::V4(address) => {
                let [first, rest @ ..] = address.octets();
                append(&first, self.out);
                for octet in rest {
                    self.out.push(b'.');
                    append(&octet, self.out);
                }
                self.out.push(b'"');
            }
            IpAddr::V6(address) => self.rest_of(&address.to_string()),
        }
    }

    pub(super) fn number(&mut self, key: &str, number: u64) {
        self.key(key);
        append(&number, self.out);
    }

    pub(super) fn flag(&mut self, key: &str, flag: bool) {
        self.key(key);
        self.out.extend_from_slice(if flag { b"true" } else { b"false" });
    }

    /// Sixteen hexadecimal digits.
    pub(super) fn id(&mut self, key: &str, id: u64) {
        self.key(key);
        let (mut rest, mut digits) = (id, [b'"'; 17]);
        for digit in digits.iter_mut().take(16).rev() {
            *digit = HEX[(rest & 15) as usize];
            rest >>= 4;
        }
        self.out.extend_from_slice(&digits);
    }

    /// RFC 3339, UTC, milliseconds, as [`moment`] writes it.
    pub(super) fn moment(&mut self, key: &str, at: Timestamp, clock: &mut Clock) {
        self.key(key);
        clock.write(at, self.out);
        self.out.push(b'"');
    }

    /// Milliseconds with up to three decimals, and at least one: finer says nothing of a network.
    pub(super) fn milliseconds(&mut self, key: &str, time: Duration) {
        self.key(key);
        append(&time.as_millis(), self.out);
        let [hundreds, tens, ones] = decimals(time.subsec_micros() % 1000);
        self.out.extend_from_slice(&[b'.', hundreds]);
        match (tens, ones) {
            (b'0', b'0') => {}
            (_, b'0') => self.out.push(tens),
            _ => self.out.extend_from_slice(&[tens, ones]),
        }
    }

    /// A place in a file.
    pub(super) fn position(&mut self, key: &str, at: &Position) {
        if is_plain(&at.file) {
            self.key(key);
            self.out.extend_from_slice(at.file.as_bytes());
            self.out.push(b':');
            append(&at.line, self.out);
            self.out.push(b'"');
        } else {
            self.text(key, &at.to_string());
        }
    }

    pub(super) fn list<T: Serialize>(&mut self, key: &str, all: impl Iterator<Item = T>) {
        self.key(key);
        self.out.push(b'[');
        for (place, one) in all.enumerate() {
            if place > 0 {
                self.out.push(b',');
            }
            append(&one, self.out);
        }
        self.out.push(b']');
    }

    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(key.as_bytes());
    }

    /// What follows an opening quote.
    fn rest_of(&mut self, plain: &str) {
        self.out.extend_from_slice(plain.as_bytes());
        self.out.push(b'"');
    }
}

impl Clock {
    fn write(&mut self, at: Timestamp, out: &mut Vec<u8>) {
        if at.subsec_nanosecond() < 0 {
            // Before the epoch the parts of a moment are not what its text is put together from.
            out.extend_from_slice(moment(at).as_bytes());
            return;
        }
        if self.second != Some(at.as_second()) {
            self.second = Some(at.as_second());
            self.text = moment(at);
            self.text.truncate(self.text.len() - "000Z".len());
        }
        out.extend_from_slice(self.text.as_bytes());
        out.extend_from_slice(&decimals(at.subsec_millisecond().unsigned_abs()));
        out.push(b'Z');
    }
}

/// The three digits of a number below 1000.
fn decimals(number: u32) -> [u8; 3] {
    let digit = |number: u32| HEX[number as usize % 10];
    [digit(number / 100), digit(number / 10), digit(number)]
}

/// Whether `serde_json` would write this as it stands, between quotes.
fn is_plain(text: &str) -> bool {
    // Without an early end, so that the compiler takes many bytes at a time.
    let plain = |byte: u8| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~');
    text.bytes().fold(true, |all, byte| all & plain(byte))
}

const HEX: &[u8; 16] = b"0123456789abcdef";
