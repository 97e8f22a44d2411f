//! One resource as `az ... -o json` or the REST API print it: flat or below `properties`, keys in any case.
//! Must not fill in what is not there: absent, null and contradictory are answers of their own.
//! Called by the readers of clusters and by the audit.

use serde_json::{Map, Value};

use super::json::Json;

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Look<'j> {
    /// The key is not in the file.
    Absent,
    /// The key is there and says nothing: Azure's default holds.
    Null,
    /// The key is there more than once and says different things.
    Conflict,
    Value(&'j Value),
}

/// A path and what stands there, so that a person can be told both.
#[derive(Clone, Debug, PartialEq)]
pub struct Field<'j> {
    pub path: String,
    pub look: Look<'j>,
}

/// One object of the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resource<'j> {
    object: &'j Map<String, Value>,
}

/// Parses one file and lists its resources: an object, a list, or `{"value": [...]}` as REST answers.
///
/// # Errors
/// A line for a person: no JSON, or not objects.
pub fn resources(value: &Value) -> Result<Vec<Resource<'_>>, String> {
    let items = match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(object) => match object.get("value") {
            Some(Value::Array(items)) if !object.contains_key("type") => items.iter().collect(),
            _ => vec![value],
        },
        _ => return Err("this is neither an object nor a list of objects".to_owned()),
    };
    let each = items.into_iter().enumerate().map(|(at, item)| {
        let object = item.as_object();
        object
            .map(|object| Resource { object })
            .ok_or_else(|| format!("item {at} of the list is not an object"))
    });
    each.collect()
}

/// Parses the text of one file. A byte order mark in front is passed over.
///
/// # Errors
/// A line for a person: where it stops being JSON.
pub fn parse(text: &str) -> Result<Value, String> {
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Err("the file is empty: did the command before it fail?".to_owned());
    }
    let read = |error: String| format!("{error}; it must be what `az ... -o json` prints, and nothing around it");
    // A key twice would let the last one win, which another reader may not have seen.
    Json::parse(text).map_err(read)?;
    serde_json::from_str(text).map_err(|error| read(error.to_string()))
}

impl<'j> Resource<'j> {
    /// `None` for anything but an object.
    pub fn of(value: &'j Value) -> Option<Self> {
        value.as_object().map(|object| Self { object })
    }

    /// Its type in lower case, by itself or by its id; empty if neither says it.
    pub fn kind(self) -> String {
        let id = self.text("id").unwrap_or_default();
        self.text("type").map_or_else(|| kind_of(id), str::to_ascii_lowercase)
    }

    /// As commands call it with `-n`.
    pub fn name(self) -> Option<&'j str> {
        self.text("name").or_else(|| segment(self.text("id")?, None))
    }

    /// As commands call it with `-g`.
    pub fn group(self) -> Option<&'j str> {
        let group = self.text("resourceGroup");
        group.or_else(|| segment(self.text("id")?, Some("resourcegroups")))
    }

    /// What stands at a path such as `networkProfile.networkPolicy`.
    pub fn field(self, path: &str) -> Field<'j> {
        Field {
            path: path.to_owned(),
            look: self.look(path),
        }
    }

    /// The text at a path, if it is one and not empty.
    pub fn text(self, path: &str) -> Option<&'j str> {
        match self.look(path) {
            Look::Value(Value::String(text)) if !text.trim().is_empty() => Some(text.trim()),
            _ => None,
        }
    }

    /// The flag at a path, if it is one.
    pub fn flag(self, path: &str) -> Option<bool> {
        match self.look(path) {
            Look::Value(Value::Bool(flag)) => Some(*flag),
            _ => None,
        }
    }

    /// The items of the list at a path; none if it is no list.
    pub fn items(self, path: &str) -> &'j [Value] {
        match self.look(path) {
            Look::Value(Value::Array(items)) => items,
            _ => &[],
        }
    }

    /// The keys and values of the object at a path; none if it is no object.
    pub fn entries(self, path: &str) -> Vec<(&'j str, &'j Value)> {
        match self.look(path) {
            Look::Value(Value::Object(entries)) => entries.iter().map(|(key, value)| (key.as_str(), value)).collect(),
            _ => Vec::new(),
        }
    }

    fn look(self, path: &str) -> Look<'j> {
        let mut object = self.object;
        let mut keys = path.split('.').peekable();
        while let Some(key) = keys.next() {
            let found = step(object, key);
            if keys.peek().is_none() {
                return found;
            }
            match found {
                Look::Value(Value::Object(inner)) => object = inner,
                // The wrong shape is as much of a riddle as two answers.
                Look::Value(_) | Look::Conflict => return Look::Conflict,
                // What lies below nothing is nothing as well.
                Look::Null => return Look::Null,
                Look::Absent => return Look::Absent,
            }
        }
        Look::Absent
    }
}

