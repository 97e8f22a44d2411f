//! Import against the model: what production's rules say, the gate says.
//! Must not accept for the program: a file that it refuses without saying what would have to be accepted fails the test.
//! Called by `tests/run`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::agreement::{Pair, Tally, compiled};
use super::dice::Dice;
use super::made_up::{SOURCES, template};
use super::model::Firewall;
use super::requests::Around;
use super::{Desk, Ended};

/// Imports, accepting what the report asks to have accepted.
pub fn import(desk: &Desk, files: &[PathBuf], words: &[&str], policy: &str) -> Ended {
    let words = [words, &["-o", policy]].concat();
    let first = desk.import(files, &words);
    let kinds = first.to_accept();
    if kinds.is_empty() {
        assert_eq!(first.code, 0, "{files:?}\n{}", first.err);
        return first;
    }
    assert_eq!(first.code, 1, "{files:?}\n{}", first.err);
    assert!(!desk.path(policy).exists(), "something was written all the same");
    let second = desk.import(files, &[&words[..], &["--accept", &kinds]].concat());
    assert_eq!(second.code, 0, "{files:?}\n{}", second.err);
    second
}

#[test]
fn a_hundred_thousand_requests_around_made_up_rules() {
    let mut tally = Tally::default();
    for seed in 0..FILES {
        let mut dice = Dice::new(seed);
        let rules = template(&mut dice);
        let pair = pair(&rules);
        let around = Around::of(&pair.documents);
        for _ in 0..REQUESTS / FILES {
            let flow = around.flow(&mut dice);
            if let Err(difference) = pair.compare(&flow, &mut tally) {
                panic!("file {seed}: {difference}\n{rules:#}");
            }
        }
    }
    // What is compared must be worth comparing.
    assert!(tally.allowed > 10_000 && tally.denied > 10_000, "{tally:?}");
    assert!(tally.excused < 20_000, "{tally:?}");
}

/// The sample that the README uses, with the tag left to those who know its members.
#[test]
fn the_sample_decides_as_the_model_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/azure");
    let desk = Desk::new();
    let facts = folder.join("cluster.yaml");
    let groups = folder.join("ip-groups.json");
    let words = [
        "--ip-groups",
        groups.to_str().unwrap(),
        "--policy",
        facts.to_str().unwrap(),
        "--sources",
        "10.224.0.0/16=nodes,10.225.0.0/16=shop",
    ];
    let ended = import(&desk, &[folder.join("rules.json")], &words, "policy.yaml");
    let documents: Vec<Value> = ["rules.json", "ip-groups.json"]
        .map(|name| serde_json::from_str(&fs::read_to_string(folder.join(name)).unwrap()).unwrap())
        .into();
    let texts = [facts, desk.path("policy.yaml")].map(|path| fs::read_to_string(path).unwrap());
    let pair = Pair {
        firewall: Firewall::read(&documents),
        policy: compiled(&[&texts[0], &texts[1]]),
        documents,
        reported: ended.kinds(),
    };
    let (mut tally, mut dice) = (Tally::default(), Dice::new(7));
    let around = Around::of(&pair.documents);
    for _ in 0..5_000 {
        let flow = around.flow(&mut dice);
        pair.compare(&flow, &mut tally).unwrap();
    }
    assert!(tally.allowed > 200 && tally.denied > 200, "{tally:?}");
}

fn pair(rules: &Value) -> Pair {
    let desk = Desk::new();
    let file = desk.file("rules.json", &rules.to_string());
    let ended = import(&desk, &[file], &["--sources", SOURCES], "policy.yaml");
    Pair {
        firewall: Firewall::read(std::slice::from_ref(rules)),
        policy: compiled(&[&fs::read_to_string(desk.path("policy.yaml")).unwrap()]),
        documents: vec![rules.clone()],
        reported: ended.kinds(),
    }
}

const FILES: u64 = 50;
const REQUESTS: u64 = 100_000;
