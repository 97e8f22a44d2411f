//! The ClientHello of a TLS connection, read strictly across TLS records and TCP segments.
//! Must not accept what rustls would read differently, and never waits for bytes that cannot help.
//! Called by the transparent TLS front and inside tunnels, before one byte reaches the upstream.

mod message;

use super::Progress;
use crate::name::HostName;
use crate::policy::Reason;

/// What the gate needs to know of a ClientHello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The `server_name`; `None` without that extension.
    pub sni: Option<HostName>,
    /// Whether an `encrypted_client_hello` (0xfe0d) or ESNI (0xffce) extension stands in it.
    pub ech: bool,
}

/// Why bytes are not a ClientHello that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloReject {
    /// `not_tls`, `bad_hello` or `bad_sni`.
    pub reason: Reason,
    /// One phrase for the record.
    pub detail: &'static str,
}

/// Reads one ClientHello out of a growing buffer.
///
/// Record headers and the handshake header are judged as soon as they are there, the message once it is whole; a byte
/// is looked at a bounded number of times however finely the client cuts (RFC 8446, sections 4, 5.1; RFC 5246, 7.4.1.2).
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, PartialEq))]
pub struct HelloReader {
    /// A name that is likely to stand in it, so that the same text is not read again.
    expected: Option<HostName>,
    /// Bytes of `received` that are done with: record headers that passed, fragments that were gathered.
    done: usize,
    /// Payload of the current record that is not gathered yet.
    left: usize,
    /// The handshake message as far as it came; stays empty when one record holds it whole.
    gathered: Vec<u8>,
}

impl HelloReader {
    pub fn new() -> Self {
        Self::default()
    }

    /// The same for a hello that is likely to bear this name. Whatever name it bears is read alike.
    pub fn expecting(name: Option<HostName>) -> Self {
        Self {
            expected: name,
            ..Self::default()
        }
    }

    /// `received` is everything the client has sent so far, from its first byte; it only ever grows between calls.
    ///
    /// What follows the record in which the message ends (early data, for one) is not looked at.
    pub fn advance(&mut self, received: &[u8]) -> Progress<Hello, HelloReject> {
        match self.step(received) {
            Ok(progress) => progress,
            Err(reject) => Progress::Reject(reject),
        }
    }

    fn step(&mut self, received: &[u8]) -> Result<Progress<Hello, HelloReject>, HelloReject> {
        loop {
            let rest = received.get(self.done..).unwrap_or_default();
            if self.left == 0 {
                let Some(length) = record_length(rest, self.done == 0)? else {
                    return Ok(Progress::Need(RECORD_HEADER - rest.len()));
                };
                self.done += RECORD_HEADER;
                self.left = length;
                if self.done + length > MAX_HELLO {
                    return Err(bad_hello("the ClientHello is longer than 64 KiB"));
                }
                continue;
            }
            if self.gathered.is_empty() {
                // Nothing gathered: this is the first record. The common case is that it holds the whole message,
                // which is then read where it lies.
                match message_length(rest.get(..self.left.min(rest.len())).unwrap_or_default())? {
                    None if self.left >= MESSAGE_HEADER => {
                        return Ok(Progress::Need(MESSAGE_HEADER - rest.len()));
                    }
                    Some(length) if length == self.left => {
                        return match rest.get(..length) {
                            Some(message) => message::read(message, self.expected.as_ref()).map(Progress::Value),
                            None => Ok(Progress::Need(length - rest.len())),
                        };
                    }
                    _ => {}
                }
            }
            let fragment = rest.get(..self.left).unwrap_or(rest);
            if fragment.is_empty() {
                return Ok(Progress::Need(self.left));
            }
            self.gathered.extend_from_slice(fragment);
            self.done += fragment.len();
            self.left -= fragment.len();
            if let Some(length) = message_length(&self.gathered)? {
                if self.gathered.len() + self.left > length {
                    return Err(bad_hello(TRAILING));
                }
                if self.gathered.len() == length {
                    return message::read(&self.gathered, self.expected.as_ref()).map(Progress::Value);
                }
            }
        }
    }
}

/// Judges a record header as far as it is there; the payload's length once it is whole.
fn record_length(header: &[u8], first: bool) -> Result<Option<usize>, HelloReject> {
    let mut bytes = header.iter().copied();
    match bytes.next() {
        None | Some(HANDSHAKE) => {}
        Some(ALERT) if first => return Err(not_tls("a TLS alert came instead of a ClientHello")),
        Some(_) if first => return Err(not_tls("the first byte is not that of a TLS handshake")),
        Some(_) => return Err(bad_hello("another record stands inside the ClientHello")),
    }
    // RFC 8446 lets servers ignore the version of the record; DTLS has 0xfe here.
    match bytes.next() {
        None | Some(3) => {}
        Some(_) if first => return Err(not_tls("the record is not of TLS over TCP")),
        Some(_) => return Err(bad_hello("the version of a record inside the ClientHello is not TLS")),
    }
    let (Some(_minor), Some(high), Some(low)) = (bytes.next(), bytes.next(), bytes.next()) else {
        return Ok(None);
    };
    match usize::from(u16::from_be_bytes([high, low])) {
        0 => Err(bad_hello("an empty record")),
        length if length > MAX_RECORD => Err(bad_hello("a record longer than 2^14 bytes")),
        length => Ok(Some(length)),
    }
}

/// Judges a handshake header as far as it is there; the length of the whole message with its header once it is whole.
fn message_length(message: &[u8]) -> Result<Option<usize>, HelloReject> {
    let mut bytes = message.iter().copied();
    if bytes.next().is_some_and(|kind| kind != CLIENT_HELLO) {
        return Err(bad_hello("the first handshake message is not a ClientHello"));
    }
    let (Some(high), Some(middle), Some(low)) = (bytes.next(), bytes.next(), bytes.next()) else {
        return Ok(None);
    };
    let length = MESSAGE_HEADER + (usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low));
    if length > MAX_HELLO {
        return Err(bad_hello("the ClientHello is longer than 64 KiB"));
    }
    Ok(Some(length))
}

fn not_tls(detail: &'static str) -> HelloReject {
    HelloReject {
        reason: Reason::NotTls,
        detail,
    }
}

fn bad_hello(detail: &'static str) -> HelloReject {
    HelloReject {
        reason: Reason::BadHello,
        detail,
    }
}

/// Longest ClientHello in bytes as they were received, with all record headers.
pub const MAX_HELLO: usize = 64 * 1024;

const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
const MAX_RECORD: usize = 1 << 14;
const ALERT: u8 = 0x15;
const HANDSHAKE: u8 = 0x16;
const CLIENT_HELLO: u8 = 1;
const TRAILING: &str = "the record goes on after the ClientHello";

#[cfg(test)]
mod tests;
