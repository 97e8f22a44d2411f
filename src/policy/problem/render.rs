//! Problems as text for a person, and as JSON for a machine.
//! Must not decide what is a problem, and must not print. The text has no colours unless they are asked for.
//! Called by `check`, by a start that fails and by the reload log.

use std::borrow::Cow;

use annotate_snippets::{Annotation, AnnotationKind, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use super::{Lines, Problem, Severity, SourceText, Span};

/// All problems, each with the line it is about, and a count at the end.
pub fn render(problems: &[Problem], texts: &[SourceText], colour: bool) -> String {
    let mut out = render_each(problems, texts, colour);
    out.push_str(&summary(problems));
    out.push('\n');
    out
}

/// All problems, each with the line it is about and an empty line after it.
pub fn render_each(problems: &[Problem], texts: &[SourceText], colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for problem in problems.iter().take(SHOWN) {
        out.push_str(&one(problem, texts, &renderer));
        out.push_str("\n\n");
    }
    if let Some(hidden) = problems.len().checked_sub(SHOWN).filter(|hidden| *hidden > 0) {
        out.push_str("... and ");
        out.push_str(&hidden.to_string());
        out.push_str(" more\n\n");
    }
    out
}

/// The problems as a JSON array of objects. Lines and columns count from 1, columns in characters; both are absent
/// where the whole file is meant.
pub fn json(problems: &[Problem], texts: &[SourceText]) -> serde_json::Value {
    let lines: Vec<_> = texts
        .iter()
        .map(|source| (&source.name, Lines::of(&source.text)))
        .collect();
    let rows = problems.iter().map(|problem| {
        let text = text_of(problem, texts);
        let lines = lines.iter().find(|(name, _)| **name == problem.file);
        let place = problem.span.zip(lines).map(|(span, (_, lines))| {
            let line = u32::try_from(span.start).map_or(0, |start| lines.line(start));
            (line, column(text, span.start))
        });
        Row {
            file: &problem.file,
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
            severity: problem.severity.as_str(),
            message: &problem.message,
            label: Some(problem.label.as_str()).filter(|label| !label.is_empty()),
            help: problem.help.as_deref(),
            lint: problem.lint.as_ref().map(|linted| linted.lint.as_str()),
            accepted: problem.lint.as_ref().and_then(|linted| linted.accepted.as_deref()),
        }
    });
    serde_json::Value::Array(rows.filter_map(|row| serde_json::to_value(row).ok()).collect())
}

#[derive(Serialize)]
struct Row<'p> {
    file: &'p str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    severity: &'static str,
    message: &'p str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lint: Option<&'p str>,
    /// Why it stands all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<&'p str>,
}

/// `3 errors, 1 warning`.
pub fn summary(problems: &[Problem]) -> String {
    let counts = [Severity::Error, Severity::Warning].map(|severity| {
        let count = problems.iter().filter(|problem| problem.severity == severity).count();
        let plural = if count == 1 { "" } else { "s" };
        (count, format!("{count} {}{plural}", severity.as_str()))
    });
    let counts: Vec<_> = counts.into_iter().filter(|(count, _)| *count > 0).collect();
    if counts.is_empty() {
        return "no problems".to_owned();
    }
    counts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(", ")
}

fn one(problem: &Problem, texts: &[SourceText], renderer: &Renderer) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let text = text_of(problem, texts);
    let (message, label) = (one_line(&problem.message), one_line(&problem.label));
    let title = level.primary_title(&*message);
    let title = match &problem.lint {
        Some(linted) => title.id(linted.lint.as_str()),
        None => title,
    };
    let mut group = match problem.span {
        Some(span) => title.element(snippet(problem, &label, text, span)),
        None if problem.file.is_empty() => title.elements(None::<Origin<'_>>),
        None => title.element(Origin::path(&*problem.file)),
    };
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(one_line(help).into_owned()));
    }
    renderer.render(&[group])
}

/// Messages quote files, and files may hold what a terminal obeys.
fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| {
        let escaped = c.is_control().then(|| c.escape_default());
        let plain = (!c.is_control()).then_some(c);
        escaped.into_iter().flatten().chain(plain)
    };
    Cow::Owned(text.chars().flat_map(escape).collect())
}

