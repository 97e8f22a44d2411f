//! The layers of the settings, lowest first: built-in values, one file, the environment; merged by the `config` crate.
//! Must not judge values. It refuses what no layer may say at all: unknown keys, a section that is none, a list in the
//! environment. Called by [`super::load`].

use std::fmt::Write as _;

use config::{Config, ConfigError, Environment, Map, Source, Value, ValueKind};

use crate::policy::Span;

use super::report::{Complaint, Layer, Place, Report, closest};
use super::yaml::{Kind, Node};

/// The values of one layer, each with its [`Place`] as its origin.
#[derive(Clone, Debug, Default)]
pub(super) struct Values(Map<String, Value>);

/// The variables that set something, written down as a text, so that problems can quote them like a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables {
    pub(super) text: String,
    pairs: Map<String, String>,
    places: Map<String, Place>,
}

impl Values {
    pub(super) fn of_builtin(root: &Node) -> Self {
        match value(Layer::Builtin, root.span, root).kind {
            ValueKind::Table(table) => Self(table),
            _ => Self::default(),
        }
    }

    /// The values of a file; what does not belong there is left out and reported.
    pub(super) fn of_file(root: &Node, known: &Self, report: &mut Report) -> Self {
        let mut values = Map::new();
        for (name, key, node) in entries(root, root.span, "the settings file", &known.names(), report) {
            let kept = match known.keys_of(name) {
                None => value(Layer::File, key, node),
                Some(keys) => {
                    let section = entries(node, key, &format!("`{name}`"), &keys, report);
                    let section = section.map(|(name, key, node)| (name.to_owned(), value(Layer::File, key, node)));
                    Value::new(None, section.collect::<Map<_, _>>())
                }
            };
            values.insert(name.to_owned(), kept);
        }
        Self(values)
    }

    fn names(&self) -> Vec<&str> {
        sorted(&self.0)
    }

    /// The keys of a section; `None` where the name is no section.
    fn keys_of(&self, name: &str) -> Option<Vec<&str>> {
        match &self.0.get(name)?.kind {
            ValueKind::Table(keys) => Some(sorted(keys)),
            _ => None,
        }
    }

    fn is_list(&self, path: &str) -> bool {
        let (section, key) = path.split_once('.').unwrap_or((path, ""));
        let value = self.0.get(section).map(|value| match &value.kind {
            ValueKind::Table(keys) => keys.get(key).map(|value| &value.kind),
            kind => Some(kind),
        });
        matches!(value.flatten(), Some(ValueKind::Array(_)))
    }

    /// The paths of everything that is no list.
    fn scalars(&self) -> Vec<String> {
        let paths = self.names().into_iter().flat_map(|section| {
            let keys = self.keys_of(section).unwrap_or_default();
            keys.into_iter().map(move |key| format!("{section}.{key}"))
        });
        paths.filter(|path| !self.is_list(path)).collect()
    }
}

impl Variables {
    pub(super) fn of(environment: &[(String, String)], known: &Values, report: &mut Report) -> Self {
        let scalars = known.scalars();
        let mut variables = Self::default();
        for (name, value) in environment {
            let place = variables.write(name, value);
            let path = name
                .strip_prefix(PREFIX)
                .unwrap_or(name)
                .to_lowercase()
                .replace("__", ".");
            if known.is_list(&path) {
                report.at_key(
                    place,
                    Complaint::new(
                        format!("`{path}` is a list, and lists are set only by the settings file"),
                        "not in the environment",
                        "write it into the settings file, where it replaces the built-in list whole",
                    ),
                );
            } else if scalars.contains(&path) {
                variables.pairs.insert(name.clone(), value.clone());
                variables.places.insert(path, place);
            } else {
                let names: Vec<_> = scalars.iter().map(|path| variable(path)).collect();
                report.at_key(
                    place,
                    unknown(
                        name,
                        "the environment",
                        &names.iter().map(String::as_str).collect::<Vec<_>>(),
                    ),
                );
            }
        }
        variables
    }

    /// Where the environment says this path; what `config` merged in carries no place of its own.
    pub(super) fn place(&self, path: &str) -> Option<Place> {
        self.places.get(path).copied()
    }

    fn write(&mut self, name: &str, value: &str) -> Place {
        let start = self.text.len();
        let key = Span {
            start,
            end: start + name.len(),
        };
        let _ = write!(self.text, "{name}={}", value.escape_debug());
        let value = Span {
            start: key.end + 1,
            end: self.text.len(),
        };
        self.text.push('\n');
        Place {
            layer: Layer::Environment,
            key,
            value,
        }
    }
}

/// Later layers win; sections are merged, lists replaced.
pub(super) fn merge(builtin: &Values, file: &Values, variables: &Variables) -> Result<Value, ConfigError> {
    let environment = Environment::with_prefix("SLUICEGATE")
        .prefix_separator("__")
        .separator("__");
    let environment = environment.source(Some(variables.pairs.clone()));
    let layers = Config::builder()
        .add_source(builtin.clone())
        .add_source(file.clone())
        .add_source(environment);
    Ok(layers.build()?.cache)
}

impl Source for Values {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// The entries of a map whose names are known; the others are reported, as is anything that is no map.
fn entries<'a>(
    node: &'a Node,
    key: Span,
    whose: &str,
    known: &[&str],
    report: &mut Report,
) -> impl Iterator<Item = (&'a str, Span, &'a Node)> + use<'a> {
    let mut found = Vec::new();
    if let Kind::Map(entries) = &node.kind {
        for (name, key, value) in entries {
            let place = Place {
                layer: Layer::File,
                key: *key,
                value: value.span,
            };
            if known.contains(&name.as_str()) {
                found.push((name.as_str(), *key, value));
            } else {
                report.at_key(place, unknown(name, whose, known));
            }
        }
    } else {
        let place = Place {
            layer: Layer::File,
            key,
            value: node.span,
        };
        let complaint = Complaint::new(
            format!("{whose} holds keys: {}", known.join(", ")),
            "not a map",
            "write `key: value` pairs",
        );
        report.at_key(place, complaint);
    }
    found.into_iter()
}

pub(super) fn unknown(name: &str, whose: &str, known: &[&str]) -> Complaint {
    let help = match closest(name, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("known are: {}", known.join(", ")),
    };
    Complaint::new(format!("{whose} has no setting `{name}`"), "unknown", help)
}

fn value(layer: Layer, key: Span, node: &Node) -> Value {
    let kind = match &node.kind {
        Kind::Null => ValueKind::Nil,
        Kind::Bool(value) => ValueKind::Boolean(*value),
        Kind::Integer(value) => ValueKind::I64(*value),
        Kind::Float(value) => ValueKind::Float(*value),
        Kind::Text(text) => ValueKind::String(text.clone()),
        Kind::List(items) => ValueKind::Array(items.iter().map(|item| value(layer, item.span, item)).collect()),
        Kind::Map(entries) => ValueKind::Table(
            entries
                .iter()
                .map(|(name, key, node)| (name.clone(), value(layer, *key, node)))
                .collect(),
        ),
    };
    let place = Place {
        layer,
        key,
        value: node.span,
    };
    Value::new(Some(&place.to_string()), kind)
}

fn sorted(table: &Map<String, Value>) -> Vec<&str> {
    let mut names: Vec<_> = table.keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_uppercase())
}

/// What the name of every variable that sets something begins with.
pub(super) const PREFIX: &str = "SLUICEGATE__";
