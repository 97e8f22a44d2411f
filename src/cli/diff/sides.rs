//! One side of a comparison: policy files, or a preset by its name.
//! Must not judge what it reads; it compiles it the way `check` does.
//! Called by `diff`, for the old side and the new one.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::policy::document::{Cloud, Cluster, Document};
use crate::policy::problem::{Cause, Rejected};
use crate::policy::{Generation, Policy, SourceText, load, presets};
use crate::source::PolicySource;

/// A policy, and what has to be said about how it came to be.
pub(super) struct Side {
    pub(super) policy: Policy,
    pub(super) notes: Vec<String>,
}

/// Why a side cannot be compared.
pub(super) enum Wrong {
    Rejected(Rejected),
    Said(String),
}

/// Reads both. A preset takes its facts from the `cluster` of the other side.
pub(super) fn read(names: [&str; 2], now: Timestamp) -> Result<[Side; 2], Wrong> {
    let files = names.map(|name| match name.strip_prefix(PRESET) {
        Some(_) => Ok(None),
        None => files(name, now).map(Some),
    });
    let [old, new] = files;
    let (old, new) = (old?, new?);
    let cluster = [&old, &new]
        .into_iter()
        .flatten()
        .find_map(|(_, cluster)| cluster.clone());
    let side = |name: &str, read: Option<(Side, Option<Cluster>)>| match read {
        Some((side, _)) => Ok(side),
        None => preset(name.strip_prefix(PRESET).unwrap_or(name), cluster.as_ref(), now),
    };
    Ok([side(names[0], old)?, side(names[1], new)?])
}

fn files(name: &str, now: Timestamp) -> Result<(Side, Option<Cluster>), Wrong> {
    let source = PolicySource::Files(vec![PathBuf::from(name)].into());
    let compiled = source.compile(now).map_err(Wrong::Rejected)?;
    let cluster = Document::read(&compiled.texts)
        .ok()
        .and_then(|document| document.cluster);
    let side = Side {
        policy: compiled.policy,
        notes: Vec::new(),
    };
    Ok((side, cluster.map(|cluster| cluster.value)))
}

fn preset(name: &str, cluster: Option<&Cluster>, now: Timestamp) -> Result<Side, Wrong> {
    let Some(preset) = presets::preset(name) else {
        return Err(Wrong::Said(format!(
            "there is no preset `{name}`; `sluicegate presets` lists all"
        )));
    };
    let known = cluster.cloned().unwrap_or_default();
    let cloud = known.cloud.map_or(Cloud::default(), |cloud| cloud.value);
    let region = known
        .region
        .map_or_else(|| REGION.to_owned(), |region| region.value.to_string());
    let server = known
        .api_server
        .map_or_else(|| format!("name.hcp.{region}.azmk8s.io"), |name| name.value.to_string());
    let needs = preset.rows_for(cloud).flat_map(presets::Row::needs_with);
    let mut with: Vec<_> = needs.map(|key| format!("{key}: {}", key.replace('_', "-"))).collect();
    with.sort_unstable();
    with.dedup();
    let with = if with.is_empty() {
        String::new()
    } else {
        format!(", with: {{{}}}", with.join(", "))
    };
    let text = format!(
        "cluster: {{cloud: {}, region: {region}, api_server: {server}}}\nallow:\n  - {{preset: {name}{with}}}\n",
        cloud.as_str()
    );
    let texts = [SourceText {
        name: format!("{PRESET}{name}").into(),
        text: text.into(),
    }];
    let loaded = load(&texts, now, Generation(1), None).map_err(|problems| {
        Wrong::Rejected(Rejected {
            cause: Cause::Invalid,
            problems,
            texts: texts.to_vec(),
        })
    })?;
    let mut notes = Vec::new();
    if cluster.is_none() {
        notes.push(format!(
            "`{PRESET}{name}` is taken for a cluster in {region} of the {} cloud",
            cloud.as_str()
        ));
    }
    Ok(Side {
        policy: loaded.policy,
        notes,
    })
}

impl Wrong {
    /// For a person.
    pub(super) fn shown(&self, colour: bool) -> String {
        match self {
            Self::Rejected(rejected) => rejected.render(colour),
            Self::Said(why) => format!("error: {why}"),
        }
    }
}

const PRESET: &str = "preset:";
const REGION: &str = "westeurope";
