//! The columns of Azure Firewall's log tables `AZFWApplicationRule` and `AZFWNetworkRule`, as one row per decision.
//! Must not add columns or leave any out: a query written for production's tables must run on these rows.
//! Called by the record writer for `log.format: azure`, and by the readers of logs.

use serde::Serialize;

use crate::policy::Reason;

/// One row of one of the tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Row<'a> {
    Application(ApplicationRule<'a>),
    Network(NetworkRule<'a>),
}

/// `AZFWApplicationRule`: requests for names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ApplicationRule<'a> {
    /// RFC 3339, UTC.
    pub time_generated: String,
    /// [`APPLICATION`]. Azure's tables do not have it: there a table is a category, here both share one.
    pub category: &'static str,
    pub protocol: Protocol,
    pub source_ip: String,
    pub source_port: u16,
    /// Empty where the request could not be read so far.
    pub destination_port: Option<u16>,
    pub fqdn: String,
    /// Plain HTTP only: host and path, never the query.
    pub target_url: String,
    pub action: Action,
    pub action_reason: String,
    #[serde(flatten)]
    pub rule: DecidedBy<'a>,
    /// Nothing ever is.
    pub is_tls_inspected: bool,
    /// There are none.
    pub web_category: &'static str,
}

/// `AZFWNetworkRule`: connections to addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkRule<'a> {
    /// RFC 3339, UTC.
    pub time_generated: String,
    /// [`NETWORK`].
    pub category: &'static str,
    pub protocol: Protocol,
    pub source_ip: String,
    pub source_port: u16,
    pub destination_ip: String,
    pub destination_port: Option<u16>,
    pub action: Action,
    pub action_reason: String,
    #[serde(flatten)]
    pub rule: DecidedBy<'a>,
}

/// The rule that decided; all empty where none did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DecidedBy<'a> {
    pub policy: &'a str,
    pub rule_collection_group: &'a str,
    pub rule_collection: &'a str,
    pub rule: &'a str,
}

/// What was spoken, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Protocol {
    #[serde(rename = "HTTP")]
    Http,
    #[serde(rename = "HTTPS")]
    Https,
    /// Bytes that nobody looked at, to the port of SQL Server.
    #[serde(rename = "MSSQL")]
    Mssql,
    #[serde(rename = "TCP")]
    Tcp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Action {
    Allow,
    Deny,
}

impl Protocol {
    /// Of a connection that nobody looked into.
    pub const fn opaque(port: Option<u16>) -> Self {
        match port {
            Some(MSSQL) => Self::Mssql,
            _ => Self::Tcp,
        }
    }
}

/// What the column `ActionReason` says: the firewall's own words where it has some, else our reason and its meaning.
/// Empty where a rule decided.
pub fn action_reason(reason: Reason, would_deny: Option<Reason>) -> String {
    let words = match would_deny.unwrap_or(reason) {
        Reason::Rule => String::new(),
        Reason::DenyRule if would_deny.is_none() => String::new(),
        Reason::NoRule | Reason::NoRuleForSource | Reason::Port | Reason::IpLiteral => NO_RULE.to_owned(),
        Reason::NoSni => NO_SNI.to_owned(),
        other => format!("{}: {}", other.as_str(), other.doc()),
    };
    match would_deny {
        Some(_) => format!("{REPORTED}{words}"),
        None => words,
    }
}

