//! Rule files as people publish them, each with the policy and the report that come of it beside it.
//! Must not be part of the program; it is a test. `UPDATE_CORPUS=1` writes what comes out, for a person to read.
//! Called by the test runner.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::*;
use crate::policy::golden::compare;
use crate::policy::render;

/// A case is a folder. Its files are given by name: `parent*.json`, `ip-groups*.json`, `service-tags.json`,
/// `policy.yaml`, all others as rules; `args` holds `--sources` and `--accept`. `expected.yaml` is the policy, absent
/// where none may be written; `report.txt` is what a person reads.
#[test]
fn every_case_comes_out_as_written_down() {
    let mut differences = String::new();
    let mut counts = [0, 0];
    for kind in ["valid", "invalid"] {
        for folder in cases(kind) {
            let Imported { report, policy } = run(&folder);
            counts[usize::from(policy.is_none())] += 1;
            if policy.is_some() != (kind == "valid") {
                let report = report.render(false);
                differences += &[&folder.display().to_string(), " is not ", kind, ":\n", &report].concat();
                continue;
            }
            assert_eq!(policy.is_none(), report.is_refused(), "{}", folder.display());
            differences += &compare(&folder.join("report.txt"), &report.render(false));
            if let Some(policy) = policy {
                differences += &compare(&folder.join("expected.yaml"), &policy);
            }
        }
    }
    assert!(differences.is_empty(), "{differences}");
    assert!(counts[0] >= 25 && counts[1] >= 60, "{counts:?}");
}

/// The message for a person names every kind that would have to be accepted; once it is, a policy comes out.
#[test]
fn accepting_what_the_report_names_is_enough() {
    let mut tried = 0;
    for folder in cases("invalid") {
        let mut case = Case::read(&folder);
        let Imported { report, .. } = case.import();
        if report.has_errors() {
            continue;
        }
        assert!(!report.to_accept().is_empty(), "{}", folder.display());
        case.options.accept.extend(report.to_accept());
        let Imported { report, policy } = case.import();
        assert!(
            policy.is_some() || report.has_errors(),
            "{}:\n{}",
            folder.display(),
            report.render(false)
        );
        tried += 1;
    }
    assert!(tried > 10, "{tried}");
}

#[test]
fn the_documented_order_is_kept() {
    let case = Case::read(&corpus().join("valid/worked-example"));
    let policy = case.import().policy.unwrap();
    let text = SourceText {
        name: "p.yaml".into(),
        text: policy.into(),
    };
    let document = Document::read(&[text]).unwrap();
    let names: Vec<_> = document
        .in_order()
        .iter()
        .map(|collection| collection.value.name.value.to_string())
        .collect();
    assert_eq!(
        names,
        [
            "NetworkRC1",
            "NetworkRC2",
            "ChNetRC1",
            "ChNetRC2",
            "AppRC2",
            "ChAppRC1",
            "ChAppRC2"
        ]
    );
}

