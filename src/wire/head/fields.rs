//! The fields that decide where a request goes and where its body ends (RFC 9110, 7.2; RFC 9112, 3.2 and 6).
//! Must not pick one of two readings: what stands twice, or beside its rival, is refused.
//! Called by the head reader, once the head is whole.

use httparse::Header;

use super::{Form, HeadReject, RequestHead, RequestLine, Target, Version, Written, reject};
use crate::name::{Authority, BadAuthority, Port};
use crate::policy::Reason;
use crate::wire::body::Framing;

/// The values of the fields that matter, as they stand in the head.
#[derive(Default)]
struct Fields<'a> {
    host: Once<'a>,
    content_length: Once<'a>,
    transfer_encoding: Once<'a>,
    upgrade: Once<'a>,
    connection_upgrade: bool,
    expect: Once<'a>,
    via: Vec<&'a [u8]>,
}

/// A field that may stand once.
#[derive(Clone, Copy, Default)]
enum Once<'a> {
    #[default]
    Absent,
    One(&'a [u8]),
    Many,
}

/// Reads the fields of a whole head that begins with `line`.
pub(super) fn read(
    mut line: RequestLine,
    head: &[u8],
    headers: &[Header<'_>],
    form: Form,
) -> Result<RequestHead, HeadReject> {
    let fields = Fields::collect(headers);
    let host = match (line.written.take(), fields.host) {
        (Some(Written { place, read }), Once::One(value)) if head.get(place.clone()) == Some(value) => Some(read),
        _ => read_host(fields.host, line.version, form)?,
    };
    check_host(&line.target, host.as_ref())?;
    let framing = match line.target {
        Target::Connect { .. } => read_connect_framing(&fields)?,
        Target::Absolute { .. } | Target::Origin => read_framing(&fields, line.version)?,
    };
    let expect_continue = read_expect(fields.expect, line.version)?;
    Ok(RequestHead {
        len: head.len(),
        version: line.version,
        host,
        framing,
        expect_continue,
        upgrade: read_upgrade(&fields, &line),
        via: read_via(&fields.via),
        method: line.method,
        target: line.target,
    })
}

impl<'a> Fields<'a> {
    fn collect(headers: &[Header<'a>]) -> Self {
        let mut fields = Self::default();
        for Header { name, value } in headers {
            // Most fields are told apart by their length alone.
            match name.len() {
                3 if name.eq_ignore_ascii_case("via") => fields.via.push(value),
                4 if name.eq_ignore_ascii_case("host") => fields.host.add(value),
                6 if name.eq_ignore_ascii_case("expect") => fields.expect.add(value),
                7 if name.eq_ignore_ascii_case("upgrade") => fields.upgrade.add(value),
                10 if name.eq_ignore_ascii_case("connection") => {
                    fields.connection_upgrade |= members(value).any(|member| member.eq_ignore_ascii_case(b"upgrade"));
                }
                14 if name.eq_ignore_ascii_case("content-length") => fields.content_length.add(value),
                17 if name.eq_ignore_ascii_case("transfer-encoding") => fields.transfer_encoding.add(value),
                _ => {}
            }
        }
        fields
    }
}

impl<'a> Once<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Absent => Self::One(value),
            Self::One(_) | Self::Many => Self::Many,
        };
    }
}

fn read_host(host: Once<'_>, version: Version, form: Form) -> Result<Option<Authority>, HeadReject> {
    match host {
        Once::Absent if version == Version::Http10 && form == Form::Proxy => Ok(None),
        Once::Absent => Err(reject(Reason::BadHost, "the Host field is missing")),
        Once::Many => Err(reject(Reason::BadHost, "more than one Host field")),
        Once::One(value) => match Authority::parse(value) {
            Ok(host) => Ok(Some(host)),
            Err(BadAuthority::Port) => Err(reject(
                Reason::BadPort,
                "the port in the Host field is not a plain number from 1 to 65535",
            )),
            Err(BadAuthority::Shape(_) | BadAuthority::Host(_)) => Err(reject(
                Reason::BadHost,
                "the Host field is not one host in its canonical form",
            )),
        },
    }
}

/// A client that names two hosts is confused or means to confuse: the target's is judged, a server would take the other.
fn check_host(target: &Target, host: Option<&Authority>) -> Result<(), HeadReject> {
    let Some(host) = host else { return Ok(()) };
    let same = match target {
        // Clients leave out the port here; another one is another destination.
        Target::Connect { host: asked, port } => *asked == host.host && host.port.is_none_or(|named| named == *port),
        Target::Absolute { host: asked, port, .. } => *asked == host.host && host.port.unwrap_or(Port::HTTP) == *port,
        Target::Origin => true,
    };
    if same {
        return Ok(());
    }
    Err(reject(
        Reason::HostMismatch,
        "the Host field differs from the request target",
    ))
}

