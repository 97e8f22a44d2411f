//! First bytes to which a server answers, and what its first bytes say.
//! Must not complete anything: no session, no login, no query with content.
//! Called by direct attempts.

use std::io;

use super::context::Context;
use crate::kubernetes::probe::Opener;
use crate::name::Host;

/// What is sent; empty where the server speaks first.
pub(super) fn bytes(opener: Opener, host: &Host, context: &Context) -> io::Result<Vec<u8>> {
    Ok(match opener {
        Opener::Tls => context.hello(host)?,
        Opener::Http => http("/", host, ""),
        Opener::Metadata => http(METADATA, host, "Metadata: true\r\n"),
        Opener::Dns => [&[0, 17][..], &DNS].concat(),
        Opener::Tds => TDS.to_vec(),
        Opener::Postgres => POSTGRES.to_vec(),
        Opener::Redis => b"PING\r\n".to_vec(),
        Opener::Listen => Vec::new(),
        Opener::Quic => quic(),
        Opener::Ntp => ntp(),
    })
}

/// The same without the length that TCP needs.
pub(super) fn datagram(opener: Opener, host: &Host, context: &Context) -> io::Result<Vec<u8>> {
    match opener {
        Opener::Dns => Ok(DNS.to_vec()),
        other => bytes(other, host, context),
    }
}

/// The first bytes of an answer, for a person.
pub(super) fn shown(bytes: &[u8]) -> String {
    if bytes.starts_with(b"HTTP/") || bytes.starts_with(b"SSH-") {
        let line = bytes.split(u8::is_ascii_control).next().unwrap_or_default();
        return printable(line);
    }
    match bytes {
        [21 | 22, 3, ..] => "TLS".to_owned(),
        other => format!("{} bytes", other.len()),
    }
}

/// Text from the wire, as far as it may be printed.
pub(super) fn printable(text: &[u8]) -> String {
    let text = text.iter().take(LINE).map(|byte| match byte {
        b' '..=b'~' => char::from(*byte),
        _ => '?',
    });
    text.collect()
}

fn http(path: &str, host: &Host, more: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}User-Agent: sluicegate-verify\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

/// An Initial packet of a version reserved to force negotiation (RFC 9000, sections 6 and 15), padded to the size below
/// which servers stay silent.
fn quic() -> Vec<u8> {
    let mut packet = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8];
    packet.extend(b"sluicega");
    packet.push(8);
    packet.extend(b"teverify");
    packet.resize(1200, 0);
    packet
}

/// Client, version 4 (RFC 5905, section 7.3).
fn ntp() -> Vec<u8> {
    let mut packet = vec![0; 48];
    packet[0] = 0x23;
    packet
}

/// The name servers of the root, recursion desired.
const DNS: [u8; 17] = [0x5c, 0x17, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
/// PRELOGIN with VERSION and ENCRYPTION (MS-TDS, section 2.2.6.5).
const TDS: [u8; 26] = [
    0x12, 1, 0, 26, 0, 0, 1, 0, // header: type, end of message, length
    0, 0, 11, 0, 6, // VERSION: offset, length
    1, 0, 17, 0, 1,    // ENCRYPTION
    0xff, // end of options
    16, 0, 0, 0, 0, 0, // version
    2, // no encryption asked for
];
/// `SSLRequest` (`PostgreSQL`, "Message Formats").
const POSTGRES: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const METADATA: &str = "/metadata/instance?api-version=2021-02-01";
const LINE: usize = 120;
