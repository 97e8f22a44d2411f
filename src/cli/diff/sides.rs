//! One side of a comparison: policy files, a preset by its name, or the rules of an Azure Firewall.
//! Must not judge what it reads; it compiles it the way `check` does.
//! Called by `diff`, for the old side and the new one.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::AzureArgs;
use crate::azure::import::{Imported, Options, import};
use crate::azure::input::Texts;
use crate::cli::azure_file;
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
pub(super) fn read(names: [&str; 2], azure: &AzureArgs, now: Timestamp) -> Result<[Side; 2], Wrong> {
    let files = names.map(|name| match name.strip_prefix(PRESET) {
        Some(_) => Ok(None),
        None if is_json(name) => imported(name, azure, now).map(Some),
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
    let cluster = cluster(&compiled.texts);
    let side = Side {
        policy: compiled.policy,
        notes: Vec::new(),
    };
    Ok((side, cluster))
}

fn cluster(texts: &[SourceText]) -> Option<Cluster> {
    let document = Document::read(texts).ok()?;
    document.cluster.map(|cluster| cluster.value)
}

/// The rules of an Azure Firewall, as `import` would write them, beside the files that they refer to.
fn imported(name: &str, azure: &AzureArgs, now: Timestamp) -> Result<(Side, Option<Cluster>), Wrong> {
    let text = |file: &PathBuf| -> Result<SourceText, Wrong> {
        Ok(SourceText {
            text: azure_file::read(file)
                .map_err(|why| Wrong::Said(format!("error: {why}")))?
                .into(),
            name: azure_file::name(file).into(),
        })
    };
    let rules = [text(&PathBuf::from(name))?];
    let ip_groups = azure.ip_groups.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let service_tags = azure.service_tags.as_ref().map(text).transpose()?;
    let texts = Texts {
        rules: &rules,
        parents: &[],
        ip_groups: &ip_groups,
        service_tags: service_tags.as_ref(),
    };
    let beside = match &*azure.policy {
        [] => Vec::new(),
        paths => PolicySource::Files(paths.to_vec().into())
            .texts()
            .map_err(Wrong::Rejected)?,
    };
    let options = Options {
        sources: azure.sources.concat(),
        accept: azure.accept.clone(),
        policy: beside.clone(),
    };
    let Imported { report, policy } = import(texts, &options, now);
    let Some(policy) = policy else {
        return Err(Wrong::Said(report.render(false)));
    };
    let cluster = cluster(&beside);
    let loaded = compiled(beside, &format!("{name}, imported"), policy, now)?;
    let side = Side {
        policy: loaded,
        notes: vec![format!("`{name}`: {}", report.summary())],
    };
    Ok((side, cluster))
}

fn is_json(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("json"))
}

fn compiled(beside: Vec<SourceText>, name: &str, text: String, now: Timestamp) -> Result<Policy, Wrong> {
    let mut texts = beside;
    texts.push(SourceText {
        name: name.into(),
        text: text.into(),
    });
    let loaded = load(&texts, now, Generation(1), None).map_err(|problems| {
        Wrong::Rejected(Rejected {
            cause: Cause::Invalid,
            problems,
            texts,
        })
    })?;
    Ok(loaded.policy)
}

fn preset(name: &str, cluster: Option<&Cluster>, now: Timestamp) -> Result<Side, Wrong> {
    let Some(preset) = presets::preset(name) else {
        return Err(Wrong::Said(format!(
            "error: there is no preset `{name}`; `sluicegate presets` lists all"
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
    let policy = compiled(Vec::new(), &format!("{PRESET}{name}"), text, now)?;
    let mut notes = Vec::new();
    if cluster.is_none() {
        notes.push(format!(
            "`{PRESET}{name}` is taken for a cluster in {region} of the {} cloud",
            cloud.as_str()
        ));
    }
    Ok(Side { policy, notes })
}

impl Wrong {
    /// For a person.
    pub(super) fn shown(&self, colour: bool) -> String {
        match self {
            Self::Rejected(rejected) => rejected.render(colour),
            Self::Said(why) => why.clone(),
        }
    }
}

const PRESET: &str = "preset:";
const REGION: &str = "westeurope";
