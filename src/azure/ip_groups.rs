//! IP groups: addresses under one name, which rules refer to by resource id.
//! Must not read rules.
//! Called by the reader of files for each resource; import looks names up.

use super::arm::value::{RESOURCE_KEYS, last_segment};
use super::arm::{Named, properties};
use super::json::Node;
use super::model::{IpGroup, Placed};
use super::report::{Kind, Report};

/// Reads one, with `properties` or flattened.
pub(super) fn group(node: &Node<'_>, named: Named, report: &mut Report) -> Option<IpGroup> {
    let mut fields = properties(node, "an IP group", report)?;
    fields.ignore(RESOURCE_KEYS);
    fields.ignore(&["firewalls", "firewallPolicies"]);
    let own = fields.take("name").and_then(|name| name.value.as_text());
    let id = fields.take("id").and_then(|id| id.value.as_text());
    let name = named
        .name
        .or_else(|| own.or(id).map(|own| last_segment(own).to_owned()));
    let addresses = fields.texts("ipAddresses", report);
    fields.finish(report);
    let Some(name) = name else {
        report.note(Kind::Empty, &node.at, "the IP group has neither `name` nor `id`");
        return None;
    };
    let at = node.at.within("IP group", &name);
    Some(IpGroup {
        id: id.map(str::to_owned),
        addresses,
        name,
        at,
    })
}

/// The group that a rule's id means: the same id, or, where one of the two has none, the same name.
pub(super) fn find<'g>(groups: &'g [IpGroup], id: &Placed<String>) -> Result<&'g IpGroup, Missing> {
    let same = |a: &str, b: &str| a.trim_end_matches('/').eq_ignore_ascii_case(b.trim_end_matches('/'));
    let by_id = groups
        .iter()
        .find(|group| group.id.as_deref().is_some_and(|own| same(own, &id.value)));
    if let Some(group) = by_id {
        return Ok(group);
    }
    let name = last_segment(&id.value);
    let mut by_name = groups.iter().filter(|group| group.name.eq_ignore_ascii_case(name));
    match (by_name.next(), by_name.next()) {
        (Some(_), Some(_)) => Err(Missing::Ambiguous),
        (Some(group), None) if group.id.is_none() || !id.value.contains('/') => Ok(group),
        (Some(_), None) => Err(Missing::Elsewhere),
        (None, _) => Err(Missing::Unknown),
    }
}

/// Why an id means none of the groups that were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Unknown,
    /// One has this name, in another resource group or subscription.
    Elsewhere,
    /// Several have this name.
    Ambiguous,
}
