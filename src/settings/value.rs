//! Single values: durations, counts, yes or no, addresses, paths, words out of a list. One spelling each.
//! Must not guess a unit, a port or a type; what is refused says how it is written.
//! Called by the readers of the sections and of the listeners.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use config::ValueKind;
use jiff::SignedDuration;

use super::report::Complaint;

/// A value as one layer wrote it. The environment knows only text, so there a number is read from text; in a file it must
/// be a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'a> {
    pub(super) kind: &'a ValueKind,
    pub(super) from_environment: bool,
}

impl<'a> Written<'a> {
    pub(super) fn text(self, expected: &str, example: &str) -> Result<&'a str, Complaint> {
        match self.kind {
            ValueKind::String(text) => Ok(text),
            other => Err(wrong_type(other, expected, example)),
        }
    }

    /// A number within bounds.
    pub(super) fn count(self, bounds: RangeInclusive<usize>) -> Result<usize, Complaint> {
        let read = match self.kind {
            ValueKind::I64(number) => usize::try_from(*number).ok(),
            ValueKind::String(text) if self.from_environment => text.parse().ok(),
            other => return Err(wrong_type(other, "a whole number", "write digits, without quotes")),
        };
        let read = read.filter(|number| bounds.contains(number));
        read.ok_or_else(|| {
            Complaint::new(
                "this number is out of range",
                format!("{} to {}", bounds.start(), bounds.end()),
                "write a number in that range",
            )
        })
    }

    /// What one of these words stands for; `None` where a later version will know, which nobody is advised to write.
    pub(super) fn one_of<T: Copy>(self, words: &[(&str, Option<T>)]) -> Result<T, Complaint> {
        let known = words.iter().filter(|(_, value)| value.is_some());
        let known = known.map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let text = self.text("a word", &format!("write one of: {known}"))?;
        let help = format!("write one of: {known}");
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, Some(value))) => Ok(*value),
            Some((_, None)) => Err(Complaint::new(
                format!("`{text}` is not in this version"),
                "not yet",
                help,
            )),
            None => Err(Complaint::new(format!("`{text}` is not known here"), "unknown", help)),
        }
    }

    /// An address, with a port or with the default one.
    pub(super) fn server(self, default_port: u16) -> Result<SocketAddr, Complaint> {
        let example =
            format!("write an address such as 10.0.0.10, or \"10.0.0.10:{default_port}\"; names are not resolved here");
        let text = self.text("an address", &example)?;
        let alone = || {
            text.parse::<IpAddr>()
                .map(|address| SocketAddr::new(address, default_port))
        };
        let bad = |_| {
            Complaint::new(
                format!("`{text}` is not an address"),
                "an address is expected",
                example.clone(),
            )
        };
        let read: SocketAddr = text.parse().or_else(|_| alone()).map_err(bad)?;
        if read.port() == 0 {
            return Err(Complaint::new(
                format!("`{text}` has no port to ask"),
                "port 0",
                example,
            ));
        }
        Ok(read)
    }
}

/// Zero is allowed; what it means is up to the setting.
pub(super) fn duration(written: Written<'_>) -> Result<Duration, Complaint> {
    let help = "write a number and a unit, such as 500ms, 10s, 5m, 1h30m";
    let text = written.text("a duration", help)?;
    let bad = |label: &str| Complaint::new(format!("`{text}` is not a duration"), label, help);
    let read = text
        .parse::<SignedDuration>()
        .map_err(|_| bad("a number with h, m, s or ms is expected"))?;
    let read = Duration::try_from(read).map_err(|_| bad("time does not run backwards"))?;
    if read > LONGEST {
        return Err(bad("at most 8784h, a year"));
    }
    Ok(read)
}

pub(super) fn yes_or_no(written: Written<'_>) -> Result<bool, Complaint> {
    match written.kind {
        ValueKind::Boolean(value) => Ok(*value),
        ValueKind::String(text) if written.from_environment && text == "true" => Ok(true),
        ValueKind::String(text) if written.from_environment && text == "false" => Ok(false),
        other => Err(wrong_type(other, "true or false", "write true or false")),
    }
}

/// An address with its port; port 0 lets the kernel choose. `port` is that of the example.
pub(super) fn socket(written: Written<'_>, port: u16) -> Result<SocketAddr, Complaint> {
    // Some keep the quotes of a variable as a part of it.
    let quote = if written.from_environment { "" } else { "\"" };
    let example = format!(
        "write {quote}127.0.0.1:{port}{quote} or {quote}[::1]:{port}{quote}; {quote}[::]:{port}{quote} is every address, of \
         IPv4 too; names are not resolved here"
    );
    let text = written.text("an address with a port", &example)?;
    text.parse().map_err(|_| {
        Complaint::new(
            format!("`{text}` is not an address with a port"),
            "address:port is expected",
            example,
        )
    })
}

/// What stands where something else was expected.
pub(super) fn wrong_type(found: &ValueKind, expected: &str, help: &str) -> Complaint {
    let found = match found {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::String(_) => "a text",
        ValueKind::Table(_) => "a map",
        ValueKind::Array(_) => "a list",
        ValueKind::Float(_) => "no whole number, or too large a one",
        _ => "a number",
    };
    Complaint::new(format!("{expected} is expected"), format!("this is {found}"), help)
}

/// Far beyond any use, and far from where clocks overflow.
const LONGEST: Duration = Duration::from_hours(366 * 24);
/// Of whatever is counted.
pub(super) const MOST: usize = 100_000_000;