/// hyper would take the first bytes of the tunnel for a body (RFC 9110, section 9.3.6, gives it no meaning).
fn read_connect_framing(fields: &Fields<'_>) -> Result<Framing, HeadReject> {
    match (fields.content_length, fields.transfer_encoding) {
        (Once::Absent | Once::One(b"0"), Once::Absent) => Ok(Framing::Empty),
        _ => Err(reject(Reason::ConnectBody, "a CONNECT request announces a body")),
    }
}

fn read_framing(fields: &Fields<'_>, version: Version) -> Result<Framing, HeadReject> {
    let bad = |detail| Err(reject(Reason::BadFraming, detail));
    match (fields.content_length, fields.transfer_encoding) {
        (Once::Absent, Once::Absent) => Ok(Framing::Empty),
        (Once::One(length), Once::Absent) => read_length(length),
        (Once::Many, Once::Absent) => bad("more than one Content-Length field"),
        (Once::Absent, Once::Many) => bad("more than one Transfer-Encoding field"),
        (Once::Absent, Once::One(_)) if version == Version::Http10 => bad("Transfer-Encoding in an HTTP/1.0 request"),
        (Once::Absent, Once::One(coding)) => read_coding(coding),
        _ => bad("Content-Length stands beside Transfer-Encoding"),
    }
}

fn read_length(length: &[u8]) -> Result<Framing, HeadReject> {
    let digits = !length.is_empty() && length.len() <= MAX_LENGTH && length.iter().all(u8::is_ascii_digit);
    let plain = digits && (length == b"0" || !length.starts_with(b"0"));
    let number = std::str::from_utf8(length).ok().and_then(|length| length.parse().ok());
    match number {
        Some(0) if plain => Ok(Framing::Empty),
        Some(number) if plain => Ok(Framing::Length(number)),
        _ => Err(reject(
            Reason::BadFraming,
            "Content-Length is not one plain decimal number",
        )),
    }
}

/// `chunked` and nothing else. The other codings are a 501 where they are well-formed (RFC 9112, section 6.1).
fn read_coding(value: &[u8]) -> Result<Framing, HeadReject> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(Framing::Chunked);
    }
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let chunked = members(value).filter(|coding| is_chunked(coding)).count();
    let well_formed = members(value).all(is_token);
    let ends_chunked = members(value).last().is_some_and(is_chunked);
    match chunked {
        0 if well_formed => Err(reject(Reason::BadCoding, "the transfer coding is not chunked")),
        1 if well_formed && ends_chunked => Err(reject(Reason::BadCoding, "a transfer coding stands before chunked")),
        _ => Err(reject(Reason::BadFraming, "Transfer-Encoding is not exactly chunked")),
    }
}

fn read_expect(expect: Once<'_>, version: Version) -> Result<bool, HeadReject> {
    match expect {
        Once::Absent => Ok(false),
        // An HTTP/1.0 client cannot read an interim answer (RFC 9110, section 10.1.1).
        Once::One(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(version == Version::Http11),
        Once::One(_) | Once::Many => Err(reject(
            Reason::BadRequest,
            "Expect asks for something else than 100-continue",
        )),
    }
}

/// A single protocol name. `h2c` would hide every later request from us, so that it is as if it were not there.
fn read_upgrade(fields: &Fields<'_>, line: &RequestLine) -> Option<String> {
    let Once::One(protocol) = fields.upgrade else {
        return None;
    };
    let offered = fields.connection_upgrade && line.version == Version::Http11;
    if !offered || !is_token(protocol) || matches!(line.target, Target::Connect { .. }) {
        return None;
    }
    let protocol = std::str::from_utf8(protocol).ok()?.to_ascii_lowercase();
    (protocol != "h2c").then_some(protocol)
}

fn read_via(via: &[&[u8]]) -> Option<String> {
    let joined = via.join(&b", "[..]);
    (!via.is_empty()).then(|| String::from_utf8_lossy(&joined).into_owned())
}

/// The members of a comma-separated list, without the white space around them.
fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &[u8]) -> bool {
    !text.is_empty()
        && text
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// Digits of a Content-Length. One more could not be counted by everyone.
const MAX_LENGTH: usize = 19;
