//! From the texts of all policy files to a policy in force: parse, merge, compile, lint, `expect`.
//! Must not touch files or clocks; texts and time come in. All problems of all files come out together.
//! Called by `check`, by every start and by every reload.

use jiff::Timestamp;

use super::compile;
use super::compiled::Policy;
use super::document::Document;
use super::problem::{Problem, Problems, SourceText};
use super::rule::Generation;

/// A set of files that may come into force.
#[derive(Debug)]
pub struct Loaded {
    pub policy: Policy,
    /// Things a person should look at; they stop nothing.
    pub warnings: Vec<Problem>,
}

/// Compiles a set of files.
///
/// # Errors
/// Every problem of every file, errors and warnings, in the order of the files. Nothing is half accepted.
pub fn load(
    texts: &[SourceText],
    now: Timestamp,
    generation: Generation,
    previous: Option<&Policy>,
) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Problems::new(texts);
    let document = Document::read_noting(&mut problems);
    let _ = (now, previous);
    let parts = compile::compile(document, &mut problems);
    if problems.has_errors() {
        return Err(problems.into_sorted());
    }
    let policy = Policy::new(parts, generation);
    Ok(Loaded {
        policy,
        warnings: problems.into_sorted(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::policy::problem::render;

    /// Each case is a file, or a folder of files that are loaded together; the expected text stands beside it as
    /// `.txt`. `UPDATE_CORPUS=1` writes what comes out, for a person to read before it is committed.
    #[test]
    fn every_refusal_reads_as_written_down() {
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
            compare(&case, &render(&problems, &texts, false));
        }
    }

    /// A valid case without a `.txt` loads without a warning.
    #[test]
    fn valid_files_load() {
        for case in cases("valid") {
            let texts = texts(&case);
            match load(&texts, now(), Generation(1), None) {
                Err(problems) => panic!("{}:\n{}", case.display(), render(&problems, &texts, false)),
                Ok(loaded) if loaded.warnings.is_empty() => assert!(!case.with_extension("txt").exists()),
                Ok(loaded) => compare(&case, &render(&loaded.warnings, &texts, false)),
            }
        }
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
        let text = |path: &PathBuf| SourceText {
            name: path.file_name().unwrap().to_str().unwrap().into(),
            text: fs::read_to_string(path).unwrap().into(),
        };
        files.iter().map(text).collect()
    }

    fn compare(case: &Path, rendered: &str) {
        let expected = case.with_extension("txt");
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            fs::write(&expected, rendered).unwrap();
        }
        let written = fs::read_to_string(&expected).unwrap_or_default();
        assert!(
            written == rendered,
            "{}: expected\n{written}\nbut it says\n{rendered}",
            case.display()
        );
    }

    fn now() -> Timestamp {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }
}
