//! Verdicts as a table and as JUnit XML, the same for all commands that prove something.
//! Must not change a verdict; what does not hold comes with what to do.
//! Called by `verify` and `audit`.

use std::fmt::Write as _;

use crate::criterion::Criterion;

/// All verdicts of one command.
pub(super) struct Verdicts<'a> {
    /// What was done to what: `verify trips`.
    pub(super) title: String,
    /// What must be known before the verdicts are read; whole lines.
    pub(super) preface: &'static str,
    pub(super) rows: Vec<Row<'a>>,
}

/// One verdict.
pub(super) struct Row<'a> {
    pub(super) id: &'a str,
    pub(super) criterion: Criterion,
    pub(super) verdict: &'static str,
    /// What must hold, holds.
    pub(super) holds: bool,
    /// The whole fails with it.
    pub(super) fails: bool,
    pub(super) evidence: &'a str,
    /// What is known once it holds.
    pub(super) proves: &'a str,
    pub(super) advice: Option<&'a str>,
}

impl Verdicts<'_> {
    /// Whether all that must hold holds.
    pub(super) fn holds(&self) -> bool {
        !self.rows.iter().any(|row| row.fails)
    }

    /// By criterion; what fails says more.
    pub(super) fn table(&self) -> String {
        let mut text = format!("{}\n{}", self.title, self.preface);
        let mut criteria: Vec<_> = self.rows.iter().map(|row| row.criterion).collect();
        criteria.sort_unstable();
        criteria.dedup();
        let width = self.rows.iter().map(|row| row.id.chars().count()).max().unwrap_or(0);
        for criterion in criteria {
            let _ = writeln!(text, "\n{}", criterion.as_str());
            for row in self.rows.iter().filter(|row| row.criterion == criterion) {
                let mark = if row.fails { "!" } else { " " };
                let _ = writeln!(text, "{mark} {:<11}  {:<width$}  {}", row.verdict, row.id, row.evidence);
                if !row.proves.is_empty() && (row.fails || row.holds) {
                    let word = if row.fails { "should show" } else { "shows" };
                    let _ = writeln!(text, "               {word}: {}", row.proves);
                }
                if let Some(advice) = row.advice {
                    let _ = writeln!(text, "               do: {advice}");
                }
            }
        }
        let _ = writeln!(text, "\n{}", self.summary());
        text
    }

    /// One case for each row; what must hold and does not is a failure, what cannot be concluded is skipped.
    pub(super) fn junit(&self) -> String {
        let failures = self.rows.iter().filter(|row| row.fails).count();
        let passed = self.rows.iter().filter(|row| row.holds).count();
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"{}\" tests=\"{}\" \
             failures=\"{failures}\" skipped=\"{}\">\n",
            escaped(&format!("sluicegate {}", self.title)),
            self.rows.len(),
            self.rows.len() - failures - passed,
        );
        for row in &self.rows {
            let (class, name) = (escaped(row.criterion.as_str()), escaped(row.id));
            let _ = write!(text, "    <testcase classname=\"{class}\" name=\"{name}\"");
            if row.holds {
                let _ = writeln!(text, "/>");
                continue;
            }
            let verdict = row.verdict;
            let message = escaped(&format!("{verdict}: {}", row.evidence));
            let advice = escaped(row.advice.unwrap_or_default());
            let (open, close) = if row.fails {
                (format!("failure type=\"{verdict}\" message=\"{message}\""), "failure")
            } else {
                (format!("skipped message=\"{message}\""), "skipped")
            };
            let _ = writeln!(text, ">\n      <{open}>{advice}</{close}>\n    </testcase>");
        }
        text += "  </testsuite>\n</testsuites>\n";
        text
    }

    /// `3 of 40 lines fail: 2 OPEN, 1 not proven`.
    fn summary(&self) -> String {
        let failed: Vec<_> = self
            .rows
            .iter()
            .filter(|row| row.fails)
            .map(|row| row.verdict)
            .collect();
        if failed.is_empty() {
            return format!("all that must hold holds ({} lines)", self.rows.len());
        }
        // In the order in which they are first seen.
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for verdict in &failed {
            match counts.iter_mut().find(|(known, _)| known == verdict) {
                Some((_, count)) => *count += 1,
                None => counts.push((verdict, 1)),
            }
        }
        let counts: Vec<_> = counts
            .iter()
            .map(|(verdict, count)| format!("{count} {verdict}"))
            .collect();
        format!(
            "{} of {} lines fail: {}",
            failed.len(),
            self.rows.len(),
            counts.join(", ")
        )
    }
}

/// For XML text and for attributes in double quotes; what XML 1.0 cannot hold at all becomes a question mark.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            // Unescaped, attributes would have spaces in their place.
            '\n' => escaped += "&#10;",
            '\t' => escaped += "&#9;",
            '\r' => escaped += "&#13;",
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('?'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_xml() {
        assert_eq!(
            escaped("a<b>&\"c\"\u{1}\n]]>"),
            "a&lt;b&gt;&amp;&quot;c&quot;?&#10;]]&gt;"
        );
    }
}
