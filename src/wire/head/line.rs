//! The request line: method, target, version, each in its one spelling (RFC 9112, section 3).
//! Must not look for a host anywhere but where a server would, nor take two readings of one line.
//! Called by the head reader, as soon as the line is whole or can no longer become one.

use http::Method;

use super::{Form, HeadReject, MAX_METHOD, MAX_TARGET, RequestLine, Target, Version, Written, reject};
use crate::name::{Authority, BadAuthority, Port};
use crate::policy::Reason;

/// Judges a request line that is not whole: `bad` says that the byte after it can stand in no head; otherwise it has
/// reached a length at which something must have ended.
pub(super) fn check_unfinished(line: &[u8], bad: bool) -> Result<(), HeadReject> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let method = parts.next().unwrap_or_default();
    let target = parts.next();
    let version = parts.next();
    match target {
        None if line.is_empty() && !bad => Err(reject(
            Reason::BadRequest,
            "an empty line stands before the request line",
        )),
        None if bad => Err(reject(Reason::BadRequest, "the request line holds a control byte")),
        None => Err(reject(Reason::BadRequest, METHOD)),
        Some(target) if bad && version.is_none() => Err(control_byte_in_target(method, target)),
        Some(_) if bad => Err(reject(
            Reason::BadRequest,
            "the request line holds a control byte, or ends without CRLF",
        )),
        Some(target) if target.len() > MAX_TARGET => Err(target_too_long(method)),
        Some(_) if line.len() > MAX_TARGET => Err(reject(Reason::BadRequest, SPACES)),
        Some(_) => Ok(()),
    }
}

/// Reads a whole request line, without its CRLF.
pub(super) fn read(line: &[u8], form: Form) -> Result<RequestLine, HeadReject> {
    let (method, rest) = split_once(line, b' ').ok_or(reject(Reason::BadRequest, METHOD))?;
    let (target, version) = rsplit_once(rest, b' ').ok_or(reject(Reason::BadRequest, VERSION))?;
    let version = read_version(version)?;
    let method = read_method(method, form)?;
    if target.is_empty() || target.starts_with(b" ") || target.ends_with(b" ") {
        return Err(reject(Reason::BadRequest, SPACES));
    }
    if target.len() > MAX_TARGET {
        return Err(target_too_long(method.as_str().as_bytes()));
    }
    let start = method.as_str().len() + 1;
    let (target, written) = if method == Method::CONNECT {
        let (target, written) = read_connect(target, start)?;
        (target, Some(written))
    } else {
        read_target(target, start, form)?
    };
    Ok(RequestLine {
        method,
        version,
        target,
        written,
    })
}

fn read_version(version: &[u8]) -> Result<Version, HeadReject> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        _ => Err(match version.strip_prefix(b"HTTP/") {
            Some(number)
                if number.first().is_some_and(u8::is_ascii_digit)
                    && number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') =>
            {
                reject(Reason::BadVersion, "the version is not HTTP/1.0 or HTTP/1.1")
            }
            _ => reject(Reason::BadRequest, VERSION),
        }),
    }
}

fn read_method(method: &[u8], form: Form) -> Result<Method, HeadReject> {
    let bad = reject(Reason::BadRequest, METHOD);
    if method.len() > MAX_METHOD {
        return Err(bad);
    }
    let method = Method::from_bytes(method).map_err(|_| bad)?;
    let name = method.as_str();
    if name.eq_ignore_ascii_case("CONNECT") && method != Method::CONNECT {
        return Err(reject(Reason::BadRequest, "CONNECT is written in capitals"));
    }
    if REFUSED_METHODS.iter().any(|refused| name.eq_ignore_ascii_case(refused)) {
        return Err(reject(Reason::BadMethod, "the method is not forwarded"));
    }
    if form == Form::Origin && method == Method::CONNECT {
        return Err(reject(Reason::BadMethod, "CONNECT came to a listener that is no proxy"));
    }
    Ok(method)
}

/// `start` is where the target stands in the head.
fn read_connect(target: &[u8], start: usize) -> Result<(Target, Written), HeadReject> {
    let (host, port) = Authority::parse_connect(target).map_err(bad_authority)?;
    let written = Written {
        place: start..start + target.len(),
        read: Authority {
            host: host.clone(),
            port: Some(port),
        },
    };
    Ok((Target::Connect { host, port }, written))
}

