//! One preset with the facts of a cluster, as text and as JSON.
//! Must not fail for a fact that is missing: it says which, and how to find it out.
//! Called by `presets show`.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::policy::document::{Cloud, Cluster};
use crate::policy::presets::expand::{Expanded, With};
use crate::policy::presets::{Facts, Level, MissingFact, Network, Preset, Row, Unfilled};

/// What is shown.
#[derive(Debug)]
pub(super) struct View<'a> {
    preset: &'a Preset,
    cloud: Cloud,
    rows: Vec<Shown<'a>>,
}

#[derive(Debug)]
struct Shown<'a> {
    row: &'a Row,
    /// `None`: no proxy can carry it.
    to: Option<Result<Expanded, Unfilled>>,
    network: Option<Network>,
}

impl<'a> View<'a> {
    pub(super) fn new(preset: &'a Preset, cluster: &Cluster, with: &With) -> Self {
        let cloud = cluster.cloud.map_or_else(Cloud::default, |cloud| cloud.value);
        let facts = Facts { cluster, with };
        let rows = preset.rows_for(cloud).map(|row| Shown {
            row,
            to: row.expand(&facts),
            network: row.network_for(&facts),
        });
        Self {
            preset,
            cloud,
            rows: rows.collect(),
        }
    }

    pub(super) fn json(&self) -> Value {
        let (carried, network): (Vec<_>, Vec<_>) = self.rows.iter().partition(|shown| shown.to.is_some());
        let preset = self.preset;
        json!({
            "name": &*preset.name,
            "about": preset.about,
            "for": super::kind(preset),
            "cloud": self.cloud.as_str(),
            "source": preset.source,
            "date": preset.date,
            "read": preset.read,
            "file": preset.file.as_deref(),
            "rows": carried.iter().map(|shown| shown.json(preset)).collect::<Vec<_>>(),
            "network": network.iter().map(|shown| shown.json(preset)).collect::<Vec<_>>(),
            "missing": self.missing().into_values().map(|fact| json!({
                "key": key(fact),
                "example": fact.example,
                "source": fact.source,
            })).collect::<Vec<_>>(),
        })
    }

    /// Each missing fact once.
    fn missing(&self) -> BTreeMap<String, &MissingFact> {
        let missing = self.rows.iter().filter_map(Shown::missing);
        missing.map(|fact| (key(fact), fact)).collect()
    }
}

