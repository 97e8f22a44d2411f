//! Alerts and dashboard name only metrics, labels and label values that the program has.
//! Must not trust a second list of them: it reads the golden file of the metrics, which the program is held to.
//! Called by every test run; `promtool` takes the expressions from here.

use std::collections::BTreeSet;
use std::fs;

use serde::Deserialize;
use serde_json::Value;

use super::promql::{self, Series};
use super::{root, text};

/// A file of rules, as Prometheus reads it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "interval")]
    _interval: String,
    rules: Vec<Alert>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Alert {
    #[serde(rename = "alert")]
    name: String,
    expr: String,
    #[serde(rename = "for", default)]
    _wait: String,
    labels: Value,
    annotations: Value,
}

#[test]
fn alerts_name_only_what_there_is() {
    let table = Table::read();
    let cases = fs::read_to_string(root().join("tests/alerts.yaml")).unwrap();
    for alert in rules().groups.into_iter().flat_map(|group| group.rules) {
        let known = table.check(&alert.expr);
        for annotation in ["summary", "description"] {
            let said = text(&alert.annotations[annotation]);
            assert!(!said.is_empty(), "{} has no {annotation}", alert.name);
            for label in said.split("$labels.").skip(1) {
                let label = label.split([' ', '}']).next().unwrap();
                assert!(known.contains(label), "{}: $labels.{label}", alert.name);
            }
        }
        let severity = text(&alert.labels["severity"]);
        assert!(["critical", "warning"].contains(&severity), "{}", alert.name);
        assert!(
            cases.contains(&format!("\"{}\"", alert.name)) || cases.contains(&format!("{}\n", alert.name)),
            "no case in tests/alerts.yaml fires {}",
            alert.name
        );
    }
}

#[test]
fn panels_name_only_what_there_is() {
    let table = Table::read();
    let dashboard = dashboard();
    let variables: Vec<_> = dashboard["templating"]["list"].as_array().unwrap().iter().collect();
    for variable in variables.iter().filter(|variable| text(&variable["type"]) == "query") {
        let query = text(&variable["definition"]);
        assert_eq!(query, text(&variable["query"]["query"]));
        let inner = query
            .strip_prefix("label_values(")
            .and_then(|rest| rest.strip_suffix(')'));
        let (selector, label) = inner.unwrap().rsplit_once(", ").unwrap();
        assert_eq!(label, text(&variable["name"]));
        assert!(table.check(&plain(selector)).contains(label), "{query}");
    }
    let mut ids = BTreeSet::new();
    let mut panels = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(
            ids.insert(panel["id"].as_u64().unwrap()),
            "two panels of one id: {panel}"
        );
        for target in panel["targets"].as_array().into_iter().flatten() {
            panels += 1;
            assert_eq!(text(&panel["datasource"]["uid"]), "${datasource}", "{panel}");
            assert_eq!(text(&target["datasource"]["uid"]), "${datasource}", "{panel}");
            let expression = text(&target["expr"]);
            let known = table.check(&plain(expression));
            for label in text(&target["legendFormat"]).split("{{").skip(1) {
                let label = label.split("}}").next().unwrap();
                assert!(known.contains(label), "{label} in the legend of {expression}");
            }
            for variable in expression.split('$').skip(1) {
                let name = variable.split(['"', ']']).next().unwrap();
                let declared = variables.iter().any(|variable| text(&variable["name"]) == name);
                assert!(declared || name == "__rate_interval", "${name} in {expression}");
            }
        }
    }
    assert!(panels > 20, "{panels}");
    // Each metric of ours that one can look at is there to be looked at.
    let shown = dashboard.to_string();
    for (name, _) in &table.0 {
        assert!(
            shown.contains(name.as_str()) || name == "process_start_time_seconds",
            "no panel shows {name}"
        );
    }
}

#[test]
fn what_does_not_exist_is_found() {
    let table = Table::read();
    for wrong in [
        "sluicegate_policy_loads_failed == 1",
        r#"sluicegate_mode{kind="report"}"#,
        r#"sluicegate_mode{mode="reporting"}"#,
        "sum by (host) (sluicegate_open_tunnels)",
        "sluicegate_connect_seconds",
        "sluicegate_policy_generation_bucket",
        r#"sluicegate_policy_generation{le="1"}"#,
    ] {
        assert!(std::panic::catch_unwind(|| table.check(wrong)).is_err(), "{wrong}");
    }
}

