//! JSON that keeps nothing silently: a key twice is an error, every value knows its place, every key must be used.
//! Must not know what any key means; the readers of each notation do.
//! Called by the readers of rules, IP groups and service tags.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::model::Placed;
use super::report::{Kind, Place, Report};

/// A JSON value. Keys stand in the order of the text, each once, whatever their case: to ARM it makes no difference.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Int(i64),
    /// Any other number.
    Number(f64),
    Text(String),
    /// An ARM expression, `[...]` in a template.
    Expression(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node<'j> {
    pub(super) value: &'j Json,
    pub(super) at: Place,
}

/// The properties of an object; each that is not asked for is an error in the end.
#[derive(Debug)]
pub(super) struct Fields<'j> {
    entries: Vec<(&'j str, Node<'j>, bool)>,
    what: &'static str,
}

impl Json {
    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong and where, one line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// What it is, for a message.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Int(_) | Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::Expression(_) => "an expression",
            Self::List(_) => "an array",
            Self::Map(_) => "an object",
        }
    }

    /// The value of a key, if this is an object that has it and it is not null.
    pub(super) fn find(&self, key: &str) -> Option<&Self> {
        let Self::Map(entries) = self else { return None };
        let found = entries.iter().find(|(name, _)| name.eq_ignore_ascii_case(key))?;
        (found.1 != Self::Null).then_some(&found.1)
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }
}

impl<'j> Node<'j> {
    pub(super) fn new(value: &'j Json, at: Place) -> Self {
        Self { value, at }
    }

    /// The same, said to be in what another place is in.
    pub(super) fn with(mut self, at: &Place) -> Self {
        self.at.inside.clone_from(&at.inside);
        self
    }

    /// What stands under a key, if this is an object that has it and it is not null.
    pub(super) fn find(&self, key: &str) -> Option<Node<'j>> {
        let Json::Map(entries) = self.value else { return None };
        let (name, value) = entries.iter().find(|(name, _)| name.eq_ignore_ascii_case(key))?;
        (*value != Json::Null).then(|| Node::new(value, self.at.key(name)))
    }

    /// The object's properties.
    pub(super) fn fields(&self, what: &'static str, report: &mut Report) -> Option<Fields<'j>> {
        let Json::Map(entries) = self.value else {
            self.refuse(&format!("{what} must be an object"), report);
            return None;
        };
        let entries = entries.iter();
        let entries = entries.map(|(key, value)| (key.as_str(), Node::new(value, self.at.key(key)), false));
        Some(Fields {
            entries: entries.collect(),
            what,
        })
    }

    /// The items of an array.
    pub(super) fn list(&self, what: &str, report: &mut Report) -> Option<Vec<Node<'j>>> {
        let Json::List(items) = self.value else {
            self.refuse(&format!("{what} must be an array"), report);
            return None;
        };
        let items = items.iter().enumerate();
        Some(
            items
                .map(|(index, value)| Node::new(value, self.at.item(index)))
                .collect(),
        )
    }

    /// A text that means something, and so no expression.
    pub(super) fn text(&self, what: &str, report: &mut Report) -> Option<&'j str> {
        match self.value {
            Json::Text(text) if !looks_like_expression(text) => Some(text),
            _ => {
                self.refuse(&format!("{what} must be text"), report);
                None
            }
        }
    }

    pub(super) fn texts(&self, what: &str, report: &mut Report) -> Vec<Placed<String>> {
        let mut all = Vec::new();
        for item in self.list(what, report).unwrap_or_default() {
            let text = item.text(&format!("an item of {what}"), report);
            all.extend(text.map(|text| Placed {
                value: text.to_owned(),
                at: item.at.clone(),
            }));
        }
        all
    }

    pub(super) fn flag(&self, what: &str, report: &mut Report) -> Option<bool> {
        if let Json::Bool(flag) = self.value {
            return Some(*flag);
        }
        self.refuse(&format!("{what} must be true or false"), report);
        None
    }

    /// A whole number, or the text of one: both are found in the wild.
    pub(super) fn number(&self, what: &str, report: &mut Report) -> Option<i64> {
        let read = match self.value {
            Json::Int(number) => Some(*number),
            Json::Text(text) if text.len() < 10 && text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        };
        if read.is_none() {
            self.refuse(&format!("{what} must be a whole number"), report);
        }
        read
    }

    /// Says that this is something else than it must be; expressions have their own words.
    pub(super) fn refuse(&self, expected: &str, report: &mut Report) {
        let expression = match self.value {
            Json::Expression(text) => Some(text),
            Json::Text(text) if looks_like_expression(text) => Some(text),
            _ => None,
        };
        if let Some(text) = expression {
            let message = format!("{expected}, and is the expression `{}`", shortened(text));
            report.note(Kind::Expression, &self.at, message).help(EXPORT);
            return;
        }
        let found = match self.value {
            Json::Text(text) => format!("the text `{}`", shortened(text)),
            Json::Int(number) => number.to_string(),
            Json::Number(number) => number.to_string(),
            other => other.kind().to_owned(),
        };
        report.note(Kind::BadValue, &self.at, format!("{expected}, not {found}"));
    }
}