/// The `Category` of Azure's diagnostic settings for the two tables.
pub const APPLICATION: &str = "AZFWApplicationRule";
pub const NETWORK: &str = "AZFWNetworkRule";
/// No rule matched (azure-firewall log records; the documentation says `Default Action`).
pub const NO_RULE: &str = "No rule matched. Proceeding with default action";
pub const NO_SNI: &str = "SNI TLS extension was missing.";
/// Before the reason of what only reporting let through.
pub const REPORTED: &str = "Report only: ";
const MSSQL: u16 = 1433;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Own columns and types of the two tables, from Microsoft's table reference.
    const REFERENCE: &str = "
        AZFWApplicationRule: Action string, ActionReason string, DestinationPort int, Fqdn string, IsTlsInspected bool,
          Policy string, Protocol string, Rule string, RuleCollection string, RuleCollectionGroup string,
          SourceIp string, SourcePort int, TargetUrl string, TimeGenerated datetime, WebCategory string
        AZFWNetworkRule: Action string, ActionReason string, DestinationIp string, DestinationPort int, Policy string,
          Protocol string, Rule string, RuleCollection string, RuleCollectionGroup string, SourceIp string,
          SourcePort int, TimeGenerated datetime
    ";

    #[test]
    fn rows_have_the_columns_of_the_tables_with_their_types() {
        let tables: Vec<_> = REFERENCE.trim().split("AZFW").skip(1).collect();
        for (row, table) in [application(), network()].into_iter().zip(tables) {
            let (name, columns) = table.split_once(':').unwrap();
            let row = serde_json::to_value(row).unwrap();
            let mut written: Vec<_> = row.as_object().unwrap().iter().collect();
            let category = written.iter().position(|(column, _)| *column == "Category").unwrap();
            assert_eq!(written.remove(category).1, &json!(format!("AZFW{name}")));
            written.sort_by_key(|(column, _)| *column);
            let written: Vec<_> = written
                .into_iter()
                .map(|(column, value)| format!("{column} {}", kind(value)))
                .collect();
            let columns: Vec<_> = columns.split(',').map(str::trim).collect();
            assert_eq!(written, columns, "{name}");
        }
    }

    #[test]
    fn reasons_are_worded_as_the_firewall_words_them() {
        for (reason, would_deny, words) in [
            (Reason::Rule, None, ""),
            (Reason::DenyRule, None, ""),
            (Reason::NoRule, None, "No rule matched. Proceeding with default action"),
            (Reason::Port, None, "No rule matched. Proceeding with default action"),
            (Reason::NoSni, None, "SNI TLS extension was missing."),
            (Reason::Dns, None, "dns: the name could not be resolved"),
            (
                Reason::Report,
                Some(Reason::NoRule),
                "Report only: No rule matched. Proceeding with default action",
            ),
            (
                Reason::Report,
                Some(Reason::DenyRule),
                "Report only: deny_rule: a deny rule names this host or address",
            ),
        ] {
            assert_eq!(action_reason(reason, would_deny), words);
        }
    }

    fn kind(value: &Value) -> &'static str {
        match value {
            Value::String(text) if text.parse::<jiff::Timestamp>().is_ok() => "datetime",
            Value::String(_) => "string",
            Value::Number(_) => "int",
            Value::Bool(_) => "bool",
            _ => "nothing",
        }
    }

    fn application() -> Row<'static> {
        Row::Application(ApplicationRule {
            time_generated: "2026-03-01T12:00:01.250Z".to_owned(),
            category: APPLICATION,
            protocol: Protocol::Http,
            source_ip: "10.1.2.3".to_owned(),
            source_port: 5555,
            destination_port: Some(80),
            fqdn: "ocsp.example.com".to_owned(),
            target_url: "ocsp.example.com/a".to_owned(),
            action: Action::Deny,
            action_reason: NO_RULE.to_owned(),
            rule: DecidedBy::default(),
            is_tls_inspected: false,
            web_category: "",
        })
    }

    fn network() -> Row<'static> {
        Row::Network(NetworkRule {
            time_generated: "2026-03-01T12:00:01.250Z".to_owned(),
            category: NETWORK,
            protocol: Protocol::Tcp,
            source_ip: "10.1.2.3".to_owned(),
            source_port: 5555,
            destination_ip: "203.0.113.7".to_owned(),
            destination_port: Some(443),
            action: Action::Allow,
            action_reason: String::new(),
            rule: DecidedBy {
                policy: "policy.yaml",
                rule: "smtp",
                ..DecidedBy::default()
            },
        })
    }
}
