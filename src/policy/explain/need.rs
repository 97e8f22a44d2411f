//! Presets that need a host that was denied, each with the entry that would open it, for information.
//! Must not advise: a preset opens more than was asked for, so its entry is no suggestion.
//! Called by `explain`.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::policy::ask::{Ask, Source};
use crate::policy::compiled::Policy;
use crate::policy::document::Text;
use crate::policy::presets::{Preset, Row};
use crate::policy::reason::Reason;

/// A preset that needs the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Need {
    pub preset: String,
    /// What the preset is for.
    pub about: String,
    /// The entry of `allow:` that opens all of it to those whom it is meant for.
    pub entry: String,
}

/// The presets that need the host of an ask that was denied because nothing opens it.
pub(crate) fn needs(policy: &Policy, source: &Source, ask: &Ask, reason: Reason) -> Vec<Need> {
    let (Reason::NoRule | Reason::NoRuleForSource | Reason::Port, Some(host)) = (reason, ask.host.name()) else {
        return Vec::new();
    };
    let library = policy.needs().library();
    let known = policy.needs().of(host, ask.port);
    let presets = known.iter().filter_map(|name| library.preset(name));
    presets
        .map(|preset| Need {
            preset: preset.name.to_string(),
            about: preset.about.to_string(),
            entry: entry(&preset, policy.workload_of(source)),
        })
        .collect()
}

fn entry(preset: &Preset, workload: Option<&Text>) -> String {
    let nodes: Text = Arc::from("nodes");
    let from = if preset.for_nodes { Some(&nodes) } else { workload };
    let from = from.map_or_else(String::new, |from| format!(", from: [{from}]"));
    let mut with: Vec<_> = preset.rows.iter().flat_map(Row::needs_with).collect();
    with.sort_unstable();
    with.dedup();
    let with: Vec<_> = with.iter().map(|key| format!("{key}: NAME")).collect();
    let with = if with.is_empty() {
        String::new()
    } else {
        format!(", with: {{{}}}", with.join(", "))
    };
    format!("- {{preset: {}{from}{with}}}", preset.name)
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { preset, about, entry } = self;
        write!(f, "needed by {preset}: {about}; all of it: `{entry}`")
    }
}