#[test]
fn mappings_are_read() {
    let read = |text: &str| {
        Mapping::parse_list(text).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(read("10.224.0.0/16=nodes").unwrap(), "10.224.0.0/16=nodes");
    assert_eq!(
        read("10.224.0.0/16=nodes,10.1.0.0-10.1.0.9=trips").unwrap(),
        "10.224.0.0/16=nodes 10.1.0.0-10.1.0.9=trips"
    );
    assert_eq!(
        read("10.224.0.0/16=nodes,trips").unwrap(),
        "10.224.0.0/16=nodes 10.224.0.0/16=trips"
    );
    assert_eq!(read("*=nodes").unwrap(), "*=nodes");
    assert_eq!(read("aks-subnets=nodes").unwrap(), "aks-subnets=nodes");
    for text in [
        "",
        "nodes",
        "=nodes",
        "10.224.0.0/16=",
        "10.224.0.1/16=nodes",
        "10.0.0.9-10.0.0.1=nodes",
        "10.0.0.0/33=nodes",
        "a=Nodes",
        "a=konnectivity",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

/// Each value of each valid case gone, or something else: whatever means something is never overlooked.
#[test]
fn no_value_changes_silently() {
    let junk = [
        Json::Null,
        serde_json::json!("x junk"),
        serde_json::json!(17),
        serde_json::json!([]),
        serde_json::json!({"x": 1}),
        serde_json::json!(true),
        serde_json::json!(["[concat('a', 'b')]"]),
    ];
    let mut tried = 0;
    let mut overlooked = Vec::new();
    for folder in cases("valid") {
        let case = Case::read(&folder);
        let Imported { report, policy } = case.import();
        // Of a rule that is left out, only that it is matters.
        if report.rules.iter().any(|(_, fate)| *fate == Fate::NotCarried)
            || ["[nat]", "[not-deployed]"]
                .iter()
                .any(|kind| report.render(false).contains(kind))
        {
            continue;
        }
        let said = report.render(false);
        for (index, file) in case.rules.iter().enumerate() {
            let original: Json = serde_json::from_str(file.text.trim_start_matches('\u{feff}')).unwrap();
            let mut pointers = Vec::new();
            pointers_of(&original, String::new(), &mut pointers);
            for (number, pointer) in pointers.into_iter().enumerate() {
                if pointer.split('/').any(|part| MEANS_NOTHING.contains(&part)) {
                    continue;
                }
                let was = original.pointer(&pointer).unwrap().clone();
                for junk in [&junk[number % junk.len()], &junk[(number + 3) % junk.len()]] {
                    if was == *junk || is_nothing(&was) && is_nothing(junk) {
                        continue;
                    }
                    let mut damaged = original.clone();
                    *damaged.pointer_mut(&pointer).unwrap() = junk.clone();
                    let mut other = Case::read(&folder);
                    other.rules[index].text = damaged.to_string().into();
                    let found = other.import();
                    let unnoticed = found.policy == policy && found.report.render(false) == said;
                    if unnoticed {
                        overlooked.push(format!("{}: {pointer} was {was}, is {junk}", folder.display()));
                    }
                    tried += 1;
                }
            }
        }
    }
    assert!(overlooked.is_empty(), "{}", overlooked.join("\n"));
    assert!(tried > 1_000, "{tried}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

    /// Whatever a damaged file says, it is refused or imported; and never imported beside an error.
    #[test]
    fn damage_never_panics_and_never_imports_beside_an_error(
        edits in proptest::collection::vec((0..100_000_usize, 0..DAMAGE.len(), 0..12_usize), 1..5),
        case in 0..1_000_usize,
        accept: bool,
    ) {
        let folders: Vec<_> = ["valid", "invalid"].into_iter().flat_map(cases).collect();
        let mut case = Case::read(&folders[case % folders.len()]);
        let index = edits[0].0 % case.rules.len();
        let mut text: Vec<char> = case.rules[index].text.chars().collect();
        for (at, damage, removed) in edits {
            let at = at % (text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, DAMAGE[damage].chars());
        }
        case.rules[index].text = text.into_iter().collect::<String>().into();
        if accept {
            case.options.accept.extend(Kind::ALL);
        }
        let Imported { report, policy } = case.import();
        proptest::prop_assert_eq!(policy.is_none(), report.is_refused());
        proptest::prop_assert!(!report.has_errors() || policy.is_none());
        let bugs = report.findings().iter().filter(|finding| finding.message.contains("does not say what was meant"));
        proptest::prop_assert_eq!(bugs.count(), 0);
        let shown = report.render(false);
        proptest::prop_assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{}", shown);
        if let Some(policy) = policy {
            let texts: Vec<_> = case.options.policy.iter().cloned().chain([SourceText { name: "p.yaml".into(), text: policy.into() }]).collect();
            let read = Document::read(&texts);
            proptest::prop_assert!(read.is_ok(), "{}", render(&read.unwrap_err(), &texts, false));
        }
    }
}

struct Case {
    rules: Vec<SourceText>,
    parents: Vec<SourceText>,
    ip_groups: Vec<SourceText>,
    service_tags: Vec<SourceText>,
    options: Options,
}

impl Case {
    fn read(folder: &Path) -> Self {
        let mut case = Self {
            rules: Vec::new(),
            parents: Vec::new(),
            ip_groups: Vec::new(),
            service_tags: Vec::new(),
            options: Options::default(),
        };
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        for path in files {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let text = SourceText {
                text: fs::read_to_string(&path).unwrap().into(),
                name: name.as_str().into(),
            };
            match name.as_str() {
                "expected.yaml" | "report.txt" => {}
                "args" => case.arguments(&text.text),
                "policy.yaml" => case.options.policy.push(text),
                "service-tags.json" => case.service_tags.push(text),
                _ if name.starts_with("parent") => case.parents.push(text),
                _ if name.starts_with("ip-groups") => case.ip_groups.push(text),
                _ => case.rules.push(text),
            }
        }
        case
    }

    fn arguments(&mut self, text: &str) {
        for line in text.lines() {
            let (key, value) = line.split_once(' ').unwrap();
            match key {
                "--sources" => self.options.sources.extend(Mapping::parse_list(value).unwrap()),
                "--accept" => {
                    let kind = |name: &str| *Kind::ALL.iter().find(|kind| kind.as_str() == name).unwrap();
                    self.options.accept.extend(value.split(',').map(kind));
                }
                other => panic!("{other}"),
            }
        }
    }

    fn import(&self) -> Imported {
        let texts = Texts {
            rules: &self.rules,
            parents: &self.parents,
            ip_groups: &self.ip_groups,
            service_tags: self.service_tags.first(),
        };
        import(texts, &self.options, "2026-11-21T00:00:00Z".parse().unwrap())
    }
}

fn run(folder: &Path) -> Imported {
    Case::read(folder).import()
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/azure/import")
}

fn cases(kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(corpus().join(kind)).unwrap();
    let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn pointers_of(value: &Json, here: String, all: &mut Vec<String>) {
    match value {
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                pointers_of(item, format!("{here}/{index}"), all);
            }
        }
        Json::Object(entries) => {
            for (key, value) in entries {
                pointers_of(
                    value,
                    format!("{here}/{}", key.replace('~', "~0").replace('/', "~1")),
                    all,
                );
            }
        }
        _ => {}
    }
    all.push(here);
}

fn is_nothing(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::Array(items) => items.is_empty(),
        Json::Object(entries) => entries.is_empty(),
        Json::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Keys below which nothing is about rules.
const MEANS_NOTHING: &[&str] = &[
    "address",
    "addressSpace",
    "count",
    "hosts",
    "hubIPAddresses",
    "kind",
    "managedBy",
    "plan",
    "policyName",
    "subscriptionId",
    "tenantId",
    "total_records",
    "virtualHub",
    "dnsSettings",
    "existing",
    "additionalProperties",
    "after",
    "allowedValues",
    "apiVersion",
    "before",
    "change",
    "child_modules",
    "configuration",
    "contentVersion",
    "dependsOn",
    "description",
    "etag",
    "format_version",
    "id",
    "ipConfigurations",
    "languageVersion",
    "location",
    "metadata",
    "mode",
    "name",
    "planned_values",
    "provider_name",
    "provisioningState",
    "resourceGroup",
    "resource_changes",
    "resource_group_name",
    "schema_version",
    "sensitive_values",
    "size",
    "sku",
    "subnetId",
    "terraform_version",
    "tags",
    "tier",
    "type",
    "variables",
    "zones",
    "$schema",
    "schema",
    "timeouts",
    "nodeSubnets",
    "x",
];
const DAMAGE: &[&str] = &[
    "",
    " ",
    "\"",
    "\"\"",
    "*",
    "null",
    "0",
    "-1",
    "65536",
    "1e9",
    "true",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "[]",
    "{}",
    "\"*\"",
    "Deny",
    "allow",
    "[parameters('x')]",
    "\u{202e}",
    "\\u0000",
    "ü",
    "10.0.0.0/8",
    "*.",
    ".",
    "Mssql",
    "UDP",
    "Any",
    "\"name\": \"x\",",
    "\"copy\": [],",
    "\n",
];
