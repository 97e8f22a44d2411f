//! Lints of the clock: what is past, and what soon will be.
//! Must not read a clock; the moment comes in.
//! Called by the lints.

use jiff::{SignedDuration, Timestamp};

use super::{Noted, Rules};
use crate::policy::compile::end_of;
use crate::policy::document::{Document, Mode};
use crate::policy::problem::lint::Lint;

/// Notes rules that ended or soon will, and a report mode that is over or was never on.
pub(super) fn check(document: &Document, rules: &Rules<'_>, now: Timestamp, noted: &mut Noted<'_, '_>) {
    for (until, notes) in rules.notes().filter_map(|notes| Some((notes.until.as_ref()?, notes))) {
        let left = end_of(until.value).duration_since(now);
        if left <= SignedDuration::ZERO {
            noted
                .note(
                    Lint::Expired,
                    &notes.accept,
                    until.at,
                    "this day is past: the rule matches nothing any more",
                )
                .help("remove the rule, or give it a later `until`");
        } else if left <= SOON {
            let days = left.as_hours() / 24;
            let when = match days {
                0 => "today".to_owned(),
                1 => "tomorrow".to_owned(),
                more => format!("in {more} days"),
            };
            noted
                .note(
                    Lint::ExpiringSoon,
                    &notes.accept,
                    until.at,
                    format!("the last day of this rule is {when}"),
                )
                .help("give it a later `until` while it is needed; after that day it matches nothing");
        }
    }
    let Some(until) = &document.report_until else { return };
    let reporting = document.mode.as_ref().is_some_and(|mode| mode.value == Mode::Report);
    if !reporting {
        noted
            .note(
                Lint::IdleReportUntil,
                &document.accept,
                until.at,
                "`report_until` means nothing without `mode: report`",
            )
            .help("remove it");
    } else if end_of(until.value) <= now {
        noted
            .note(
                Lint::ReportOver,
                &document.accept,
                until.at,
                "this day is past: the policy enforces, though it says `mode: report`",
            )
            .help("remove both keys, or give `report_until` a later day");
    }
}

/// How long before its end a rule is worth a word.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
