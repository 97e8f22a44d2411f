//! Azure Firewall's older records: one line of text each, in `AzureDiagnostics` or behind `properties.msg`.
//! Must not read a line half: what it says of the request is read whole, or not at all.
//! Called by the reader for texts that look like one.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;

use super::rows::{Columns, Read};
use crate::azure::columns::NO_RULE;

/// Reads a line; `None`: it is none of the firewall's.
///
/// # Errors
/// It is, and cannot be read: why.
pub(super) fn message(line: &str, at: Option<Timestamp>) -> Option<Result<Read, String>> {
    let (protocol, rest) = line.split_once(" request from ")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b" =".contains(&byte);
    let protocol = protocol.split(' ').next().filter(|_| protocol.bytes().all(plain))?;
    Some(read(protocol, rest, at))
}

fn read(protocol: &str, rest: &str, at: Option<Timestamp>) -> Result<Read, String> {
    let (who, said) = parted(rest);
    let (from, to) = match who.split_once(" to ") {
        Some((from, to)) => (from, Some(to)),
        None => (who, None),
    };
    let mut columns = Columns {
        at,
        protocol: protocol.to_owned(),
        ..Columns::default()
    };
    let (source, _) = source(from).ok_or_else(|| format!("`{from}` is no address with its port"))?;
    columns.source = Some(source);
    if let Some(to) = to {
        let (host, port) = to
            .rsplit_once(':')
            .ok_or_else(|| format!("`{to}` is no destination with its port"))?;
        host.clone_into(&mut columns.host);
        columns.port = match port {
            "" => None,
            port => Some(port.parse().map_err(|_| format!("`{port}` is no port"))?),
        };
    }
    for part in said.split(". ").map(|part| part.trim_end_matches('.')) {
        let (key, value) = part.split_once(": ").unwrap_or((part, ""));
        match key {
            "Action" => value.clone_into(&mut columns.action),
            "Policy" => value.clone_into(&mut columns.policy),
            "Rule Collection Group" => value.clone_into(&mut columns.group),
            "Rule Collection" => value.clone_into(&mut columns.collection),
            "Rule" => value.clone_into(&mut columns.rule),
            // Its second sentence follows as a part of its own.
            "No rule matched" => NO_RULE.clone_into(&mut columns.action_reason),
            "Reason" if value == "No rule matched" => NO_RULE.clone_into(&mut columns.action_reason),
            "Reason" => value.clone_into(&mut columns.action_reason),
            "was denied" => "Deny".clone_into(&mut columns.action),
            "was allowed" => "Allow".clone_into(&mut columns.action),
            _ => {}
        }
    }
    columns.read()
}

/// Who asked for what, and what was said of it. Names hold dots, but no dot is followed by a space.
fn parted(rest: &str) -> (&str, &str) {
    let sentence = rest.find(". ");
    let verdict = rest.find(" was ");
    match (sentence, verdict) {
        (sentence, Some(verdict)) if sentence.is_none_or(|sentence| verdict < sentence) => {
            (&rest[..verdict], &rest[verdict + 1..])
        }
        (Some(sentence), _) => (&rest[..sentence], &rest[sentence + 2..]),
        (None, _) => (rest.trim_end_matches('.'), ""),
    }
}

fn source(text: &str) -> Option<(IpAddr, u16)> {
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Some((socket.ip(), socket.port()));
    }
    // ICMP has no ports.
    text.trim_end_matches(':').parse().ok().map(|address| (address, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::rows::shown;

    #[test]
    fn every_documented_shape_is_read() {
        for (line, expected) in [
            (
                "HTTPS request from 10.0.0.4:50123 to api.example.com:443. Action: Allow. Rule Collection: AppRC. Rule: web. Web Category: SearchEngines",
                "10.0.0.4 Tls api.example.com:443 sni api.example.com allow Rule web",
            ),
            (
                "HTTPS request from 10.0.0.4:50123 to api.example.com:443. Action: Deny. Policy: P. Rule Collection Group: G. Rule Collection: C. Rule: bad",
                "10.0.0.4 Tls api.example.com:443 sni api.example.com deny DenyRule bad",
            ),
            (
                "HTTP request from 10.0.0.4:50123 to ocsp.example.com:80. Url: ocsp.example.com/a. Action: Deny. No rule matched. Proceeding with default action",
                "10.0.0.4 Http ocsp.example.com:80 http deny NoRule",
            ),
            (
                "HTTPS request from 10.0.0.4:50123 to x.test:443. Action: Deny. Reason: No rule matched. Proceeding with default action.",
                "10.0.0.4 Tls x.test:443 sni x.test deny NoRule",
            ),
            (
                "HTTPS request from 10.0.0.4:50123. Action: Deny. Reason: SNI TLS extension was missing.",
                "10.0.0.4 Tls ? sni none deny NoSni",
            ),
            (
                "HTTPS request from 10.0.0.4:50123 was denied. Reason: SNI TLS extension was missing.",
                "10.0.0.4 Tls ? sni none deny NoSni",
            ),
            (
                "TCP request from 10.0.0.4:50123 to 203.0.113.7:5432. Action: Deny.",
                "10.0.0.4 Connect 203.0.113.7:5432 nothing deny NoRule",
            ),
            (
                "UDP request from 10.0.0.4:50123 to 203.0.113.7:53. Action: Deny",
                "left out",
            ),
            (
                "ICMP Type=8 request from 10.0.0.4: to 203.0.113.7:. Action: Deny",
                "left out",
            ),
            (
                "HTTPS request from nobody to x.test:443. Action: Deny",
                "! `nobody` is no address with its port",
            ),
            (
                "HTTPS request from 10.0.0.4:1 to x.test:443. Somebody cut this",
                "! it has no action",
            ),
            ("listening on 10.0.0.4", "other"),
        ] {
            let found = match message(line, None) {
                None => "other".to_owned(),
                Some(Ok(read)) => shown(&read),
                Some(Err(why)) => format!("! {why}"),
            };
            assert_eq!(found, expected, "{line}");
        }
    }
}
