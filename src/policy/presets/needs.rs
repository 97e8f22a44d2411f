//! Which presets know a host: what a denial can say beyond that no rule names it.
//! Must not open or close anything, nor be asked about what is allowed. It looks names up in an index of its own, made at
//! the first question and not for every load.
//! Called by the session for a denial, and by `explain`.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};

use foldhash::fast::RandomState;

use super::expand::{Facts, Sample, With, fill_known};
use super::{Level, Library, Row};
use crate::name::{HostName, Port};
use crate::policy::document::{Cluster, Text};

/// What presets a policy could name would open, for its cluster.
#[derive(Debug, Default)]
pub struct Needs {
    library: Library,
    cluster: Cluster,
    index: OnceLock<Index>,
}

impl Needs {
    pub(in crate::policy) fn new(library: Library, cluster: Cluster) -> Self {
        let index = OnceLock::new();
        Self {
            library,
            cluster,
            index,
        }
    }

    pub fn library(&self) -> &Library {
        &self.library
    }

    /// The presets that need this host on this port, those that name it most narrowly first. Nothing is allocated where
    /// there are none.
    pub fn of(&self, host: &HostName, port: Port) -> Vec<Text> {
        self.index().find(host.as_str(), host.parents(), port)
    }

    /// Makes the index now. A proxy does so before a policy is in force: at the first denial every worker that also denies
    /// would wait for it, and their connections with them.
    pub fn prepare(&self) {
        self.index();
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| Index::new(&self.library, &self.cluster))
    }
}

/// Rows by the labels at the end of their names that hold no wildcard and no unknown fact.
#[derive(Debug, Default)]
struct Index(HashMap<Box<str>, Vec<Entry>, RandomState>);

#[derive(Debug)]
struct Entry {
    /// What stands before those labels, from the right; empty for a whole name.
    before: Vec<Label>,
    ports: RangeInclusive<u16>,
    preset: Text,
}

#[derive(Debug)]
enum Label {
    Is(Box<str>),
    /// One label that begins and ends so.
    Like(Box<str>, Box<str>),
    /// One or more labels.
    Many,
}

impl Index {
    fn new(library: &Library, cluster: &Cluster) -> Self {
        let cloud = cluster.cloud.map_or_else(Default::default, |cloud| cloud.value);
        let with = With::new();
        let facts = Facts { cluster, with: &with };
        let mut index = Self::default();
        for name in library.names() {
            let Some(preset) = library.preset(name) else { continue };
            for row in preset.rows_for(cloud).filter(|row| row.level != Level::Ignorable) {
                if let Some((end, before, ports)) = ways(row, &facts) {
                    index.0.entry(end).or_default().push(Entry {
                        before,
                        ports,
                        preset: Arc::clone(&preset.name),
                    });
                }
            }
        }
        index
    }

    fn find<'h>(&self, host: &'h str, parents: impl Iterator<Item = &'h str>, port: Port) -> Vec<Text> {
        let mut found: Vec<Text> = Vec::new();
        for end in std::iter::once(host).chain(parents) {
            let Some(entries) = self.0.get(end) else { continue };
            let rest = host.strip_suffix(end).unwrap_or_default().trim_end_matches('.');
            for entry in entries {
                let is_new = !found.contains(&entry.preset);
                if is_new && entry.ports.contains(&port.number()) && matches(&entry.before, rest) {
                    found.push(Arc::clone(&entry.preset));
                }
            }
        }
        found
    }
}

/// The labels at the end of a row's name, what stands before them, and the ports. Nothing where the whole name is unknown,
/// or where it is a wildcard over names of all kinds of customers: that says nothing about who needs this one.
fn ways(row: &Row, facts: &Facts<'_>) -> Option<(Box<str>, Vec<Label>, RangeInclusive<u16>)> {
    let to = row.to.as_deref()?;
    let sample = Sample::fill(to).ok()?;
    if row.opens_to_anyone().is_some() {
        return None;
    }
    let mut host = host_of(&fill_known(to, facts));
    if host.starts_with("{api_server") {
        host = fill_known(row.documented.as_deref()?, facts);
    }
    let is_known = |label: &&str| !label.contains(['*', '{']);
    let count = host.rsplit('.').take_while(is_known).count();
    let total = host.split('.').count();
    if count < 2 {
        return None;
    }
    let end: Vec<_> = host.split('.').skip(total - count).collect();
    let before = host.rsplit('.').skip(count).map(label).collect();
    Some((end.join(".").into(), before, sample.ports))
}

/// A destination without its scheme and port.
fn host_of(to: &str) -> String {
    let host = to.split_once("://").map_or(to, |(_, rest)| rest);
    host.split(':').next().unwrap_or_default().to_owned()
}

