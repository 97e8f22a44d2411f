//! A tree of values as YAML text that a person would have written: short things on one line, comments above.
//! Must not write what a reader could take for something else: whatever YAML 1.1, 1.2 or our own reader could misread
//! is quoted. Called by whoever writes policy files: the import of firewall rules, `init`.

use std::fmt::Write;

use super::Value;
use super::scalar::scalar;

/// A value to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    Text(String),
    Int(i64),
    Bool(bool),
    List(List),
    Map(Map),
}

/// Values in order, each with the comment above it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct List {
    items: Vec<(String, Tree)>,
    comment: String,
    block: bool,
}

/// Keys and values in order, each with the comment above it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Map {
    entries: Vec<(String, String, Tree)>,
    comment: String,
    block: bool,
}

/// A whole file: a header of comments, then the keys with an empty line between them.
pub(crate) fn file(header: &str, map: &Map) -> String {
    let mut out = String::new();
    comment(header, 0, &mut out);
    for (index, entry) in map.entries.iter().enumerate() {
        if index > 0 || !out.is_empty() {
            out.push('\n');
        }
        write_entry(entry, 0, &mut out);
    }
    if map.entries.is_empty() {
        out.push_str("{}\n");
    }
    comment(&map.comment, 0, &mut out);
    out
}

/// One text as it stands in a list or behind a key, quoted where it has to be.
pub(crate) fn text(value: &str) -> String {
    if is_plain(value) {
        value.to_owned()
    } else {
        quoted(value)
    }
}

impl List {
    pub(crate) fn push(&mut self, value: impl Into<Tree>) -> &mut Self {
        let comment = std::mem::take(&mut self.comment);
        self.items.push((comment, value.into()));
        self
    }

    /// Puts a comment above what is pushed next, or at the end. Several stand below each other.
    pub(crate) fn comment(&mut self, text: &str) -> &mut Self {
        add_comment(&mut self.comment, text);
        self
    }