impl<'j> Field<'j> {
    pub fn flag(&self) -> Option<bool> {
        match self.look {
            Look::Value(Value::Bool(flag)) => Some(*flag),
            _ => None,
        }
    }

    /// In lower case: Azure compares the words of its enumerations without regard to case.
    pub fn word(&self) -> Option<String> {
        match self.look {
            Look::Value(Value::String(text)) => Some(text.trim().to_ascii_lowercase()),
            _ => None,
        }
    }

    pub fn items(&self) -> Option<&'j [Value]> {
        match self.look {
            Look::Value(Value::Array(items)) => Some(items),
            _ => None,
        }
    }

    /// Nothing is said, in so many words.
    pub fn is_null(&self) -> bool {
        self.look == Look::Null
    }
}

impl std::fmt::Display for Field<'_> {
    /// `apiServerAccessProfile.enablePrivateCluster = false`, without control characters and not too long.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = &self.path;
        match self.look {
            Look::Absent => write!(f, "{path} is not in the file"),
            Look::Null => write!(f, "{path} = null"),
            Look::Conflict => write!(f, "{path} cannot be told: something else stands there, or two things"),
            Look::Value(value) => write!(f, "{path} = {}", shortened(&value.to_string())),
        }
    }
}

/// `microsoft.sql/servers` of `/subscriptions/.../providers/Microsoft.Sql/servers/NAME`, in lower case.
pub(super) fn kind_of(id: &str) -> String {
    let id = id.to_ascii_lowercase();
    let Some((_, rest)) = id.rsplit_once("/providers/") else {
        return String::new();
    };
    let mut parts = rest.split('/');
    let provider = parts.next().unwrap_or_default().to_owned();
    let types = parts.step_by(2);
    std::iter::once(provider)
        .chain(types.map(str::to_owned))
        .collect::<Vec<_>>()
        .join("/")
}

/// The part of an id after the given one (lower case), or the last.
pub(super) fn segment<'i>(id: &'i str, after: Option<&str>) -> Option<&'i str> {
    let mut parts = id.split('/').filter(|part| !part.is_empty());
    match after {
        None => parts.next_back(),
        Some(after) => {
            parts.find(|part| part.eq_ignore_ascii_case(after))?;
            parts.next()
        }
    }
}

impl From<&Field<'_>> for String {
    fn from(field: &Field<'_>) -> Self {
        field.to_string()
    }
}

/// For a comment or a line of a report: one line, whatever the input holds.
pub fn plain(text: &str) -> String {
    shortened(&one_line(text))
}

