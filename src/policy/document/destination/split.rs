//! The parts of a destination as text: scheme, host, port; and which schemes there are.
//! Must not judge hosts or ports; an unknown scheme, or brackets that do not fit, are refused with the right spelling.
//! Called by the reader of destinations.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

use ipnet::{IpNet, Ipv6Net};

use super::{BadDestination, NO_SCHEME, Role, if_readable};
use crate::name::Port;
use crate::policy::yaml::typed;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Https,
    Tls,
    Http,
    Tcp,
}

pub(super) struct Parts<'t> {
    pub(super) text: &'t str,
    pub(super) scheme: Option<Written>,
    pub(super) host: &'t str,
    pub(super) host_at: Range<usize>,
    pub(super) port: Option<(Range<usize>, &'t str)>,
}

pub(super) fn split(text: &str, role: Role) -> Result<Parts<'_>, BadDestination> {
    let (scheme, start) = match text.find("://") {
        Some(end) => (Some(scheme(text, end, role)?), end + 3),
        None => (None, 0),
    };
    let rest = &text[start..];
    let whole = |host, port| Parts {
        text,
        scheme,
        host,
        host_at: start..text.len(),
        port,
    };
    // Unbracketed, the last group of an address and a port cannot be told apart.
    if scheme.is_some() && !rest.starts_with('[') && rest.matches(':').count() > 1 {
        return Err(BadDestination {
            part: start..text.len(),
            why: "an IPv6 address needs brackets".to_owned(),
            help: bracketed(rest),
        });
    }
    // Bare addresses may hold colons and slashes of their own.
    if rest.parse::<IpAddr>().is_ok() || rest.parse::<IpNet>().is_ok() {
        return Ok(whole(rest, None));
    }
    if let Some(inner) = rest.strip_prefix('[') {
        return split_brackets(whole(rest, None), inner, start);
    }
    let Some(colon) = rest.rfind(':') else {
        return Ok(whole(rest, None));
    };
    let (host, port) = (&rest[..colon], &rest[colon + 1..]);
    let port_at = start + colon + 1..text.len();
    if let Some(slash) = port.find('/') {
        let path = port_at.start + slash;
        return Err(BadDestination {
            part: 0..text.len(),
            why: "paths are not matched, only names and ports".to_owned(),
            help: if_readable(&text[..path], role, |text| format!("write `{text}`")),
        });
    }
    Ok(Parts {
        host_at: start..start + colon,
        ..whole(host, Some((port_at, port)))
    })
}

fn split_brackets<'t>(whole: Parts<'t>, inner: &'t str, start: usize) -> Result<Parts<'t>, BadDestination> {
    let text = whole.text;
    let bad = |part, why: &str| BadDestination {
        part,
        why: why.to_owned(),
        help: "an IPv6 address is written `[2001:db8::1]:443`, a network `[2001:db8::/32]:443`".to_owned(),
    };
    let Some((host, after)) = inner.split_once(']') else {
        return Err(bad(start..text.len(), "the bracket is not closed"));
    };
    let host_at = start + 1..start + 1 + host.len();
    if host.parse::<Ipv6Addr>().is_err() && host.parse::<Ipv6Net>().is_err() {
        return Err(bad(host_at, "the brackets hold no IPv6 address or network"));
    }
    match after.strip_prefix(':') {
        Some(port) => Ok(Parts {
            host,
            host_at,
            port: Some((text.len() - port.len()..text.len(), port)),
            ..whole
        }),
        None if after.is_empty() => Ok(Parts { host, host_at, ..whole }),
        None => Err(bad(
            text.len() - after.len()..text.len(),
            "after the bracket only `:port` may stand",
        )),
    }
}

