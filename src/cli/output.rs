//! Where commands write: results to stdout, diagnostics to stderr, colours only where a person looks.
//! Must not fail a command because a reader went away.
//! Called by the commands.

use std::fmt;
use std::io::{self, IsTerminal, Write};

/// The two streams of a command.
pub(super) struct Terminal {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    /// Whether stderr, where problems go, shows colours.
    pub(super) colour: bool,
}

impl Terminal {
    /// Those of the process. `NO_COLOR` is honoured (no-color.org).
    pub(super) fn of_process() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            colour: !plain && io::stderr().is_terminal(),
        }
    }

    /// Writes what was asked for.
    pub(super) fn result(&mut self, text: &str) {
        write(&mut self.out, text);
    }

    /// Writes about it.
    pub(super) fn say(&mut self, text: &str) {
        write(&mut self.err, text);
    }
}

/// A closed pipe (`sluicegate check | head -1`) is no failure of the command.
fn write(stream: &mut dyn Write, text: &str) {
    if text.is_empty() {
        return;
    }
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let _ = stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.write_all(end.as_bytes()))
        .and_then(|()| stream.flush());
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal")
            .field("colour", &self.colour)
            .finish_non_exhaustive()
    }
}
