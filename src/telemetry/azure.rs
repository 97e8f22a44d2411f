//! Decision records as rows of Azure Firewall's tables, so that production's queries run on them.
//! Must not hold anything of a record for which there is no column; `log.format: json` holds it all.
//! Called by the record writer.

use std::net::IpAddr;

use super::json;
use super::record::{DecisionRecord, Entry, Shown};
use crate::azure::columns::{
    APPLICATION, Action, ApplicationRule, DecidedBy, NETWORK, NetworkRule, Protocol, Row, action_reason,
};
use crate::name::{Host, Port};
use crate::policy::Reason;
use crate::policy::rule::CollectionKind;

/// Appends one line.
pub(super) fn decision(record: &DecisionRecord, out: &mut Vec<u8>) {
    json::append(&row(record), out);
    out.push(b'\n');
}

fn row(record: &DecisionRecord) -> Row<'_> {
    let time_generated = json::moment(record.at);
    let source_ip = record.source.ip().to_canonical().to_string();
    let source_port = record.source.port();
    let destination_port = record.port.map(Port::number);
    let action = if record.allowed { Action::Allow } else { Action::Deny };
    let action_reason = action_reason(record.reason, record.would_deny);
    let rule = decided_by(record);
    if let Some(address) = network_address(record) {
        return Row::Network(NetworkRule {
            time_generated,
            category: NETWORK,
            protocol: Protocol::Tcp,
            source_ip,
            source_port,
            destination_ip: address.to_string(),
            destination_port,
            action,
            action_reason,
            rule,
        });
    }
    Row::Application(ApplicationRule {
        time_generated,
        category: APPLICATION,
        protocol: protocol(record),
        source_ip,
        source_port,
        destination_port,
        fqdn: record.host.as_ref().map(Host::to_string).unwrap_or_default(),
        target_url: target_url(record),
        action,
        action_reason,
        rule,
        is_tls_inspected: false,
        web_category: "",
    })
}

/// The address of what the firewall would judge by its network rules: a literal one, or the one behind a name that a
/// network collection decided on.
fn network_address(record: &DecisionRecord) -> Option<IpAddr> {
    match record.host {
        Some(Host::Address(address)) => Some(address),
        Some(Host::Name(_)) => {
            let collection = record.collection.as_deref().filter(|_| is_decided(record));
            collection
                .filter(|collection| collection.kind == CollectionKind::Network)
                .and(record.address)
        }
        None => None,
    }
}

fn protocol(record: &DecisionRecord) -> Protocol {
    let port = record.port.map(Port::number);
    match (record.entry, record.seen) {
        (Entry::Http, _) | (_, Some(Shown::Http)) => Protocol::Http,
        (Entry::Tls, _) | (_, Some(Shown::Hello)) => Protocol::Https,
        (_, Some(Shown::Other)) | (Entry::Tcp, None) => Protocol::opaque(port),
        // Nobody looks into what a `tcp` rule allows.
        (Entry::Connect, None) if record.allowed => Protocol::opaque(port),
        (Entry::Connect, None) if record.port == Some(Port::HTTP) => Protocol::Http,
        (Entry::Connect, None) => Protocol::Https,
    }
}

/// As the firewall writes it: without the scheme.
fn target_url(record: &DecisionRecord) -> String {
    let (Entry::Http, Some(host), Some(path)) = (record.entry, &record.host, &record.path) else {
        return String::new();
    };
    let path = if path.starts_with('/') { path } else { "/" };
    match record.port.filter(|port| *port != Port::HTTP) {
        Some(port) => format!("{host}:{port}{path}"),
        None => format!("{host}{path}"),
    }
}

/// The other rules that a record names only came nearest, as in `Default Action` of the firewall.
fn decided_by(record: &DecisionRecord) -> DecidedBy<'_> {
    let Some(rule) = record.rule.as_deref().filter(|_| is_decided(record)) else {
        return DecidedBy::default();
    };
    let collection = record.collection.as_deref();
    let plain = if record.allowed { "allow" } else { "deny" };
    DecidedBy {
        policy: record.rule_at.as_ref().map_or("", |at| &at.file),
        rule_collection_group: collection.and_then(|it| it.group.as_deref()).unwrap_or_default(),
        rule_collection: collection.map_or(plain, |it| &it.name),
        rule,
    }
}

