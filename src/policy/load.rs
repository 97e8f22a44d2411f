//! From the texts of all policy files to a policy in force: parse, merge, compile, lint, `expect`.
//! Must not touch files or clocks; texts and time come in. All problems of all files come out together.
//! Called by `check`, by every start and by every reload.

use jiff::Timestamp;

use super::compiled::Policy;
use super::problem::{Problem, SourceText};
use super::rule::Generation;

/// A set of files that may come into force.
#[derive(Debug)]
pub struct Loaded {
    pub policy: Policy,
    /// Things a person should look at; they stop nothing.
    pub warnings: Vec<Problem>,
}

/// Compiles a set of files.
///
/// # Errors
/// Every problem of every file, errors and warnings, in the order of the files. Nothing is half accepted.
pub fn load(
    texts: &[SourceText],
    now: Timestamp,
    generation: Generation,
    previous: Option<&Policy>,
) -> Result<Loaded, Vec<Problem>> {
    let _ = (texts, now, generation, previous);
    todo!()
}
