//! From what was seen in a locked pod, and in pods that are not like it, to verdicts.
//! Must not take silence for proof: what came through nowhere proves nothing, except where the probe says why it may.
//! Called by `verify`.

use serde::{Deserialize, Serialize};

use super::probe::{Attempt, Credit, Criterion, Must, Probe, Targets};

/// What one pod saw. Both Jobs print one; both ran the same probes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observations {
    /// The version that tried.
    pub sluicegate: String,
    /// As whom.
    pub workload: String,
    pub targets: Targets,
    pub seen: Vec<Seen>,
}

/// What came of one probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Of the probe.
    pub id: String,
    pub outcome: Outcome,
    /// The evidence, for a person.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The other side answered to a request.
    Answered,
    /// There was a connection, and no answer.
    Connected,
    /// Refused, unreachable, or silence.
    Nothing,
    /// The proxy refused, or a name does not exist.
    Denied,
    /// The proxy let it pass, and could not reach the other side.
    Failed,
    /// It could not be tried here.
    Untried,
}

/// The verdict on one probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    pub id: String,
    pub cases: &'static [&'static str],
    pub criterion: Criterion,
    pub verdict: Verdict,
    /// Whether the whole fails with it.
    pub fails: bool,
    pub proves: String,
    pub evidence: String,
    /// What to do, unless it holds.
    pub advice: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// What must hold, holds.
    Holds,
    /// What must be closed is open.
    Open,
    /// What must work does not.
    Broken,
    /// Nothing can be concluded, though it must be known.
    NotProven,
    /// Closed here, and closed to the control too: no proof, and no fault.
    NoCredit,
    /// Open, and not to be closed by what is generated.
    Residual,
    /// Could not be tried.
    NotCovered,
}

impl Verdict {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Open => "OPEN",
            Self::Broken => "BROKEN",
            Self::NotProven => "not proven",
            Self::NoCredit => "no credit",
            Self::Residual => "residual",
            Self::NotCovered => "not covered",
        }
    }
}

/// What other pods saw of the same probes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Others<'o> {
    /// A pod without a lock.
    pub control: Option<&'o Observations>,
    /// Locked pods of other workloads: what one of them reaches was there to be reached.
    pub workloads: &'o [Observations],
}

/// Judges each probe by what was seen inside and elsewhere.
pub fn judge(probes: &[Probe], inside: &Observations, others: Others<'_>) -> Vec<Line> {
    let lines = probes.iter().map(|probe| {
        let missing = Seen {
            id: String::new(),
            outcome: Outcome::Untried,
            detail: "this was not tried: the observations are of another policy or version".to_owned(),
        };
        let seen = find(inside, probe).unwrap_or(&missing);
        let elsewhere = Elsewhere {
            control: others.control.and_then(|control| find(control, probe)),
            reached: others
                .workloads
                .iter()
                .filter_map(|other| find(other, probe))
                .find(|seen| seen.outcome == Outcome::Answered),
        };
        let (verdict, fails, evidence) = verdict(probe.must, seen, elsewhere);
        Line {
            id: probe.id.clone(),
            cases: probe.cases,
            criterion: probe.criterion,
            verdict,
            fails,
            proves: probe.proves.clone(),
            evidence,
            advice: advice(verdict, probe, seen),
        }
    });
    lines.collect()
}

fn find<'o>(observations: &'o Observations, probe: &Probe) -> Option<&'o Seen> {
    observations.seen.iter().find(|seen| seen.id == probe.id)
}

/// What to do: about the way itself, or about what keeps it from being known.
fn advice(verdict: Verdict, probe: &Probe, seen: &Seen) -> Option<String> {
    let blocked = matches!(probe.must, Must::BeBlocked(_) | Must::BeBlockedToBoth);
    let tried = seen.outcome != Outcome::Untried || matches!(probe.attempt, Attempt::None(_));
    let text = match verdict {
        Verdict::Holds => return None,
        Verdict::NotProven | Verdict::NotCovered if blocked && !tried => FIND_IT,
        Verdict::NotProven if blocked && seen.outcome == Outcome::Nothing => CONTROL_IT,
        Verdict::NoCredit => CREDIT_IT,
        _ => &probe.advice,
    };
    Some(text.to_owned())
}

/// What came of a probe in other pods.
#[derive(Clone, Copy)]
struct Elsewhere<'o> {
    control: Option<&'o Seen>,
    /// In a pod of another workload, where it worked.
    reached: Option<&'o Seen>,
}

