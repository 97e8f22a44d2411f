//! The operational log: what happens to the proxy itself, for people, on stderr.
//! Must not carry decision records; those have a writer of their own.
//! Called once by `run`, before anything else speaks.

use std::io::{self, IsTerminal};

use tracing::subscriber::{SetGlobalDefaultError, set_global_default};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;

/// Sends events of this level and above to stderr, with colours only on a terminal.
///
/// # Errors
/// Another subscriber has been installed in this process.
pub fn init_log(level: LevelFilter) -> Result<(), SetGlobalDefaultError> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // The DNS library warns of each forged packet: whoever can send some would write our log.
    let levels = Targets::new()
        .with_default(level)
        .with_target("hickory", level.min(LevelFilter::ERROR));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(colours)
        .with_target(false)
        .with_writer(io::stderr);
    set_global_default(tracing_subscriber::registry().with(lines.with_filter(levels)))
}
