//! Objects of logs: our own records, rows of Azure's tables and of their exports, and what wraps them.
//! Must not fill in what is not there: a row without what its table always has cannot be read, and says so.
//! Called by the reader for each object, and for each row of a CSV file.

use std::net::IpAddr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Answer, Decided, Entry, Event, Question, Teller};
use crate::azure::columns::{NO_RULE, NO_SNI, REPORTED};
use crate::azure::resource::one_line;
use crate::name::{Host, HostName, Port};
use crate::policy::{Reason, Seen};

/// What became of a row.
#[derive(Debug, PartialEq)]
pub(super) enum Read {
    Event(Event),
    /// It can be read, and tells nothing about the policy.
    LeftOut,
    /// A line of text, and when it was written.
    Text(String, Option<Timestamp>),
    /// More rows within it.
    Rows(Vec<Value>),
}

/// The columns of Azure's tables that matter here; empty where a row has none.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) at: Option<Timestamp>,
    pub(super) protocol: String,
    pub(super) source: Option<IpAddr>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) action: String,
    pub(super) action_reason: String,
    pub(super) policy: String,
    pub(super) group: String,
    pub(super) collection: String,
    pub(super) rule: String,
}

/// Reads an object.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn object(object: Map<String, Value>) -> Result<Read, String> {
    let text = |key: &str| text(&object, key);
    match object.get("type").and_then(Value::as_str) {
        Some("decision") => return own(object),
        Some("tunnel") => return Ok(Read::LeftOut),
        _ => {}
    }
    for list in ["value", "records"] {
        if let Some(Value::Array(rows)) = object.get(list) {
            return Ok(Read::Rows(rows.clone()));
        }
    }
    if let Some(Value::Array(tables)) = object.get("tables") {
        return tables_of(tables).map(Read::Rows);
    }
    let at = time(&object)?;
    for key in ["LogMessage", "LogEntry", "log"] {
        match object.get(key) {
            Some(Value::String(line)) => return Ok(Read::Text(line.trim_end().to_owned(), at)),
            Some(inner @ Value::Object(_)) => return Ok(Read::Rows(vec![inner.clone()])),
            _ => {}
        }
    }
    if let Some(message) = text("msg_s") {
        return Ok(Read::Text(message, at));
    }
    // The envelope of diagnostic settings, in storage accounts and event hubs.
    if let Some(Value::Object(inner)) = object.get("properties") {
        if let Some(Value::String(message)) = inner.get("msg") {
            return Ok(Read::Text(message.clone(), at));
        }
        let mut inner = inner.clone();
        let outer = [("category", "Category"), ("time", "TimeGenerated")];
        for (key, column) in outer {
            if let Some(value) = object.get(key) {
                inner.entry(column).or_insert_with(|| value.clone());
            }
        }
        return azure_row(&inner);
    }
    azure_row(&object)
}

/// A row of one of the tables; which one, its columns say.
fn azure_row(row: &Map<String, Value>) -> Result<Read, String> {
    let text = |key: &str| text(row, key).unwrap_or_default();
    let at = time(row)?;
    if !text("QueryName").is_empty() {
        return question(&text("QueryName"), &text("SourceIp"), &text("ResponseCode"), at);
    }
    let category = [text("Category"), text("Type"), text("TableName")];
    if category.iter().any(|category| OTHERS.contains(&category.as_str())) {
        return Ok(Read::LeftOut);
    }
    let (name, address) = (row.contains_key("Fqdn"), row.contains_key("DestinationIp"));
    if !(name || address) || !row.contains_key("Action") {
        return Err("it is no record of this proxy, and no row of a table of Azure Firewall".to_owned());
    }
    let source = text("SourceIp");
    let port = text("DestinationPort");
    let columns = Columns {
        at,
        protocol: text("Protocol"),
        source: Some(source.parse().map_err(|_| format!("`{source}` is no address"))?),
        host: if name { text("Fqdn") } else { text("DestinationIp") },
        port: match port.as_str() {
            "" => None,
            port => Some(port.parse().map_err(|_| format!("`{port}` is no port"))?),
        },
        action: text("Action"),
        action_reason: text("ActionReason"),
        policy: text("Policy"),
        group: text("RuleCollectionGroup"),
        collection: text("RuleCollection"),
        rule: text("Rule"),
    };
    columns.read()
}

