//! Reads one log: finds out line by line what it holds, and gives what it tells.
//! Must not skip anything silently: what looks like a record and cannot be read is given as such, the rest is counted.
//! Called by the commands, with chunks of a file.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::coredns::{Query, query};
use super::csv::Table;
use super::legacy::message;
use super::rows::{Read, object};
use super::split::{Kind, Splitter};
use super::{Event, Question};
use crate::azure::resource::plain;

/// What a log gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Event(Event),
    Unreadable {
        /// From 1; of its first line, where it has more.
        line: u64,
        why: String,
    },
}

/// How much of a log was what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub events: u64,
    /// Looks like a record and cannot be read.
    pub unreadable: u64,
    /// Records that tell nothing of a policy: closed tunnels, names of the cluster, UDP, other tables.
    pub left_out: u64,
    /// Lines that are no records, such as the log of a process.
    pub others: u64,
}

/// A log that is being read.
#[derive(Debug)]
pub struct Reader {
    splitter: Splitter,
    lines: Lines,
}

#[derive(Debug, Default)]
struct Lines {
    table: Option<Table>,
    tally: Tally,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            splitter: Splitter::new(),
            lines: Lines::default(),
        }
    }
}

impl Reader {
    /// Takes the next bytes.
    pub fn push(&mut self, chunk: &[u8], give: &mut impl FnMut(Item)) {
        let lines = &mut self.lines;
        self.splitter
            .push(chunk, &mut |line, kind, piece| lines.piece(line, kind, piece, give));
    }

    /// The log ends here.
    pub fn finish(self, give: &mut impl FnMut(Item)) -> Tally {
        let Self { splitter, mut lines } = self;
        splitter.finish(&mut |line, kind, piece| lines.piece(line, kind, piece, give));
        if let Some((line, Err(why))) = lines.table.take().and_then(Table::finish) {
            lines.unreadable(line, why, give);
        }
        lines.tally
    }
}

impl Lines {
    fn piece(&mut self, line: u64, kind: Kind, piece: &[u8], give: &mut impl FnMut(Item)) {
        match kind {
            Kind::Broken => self.unreadable(line, &String::from_utf8_lossy(piece), give),
            Kind::Object => self.json(line, piece, give),
            Kind::Text => match std::str::from_utf8(piece) {
                Ok(text) => self.text(line, text, give),
                Err(_) if self.table.is_some() || may_be_record(piece) => {
                    self.unreadable(line, "it is not UTF-8", give);
                }
                Err(_) => self.tally.others += 1,
            },
        }
    }

    fn json(&mut self, line: u64, text: &[u8], give: &mut impl FnMut(Item)) {
        match serde_json::from_slice(text) {
            Ok(found) => self.object(line, found, give),
            Err(error) => self.unreadable(line, &format!("it is not JSON: {error}"), give),
        }
    }

    fn object(&mut self, line: u64, found: Map<String, Value>, give: &mut impl FnMut(Item)) {
        if let Some(key) = cut_short(&found) {
            let why = format!("the answer is only a part of what was asked for: it has `{key}`");
            self.unreadable(line, &why, give);
        }
        match object(found) {
            Ok(read) => self.read(line, read, give),
            Err(why) => self.unreadable(line, &why, give),
        }
    }

    fn read(&mut self, line: u64, read: Read, give: &mut impl FnMut(Item)) {
        match read {
            Read::Event(event) => self.event(event, give),
            Read::LeftOut => self.tally.left_out += 1,
            Read::Text(text, at) => self.plain(line, &text, at, give),
            Read::Rows(rows) => {
                for row in rows {
                    match row {
                        Value::Object(row) => self.object(line, row, give),
                        _ => self.unreadable(line, "a list holds something else than objects", give),
                    }
                }
            }
        }
    }

    fn text(&mut self, line: u64, text: &str, give: &mut impl FnMut(Item)) {
        if let Some(table) = &mut self.table {
            match table.line(line, text) {
                Some((began, Ok(row))) => {
                    let row = row.into_iter().map(|(column, value)| (column, Value::String(value)));
                    self.object(began, row.collect(), give);
                }
                Some((began, Err(why))) => self.unreadable(began, why, give),
                None => {}
            }
            return;
        }
        self.table = Table::header(text);
        if self.table.is_some() {
            return;
        }
        let (at, rest) = without_prefixes(text.trim_end());
        self.plain(line, rest, at, give);
    }

    /// A line without what `kubectl logs` puts before it.
    fn plain(&mut self, line: u64, text: &str, at: Option<Timestamp>, give: &mut impl FnMut(Item)) {
        if text.starts_with('{') {
            return self.json(line, text.as_bytes(), give);
        }
        if let Some(read) = query(text, at) {
            return match read {
                Ok(Query::Of(question)) => self.event(Event::Question(Question { at, ..question }), give),
                Ok(Query::Noise) => self.tally.left_out += 1,
                Err(why) => self.unreadable(line, why, give),
            };
        }
        match message(text, at) {
            Some(Ok(read)) => self.read(line, read, give),
            Some(Err(why)) => self.unreadable(line, &why, give),
            None => self.tally.others += 1,
        }
    }

