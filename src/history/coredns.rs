//! Lines of the `log` plugin of `CoreDNS`: which pod asked for which name, and whether it exists.
//! Must not take the cluster's own names for needs, nor what search lists make of others.
//! Called by the reader for lines that look like a query.

use std::net::IpAddr;

use jiff::Timestamp;

use super::{Answer, Question};
use crate::name::HostName;

/// What a line of the plugin holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Query {
    Of(Question),
    /// A question that says nothing of the way out: the cluster's names, names of addresses, other types.
    Noise,
}

/// Reads `[INFO] 10.244.0.5:41234 - 12345 "A IN api.example.com. udp 55 false 1232" NOERROR qr,rd,ra 104 0.012s`.
/// `None`: the line is none of the plugin's.
///
/// # Errors
/// It is, and cannot be read: why.
pub(super) fn query(line: &str, at: Option<Timestamp>) -> Option<Result<Query, &'static str>> {
    let rest = line.strip_prefix("[INFO] ")?;
    let (client, rest) = rest.split_once(" - ")?;
    let source = address(client)?;
    // From here on it is a query, whatever follows.
    Some(read(source, rest, at))
}

fn read(source: IpAddr, rest: &str, at: Option<Timestamp>) -> Result<Query, &'static str> {
    let mut quoted = rest.split('"');
    let (Some(_), Some(question), Some(answer)) = (quoted.next(), quoted.next(), quoted.next()) else {
        return Err("the question does not stand between quotation marks");
    };
    let mut words = question.split(' ');
    let (Some(kind), Some(_), Some(name)) = (words.next(), words.next(), words.next()) else {
        return Err("the question is not `TYPE CLASS NAME ...`");
    };
    let Some(code) = answer.split_whitespace().next() else {
        return Err("the answer has no code");
    };
    if !TYPES.contains(&kind) {
        return Ok(Query::Noise);
    }
    // Roots, escapes and numbers are no names that anything could be reached by.
    let Ok(name) = HostName::parse(name.as_bytes()) else {
        return Ok(Query::Noise);
    };
    if is_of_cluster(&name) {
        return Ok(Query::Noise);
    }
    let answer = match code {
        "NOERROR" => Answer::Found,
        "NXDOMAIN" => Answer::NoName,
        _ => Answer::Failed,
    };
    Ok(Query::Of(Question {
        at,
        source,
        name,
        answer,
    }))
}

/// Names that exist inside a cluster or a virtual network only, and what its search list appends to others.
pub(super) fn is_of_cluster(name: &HostName) -> bool {
    let name = name.as_str();
    !name.contains('.') || INSIDE.iter().any(|suffix| name.ends_with(suffix))
}

/// `10.244.0.5:41234` or `[fd00::5]:41234`.
fn address(client: &str) -> Option<IpAddr> {
    let (address, port) = client.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
    let address: IpAddr = bare.unwrap_or(address).parse().ok()?;
    Some(address.to_canonical())
}

/// Those that come before a connection.
const TYPES: &[&str] = &["A", "AAAA", "HTTPS"];
const INSIDE: &[&str] = &[
    ".cluster.local",
    ".svc",
    ".arpa",
    ".internal.cloudapp.net",
    ".reddog.microsoft.com",
    ".internal",
    ".local",
    ".localdomain",
    ".lan",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_and_noise_is_left_out() {
        for (line, expected) in [
            (
                "[INFO] 10.244.0.5:41234 - 12345 \"A IN api.example.com. udp 55 false 1232\" NOERROR qr,rd,ra 104 0.012s",
                "10.244.0.5 api.example.com Found",
            ),
            (
                "[INFO] [fd00::5]:41234 - 1 \"AAAA IN API.Example.COM. tcp 55 true 4096\" NXDOMAIN qr,rd,ra 104 0.012s",
                "fd00::5 api.example.com NoName",
            ),
            (
                "[INFO] 10.244.0.5:1 - 1 \"A IN slow.example.com. udp 1 false 512\" SERVFAIL qr 1 2s",
                "10.244.0.5 slow.example.com Failed",
            ),
            (
                "[INFO] 10.244.0.5:1 - 1 \"A IN poi.geo.svc.cluster.local. udp 1 false 512\" NOERROR qr 1 2s",
                "noise",
            ),
            (
                "[INFO] 10.244.0.5:1 - 1 \"A IN api.example.com.api.svc.cluster.local. udp 1 false 512\" NXDOMAIN qr 1 2s",
                "noise",
            ),
            (
                "[INFO] 10.244.0.5:1 - 1 \"A IN api.example.com.x1y2.ax.internal.cloudapp.net. udp 1 false 512\" NXDOMAIN qr 1 2s",
                "noise",
            ),
            (
                "[INFO] 10.244.0.5:1 - 1 \"PTR IN 5.0.244.10.in-addr.arpa. udp 1 false 512\" NOERROR qr 1 2s",
                "noise",
            ),
            (
                "[INFO] 10.244.0.5:1 - 1 \"NS IN . udp 1 false 512\" NOERROR qr 1 2s",
                "noise",
            ),
            (
                "[INFO] 10.244.0.5:1 - 1 \"A IN poi. udp 1 false 512\" NXDOMAIN qr 1 2s",
                "noise",
            ),
            (
                "[INFO] 10.244.0.5:1 - 1 torn",
                "the question does not stand between quotation marks",
            ),
            ("[INFO] 10.244.0.5:1 - 1 \"A IN a.test. udp\"", "the answer has no code"),
            ("[INFO] plugin/reload: Running configuration - 1", "other"),
            ("CoreDNS-1.11.1", "other"),
        ] {
            let found = match query(line, None) {
                None => "other".to_owned(),
                Some(Err(why)) => why.to_owned(),
                Some(Ok(Query::Noise)) => "noise".to_owned(),
                Some(Ok(Query::Of(asked))) => format!("{} {} {:?}", asked.source, asked.name, asked.answer),
            };
            assert_eq!(found, expected, "{line}");
        }
    }
}
