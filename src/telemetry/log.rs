//! The operational log: what happens to the proxy itself, for people, on stderr.
//! Must not carry decision records; those have a writer of their own.
//! Called once by `run`, before anything else speaks.

use std::io::{self, IsTerminal};

use tracing::subscriber::{SetGlobalDefaultError, set_global_default};
use tracing_subscriber::filter::LevelFilter;

/// Sends events of this level and above to stderr, with colours only on a terminal.
///
/// # Errors
/// Another subscriber has been installed in this process.
pub fn init_log(level: LevelFilter) -> Result<(), SetGlobalDefaultError> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(colours)
        .with_target(false)
        .with_writer(io::stderr)
        .finish();
    set_global_default(subscriber)
}