/// Whether the rule that a record names decided.
fn is_decided(record: &DecisionRecord) -> bool {
    record.would_deny.is_none() && (record.allowed || record.reason == Reason::DenyRule)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use std::sync::Arc;

    use super::*;
    use crate::policy::rule::CollectionRef;
    use crate::telemetry::samples;

    #[test]
    fn an_allowed_connect_as_documented() {
        let mut out = Vec::new();
        decision(&samples::allowed(1), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"TimeGenerated":"2026-03-01T12:00:01.250Z","Category":"AZFWApplicationRule","Protocol":"HTTPS","#,
                r#""SourceIp":"10.1.2.3","SourcePort":5555,"DestinationPort":443,"Fqdn":"api.example.com","#,
                r#""TargetUrl":"","Action":"Allow","ActionReason":"","Policy":"policy.yaml","RuleCollectionGroup":"","#,
                r#""RuleCollection":"allow","Rule":"payments","IsTlsInspected":false,"WebCategory":""}"#,
                "\n"
            )
        );
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one row for each kind")]
    fn every_kind_of_record_has_its_columns() {
        let denied = || samples::denied(1);
        let allowed = || samples::allowed(1);
        let http = || DecisionRecord {
            entry: Entry::Http,
            seen: Some(Shown::Http),
            port: Some(Port::HTTP),
            method: Some("GET".to_owned()),
            path: Some("/crl".to_owned()),
            ..denied()
        };
        let opaque = |port| DecisionRecord {
            seen: None,
            port: Some(port),
            ..allowed()
        };
        let address = DecisionRecord {
            host: Some(Host::Address([203, 0, 113, 7].into())),
            reason: Reason::IpLiteral,
            ..denied()
        };
        let deny_rule = DecisionRecord {
            reason: Reason::DenyRule,
            rule: Some("bad".into()),
            rule_at: Some(samples::at("C:\\p.yaml", 3)),
            ..denied()
        };
        let nearest = DecisionRecord {
            reason: Reason::Port,
            rule: Some("near".into()),
            ..denied()
        };
        let reported = DecisionRecord {
            reason: Reason::Report,
            would_deny: Some(Reason::NoRule),
            ..allowed()
        };
        let unread = DecisionRecord {
            host: None,
            port: None,
            entry: Entry::Tls,
            reason: Reason::NoSni,
            ..denied()
        };
        let no_rule = "No rule matched. Proceeding with default action";
        for (record, expected) in [
            (
                denied(),
                json!({"Protocol": "HTTPS", "Action": "Deny", "ActionReason": no_rule, "Rule": "", "Policy": ""}),
            ),
            (
                http(),
                json!({"Protocol": "HTTP", "TargetUrl": "api.example.com/crl", "DestinationPort": 80}),
            ),
            (
                DecisionRecord {
                    port: Some(Port::HTTPS),
                    ..http()
                },
                json!({"Protocol": "HTTP", "TargetUrl": "api.example.com:443/crl"}),
            ),
            (opaque(Port::HTTPS), json!({"Protocol": "TCP", "Action": "Allow"})),
            (opaque(Port::new(1433).unwrap()), json!({"Protocol": "MSSQL"})),
            (
                address,
                json!({"Category": "AZFWNetworkRule", "DestinationIp": "203.0.113.7", "Protocol": "TCP", "ActionReason": no_rule}),
            ),
            (
                deny_rule,
                json!({"Policy": "C:\\p.yaml", "RuleCollection": "deny", "Rule": "bad", "ActionReason": ""}),
            ),
            (
                DecisionRecord {
                    collection: Some(samples::collection()),
                    ..allowed()
                },
                json!({"RuleCollectionGroup": "BaseRCG2", "RuleCollection": "AppRC2", "Rule": "payments"}),
            ),
            (
                DecisionRecord {
                    collection: Some(Arc::new(CollectionRef {
                        kind: CollectionKind::Network,
                        ..samples::collection().as_ref().clone()
                    })),
                    ..allowed()
                },
                json!({"Category": "AZFWNetworkRule", "DestinationIp": "203.0.113.7", "RuleCollection": "AppRC2"}),
            ),
            (
                nearest,
                json!({"Rule": "", "RuleCollection": "", "ActionReason": no_rule}),
            ),
            (
                reported,
                json!({"Action": "Allow", "ActionReason": format!("Report only: {no_rule}"), "Rule": ""}),
            ),
            (
                unread,
                json!({"Fqdn": "", "DestinationPort": null, "ActionReason": "SNI TLS extension was missing."}),
            ),
        ] {
            let written = serde_json::to_value(row(&record)).unwrap();
            holds(&written);
            for (column, value) in expected.as_object().unwrap() {
                assert_eq!(&written[column], value, "{column} of {written:#}");
            }
        }
    }

    #[test]
    fn the_schema_knows_every_column_and_no_other() {
        let mut written = serde_json::to_value(row(&samples::denied(1))).unwrap();
        holds(&written);
        written["Workload"] = "trips".into();
        assert!(!validator().is_valid(&written));
        written.as_object_mut().unwrap().remove("Workload");
        written.as_object_mut().unwrap().remove("Fqdn");
        assert!(!validator().is_valid(&written));
    }

    fn holds(written: &Value) {
        let validator = validator();
        let errors: Vec<_> = validator.iter_errors(written).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}\n{written:#}");
    }

    fn validator() -> jsonschema::Validator {
        let schema: Value = serde_json::from_str(include_str!("../../config/record-azure.schema.json")).unwrap();
        jsonschema::meta::validate(&schema).expect("a valid schema of the draft it names");
        jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap()
    }
}
