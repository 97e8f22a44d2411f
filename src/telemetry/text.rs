//! Records as text: one aligned line each, for people who watch a terminal.
//! Must not pass control characters on: what a client sent is escaped, so that it cannot draw on the screen.
//! Called by the record writer.

use std::fmt::{self, Display, Write as _};
use std::io::Write as _;
use std::time::Duration;

use super::json::{id, milliseconds};
use super::record::{DecisionRecord, Entry, TunnelRecord};

/// Whether lines carry colours. Only for a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Never,
    Always,
}

/// Appends one line:
/// `12:00:01 DENY  trips 10.1.2.3:5555 -> CONNECT api.example.com:443 no_rule (policy.yaml:12) id=...`.
pub(super) fn decision(record: &DecisionRecord, colour: Colour, out: &mut Vec<u8>) {
    let (word, paint) = match (record.allowed, record.would_deny) {
        (true, None) => ("ALLOW", GREEN),
        (true, Some(_)) => ("WOULD", YELLOW),
        (false, _) => ("DENY ", RED),
    };
    let mut line = start(record.at, word, paint, colour);
    who(&mut line, record.workload.as_deref(), record.source);
    asked(&mut line, record);
    // `WOULD` says already that only reporting let it through; what matters is why it should not have been.
    let reason = record.would_deny.unwrap_or(record.reason);
    let _ = write!(line, " {}", reason.as_str());
    match (&record.collection, &record.rule) {
        (Some(collection), Some(rule)) => {
            let _ = write!(line, " {}/{}", Escaped(&collection.name), Escaped(rule));
        }
        (None, Some(rule)) => {
            let _ = write!(line, " {}", Escaped(rule));
        }
        (_, None) => {}
    }
    if let Some(at) = &record.rule_at {
        let _ = write!(line, " ({})", Escaped(&at.to_string()));
    }
    if !record.needed_by.is_empty() {
        let _ = write!(line, " needed by {}", Escaped(&record.needed_by.join(", ")));
    }
    if let Some(sni) = &record.sni
        && record.host.as_ref().and_then(crate::name::Host::name) != Some(sni)
    {
        let _ = write!(line, " sni={sni}");
    }
    if record.ech {
        line.push_str(" ech");
    }
    if let Some(address) = record.address {
        let _ = write!(line, " address={address}");
    }
    if record.stale {
        line.push_str(" stale");
    }
    if let Some(detail) = &record.detail {
        let _ = write!(line, ": {}", Escaped(detail));
    }
    end(&line, record.id, out);
}

/// Appends one line:
/// `12:00:09 CLOSE trips 10.1.2.3:5555 -> CONNECT api.example.com:443 finished up=517 down=48213 8.2s id=...`.
pub(super) fn tunnel(record: &TunnelRecord, colour: Colour, out: &mut Vec<u8>) {
    let mut line = start(record.at, "CLOSE", DIM, colour);
    who(&mut line, record.workload.as_deref(), record.source);
    let _ = write!(
        line,
        "{} {}:{} {} up={} down={} {}",
        verb(record.entry),
        record.host,
        record.port.number(),
        record.end.as_str(),
        record.up,
        record.down,
        Took(record.lasted),
    );
    end(&line, record.id, out);
}

fn start(at: jiff::Timestamp, word: &str, paint: &str, colour: Colour) -> String {
    let time = at.strftime("%H:%M:%S");
    match colour {
        Colour::Never => format!("{time} {word} "),
        Colour::Always => format!("{time} {paint}{word}{PLAIN} "),
    }
}

fn who(line: &mut String, workload: Option<&str>, source: std::net::SocketAddr) {
    let source = std::net::SocketAddr::new(source.ip().to_canonical(), source.port());
    // Names and addresses of usual length stand below each other; longer ones push the rest to the right.
    let workload = Escaped(workload.unwrap_or("-")).to_string();
    let _ = write!(line, "{workload:<12} {:<21} -> ", source.to_string());
}

fn asked(line: &mut String, record: &DecisionRecord) {
    match &record.method {
        Some(method) => {
            let _ = write!(line, "{} ", Escaped(method));
        }
        None => {
            let _ = write!(line, "{} ", verb(record.entry));
        }
    }
    match (&record.host, record.port) {
        (Some(host), Some(port)) => {
            let _ = write!(line, "{host}:{}", port.number());
        }
        (Some(host), None) => {
            let _ = write!(line, "{host}");
        }
        (None, _) => line.push('?'),
    }
    if let Some(path) = &record.path {
        let _ = write!(line, "{}", Escaped(path));
    }
}

fn verb(entry: Entry) -> &'static str {
    match entry {
        Entry::Connect => "CONNECT",
        Entry::Http => "HTTP",
        Entry::Tls => "TLS",
        Entry::Tcp => "TCP",
    }
}

