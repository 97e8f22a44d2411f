//! Verdicts as a table, as JSON, as JUnit XML.
//! Must not change a verdict; what does not hold comes with what to do.
//! Called by `verify`.

use std::fmt::Write as _;

use serde_json::json;

use crate::kubernetes::judge::{Line, Verdict};

/// All verdicts on one workload.
pub(super) struct Verdicts<'a> {
    workload: &'a str,
    /// Whether there was a pod without a lock to compare with.
    controlled: bool,
    lines: &'a [Line],
}

impl<'a> Verdicts<'a> {
    pub(super) fn new(workload: &'a str, controlled: bool, lines: &'a [Line]) -> Self {
        Self {
            workload,
            controlled,
            lines,
        }
    }

    /// Whether all that must hold holds.
    pub(super) fn holds(&self) -> bool {
        !self.lines.iter().any(|line| line.fails)
    }

    /// By criterion; what fails says more.
    pub(super) fn table(&self) -> String {
        let mut text = format!("verify {}\n", self.workload);
        if !self.controlled {
            text += NO_CONTROL;
        }
        let mut criteria: Vec<_> = self.lines.iter().map(|line| line.criterion).collect();
        criteria.sort_unstable();
        criteria.dedup();
        let width = self.lines.iter().map(|line| line.id.chars().count()).max().unwrap_or(0);
        for criterion in criteria {
            let _ = writeln!(text, "\n{}", criterion.as_str());
            for line in self.lines.iter().filter(|line| line.criterion == criterion) {
                let mark = if line.fails { "!" } else { " " };
                let verdict = line.verdict.as_str();
                let _ = writeln!(text, "{mark} {verdict:<11}  {:<width$}  {}", line.id, line.evidence);
                if !line.proves.is_empty() && (line.fails || line.verdict == Verdict::Holds) {
                    let word = if line.fails { "should show" } else { "shows" };
                    let _ = writeln!(text, "               {word}: {}", line.proves);
                }
                if let Some(advice) = &line.advice {
                    let _ = writeln!(text, "               do: {advice}");
                }
            }
        }
        let _ = writeln!(text, "\n{}", self.summary());
        text
    }

    pub(super) fn json(&self) -> String {
        let lines = self.lines.iter().map(|line| {
            let mut shown = json!(line);
            if let Some(shown) = shown.as_object_mut() {
                shown.insert("serves".to_owned(), json!(line.criterion.as_str()));
            }
            shown
        });
        let lines: Vec<_> = lines.collect();
        let report = json!({
            "workload": self.workload,
            "holds": self.holds(),
            "controlled": self.controlled,
            "lines": lines,
        });
        format!("{report:#}")
    }

    /// One case for each line; what must hold and does not is a failure, what cannot be concluded is skipped.
    pub(super) fn junit(&self) -> String {
        let failures = self.lines.iter().filter(|line| line.fails).count();
        let passed = self.lines.iter().filter(|line| line.verdict == Verdict::Holds).count();
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"{}\" tests=\"{}\" \
             failures=\"{failures}\" skipped=\"{}\">\n",
            escaped(&format!("sluicegate verify {}", self.workload)),
            self.lines.len(),
            self.lines.len() - failures - passed,
        );
        for line in self.lines {
            let (class, name) = (escaped(line.criterion.as_str()), escaped(&line.id));
            let _ = write!(text, "    <testcase classname=\"{class}\" name=\"{name}\"");
            if line.verdict == Verdict::Holds {
                let _ = writeln!(text, "/>");
                continue;
            }
            let verdict = line.verdict.as_str();
            let message = escaped(&format!("{verdict}: {}", line.evidence));
            let advice = escaped(line.advice.as_deref().unwrap_or_default());
            let (open, close) = if line.fails {
                (format!("failure type=\"{verdict}\" message=\"{message}\""), "failure")
            } else {
                (format!("skipped message=\"{message}\""), "skipped")
            };
            let _ = writeln!(text, ">\n      <{open}>{advice}</{close}>\n    </testcase>");
        }
        text += "  </testsuite>\n</testsuites>\n";
        text
    }

    /// `not proven: 3 of 40 lines fail (2 OPEN, 1 not proven)`.
    fn summary(&self) -> String {
        let mut failed: Vec<_> = self
            .lines
            .iter()
            .filter(|line| line.fails)
            .map(|line| line.verdict)
            .collect();
        failed.sort_unstable();
        if failed.is_empty() {
            return format!("all that must hold holds ({} lines)", self.lines.len());
        }
        let counts = failed.chunk_by(|one, other| one == other).filter_map(|same| {
            let first = same.first()?;
            Some(format!("{} {}", same.len(), first.as_str()))
        });
        let counts: Vec<_> = counts.collect();
        format!(
            "{} of {} lines fail: {}",
            failed.len(),
            self.lines.len(),
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

const NO_CONTROL: &str = "without a control nothing counts as blocked: run `sluicegate verify --observe` with the same flags in \
                          a namespace without a lock, and give what it prints as --control\n";

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