impl Columns {
    /// What they say in our words.
    pub(super) fn read(self) -> Result<Read, String> {
        printable("Rule", &self.rule)?;
        let protocol = self.protocol.to_ascii_uppercase();
        let host = match self.host.as_str() {
            "" => None,
            host => Some(host_of(host)?),
        };
        let name = host.as_ref().and_then(Host::name).cloned();
        let (entry, seen) = match protocol.as_str() {
            "HTTP" => (Entry::Http, Seen::Http),
            "HTTPS" => (Entry::Tls, Seen::Hello { sni: name, ech: false }),
            "MSSQL" | "TCP" => (Entry::Connect, Seen::Nothing),
            "" => return Err("it has no protocol".to_owned()),
            _ => return Ok(Read::LeftOut),
        };
        let allowed = match self.action.to_ascii_lowercase().as_str() {
            "allow" | "alert" => true,
            "deny" => false,
            "" => return Err("it has no action".to_owned()),
            other => return Err(format!("`{other}` is no action")),
        };
        let said = |text: &str| {
            let plain = |text: &str| text.trim().trim_end_matches('.').to_ascii_lowercase();
            plain(text)
        };
        let reported = self.action_reason.strip_prefix(REPORTED);
        let words = said(reported.unwrap_or(&self.action_reason));
        let by_rule = !self.rule.is_empty() || !self.collection.is_empty();
        let denied_for = if words == said(NO_RULE) || words == "default action" {
            Some(Reason::NoRule)
        } else if words == said(NO_SNI) {
            Some(Reason::NoSni)
        } else if let Some(reason) = words.split_once(": ").and_then(|(code, _)| reason(code)) {
            Some(reason)
        } else if by_rule {
            Some(Reason::DenyRule)
        } else if words.is_empty() {
            Some(Reason::NoRule)
        } else {
            None
        };
        Ok(Read::Event(Event::Decision(Box::new(Decided {
            at: self.at,
            teller: Teller::Columns,
            entry,
            source: self.source.ok_or("it has no source")?.to_canonical(),
            workload: None,
            own_port: false,
            host,
            port: self.port.and_then(Port::new),
            seen,
            address: None,
            refused: Vec::new(),
            allowed,
            reason: match (allowed, reported) {
                (true, Some(_)) => Some(Reason::Report),
                (true, None) => Some(Reason::Rule),
                (false, _) => denied_for,
            },
            would_deny: denied_for.filter(|_| allowed && reported.is_some()),
            rule: Some(self.rule).filter(|rule| !rule.is_empty()).map(Into::into),
            rule_at: None,
        }))))
    }
}

/// Our own record. The keys are those of `config/record.schema.json`.
#[derive(Deserialize)]
struct Record {
    time: String,
    action: String,
    reason: String,
    would_deny: Option<String>,
    entry: String,
    source: IpAddr,
    workload: Option<String>,
    #[serde(default)]
    own_port: bool,
    host: Option<String>,
    port: Option<u16>,
    seen: Option<String>,
    sni: Option<String>,
    ech: bool,
    rule: Option<String>,
    rule_at: Option<String>,
    address: Option<IpAddr>,
    #[serde(default)]
    refused: Vec<IpAddr>,
}

fn own(object: Map<String, Value>) -> Result<Read, String> {
    let own: Record = serde_json::from_value(Value::Object(object)).map_err(|error| error.to_string())?;
    for (key, said) in [
        ("workload", &own.workload),
        ("rule", &own.rule),
        ("rule_at", &own.rule_at),
    ] {
        printable(key, said.as_deref().unwrap_or_default())?;
    }
    let word = |code: &str| reason(code).ok_or_else(|| format!("`{code}` is no reason of this version"));
    let sni = own.sni.as_deref().map(|sni| HostName::parse(sni.as_bytes()));
    let sni = sni.transpose().map_err(|bad| bad.to_string())?;
    let decided = Decided {
        at: Some(own.time.parse().map_err(|_| format!("`{}` is no time", own.time))?),
        teller: Teller::Proxy,
        entry: match own.entry.as_str() {
            "connect" => Entry::Connect,
            "http" => Entry::Http,
            "tls" => Entry::Tls,
            "tcp" => Entry::Tcp,
            other => return Err(format!("`{other}` is no entry of this version")),
        },
        source: own.source.to_canonical(),
        workload: own.workload.map(Into::into),
        own_port: own.own_port,
        host: own.host.as_deref().map(host_of).transpose()?,
        port: own.port.and_then(Port::new),
        seen: match own.seen.as_deref() {
            None if sni.is_none() => Seen::Nothing,
            None | Some("hello") => Seen::Hello { sni, ech: own.ech },
            Some("http") => Seen::Http,
            Some("other") => Seen::Other,
            Some(other) => return Err(format!("`{other}` is nothing that is seen in this version")),
        },
        address: own.address,
        refused: own.refused,
        allowed: match own.action.as_str() {
            "allow" => true,
            "deny" => false,
            other => return Err(format!("`{other}` is no action")),
        },
        reason: Some(word(&own.reason)?),
        would_deny: own.would_deny.as_deref().map(word).transpose()?,
        rule: own.rule.map(Into::into),
        rule_at: own.rule_at.map(Into::into),
    };
    Ok(Read::Event(Event::Decision(Box::new(decided))))
}

