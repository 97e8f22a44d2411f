//! The command line: what was typed, checked, and handed to one command each.
//! Must not decide anything about traffic; commands print what the library answers. Results go to stdout, all else to
//! stderr. Called by `main`.

mod args;
mod audit;
mod azure_file;
mod check;
mod diff;
mod explain;
mod export;
mod generate;
mod import;
mod init;
mod inputs;
mod logs;
mod output;
mod presets;
#[cfg(test)]
mod readme;
mod replay;
mod report;
mod run;
mod suggest;
mod unused;
mod verify;
mod welcome;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Args, Command};
use output::Terminal;

use crate::policy::problem::{Cause, Rejected};

/// How a command ends. Clap's own errors exit with 2 as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Yes, valid, allowed; or ended as asked.
    Yes = 0,
    /// No, invalid, denied, or a check failed.
    No = 1,
    /// Wrong usage, or input that cannot be read.
    Unusable = 2,
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let Args { command, run } = Args::parse();
    let mut terminal = Terminal::of_process();
    let exit = match command.unwrap_or(Command::Run(run)) {
        Command::Run(args) => run::run(&args, &mut terminal),
        Command::Check(args) => check::check(&args, &mut terminal),
        Command::Explain(args) => explain::explain_destination(&args, &mut terminal),
        Command::Export(args) => export::export_rules(&args, &mut terminal),
        Command::Import(args) => import::import_rules(&args, &mut terminal),
        Command::Generate(args) => generate::generate(&args, &mut terminal),
        Command::Presets(args) => presets::presets(&args, &mut terminal),
        Command::Verify(args) => verify::verify(&args, &mut terminal),
        Command::Init(args) => init::run(&args, &mut terminal),
        Command::Audit(args) => audit::run(&args, &mut terminal),
        Command::Suggest(args) => suggest::suggest(&args, &mut terminal),
        Command::Unused(args) => unused::unused(&args, &mut terminal),
        Command::Replay(args) => replay::replay(&args, &mut terminal),
        Command::Diff(args) => diff::run(&args, &mut terminal),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), env!("CARGO_PKG_NAME"), &mut script);
            terminal.result(&String::from_utf8_lossy(&script));
            Exit::Yes
        }
    };
    ExitCode::from(exit as u8)
}

/// Says why there is nothing to work with.
fn refuse(rejected: &Rejected, terminal: &mut Terminal) -> Exit {
    terminal.say(&rejected.render(terminal.colour));
    rejected.cause.into()
}

impl From<Cause> for Exit {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Unreadable => Self::Unusable,
            Cause::Invalid | Cause::Unfit => Self::No,
        }
    }
}
