//! `run`: settings, the first policy, then the proxy until it is told to stop.
//! Must not serve anything itself; it says what will happen and hands over to the app.
//! Called by [`super::main`].

use jiff::Timestamp;
use tracing::{error, info};
use tracing_subscriber::filter::LevelFilter;

use crate::app::App;
use crate::policy::problem::render_each;
use crate::settings::Settings;
use crate::source::PolicySource;
use crate::telemetry::init_log;

use super::Exit;
use super::args::RunArgs;
use super::inputs::Given;
use super::output::Terminal;
use super::welcome::welcome;

/// Runs the proxy until SIGTERM or SIGINT.
pub(super) fn run(args: &RunArgs, terminal: &mut Terminal) -> Exit {
    let Given {
        settings,
        source,
        compiled,
    } = match args.files.read_to_serve(Timestamp::now()) {
        Ok(given) => given,
        Err(rejected) => return super::refuse(&rejected, terminal),
    };
    if let Err(problem) = init_log(LevelFilter::INFO) {
        terminal.say(&format!("no log: {problem}"));
    }
    if !compiled.warnings.is_empty() {
        terminal.say(&render_each(&compiled.warnings, &compiled.texts, terminal.colour));
    }
    for tag in &compiled.tags {
        terminal.say(&format!("note: {tag}"));
    }
    compiled.policy.needs().prepare();
    let effective = settings.clone();
    let is_builtin = source == PolicySource::Builtin;
    let app = match App::bind(settings, source, compiled) {
        Ok(app) => app,
        Err(problems) => {
            for problem in problems {
                error!("{problem}");
            }
            return Exit::No;
        }
    };
    announce(&app, &effective, is_builtin, terminal);
    match app.run() {
        Ok(()) => Exit::Yes,
        Err(problem) => {
            error!("{problem}");
            Exit::No
        }
    }
}

/// Says what will happen. The policy is held no longer than that: by then another one may be in force.
fn announce(app: &App, settings: &Settings, is_builtin: bool, terminal: &mut Terminal) {
    let policy = app.state().policy();
    terminal.say(&format!("sluicegate {}", env!("CARGO_PKG_VERSION")));
    terminal.say(&settings.to_string());
    terminal.say(&format!(
        "policy   {} rules from {}",
        policy.rules().len(),
        policy.files().join(", ")
    ));
    terminal.say(&format!(
        "serving  {} connections at once, as limits and descriptors allow",
        app.connection_limit()
    ));
    for socket in app.listening() {
        info!(name = %socket.name, mode = %socket.mode, address = %socket.address, "listening");
    }
    if is_builtin {
        terminal.say(&welcome(&policy, app.listening()));
    }
}
