//! YAML text to nodes that know where they stand, one top-level entry or list item at a time.
//! Must not know the policy language. Strict: no anchors, aliases, tags, directives, second documents or coercions;
//! bounded in bytes, nodes and depth. A syntax error ends the file, everything else is noted and read on.
//! Called by the document reader and for the embedded presets; the only place that knows the YAML library.

mod scalar;
mod syntax;
pub(crate) mod typed;
pub(crate) mod write;

use std::borrow::Cow;

use serde_saphyr::granit_parser::{self as parser, Event, StrInput};

use super::problem::{Place, Problems};
use scalar::scalar;
use syntax::{refuse_alias, refuse_tag};

/// One value and where it stands.
#[derive(Debug)]
pub(crate) struct Node<'t> {
    pub(crate) value: Value<'t>,
    pub(crate) at: Place,
}

#[derive(Debug)]
pub(crate) enum Value<'t> {
    Null,
    Bool(bool),
    Int(i64),
    /// Any other number; its text is in the file.
    Number,
    Text(Cow<'t, str>),
    List(Vec<Node<'t>>),
    Map(Vec<(Node<'t>, Node<'t>)>),
    /// Something that was refused already.
    Refused,
}

/// Reads one file from its start to its end.
pub(crate) struct Yaml<'t> {
    events: parser::Parser<'t, StrInput<'t>>,
    text: &'t str,
    file: u32,
    nodes: usize,
    ended: bool,
}

/// What a top-level key holds.
#[derive(Debug)]
pub(crate) enum Held<'t> {
    /// A list, to be read with [`Yaml::item`] until that gives nothing.
    List,
    Node(Node<'t>),
}

