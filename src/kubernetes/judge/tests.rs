//! Verdicts on every pair of observations that matters, from a table; and what is missing altogether.
//! Must not run a probe.
//! Called by every test run.

use std::fmt::Write as _;

use serde::Deserialize;

use super::*;
use crate::kubernetes::probe::Attempt;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    why: String,
    must: String,
    inside: Outcome,
    control: Option<Outcome>,
    other: Option<Outcome>,
    is: String,
    #[serde(default)]
    fails: bool,
}

#[test]
fn verdicts_are_as_written_down() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("../../../tests/corpus/judge.yaml")).unwrap();
    assert!(cases.len() > 30);
    let mut wrong = String::new();
    for case in &cases {
        let probes = [probe(must(&case.must))];
        let control = case.control.map(|outcome| seen(outcome, "control"));
        let also: Vec<_> = case.other.map(|outcome| seen(outcome, "other")).into_iter().collect();
        let others = Others {
            control: control.as_ref(),
            workloads: &also,
        };
        let lines = judge(&probes, &seen(case.inside, "inside"), others);
        let [line] = &*lines else { panic!("{lines:?}") };
        let verdict = serde_json::to_value(line.verdict).unwrap();
        if (verdict.as_str(), line.fails) != (Some(&*case.is), case.fails) {
            let _ = writeln!(wrong, "{} {}: {verdict} {}", case.id, case.why, line.fails);
        }
        assert!(
            line.evidence.contains("inside") || line.evidence.contains("control"),
            "{case:?}"
        );
        assert_eq!(line.advice.is_some(), case.is != "holds", "{case:?}");
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn what_was_not_tried_is_not_proven() {
    let probes = [probe(Must::BeBlocked(Credit::NeedsControl))];
    let mut empty = seen(Outcome::Nothing, "x");
    empty.seen.clear();
    let control = seen(Outcome::Answered, "control");
    let others = Others {
        control: Some(&control),
        workloads: &[],
    };
    let lines = judge(&probes, &empty, others);
    assert_eq!((lines[0].verdict, lines[0].fails), (Verdict::NotProven, true));
    assert!(lines[0].evidence.contains("another policy"), "{:?}", lines[0]);
}

/// What a Job prints is what the judge reads, and nothing else is taken for it.
#[test]
fn observations_survive_a_log() {
    let written = seen(Outcome::Nothing, "connection refused");
    let text = serde_json::to_string_pretty(&written).unwrap();
    assert_eq!(serde_json::from_str::<Observations>(&text).unwrap(), written);
    for broken in [
        "{}".to_owned(),
        text.replace("\"nothing\"", "\"blocked\""),
        text.replace("\"seen\"", "\"saw\""),
    ] {
        assert!(serde_json::from_str::<Observations>(&broken).is_err(), "{broken}");
    }
}

fn must(word: &str) -> Must {
    match word {
        "blocked" => Must::BeBlocked(Credit::NeedsControl),
        "blocked-optional" => Must::BeBlocked(Credit::Optional),
        "blocked-to-both" => Must::BeBlockedToBoth,
        "refused" => Must::BeRefused(Credit::NeedsControl),
        "refused-optional" => Must::BeRefused(Credit::Optional),
        "work" => Must::Work,
        "answered" => Must::BeAnswered,
        "here-only" => Must::WorkHereOnly,
        "said" => Must::BeSaid,
        other => panic!("{other}"),
    }
}

fn probe(must: Must) -> Probe {
    Probe {
        id: "x".to_owned(),
        cases: &[],
        criterion: Criterion::LeastEgress,
        attempt: Attempt::Process,
        must,
        proves: "it".to_owned(),
        advice: "do this".to_owned(),
    }
}

fn seen(outcome: Outcome, detail: &str) -> Observations {
    Observations {
        sluicegate: "0".to_owned(),
        workload: "trips".to_owned(),
        targets: Targets::default(),
        seen: vec![Seen {
            id: "x".to_owned(),
            outcome,
            detail: detail.to_owned(),
        }],
    }
}
