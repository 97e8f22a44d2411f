//! A problem of a file, for a person: where it is, what was expected, what to write instead.
//! Must not print; it renders to text. Everything that reads a file collects all of them before giving up.
//! Called by the policy compiler, the settings, `check`, and the reload log: the same text everywhere.

pub mod lint;
pub mod rejected;
pub mod render;

use std::sync::Arc;

pub use lint::{Lint, Linted};
pub use rejected::{Cause, Rejected};
pub use render::{json, render, render_each, summary};

use super::rule::Position;

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
    /// Which warning it is, where it is one that has a name.
    pub lint: Option<Linted>,
}

/// Bytes of one of the files that are read together. Half the size of a name and a [`Span`], because every rule keeps
/// one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Index into the files.
    pub file: u32,
    pub start: u32,
    pub end: u32,
}

/// A value and where it was written. Two are equal when their values are: moving a line changes no meaning.
#[derive(Clone, Copy, Debug, Default)]
pub struct At<T> {
    pub value: T,
    pub at: Place,
}

/// Where the lines of a text begin.
#[derive(Clone, Debug)]
pub struct Lines(Vec<u32>);

/// Collects the problems of files that are read together.
#[derive(Debug)]
pub struct Problems<'t> {
    texts: &'t [SourceText],
    /// The names of the presets that the last of the texts are.
    presets: &'t [Arc<str>],
    /// Of each text.
    lines: Vec<Lines>,
    all: Vec<(Place, Problem)>,
    errors: usize,
    cut_short: bool,
}

impl Severity {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl Problem {
    /// Whether who wrote it said why it stands all the same.
    pub fn is_accepted(&self) -> bool {
        self.lint.as_ref().is_some_and(|linted| linted.accepted.is_some())
    }

    /// Says what stands under the underlined text.
    pub fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = label.into();
        self
    }

    /// Says what to write instead.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }
}

impl<'t> Problems<'t> {
    pub fn new(texts: &'t [SourceText]) -> Self {
        Self::with_presets(texts, &[])
    }

    /// For a set whose last texts are presets, with a name for each.
    pub fn with_presets(texts: &'t [SourceText], presets: &'t [Arc<str>]) -> Self {
        Self {
            texts,
            presets,
            lines: texts.iter().map(|source| Lines::of(&source.text)).collect(),
            all: Vec::new(),
            errors: 0,
            cut_short: false,
        }
    }

    /// Notes an error; label and help are added to what is returned.
    pub fn error(&mut self, at: Place, message: impl Into<String>) -> &mut Problem {
        self.errors += 1;
        self.note(Severity::Error, at, message.into())
    }

    pub fn warning(&mut self, at: Place, message: impl Into<String>) -> &mut Problem {
        self.note(Severity::Warning, at, message.into())
    }

    /// An error of a whole file.
    pub fn error_of_file(&mut self, file: u32, message: impl Into<String>) -> &mut Problem {
        let at = Place { file, start: 0, end: 0 };
        let problem = self.error(at, message);
        problem.span = None;
        problem
    }

    /// How many errors were noted so far.
    pub fn errors(&self) -> usize {
        self.errors
    }

    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Notes that the rest of a file could not be read, so that what seems to be missing may stand there.
    pub fn cut_short(&mut self) {
        self.cut_short = true;
    }

    pub fn is_cut_short(&self) -> bool {
        self.cut_short
    }

    /// Every text that a problem can point at.
    pub fn texts(&self) -> &'t [SourceText] {
        self.texts
    }

    /// Those that are policies.
    pub fn policies(&self) -> &'t [SourceText] {
        let count = self.texts.len().saturating_sub(self.presets.len());
        self.texts.get(..count).unwrap_or_default()
    }

    /// Those that are presets: their places in [`Self::texts`], their names and themselves.
    pub fn presets(&self) -> impl Iterator<Item = (u32, &'t Arc<str>, &'t SourceText)> + use<'t> {
        let first = self.policies().len();
        let numbered = (0..).zip(self.texts).skip(first);
        numbered
            .zip(self.presets)
            .map(|((place, text), name)| (place, name, text))
    }

    /// The text of a place; empty if there is no such place.
    pub fn quote(&self, at: Place) -> &'t str {
        let text = self.texts.get(at.file as usize).map_or("", |source| &*source.text);
        text.get(at.start as usize..at.end as usize).unwrap_or_default()
    }

    /// File and line of a place.
    pub fn position(&self, at: Place) -> Position {
        let file = self.texts.get(at.file as usize);
        let lines = self.lines.get(at.file as usize);
        Position {
            file: file.map_or_else(|| Arc::from(""), |file| Arc::clone(&file.name)),
            line: lines.map_or(0, |lines| lines.line(at.start)),
        }
    }

    /// All but those that were accepted, in the order of the files and of the lines in them.
    pub fn into_sorted(self) -> Vec<Problem> {
        self.into_parts().0
    }

    /// The same, and what was accepted.
    pub fn into_parts(mut self) -> (Vec<Problem>, Vec<Problem>) {
        self.all.sort_by_key(|(at, _)| (at.file, at.start));
        let all = self.all.into_iter().map(|(_, problem)| problem);
        all.partition(|problem| !problem.is_accepted())
    }

    fn note(&mut self, severity: Severity, at: Place, message: String) -> &mut Problem {
        let file = self.texts.get(at.file as usize);
        let problem = Problem {
            severity,
            file: file.map_or_else(|| Arc::from(""), |file| Arc::clone(&file.name)),
            span: file.map(|_| Span {
                start: at.start as usize,
                end: at.end as usize,
            }),
            message,
            label: String::new(),
            help: None,
            lint: None,
        };
        let index = self.all.len();
        self.all.push((at, problem));
        &mut self.all[index].1
    }
}

impl Lines {
    pub fn of(text: &str) -> Self {
        let newlines = text.match_indices('\n');
        Self(newlines.filter_map(|(at, _)| u32::try_from(at + 1).ok()).collect())
    }

    /// The line of an offset, from 1.
    pub fn line(&self, offset: u32) -> u32 {
        let before = self.0.partition_point(|start| *start <= offset);
        u32::try_from(before + 1).unwrap_or(u32::MAX)
    }
}

impl<T> At<T> {
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At {
            value: change(self.value),
            at: self.at,
        }
    }
}

impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for At<T> {}