fn label(text: &str) -> Label {
    if text == "*" {
        return Label::Many;
    }
    let (begin, end) = (text.find(['*', '{']), text.rfind(['*', '}']));
    match (begin, end) {
        (Some(begin), Some(end)) => Label::Like(
            text.get(..begin).unwrap_or_default().into(),
            text.get(end + 1..).unwrap_or_default().into(),
        ),
        _ => Label::Is(text.into()),
    }
}

/// Whether the labels of `rest`, from the right, are these.
fn matches(before: &[Label], rest: &str) -> bool {
    let mut labels = rest.rsplit('.').filter(|label| !label.is_empty()).peekable();
    for label in before {
        let Some(own) = labels.next() else { return false };
        match label {
            Label::Is(text) if **text == *own => {}
            Label::Like(begin, end) if own.len() >= begin.len() + end.len() => {
                if !own.starts_with(&**begin) || !own.ends_with(&**end) {
                    return false;
                }
            }
            Label::Many => return true,
            Label::Is(_) | Label::Like(..) => return false,
        }
    }
    labels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture;

    #[test]
    fn a_host_is_needed_by_those_that_name_it() {
        let unknown = fixture::load("allow: []\n");
        let known = fixture::load(
            "cluster: {region: westeurope, api_server: my-1.hcp.westeurope.azmk8s.io}\nworkloads: {nodes: {cidrs: \
             [10.224.0.0/16]}}\nallow: [{to: [a.test], from: [nodes]}]\n",
        );
        let china = fixture::load("cluster: {cloud: china}\nallow: []\n");
        for (policy, host, port, expected) in [
            (
                &unknown,
                "global.handler.control.monitor.azure.com",
                443,
                "aks/azure-monitor",
            ),
            (&unknown, "global.handler.control.monitor.azure.com", 80, ""),
            (&unknown, "handler.control.monitor.azure.com", 443, ""),
            // Any region, where it is not known; one label, not several.
            (
                &unknown,
                "uksouth.handler.control.monitor.azure.com",
                443,
                "aks/azure-monitor",
            ),
            (&unknown, "a.uksouth.handler.control.monitor.azure.com", 443, ""),
            (
                &known,
                "westeurope.handler.control.monitor.azure.com",
                443,
                "aks/azure-monitor",
            ),
            (&known, "uksouth.handler.control.monitor.azure.com", 443, ""),
            (
                &unknown,
                "a.b.ods.opinsights.azure.com",
                443,
                "aks/azure-monitor, aks/defender",
            ),
            (
                &unknown,
                "a.westeurope-1.ingest.monitor.azure.com",
                443,
                "aks/azure-monitor",
            ),
            (&unknown, "ods.opinsights.azure.com", 443, ""),
            (&unknown, "xods.opinsights.azure.com", 443, ""),
            (&unknown, "evilmcr.microsoft.com", 443, ""),
            (&unknown, "security.ubuntu.com", 80, "aks/node-os-updates"),
            (&unknown, "security.ubuntu.com", 443, ""),
            (&unknown, "changelogs.ubuntu.com", 443, "aks/undocumented"),
            (&unknown, "kv-1.vault.azure.net", 443, "aks/key-vault-csi"),
            (&unknown, "vault.azure.net", 443, ""),
            (&unknown, "other-1.hcp.uksouth.azmk8s.io", 443, "aks/core"),
            (&known, "my-1.hcp.westeurope.azmk8s.io", 443, "aks/core"),
            (&known, "other-1.hcp.westeurope.azmk8s.io", 443, ""),
            (&unknown, "westeurope.obo.arc.azure.com", 8084, "aks/arc"),
            (&unknown, "umsa1x.blob.core.windows.net", 443, "aks/known-noise"),
            // Anyone can have these, and nothing here knows whose it is.
            (&unknown, "orders.blob.core.windows.net", 443, ""),
            (&unknown, "x.servicebus.windows.net", 443, ""),
            (&unknown, "anything.example.com", 443, ""),
            (&unknown, "com", 443, ""),
            // May stay closed.
            (&unknown, "md-1.blob.storage.azure.net", 443, ""),
            (&china, "global.handler.control.monitor.azure.com", 443, ""),
            (
                &china,
                "global.handler.control.monitor.azure.cn",
                443,
                "aks/azure-monitor",
            ),
        ] {
            let name = HostName::parse(host.as_bytes()).unwrap();
            let found = policy.needs().of(&name, Port::new(port).unwrap());
            assert_eq!(found.join(", "), expected, "{host}:{port}");
        }
    }
}