fn end(line: &str, number: u64, out: &mut Vec<u8>) {
    let _ = writeln!(out, "{line} id={}", id(number));
}

/// Text that may come from a client or a file: whatever does not simply print is written as an escape.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                ' '..='~' if character != '\\' => f.write_char(character)?,
                _ => Display::fmt(&character.escape_debug(), f)?,
            }
        }
        Ok(())
    }
}

struct Took(Duration);

impl Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) {
            write!(f, "{:.0}ms", milliseconds(self.0))
        } else {
            write!(f, "{:.1}s", self.0.as_secs_f64())
        }
    }
}

const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{HostName, Port};
    use crate::policy::Reason;
    use crate::telemetry::samples;

    #[test]
    fn one_aligned_line_for_each_record() {
        let mut out = Vec::new();
        for record in [
            samples::denied(1),
            samples::allowed(2),
            DecisionRecord {
                reason: Reason::Report,
                would_deny: Some(Reason::SniMismatch),
                sni: Some(HostName::parse(b"other.example").unwrap()),
                stale: true,
                ..samples::allowed(3)
            },
            DecisionRecord {
                entry: Entry::Http,
                method: Some("GET".to_owned()),
                path: Some("/a".to_owned()),
                port: Some(Port::HTTP),
                source: "[::ffff:192.0.2.1]:1".parse().unwrap(),
                workload: None,
                ..samples::denied(4)
            },
            DecisionRecord {
                host: None,
                port: None,
                reason: Reason::BadRequest,
                detail: Some("a bare LF".to_owned()),
                ..samples::denied(5)
            },
            DecisionRecord {
                needed_by: vec!["aks/azure-monitor".into(), "aks/defender".into()],
                ..samples::denied(6)
            },
            DecisionRecord {
                collection: Some(samples::collection()),
                address: None,
                ..samples::allowed(7)
            },
        ] {
            decision(&record, Colour::Never, &mut out);
        }
        tunnel(&samples::closed(2), Colour::Never, &mut out);
        let asked = "10.1.2.3:5555         -> CONNECT api.example.com:443";
        let expected = [
            format!("12:00:01 DENY  trips        {asked} no_rule id=0000000000000001"),
            format!(
                "12:00:01 ALLOW trips        {asked} rule payments (policy.yaml:12) address=203.0.113.7 \
                 id=0000000000000002"
            ),
            format!(
                "12:00:01 WOULD trips        {asked} sni_mismatch payments (policy.yaml:12) sni=other.example \
                 address=203.0.113.7 stale id=0000000000000003"
            ),
            "12:00:01 DENY  -            192.0.2.1:1           -> GET api.example.com:80/a no_rule \
             id=0000000000000004"
                .to_owned(),
            "12:00:01 DENY  trips        10.1.2.3:5555         -> CONNECT ? bad_request: a bare LF \
             id=0000000000000005"
                .to_owned(),
            format!(
                "12:00:01 DENY  trips        {asked} no_rule needed by aks/azure-monitor, aks/defender \
                 id=0000000000000006"
            ),
            format!("12:00:01 ALLOW trips        {asked} rule AppRC2/payments (policy.yaml:12) id=0000000000000007"),
            format!("12:00:09 CLOSE trips        {asked} finished up=517 down=48213 8.2s id=0000000000000002"),
        ];
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn only_our_own_colours_reach_a_terminal() {
        let record = DecisionRecord {
            method: Some("\u{1b}[2J".to_owned()),
            path: Some("/\u{9b}31m\u{202e}\r\n12:00:00 ALLOW \\n".to_owned()),
            detail: Some("caf\u{e9}\u{7f}\u{8}".to_owned()),
            workload: Some("a\tb".into()),
            rule: Some("c\nd".into()),
            ..samples::denied(1)
        };
        let mut out = Vec::new();
        decision(&record, Colour::Never, &mut out);
        let line = String::from_utf8(out).unwrap();
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        let prints = |c: char| c == '\u{e9}' || c == ' ' || c.is_ascii_graphic();
        assert!(line.trim_end().chars().all(prints), "{line:?}");
        for escaped in [
            r"\u{1b}[2J",
            r"/\u{9b}31m\u{202e}\r\n12:00:00 ALLOW \\n",
            "caf\u{e9}\\u{7f}\\u{8}",
            r"a\tb",
            r"c\nd",
        ] {
            assert!(line.contains(escaped), "{escaped} in {line:?}");
        }
        let mut out = Vec::new();
        decision(&record, Colour::Always, &mut out);
        let coloured = String::from_utf8(out).unwrap();
        assert_eq!(coloured.matches('\u{1b}').count(), 2, "{coloured:?}");
        assert_eq!(coloured.replace(RED, "").replace(PLAIN, ""), line);
    }
}
