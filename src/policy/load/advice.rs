//! Follows the advice of problems to the letter: what was advised must load, and be the only thing that was wrong.
//! Must not know any single advice: "write", "did you mean" and "remove" are applied, the rest is compared.
//! Called by the tests of `load`.

use jiff::Timestamp;
use serde::Deserialize;

use super::load;
use crate::policy::problem::{Problem, Severity, SourceText, render};
use crate::policy::rule::Generation;

/// A file with one mistake.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    wrong: String,
    /// The file after a person followed the advice, where that is more than putting its words in the place that is
    /// underlined. It must hold the first thing that the advice spells out.
    right: Option<String>,
}

#[test]
fn who_follows_advice_is_not_refused_again() {
    let rows: Vec<Row> = serde_saphyr::from_str(include_str!("../../../tests/corpus/policy/advice.yaml")).unwrap();
    assert!(rows.len() > 50);
    let failures = rows.iter().filter_map(|row| {
        let why = follow(row).err()?;
        Some(format!("{}\n{why}\n", row.wrong))
    });
    let failures: Vec<_> = failures.collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

fn follow(row: &Row) -> Result<(), String> {
    let errors = errors(&row.wrong);
    let shown = || render(&errors, &[source(&row.wrong)], false);
    let [problem] = errors.as_slice() else {
        return Err(format!("one mistake is one problem, and not\n{}", shown()));
    };
    let help = problem
        .help
        .as_deref()
        .ok_or_else(|| format!("no advice:\n{}", shown()))?;
    let spelled = spelled(help);
    let tries = match &row.right {
        Some(right) => {
            // Names that the reader has to fill in cannot be compared.
            let missing = spelled.first().filter(|part| {
                let placeholder = part.contains("NAME") || part.contains("YYYY");
                !placeholder && !right.contains(part.as_str())
            });
            if let Some(missing) = missing {
                return Err(format!("`{missing}` is advised, and not followed:\n{}", shown()));
            }
            vec![right.clone()]
        }
        None => mechanically(&row.wrong, problem, help, &spelled),
    };
    if tries.is_empty() {
        return Err(format!(
            "this says nothing that could be done without thinking:\n{}",
            shown()
        ));
    }
    for followed in tries {
        let errors = self::errors(&followed);
        if !errors.is_empty() {
            let again = render(&errors, &[source(&followed)], false);
            return Err(format!("{}\nfollowed:\n{followed}\n{again}", shown()));
        }
    }
    Ok(())
}

/// The file with each thing that is spelled out in the place that is underlined, or without its line.
fn mechanically(text: &str, problem: &Problem, help: &str, spelled: &[String]) -> Vec<String> {
    let Some(span) = problem.span else { return Vec::new() };
    if help.starts_with("remove the line") || help.starts_with("remove the rule") {
        let start = text[..span.start].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[span.start..]
            .find('\n')
            .map_or(text.len(), |newline| span.start + newline + 1);
        return vec![format!("{}{}", &text[..start], &text[end..])];
    }
    if !help.contains("write `") && !help.contains("did you mean `") && !help.contains("quotes: `") {
        return Vec::new();
    }
    let replaced = spelled
        .iter()
        .map(|part| format!("{}{part}{}", &text[..span.start], &text[span.end..]));
    replaced.collect()
}

/// What stands in backticks behind "write" and its like; of the rest, some is explanation.
fn spelled(help: &str) -> Vec<String> {
    let begin = ["write `", "did you mean `", "add `", "quote", "close"]
        .iter()
        .filter_map(|verb| help.find(verb))
        .min();
    let Some(begin) = begin else { return Vec::new() };
    let advice = &help[begin..];
    let end = ["; ", "? ", "`: ", "`. "]
        .iter()
        .filter_map(|end| advice.find(end))
        .min();
    let advice = &advice[..end.map_or(advice.len(), |end| end + 1)];
    advice.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn errors(text: &str) -> Vec<Problem> {
    let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
    let problems = load(&[source(text)], now, Generation(1), None)
        .err()
        .unwrap_or_default();
    problems
        .into_iter()
        .filter(|problem| problem.severity == Severity::Error)
        .collect()
}

fn source(text: &str) -> SourceText {
    SourceText {
        name: "p.yaml".into(),
        text: text.into(),
    }
}
