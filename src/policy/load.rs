//! From the texts of all policy files to a policy in force: parse, merge, compile, lint, `expect`.
//! Must not touch files or clocks; texts and time come in. All problems of all files come out together.
//! Called by `check`, by every start and by every reload.

use std::sync::Arc;

use jiff::Timestamp;

use super::changes::keep_hits;
use super::compile::compile;
use super::compiled::Policy;
use super::document::Document;
use super::problem::{Problem, Problems, SourceText};
use super::rule::Generation;
use super::{expect, lint};

/// A set of files that may come into force.
#[derive(Debug)]
pub struct Loaded {
    pub policy: Policy,
    /// Things a person should look at; they stop nothing.
    pub warnings: Vec<Problem>,
    /// Those that the files accept, each with its reason.
    pub accepted: Vec<Problem>,
    /// Rows of presets that no proxy can carry, a line for each: the network around the cluster must let them pass.
    pub not_carried: Vec<String>,
    /// What the FQDN tags in it stand for, a line for each.
    pub tags: Vec<String>,
}

/// Compiles a set of files. Rules that `previous` had as well go on counting their hits.
///
/// # Errors
/// Every problem of every file, errors and warnings, in the order of the files. Nothing is half accepted.
pub fn load(
    texts: &[SourceText],
    now: Timestamp,
    generation: Generation,
    previous: Option<&Policy>,
) -> Result<Loaded, Vec<Problem>> {
    load_with(texts, &[], now, generation, previous)
}

/// The same for a set whose last texts are presets, with a name for each.
///
/// # Errors
/// As for [`load`].
pub fn load_with(
    texts: &[SourceText],
    presets: &[Arc<str>],
    now: Timestamp,
    generation: Generation,
    previous: Option<&Policy>,
) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Problems::with_presets(texts, presets);
    let mut document = Document::read_noting(&mut problems);
    // What seems superfluous or open in half a document may be neither.
    if !problems.has_errors() {
        lint::check(&document, now, &mut problems);
    }
    let expectations = std::mem::take(&mut document.expect);
    let mut compiled = compile(document, &mut problems);
    if problems.has_errors() {
        return Err(problems.into_sorted());
    }
    if let Some(previous) = previous {
        keep_hits(&mut compiled.parts.rules, previous);
    }
    let policy = Policy::new(compiled.parts, generation);
    expect::run(&expectations, &policy, &mut problems);
    if problems.has_errors() {
        return Err(problems.into_sorted());
    }
    let (warnings, accepted) = problems.into_parts();
    Ok(Loaded {
        policy,
        warnings,
        accepted,
        not_carried: compiled.not_carried,
        tags: compiled.tags,
    })
}

/// What is wrong in those files of a set that could be read, where others could not: whatever seems to be missing may
/// stand in the others, and nothing is said about it.
pub fn problems_of_part(texts: &[SourceText], presets: &[Arc<str>]) -> Vec<Problem> {
    if texts.is_empty() {
        return Vec::new();
    }
    let mut problems = Problems::with_presets(texts, presets);
    problems.cut_short();
    let document = Document::read_noting(&mut problems);
    compile(document, &mut problems);
    problems.into_sorted()
}

