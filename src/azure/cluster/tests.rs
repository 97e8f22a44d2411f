//! Policies drafted from a corpus of what `az aks show` and REST print; the policy and what is told stand beside each.
//! Must not accept a draft that nobody read: `UPDATE_CORPUS=1` writes what comes out, for a person to read.
//! Called by the test runner.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::*;
use crate::azure::resource::parse;
use crate::policy::document::Document;
use crate::policy::golden::compare;
use crate::policy::presets;
use crate::policy::problem::render;
use crate::policy::{Generation, SourceText, load};

/// With all facts given the file loads, as it stands. What is warned of is tested where the lints are.
#[test]
fn complete_drafts_are_policies() {
    let mut differences = String::new();
    for case in cases("valid") {
        let draft = drafted(&case).unwrap_or_else(|wrong| panic!("{}: {wrong:?}", case.display()));
        let texts = [source(&draft.text)];
        load(&texts, now(), Generation(1), None).unwrap_or_else(|problems| {
            panic!(
                "{}: {}\n{}",
                case.display(),
                render(&problems, &texts, false),
                draft.text
            )
        });
        differences += &compare(&case.with_extension("yaml"), &draft.text);
        differences += &compare(&case.with_extension("txt"), &told(&draft, ""));
    }
    assert!(differences.is_empty(), "{differences}");
}

/// Without a fact that it needs the file is refused, at the place where the fact belongs.
#[test]
fn incomplete_drafts_are_refused_where_something_is_missing() {
    let mut differences = String::new();
    for case in cases("incomplete") {
        let draft = drafted(&case).unwrap_or_else(|wrong| panic!("{}: {wrong:?}", case.display()));
        let texts = [source(&draft.text)];
        let problems = load(&texts, now(), Generation(1), None).expect_err(&draft.text);
        assert!(!draft.missing.is_empty());
        differences += &compare(&case.with_extension("yaml"), &draft.text);
        differences += &compare(
            &case.with_extension("txt"),
            &told(&draft, &render(&problems, &texts, false)),
        );
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut text = String::new();
    for case in cases("invalid") {
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        for why in drafted(&case).unwrap_err() {
            text += &name;
            text += ": ";
            text += &why;
            text += "\n";
        }
    }
    let differences = compare(&corpus().join("invalid/expected.txt"), &text);
    assert!(differences.is_empty(), "{differences}");
}

/// What the file says is what the output says, read back by the reader of policies and not by eye.
#[test]
fn facts_survive_the_file() {
    for case in cases("valid") {
        let value = value(&case);
        let facts = read(&value).unwrap();
        let given = given(&case);
        let text = draft(&facts, &given).unwrap().text;
        let document = Document::read(&[source(&text)]).unwrap();
        let cluster = document.cluster.unwrap().value;
        let values = |ranges: &[crate::policy::problem::At<IpNet>]| -> Vec<_> {
            ranges.iter().map(|range| range.value).collect()
        };
        assert_eq!(
            cluster.cloud.map(|cloud| cloud.value),
            facts.cloud,
            "{}",
            case.display()
        );
        assert_eq!(cluster.region.map(|region| region.value.to_string()), facts.region);
        assert_eq!(
            cluster.kubernetes.map(|version| version.value.to_string()),
            facts.kubernetes
        );
        assert_eq!(cluster.api_server.map(|name| name.value), facts.api_server);
        assert_eq!(values(&cluster.networks.nodes), given.nodes);
        assert_eq!(values(&cluster.networks.services), facts.services);
        assert_eq!(values(&cluster.api_server_addresses), given.api_server);
        let pods = if facts.pods.is_empty() {
            &given.pods
        } else {
            &facts.pods
        };
        assert_eq!(&values(&cluster.networks.pods), pods);
        let engine = match facts.engine {
            EngineFact::Is(engine) => Some(engine),
            _ => None,
        };
        assert_eq!(cluster.engine.map(|engine| engine.value), engine);
        for rule in &document.allow {
            let from = rule.value.from.as_ref().map(Vec::len);
            assert_eq!(from, Some(1), "{}: something is open to everyone", case.display());
        }
    }
}

/// The draft names presets that exist.
#[test]
fn every_preset_that_is_named_exists() {
    let mut named = std::collections::BTreeSet::new();
    for case in cases("valid").into_iter().chain(cases("incomplete")) {
        let draft = drafted(&case).unwrap();
        let words = draft
            .text
            .split(|c: char| !(c.is_ascii_alphanumeric() || "/-".contains(c)));
        named.extend(words.filter(|word| word.starts_with("aks/")).map(str::to_owned));
    }
    assert!(named.len() >= 15, "{named:?}");
    for name in named {
        assert!(presets::preset(&name).is_some(), "{name}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

    /// Whatever a damaged output says: it is refused, or the file that comes of it is refused or loads, and opens nothing to
    /// all sources.
    #[test]
    fn damage_never_panics_and_opens_nothing(
        edits in proptest::collection::vec((0..60_000_usize, 0..DAMAGE.len(), 0..6_usize), 1..5),
        case in 0..1_000_usize,
    ) {
        let mut text: Vec<char> = CORPUS[case % CORPUS.len()].chars().collect();
        for (at, damage, removed) in edits {
            let at = at % (text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, DAMAGE[damage].chars());
        }
        let text: String = text.into_iter().collect();
        let Ok(value) = parse(&text) else { return Ok(()) };
        let audited = crate::azure::audit::File { name: "x".to_owned(), value: value.clone() };
        let _ = crate::azure::audit::audit(&[audited], &[]);
        let given = Given { nodes: vec!["172.31.0.0/16".parse().unwrap()], ..Given::default() };
        let Ok(facts) = read(&value) else { return Ok(()) };
        let Ok(draft) = draft(&facts, &given) else { return Ok(()) };
        let texts = [source(&draft.text)];
        match load(&texts, now(), Generation(1), None) {
            Ok(loaded) => {
                let open = loaded.policy.rules().iter().filter(|rule| rule.from == crate::policy::rule::From::Everyone);
                proptest::prop_assert_eq!(open.count(), 0, "{}", draft.text);
            }
            Err(_) => proptest::prop_assert!(!draft.missing.is_empty(), "{}", draft.text),
        }
    }
}

/// One value after the other gone, or something else: what comes of it loads, or says what is missing, or is refused.
#[test]
fn every_value_can_be_missing_or_wrong() {
    let case = corpus().join("valid/automatic.json");
    let original = value(&case);
    let given = given(&case);
    let (mut drafts, mut refused) = (0, 0);
    let junk = [
        Value::Null,
        serde_json::json!("x\n- y"),
        serde_json::json!([17]),
        serde_json::json!({"enabled": true}),
    ];
    for (index, path) in pointers(&original, String::new()).into_iter().enumerate() {
        // All four at each would take too long.
        for junk in [index, index + 1].map(|at| junk[at % junk.len()].clone()) {
            let mut damaged = original.clone();
            *damaged.pointer_mut(&path).unwrap() = junk;
            let Ok(facts) = read(&damaged) else {
                refused += 1;
                continue;
            };
            let draft = draft(&facts, &given).unwrap();
            drafts += 1;
            let texts = [source(&draft.text)];
            match load(&texts, now(), Generation(1), None) {
                Ok(loaded) => {
                    let open = loaded
                        .policy
                        .rules()
                        .iter()
                        .filter(|rule| rule.from == crate::policy::rule::From::Everyone);
                    assert_eq!(open.count(), 0, "{path}: {}", draft.text);
                }
                Err(problems) => {
                    let said = render(&problems, &texts, false);
                    assert!(
                        draft.missing.iter().any(|line| line.starts_with("api_server")
                            || line.starts_with("region")
                            || line.starts_with("networks.pods")),
                        "{path}: {said}"
                    );
                }
            }
        }
    }
    assert!(drafts > 150 && refused > 2, "{drafts} {refused}");
}

/// JSON pointers (RFC 6901) of every value below the top.
fn pointers(value: &Value, at: String) -> Vec<String> {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), value))
            .collect(),
        _ => Vec::new(),
    };
    let mut all: Vec<String> = below
        .into_iter()
        .flat_map(|(key, value)| pointers(value, format!("{at}/{key}")))
        .collect();
    if !at.is_empty() {
        all.push(at);
    }
    all
}

