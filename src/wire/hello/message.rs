//! The ClientHello message itself: what stands between the handshake header and its end.
//! Must not skip what it cannot account for: every length has to fit exactly into the one around it.
//! Called by the hello reader, with a whole message.

use super::{Hello, HelloReject, MESSAGE_HEADER, bad_hello};
use crate::name::HostName;
use crate::policy::Reason;

/// Reads a ClientHello with its handshake header (RFC 8446, section 4.1.2; older forms differ only in values).
pub(super) fn read(message: &[u8], expected: Option<&HostName>) -> Result<Hello, HelloReject> {
    let mut hello = Bytes(message);
    hello.take(MESSAGE_HEADER).ok_or(bad_hello(SHORT))?;
    if hello.u16().ok_or(bad_hello(SHORT))? >> 8 != 3 {
        return Err(bad_hello("the client's version is not SSL 3 or TLS"));
    }
    hello.take(RANDOM).ok_or(bad_hello(SHORT))?;
    let session = hello.vector8().ok_or(bad_hello(SHORT))?;
    if session.0.len() > MAX_SESSION {
        return Err(bad_hello("the session id is longer than 32 bytes"));
    }
    let ciphers = hello.vector16().ok_or(bad_hello(SHORT))?;
    if ciphers.0.is_empty() || !ciphers.0.len().is_multiple_of(2) {
        return Err(bad_hello("the list of cipher suites is empty or of odd length"));
    }
    let compressions = hello.vector8().ok_or(bad_hello(SHORT))?;
    if !compressions.0.contains(&NO_COMPRESSION) {
        return Err(bad_hello("the list of compression methods lacks the null method"));
    }
    if hello.0.is_empty() {
        // TLS 1.0 knew no extensions.
        return Ok(Hello { sni: None, ech: false });
    }
    let extensions = hello.vector16().ok_or(bad_hello(SHORT))?;
    if !hello.0.is_empty() {
        return Err(bad_hello("bytes stand behind the extensions"));
    }
    read_extensions(extensions, expected)
}

fn read_extensions(mut rest: Bytes<'_>, expected: Option<&HostName>) -> Result<Hello, HelloReject> {
    let mut hello = Hello { sni: None, ech: false };
    let mut count = 0;
    let mut seen = Kinds {
        low: 0,
        high: [0; MAX_EXTENSIONS],
        high_count: 0,
    };
    while !rest.0.is_empty() {
        let kind = rest.u16().ok_or(bad_hello(SHORT_EXTENSION))?;
        let data = rest.vector16().ok_or(bad_hello(SHORT_EXTENSION))?;
        seen.add(kind)?;
        count += 1;
        if count > MAX_EXTENSIONS {
            return Err(bad_hello("more than 128 extensions"));
        }
        match kind {
            SERVER_NAME => hello.sni = Some(read_server_name(data, expected)?),
            ENCRYPTED_CLIENT_HELLO | ENCRYPTED_SERVER_NAME => hello.ech = true,
            _ => {}
        }
    }
    Ok(hello)
}

/// The kinds of extensions so far: a bit for each of those below 64, which is nearly all that clients send.
struct Kinds {
    low: u64,
    high: [u16; MAX_EXTENSIONS],
    high_count: usize,
}

impl Kinds {
    fn add(&mut self, kind: u16) -> Result<(), HelloReject> {
        let bit = 1_u64.checked_shl(kind.into());
        let known = match bit {
            Some(bit) => self.low & bit != 0,
            None => self.high.iter().take(self.high_count).any(|known| *known == kind),
        };
        if known {
            return Err(bad_hello("an extension stands there twice"));
        }
        if let Some(bit) = bit {
            self.low |= bit;
        } else if let Some(place) = self.high.get_mut(self.high_count) {
            *place = kind;
            self.high_count += 1;
        }
        Ok(())
    }
}

/// One list with one entry of type `host_name` (RFC 6066, section 3).
fn read_server_name(mut data: Bytes<'_>, expected: Option<&HostName>) -> Result<HostName, HelloReject> {
    let mut list = data.vector16().ok_or(bad_sni("the server_name list is cut short"))?;
    if !data.0.is_empty() {
        return Err(bad_sni("bytes stand behind the server_name list"));
    }
    if list.take(1) != Some(&[HOST_NAME]) {
        return Err(bad_sni("the server_name list does not begin with a host_name"));
    }
    let name = list.vector16().ok_or(bad_sni("the server_name is cut short"))?;
    if !list.0.is_empty() {
        return Err(bad_sni("the server_name list has more than one entry"));
    }
    if let Some(expected) = expected.filter(|expected| expected.as_str().as_bytes() == name.0) {
        return Ok(expected.clone());
    }
    HostName::parse_sni(name.0).map_err(|_| bad_sni("the server_name is not a host name in its canonical form"))
}

fn bad_sni(detail: &'static str) -> HelloReject {
    HelloReject {
        reason: Reason::BadSni,
        detail,
    }
}

/// What is left to read; every method takes from the front, or nothing if there is too little.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*taken))
    }

    /// A vector with a length of one byte.
    fn vector8(&mut self) -> Option<Self> {
        let (length, rest) = self.0.split_first()?;
        self.0 = rest;
        self.take((*length).into()).map(Self)
    }

    /// A vector with a length of two bytes.
    fn vector16(&mut self) -> Option<Self> {
        let length = self.u16()?;
        self.take(length.into()).map(Self)
    }
}

/// Browsers send under 20. The bound keeps the search for duplicates cheap whatever a client sends.
const MAX_EXTENSIONS: usize = 128;
const MAX_SESSION: usize = 32;
const RANDOM: usize = 32;
const NO_COMPRESSION: u8 = 0;
const SERVER_NAME: u16 = 0x0000;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
const ENCRYPTED_SERVER_NAME: u16 = 0xffce;
const HOST_NAME: u8 = 0;
const SHORT: &str = "the ClientHello is cut short";
const SHORT_EXTENSION: &str = "an extension is cut short";