/// A row of `AZFWDnsQuery`.
fn question(name: &str, source: &str, code: &str, at: Option<Timestamp>) -> Result<Read, String> {
    let source: IpAddr = source.parse().map_err(|_| format!("`{source}` is no address"))?;
    let Ok(name) = HostName::parse(name.as_bytes()) else {
        return Ok(Read::LeftOut);
    };
    if super::coredns::is_of_cluster(&name) {
        return Ok(Read::LeftOut);
    }
    let answer = match code {
        "NOERROR" => Answer::Found,
        "NXDOMAIN" => Answer::NoName,
        _ => Answer::Failed,
    };
    Ok(Read::Event(Event::Question(Question {
        at,
        source: source.to_canonical(),
        name,
        answer,
    })))
}

/// The rows of `{"tables": [{"columns": [{"name": ...}], "rows": [[...]]}]}`, as the query API answers.
fn tables_of(tables: &[Value]) -> Result<Vec<Value>, String> {
    let mut all = Vec::new();
    for table in tables {
        let (Some(columns), Some(rows)) = (table["columns"].as_array(), table["rows"].as_array()) else {
            return Err("a table has no `columns` or no `rows`".to_owned());
        };
        for row in rows {
            let Some(values) = row.as_array().filter(|values| values.len() == columns.len()) else {
                return Err("a row has not as many values as its table has columns".to_owned());
            };
            let names = columns
                .iter()
                .map(|column| column["name"].as_str().unwrap_or_default().to_owned());
            all.push(Value::Object(names.zip(values.iter().cloned()).collect()));
        }
    }
    Ok(all)
}

/// No name of a policy holds line ends or marks that steer a terminal; printed, they would say what no record says.
fn printable(key: &str, said: &str) -> Result<(), String> {
    if one_line(said) == said {
        return Ok(());
    }
    Err(format!("`{key}` holds a line end or another control character"))
}

fn host_of(text: &str) -> Result<Host, String> {
    // Azure writes IPv6 addresses without brackets.
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Host::Address(address.to_canonical()));
    }
    Host::parse(text.as_bytes()).map_err(|bad| bad.to_string())
}

fn reason(code: &str) -> Option<Reason> {
    Reason::ALL.iter().copied().find(|reason| reason.as_str() == code)
}

/// A value as text: `az` prints numbers as texts, the API as numbers.
fn text(row: &Map<String, Value>, key: &str) -> Option<String> {
    match row.get(key)? {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// When it happened. A row without any time is one; a time that cannot be read is an error.
fn time(row: &Map<String, Value>) -> Result<Option<Timestamp>, String> {
    let Some(written) = ["TimeGenerated", "time"].iter().find_map(|key| text(row, key)) else {
        return Ok(None);
    };
    if let Ok(at) = written.parse() {
        return Ok(Some(at));
    }
    // As the portal exports it.
    let portal = DateTime::strptime("%m/%d/%Y, %I:%M:%S%.f %p", &written);
    let at = portal.ok().and_then(|time| TimeZone::UTC.to_timestamp(time).ok());
    at.map(Some).ok_or_else(|| format!("`{written}` is no time"))
}

/// Tables of a firewall that tell nothing of allow rules.
const OTHERS: &[&str] = &[
    "AZFWNatRule",
    "AZFWNatRuleAggregation",
    "AZFWThreatIntel",
    "AZFWIdpsSignature",
    "AZFWFatFlow",
    "AZFWFlowTrace",
    "AZFWInternalFqdnResolutionFailure",
];

/// A row in a few words.
#[cfg(test)]
pub(super) fn shown(read: &Read) -> String {
    let decided = match read {
        Read::Event(Event::Decision(decided)) => decided,
        Read::Event(Event::Question(asked)) => {
            return format!("{} asks {} {:?}", asked.source, asked.name, asked.answer);
        }
        Read::LeftOut => return "left out".to_owned(),
        Read::Text(text, _) => return format!("text {text}"),
        Read::Rows(rows) => return format!("{} rows", rows.len()),
    };
    let to = match (&decided.host, decided.port) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        _ => "?".to_owned(),
    };
    let seen = match &decided.seen {
        Seen::Nothing => "nothing".to_owned(),
        Seen::Http => "http".to_owned(),
        Seen::Other => "other".to_owned(),
        Seen::Hello { sni, .. } => format!("sni {}", sni.as_ref().map_or("none", HostName::as_str)),
    };
    let action = if decided.allowed { "allow" } else { "deny" };
    let reason = decided.reason.map_or("?".to_owned(), |reason| format!("{reason:?}"));
    let would = decided
        .would_deny
        .map_or(String::new(), |reason| format!(" would {reason:?}"));
    let rule = decided.rule.as_deref().map_or(String::new(), |rule| format!(" {rule}"));
    format!(
        "{} {:?} {to} {seen} {action} {reason}{would}{rule}",
        decided.source, decided.entry
    )
}
