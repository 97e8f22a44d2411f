//! Log files for the commands that read them: in pieces, however large, and with everything that cannot be read named.
//! Must not understand a line; the readers of `history` do.
//! Called by `replay`, `suggest` and `unused`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::Exit;
use super::output::Terminal;
use crate::history::{Event, Item, Reader, Tally};

/// How reading went.
#[derive(Debug, Default)]
pub(super) struct Logs {
    pub(super) tally: Tally,
    /// The first [`SHOWN`] lines that could not be read: file, line, why.
    unreadable: Vec<(String, u64, String)>,
}

impl Logs {
    /// Reads every file; `-` is standard input. `each` gets every event in its order.
    ///
    /// # Errors
    /// A file cannot be read, or holds not one record; the terminal has been told.
    pub(super) fn read(paths: &[PathBuf], terminal: &mut Terminal, mut each: impl FnMut(Event)) -> Result<Self, Exit> {
        let mut logs = Self::default();
        let mut failed = false;
        for path in paths {
            let name = path.display().to_string();
            match logs.read_one(path, &name, &mut each) {
                Err(error) => {
                    terminal.say(&format!("error: {name} cannot be read: {error}"));
                    failed = true;
                }
                Ok(tally) if tally.events > 0 || tally.left_out > 0 => {}
                Ok(tally) if tally == Tally::default() => terminal.say(&format!("warning: {name} is empty")),
                Ok(_) => {
                    terminal.say(&format!("error: {name} holds no record that can be read\n{READABLE}"));
                    failed = true;
                }
            }
        }
        logs.say(terminal);
        if !failed && logs.tally.events == 0 && logs.tally.left_out == 0 {
            terminal.say("error: there is not one record");
            failed = true;
        }
        if failed { Err(Exit::Unusable) } else { Ok(logs) }
    }

    /// Whether every line that looks like a record was read.
    pub(super) fn is_whole(&self) -> bool {
        self.tally.unreadable == 0
    }

    pub(super) fn json(&self) -> Value {
        let rows = self
            .unreadable
            .iter()
            .map(|(file, line, why)| json!({"file": file, "line": line, "why": why}));
        json!({
            "records": self.tally.events,
            "left_out": self.tally.left_out,
            "other_lines": self.tally.others,
            "unreadable": self.tally.unreadable,
            "unreadable_lines": rows.collect::<Vec<_>>(),
        })
    }

    fn read_one(&mut self, path: &Path, name: &str, each: &mut impl FnMut(Event)) -> io::Result<Tally> {
        let mut input: Box<dyn Read> = if path == Path::new("-") {
            Box::new(io::stdin().lock())
        } else {
            Box::new(File::open(path)?)
        };
        let mut reader = Reader::default();
        let mut buffer = vec![0; CHUNK];
        let unreadable = &mut self.unreadable;
        let mut take = |item| match item {
            Item::Event(event) => each(event),
            Item::Unreadable { line, why } if unreadable.len() < SHOWN => unreadable.push((name.to_owned(), line, why)),
            Item::Unreadable { .. } => {}
        };
        loop {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => reader.push(buffer.get(..count).unwrap_or_default(), &mut take),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let tally = reader.finish(&mut take);
        self.tally.events += tally.events;
        self.tally.unreadable += tally.unreadable;
        self.tally.left_out += tally.left_out;
        self.tally.others += tally.others;
        Ok(tally)
    }

    fn say(&self, terminal: &mut Terminal) {
        for (file, line, why) in &self.unreadable {
            terminal.say(&format!("warning: {file}:{line} cannot be read: {why}"));
        }
        if !self.is_whole() {
            let count = self.tally.unreadable;
            terminal.say(&format!(
                "warning: {count} record{} could not be read, so the answer is not whole",
                if count == 1 { "" } else { "s" }
            ));
        }
    }
}

/// A moment, or the beginning of a day in UTC.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let day = text.parse::<Date>().ok().filter(|_| text.len() == 10);
    let start = day.and_then(|day| TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok());
    start.ok_or_else(|| "write a day such as 2026-11-20, or a time such as 2026-11-20T12:00:00Z".to_owned())
}

const CHUNK: usize = 256 * 1024;
/// Lines that are shown; the others are counted.
const SHOWN: usize = 20;
const READABLE: &str = "  help: what is read: records with `log.format: json` or `azure`, AZFWApplicationRule and AZFWNetworkRule as JSON or \
                        CSV, AzureDiagnostics, and the query log of CoreDNS; `log.format: text` is for people only";