    /// Never on one line.
    pub(crate) fn block(&mut self) -> &mut Self {
        self.block = true;
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl Map {
    pub(crate) fn set(&mut self, key: &str, value: impl Into<Tree>) -> &mut Self {
        let comment = std::mem::take(&mut self.comment);
        self.entries.push((comment, key.to_owned(), value.into()));
        self
    }

    /// Puts a comment above what is set next, or at the end. Several stand below each other.
    pub(crate) fn comment(&mut self, text: &str) -> &mut Self {
        add_comment(&mut self.comment, text);
        self
    }

    /// Never on one line.
    pub(crate) fn block(&mut self) -> &mut Self {
        self.block = true;
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl From<&str> for Tree {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Tree {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Tree {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<u16> for Tree {
    fn from(number: u16) -> Self {
        Self::Int(number.into())
    }
}

impl From<bool> for Tree {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<List> for Tree {
    fn from(list: List) -> Self {
        Self::List(list)
    }
}

impl From<Map> for Tree {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl<T: Into<Tree>> FromIterator<T> for List {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut list = Self::default();
        for item in items {
            list.push(item);
        }
        list
    }
}

fn add_comment(comment: &mut String, text: &str) {
    if !comment.is_empty() && !text.is_empty() {
        comment.push('\n');
    }
    comment.push_str(text);
}

fn write_entry((above, key, value): &(String, String, Tree), indent: usize, out: &mut String) {
    comment(above, indent, out);
    pad(indent, out);
    let start = out.len();
    out.push_str(&text(key));
    out.push(':');
    let used = indent + out.len() - start + 1;
    if let Some(line) = one_line(value, used) {
        out.push(' ');
        out.push_str(&line);
        out.push('\n');
        return;
    }
    out.push('\n');
    write_block(value, indent + STEP, out);
}

/// A list or a map over several lines; each ends with a line break.
fn write_block(tree: &Tree, indent: usize, out: &mut String) {
    match tree {
        Tree::Map(map) => {
            for entry in &map.entries {
                write_entry(entry, indent, out);
            }
            comment(&map.comment, indent, out);
        }
        Tree::List(list) => {
            for (above, item) in &list.items {
                comment(above, indent, out);
                pad(indent, out);
                out.push_str("- ");
                if let Some(line) = one_line(item, indent + STEP) {
                    out.push_str(&line);
                    out.push('\n');
                } else {
                    let mut block = String::new();
                    write_block(item, indent + STEP, &mut block);
                    out.push_str(block.trim_start_matches(' '));
                }
            }
            comment(&list.comment, indent, out);
        }
        Tree::Text(_) | Tree::Int(_) | Tree::Bool(_) => {}
    }
}

/// The value on one line, if it is one by nature or fits in `WIDTH` columns of which some are used.
fn one_line(tree: &Tree, used: usize) -> Option<String> {
    let mut out = String::new();
    let (empty, fits) = match tree {
        Tree::List(list) => (list.items.is_empty(), inline(tree, &mut out)),
        Tree::Map(map) => (map.entries.is_empty(), inline(tree, &mut out)),
        Tree::Text(_) | Tree::Int(_) | Tree::Bool(_) => (true, inline(tree, &mut out)),
    };
    (empty || fits && used + out.chars().count() <= WIDTH).then_some(out)
}

/// Flow style; `false`: something in it has a comment, or wants lines of its own.
fn inline(tree: &Tree, out: &mut String) -> bool {
    match tree {
        Tree::Text(value) => out.push_str(&text(value)),
        Tree::Int(number) => out.push_str(&number.to_string()),
        Tree::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Tree::List(list) => {
            out.push('[');
            for (index, (above, item)) in list.items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                if !above.is_empty() || !inline(item, out) {
                    return false;
                }
            }
            out.push(']');
            return list.items.is_empty() || !list.block && list.comment.is_empty();
        }
        Tree::Map(map) => {
            out.push('{');
            for (index, (above, key, value)) in map.entries.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                out.push_str(&text(key));
                out.push_str(": ");
                if !above.is_empty() || !inline(value, out) {
                    return false;
                }
            }
            out.push('}');
            return map.entries.is_empty() || !map.block && map.comment.is_empty();
        }
    }
    true
}

/// Lines of comment, long ones wrapped; whatever could end a line, or turn text round, is a space.
fn comment(words: &str, indent: usize, out: &mut String) {
    for line in words.lines() {
        let line: String = line.chars().map(|c| if is_odd(c) { ' ' } else { c }).collect();
        let mut used = 0;
        for word in line.split_whitespace() {
            let length = word.chars().count();
            if used == 0 || used + 1 + length > WIDTH {
                if used > 0 {
                    out.push('\n');
                }
                pad(indent, out);
                out.push('#');
                used = indent + 1;
            }
            out.push(' ');
            out.push_str(word);
            used += 1 + length;
        }
        if used > 0 {
            out.push('\n');
        }
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// Whether every reader takes the text for itself, in a list on one line as well.
fn is_plain(value: &str) -> bool {
    let (Some(first), Some(last)) = (value.chars().next(), value.chars().last()) else {
        return false;
    };
    let calm = |c: char| c.is_ascii_alphanumeric() || " ._-/:+=@()%".contains(c);
    value.len() <= MAX_PLAIN
        && (first.is_ascii_alphanumeric() || first == '/')
        && !matches!(last, ' ' | ':')
        && value.chars().all(calm)
        && !value.contains(": ")
        && !value.contains("  ")
        && !is_other(value)
}

/// Whether YAML 1.2, or 1.1 as other tools read it, sees something else than text.
fn is_other(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let numeric = value
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"_:.+-eE".contains(&byte))
        && value.bytes().filter(|byte| *byte == b'.').count() < 2
        && !is_day(value);
    WORDS.contains(&&*lower)
        || numeric
        || lower.starts_with("0x")
        || lower.starts_with("0o")
        || !matches!(
            scalar(value.into(), serde_saphyr::granit_parser::ScalarStyle::Plain),
            Value::Text(_)
        )
}

/// `2026-12-31`, which our reader takes as text, and everyone writes so.
fn is_day(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.len() == 10
        && bytes.iter().enumerate().all(|(at, byte)| {
            if at == 4 || at == 7 {
                *byte == b'-'
            } else {
                byte.is_ascii_digit()
            }
        })
}

fn quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_odd(c) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Control characters, and those that no eye sees: they hide, join or turn round what stands beside them.
fn is_odd(c: char) -> bool {
    c.is_control()
        || (c != ' ' && c.is_whitespace())
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{ffff}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}')
}

const STEP: usize = 2;
const WIDTH: usize = 110;
const MAX_PLAIN: usize = 500;
/// What YAML 1.1 takes for flags and for nothing.
const WORDS: [&str; 10] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"];

#[cfg(test)]
mod tests {
    use super::super::{Held, Node, Yaml};
    use super::*;
    use crate::policy::problem::{Problems, SourceText};

    #[test]
    fn a_file_as_a_person_writes_it() {
        let mut nodes = Map::default();
        nodes.set("cidrs", ["10.224.0.0/16"].into_iter().collect::<List>());
        let mut workloads = Map::default();
        workloads.set("nodes", nodes).block();
        let mut rule = Map::default();
        rule.set("name", "aks: core")
            .set("from", ["nodes"].into_iter().collect::<List>());
        rule.set(
            "to",
            ["mcr.microsoft.com", "*.data.mcr.microsoft.com"]
                .into_iter()
                .collect::<List>(),
        );
        let mut rules = List::default();
        rules.block().comment("Who pulls images.\nSee OPS-1").push(rule);
        let mut long = Map::default();
        long.set("name", "long")
            .set("to", (0..9).map(|n| format!("name-{n}.example.com")).collect::<List>());
        rules.push(long).comment("not carried: x");
        let mut collection = Map::default();
        collection
            .set("name", "AppRC2")
            .set("priority", 1200_u16)
            .set("rules", rules)
            .block();
        let mut collections = List::default();
        collections.push(collection).block();
        let mut top = Map::default();
        top.set("workloads", workloads)
            .set("collections", collections)
            .set("allow", List::default());
        assert_eq!(file("From prod.json", &top), FILE);
    }

    #[test]
    fn what_could_be_misread_is_quoted() {
        for plain in [
            "a.example.com",
            "tcp://a.example.com:11000-11999",
            "10.0.0.0/16",
            "tcp://10.0.0.0/8:443",
            "2026-12-31",
            "team x (y)",
            "1e100.net",
            "10.1.2.3",
            "a:b",
            "A_b-c",
        ] {
            assert_eq!(text(plain), plain);
        }
        for odd in [
            "",
            " ",
            "a ",
            " a",
            "*.x.y",
            "&a",
            "!t",
            "#x",
            "a #b",
            "a: b",
            "a:",
            "-",
            "- a",
            "?",
            "yes",
            "No",
            "ON",
            "y",
            "null",
            "~",
            "true",
            "443",
            "1.35",
            "0443",
            "0x1f",
            "1e3",
            "12:30",
            "1_000",
            "::1",
            "[2001:db8::/32]:443",
            "{a}",
            "a,b",
            "a\nb",
            "\u{85}",
            "a\u{202e}b",
            "\"",
            "'",
            "\\",
            "@x",
            "`x`",
            "%x",
            ".inf",
            "=",
            "<<",
            "a  b",
            "über",
            "---",
            "...",
            "\u{feff}",
            "\u{0}",
            "|",
            ">",
        ] {
            assert!(text(odd).starts_with('"'), "{odd:?}");
        }
        assert_eq!(text("über \"x\"\n\u{202e}"), "\"über \\\"x\\\"\\n\\U0000202e\"");
    }

    proptest::proptest! {
        /// Whatever a text holds, our reader gets it back, on one line, on many, and as a key; comments change nothing.
        #[test]
        fn texts_come_back(texts in proptest::collection::vec("\\PC{0,12}|[ -~]{0,8}|.{0,5}|[0-9a-z.:e+-]{0,5}", 1..30), note in "(?s).{0,40}") {
            for block in [false, true] {
                let mut list: List = List::default();
                for text in &texts {
                    list.comment(if block { &note } else { "" }).push(text.as_str());
                }
                let mut map = Map::default();
                map.set("list", list);
                let written = file(&note, &map);
                proptest::prop_assert_eq!(&read(&written), &texts, "{}", written);
            }
            for text in texts {
                let mut inner = Map::default();
                inner.set(&text, text.as_str());
                let mut map = Map::default();
                map.set("list", [inner].into_iter().collect::<List>());
                let written = file("", &map);
                proptest::prop_assert_eq!(read(&written), vec![format!("{text}={text}")], "{}", written);
            }
        }
    }

    /// The texts of the list below the first key.
    fn read(text: &str) -> Vec<String> {
        let texts = [SourceText {
            name: "a.yaml".into(),
            text: text.into(),
        }];
        let mut problems = Problems::new(&texts);
        let mut yaml = Yaml::open(0, text, "", &mut problems).unwrap();
        let key = yaml.key(&mut problems).unwrap();
        let mut found = Vec::new();
        if let Some(Held::List) = yaml.held(&key, &mut problems) {
            while let Some(item) = yaml.item(&mut problems) {
                found.push(shown(&item));
            }
        }
        assert!(problems.into_sorted().is_empty(), "{text}");
        found
    }

    fn shown(node: &Node<'_>) -> String {
        match &node.value {
            Value::Text(text) => text.to_string(),
            Value::Map(entries) => {
                let texts = entries
                    .iter()
                    .map(|(key, value)| format!("{}={}", shown(key), shown(value)));
                texts.collect::<Vec<_>>().join(",")
            }
            other => format!("{other:?}"),
        }
    }

    const FILE: &str = "\
# From prod.json

workloads:
  nodes: {cidrs: [10.224.0.0/16]}

collections:
  - name: AppRC2
    priority: 1200
    rules:
      # Who pulls images.
      # See OPS-1
      - {name: \"aks: core\", from: [nodes], to: [mcr.microsoft.com, \"*.data.mcr.microsoft.com\"]}
      - name: long
        to:
          - name-0.example.com
          - name-1.example.com
          - name-2.example.com
          - name-3.example.com
          - name-4.example.com
          - name-5.example.com
          - name-6.example.com
          - name-7.example.com
          - name-8.example.com
      # not carried: x

allow: []
";
}