fn read_target(target: &[u8], start: usize, form: Form) -> Result<(Target, Option<Written>), HeadReject> {
    if target.contains(&b' ') {
        return Err(reject(Reason::BadRequest, SPACES));
    }
    if target == b"*" || target.starts_with(b"/") {
        if form == Form::Proxy && !target.starts_with(b"//") {
            return Err(reject(Reason::NotProxyRequest, "the target names no host"));
        }
        if form == Form::Proxy || target == b"*" {
            return Err(reject(
                Reason::BadUri,
                "the target is neither a path nor http://host/path",
            ));
        }
        check_path(target)?;
        return Ok((Target::Origin, None));
    }
    let (scheme, rest) = split_once(target, b':').ok_or(reject(Reason::BadUri, "the target is not a URI"))?;
    if !is_scheme(scheme) {
        return Err(reject(Reason::BadUri, "the target does not begin with a scheme"));
    }
    if !scheme.eq_ignore_ascii_case(b"http") {
        return Err(reject(Reason::BadScheme, "the scheme is not http"));
    }
    let rest = rest
        .strip_prefix(b"//")
        .ok_or(reject(Reason::BadUri, "two slashes must follow http:"))?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let (authority, path) = rest.split_at(end.unwrap_or(rest.len()));
    if authority.is_empty() {
        return Err(reject(Reason::BadUri, "the URI names no host"));
    }
    if rest.contains(&b'\\') {
        return Err(reject(Reason::BadUri, PATH));
    }
    let read = Authority::parse(authority).map_err(bad_authority)?;
    check_path(path)?;
    let absolute = Target::Absolute {
        host: read.host.clone(),
        port: read.port.unwrap_or(Port::HTTP),
        bare: path.is_empty(),
    };
    let start = start + target.len() - rest.len();
    let place = start..start + authority.len();
    Ok((absolute, Some(Written { place, read })))
}

/// What may stand in a path and a query: visible ASCII without what no URI holds. Braces, brackets, `^` and `|` belong
/// in escapes (RFC 3986, section 2), but are sent as they are by real clients and read alike by all servers.
fn check_path(path: &[u8]) -> Result<(), HeadReject> {
    if path.iter().all(|byte| PATH_BYTES[usize::from(*byte)]) {
        return Ok(());
    }
    Err(reject(Reason::BadUri, PATH))
}

/// RFC 3986, section 3.1.
fn is_scheme(scheme: &[u8]) -> bool {
    scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme
            .iter()
            // Not of the grammar, but of the scheme that Squid's cache manager answers to.
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_'))
}

fn control_byte_in_target(method: &[u8], target: &[u8]) -> HeadReject {
    let in_host = match target.strip_prefix(b"http://") {
        Some(rest) => !rest.contains(&b'/'),
        None => method == b"CONNECT",
    };
    if in_host {
        return reject(Reason::BadHost, "the host holds a control byte");
    }
    reject(Reason::BadUri, PATH)
}

fn target_too_long(method: &[u8]) -> HeadReject {
    match method {
        b"CONNECT" => reject(Reason::BadHost, "the host is longer than 253 bytes"),
        _ => reject(Reason::UriTooLong, "the target is longer than 8 KiB"),
    }
}

/// Which reason stands for a bad authority in a target.
fn bad_authority(bad: BadAuthority) -> HeadReject {
    match bad {
        BadAuthority::Shape(detail) => reject(Reason::BadAuthority, detail),
        BadAuthority::Host(_) => reject(Reason::BadHost, "the host is not in its canonical form"),
        BadAuthority::Port => reject(Reason::BadPort, "the port is not a plain number from 1 to 65535"),
    }
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == at)?;
    let (before, after) = text.split_at(end);
    Some((before, after.split_first()?.1))
}

fn rsplit_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let end = text.iter().rposition(|byte| *byte == at)?;
    let (before, after) = text.split_at(end);
    Some((before, after.split_first()?.1))
}

/// Methods that show a server's insides or change its cache; nobody needs them through an egress proxy.
const REFUSED_METHODS: &[&str] = &["TRACE", "TRACK", "PURGE", "DEBUG"];
/// What [`check_path`] lets pass.
const PATH_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        let refused = matches!(byte, b'\\' | b'#' | b'"' | b'<' | b'>' | b'`');
        table[byte as usize] = byte.is_ascii_graphic() && !refused;
        byte += 1;
    }
    table
};
const METHOD: &str = "the request line does not begin with a method";
const VERSION: &str = "the request line does not end with an HTTP version";
const SPACES: &str = "method, target and version are not separated by one space each";
const PATH: &str = "the URI holds a byte that no URI holds";