impl<'t> Yaml<'t> {
    /// Begins a file, up to its first key. `None`: it is not a map; that was noted.
    pub(crate) fn open(file: u32, text: &'t str, expected: &str, problems: &mut Problems<'_>) -> Option<Self> {
        if text.len() > MAX_BYTES {
            let message = format!("the file is larger than {} MiB", MAX_BYTES >> 20);
            problems.error_of_file(file, message);
            return None;
        }
        let options = parser::options! {
            disallow_directives: true,
            emit_unresolved_aliases: true,
            emit_anchor_events: true,
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
        };
        let mut yaml = Self {
            events: parser::Parser::new_from_str_with_options(text, options),
            text,
            file,
            nodes: 0,
            ended: false,
        };
        let nothing = |problems: &mut Problems<'_>| {
            problems
                .error_of_file(file, "the file says nothing")
                .help("to deny everything on purpose, write `allow: []`");
        };
        loop {
            match yaml.event(problems)? {
                (Event::StreamStart | Event::DocumentStart(..), _) => {}
                (Event::MappingStart(..), _) => return Some(yaml),
                (Event::StreamEnd | Event::DocumentEnd, _) => {
                    nothing(problems);
                    return None;
                }
                (event, at) => {
                    let node = yaml.node_from(event, at, problems)?;
                    match node.value {
                        Value::Null => nothing(problems),
                        Value::Refused => {}
                        _ => {
                            let found = node.kind();
                            problems
                                .error(node.at, format!("the file must be a map, not {found}"))
                                .help(expected);
                        }
                    }
                    return None;
                }
            }
        }
    }

    /// The next top-level key. Its value must be read before the next one: with [`Self::value`], or with
    /// [`Self::held`] and [`Self::item`].
    pub(crate) fn key(&mut self, problems: &mut Problems<'_>) -> Option<Node<'t>> {
        match self.event(problems)? {
            (Event::MappingEnd, _) => {
                self.close(problems);
                None
            }
            (event, at) => self.node_from(event, at, problems),
        }
    }

    /// The whole value of the key that was just read.
    pub(crate) fn value(&mut self, key: &Node<'t>, problems: &mut Problems<'_>) -> Option<Node<'t>> {
        let (event, at) = self.event(problems)?;
        let mut node = self.node_from(event, at, problems)?;
        node.stand_in_for_nothing(key.at);
        Some(node)
    }

    /// The value of the key that was just read, a list only begun, so that long ones need not be held.
    pub(crate) fn held(&mut self, key: &Node<'t>, problems: &mut Problems<'_>) -> Option<Held<'t>> {
        let (event, at) = self.event(problems)?;
        if let Event::SequenceStart(_, _, tag) = &event {
            refuse_tag(tag.is_some(), at, problems);
            return Some(Held::List);
        }
        let mut node = self.node_from(event, at, problems)?;
        node.stand_in_for_nothing(key.at);
        Some(Held::Node(node))
    }

    /// The next item of the list that [`Self::held`] began.
    pub(crate) fn item(&mut self, problems: &mut Problems<'_>) -> Option<Node<'t>> {
        match self.event(problems)? {
            (Event::SequenceEnd, _) => None,
            (event, at) => self.node_from(event, at, problems),
        }
    }

    /// How many lines of the whole file begin as an item of a list does: hardly less than one of its lists holds, unless
    /// that is written in brackets.
    pub(crate) fn lines_with_dash(&self) -> usize {
        let lines = self.text.lines();
        let items = lines.filter(|line| line.trim_start().starts_with("- "));
        items.count().min(MAX_NODES)
    }

    fn close(&mut self, problems: &mut Problems<'_>) {
        while let Some((event, at)) = self.event(problems) {
            if matches!(event, Event::DocumentStart(..)) {
                problems
                    .error(at.place, "a second YAML document begins here")
                    .help("one document per file: remove the `---`, or move the rest to a file of its own");
                self.ended = true;
            }
        }
    }

    fn node_from(&mut self, event: Event<'t>, at: Mark, problems: &mut Problems<'_>) -> Option<Node<'t>> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            problems.error(at.place, format!("the file has more than {MAX_NODES} values"));
            self.ended = true;
            return None;
        }
        let mut place = at.place;
        let value = match event {
            Event::Scalar(text, style, _, tag) => {
                refuse_tag(tag.is_some(), at, problems);
                scalar(text, style)
            }
            Event::SequenceStart(_, _, tag) => {
                refuse_tag(tag.is_some(), at, problems);
                let mut items = Vec::new();
                let end = loop {
                    match self.event(problems)? {
                        (Event::SequenceEnd, end) => break end,
                        (event, at) => items.push(self.node_from(event, at, problems)?),
                    }
                };
                place.end = end.place.end.max(place.end);
                Value::List(items)
            }
            Event::MappingStart(_, _, tag) => {
                refuse_tag(tag.is_some(), at, problems);
                let mut entries = Vec::new();
                let end = loop {
                    match self.event(problems)? {
                        (Event::MappingEnd, end) => break end,
                        (event, at) => {
                            let key = self.node_from(event, at, problems)?;
                            let value = self.value(&key, problems)?;
                            entries.push((key, value));
                        }
                    }
                };
                place.end = end.place.end.max(place.end);
                Value::Map(entries)
            }
            Event::UnresolvedAlias(_) | Event::Alias(_) => {
                refuse_alias(place, problems);
                Value::Refused
            }
            _ => Value::Refused,
        };
        Some(Node { value, at: place })
    }

    /// The next event that is not an anchor; those are noted. `None` at the end, also after an error.
    fn event(&mut self, problems: &mut Problems<'_>) -> Option<(Event<'t>, Mark)> {
        while !self.ended {
            match self.events.next_event() {
                None => self.ended = true,
                Some(Ok((Event::Anchor(..), span))) => {
                    let at = self.place(span);
                    problems
                        .error(at, "anchors (`&`) are not supported")
                        .help("write the value out where it is needed, or quote the text if it is meant as text");
                }
                Some(Ok((event, span))) => {
                    let mark = Mark {
                        place: self.place(span),
                        tag: span.tag_span().map(|tag| self.place(tag)),
                    };
                    return Some((event, mark));
                }
                Some(Err(error)) => {
                    self.ended = true;
                    problems.cut_short();
                    syntax::refuse(self.file, self.text, &error, problems);
                }
            }
        }
        None
    }

    fn place(&self, span: parser::Span) -> Place {
        let range = span.byte_range().unwrap_or(0..0);
        Place {
            file: self.file,
            start: offset(range.start),
            end: offset(range.end),
        }
    }
}

impl Value<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Int(_) | Self::Number => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Refused => "this",
        }
    }
}

