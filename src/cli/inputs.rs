//! From the typed files to settings and to the source of the policy, the same way for every command.
//! Must not fall back to anything where a file was named: the built-in policy is only for who named none.
//! Called by every command that needs a policy.

use std::fs;
use std::io;
use std::sync::Arc;

use crate::policy::problem::Rejected;
use crate::settings::{self, Inputs, Settings};
use crate::source::PolicySource;

use super::args::FileArgs;

/// What a command works with.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) settings: Settings,
    pub(super) source: PolicySource,
}

impl FileArgs {
    pub(super) fn read(&self) -> Result<Given, Rejected> {
        let inputs = Inputs::read(self.config.as_deref(), std::env::vars_os())?;
        let mut settings = settings::load(&inputs)?;
        if !self.policy.is_empty() {
            settings.policy.clone_from(&self.policy);
        }
        let source = if self.names_nothing() && settings.policy.iter().all(|path| is_absent(path)) {
            PolicySource::Builtin
        } else {
            PolicySource::Files(Arc::from(settings.policy.as_slice()))
        };
        Ok(Given { settings, source })
    }

    fn names_nothing(&self) -> bool {
        self.config.is_none() && self.policy.is_empty()
    }
}

/// Not there at all. A dangling link or a forbidden directory is something else: there the files must be read, and fail.
fn is_absent(path: &std::path::Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}
