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

/// Why a set of files was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Some file could not be read, so that nothing was judged.
    Unreadable,
    /// What the files say is wrong, or one of a policy's own `expect` rows failed.
    Invalid,
    /// The files are valid, but this process cannot serve them: a workload's port is taken.
    Unfit,
}

impl Rejected {
    /// All problems, as `check` and the log print them.
    pub fn render(&self, colour: bool) -> String {
        render(&self.problems, &self.texts, colour)
    }
}