fn scheme(text: &str, end: usize, role: Role) -> Result<Written, BadDestination> {
    let written = &text[..end];
    let rest = &text[end + 3..];
    if let Some((_, scheme)) = SCHEMES.into_iter().find(|(name, _)| written.eq_ignore_ascii_case(name)) {
        return Ok(scheme);
    }
    let (part, help) = match written.to_ascii_lowercase().as_str() {
        _ if role == Role::Deny => (0..text.len(), if_readable(rest, role, |text| format!("write `{text}`"))),
        "wss" => instead(text, "WebSockets over TLS are `https`", &format!("https://{rest}")),
        "ws" => instead(text, "WebSockets are `http`", &format!("http://{rest}")),
        "udp" | "quic" => {
            let help = "remove the line: only TCP passes a proxy, and UDP needs a rule of the network";
            (0..text.len(), help.to_owned())
        }
        lower => match OTHER_SCHEMES.iter().find(|(name, ..)| *name == lower) {
            Some((_, scheme, port)) => {
                let has_port = split(rest, role).is_ok_and(|rest| rest.port.is_some());
                let port = if has_port { String::new() } else { format!(":{port}") };
                let why = "what is not HTTP is `tcp`, or `tls` if it begins with TLS";
                instead(text, why, &format!("{scheme}://{rest}{port}"))
            }
            None => (0..end, unknown_scheme(written)),
        },
    };
    Err(BadDestination {
        part,
        why: match role {
            Role::Allow => format!("`{written}` is not a scheme that is known here"),
            Role::Deny => NO_SCHEME.to_owned(),
        },
        help,
    })
}

fn instead(text: &str, why: &str, other: &str) -> (Range<usize>, String) {
    let help = if_readable(other, Role::Allow, |other| format!("{why}: write `{other}`"));
    (0..text.len(), help)
}

fn unknown_scheme(written: &str) -> String {
    match typed::nearest(written, &SCHEMES.map(|(name, _)| name)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "the schemes are `https` and `http`, and, with a port behind the host, `tls` and `tcp`".to_owned(),
    }
}

/// An IPv6 address or network that stands without brackets, with them.
fn bracketed(rest: &str) -> String {
    let is_host = |text: &str| text.parse::<Ipv6Addr>().is_ok() || text.parse::<Ipv6Net>().is_ok();
    let with_port = rest
        .rsplit_once(':')
        .filter(|(host, port)| is_host(host) && Port::parse(port.as_bytes()).is_ok());
    match with_port {
        // Without brackets `::1:443` is an address as well.
        Some((host, port)) if is_host(rest) => {
            format!("write `[{host}]:{port}`, or `[{rest}]:443` if all of it is the address")
        }
        Some((host, port)) => format!("write `[{host}]:{port}`"),
        None if is_host(rest) => format!("write `[{rest}]:443`"),
        None => "an address is written `[2001:db8::1]:443`, a network `[2001:db8::/32]:443`".to_owned(),
    }
}

const SCHEMES: [(&str, Written); 4] = [
    ("https", Written::Https),
    ("tls", Written::Tls),
    ("http", Written::Http),
    ("tcp", Written::Tcp),
];
/// What people write instead, what it is here, and the port that it has when none is written.
const OTHER_SCHEMES: &[(&str, &str, u16)] = &[
    ("amqp", "tcp", 5672),
    ("amqps", "tls", 5671),
    ("ftp", "tcp", 21),
    ("git", "tcp", 9418),
    ("grpc", "tcp", 443),
    ("grpcs", "https", 443),
    ("imap", "tcp", 143),
    ("imaps", "tls", 993),
    ("kafka", "tcp", 9092),
    ("ldap", "tcp", 389),
    ("ldaps", "tls", 636),
    ("mongodb", "tcp", 27017),
    ("mqtt", "tcp", 1883),
    ("mqtts", "tls", 8883),
    ("mssql", "tcp", 1433),
    ("mysql", "tcp", 3306),
    ("nats", "tcp", 4222),
    ("postgres", "tcp", 5432),
    ("postgresql", "tcp", 5432),
    ("redis", "tcp", 6379),
    ("rediss", "tls", 6380),
    ("sftp", "tcp", 22),
    ("smtp", "tcp", 587),
    ("smtps", "tls", 465),
    ("sqlserver", "tcp", 1433),
    ("ssh", "tcp", 22),
];