/// One word of a POSIX shell command.
pub fn shell(word: &str) -> String {
    let word = one_line(word);
    let safe = |c: char| c.is_ascii_alphanumeric() || "._-/:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(safe) {
        return word;
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The same, however long it is.
pub fn one_line(text: &str) -> String {
    let visible = |c: char| {
        if c.is_control() || INVISIBLE.contains(&c) {
            '?'
        } else {
            c
        }
    };
    text.chars().map(visible).collect()
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(SHOWN).collect();
    short.push_str("...");
    short
}

/// One key, in this object or below its `properties`, in whatever case.
fn step<'j>(object: &'j Map<String, Value>, key: &str) -> Look<'j> {
    let mut found = Look::Absent;
    let nested = object
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(PROPERTIES))
        .filter_map(|(_, value)| value.as_object())
        .flatten();
    for (_, value) in object
        .iter()
        .chain(nested)
        .filter(|(name, _)| name.eq_ignore_ascii_case(key))
    {
        found = match (found, value) {
            (Look::Absent | Look::Null, Value::Null) => Look::Null,
            (Look::Absent | Look::Null, value) => Look::Value(value),
            (seen @ Look::Value(_), Value::Null) => seen,
            (Look::Value(seen), value) if seen == value => Look::Value(seen),
            _ => Look::Conflict,
        };
    }
    found
}

const PROPERTIES: &str = "properties";
/// Of what is quoted from the input.
const SHOWN: usize = 160;
/// Line and direction marks that are no control characters to Unicode.
const INVISIBLE: [char; 12] = [
    '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}',
    '\u{2066}', '\u{2067}', '\u{2069}',
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_found_flat_and_nested_in_any_case() {
        for value in [
            json!({"networkProfile": {"dnsServiceIp": "10.0.0.10"}}),
            json!({"properties": {"networkProfile": {"dnsServiceIP": "10.0.0.10"}}}),
            json!({"NetworkProfile": {"properties": {"dnsserviceip": "10.0.0.10"}}}),
        ] {
            let resource = Resource::of(&value).unwrap();
            assert_eq!(
                resource.text("networkProfile.dnsServiceIp"),
                Some("10.0.0.10"),
                "{value}"
            );
        }
    }

    #[test]
    fn nothing_and_contradiction_are_answers() {
        let value = json!({"a": null, "b": {"c": 1}, "B": {"c": 2}, "d": 1, "properties": {"d": null, "e": 2}, "E": 2});
        let resource = Resource::of(&value).unwrap();
        let look = |path| resource.field(path).look;
        assert_eq!(look("a"), Look::Null);
        assert_eq!(look("a.b.c"), Look::Null, "below nothing is nothing");
        assert_eq!(look("b"), Look::Conflict);
        assert_eq!(look("b.c"), Look::Conflict);
        assert_eq!(look("d.x"), Look::Conflict, "a number has no keys");
        assert_eq!(look("d"), Look::Value(&json!(1)));
        assert_eq!(look("e"), Look::Value(&json!(2)), "twice the same is no contradiction");
        assert_eq!(look("x.y"), Look::Absent);
        assert_eq!(resource.field("a").to_string(), "a = null");
    }

    #[test]
    fn what_is_quoted_stays_one_line_and_one_word() {
        assert_eq!(plain("a\nb\u{202e}c"), "a?b?c");
        assert_eq!(shell("rg-1"), "rg-1");
        assert_eq!(shell("rg (old)"), "'rg (old)'");
        assert_eq!(shell("a'; rm -rf ~ #"), r"'a'\''; rm -rf ~ #'");
        assert_eq!(shell(""), "''");
        assert!(plain(&"x".repeat(1_000)).len() < 200);
    }

    #[test]
    fn lists_come_in_three_shapes() {
        for (value, count) in [
            (json!({"id": "x"}), 1),
            (json!([{}, {}]), 2),
            (json!({"value": [{}]}), 1),
        ] {
            assert_eq!(resources(&value).map(|list| list.len()), Ok(count), "{value}");
        }
        assert!(resources(&json!("x")).is_err() && resources(&json!([1])).is_err());
        assert!(parse("").is_err() && parse("\u{feff}{}").is_ok());
        assert!(parse("{\"a\": 1, \"a\": 2}").unwrap_err().contains("twice"));
    }
}
