//! `import azure-firewall` as it is typed: what goes where, and how it ends.
//! Must not repeat the corpus of rule files; what is tested is what is printed, written, and the exit code.
//! Called by `tests/run`.

use std::fs;

use serde_json::{Value, json};

use crate::support::folder::{Ended, Folder};

fn import(folder: &Folder, words: &[&str]) -> Ended {
    folder.run(&[&["import", "azure-firewall"], words].concat())
}

/// A group with one application rule.
fn rules(name: &str, source: &str) -> String {
    let rule = json!({
        "ruleType": "ApplicationRule",
        "name": "api",
        "sourceAddresses": [source],
        "protocols": [{"protocolType": "Https", "port": 443}],
        "targetFqdns": [name],
    });
    let collection = json!({
        "ruleCollectionType": "FirewallPolicyFilterRuleCollection",
        "name": "apps",
        "priority": 200,
        "action": {"type": "Allow"},
        "rules": [rule],
    });
    json!([{"name": "g", "priority": 300, "ruleCollections": [collection]}]).to_string()
}

#[test]
fn a_policy_goes_to_stdout_and_says_what_production_says() {
    let folder = Folder::with(&[("rules.json", &rules("api.example.com", "10.224.0.0/16"))]);
    let ended = import(&folder, &["rules.json", "--sources", "10.224.0.0/16=nodes"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended
            .out
            .contains("- {name: api, from: [nodes], to: [api.example.com]}"),
        "{}",
        ended.out
    );
    assert_eq!(ended.err, "carried over: 1 collection, 1 rule\n");
    fs::write(folder.path().join("policy.yaml"), ended.out).unwrap();
    for (from, name, code) in [
        ("10.224.1.2", "api.example.com", 0),
        ("10.225.1.2", "api.example.com", 1),
        ("10.224.1.2", "other.example.com", 1),
    ] {
        let ended = folder.run_reading(&["explain", "--policy", "policy.yaml", "--from", from, name], "");
        assert_eq!(ended.code, code, "{ended:?}");
    }
}

#[test]
fn what_is_not_accepted_writes_nothing_but_the_report() {
    let folder = Folder::with(&[("rules.json", &rules("*contoso.com", "*"))]);
    let refused = import(&folder, &["rules.json", "-o", "policy.yaml", "--report", "report.json"]);
    assert_eq!((refused.code, &*refused.out), (1, ""), "{refused:?}");
    assert!(refused.err.contains("error[star-without-dot]"), "{}", refused.err);
    assert!(
        refused
            .err
            .ends_with("if that is as you want it: --accept star-without-dot\n"),
        "{}",
        refused.err
    );
    assert_eq!(folder.read("policy.yaml"), None);
    let report: Value = serde_json::from_str(&folder.read("report.json").unwrap()).unwrap();
    assert_eq!(report["written"], false);
    assert_eq!(report["to_accept"], json!(["star-without-dot"]));
    assert_eq!(report["findings"][0]["kind"], "star-without-dot");
    assert_eq!(report["findings"][0]["severity"], "error");
    assert_eq!(
        report["findings"][0]["path"],
        "[0].ruleCollections[0].rules[0].targetFqdns[0]"
    );
    assert_eq!(report["rules"][0]["outcome"], "changed");

    let accepted = import(
        &folder,
        &[
            "rules.json",
            "--output-file",
            "policy.yaml",
            "--report",
            "report.json",
            "--accept",
            "star-without-dot",
        ],
    );
    assert_eq!((accepted.code, &*accepted.out), (0, ""), "{accepted:?}");
    assert!(accepted.err.contains("accepted[star-without-dot]"), "{}", accepted.err);
    assert!(
        folder
            .read("policy.yaml")
            .unwrap()
            .contains("to: [contoso.com, \"*.contoso.com\"]")
    );
    let report: Value = serde_json::from_str(&folder.read("report.json").unwrap()).unwrap();
    assert_eq!(
        (&report["written"], &report["findings"][0]["severity"]),
        (&json!(true), &json!("accepted"))
    );
}

#[test]
fn another_kind_that_is_accepted_changes_nothing() {
    let folder = Folder::with(&[("rules.json", &rules("*contoso.com", "*"))]);
    let ended = import(&folder, &["rules.json", "--accept", "any-name,nat,mssql"]);
    assert_eq!((ended.code, &*ended.out), (1, ""), "{ended:?}");
}

#[test]
fn what_nobody_can_accept_is_wrong_usage_on_the_command_line() {
    let folder = Folder::with(&[("rules.json", &rules("a.example.com", "*"))]);
    for (kind, hint) in [
        ("expression", "the kinds are"),
        ("star-without-dots", "did you mean `star-without-dot`?"),
    ] {
        let ended = import(&folder, &["rules.json", "--accept", kind]);
        assert_eq!((ended.code, &*ended.out), (2, ""), "{ended:?}");
        assert!(ended.err.contains(hint), "{}", ended.err);
    }
    for sources in ["10.224.0.0/16", "10.224.0.1/16=nodes", "10.224.0.0/16=Nodes"] {
        let ended = import(&folder, &["rules.json", "--sources", sources]);
        assert_eq!((ended.code, &*ended.out), (2, ""), "{ended:?}");
    }
    assert_eq!(import(&folder, &[]).code, 2);
    assert_eq!(folder.run_reading(&["import"], "").code, 2);
}

#[test]
fn unreadable_files_are_all_named() {
    let folder = Folder::with(&[("rules.json", &rules("a.example.com", "*"))]);
    let ended = import(
        &folder,
        &[
            "rules.json",
            "gone.json",
            "--ip-groups",
            "too.json",
            "--service-tags",
            "tags.json",
        ],
    );
    assert_eq!((ended.code, &*ended.out), (2, ""), "{ended:?}");
    for name in ["gone.json", "too.json", "tags.json"] {
        assert!(ended.err.contains(name), "{}", ended.err);
    }
    let ended = import(&folder, &["rules.json", "--policy", "gone.yaml"]);
    assert_eq!((ended.code, &*ended.out), (2, ""), "{ended:?}");
    let ended = import(&folder, &["rules.json", "-o", "no/such/folder.yaml"]);
    assert_eq!((ended.code, &*ended.out), (2, ""), "{ended:?}");
}

#[test]
fn rules_come_from_a_pipe_as_well() {
    let folder = Folder::with(&[]);
    let ended = folder.run_reading(&["import", "azure-firewall", "-"], &rules("a.example.com", "*"));
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = folder.run_reading(&["import", "azure-firewall", "-"], "param location string\n");
    assert_eq!((ended.code, &*ended.out), (1, ""), "{ended:?}");
    assert!(
        ended
            .err
            .contains("az network firewall policy rule-collection-group list"),
        "{}",
        ended.err
    );
}

#[test]
fn workloads_of_a_policy_that_exists_are_not_written_again() {
    let policy = "workloads:\n  nodes: {cidrs: [10.9.0.0/16]}\nallow: []\n";
    let folder = Folder::with(&[
        ("rules.json", &rules("a.example.com", "10.224.0.0/16")),
        ("base.yaml", policy),
    ]);
    let words = [
        "rules.json",
        "--sources",
        "10.224.0.0/16=nodes",
        "--policy",
        "base.yaml",
        "-o",
        "imported.yaml",
    ];
    let ended = import(&folder, &words);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!folder.read("imported.yaml").unwrap().contains("workloads"));
    let words = [
        "check",
        "--deny-warnings",
        "--policy",
        "base.yaml",
        "--policy",
        "imported.yaml",
    ];
    let ended = folder.run_reading(&words, "");
    assert_eq!(ended.code, 0, "{ended:?}");
}