    fn event(&mut self, event: Event, give: &mut impl FnMut(Item)) {
        self.tally.events += 1;
        give(Item::Event(event));
    }

    fn unreadable(&mut self, line: u64, why: &str, give: &mut impl FnMut(Item)) {
        self.tally.unreadable += 1;
        // It may quote the log, and whoever is logged may have chosen that.
        let why = plain(why);
        give(Item::Unreadable { line, why });
    }
}

/// Whether something within a line that is no text may be a record.
fn may_be_record(line: &[u8]) -> bool {
    let marks: [&[u8]; 3] = [b"{\"", b"[INFO] ", b" request from "];
    marks
        .iter()
        .any(|mark| line.windows(mark.len()).any(|part| part == *mark))
}

/// What says that a list of rows has not all of them: pages of Azure's APIs, and the partial answers of its queries.
fn cut_short(found: &Map<String, Value>) -> Option<&'static str> {
    let is_list = |key: &str| found.get(key).is_some_and(Value::is_array);
    if !["value", "tables"].into_iter().any(is_list) {
        return None;
    }
    let says = |key: &&str| found.get(*key).is_some_and(|value| !value.is_null() && value != "");
    ["error", "nextLink", "@odata.nextLink"].into_iter().find(says)
}

/// What follows `[pod/NAME/CONTAINER]`, a time and `stdout F`, in any number; and the time.
fn without_prefixes(text: &str) -> (Option<Timestamp>, &str) {
    let (mut at, mut rest) = (None, text);
    loop {
        let Some((word, after)) = rest.split_once(' ') else {
            return (at, rest);
        };
        let first = word.as_bytes().first();
        if word.starts_with("[pod/") && word.ends_with(']') || ["stdout", "stderr", "F", "P"].contains(&word) {
            rest = after;
        } else if let Some(time) = first
            .filter(|byte| byte.is_ascii_digit())
            .and_then(|_| word.parse().ok())
        {
            at = Some(time);
            rest = after;
        } else {
            return (at, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::history::rows::shown;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        what: String,
        log: String,
        says: Vec<String>,
        tally: [u64; 4],
    }

    #[test]
    fn logs_are_read_as_they_are_found() {
        let cases: Vec<Case> = serde_saphyr::from_str(include_str!("../../tests/corpus/history/readers.yaml")).unwrap();
        for case in &cases {
            for chunk in [1, 13, usize::MAX] {
                let mut says = Vec::new();
                let mut give = |item| {
                    says.push(match item {
                        Item::Event(event) => shown(&Read::Event(event)),
                        Item::Unreadable { line, why } => format!("{line}: {why}"),
                    });
                };
                let mut reader = Reader::default();
                for chunk in case.log.as_bytes().chunks(chunk) {
                    reader.push(chunk, &mut give);
                }
                let tally = reader.finish(&mut give);
                assert_eq!(says, case.says, "{}", case.what);
                let found = [tally.events, tally.unreadable, tally.left_out, tally.others];
                assert_eq!(found, case.tally, "{}", case.what);
            }
        }
        assert!(cases.len() > 10);
    }

    #[test]
    fn a_record_in_a_line_that_is_no_text_is_not_passed_over() {
        let mut said = Vec::new();
        let mut give = |item| said.push(format!("{item:?}"));
        let mut reader = Reader::default();
        reader.push(
            b"2026-03-01T12:00:01Z stdout F {\"type\":\"dec\xff\"}\nlog of \xff\n",
            &mut give,
        );
        let tally = reader.finish(&mut give);
        assert_eq!((tally.unreadable, tally.others), (1, 1));
        assert!(said[0].contains("it is not UTF-8"), "{said:?}");
    }

    #[test]
    fn times_come_from_the_record_or_from_what_stands_before_it() {
        let mut times = Vec::new();
        let mut give = |item| match item {
            Item::Event(Event::Question(asked)) => times.push(asked.at),
            Item::Event(Event::Decision(decided)) => times.push(decided.at),
            Item::Unreadable { why, .. } => panic!("{why}"),
        };
        let mut reader = Reader::default();
        reader.push(
            b"2026-03-01T12:00:01Z [INFO] 10.0.0.5:4 - 1 \"A IN a.test. udp 5 false 1\" NOERROR qr 1 0s\n\
              [INFO] 10.0.0.5:4 - 1 \"A IN a.test. udp 5 false 1\" NOERROR qr 1 0s\n\
              2026-03-01T12:00:02Z HTTPS request from 10.0.0.4:1 to b.test:443. Action: Allow. Rule: r\n",
            &mut give,
        );
        reader.finish(&mut give);
        let at = |text: &str| text.parse::<Timestamp>().ok();
        assert_eq!(times, [at("2026-03-01T12:00:01Z"), None, at("2026-03-01T12:00:02Z")]);
    }
}
