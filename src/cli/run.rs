//! `run`: settings, the first policy, then the proxy until it is told to stop.
//! Must not serve anything itself; it says what will happen and hands over to the app.
//! Called by [`super::main`].

use jiff::Timestamp;

use crate::app::{App, Listening};
use crate::source::{Cause, PolicySource, Rejected};

use super::Exit;
use super::args::RunArgs;
use super::inputs::Given;
use super::output::Terminal;

/// Runs the proxy.
pub(super) fn run(args: &RunArgs, terminal: &mut Terminal) -> Exit {
    let now = Timestamp::now();
    let started = args.files.read().and_then(|given| {
        let compiled = given.source.compile(now)?;
        Ok((given, compiled))
    });
    let (given, compiled) = match started {
        Ok(started) => started,
        Err(rejected) => return refuse(&rejected, terminal),
    };
    let Given { settings, source } = given;
    terminal.say(&settings.to_string());
    if source == PolicySource::Builtin {
        terminal.say("built-in policy");
    }
    let app = match App::bind(settings, source, compiled) {
        Ok(app) => app,
        Err(problems) => {
            for problem in problems {
                terminal.say(&format!("error: {problem}"));
            }
            return Exit::No;
        }
    };
    for Listening { name, mode, address } in app.listening() {
        terminal.say(&format!("listening name={name} mode={mode} address={address}"));
    }
    match app.run() {
        Ok(()) => Exit::Yes,
        Err(error) => {
            terminal.say(&format!("error: {error}"));
            Exit::Unusable
        }
    }
}

fn refuse(rejected: &Rejected, terminal: &mut Terminal) -> Exit {
    terminal.say(&rejected.render(terminal.colour));
    match rejected.cause {
        Cause::Unreadable => Exit::Unusable,
        Cause::Invalid | Cause::Unfit => Exit::No,
    }
}
