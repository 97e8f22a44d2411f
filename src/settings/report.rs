//! Where a setting stands, and what is wrong with it.
//! Must not decide; it carries places through the merge and complaints to the problems.
//! Called by everything that reads settings.

use std::fmt;
use std::str::FromStr;

use crate::policy::problem::{Place, Problems};

/// Where a key and its value stand. Written as text it travels through the merge as the value's origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) key: Place,
    pub(super) value: Place,
}

/// What is wrong with a value, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    message: String,
    /// What stands under the underlined text.
    label: String,
    help: String,
}

impl Complaint {
    pub(super) fn new(message: impl Into<String>, label: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            label: label.into(),
            help: help.into(),
        }
    }

    pub(super) fn note(self, at: Place, problems: &mut Problems<'_>) {
        problems.error(at, self.message).label(self.label).help(self.help);
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value } = self;
        write!(
            f,
            "{} {} {} {} {}",
            key.file, key.start, key.end, value.start, value.end
        )
    }
}

impl FromStr for Places {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.split(' ').map(|number| number.parse::<u32>().map_err(|_| ()));
        let mut next = || numbers.next().unwrap_or(Err(()));
        let file = next()?;
        let key = Place {
            file,
            start: next()?,
            end: next()?,
        };
        let value = Place {
            file,
            start: next()?,
            end: next()?,
        };
        Ok(Self { key, value })
    }
}