impl Node<'_> {
    /// What it is, for a message: "a list".
    pub(crate) fn kind(&self) -> &'static str {
        self.value.kind()
    }

    /// An empty value has no text of its own to underline, so its key is.
    fn stand_in_for_nothing(&mut self, key: Place) {
        if self.at.start >= self.at.end {
            self.at = key;
        }
    }
}

#[derive(Clone, Copy)]
struct Mark {
    place: Place,
    tag: Option<Place>,
}

/// Files are at most [`MAX_BYTES`] long.
fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// A hundred thousand rules are 3 to 10 MB.
const MAX_BYTES: usize = 64 << 20;
/// A hundred thousand rules with all their keys are about 2 million.
const MAX_NODES: usize = 8_000_000;
/// The language nests five deep.
const MAX_DEPTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::problem::{Problem, SourceText};

    #[test]
    fn places_are_those_of_the_text() {
        for text in [
            "list:\n- über\n- \"b c\" # comment\n- {k: v}\n",
            "\u{feff}list:\r\n- über\r\n- \"b c\"\r\n- {k: v}\r\n",
        ] {
            let (items, problems) = items(text);
            assert!(problems.is_empty(), "{problems:?}");
            let quoted: Vec<_> = items
                .iter()
                .map(|item| &text[item.at.start as usize..item.at.end as usize])
                .collect();
            assert_eq!(quoted, ["über", "\"b c\"", "{k: v}"]);
        }
    }

    #[test]
    fn what_is_refused_does_not_end_the_file() {
        let text = "list: [&a x, *a, *.example.com, !t y, <<, last]\n";
        let (items, problems) = items(text);
        let refused: Vec<_> = problems
            .iter()
            .map(|problem| &text[problem.span.unwrap().start..problem.span.unwrap().end])
            .collect();
        assert_eq!(refused, ["&a", "*a", "*.example.com", "!t"]);
        assert_eq!(items.len(), 6);
        assert!(matches!(&items[5].value, Value::Text(text) if text == "last"));
    }

    /// J04: an alias costs what its own text costs, and depth has an end.
    #[test]
    fn bombs_are_bounded() {
        let level = |level: usize| format!("- &l{level} [{}]\n", format!("*l{}, ", level - 1).repeat(9));
        let bomb = format!("list:\n- &l0 [x, x]\n{}", (1..2_000).map(level).collect::<String>());
        let (items, problems) = items(&bomb);
        assert_eq!(items.len(), 2_000);
        assert_eq!(problems.len(), 2_000 + 9 * 1_999);

        let deep = format!("list: {}", "[".repeat(100_000));
        let (_, problems) = self::items(&deep);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].message.contains("more than 32"), "{}", problems[0].message);
    }

    #[test]
    fn one_map_per_file() {
        for (text, message) in [
            ("", "the file says nothing"),
            ("# only\n", "the file says nothing"),
            ("--- # x\n", "the file says nothing"),
            ("~", "the file says nothing"),
            ("[a]", "must be a map, not a list"),
            ("a", "must be a map, not text"),
            ("list: [a]\n---\nlist: [b]\n", "second YAML document"),
            ("%YAML 1.2\n---\nlist: [a]\n", "not valid YAML"),
            ("list: [a\n", "not valid YAML"),
            ("list: \"a\n", "not valid YAML"),
            ("list:\n\t- a\n", "a tab"),
        ] {
            let (_, problems) = items(text);
            assert_eq!(problems.len(), 1, "{text:?}: {problems:?}");
            assert!(
                problems[0].message.contains(message),
                "{text:?}: {}",
                problems[0].message
            );
        }
    }

    /// The items of the list below the first key, and everything that was noted.
    fn items(text: &str) -> (Vec<Node<'_>>, Vec<Problem>) {
        let texts = [SourceText {
            name: "a.yaml".into(),
            text: text.into(),
        }];
        let mut problems = Problems::new(&texts);
        let mut items = Vec::new();
        if let Some(mut yaml) = Yaml::open(0, text, "", &mut problems) {
            while let Some(key) = yaml.key(&mut problems) {
                if let Some(Held::List) = yaml.held(&key, &mut problems) {
                    while let Some(item) = yaml.item(&mut problems) {
                        items.push(item);
                    }
                }
            }
        }
        (items, problems.into_sorted())
    }
}
