//! What this language does not take of YAML, and what YAML itself does not take: each with what to write instead.
//! Must not repair anything: a file with an error in its syntax ends there.
//! Called by the reader of a file.

use serde_saphyr::granit_parser as parser;

use super::{MAX_DEPTH, Mark, offset};
use crate::policy::problem::{Place, Problems};

pub(super) fn refuse_tag(tagged: bool, at: Mark, problems: &mut Problems<'_>) {
    if tagged {
        problems
            .error(at.tag.unwrap_or(at.place), "tags (`!`) are not supported")
            .help("remove it, or quote the text if it is meant as text");
    }
}

pub(super) fn refuse_alias(at: Place, problems: &mut Problems<'_>) {
    let written = problems.quote(at);
    if written.contains('.') {
        problems
            .error(at, "a `*` begins an alias in YAML, so this is not a wildcard")
            .label("needs quotes")
            .help(format!(
                "write `\"{written}\"`: patterns that start with `*` need quotes"
            ));
    } else {
        problems
            .error(at, "aliases (`*`) are not supported")
            .help("write the value out where it is needed, or quote a pattern that starts with `*`");
    }
}

/// Notes the error that ends a file.
pub(super) fn refuse(file: u32, text: &str, error: &parser::ScanError, problems: &mut Problems<'_>) {
    let start = error.marker().byte_offset().unwrap_or(text.len()).min(text.len());
    let start = text.floor_char_boundary(start);
    let rest = text.get(start..).unwrap_or_default();
    let length = rest.chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
    let at = Place {
        file,
        start: offset(start),
        end: offset(start + length),
    };
    let before = text.get(..start).unwrap_or_default();
    let (message, help) = explain(error, before, rest);
    problems.error(at, message).help(help);
}

/// The library's message in our words, and what to do about it.
fn explain(error: &parser::ScanError, before: &str, rest: &str) -> (String, String) {
    use parser::ErrorKind as Kind;
    let help = match error.kind() {
        Kind::TabNotAllowed
        | Kind::TabInBlockIndentation
        | Kind::TabAtBlockScalarStart
        | Kind::TabInIndentation
        | Kind::TabInPlainScalar => {
            let message = "a tab stands where YAML allows only spaces".to_owned();
            return (message, "replace it by spaces: two for each level".to_owned());
        }
        Kind::RecursionLimitExceeded => {
            let message = format!("more than {MAX_DEPTH} lists and maps stand inside each other");
            return (message, "the language nests five deep: take brackets out".to_owned());
        }
        Kind::DirectiveDisallowed => "remove the line that starts with `%`".to_owned(),
        Kind::UnclosedQuotedScalar | Kind::InvalidQuotedScalarIndent => "close the quotation mark".to_owned(),
        Kind::InvalidTrailingSingleQuotedScalar => {
            "inside `'` write a quotation mark twice (`''`), or quote the text with `\"`".to_owned()
        }
        Kind::UnknownQuotedScalarEscape => "inside `\"` write a backslash twice, or quote the text with `'`".to_owned(),
        Kind::MissingAnchorOrAliasName if rest.starts_with('*') || before.ends_with('*') => {
            "quote patterns that start with `*`: `\"*.example.com\"`; a `*` alone would allow every name".to_owned()
        }
        Kind::UnexpectedCharacter { character } => {
            format!("remove the `{character}`, with which no destination begins, or quote the text")
        }
        Kind::FlowMappingValueAdjacentCollection => "write a space after the colon".to_owned(),
        Kind::MismatchedFlowCollectionEnd { open, .. } | Kind::UnclosedFlowCollection { open } => {
            match closing(*open) {
                Some(close) => format!("close the `{open}` with `{close}`"),
                None => CAREFUL.to_owned(),
            }
        }
        Kind::MisplacedFlowCollectionEnd => "remove this bracket, or open it before".to_owned(),
        Kind::MappingValueNotAllowed => colon(before),
        Kind::ExpectedBlockSequenceEntry | Kind::ExpectedBlockMappingKey => {
            "indent it as far as the line above that it belongs beside".to_owned()
        }
        _ => bracketed_word(before, rest)
            .or_else(|| unclosed(before))
            .unwrap_or_else(|| CAREFUL.to_owned()),
    };
    (format!("this is not valid YAML: {}", error.info()), help)
}

/// A colon where none can be: in a text, or behind a key that is indented too far.
fn colon(before: &str) -> String {
    let line = before.rsplit('\n').next().unwrap_or_default();
    if line.contains(": ") {
        "quote the text that holds a colon and a space".to_owned()
    } else {
        "indent it as far as the line above that it belongs beside".to_owned()
    }
}

/// An IPv6 address inside a list: its own brackets are taken for a list's.
fn bracketed_word(before: &str, rest: &str) -> Option<String> {
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line_before = before.get(line_start..)?;
    let line_after = rest.split('\n').next()?;
    let line = format!("{line_before}{line_after}");
    let bracket = line.rfind("://[")?;
    let start = line.get(..bracket)?.rfind([' ', '[', '{', ',']).map_or(0, |at| at + 1);
    let address_end = bracket + line.get(bracket..)?.find(']')?;
    let length = line.get(address_end + 1..)?.find([',', ']', '}', ' ']);
    let end = length.map_or(line.len(), |length| address_end + 1 + length);
    let word = line.get(start..end).filter(|word| !word.contains(['"', '\'']))?;
    Some(format!("quote what holds brackets: `\"{word}\"`"))
}

/// The innermost bracket that is still open. Brackets in texts and comments are counted as well: this is advice.
fn unclosed(before: &str) -> Option<String> {
    let mut closed = 0_usize;
    for (at, c) in before.char_indices().rev() {
        match c {
            ']' | '}' => closed += 1,
            '[' | '{' if closed > 0 => closed -= 1,
            '[' | '{' => {
                let line = 1 + before.get(..at)?.matches('\n').count();
                return Some(format!("close the `{c}` of line {line} with `{}`", closing(c)?));
            }
            _ => {}
        }
    }
    None
}

fn closing(open: char) -> Option<char> {
    match open {
        '[' => Some(']'),
        '{' => Some('}'),
        _ => None,
    }
}

const CAREFUL: &str =
    "quote texts that hold any of `: # [ ] { } , & * ! | > % @`, and indent the items of a list alike";
