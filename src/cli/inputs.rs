//! From the typed files to settings and a compiled policy, the same way for every command.
//! Must not fall back to anything where a file was named: the built-in policy is only for who named none.
//! Called by every command that needs a policy.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::app;
use crate::policy::problem::Rejected;
use crate::policy::{Policy, SourceText};
use crate::settings::{self, Inputs, Settings};
use crate::source::{Compiled, Paths, PolicySource};

use super::args::FileArgs;

/// What a command works with.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) settings: Settings,
    pub(super) source: PolicySource,
    pub(super) compiled: Compiled,
}

impl FileArgs {
    /// Reads and compiles what a question needs.
    ///
    /// # Errors
    /// Every problem of the settings and of every policy file.
    pub(super) fn read(&self, now: Timestamp) -> Result<Given, Rejected> {
        self.gather(now, |_, _, _| None)
    }

    /// The same for who wants to serve: certificates and ports are looked at as well.
    pub(super) fn read_to_serve(&self, now: Timestamp) -> Result<Given, Rejected> {
        self.gather(now, app::unfit)
    }

    fn gather(&self, now: Timestamp, unfit: Unfit) -> Result<Given, Rejected> {
        let inputs = Inputs::read(self.config.as_deref(), std::env::vars_os());
        let settings = match settings::load(&inputs) {
            Ok(settings) => settings,
            Err(refused) => return Err(self.with_policy(refused, now)),
        };
        let source = self.source(&settings);
        let compiled = source.compile(now);
        let file = inputs.file.unwrap_or_else(|| SourceText {
            name: "settings".into(),
            text: "".into(),
        });
        let policy = compiled.as_ref().ok().map(|compiled| &compiled.policy);
        let unfit = unfit(&settings, &file, policy);
        match (compiled, unfit) {
            (Ok(compiled), None) => Ok(Given {
                settings,
                source,
                compiled,
            }),
            (Ok(compiled), Some(unfit)) => Err(with_warnings(unfit, compiled)),
            (Err(rejected), None) => Err(rejected),
            (Err(rejected), Some(unfit)) => Err(unfit.and(rejected)),
        }
    }

    fn source(&self, settings: &Settings) -> PolicySource {
        let presets = self.presets.as_ref().or(settings.presets.as_ref());
        let paths = |policy: &[PathBuf]| Paths {
            policy: policy.into(),
            presets: presets.map(|path| path.as_path().into()),
        };
        if !self.policy.is_empty() {
            PolicySource::Files(paths(&self.policy))
        } else if self.config.is_none() && presets.is_none() && settings.policy.iter().all(|path| is_absent(path)) {
            PolicySource::Builtin
        } else {
            PolicySource::Files(paths(&settings.policy))
        }
    }

    /// Adds what is wrong with the policy to what is wrong with the settings, as far as it is clear which files it is in.
    fn with_policy(&self, refused: settings::Refused, now: Timestamp) -> Rejected {
        let rejected = refused.rejected;
        let paths: Vec<PathBuf> = if self.policy.is_empty() {
            let named = refused.policy.unwrap_or_default().into_iter();
            // Once the settings are mended, they may well name others than the built-in ones.
            named.filter(|path| refused.names_policy || !is_absent(path)).collect()
        } else {
            self.policy.clone()
        };
        if paths.is_empty() {
            return rejected;
        }
        let paths = Paths {
            presets: self.presets.as_ref().map(|path| path.as_path().into()),
            ..paths.into()
        };
        match PolicySource::Files(paths).compile(now) {
            Ok(compiled) => with_warnings(rejected, compiled),
            Err(other) => rejected.and(other),
        }
    }
}

/// What else would keep these settings and this policy from being served.
type Unfit = fn(&Settings, &SourceText, Option<&Policy>) -> Option<Rejected>;

/// The texts go along because problems of serving may quote them.
fn with_warnings(mut rejected: Rejected, compiled: Compiled) -> Rejected {
    rejected.problems.extend(compiled.warnings);
    rejected.texts.extend(compiled.texts);
    rejected
}

/// Not there at all. A dangling link or a forbidden directory is something else: there the files must be read, and fail.
fn is_absent(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}