impl Shown<'_> {
    fn missing(&self) -> Option<&MissingFact> {
        match &self.to {
            Some(Err(Unfilled::Missing(fact))) => Some(fact),
            _ => None,
        }
    }

    /// The destination, as far as it is known.
    fn destination(&self) -> String {
        match &self.to {
            Some(Ok(expanded)) => expanded.to.to_string(),
            Some(Err(_)) => self.row.to.as_deref().unwrap_or_default().to_owned(),
            None => self.network.as_ref().map(Network::to_string).unwrap_or_default(),
        }
    }

    /// Where a rule has to say more than the preset's name.
    fn opened(&self) -> Option<String> {
        let id = &self.row.id;
        let needed = (self.to.is_some() && !self.row.is_opened_unasked()).then_some(id)?;
        let why = match self.row.level {
            Level::Ignorable => "may stay closed; ",
            _ => "",
        };
        Some(format!("{why}opened only with `also: [{needed}]`"))
    }

    fn json(&self, preset: &Preset) -> Value {
        let row = self.row;
        let (source, date) = preset.source_of(row);
        let network = self.network.as_ref().map(|network| {
            let any_of = network
                .any_of
                .iter()
                .map(|target| json!({target.kind(): target.text()}));
            json!({
                "protocol": network.protocol.as_str(),
                "ports": network.ports,
                "any_of": any_of.collect::<Vec<_>>(),
            })
        });
        let expanded = match &self.to {
            Some(Ok(expanded)) => Some(expanded),
            _ => None,
        };
        let trouble = row
            .trouble
            .iter()
            .map(|trouble| json!({"issue": trouble.issue, "seen": trouble.seen, "what": trouble.what}));
        json!({
            "id": row.id,
            "to": expanded.map(|row| row.to.to_string()),
            "template": row.to,
            "missing": self.missing().map(key),
            "addresses": expanded.map(|row| row.addresses.iter().map(ToString::to_string).collect::<Vec<_>>()),
            "documented": row.documented,
            "network": network,
            "level": row.level.as_str(),
            "opened": row.to.is_some() && row.is_opened_unasked(),
            "when": row.when,
            "purpose": row.purpose,
            "source": source,
            "date": date,
            "confidence": if row.observed { "observed" } else { "documented" },
            "note": row.note,
            "trouble": trouble.collect::<Vec<_>>(),
        })
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, preset: &Preset) -> fmt::Result {
        let row = self.row;
        writeln!(f, "\n  {}  [{}, {}]", self.destination(), row.id, row.level.as_str())?;
        writeln!(f, "    why:        {}", row.purpose)?;
        if let Some(fact) = self.missing() {
            writeln!(f, "    missing:    `{}`", key(fact))?;
        }
        if let Some(Err(Unfilled::Bad(bad))) = &self.to {
            writeln!(f, "    wrong:      {}; {}", bad.why, bad.help)?;
        }
        if let Some(opened) = self.opened() {
            writeln!(f, "    opened:     {opened}")?;
        }
        if let Some(when) = &row.when {
            writeln!(f, "    when:       {when}")?;
        }
        if let Some(documented) = &row.documented {
            writeln!(f, "    documented: {documented}")?;
        }
        if let (Some(_), Some(network)) = (&self.to, &self.network) {
            writeln!(f, "    documented: as a network rule, {network}")?;
        }
        if row.observed {
            writeln!(f, "    evidence:   seen in practice, in no document of Microsoft")?;
        }
        if let Some(note) = &row.note {
            writeln!(f, "    note:       {note}")?;
        }
        for trouble in &row.trouble {
            writeln!(f, "    trouble:    {trouble}")?;
        }
        if row.source.is_some() {
            let (source, date) = preset.source_of(row);
            writeln!(f, "    source:     {source} ({})", date.unwrap_or("undated"))?;
        }
        Ok(())
    }
}

impl fmt::Display for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let preset = self.preset;
        let (kind, cloud) = (super::kind(preset), self.cloud.as_str());
        writeln!(f, "{}: {} (for {kind}, cloud {cloud})", preset.name, preset.about)?;
        write!(
            f,
            "source: {} ({}",
            preset.source,
            preset.date.as_deref().unwrap_or("undated")
        )?;
        match &preset.read {
            Some(read) => writeln!(f, ", read {read})")?,
            None => writeln!(f, ")")?,
        }
        if let Some(file) = &preset.file {
            writeln!(f, "file:   {file}")?;
        }
        if self.rows.is_empty() {
            return writeln!(f, "\nThere are no rows for the cloud {cloud}.");
        }
        let (carried, network): (Vec<_>, Vec<_>) = self.rows.iter().partition(|shown| shown.to.is_some());
        for shown in carried {
            shown.write(f, preset)?;
        }
        if !network.is_empty() {
            writeln!(
                f,
                "\nNo proxy can carry these; the network around the cluster needs a rule for each:"
            )?;
        }
        for shown in network {
            shown.write(f, preset)?;
        }
        let missing = self.missing();
        if !missing.is_empty() {
            writeln!(f, "\nMissing facts:")?;
        }
        for (key, fact) in &missing {
            let MissingFact { example, source, .. } = fact;
            writeln!(f, "  `{key}`, such as {example}: {source}; {}", flag(fact))?;
        }
        Ok(())
    }
}

/// Where a policy says a fact.
fn key(fact: &MissingFact) -> String {
    let parent = if fact.with { "with" } else { "cluster" };
    format!("{parent}.{}", fact.key)
}

/// How it is said here.
fn flag(fact: &MissingFact) -> String {
    if fact.with {
        format!("here `--with {}=VALUE`", fact.key)
    } else {
        format!(
            "here `--{} VALUE`, or a policy with --policy",
            fact.key.replace('_', "-")
        )
    }
}
