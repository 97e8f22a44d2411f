//! The layers of the settings, lowest first: built-in values, one file, the environment; merged by the `config` crate.
//! Must not judge values. It refuses what no layer may say at all: unknown keys, a section that is none, a list in the
//! environment. Called by [`super::load`].

use std::fmt::Write as _;

use config::{Config, ConfigError, Environment, Map, Source, Value, ValueKind};

use crate::policy::problem::{Place, Problems};
use crate::policy::yaml::typed::{self, nearest};
use crate::policy::yaml::{Node, Value as Written, Yaml};

use super::report::Places;

/// The values of one layer, each with its [`Places`] as its origin.
#[derive(Clone, Debug, Default)]
pub(super) struct Values(Map<String, Value>);

/// The variables that set something, written down as a text, so that problems can quote them like a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables {
    pub(super) text: String,
    all: Vec<Variable>,
}

#[derive(Clone, Debug)]
struct Variable {
    name: String,
    value: String,
    /// The path that it sets: `dns.timeout`.
    path: String,
    places: Places,
}

impl Values {
    /// The built-in values, which say what there is to know.
    pub(super) fn of_builtin(file: u32, problems: &mut Problems<'_>) -> Self {
        let entries = entries(file, problems);
        Self(entries.iter().filter_map(entry).collect())
    }

    /// The values of a file; what does not belong there is noted and left out.
    pub(super) fn of_file(file: u32, known: &Self, problems: &mut Problems<'_>) -> Self {
        let entries = entries(file, problems);
        if entries.is_empty() {
            return Self::default();
        }
        let at = Place {
            file,
            ..Place::default()
        };
        let root = Node {
            value: Written::Map(entries),
            at,
        };
        let mut values = known_entries(&root, "the settings", &known.names(), problems);
        for (section, value) in &mut values {
            let Some(keys) = known.keys_of(section) else { continue };
            let node = typed::Fields::of(map_of(&root)).value(section);
            let entries = node.map(|node| known_entries(node, &format!("`{section}`"), &keys, problems));
            *value = Value::new(None, entries.unwrap_or_default());
        }
        Self(values)
    }

    /// Where a key of the top level stands.
    pub(super) fn places(&self, name: &str) -> Option<Places> {
        self.0.get(name)?.origin()?.parse().ok()
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
        let value = self.0.get(section).and_then(|value| match &value.kind {
            ValueKind::Table(keys) => keys.get(key).map(|value| &value.kind),
            kind => Some(kind),
        });
        matches!(value, Some(ValueKind::Array(_)))
    }

    /// The paths of everything that is no list.
    fn scalars(&self) -> Vec<String> {
        let paths = self
            .names()
            .into_iter()
            .flat_map(|section| match self.keys_of(section) {
                Some(keys) => keys.iter().map(|key| format!("{section}.{key}")).collect(),
                None => vec![section.to_owned()],
            });
        paths.filter(|path| !self.is_list(path)).collect()
    }
}

impl Variables {
    /// Writes them down, one a line, as the text with this index.
    pub(super) fn new(file: u32, environment: &[(String, String)]) -> Self {
        let mut variables = Self::default();
        for (name, value) in environment {
            let start = variables.text.len();
            let _ = writeln!(variables.text, "{name}={}", value.escape_debug());
            let place = |start: usize, end: usize| Place {
                file,
                start: u32::try_from(start).unwrap_or(u32::MAX),
                end: u32::try_from(end).unwrap_or(u32::MAX),
            };
            let middle = start + name.len();
            variables.all.push(Variable {
                name: name.clone(),
                value: value.clone(),
                path: name
                    .strip_prefix(PREFIX)
                    .unwrap_or(name)
                    .to_lowercase()
                    .replace("__", "."),
                places: Places {
                    key: place(start, middle),
                    value: place(middle + 1, variables.text.len() - 1),
                },
            });
        }
        variables
    }

