//! Where a setting stands, and the problems found so far, each at its place.
//! Must not stop at the first problem, nor name one twice.
//! Called by everything that reads settings.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::policy::{Problem, Severity, SourceText, Span};

use super::yaml::{self, Node};

/// Where a value stands. Written as text it travels through the merge as the value's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) layer: Layer,
    pub(super) key: Span,
    pub(super) value: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    Builtin,
    File,
    Environment,
}

/// What is wrong with a value, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) message: String,
    /// What stands under the underlined text.
    pub(super) label: String,
    pub(super) help: String,
}

/// Collects problems.
#[derive(Debug)]
pub(super) struct Report {
    /// What the user calls the settings file.
    file: Arc<str>,
    problems: Vec<Problem>,
}

impl Complaint {
    pub(super) fn new(message: impl Into<String>, label: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            label: label.into(),
            help: help.into(),
        }
    }
}

impl Report {
    pub(super) fn new(file: Arc<str>) -> Self {
        Self {
            file,
            problems: Vec::new(),
        }
    }

    pub(super) fn at_value(&mut self, place: Place, complaint: Complaint) {
        self.at(place.layer, place.value, complaint);
    }

    pub(super) fn at_key(&mut self, place: Place, complaint: Complaint) {
        self.at(place.layer, place.key, complaint);
    }

    /// The tree of a file, or its one mistake that leaves no tree.
    pub(super) fn tree(&mut self, text: &SourceText) -> Option<Node> {
        yaml::parse(text).map_err(|problem| self.push(problem)).ok()
    }

    pub(super) fn push(&mut self, problem: Problem) {
        // A file is judged with and without the environment over it.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// All problems, in the order of the places.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| {
            let layer = [&*self.file, ENVIRONMENT]
                .iter()
                .position(|name| *name == &*problem.file);
            (layer.unwrap_or(usize::MAX), problem.span.map(|span| span.start))
        });
        self.problems
    }

    fn at(&mut self, layer: Layer, span: Span, Complaint { message, label, help }: Complaint) {
        let file = match layer {
            Layer::Builtin => BUILTIN.into(),
            Layer::File => self.file.clone(),
            Layer::Environment => ENVIRONMENT.into(),
        };
        let problem = Problem {
            severity: Severity::Error,
            file,
            span: Some(span),
            message,
            label,
            help: Some(help),
        };
        self.push(problem);
    }
}

/// The known word that was probably meant.
pub(super) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |known: &str| strsim::damerau_levenshtein(&word.to_lowercase(), &known.to_lowercase());
    let best = known.into_iter().min_by_key(|known| distance(known))?;
    (distance(best) <= word.len().max(best.len()) / 3).then_some(best)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layer, key, value } = self;
        write!(
            f,
            "{} {} {} {} {}",
            *layer as u8, key.start, key.end, value.start, value.end
        )
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.split(' ').map(|number| number.parse::<usize>().map_err(|_| ()));
        let mut next = || numbers.next().unwrap_or(Err(()));
        let layer = match next()? {
            0 => Layer::Builtin,
            1 => Layer::File,
            _ => Layer::Environment,
        };
        let key = Span {
            start: next()?,
            end: next()?,
        };
        let value = Span {
            start: next()?,
            end: next()?,
        };
        Ok(Self { layer, key, value })
    }
}

/// The names under which problems of the other layers appear.
pub(super) const BUILTIN: &str = "built-in settings";
pub(super) const ENVIRONMENT: &str = "environment";