#[cfg(test)]
mod advice;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::LazyLock;

    use super::*;
    use crate::policy::golden;
    use crate::policy::problem::render;

    /// Each case is a file, or a folder of files that are loaded together; the expected text stands beside it as
    /// `.txt`. `UPDATE_CORPUS=1` writes what comes out, for a person to read before it is committed.
    #[test]
    fn every_refusal_reads_as_written_down() {
        let mut differences = String::new();
        for case in cases("invalid") {
            let texts = texts(&case);
            let problems = load(&texts, now(), Generation(1), None)
                .err()
                .unwrap_or_else(|| panic!("{} was accepted", case.display()));
            assert!(
                problems
                    .iter()
                    .any(|problem| problem.severity == crate::policy::Severity::Error)
            );
            differences += &compare(&case, &render(&problems, &texts, false));
        }
        assert!(differences.is_empty(), "{differences}");
    }

    /// A valid case without a `.txt` loads without a warning.
    #[test]
    fn valid_files_load() {
        let mut differences = String::new();
        for case in cases("valid") {
            let texts = texts(&case);
            let difference = match load(&texts, now(), Generation(1), None) {
                Err(problems) => format!("{}:\n{}", case.display(), render(&problems, &texts, false)),
                Ok(loaded) if loaded.warnings.is_empty() => compare(&case, ""),
                Ok(loaded) => compare(&case, &render(&loaded.warnings, &texts, false)),
            };
            differences += &difference;
        }
        assert!(differences.is_empty(), "{differences}");
    }

    /// What a newcomer copies must be beyond reproach.
    #[test]
    fn the_examples_load_without_a_warning() {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        let policy = config.join("policy.yaml");
        let examples = fs::read_dir(config.join("examples")).unwrap();
        let examples = examples
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file());
        let mut sets: Vec<_> = examples.map(|path| vec![path]).collect();
        assert!(sets.len() >= 3);
        for set in &mut sets {
            if fs::read_to_string(&set[0]).unwrap().contains("\nscope:") {
                set.insert(0, policy.clone());
            }
        }
        sets.push(vec![policy]);
        for set in sets {
            let texts: Vec<_> = set.iter().map(|path| text(path)).collect();
            let warnings = match load(&texts, now(), Generation(1), None) {
                Ok(loaded) => loaded.warnings,
                Err(problems) => problems,
            };
            assert!(warnings.is_empty(), "{set:?}: {}", render(&warnings, &texts, false));
        }
    }

    /// J01: no file is not a file that allows nothing.
    #[test]
    fn no_file_is_refused() {
        let problems = load(&[], now(), Generation(1), None).unwrap_err();
        assert!(render(&problems, &[], false).starts_with("error: there is no policy file"));
    }

    /// Where something stands, and how it is laid out, is no part of what a policy says.
    #[test]
    fn documents_are_equal_when_they_say_the_same() {
        let read = |text: &str| Document::read(&[written(text)]).unwrap();
        let flow = "allow: [a.example.com, {to: [\"b.example.com\"], until: 2999-01-01, sni: listed}]";
        let block = "# same\n\nallow:\n  - a.example.com\n  - sni: listed\n    to:\n      - b.example.com\n    until: 2999-01-01\n";
        assert_eq!(read(flow), read(block));
        assert_ne!(read(flow), read(&block.replace("listed", "off")));
        assert_ne!(read(flow), read(&block.replace("b.ex", "c.ex")));
    }

    #[test]
    fn rules_know_their_lines_and_days() {
        let text =
            "\nallow:\n  - a.example.com\n  - to: [b.example.com,\n         c.example.com]\n    until: 2026-12-31\n";
        let loaded = load(&[written(text)], now(), Generation(1), None).unwrap();
        let rules = loaded.policy.rules();
        let seen: Vec<_> = rules.iter().map(|rule| (&*rule.name, rule.at.to_string())).collect();
        assert_eq!(
            seen,
            [
                ("a.example.com", "p.yaml:3".to_owned()),
                ("b.example.com and 1 more", "p.yaml:4".to_owned())
            ]
        );
        assert_eq!(rules[1].until.unwrap().to_string(), "2027-01-01T00:00:00Z");
    }

    #[test]
    fn an_unchanged_rule_goes_on_counting() {
        let first = load(
            &[written("allow: [a.example.com, b.example.com]")],
            now(),
            Generation(1),
            None,
        )
        .unwrap();
        for rule in first.policy.rules() {
            rule.hits.record(now());
        }
        let texts = [written("allow:\n  - c.example.com\n  - b.example.com\n")];
        let second = load(&texts, now(), Generation(2), Some(&first.policy)).unwrap();
        let hits: Vec<_> = second.policy.rules().iter().map(|rule| rule.hits.count()).collect();
        assert_eq!(hits, [0, 1]);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(1_000))]

        /// J13: a deny wins wherever it stands, and the order of the rules never changes an answer.
        #[test]
        fn order_changes_no_answer(
            allow in proptest::strategy::Strategy::prop_shuffle(proptest::strategy::Just(ALLOW.to_vec())),
            deny in proptest::strategy::Strategy::prop_shuffle(proptest::strategy::Just(DENY.to_vec())),
            deny_first: bool,
        ) {
            let list = |key: &str, rules: &[&str]| format!("{key}:\n  - {}\n", rules.join("\n  - "));
            let (allow, deny) = (list("allow", &allow), list("deny", &deny));
            let text = if deny_first { deny + &allow } else { allow + &deny };
            let loaded = load(&[written(&text)], now(), Generation(1), None).unwrap();
            let answers = ANSWERS.iter().map(|(from, host, port, _)| {
                let host = crate::name::Host::parse(host.as_bytes()).unwrap();
                let ask = crate::policy::Ask::new(host, crate::name::Port::new(*port).unwrap());
                let source = crate::policy::Source::at(from.parse().unwrap());
                crate::policy::gate(&loaded.policy, now(), &source, &ask).reason.as_str()
            });
            let expected = ANSWERS.iter().map(|(_, _, _, reason)| *reason);
            proptest::prop_assert_eq!(answers.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

        /// Whatever a damaged file says, it is refused or loaded, and what is noted about it can be shown.
        #[test]
        fn damage_never_panics(
            edits in proptest::collection::vec((0..10_000_usize, 0..DAMAGE.len(), 0..4_usize), 1..6),
            case in 0..1_000_usize,
        ) {
            let mut text: Vec<char> = CORPUS[case % CORPUS.len()].chars().collect();
            for (at, damage, removed) in edits {
                let at = at % (text.len() + 1);
                let end = (at + removed).min(text.len());
                text.splice(at..end, DAMAGE[damage].chars());
            }
            let texts = [written(&text.into_iter().collect::<String>())];
            let problems = match load(&texts, now(), Generation(1), None) {
                Ok(loaded) => loaded.warnings,
                Err(problems) => {
                    proptest::prop_assert!(!problems.is_empty());
                    problems
                }
            };
            let rendered = render(&problems, &texts, false);
            let titles = rendered.lines().filter(|line| line.starts_with("error: ") || line.starts_with("warning"));
            proptest::prop_assert_eq!(titles.count(), problems.len().min(200));
            proptest::prop_assert!(!rendered.contains(|c: char| c.is_control() && c != '\n'), "{}", rendered);
            proptest::prop_assert_eq!(
                crate::policy::problem::json(&problems, &texts).as_array().map(Vec::len),
                Some(problems.len())
            );
        }
    }

    static CORPUS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let files = ["valid", "invalid"]
            .into_iter()
            .flat_map(cases)
            .filter(|case| case.is_file());
        files.map(|file| fs::read_to_string(file).unwrap()).collect()
    });
    const DAMAGE: &[&str] = &[
        "", " ", "\n", "\t", ":", ": ", "- ", "[", "]", "{", "}", "\"", "'", "*", "&a ", "!t ", "#", "|", ">", "%",
        "?", "ü", "\u{0}", "\u{feff}", "0", "-", ".", "..", "//", "://", "\r", "@", "`", ",", "<<: ", "null",
        "\n---\n",
    ];
    const ALLOW: &[&str] = &[
        "api.example.com",
        "\"*.example.com\"",
        "store*.example.com:8443",
        "{to: [only.example.net], from: [10.1.0.0/16]}",
        "{to: [only.example.net], until: 2020-01-01}",
        "{to: [\"*.example.net:8443\"], from: [10.2.0.0/16]}",
        "tcp://203.0.113.0/24:25",
    ];
    const DENY: &[&str] = &[
        "bad.example.com",
        "\"*.bad.example.com\"",
        "{to: [\"*.example.net\"], from: [10.1.9.0/24]}",
        "203.0.113.7",
    ];
    const ANSWERS: &[(&str, &str, u16, &str)] = &[
        ("10.9.9.9", "api.example.com", 443, "rule"),
        ("10.9.9.9", "api.example.com", 80, "port"),
        ("10.9.9.9", "bad.example.com", 443, "deny_rule"),
        ("10.9.9.9", "x.bad.example.com", 25, "deny_rule"),
        ("10.9.9.9", "store1.example.com", 8443, "rule"),
        ("10.9.9.9", "only.example.net", 443, "no_rule_for_source"),
        ("10.1.0.1", "only.example.net", 443, "rule"),
        ("10.1.9.1", "only.example.net", 443, "deny_rule"),
        ("10.2.0.1", "x.example.net", 8443, "rule"),
        ("10.9.9.9", "example.com", 443, "no_rule"),
        ("10.9.9.9", "203.0.113.8", 25, "rule"),
        ("10.9.9.9", "203.0.113.7", 25, "deny_rule"),
    ];

    fn written(text: &str) -> SourceText {
        SourceText {
            name: "p.yaml".into(),
            text: text.into(),
        }
    }

    #[test]
    fn the_built_in_policy_loads() {
        let (source, _) = crate::policy::builtin();
        let loaded = load(&[source], now(), Generation(1), None).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        assert!(loaded.policy.rules().len() >= 5);
    }

    fn cases(kind: &str) -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/corpus/policy")
            .join(kind);
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut cases: Vec<_> = entries
            .filter(|path| path.extension().is_none_or(|end| end != "txt"))
            .collect();
        cases.sort();
        assert!(!cases.is_empty());
        cases
    }

    fn texts(case: &Path) -> Vec<SourceText> {
        let mut files = if case.is_dir() {
            fs::read_dir(case).unwrap().map(|entry| entry.unwrap().path()).collect()
        } else {
            vec![case.to_path_buf()]
        };
        files.sort();
        files.iter().map(|path| text(path)).collect()
    }

    fn text(path: &Path) -> SourceText {
        SourceText {
            name: path.file_name().unwrap().to_str().unwrap().into(),
            text: fs::read_to_string(path).unwrap().into(),
        }
    }

    /// The text stands beside its case; no text is no problem.
    fn compare(case: &Path, rendered: &str) -> String {
        golden::compare(&case.with_extension("txt"), rendered)
    }

    fn now() -> Timestamp {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }
}