impl<'j> Fields<'j> {
    /// Adds the properties of an inner object, as if they stood here; what stands in both is an error.
    pub(super) fn merge(&mut self, inner: Fields<'j>, report: &mut Report) {
        for (name, node, used) in inner.entries {
            match self.entries.iter().find(|(other, ..)| other.eq_ignore_ascii_case(name)) {
                Some((_, twin, _)) if twin.value == node.value => {}
                Some(_) => {
                    let message = format!("`{name}` stands in `properties` and beside it, with different values");
                    report.note(Kind::BadValue, &node.at, message);
                }
                None => self.entries.push((name, node, used)),
            }
        }
    }

    /// Says in what the properties are, for people.
    pub(super) fn place(&mut self, at: &Place) {
        for (_, node, _) in &mut self.entries {
            node.at.inside.clone_from(&at.inside);
        }
    }

    /// The value of a key; null is as good as absent.
    pub(super) fn take(&mut self, key: &str) -> Option<Node<'j>> {
        let entry = self
            .entries
            .iter_mut()
            .find(|(name, ..)| name.eq_ignore_ascii_case(key))?;
        entry.2 = true;
        (*entry.1.value != Json::Null).then(|| entry.1.clone())
    }

    /// The items of an array of texts; absent is empty.
    pub(super) fn texts(&mut self, key: &str, report: &mut Report) -> Vec<Placed<String>> {
        let node = self.take(key);
        node.map(|node| node.texts(&format!("`{key}`"), report))
            .unwrap_or_default()
    }

    /// Keys that mean nothing here: read-only, or not about rules.
    pub(super) fn ignore(&mut self, keys: &[&str]) {
        for (name, _, used) in &mut self.entries {
            *used |= keys.iter().any(|key| name.eq_ignore_ascii_case(key));
        }
    }

    /// Says which keys nobody has asked for.
    pub(super) fn finish(self, report: &mut Report) {
        for (name, node, used) in self.entries {
            if !used && *node.value != Json::Null {
                report
                    .note(
                        Kind::UnknownKey,
                        &node.at,
                        format!("`{}` is not a known property of {}", shortened(name), self.what),
                    )
                    .help("what it means would be lost: remove it if it means nothing, or report it as missing here");
            }
        }
    }
}

/// Whether a text is, to ARM, a function call in brackets.
pub(super) fn looks_like_expression(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| {
        let name = inner.split('(').next().unwrap_or_default().trim();
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
        is_name && inner.contains('(') && inner.trim_end().ends_with([')', ']']) || inner.trim_start().starts_with('\'')
    })
}

/// Enough of a text to find it again.
pub(super) fn shortened(text: &str) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(80).collect();
    if chars.next().is_some() {
        format!("{start}...")
    } else {
        start
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Json, E> {
        Ok(Json::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Int(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Json, E> {
        i64::try_from(number)
            .map(Json::Int)
            .map_err(|_| E::custom("a number too large"))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut entries: Vec<(String, Json)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = access.next_key::<String>()? {
            if !seen.insert(key.to_ascii_lowercase()) {
                let key = shortened(&key);
                return Err(A::Error::custom(format_args!(
                    "the key `{key}` stands twice in one object"
                )));
            }
            let value = access.next_value()?;
            entries.push((key, value));
        }
        Ok(Json::Map(entries))
    }
}

pub(super) const EXPORT: &str = "give what Azure has made of it: `az network firewall policy rule-collection-group list \
                                 --policy-name POLICY -g GROUP -o json` prints the resolved rules";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_readers_let_pass() {
        for (text, why) in [
            ("{\"a\": 1, \"a\": 2}", "`a` stands twice"),
            ("{\"a\": {\"Name\": 1, \"name\": 2}}", "`name` stands twice"),
            ("", "EOF"),
            ("{} {}", "trailing"),
            ("{\"a\": 1,}", "trailing comma"),
            ("// x\n{}", "expected value"),
            (
                "{\"a\": 99999999999999999999999999999999999999999999999999e999}",
                "out of range",
            ),
            ("\"\\ud800\"", "hex escape"),
        ] {
            let error = Json::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(Json::parse(&"[".repeat(100_000)).unwrap_err().contains("recursion"));
    }

    #[test]
    fn what_nobody_asked_for_is_an_error() {
        let json = Json::parse("{\"Name\": \"x\", \"id\": 1, \"new\": [], \"nothing\": null}").unwrap();
        let mut report = Report::default();
        let mut fields = Node::new(&json, Place::default())
            .fields("a rule", &mut report)
            .unwrap();
        assert!(fields.take("name").is_some() && fields.take("nothing").is_none());
        fields.ignore(&["ID"]);
        fields.finish(&mut report);
        let found: Vec<_> = report.findings().iter().map(|finding| &*finding.message).collect();
        assert_eq!(found, ["`new` is not a known property of a rule"]);
    }

    #[test]
    fn expressions_are_seen() {
        for text in [
            "[parameters('x')]",
            "[concat('a', variables('b'))]",
            "['a']",
            "[if(true(), 'a', 'b')[0]]",
            "[a.b('c')]",
        ] {
            assert!(looks_like_expression(text), "{text}");
        }
        for text in [
            "[prod] allow",
            "[prod]",
            "",
            "[",
            "[]",
            "[[parameters('x')]",
            "api.example.com",
        ] {
            assert!(!looks_like_expression(text), "{text}");
        }
    }
}
