//! A problem of a file, for a person: where it is, what was expected, what to write instead.
//! Must not print; it renders to text. Everything that reads a file collects all of them before giving up.
//! Called by the policy compiler, the settings, `check`, and the reload log: the same text everywhere.

use std::sync::Arc;

/// The text of one file, kept so that problems can quote it.
#[derive(Clone, Debug)]
pub struct SourceText {
    /// The path as the user would write it.
    pub name: Arc<str>,
    pub text: Arc<str>,
}

/// Byte offsets into a [`SourceText`], end exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// The file's name, as in [`SourceText::name`].
    pub file: Arc<str>,
    /// What to underline; `None` where the whole file is meant.
    pub span: Option<Span>,
    /// What is wrong, one line.
    pub message: String,
    /// What stands under the underlined text; may be empty.
    pub label: String,
    /// What to write instead.
    pub help: Option<String>,
}