/// Only the line itself goes to the renderer: it would otherwise walk the whole file for each problem.
fn snippet<'p>(problem: &'p Problem, label: &'p str, text: &'p str, span: Span) -> Snippet<'p, Annotation<'p>> {
    let start = floor(text, span.start);
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let line = text[line_start..line_end].trim_end_matches('\r');
    let within = start - line_start;
    let end = floor(text, span.end)
        .saturating_sub(line_start)
        .min(line.trim_end().len());
    let annotation = AnnotationKind::Primary.span(within..end.max(within));
    let annotation = if label.is_empty() {
        annotation
    } else {
        annotation.label(label)
    };
    Snippet::source(line)
        .path(&*problem.file)
        .line_start(1 + text[..start].matches('\n').count())
        .annotation(annotation)
}

fn text_of<'t>(problem: &Problem, texts: &'t [SourceText]) -> &'t str {
    let source = texts.iter().find(|source| source.name == problem.file);
    source.map_or("", |source| &*source.text)
}

/// The column of an offset, from 1, in characters.
fn column(text: &str, offset: usize) -> usize {
    let before = &text[..floor(text, offset)];
    let line = before.rfind('\n').map_or(0, |newline| newline + 1);
    1 + before[line..].chars().count()
}

/// The offset, moved to the start of a character inside the text.
fn floor(text: &str, offset: usize) -> usize {
    text.floor_char_boundary(offset)
}

/// A file of nonsense yields a problem per line; nobody reads more than these.
const SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "allow:\r\n  - grün-*.example.com  \r\n";

    #[test]
    fn a_problem_shows_its_line() {
        let rendered = render(&[problem()], &texts(), false);
        let lines = [
            "error: no such name",
            " --> p.yaml:2:5",
            "  |",
            "2 |   - grün-*.example.com",
            "  |     ^^^^ here",
            "  |",
            "  = help: write another",
            "",
            "1 error",
            "",
        ];
        assert_eq!(rendered.lines().map(str::trim_end).collect::<Vec<_>>(), lines[..9]);
        assert!(render(&[problem()], &texts(), true).contains("\u{1b}["));
    }

    #[test]
    fn columns_count_characters() {
        let mut at_star = problem();
        at_star.span = Some(Span {
            start: TEXT.find('*').unwrap(),
            end: TEXT.find('*').unwrap() + 1,
        });
        let expected = serde_json::json!([{
            "file": "p.yaml",
            "line": 2,
            "column": 10,
            "severity": "error",
            "message": "no such name",
            "label": "here",
            "help": "write another",
        }]);
        assert_eq!(json(&[at_star], &texts()), expected);
        let mut of_file = problem();
        of_file.span = None;
        of_file.label.clear();
        of_file.help = None;
        let expected = serde_json::json!([{"file": "p.yaml", "severity": "error", "message": "no such name"}]);
        assert_eq!(json(&[of_file], &texts()), expected);
    }

    #[test]
    fn nonsense_does_not_fill_the_screen() {
        let many = vec![problem(); SHOWN + 5];
        let rendered = render(&many, &texts(), false);
        assert_eq!(rendered.matches("no such name").count(), SHOWN);
        assert!(rendered.ends_with("... and 5 more\n\n205 errors\n"), "{rendered}");
    }

    /// Whoever makes a problem may be wrong about the text; the message must come out all the same.
    #[test]
    fn places_outside_the_text_do_no_harm() {
        for (start, end) in [
            (0, 0),
            (13, 14),
            (TEXT.len(), TEXT.len()),
            (9_999, 10_000),
            (5, 3),
            (8, 9_999),
        ] {
            let mut odd = problem();
            odd.span = Some(Span { start, end });
            assert!(render(&[odd.clone()], &texts(), false).contains("no such name"));
            assert_eq!(json(&[odd], &texts()).as_array().unwrap().len(), 1);
        }
        let stranger = Problem {
            file: "other.yaml".into(),
            ..problem()
        };
        assert!(render(&[stranger], &texts(), false).contains("other.yaml"));
    }

    fn problem() -> Problem {
        let start = TEXT.find('g').unwrap();
        Problem {
            severity: Severity::Error,
            file: "p.yaml".into(),
            span: Some(Span { start, end: start + 5 }),
            message: "no such name".into(),
            label: "here".into(),
            help: Some("write another".into()),
            lint: None,
        }
    }

    fn texts() -> [SourceText; 1] {
        [SourceText {
            name: "p.yaml".into(),
            text: TEXT.into(),
        }]
    }
}
