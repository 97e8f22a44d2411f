//! Holds README.md to what the program does: its tables, its policies, its patterns.
//! Must not be part of the program; it is a test.
//! Called by the test runner.

use jiff::Timestamp;
use serde_json::Value;

use crate::azure::report::{Kind, Weight};
use crate::name::{Host, HostName, Port};
use crate::policy::problem::lint::{Bearer, Lint};
use crate::policy::{Ask, Generation, Policy, Reason, Source, SourceText, enforce, load};

#[test]
fn every_reason_has_its_row() {
    for reason in Reason::ALL {
        let status = match reason.status() {
            200 => String::new(),
            status => status.to_string(),
        };
        let row = format!("| `{}` | {status} | {} |", reason.as_str(), reason.doc());
        assert!(README.lines().any(|line| line == row), "no row\n{row}");
    }
    let rows = section("Reasons")
        .lines()
        .filter(|line| line.starts_with("| `"))
        .count();
    assert_eq!(rows, Reason::ALL.len(), "a row without a reason");
}

#[test]
fn every_lint_has_its_row() {
    let mut parts = section("Commands").split("\n### ");
    let lints = parts.find(|part| part.starts_with("Lints\n")).expect("the section");
    let rows = lints.lines().filter(|line| line.starts_with("| `"));
    let expected = Lint::ALL.into_iter().map(|lint| {
        let bearer = match lint.bearer() {
            Some(Bearer::Rule) => "rule",
            Some(Bearer::Workload) => "workload",
            Some(Bearer::File) => "file",
            None => "",
        };
        format!("| `{lint}` | {bearer} | {} |", lint.doc())
    });
    assert_eq!(rows.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

#[test]
fn every_kind_of_finding_has_its_row() {
    for kind in Kind::ALL {
        let weight = match kind.weight() {
            Weight::Never => "error",
            Weight::Ask => "accept",
            Weight::Warning => "warning",
            Weight::Note => "note",
        };
        let row = format!("| `{}` | {weight} | {} |", kind.as_str(), kind.doc());
        assert!(
            section("Azure Firewall").lines().any(|line| line == row),
            "no row\n{row}"
        );
    }
    let rows = section("Azure Firewall").lines().filter(|line| line.starts_with("| `"));
    assert_eq!(rows.count(), Kind::ALL.len(), "a row without a kind");
}

#[test]
fn every_metric_is_named() {
    let metrics = include_str!("../../tests/golden/metrics.txt");
    let names = metrics.lines().filter(|line| !line.starts_with(' '));
    for name in names.filter_map(|line| line.split(' ').next()) {
        assert!(section("Records").contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn every_record_field_is_named() {
    let schema: Value = serde_json::from_str(include_str!("../../config/record.schema.json")).unwrap();
    for kind in ["decision", "tunnel"] {
        for field in schema["$defs"][kind]["properties"].as_object().unwrap().keys() {
            assert!(section("Records").contains(&format!("`{field}`")), "{field}");
        }
    }
    for end in schema["$defs"]["tunnel"]["properties"]["end"]["enum"]
        .as_array()
        .unwrap()
    {
        assert!(
            section("Records").contains(&format!("`{}`", end.as_str().unwrap())),
            "{end}"
        );
    }
}

#[test]
fn every_setting_is_named_with_its_built_in_value() {
    let settings: Value = serde_saphyr::from_str(include_str!("../../config/sluicegate.yaml")).unwrap();
    for (section_name, keys) in settings.as_object().unwrap() {
        let Some(keys) = keys.as_object() else {
            assert!(
                section("Settings").contains(&format!("| `{section_name}` |")),
                "{section_name}"
            );
            continue;
        };
        for (key, value) in keys {
            let path = format!("`{section_name}.{key}`");
            let row = section("Settings")
                .lines()
                .find(|line| line.starts_with('|') && line.contains(&path));
            let row = row.unwrap_or_else(|| panic!("{path} is not in the table"));
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert!(row.contains(&format!("`{value}`")), "{path} is {value}: {row}");
        }
    }
}

#[test]
fn every_policy_in_it_is_valid() {
    let policies: Vec<_> = README
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(!policies.is_empty());
    for policy in policies {
        loaded(policy).unwrap_or_else(|problems| panic!("{policy}\n{problems}"));
    }
}

#[test]
fn the_wildcards_match_what_the_table_says() {
    let tables = section("Policy").split("| Refused |");
    let [good, refused] = tables.collect::<Vec<_>>().try_into().expect("two tables of patterns");
    let (_, good) = good.split_once("| Pattern |").unwrap();
    let mut rows = 0;
    for cells in rows_of(good) {
        let [pattern, matches, others] = cells.try_into().expect("three columns");
        let policy = loaded(&format!("allow: [\"{}\"]", names(&pattern)[0])).unwrap();
        assert!(
            names(&matches).iter().all(|name| allows(&policy, name)),
            "{pattern}: {matches}"
        );
        assert!(
            !names(&others).iter().any(|name| allows(&policy, name)),
            "{pattern}: {others}"
        );
        rows += 1;
    }
    for cells in rows_of(refused) {
        for pattern in names(&cells[0]) {
            assert!(
                loaded(&format!("allow: [\"{pattern}\"]")).is_err(),
                "{pattern} is accepted"
            );
            rows += 1;
        }
    }
    assert!(rows > 10);
}

fn loaded(text: &str) -> Result<Policy, String> {
    let texts = [SourceText {
        name: "README.md".into(),
        text: text.into(),
    }];
    match load(&texts, Timestamp::now(), Generation(1), None) {
        Ok(loaded) if loaded.warnings.is_empty() => Ok(loaded.policy),
        Ok(loaded) => Err(crate::policy::render(&loaded.warnings, &texts, false)),
        Err(problems) => Err(crate::policy::render(&problems, &texts, false)),
    }
}

fn allows(policy: &Policy, name: &str) -> bool {
    let host = Host::Name(HostName::parse(name.as_bytes()).unwrap());
    let source = Source::at([192, 0, 2, 1].into());
    enforce(policy, Timestamp::now(), &source, &Ask::new(host, Port::HTTPS)).is_allowed()
}

/// The text below a heading that begins so.
fn section(heading: &str) -> &'static str {
    let start = README.find(&format!("\n## {heading}")).expect("the section") + 1;
    let rest = &README[start..];
    rest.find("\n## ").map_or(rest, |end| &rest[..end])
}

/// The cells of the rows of a table up to the end of it, without its head.
fn rows_of(table: &str) -> impl Iterator<Item = Vec<String>> {
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        row.trim_matches('|')
            .split(" | ")
            .map(|cell| cell.trim().to_owned())
            .collect()
    })
}

/// What stands in backticks.
fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

const README: &str = include_str!("../../README.md");
