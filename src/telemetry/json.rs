//! Records as JSON: one object per line, for machines. `config/record.schema.json` describes every key.
//! Must not write a byte outside printable ASCII: a line is safe on any terminal.
//! Called by the record writer, and by admin for the same objects.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use super::record::{DecisionRecord, TunnelRecord};
use crate::name::{Host, HostName, Port};
use crate::policy::Reason;

/// A moment as every record and page shows it: RFC 3339, UTC, milliseconds.
pub fn moment(at: Timestamp) -> String {
    MOMENT.timestamp_to_string(&at)
}

/// Appends one line.
pub(super) fn line(record: &impl Serialize, out: &mut Vec<u8>) {
    append(record, out);
    out.push(b'\n');
}

/// Appends JSON in printable ASCII.
pub fn append(value: &impl Serialize, out: &mut Vec<u8>) {
    let before = out.len();
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, Ascii);
    if value.serialize(&mut serializer).is_err() {
        // Memory does not fail, and nothing that is shown holds what JSON cannot; but half a value would spoil what
        // follows it.
        out.truncate(before);
        out.extend_from_slice(b"{}");
    }
}

/// The keys of a decision record. Absent means: not known, or does not apply. Never null.
#[derive(Serialize)]
struct Decision<'a> {
    r#type: &'static str,
    time: String,
    id: String,
    action: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    would_deny: Option<&'static str>,
    stage: &'static str,
    generation: u64,
    listener: &'a str,
    entry: &'static str,
    source: String,
    source_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<&'a str>,
    ech: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_at: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<&'a str>,
    stale: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    took_ms: f64,
}

/// The keys of a tunnel record.
#[derive(Serialize)]
struct Tunnel<'a> {
    r#type: &'static str,
    time: String,
    id: String,
    end: &'static str,
    generation: u64,
    listener: &'a str,
    entry: &'static str,
    source: String,
    source_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<&'a str>,
    host: String,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<&'a str>,
    address: String,
    up_bytes: u64,
    down_bytes: u64,
    lasted_ms: f64,
}

impl Serialize for DecisionRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Decision {
            r#type: "decision",
            time: moment(self.at),
            id: id(self.id),
            action: self.action(),
            reason: self.reason.as_str(),
            would_deny: self.would_deny.map(Reason::as_str),
            stage: self.stage.as_str(),
            generation: self.generation.0,
            listener: &self.listener,
            entry: self.entry.as_str(),
            source: self.source.ip().to_canonical().to_string(),
            source_port: self.source.port(),
            workload: self.workload.as_deref(),
            host: self.host.as_ref().map(Host::to_string),
            port: self.port.map(Port::number),
            method: self.method.as_deref(),
            path: self.path.as_deref(),
            sni: self.sni.as_ref().map(HostName::as_str),
            ech: self.ech,
            rule: self.rule.as_deref(),
            rule_at: self.rule_at.as_deref(),
            address: self.address.as_ref().map(IpAddr::to_string),
            aliases: self.aliases.iter().map(HostName::as_str).collect(),
            stale: self.stale,
            detail: self.detail.as_deref(),
            took_ms: milliseconds(self.took),
        }
        .serialize(serializer)
    }
}

impl Serialize for TunnelRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Tunnel {
            r#type: "tunnel",
            time: moment(self.at),
            id: id(self.id),
            end: self.end.as_str(),
            generation: self.generation.0,
            listener: &self.listener,
            entry: self.entry.as_str(),
            source: self.source.ip().to_canonical().to_string(),
            source_port: self.source.port(),
            workload: self.workload.as_deref(),
            host: self.host.to_string(),
            port: self.port.number(),
            sni: self.sni.as_ref().map(HostName::as_str),
            address: self.address.to_string(),
            up_bytes: self.up,
            down_bytes: self.down,
            lasted_ms: milliseconds(self.lasted),
        }
        .serialize(serializer)
    }
}

/// The id as records, answers and pages show it.
pub fn id(id: u64) -> String {
    format!("{id:016x}")
}

/// Milliseconds with three decimals: finer says nothing of a network.
pub(super) fn milliseconds(time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact for 285 years")]
    let microseconds = time.as_micros() as f64;
    microseconds / 1000.0
}

/// Writes everything beyond ASCII, and DEL, as `\uXXXX`; `serde_json` escapes the other control characters itself.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let plain = |character: char| character.is_ascii() && character != '\x7f';
        let mut rest = fragment;
        while let Some(character) = rest.chars().find(|character| !plain(*character)) {
            let (before, after) = rest.split_once(character).unwrap_or((rest, ""));
            writer.write_all(before.as_bytes())?;
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = after;
        }
        writer.write_all(rest.as_bytes())
    }
}

static MOMENT: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
