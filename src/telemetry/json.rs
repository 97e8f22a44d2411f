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

use super::record::{DecisionRecord, Shown, TunnelRecord};
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
    own_port: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<&'a str>,
    ech: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_at: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collection: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collection_group: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    needed_by: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<String>,
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
        let collection = self.collection.as_deref();
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
            own_port: self.own_port.then_some(true),
            host: self.host.as_ref().map(Host::to_string),
            port: self.port.map(Port::number),
            method: self.method.as_deref(),
            path: self.path.as_deref(),
            seen: self.seen.map(Shown::as_str),
            sni: self.sni.as_ref().map(HostName::as_str),
            ech: self.ech,
            rule: self.rule.as_deref(),
            rule_at: self.rule_at.as_deref(),
            collection: collection.map(|collection| &*collection.name),
            collection_group: collection.and_then(|collection| collection.group.as_deref()),
            needed_by: self.needed_by.iter().map(AsRef::as_ref).collect(),
            address: self.address.as_ref().map(IpAddr::to_string),
            refused: self.refused.iter().map(IpAddr::to_string).collect(),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jsonschema::Validator;
    use serde_json::Value;

    use super::*;
    use crate::policy::Stage;
    use crate::telemetry::record::{End, Entry};
    use crate::telemetry::samples;

    #[test]
    fn records_are_what_the_schema_says() {
        let schema = Schema::read();
        for record in decisions() {
            schema.holds(&as_json(&record));
        }
        for record in tunnels() {
            schema.holds(&as_json(&record));
        }
    }

    #[test]
    fn the_schema_knows_every_key_and_no_other() {
        let schema = Schema::read();
        for (kind, rows) in [
            ("decision", decisions().iter().map(as_json).collect::<Vec<_>>()),
            ("tunnel", tunnels().iter().map(as_json).collect()),
        ] {
            let properties = schema.value["$defs"][kind]["properties"].as_object().unwrap();
            let described: BTreeSet<_> = properties.keys().collect();
            let written: BTreeSet<_> = rows.iter().flat_map(|row| row.as_object().unwrap().keys()).collect();
            assert_eq!(described, written, "{kind}");
            for (key, property) in properties {
                assert!(property["description"].is_string(), "{kind}.{key} has no description");
                let mut without = rows[0].clone();
                without.as_object_mut().unwrap().remove(key);
                let required = schema.value["$defs"][kind]["required"].as_array().unwrap();
                assert_eq!(
                    schema.refuses(&without),
                    required.contains(&key.as_str().into()),
                    "{kind}.{key}"
                );
            }
        }
    }

    #[test]
    fn the_schema_refuses_what_no_record_is() {
        let schema = Schema::read();
        for (key, value) in [
            ("query", "a=b".into()),
            ("workload", Value::Null),
            ("action", "maybe".into()),
            ("reason", "because".into()),
            ("time", "2026-03-01T12:00:01Z".into()),
            ("id", "1".into()),
            ("source", "10.1.2.300".into()),
            ("took_ms", (-1).into()),
        ] {
            let mut record = as_json(&samples::denied(1));
            schema.holds(&record);
            record[key] = value;
            assert!(schema.refuses(&record), "{key}: {record}");
        }
    }

    #[test]
    fn the_schema_lists_every_word() {
        let schema = Schema::read();
        let definitions = &schema.value["$defs"];
        let words = |all: Vec<&'static str>| Value::from(all);
        let reasons = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(definitions["reason"]["enum"], words(reasons));
        let entries = Entry::ALL.iter().map(|entry| entry.as_str()).collect();
        assert_eq!(definitions["entry"]["enum"], words(entries));
        let ends = End::ALL.iter().map(|end| end.as_str()).collect();
        assert_eq!(definitions["tunnel"]["properties"]["end"]["enum"], words(ends));
        let shown = Shown::ALL.iter().map(|shown| shown.as_str()).collect();
        assert_eq!(definitions["decision"]["properties"]["seen"]["enum"], words(shown));
        let stages = [Stage::Request, Stage::Address, Stage::Hello].map(Stage::as_str);
        assert_eq!(
            definitions["decision"]["properties"]["stage"]["enum"],
            words(stages.to_vec())
        );
    }

    #[test]
    fn one_line_as_documented() {
        let mut out = Vec::new();
        line(&samples::allowed(0x1f), &mut out);
        line(&samples::closed(0x1f), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"type":"decision","time":"2026-03-01T12:00:01.250Z","id":"000000000000001f","action":"allow","#,
                r#""reason":"rule","stage":"hello","generation":7,"listener":"proxy","entry":"connect","#,
                r#""source":"10.1.2.3","source_port":5555,"workload":"trips","host":"api.example.com","port":443,"#,
                r#""seen":"hello","sni":"api.example.com","ech":false,"rule":"payments","rule_at":"policy.yaml:12","#,
                r#""address":"203.0.113.7","aliases":["edge.example.net"],"stale":false,"took_ms":0.213}"#,
                "\n",
                r#"{"type":"tunnel","time":"2026-03-01T12:00:09.500Z","id":"000000000000001f","end":"finished","#,
                r#""generation":7,"listener":"proxy","entry":"connect","source":"10.1.2.3","source_port":5555,"#,
                r#""workload":"trips","host":"api.example.com","port":443,"sni":"api.example.com","#,
                r#""address":"203.0.113.7","up_bytes":517,"down_bytes":48213,"lasted_ms":8250.0}"#,
                "\n",
            )
        );
    }

    #[test]
    fn lines_are_printable_ascii_and_lose_nothing() {
        let raw: String = (0..0x2100_u32)
            .filter_map(char::from_u32)
            .chain(['\u{202e}', '\u{1f600}'])
            .collect();
        let mut out = Vec::new();
        line(&raw, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.trim_end()
                .bytes()
                .all(|byte| byte == b' ' || byte.is_ascii_graphic())
        );
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), raw);
    }

    struct Schema {
        value: Value,
        validator: Validator,
    }

    impl Schema {
        fn read() -> Self {
            let text = include_str!("../../config/record.schema.json");
            let value: Value = serde_json::from_str(text).unwrap();
            jsonschema::meta::validate(&value).expect("a valid schema of the draft it names");
            let validator = jsonschema::options()
                .should_validate_formats(true)
                .build(&value)
                .unwrap();
            Self { value, validator }
        }

        fn holds(&self, record: &Value) {
            let errors: Vec<_> = self
                .validator
                .iter_errors(record)
                .map(|error| error.to_string())
                .collect();
            assert!(errors.is_empty(), "{errors:?}\n{record:#}");
        }

        fn refuses(&self, record: &Value) -> bool {
            !self.validator.is_valid(record)
        }
    }

    fn as_json(record: &impl Serialize) -> Value {
        let mut out = Vec::new();
        line(record, &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    /// The first has every key, the last as few as there can be; together they have every word.
    fn decisions() -> Vec<DecisionRecord> {
        let full = DecisionRecord {
            method: Some("GET".to_owned()),
            path: Some("/a/b".to_owned()),
            would_deny: Some(Reason::Ech),
            collection: Some(samples::collection()),
            reason: Reason::Report,
            ech: true,
            own_port: true,
            needed_by: vec!["aks/azure-monitor".into()],
            refused: vec!["10.0.0.7".parse().unwrap()],
            stale: true,
            detail: Some("the server talks first".to_owned()),
            source: "[::ffff:10.1.2.3]:5555".parse().unwrap(),
            ..samples::allowed(u64::MAX)
        };
        let reasons = Reason::ALL.iter().map(|reason| DecisionRecord {
            reason: *reason,
            host: Some(Host::parse(b"[2001:db8::1]").unwrap()),
            address: Some("2001:db8::1".parse().unwrap()),
            source: "[2001:db8::2]:1".parse().unwrap(),
            ..samples::denied(1)
        });
        let entries = Entry::ALL.iter().map(|entry| DecisionRecord {
            entry: *entry,
            ..samples::denied(1)
        });
        let empty = DecisionRecord {
            host: None,
            port: None,
            workload: None,
            reason: Reason::BadRequest,
            ..samples::denied(0)
        };
        std::iter::once(full)
            .chain(reasons)
            .chain(entries)
            .chain([empty])
            .collect()
    }

    fn tunnels() -> Vec<TunnelRecord> {
        let ends = End::ALL.iter().map(|end| TunnelRecord {
            end: *end,
            ..samples::closed(1)
        });
        let empty = TunnelRecord {
            workload: None,
            sni: None,
            ..samples::closed(0)
        };
        ends.chain([empty]).collect()
    }
}
