//! The counts that were recorded, and how new ones compare with them.
//! Must not let anything pass unseen: another compiler, a case too many or too few is a failure.
//! Called by the program with its file and with what it has counted.

use std::fmt;
use std::str::FromStr;

use anyhow::Context;

/// Instructions per unit of each case, as code from one compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) compiler: String,
    pub(crate) cases: Vec<(String, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) table: Vec<String>,
    pub(crate) failures: Vec<String>,
    /// Cases that cost less by more than the tolerance.
    pub(crate) gains: Vec<String>,
}

pub(crate) fn compare(recorded: &Counts, counted: &Counts) -> Verdict {
    let mut verdict = Verdict::default();
    if recorded.compiler != counted.compiler {
        verdict.failures.push(format!(
            "recorded with {}, but this is {}: what is counted cannot be compared",
            recorded.compiler, counted.compiler
        ));
    }
    for (name, now) in &counted.cases {
        let Some(before) = recorded.of(name) else {
            verdict.table.push(format!("{name:<24} {now:>10}"));
            verdict.failures.push(format!("{name} is not recorded"));
            continue;
        };
        let change = change(before, *now);
        verdict.table.push(format!("{name:<24} {now:>10} {change:>+7.1} %"));
        if *now * 100 > before * (100 + TOLERATED) {
            verdict
                .failures
                .push(format!("{name} takes {now} instructions, not {before}: {change:+.1} %"));
        } else if *now * 100 < before * (100 - TOLERATED) {
            verdict.gains.push(name.clone());
        }
    }
    for (name, _) in &recorded.cases {
        if counted.of(name).is_none() {
            verdict
                .failures
                .push(format!("{name} is recorded, but was not counted"));
        }
    }
    verdict
}

impl Counts {
    fn of(&self, name: &str) -> Option<u64> {
        self.cases
            .iter()
            .find_map(|(case, count)| (case == name).then_some(*count))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.compiler)?;
        self.cases
            .iter()
            .try_for_each(|(name, count)| writeln!(f, "{name} {count}"))
    }
}

impl FromStr for Counts {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut lines = text.lines();
        let compiler = lines.next().context("it is empty")?.to_owned();
        let cases = lines.map(|line| {
            let (name, count) = line.split_once(' ').with_context(|| format!("no count in {line:?}"))?;
            Ok((
                name.to_owned(),
                count.parse().with_context(|| format!("no count in {line:?}"))?,
            ))
        });
        Ok(Self {
            compiler,
            cases: cases.collect::<anyhow::Result<_>>()?,
        })
    }
}

/// In percent.
fn change(before: u64, now: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of one unit are far below 2^53")]
    let (before, now) = (before as f64, now as f64);
    (now / before - 1.0) * 100.0
}

/// Percent by which a count may differ.
const TOLERATED: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grew_or_cannot_be_compared_is_a_failure() {
        let counted = Counts {
            compiler: "rustc 1.95.0 x86_64".to_owned(),
            cases: vec![("a".to_owned(), 10_500), ("b".to_owned(), 105)],
        };
        let baseline: [(&str, &str, &[&str]); 7] = [
            ("the same", "rustc 1.95.0 x86_64\na 10500\nb 105\n", &[]),
            ("5 % more", "rustc 1.95.0 x86_64\na 10000\nb 100\n", &[]),
            (
                "more than 5 %",
                "rustc 1.95.0 x86_64\na 9999\nb 99\n",
                &["a takes", "b takes"],
            ),
            ("less", "rustc 1.95.0 x86_64\na 20000\nb 105\n", &[]),
            (
                "another compiler",
                "rustc 1.96.0 x86_64\na 10500\nb 105\n",
                &["recorded with rustc 1.96.0"],
            ),
            ("not recorded", "rustc 1.95.0 x86_64\nb 105\n", &["a is not recorded"]),
            (
                "not counted",
                "rustc 1.95.0 x86_64\na 10500\nb 105\nc 1\n",
                &["c is recorded"],
            ),
        ];
        for (what, text, expected) in baseline {
            let failures = compare(&text.parse().unwrap(), &counted).failures;
            assert_eq!(failures.len(), expected.len(), "{what}: {failures:?}");
            for (failure, expected) in failures.iter().zip(expected) {
                assert!(failure.starts_with(expected), "{what}: {failure}");
            }
        }
    }

    #[test]
    fn less_is_told() {
        let of = |count| Counts {
            compiler: "rustc".to_owned(),
            cases: vec![("a".to_owned(), count)],
        };
        assert_eq!(compare(&of(1000), &of(940)).gains, ["a"]);
        assert!(compare(&of(1000), &of(960)).gains.is_empty());
    }

    #[test]
    fn a_file_reads_as_it_was_written_and_half_a_file_does_not() {
        let written = include_str!("../baseline.txt");
        let counts: Counts = written.parse().unwrap();
        assert_eq!(counts.to_string(), written);
        for broken in ["", "rustc\na", "rustc\na b"] {
            assert!(broken.parse::<Counts>().is_err(), "{broken:?}");
        }
    }
}
