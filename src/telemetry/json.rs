//! Records as JSON: one object per line, for machines. `config/record.schema.json` describes every key.
//! Must not write a byte outside printable ASCII: a line is safe on any terminal.
//! Called by the record writer, and by admin for the same objects.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::Serialize;
use serde_json::ser::Formatter;

use super::record::{DecisionRecord, TunnelRecord};
use crate::name::HostName;

mod object;
#[cfg(test)]
mod oracle;

pub use object::Clock;
use object::Object;

/// A moment as every record and page shows it: RFC 3339, UTC, milliseconds.
pub fn moment(at: Timestamp) -> String {
    MOMENT.timestamp_to_string(&at)
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

/// Appends a decision record. A key that is absent means: not known, or does not apply. Never null.
pub fn decision(record: &DecisionRecord, clock: &mut Clock, out: &mut Vec<u8>) {
    let mut line = Object::begin(r#""type":"decision""#, out);
    line.moment(r#","time":""#, record.at, clock);
    line.id(r#","id":""#, record.id);
    line.word(r#","action":""#, record.action());
    line.word(r#","reason":""#, record.reason.as_str());
    if let Some(reason) = record.would_deny {
        line.word(r#","would_deny":""#, reason.as_str());
    }
    line.word(r#","stage":""#, record.stage.as_str());
    line.number(r#","generation":"#, record.generation.0);
    line.text(r#","listener":""#, &record.listener);
    line.word(r#","entry":""#, record.entry.as_str());
    line.address(r#","source":""#, record.source.ip().to_canonical());
    line.number(r#","source_port":"#, record.source.port().into());
    if let Some(workload) = &record.workload {
        line.text(r#","workload":""#, workload);
    }
    if record.own_port {
        line.flag(r#","own_port":"#, true);
    }
    if let Some(host) = &record.host {
        line.host(r#","host":""#, host);
    }
    if let Some(port) = record.port {
        line.number(r#","port":"#, port.number().into());
    }
    if let Some(method) = &record.method {
        line.text(r#","method":""#, method);
    }
    if let Some(path) = &record.path {
        line.text(r#","path":""#, path);
    }
    if let Some(seen) = record.seen {
        line.word(r#","seen":""#, seen.as_str());
    }
    if let Some(sni) = &record.sni {
        line.name(r#","sni":""#, sni);
    }
    line.flag(r#","ech":"#, record.ech);
    if let Some(rule) = &record.rule {
        line.text(r#","rule":""#, rule);
    }
    if let Some(at) = &record.rule_at {
        line.position(r#","rule_at":""#, at);
    }
    if let Some(collection) = &record.collection {
        line.text(r#","collection":""#, &collection.name);
        if let Some(group) = &collection.group {
            line.text(r#","collection_group":""#, group);
        }
    }
    if !record.needed_by.is_empty() {
        line.list(r#","needed_by":"#, record.needed_by.iter().map(AsRef::as_ref));
    }
    if let Some(address) = record.address {
        line.address(r#","address":""#, address);
    }
    if !record.refused.is_empty() {
        line.list(r#","refused":"#, record.refused.iter());
    }
    if !record.aliases.is_empty() {
        line.list(r#","aliases":"#, record.aliases.iter().map(HostName::as_str));
    }
    line.flag(r#","stale":"#, record.stale);
    if let Some(detail) = &record.detail {
        line.text(r#","detail":""#, detail);
    }
    line.milliseconds(r#","took_ms":"#, record.took);
    line.end();
}

/// Appends a tunnel record.
pub fn tunnel(record: &TunnelRecord, clock: &mut Clock, out: &mut Vec<u8>) {
    let mut line = Object::begin(r#""type":"tunnel""#, out);
    line.moment(r#","time":""#, record.at, clock);
    line.id(r#","id":""#, record.id);
    line.word(r#","end":""#, record.end.as_str());
    line.number(r#","generation":"#, record.generation.0);
    line.text(r#","listener":""#, &record.listener);
    line.word(r#","entry":""#, record.entry.as_str());
    line.address(r#","source":""#, record.source.ip().to_canonical());
    line.number(r#","source_port":"#, record.source.port().into());
    if let Some(workload) = &record.workload {
        line.text(r#","workload":""#, workload);
    }
    line.host(r#","host":""#, &record.host);
    line.number(r#","port":"#, record.port.number().into());
    if let Some(sni) = &record.sni {
        line.name(r#","sni":""#, sni);
    }
    line.address(r#","address":""#, record.address);
    line.number(r#","up_bytes":"#, record.up);
    line.number(r#","down_bytes":"#, record.down);
    line.milliseconds(r#","lasted_ms":"#, record.lasted);
    line.end();
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
        let printable = |byte: u8| byte < 0x7f;
        if fragment.bytes().fold(true, |all, byte| all & printable(byte)) {
            return writer.write_all(fragment.as_bytes());
        }
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
    use crate::name::Host;
    use crate::policy::{Reason, Stage};
    use crate::telemetry::record::{End, Entry, Shown};
    use crate::telemetry::samples;

    #[test]
    fn records_are_what_the_schema_says() {
        let schema = Schema::read();
        for record in decisions() {
            schema.holds(&decision_json(&record));
        }
        for record in tunnels() {
            schema.holds(&tunnel_json(&record));
        }
    }

    #[test]
    fn the_schema_knows_every_key_and_no_other() {
        let schema = Schema::read();
        for (kind, rows) in [
            ("decision", decisions().iter().map(decision_json).collect::<Vec<_>>()),
            ("tunnel", tunnels().iter().map(tunnel_json).collect()),
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
            let mut record = decision_json(&samples::denied(1));
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
        let (mut clock, mut out) = (Clock::default(), Vec::new());
        decision(&samples::allowed(0x1f), &mut clock, &mut out);
        out.push(b'\n');
        tunnel(&samples::closed(0x1f), &mut clock, &mut out);
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
        append(&raw, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
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

    fn decision_json(record: &DecisionRecord) -> Value {
        let mut out = Vec::new();
        decision(record, &mut Clock::default(), &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    fn tunnel_json(record: &TunnelRecord) -> Value {
        let mut out = Vec::new();
        tunnel(record, &mut Clock::default(), &mut out);
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