/// The rules inside the object.
pub fn rules() -> Rules {
    let file = fs::read_to_string(root().join("deploy/monitoring/prometheusrule.yaml")).unwrap();
    let object: Value = serde_saphyr::from_str(&file).unwrap();
    Rules::deserialize(&object["spec"]).unwrap()
}

/// The expressions of all panels, without Grafana's variables.
pub fn panel_expressions() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets.map(|target| plain(text(&target["expr"]))).collect()
}

fn dashboard() -> Value {
    let file = fs::read_to_string(root().join("deploy/monitoring/dashboard.json")).unwrap();
    serde_json::from_str(&file).unwrap()
}

fn plain(expression: &str) -> String {
    expression.replace("$__rate_interval", "5m").replace('$', "")
}

/// The metrics: name with kind, labels, help.
struct Table(Vec<(String, Metric)>);

struct Metric {
    kind: String,
    labels: Vec<String>,
    help: String,
}

impl Table {
    fn read() -> Self {
        let file = fs::read_to_string(root().join("tests/golden/metrics.txt")).unwrap();
        let lines: Vec<_> = file.lines().collect();
        let metrics = lines.chunks(2).map(|pair| {
            let [head, help] = pair else { panic!("{pair:?}") };
            let (name, rest) = head.split_once(' ').unwrap();
            let (kind, labels) = rest.split_once(" {").unwrap();
            let labels = labels.trim_end_matches('}').split(", ");
            let metric = Metric {
                kind: kind.to_owned(),
                labels: labels.filter(|label| !label.is_empty()).map(str::to_owned).collect(),
                help: (*help).to_owned(),
            };
            (name.to_owned(), metric)
        });
        Self(metrics.collect())
    }

    /// All labels that the result may carry. Panics at what does not exist.
    fn check(&self, expression: &str) -> BTreeSet<String> {
        let named = promql::read(expression);
        let mut known: BTreeSet<String> = TARGET.iter().map(|label| (*label).to_owned()).collect();
        known.extend(named.made.iter().cloned());
        for series in &named.series {
            let labels = self.labels(series, expression);
            for (label, operator, value) in &series.matchers {
                assert!(
                    labels.contains(label) || TARGET.contains(&label.as_str()),
                    "no label {label}: {expression}"
                );
                let is_word = matches!(operator.as_str(), "=" | "!=") && labels.contains(label);
                assert!(
                    !is_word || self.has_value(series, value),
                    "{label} is never {value}: {expression}"
                );
            }
            known.extend(labels);
        }
        for label in &named.groups {
            assert!(known.contains(label), "nothing has the label {label}: {expression}");
        }
        known
    }

    fn labels(&self, series: &Series, expression: &str) -> Vec<String> {
        if series.name == "up" {
            return Vec::new();
        }
        let (base, extra) = match series.name.rsplit_once('_') {
            Some((base, "bucket")) => (base, vec!["le".to_owned()]),
            Some((base, "sum" | "count")) => (base, Vec::new()),
            _ => (series.name.as_str(), Vec::new()),
        };
        let found = self.0.iter().find(|(name, metric)| {
            let is_histogram = metric.kind == "histogram";
            name == base && is_histogram == (base != series.name)
        });
        let (_, metric) = found.unwrap_or_else(|| panic!("no metric {}: {expression}", series.name));
        metric.labels.iter().cloned().chain(extra).collect()
    }

    /// Closed sets of values stand in the help; reasons stand in the README, which is held to them.
    fn has_value(&self, series: &Series, value: &str) -> bool {
        let help = self.0.iter().filter(|(name, _)| series.name.starts_with(name.as_str()));
        let words = |help: &str| -> bool { help.split([' ', ',', '(', ')', ';', ':']).any(|word| word == value) };
        let readme = fs::read_to_string(root().join("README.md")).unwrap();
        help.map(|(_, metric)| &metric.help).any(|help| words(help)) || readme.contains(&format!("\n| `{value}` |"))
    }
}

/// Labels of the target, which the scraper adds.
const TARGET: &[&str] = &["cluster", "namespace", "pod"];
