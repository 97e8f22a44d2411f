//! Policy files: read them, watch them, and keep the last good set in force.
//! Must not judge a request or know the settings; it turns paths into generations of the [`State`].
//! Called by `run` and `check` for the first load, then by the app, which lets it watch.

mod background;
mod files;
mod hint;
mod look;
mod presets;
mod reading;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::policy::presets::Library;
use crate::policy::problem::{Cause, Problems, Rejected};
use crate::policy::{self, Generation, Loaded, Policy, Problem, Severity, SourceText};
use crate::state::State;

use files::Gathered;

pub use watch::{Adopt, Outcome, Watch};

/// Where the policy comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicySource {
    /// The policy that is built into the binary; it never changes.
    Builtin,
    Files(Paths),
}

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Files, and directories of `*.yaml` and `*.yml`. Never empty.
    pub policy: Arc<[PathBuf]>,
    /// A directory of presets, `FOLDER/NAME.yaml`, beside those of the program.
    pub presets: Option<Arc<Path>>,
}

/// A set of files that compiled.
#[derive(Debug)]
pub struct Compiled {
    pub policy: Policy,
    pub warnings: Vec<Problem>,
    /// Warnings that the files accept.
    pub accepted: Vec<Problem>,
    /// Rows of presets that no proxy can carry, a line for each.
    pub not_carried: Vec<String>,
    /// What FQDN tags stand for, a line for each.
    pub tags: Vec<String>,
    /// What was read, so that warnings can quote it: policies, then presets.
    pub texts: Vec<SourceText>,
    /// The names of those presets.
    pub presets: Vec<Arc<str>>,
}

impl Compiled {
    /// A place for problems of these texts.
    pub fn problems(&self) -> Problems<'_> {
        Problems::with_presets(&self.texts, &self.presets)
    }
}

impl Paths {
    /// All of them, for who only watches.
    fn all(&self) -> Vec<PathBuf> {
        let mut all = self.policy.to_vec();
        if let Some(presets) = &self.presets {
            all.push(presets.to_path_buf());
            all.extend(presets::folders(presets).unwrap_or_default());
        }
        all
    }
}

impl From<Vec<PathBuf>> for Paths {
    /// Without presets beside those of the program.
    fn from(policy: Vec<PathBuf>) -> Self {
        Self {
            policy: policy.into(),
            presets: None,
        }
    }
}

impl PolicySource {
    /// Reads and compiles everything for the first time.
    pub fn compile(&self, now: Timestamp) -> Result<Compiled, Rejected> {
        compile(self.read(), now, Generation(1), None)
    }

    /// Reads everything and compiles nothing: files that say only a part, such as workloads without rules.
    ///
    /// # Errors
    /// Every file that could not be read.
    pub fn texts(&self) -> Result<Vec<SourceText>, Rejected> {
        let Gathered { texts, problems, .. } = self.read();
        if problems.is_empty() {
            return Ok(texts);
        }
        Err(Rejected {
            cause: Cause::Unreadable,
            problems,
            texts,
        })
    }

    /// Puts the first policy in force. The [`Watch`] goes on from exactly these texts.
    pub fn start(self, compiled: Compiled, now: Timestamp) -> (Arc<State>, Watch) {
        let state = Arc::new(State::new(compiled.policy, now));
        (state.clone(), Watch::new(self, state, &compiled.texts))
    }

    fn read(&self) -> Gathered {
        match self {
            Self::Builtin => Gathered {
                texts: vec![policy::builtin().0],
                ..Gathered::default()
            },
            Self::Files(paths) => files::read(paths),
        }
    }
}

/// The presets of the program, and those of a directory, for who shows them without a policy.
pub fn library(directory: Option<&Path>) -> Result<Library, Rejected> {
    let paths = Paths {
        policy: Arc::default(),
        presets: directory.map(Into::into),
    };
    let Gathered {
        texts,
        presets,
        problems,
    } = files::read(&paths);
    let read = Library::of(&texts, &presets);
    let (cause, found) = match read {
        Ok(library) if problems.is_empty() => return Ok(library),
        Ok(_) => (Cause::Unreadable, Vec::new()),
        Err(found) if problems.is_empty() => (Cause::Invalid, found),
        Err(found) => (Cause::Unreadable, found),
    };
    Err(Rejected {
        cause,
        problems: problems.into_iter().chain(found).collect(),
        texts,
    })
}

/// The compiler panicked: our mistake, but it must be said to the one who waits for these files.
fn bug(texts: Vec<SourceText>) -> Rejected {
    let file = texts.first().map_or_else(|| "policy".into(), |text| text.name.clone());
    let problem = Problem {
        severity: Severity::Error,
        file,
        span: None,
        message: "sluicegate failed while compiling this set of files".to_owned(),
        label: String::new(),
        help: Some("this is a bug in sluicegate; please report it together with the files".to_owned()),
        lint: None,
    };
    Rejected {
        cause: Cause::Invalid,
        problems: vec![problem],
        texts,
    }
}

/// What cannot be read refuses the whole set, together with everything that is wrong in the rest of it.
fn compile(
    Gathered {
        texts,
        presets,
        mut problems,
    }: Gathered,
    now: Timestamp,
    generation: Generation,
    previous: Option<&Policy>,
) -> Result<Compiled, Rejected> {
    if !problems.is_empty() {
        problems.extend(policy::problems_of_part(&texts, &presets));
        return Err(Rejected {
            cause: Cause::Unreadable,
            problems,
            texts,
        });
    }
    match policy::load_with(&texts, &presets, now, generation, previous) {
        Ok(Loaded {
            policy,
            warnings,
            accepted,
            not_carried,
            tags,
        }) => Ok(Compiled {
            policy,
            warnings,
            accepted,
            not_carried,
            tags,
            texts,
            presets,
        }),
        Err(problems) => Err(Rejected {
            cause: Cause::Invalid,
            problems,
            texts,
        }),
    }
}
