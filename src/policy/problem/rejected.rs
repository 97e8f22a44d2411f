//! A set of files that was not accepted: every problem, the texts that they quote, and which kind of failure it is.
//! Must not print or choose an exit code; the commands do.
//! Called by the settings and the policy source, and by whoever has to say what they refused.

use super::{Problem, SourceText, render};

/// A set of files that was not accepted.
#[derive(Clone, Debug)]
pub struct Rejected {
    pub cause: Cause,
    /// All of them, at least one.
    pub problems: Vec<Problem>,
    /// As far as they could be read.
    pub texts: Vec<SourceText>,
}

/// Why a set of files was not accepted. Of several causes the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The files are valid, but this process cannot serve them: a workload's port is taken.
    Unfit,
    /// What the files say is wrong, or one of a policy's own `expect` rows failed.
    Invalid,
    /// Some file could not be read, so that nobody knows what the whole would have said.
    Unreadable,
}

impl Rejected {
    /// Both, this one first.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.cause = self.cause.max(other.cause);
        self.problems.extend(other.problems);
        self.texts.extend(other.texts);
        self
    }

    /// All problems, as `check` and the log print them.
    pub fn render(&self, colour: bool) -> String {
        render(&self.problems, &self.texts, colour)
    }
}
