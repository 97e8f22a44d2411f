//! Service tags from the file that Microsoft publishes each week: names for the addresses of services.
//! Must not know rules; a tag that the file does not have is the caller's error.
//! Called by import.

use std::collections::HashMap;

use super::json::{Json, Node, shortened};
use super::report::{Kind, Place, Report};
use crate::policy::SourceText;

/// Addresses by tag.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceTags {
    /// By lower-case name.
    tags: HashMap<String, Vec<String>>,
    names: Vec<String>,
}

impl ServiceTags {
    /// Reads the published file: `{values: [{name, properties: {addressPrefixes}}]}`.
    pub(super) fn read(text: &SourceText, report: &mut Report) -> Option<Self> {
        let at = Place::of_file(&text.name);
        let json = match Json::parse(text.text.trim_start_matches('\u{feff}')) {
            Ok(json) => json,
            Err(why) => {
                report.note(Kind::NotJson, &at, format!("the service tags are not JSON: {why}"));
                return None;
            }
        };
        let node = Node::new(&json, at);
        let Some(values) = node.find("values").and_then(|values| values.list("`values`", report)) else {
            report
                .note(
                    Kind::UnknownShape,
                    &node.at,
                    "this is not the published file of service tags",
                )
                .help("download `ServiceTags_Public_DATE.json`, or `az network list-service-tags -l REGION -o json`");
            return None;
        };
        let mut tags = Self::default();
        for value in values {
            let name = value.find("name").and_then(|name| name.text("`name`", report));
            let prefixes = value
                .find("properties")
                .and_then(|properties| properties.find("addressPrefixes"));
            let (Some(name), Some(prefixes)) = (name, prefixes) else {
                report.note(
                    Kind::UnknownShape,
                    &value.at,
                    "a service tag without `name` and `addressPrefixes`",
                );
                continue;
            };
            let prefixes = prefixes.texts("`addressPrefixes`", report);
            let prefixes = prefixes.into_iter().map(|prefix| prefix.value).collect();
            if tags.tags.insert(name.to_ascii_lowercase(), prefixes).is_some() {
                report.note(
                    Kind::Duplicate,
                    &value.at,
                    format!("the tag `{}` stands twice", shortened(name)),
                );
            }
            tags.names.push(name.to_owned());
        }
        Some(tags)
    }

    /// The addresses of a tag.
    pub(super) fn find(&self, tag: &str) -> Option<&[String]> {
        self.tags.get(&tag.to_ascii_lowercase()).map(Vec::as_slice)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}