static CORPUS: LazyLock<Vec<String>> = LazyLock::new(|| {
    cases("valid")
        .iter()
        .map(|case| fs::read_to_string(case).unwrap())
        .collect()
});
const DAMAGE: [&str; 16] = [
    "",
    "null",
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    "x",
    "\n",
    "\\n- evil.example",
    "\\u0000",
    "\u{202e}",
    "true",
    "1e9",
    "  allow: [x]",
];

fn drafted(case: &Path) -> Result<Draft, Vec<String>> {
    let value = value(case);
    let facts = read(&value)?;
    draft(&facts, &given(case))
}

fn value(case: &Path) -> Value {
    parse(&fs::read_to_string(case).unwrap()).unwrap()
}

/// The flags of the command, one to a line.
fn given(case: &Path) -> Given {
    let mut given = Given::default();
    let text = fs::read_to_string(case.with_extension("args")).unwrap_or_default();
    for line in text.lines() {
        let (flag, value) = line.split_once(' ').unwrap();
        let range = || {
            value
                .parse::<IpNet>()
                .unwrap_or_else(|_| value.parse::<IpAddr>().unwrap().into())
        };
        match flag {
            "--nodes" => given.nodes.push(range()),
            "--pods" => given.pods.push(range()),
            "--api-server-address" => given.api_server.push(range()),
            "--key-vault" => given.key_vaults.push(value.to_owned()),
            other => panic!("{other}"),
        }
    }
    given
}

fn told(draft: &Draft, checked: &str) -> String {
    let notes = draft.notes.iter().map(|note| format!("note: {note}\n"));
    let missing = draft.missing.iter().map(|missing| format!("to do: {missing}\n"));
    let mut text: String = notes.chain(missing).collect::<Vec<_>>().concat();
    text += checked;
    text
}

fn source(text: &str) -> SourceText {
    SourceText {
        name: "policy.yaml".into(),
        text: text.into(),
    }
}

fn now() -> jiff::Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn cases(folder: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(corpus().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = all
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 4);
    cases
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/azure/cluster")
}