    /// Notes those that set nothing, and leaves them out.
    pub(super) fn keep_known(&mut self, known: &Values, problems: &mut Problems<'_>) {
        let scalars = known.scalars();
        self.all.retain(|variable| {
            let Variable { name, path, places, .. } = variable;
            let found = name.starts_with(PREFIX) && scalars.contains(path);
            let meant = |path: &&String| plain(&variable_of(path)) == plain(name);
            if let Some(path) = scalars.iter().find(meant).filter(|_| !found) {
                let problem = problems.error(places.key, format!("`{name}` sets nothing"));
                problem.help(format!("did you mean `{}`?", variable_of(path)));
            } else if !name.starts_with(PREFIX) {
                // What Kubernetes makes for a Service, and our own that are no settings.
            } else if known.is_list(path) {
                let message = format!("`{path}` is a list, and lists are set only by the settings file");
                let problem = problems.error(places.key, message);
                problem.help("write it into the settings file, where it replaces the built-in list whole");
            } else if !found {
                let names: Vec<_> = scalars.iter().map(|path| variable_of(path)).collect();
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                let help = match nearest(name, &names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!(
                        "a variable is named after its setting, such as {}",
                        variable_of("timeouts.idle")
                    ),
                };
                problems.error(places.key, format!("`{name}` sets nothing")).help(help);
            }
            found
        });
    }

    /// Where the environment says this path; what `config` merged in carries no place of its own.
    pub(super) fn places(&self, path: &str) -> Option<Places> {
        let variable = self.all.iter().find(|variable| variable.path == path)?;
        Some(variable.places)
    }

    fn pairs(&self) -> Map<String, String> {
        self.all
            .iter()
            .map(|variable| (variable.name.clone(), variable.value.clone()))
            .collect()
    }
}

/// Later layers win; sections are merged, lists replaced.
pub(super) fn merge(builtin: &Values, file: &Values, variables: &Variables) -> Result<Value, ConfigError> {
    let environment = Environment::with_prefix("SLUICEGATE")
        .prefix_separator("__")
        .separator("__");
    let environment = environment.source(Some(variables.pairs()));
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

/// The top-level entries of a text.
fn entries<'t>(file: u32, problems: &mut Problems<'t>) -> Vec<(Node<'t>, Node<'t>)> {
    let text = problems.texts().get(file as usize).map_or("", |source| &*source.text);
    let mut entries = Vec::new();
    // Nothing but remarks changes nothing.
    let is_remark = |line: &str| line.trim_start().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(is_remark) {
        return entries;
    }
    let Some(mut yaml) = Yaml::open(
        file,
        text,
        "a settings file begins with keys such as `listeners:`",
        problems,
    ) else {
        return entries;
    };
    while let Some(key) = yaml.key(problems) {
        let Some(value) = yaml.value(&key, problems) else { break };
        entries.push((key, value));
    }
    entries
}

/// The values of a map's known keys; other keys are noted.
fn known_entries(node: &Node<'_>, whose: &str, known: &[&str], problems: &mut Problems<'_>) -> Map<String, Value> {
    typed::fields(node, whose, known, problems);
    let values = map_of(node).iter().filter_map(entry);
    values.filter(|(name, _)| known.contains(&name.as_str())).collect()
}

fn map_of<'n, 't>(node: &'n Node<'t>) -> &'n [(Node<'t>, Node<'t>)] {
    match &node.value {
        Written::Map(entries) => entries,
        _ => &[],
    }
}

/// A key and its value, unless one of them was refused before.
fn entry((key, value): &(Node<'_>, Node<'_>)) -> Option<(String, Value)> {
    match &key.value {
        Written::Text(name) => Some((name.to_string(), value_of(key.at, value)?)),
        _ => None,
    }
}

fn value_of(key: Place, node: &Node<'_>) -> Option<Value> {
    let kind = match &node.value {
        Written::Null => ValueKind::Nil,
        Written::Bool(value) => ValueKind::Boolean(*value),
        Written::Int(value) => ValueKind::I64(*value),
        Written::Number => ValueKind::Float(f64::NAN),
        Written::Text(text) => ValueKind::String(text.to_string()),
        Written::List(items) => ValueKind::Array(items.iter().filter_map(|item| value_of(item.at, item)).collect()),
        Written::Map(entries) => ValueKind::Table(entries.iter().filter_map(entry).collect()),
        Written::Refused => return None,
    };
    let places = Places { key, value: node.at };
    Some(Value::new(Some(&places.to_string()), kind))
}

fn sorted(table: &Map<String, Value>) -> Vec<&str> {
    let mut names: Vec<_> = table.keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// A name of a variable without what is easily mistaken.
fn plain(name: &str) -> String {
    name.to_uppercase().replace("__", "_")
}

fn variable_of(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_uppercase())
}

/// What the name of every variable that sets something begins with.
pub(super) const PREFIX: &str = "SLUICEGATE__";
/// What all our variables begin with, and those that Kubernetes makes for a Service of our name.
pub(super) const OURS: &str = "SLUICEGATE_";
