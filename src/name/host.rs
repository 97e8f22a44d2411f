//! The canonical host name, and the host of an authority: a name or an address literal.
//! Must not repair: what is not already a plain ASCII name is refused, whoever sent it.
//! Called wherever bytes from a wire or a file become a host.

use std::borrow::Borrow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use thiserror::Error;

/// A DNS name in the one canonical form: ASCII, lower case, no trailing dot, labels of 1 to 63 bytes out of
/// letters, digits, `-` and `_`, at most 253 bytes in all, and not something that an address parser could take
/// for an IPv4 address.
///
/// Clones share the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Arc<str>);

/// What stands where a host is expected: a name, or an address literal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    Name(HostName),
    Address(IpAddr),
}

/// Why bytes are not a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadHost {
    #[error("the host is empty")]
    Empty,
    #[error("the host is longer than 253 bytes")]
    TooLong,
    #[error("the host has an empty label (two dots in a row, or a dot at its start)")]
    EmptyLabel,
    #[error("the host has a label longer than 63 bytes")]
    LabelTooLong,
    #[error("the host holds bytes outside ASCII; names on the wire are written as A-labels (xn--...)")]
    NonAscii,
    #[error("the host holds the byte 0x{0:02x}; only letters, digits, `-`, `_` and dots may stand in a name")]
    Character(u8),
    #[error("the host looks like a number that some resolvers read as an IPv4 address")]
    Numeric,
    #[error("the host ends with a dot, which this place does not allow")]
    TrailingDot,
    #[error("the brackets hold no IPv6 address")]
    BadAddress,
}

impl HostName {
    /// Reads a name as HTTP authorities and policy files spell it: one trailing dot is allowed and dropped.
    pub fn parse(text: &[u8]) -> Result<Self, BadHost> {
        Self::parse_undotted(text.strip_suffix(b".").unwrap_or(text))
    }

    /// Reads a name as a `server_name` extension spells it: no trailing dot (RFC 6066, section 3).
    pub fn parse_sni(text: &[u8]) -> Result<Self, BadHost> {
        if text.len() > 1 && text.ends_with(b".") {
            return Err(BadHost::TrailingDot);
        }
        Self::parse_undotted(text)
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, shared.
    pub fn text(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The parents of this name, longest first: `b.c` and `c` for `a.b.c`.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        let mut rest: &str = &self.0;
        std::iter::from_fn(move || {
            // Labels are short: a search made for long texts has not begun before this one has ended.
            let dot = rest.bytes().position(|byte| byte == b'.')?;
            rest = rest.get(dot + 1..)?;
            Some(rest)
        })
    }

    fn parse_undotted(text: &[u8]) -> Result<Self, BadHost> {
        let name = std::str::from_utf8(text).ok().filter(|_| has_name_shape(text));
        let name = name.ok_or_else(|| why_no_name(text))?;
        if ends_in_number(text) {
            return Err(BadHost::Numeric);
        }
        let mut name: Arc<str> = name.into();
        if text.iter().any(u8::is_ascii_uppercase) {
            Arc::make_mut(&mut name).make_ascii_lowercase();
        }
        Ok(Self(name))
    }
}

impl Host {
    /// Reads the host part of an authority: a name, a dotted IPv4 address, or an IPv6 address in brackets.
    pub fn parse(text: &[u8]) -> Result<Self, BadHost> {
        if let Some(inner) = text.strip_prefix(b"[") {
            let inner = inner.strip_suffix(b"]").ok_or(BadHost::BadAddress)?;
            let address = ascii(inner).and_then(|inner| inner.parse::<Ipv6Addr>().ok());
            return address
                .map(|address| Self::Address(IpAddr::V6(address)))
                .ok_or(BadHost::BadAddress);
        }
        // `Ipv4Addr` reads four plain decimal numbers and nothing else: no octal, no hex, no short forms.
        if text.last().is_some_and(u8::is_ascii_digit)
            && let Some(address) = ascii(text).and_then(|text| text.parse::<Ipv4Addr>().ok())
        {
            return Ok(Self::Address(IpAddr::V4(address)));
        }
        HostName::parse(text).map(Self::Name)
    }

