//! A settings file as a tree in which every node knows where it stands.
//! Must not interpret; tabs, duplicate keys and half a document are refused here, wrong values by their readers.
//! Called by the layers.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use crate::policy::{Problem, Severity, SourceText, Span};

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// Keys with their own places.
    Map(Vec<(String, Span, Node)>),
}

/// Reads one document. An empty text is an empty map.
pub(super) fn parse(source: &SourceText) -> Result<Node, Problem> {
    match serde_saphyr::from_str::<Option<Raw>>(&source.text) {
        Ok(Some(raw)) => Ok(raw.into_node()),
        Ok(None) => Ok(Node {
            span: Span::default(),
            kind: Kind::Map(Vec::new()),
        }),
        Err(error) => {
            let message = error.to_string();
            let message = message.lines().next().unwrap_or_default().to_owned();
            let span = error.location().map(span);
            Err(Problem {
                severity: Severity::Error,
                file: source.name.clone(),
                span,
                message,
                label: String::new(),
                help: None,
            })
        }
    }
}

struct Raw(Spanned<RawKind>);

enum RawKind {
    Scalar(Kind),
    List(Vec<Raw>),
    Map(Vec<(Spanned<String>, Raw)>),
}

impl Raw {
    fn into_node(self) -> Node {
        let kind = match self.0.value {
            RawKind::Scalar(kind) => kind,
            RawKind::List(items) => Kind::List(items.into_iter().map(Self::into_node).collect()),
            RawKind::Map(entries) => Kind::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (key.value, span(key.defined), value.into_node()))
                    .collect(),
            ),
        };
        Node {
            span: span(self.0.defined),
            kind,
        }
    }
}

fn span(at: Location) -> Span {
    let start = usize::try_from(at.span().byte_offset().unwrap_or_default()).unwrap_or_default();
    let length = usize::try_from(at.span().byte_len().unwrap_or_default()).unwrap_or_default();
    Span {
        start,
        end: start + length,
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for RawKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawKind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(Kind::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(Kind::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(Kind::Integer(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(
            i64::try_from(value).map_or(Kind::Text(value.to_string()), Kind::Integer),
        ))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(Kind::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(Kind::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawKind, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(RawKind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RawKind, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(RawKind::Map(map))
    }
}
