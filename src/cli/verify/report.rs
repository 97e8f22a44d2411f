//! Verdicts on one workload, and what `verify` alone says about them.
//! Must not change a verdict.
//! Called by `verify`.

use serde_json::json;

use crate::cli::report::{Row, Verdicts};
use crate::kubernetes::judge::{Line, Verdict};

/// The verdicts as any report prints them; the gravest counted first.
pub(super) fn verdicts<'a>(workload: &str, controlled: bool, lines: &'a [Line]) -> Verdicts<'a> {
    let row = |line: &'a Line| Row {
        id: &line.id,
        criterion: line.criterion,
        verdict: line.verdict.as_str(),
        holds: line.verdict == Verdict::Holds,
        fails: line.fails,
        evidence: &line.evidence,
        proves: &line.proves,
        advice: line.advice.as_deref(),
    };
    Verdicts {
        title: format!("verify {workload}"),
        preface: if controlled { "" } else { NO_CONTROL },
        rows: lines.iter().map(row).collect(),
    }
}

/// With all that is known of each line.
pub(super) fn json(workload: &str, controlled: bool, lines: &[Line]) -> String {
    let each = lines.iter().map(|line| {
        let mut shown = json!(line);
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("serves".to_owned(), json!(line.criterion.as_str()));
        }
        shown
    });
    let report = json!({
        "workload": workload,
        "holds": verdicts(workload, controlled, lines).holds(),
        "controlled": controlled,
        "lines": each.collect::<Vec<_>>(),
    });
    format!("{report:#}")
}

const NO_CONTROL: &str = "without a control nothing counts as blocked: run `sluicegate verify --observe` with the same flags in \
                          a namespace without a lock, and give what it prints as --control\n";
