//! What Azure cannot say, with the line of the policy file that says it.
//! Must not decide what becomes of it; whoever writes the rules does, and says so here.
//! Called by the export.

use std::collections::HashSet;
use std::fmt;

use crate::azure::report::{self, Kind, Report};
use crate::policy::problem::{Place, Problems, SourceText};
use crate::policy::rule::Position;

/// The report of an export, which knows the policy's files.
pub(super) struct Losses<'t> {
    pub(super) report: Report,
    files: Problems<'t>,
    /// Each thing is said once of a line.
    said: HashSet<(Kind, Position, String)>,
}

impl<'t> Losses<'t> {
    pub(super) fn new(report: Report, texts: &'t [SourceText]) -> Self {
        Self {
            report,
            files: Problems::new(texts),
            said: HashSet::new(),
        }
    }

    /// The line of a place.
    pub(super) fn position(&self, at: Place) -> Position {
        self.files.position(at)
    }

    /// Something at a place of the policy. The outcome is what was made of it.
    pub(super) fn note(&mut self, kind: Kind, at: Place, message: impl Into<String>, outcome: &str) {
        let position = self.position(at);
        let place = report::Place {
            file: position.to_string().into(),
            ..report::Place::default()
        };
        let message = message.into();
        if self.said.insert((kind, position, message.clone())) {
            self.report.note(kind, &place, message).outcome(outcome);
        }
    }

    /// Something about the export as a whole.
    pub(super) fn overall(&mut self, kind: Kind, message: impl Into<String>, help: &str) {
        let finding = self.report.note(kind, &report::Place::default(), message);
        if !help.is_empty() {
            finding.help(help);
        }
    }
}

impl fmt::Debug for Losses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report.fmt(f)
    }
}
