//! The audit against a corpus of what `az` and REST print: each folder is one audit, the report stands beside it.
//! Must not accept a verdict that nobody read: `UPDATE_CORPUS=1` writes what comes out, for a person to read.
//! Called by the test runner.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::azure::resource::parse;
use crate::policy::golden::compare;

#[test]
fn every_audit_reads_as_written_down() {
    let mut differences = String::new();
    for case in folders() {
        let (files, egress) = given(&case);
        let checks = audit(&files, &egress).unwrap_or_else(|refused| panic!("{}: {refused:?}", case.display()));
        differences += &compare(&case.with_extension("txt"), &shown(&checks));
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn what_is_not_understood_is_refused() {
    let mut text = String::new();
    for file in sorted(&corpus().join("invalid")) {
        if file.extension().is_some_and(|extension| extension == "json") {
            let refused = audit(&[read(&file)], &[]).unwrap_err();
            for refused in refused {
                let _ = writeln!(text, "{}: {}", refused.name, refused.why);
            }
        }
    }
    let differences = compare(&corpus().join("invalid/expected.txt"), &text);
    assert!(differences.is_empty(), "{differences}");
}

/// Each check passes, fails and does not know somewhere, so that none of them is a constant.
#[test]
fn every_check_says_each_word() {
    let mut seen: BTreeMap<String, BTreeSet<Verdict>> = BTreeMap::new();
    let mut note = |checks: &[Check]| {
        for check in checks {
            let (kind, rest) = check.id.split_once('/').unwrap();
            let what = rest.rsplit_once('/').unwrap().1;
            seen.entry(format!("{kind}/{what}")).or_default().insert(check.verdict);
        }
    };
    for case in folders() {
        let (files, egress) = given(&case);
        note(&audit(&files, &egress).unwrap());
    }
    let all = BTreeSet::from([Verdict::Pass, Verdict::Fail, Verdict::Unknown]);
    assert_eq!(seen.len(), 24, "{:?}", seen.keys());
    let lacking: Vec<_> = seen.iter().filter(|(_, words)| **words != all).collect();
    assert!(lacking.is_empty(), "{lacking:?}");
}

/// Whatever is taken away or made nonsense of, nothing that failed passes: what is not known is not good.
#[test]
fn silence_is_no_good_news() {
    let mut tried = 0;
    for case in ["bad", "odd", "odd-data", "sql-alone", "egress-stranger"] {
        let case = corpus().join(case);
        let (files, egress) = given(&case);
        let before = verdicts(&files, &egress).unwrap();
        for (at, file) in files.iter().enumerate() {
            for path in paths(&file.value) {
                // What the bad thing is about may go with it: a list without an entry, a rule without its server.
                let key = path.last().unwrap().as_str();
                for damage in [
                    None,
                    Some(Value::Null),
                    Some(json!("")),
                    Some(json!({})),
                    Some(json!(17)),
                ] {
                    let mut damaged = files.clone();
                    set(&mut damaged[at].value, &path, damage.clone());
                    let Ok(after) = verdicts(&damaged, &egress) else {
                        continue;
                    };
                    tried += 1;
                    for (id, verdict) in after {
                        let was = before.get(&id);
                        let better = verdict == Verdict::Pass && was.is_some_and(|was| *was != Verdict::Pass);
                        let documented = damage == Some(Value::Null) && GOOD_WHEN_NULL.contains(&key);
                        assert!(
                            !better || documented,
                            "{}: {id} passes with {path:?} = {damage:?}",
                            case.display()
                        );
                    }
                }
            }
        }
    }
    assert!(tried > 1_000, "{tried}");
}

/// Of a good set, everything that a check looks at is missed when it is gone.
#[test]
fn what_is_taken_from_a_good_set_is_missed() {
    let (files, egress) = given(&corpus().join("good"));
    let all = verdicts(&files, &egress).unwrap();
    assert!(all.values().all(|verdict| *verdict == Verdict::Pass), "{all:?}");
    let mut missed = BTreeSet::new();
    for (at, file) in files.iter().enumerate() {
        for path in paths(&file.value) {
            let mut damaged = files.clone();
            set(&mut damaged[at].value, &path, None);
            let after = verdicts(&damaged, &egress).unwrap_or_default();
            missed.extend(
                after
                    .into_iter()
                    .filter(|(_, verdict)| *verdict != Verdict::Pass)
                    .map(|(id, _)| id),
            );
        }
    }
    for id in all.keys() {
        assert!(missed.contains(id), "{id} passes whatever is missing");
    }
}

/// Null is Azure's documented default, and for these it is the good one: no exceptions, no address of its own.
const GOOD_WHEN_NULL: [&str; 2] = ["ipRules", "enableNodePublicIp"];

fn verdicts(files: &[File], egress: &[IpAddr]) -> Result<BTreeMap<String, Verdict>, Vec<Refused>> {
    let checks = audit(files, egress)?;
    Ok(checks.into_iter().map(|check| (check.id, check.verdict)).collect())
}

/// Of every key, at any depth; items of lists by their number.
fn paths(value: &Value) -> Vec<Vec<String>> {
    let below = |key: String, value: &Value| {
        let mut all = vec![vec![key.clone()]];
        all.extend(paths(value).into_iter().map(|mut path| {
            path.insert(0, key.clone());
            path
        }));
        all
    };
    match value {
        Value::Object(object) => object
            .iter()
            .flat_map(|(key, value)| below(key.clone(), value))
            .collect(),
        Value::Array(items) => {
            let each = items
                .iter()
                .enumerate()
                .flat_map(|(at, item)| below(at.to_string(), item));
            // An item that is gone may well have been the one that was wrong.
            each.filter(|path| path.len() > 1).collect()
        }
        _ => Vec::new(),
    }
}

fn set(value: &mut Value, path: &[String], new: Option<Value>) {
    let (last, above) = path.split_last().unwrap();
    let mut place = value;
    for key in above {
        place = match place {
            Value::Array(items) => &mut items[key.parse::<usize>().unwrap()],
            other => &mut other[key.as_str()],
        };
    }
    match (place, new) {
        (Value::Object(object), Some(new)) => {
            object.insert(last.clone(), new);
        }
        (Value::Object(object), None) => {
            object.remove(last);
        }
        _ => {}
    }
}

fn shown(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let _ = writeln!(
            text,
            "{:<8} {}\n         {}",
            check.verdict.as_str(),
            check.id,
            check.seen
        );
        if let Some(mend) = &check.mend {
            let _ = writeln!(text, "         do: {mend}");
        }
    }
    text
}

fn given(case: &Path) -> (Vec<File>, Vec<IpAddr>) {
    let files = sorted(case);
    let json = files
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "json"));
    let egress = fs::read_to_string(case.join("args.txt")).unwrap_or_default();
    let egress = egress.lines().map(|line| line.parse().unwrap()).collect();
    (json.map(|file| read(file)).collect(), egress)
}

fn read(file: &Path) -> File {
    File {
        name: file.file_name().unwrap().to_str().unwrap().to_owned(),
        value: parse(&fs::read_to_string(file).unwrap()).unwrap(),
    }
}

fn folders() -> Vec<PathBuf> {
    let all = sorted(&corpus()).into_iter();
    let folders: Vec<_> = all.filter(|path| path.is_dir() && !path.ends_with("invalid")).collect();
    assert!(folders.len() >= 12);
    folders
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    all.sort();
    all
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/azure/audit")
}