    /// The name, unless this is an address literal.
    pub fn name(&self) -> Option<&HostName> {
        match self {
            Self::Name(name) => Some(name),
            Self::Address(_) => None,
        }
    }
}

impl From<HostName> for Host {
    fn from(name: HostName) -> Self {
        Self::Name(name)
    }
}

/// Maps keyed by names are asked for parents of a name, which are plain text. `Hash` and `Eq` are those of the text.
impl Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Host {
    /// IPv6 addresses stand in brackets, as in an authority.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

fn ascii(text: &[u8]) -> Option<&str> {
    std::str::from_utf8(text).ok().filter(|text| text.is_ascii())
}

/// Whether this is labels of the right bytes and lengths, in one look at each byte.
fn has_name_shape(text: &[u8]) -> bool {
    let mut label = 0;
    for byte in text {
        if *byte == b'.' {
            if label == 0 {
                return false;
            }
            label = 0;
        } else if label < MAX_LABEL && LABEL_BYTES[usize::from(*byte)] {
            label += 1;
        } else {
            return false;
        }
    }
    label > 0 && text.len() <= MAX_NAME
}

/// What is wrong with the shape of a name.
fn why_no_name(text: &[u8]) -> BadHost {
    if text.is_empty() {
        return BadHost::Empty;
    }
    if !text.is_ascii() {
        return BadHost::NonAscii;
    }
    if let Some(byte) = text.iter().copied().find(|byte| !is_name_byte(*byte)) {
        return BadHost::Character(byte);
    }
    if text.len() > MAX_NAME {
        return BadHost::TooLong;
    }
    let mut lengths = text.split(|byte| *byte == b'.').map(<[u8]>::len);
    match lengths.find(|length| *length == 0 || *length > MAX_LABEL) {
        Some(0) => BadHost::EmptyLabel,
        _ => BadHost::LabelTooLong,
    }
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// Whether the last label is a decimal, octal or hexadecimal number: such hosts are addresses to `inet_aton`
/// (`127.1`, `0x7f000001`), so they must never travel as names. Same test as the URL standard's "ends in a number".
fn ends_in_number(text: &[u8]) -> bool {
    // Most names end in a letter that no number ends in.
    if !matches!(text.last(), Some(b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' | b'x' | b'X')) {
        return false;
    }
    let last = text.rsplit(|byte| *byte == b'.').next().unwrap_or(text);
    let hexadecimal = last.strip_prefix(b"0x").or_else(|| last.strip_prefix(b"0X"));
    match hexadecimal {
        Some(digits) => digits.iter().all(u8::is_ascii_hexdigit),
        None => last.iter().all(u8::is_ascii_digit),
    }
}

/// Which bytes may stand in a label.
const LABEL_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        table[byte as usize] = is_name_byte(byte) && byte != b'.';
        byte += 1;
    }
    table
};
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_canonical_form() {
        for text in ["api.example.test", "API.Example.TEST", "api.example.test."] {
            assert_eq!(HostName::parse(text.as_bytes()).unwrap().as_str(), "api.example.test");
        }
        assert_eq!(HostName::parse_sni(b"api.example.test."), Err(BadHost::TrailingDot));
        assert_eq!(HostName::parse(b"a.test.."), Err(BadHost::EmptyLabel));
    }

    /// A13: of all bytes only letters, digits, `-` and `_` may stand in a label.
    #[test]
    fn every_other_byte_is_refused() {
        for byte in 0..=u8::MAX {
            let read = HostName::parse(&[b"a", [byte].as_slice(), b"b.test"].concat());
            let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            assert_eq!(read.is_ok(), plain, "0x{byte:02x}: {read:?}");
        }
    }

    /// A22.
    #[test]
    fn lengths_end_at_63_and_253() {
        let label = "a".repeat(63);
        let name = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(name.len(), 253);
        assert!(HostName::parse(name.as_bytes()).is_ok());
        assert_eq!(HostName::parse(format!("{name}a").as_bytes()), Err(BadHost::TooLong));
        assert_eq!(HostName::parse("a".repeat(64).as_bytes()), Err(BadHost::LabelTooLong));
        assert_eq!(HostName::parse("a".repeat(1 << 20).as_bytes()), Err(BadHost::TooLong));
    }

    #[test]
    fn numbers_are_addresses_or_nothing() {
        for text in [
            "2130706433",
            "0x7f.1",
            "127.1",
            "017700000001",
            "127.0.0.1.",
            "0177.0.0.1",
            "1.2.3.4.5",
            "a.0x",
        ] {
            assert_eq!(Host::parse(text.as_bytes()), Err(BadHost::Numeric), "{text}");
        }
        assert_eq!(Host::parse(b"127.0.0.1"), Ok(Host::Address(Ipv4Addr::LOCALHOST.into())));
        assert_eq!(Host::parse(b"[::1]"), Ok(Host::Address(Ipv6Addr::LOCALHOST.into())));
        assert_eq!(Host::parse(b"[fe80::1%25eth0]"), Err(BadHost::BadAddress));
        assert!(HostName::parse(b"1e100.net").is_ok());
    }

    #[test]
    fn parents_are_longest_first() {
        let name = HostName::parse(b"a.b.c").unwrap();
        assert_eq!(name.parents().collect::<Vec<_>>(), ["b.c", "c"]);
    }
}