fn verdict(must: Must, seen: &Seen, elsewhere: Elsewhere<'_>) -> (Verdict, bool, String) {
    use Outcome::{Answered, Connected, Denied, Failed, Nothing};
    let detail = seen.detail.clone();
    let optional = matches!(
        must,
        Must::BeBlocked(Credit::Optional) | Must::BeRefused(Credit::Optional) | Must::BeSaid
    );
    if seen.outcome == Outcome::Untried {
        return if optional {
            (Verdict::NotCovered, false, detail)
        } else {
            (Verdict::NotProven, true, detail)
        };
    }
    match (must, seen.outcome) {
        (Must::BeBlocked(credit), Nothing) => blocked(credit, &detail, elsewhere),
        (Must::BeBlockedToBoth, Nothing) => blocked_to_both(&detail, elsewhere),
        (Must::WorkHereOnly, Answered) => only_here(&detail, elsewhere),
        (Must::BeRefused(_), Denied) | (Must::Work, Answered) | (Must::BeAnswered, Answered | Denied) => {
            (Verdict::Holds, false, detail)
        }
        // Whatever else came, came through.
        (Must::BeBlocked(_) | Must::BeBlockedToBoth, _) | (Must::BeRefused(_), Answered | Failed) => {
            (Verdict::Open, true, detail)
        }
        // No word of the proxy is no refusal.
        (Must::BeRefused(_), _) => (Verdict::NotProven, true, detail),
        (Must::Work | Must::BeAnswered | Must::WorkHereOnly, _) => (Verdict::Broken, true, detail),
        (Must::BeSaid, Answered | Connected) => (Verdict::Residual, false, detail),
        (Must::BeSaid, Denied) => (Verdict::Holds, false, detail),
        (Must::BeSaid, _) => match blocked(Credit::Optional, &detail, elsewhere) {
            (Verdict::Holds, fails, evidence) => (Verdict::Holds, fails, evidence),
            (_, _, evidence) => (Verdict::NoCredit, false, evidence),
        },
    }
}

fn blocked(credit: Credit, detail: &str, elsewhere: Elsewhere<'_>) -> (Verdict, bool, String) {
    let control = elsewhere.control;
    let proof = control.filter(|control| control.outcome == Outcome::Answered);
    if let Some(proof) = proof {
        return (
            Verdict::Holds,
            false,
            format!("{detail}; the control: {}", proof.detail),
        );
    }
    if let Some(proof) = elsewhere.reached {
        return (
            Verdict::Holds,
            false,
            format!("{detail}; another workload: {}", proof.detail),
        );
    }
    let Some(control) = control else {
        // Nobody knows whether there was anything to reach.
        return (Verdict::NotProven, true, format!("{detail}; {NO_CONTROL}"));
    };
    let evidence = format!("{detail}; the control did not come through either: {}", control.detail);
    match credit {
        Credit::NeedsControl => (Verdict::NotProven, true, evidence),
        Credit::Optional => (Verdict::NoCredit, false, evidence),
    }
}

fn blocked_to_both(detail: &str, elsewhere: Elsewhere<'_>) -> (Verdict, bool, String) {
    match elsewhere.control {
        Some(control) if matches!(control.outcome, Outcome::Answered | Outcome::Connected) => {
            let evidence = format!("{detail}, but open to the control: {}", control.detail);
            (Verdict::Open, true, evidence)
        }
        Some(_) => blocked(Credit::Optional, detail, elsewhere),
        None => (Verdict::NotProven, true, format!("{detail}; {NO_CONTROL}")),
    }
}

fn only_here(detail: &str, elsewhere: Elsewhere<'_>) -> (Verdict, bool, String) {
    let Some(control) = elsewhere.control else {
        return (Verdict::NotProven, true, format!("{detail}; {NO_CONTROL}"));
    };
    let shown = format!("{detail}; the control: {}", control.detail);
    match control.outcome {
        Outcome::Answered | Outcome::Connected => (
            Verdict::Open,
            true,
            format!("open to the control as well: {}", control.detail),
        ),
        Outcome::Nothing => (Verdict::Holds, false, shown),
        _ => (Verdict::NotProven, true, shown),
    }
}

const FIND_IT: &str = "name a target that can be found from here (`sluicegate verify --help` lists the flags), and run both pods with \
                       the same policy and the same flags";
const CONTROL_IT: &str = "give as --control what the same probes saw in a namespace without a lock, and see that the target answers \
                          there: what answers nobody proves nothing";
const CREDIT_IT: &str = "nothing is wrong: something else keeps the control out too. What a workload saw that may reach it, given as \
                         --also, would prove it";
const NO_CONTROL: &str = "no control tried it";

#[cfg(test)]
mod tests;
