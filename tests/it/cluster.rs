//! `init` and `audit` on what Azure prints: exit codes, files, reports, and what is said about input that does not fit.
//! Must not repeat the tables of drafts and verdicts; the corpus holds them.
//! Called by `tests/run`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::folder::Ended;

#[test]
fn an_audit_in_which_all_passes_ends_with_0() {
    let files = files("audit/good");
    let mut words = vec!["audit", "--egress-address", "203.0.113.10"];
    words.extend(files.iter().map(|file| file.to_str().unwrap()));
    let ended = run(&words, "");
    assert_eq!((ended.code, &*ended.err), (0, ""), "{}", ended.out);
    assert!(ended.out.contains("all that must hold holds"), "{}", ended.out);
    words.extend(["--output", "json"]);
    let report: Value = serde_json::from_str(&run(&words, "").out).unwrap();
    assert_eq!(report["holds"], true);
    let first = &report["checks"][0];
    assert_eq!(first["criterion"], "api-server");
    assert!(first["serves"].as_str().unwrap().contains("API server"));
}

#[test]
fn an_audit_in_which_something_fails_or_is_unknown_ends_with_1() {
    let bad = corpus("audit/bad/registry.json");
    let ended = run(&["audit", bad.to_str().unwrap()], "");
    assert_eq!(ended.code, 1);
    assert!(
        ended.out.contains("do: az acr update -n basic --admin-enabled false"),
        "{}",
        ended.out
    );
    let unknown = corpus("audit/sql-alone/other.json");
    let ended = run(&["audit", unknown.to_str().unwrap(), "--output", "junit"], "");
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("<failure type=\"unknown\""), "{}", ended.out);
}

#[test]
fn an_audit_of_what_cannot_be_read_ends_with_2() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("table.txt");
    fs::write(&table, "Name    Location\nprod    westeurope\n").unwrap();
    let wide = folder.path().join("wide.json");
    fs::write(&wide, [0xff, 0xfe, b'{', 0, b'}', 0]).unwrap();
    let missing = folder.path().join("missing.json");
    let stranger = corpus("audit/invalid/unknown-type.json");
    for (file, said) in [
        (&table, "az ... -o json"),
        (&wide, "Out-File -Encoding utf8"),
        (&missing, "No such file"),
        (&stranger, "microsoft.sql/managedinstances"),
    ] {
        let ended = run(&["audit", file.to_str().unwrap()], "");
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains(said), "{ended:?}");
        assert!(ended.out.is_empty(), "{ended:?}");
    }
    assert_eq!(run(&["audit"], "").code, 2);
}

#[test]
fn an_audit_reads_stdin() {
    let text = fs::read_to_string(corpus("audit/good/vault.json")).unwrap();
    let ended = run(&["audit", "-"], &text);
    assert_eq!(ended.code, 0, "{ended:?}");
}

/// What `init` writes is what `check` and `generate` take.
#[test]
fn a_draft_with_all_facts_is_a_policy_that_locks() {
    let folder = TempDir::new().unwrap();
    let policy = folder.path().join("policy.yaml");
    let policy = policy.to_str().unwrap();
    let from = corpus("cluster/valid/localdns.json");
    let facts = ["--nodes", "10.224.0.0/16", "--api-server-address", "20.50.1.2"];
    let mut words = vec!["init", "--from-aks", from.to_str().unwrap(), "-o", policy];
    words.extend(facts);
    let ended = run(&words, "");
    assert_eq!((ended.code, &*ended.out), (0, ""), "{}", ended.err);
    assert!(ended.err.contains("note: LocalDNS: on in on;"), "{}", ended.err);
    assert_eq!(run(&["check", "--policy", policy], "").code, 0);
    assert_eq!(
        run(
            &["explain", "--policy", policy, "--from", "nodes", "mcr.microsoft.com"],
            ""
        )
        .code,
        0
    );
    let generated = run(&["generate", "network-policies", "--policy", policy], "");
    assert_eq!(generated.code, 0, "{}", generated.err);

    let written = fs::read_to_string(policy).unwrap();
    fs::write(policy, "mine").unwrap();
    let ended = run(&words, "");
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("--force replaces it"), "{}", ended.err);
    assert_eq!(fs::read_to_string(policy).unwrap(), "mine");
    words.push("--force");
    assert_eq!(run(&words, "").code, 0);
    assert_eq!(fs::read_to_string(policy).unwrap(), written);
}

#[test]
fn a_draft_that_lacks_something_says_what_and_ends_with_1() {
    let text = fs::read_to_string(corpus("cluster/incomplete/default-create-alone.json")).unwrap();
    let ended = run(&["init", "--from-aks", "-"], &text);
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.out.contains("nodes: {cidrs: []}"), "{}", ended.out);
    for said in [
        "to do: networks.nodes: not in the output; AKS has made the network itself: `az network vnet list -g MC_",
        "to do: engine: NOTHING ENFORCES NETWORK POLICIES",
        "error: `cidrs` is an empty list",
    ] {
        assert!(ended.err.contains(said), "{}", ended.err);
    }
}

#[test]
fn what_is_no_cluster_ends_with_2() {
    for file in ["two", "other-type", "values", "clouds-differ"] {
        let file = corpus(&format!("cluster/invalid/{file}.json"));
        let ended = run(&["init", "--from-aks", file.to_str().unwrap()], "");
        assert_eq!((ended.code, &*ended.out), (2, ""), "{ended:?}");
        assert!(ended.err.starts_with("error: "), "{ended:?}");
    }
    assert_eq!(run(&["init"], "").code, 2);
    let file = corpus("cluster/valid/china.json");
    let wide = ["init", "--from-aks", file.to_str().unwrap(), "--nodes", "10.224.0.1/16"];
    let ended = run(&wide, "");
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("write `10.224.0.0/16`"), "{ended:?}");
}

fn run(words: &[&str], input: &str) -> Ended {
    Ended::in_directory(Path::new("."), words, input)
}

fn files(folder: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(corpus(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = all
        .filter(|file| file.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus/azure")
        .join(name)
}
