//! Presets: maintained lists of destinations as data, and what they come to for one cluster.
//! Must not open anything by itself; a rule names a preset and says for whom.
//! Called by the compiler, the lints, the built-in policy, and `presets`.

pub mod builtin;
mod embedded;
pub mod expand;
pub mod needs;
mod read;
pub mod tag;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::document::{Cloud, Text};
use super::lint::opened_suffix;
use super::problem::{Problem, Problems, SourceText};
use super::rule::{Destination, HostMatch};
use super::yaml::typed;
use crate::name::HostPattern;

pub use builtin::builtin;
pub use embedded::{names, preset};
pub use expand::{Expanded, Facts, MissingFact, Unfilled};
pub use needs::Needs;
pub use tag::fqdn_tag;

/// A maintained list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preset {
    /// As rules write it: `aks/core`.
    pub name: Text,
    pub about: Box<str>,
    /// Meant for nodes and the add-ons that AKS runs, and too much for pods.
    pub for_nodes: bool,
    /// The document that the rows come from, in its version.
    pub source: Box<str>,
    /// The date that the document bears; some bear none.
    pub date: Option<Box<str>>,
    /// The day on which it was read.
    pub read: Option<Box<str>>,
    pub rows: Vec<Row>,
    /// The file that replaces or adds it; `None` for those of the program.
    pub file: Option<Text>,
}

/// One destination of a list. Texts with placeholders such as `{region}` are filled by [`Row::expand`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: Box<str>,
    pub clouds: Vec<Cloud>,
    /// Where the proxy may go; `None` where only the network can let it pass.
    pub to: Option<Box<str>>,
    /// The name in the document, where `to` is another.
    pub documented: Option<Box<str>>,
    /// Where else than in the public space the name may resolve to: the one placeholder that stands for addresses.
    pub addresses: bool,
    pub network: Option<Network>,
    pub level: Level,
    /// Opened only where a rule names it.
    pub on_request: bool,
    /// Under which condition it is needed.
    pub when: Option<Box<str>>,
    pub purpose: Box<str>,
    /// Where it is not that of the preset.
    pub source: Option<Box<str>>,
    pub date: Option<Box<str>>,
    /// Seen in practice, in no document.
    pub observed: bool,
    pub note: Option<Box<str>>,
    pub trouble: Vec<Trouble>,
}

/// How much depends on a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Required,
    Recommended,
    /// Where its condition holds.
    Conditional,
    /// Nothing breaks without it.
    Ignorable,
}

/// A rule that the network around the cluster needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub protocol: Protocol,
    pub ports: Vec<u16>,
    /// Alternatives: any one of them will do.
    pub any_of: Vec<Target>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// What a network rule may name; with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Cidr(Box<str>),
    Ip(Box<str>),
    ServiceTag(Box<str>),
    Fqdn(Box<str>),
}

/// Known trouble with a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// A public issue, as `owner/repository#number`.
    pub issue: Box<str>,
    /// A year, or a year and a month.
    pub seen: Option<Box<str>>,
    pub what: Box<str>,
}

/// The presets that a policy can name: those of files, and those of the program that no file replaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Library {
    own: Vec<Arc<Preset>>,
}

impl Library {
    /// Reads the files of a set that are presets; problems are added to those of the caller. A file that cannot be read
    /// as a preset is none, and what it would have replaced is none either.
    pub(super) fn read(problems: &mut Problems<'_>) -> Self {
        let mut own = Vec::new();
        for (file, name, SourceText { text, name: path }) in problems.presets() {
            let errors = problems.errors();
            let preset = read::file(file, name, text, problems).filter(|_| problems.errors() == errors);
            let preset = preset.unwrap_or_else(|| Preset::unreadable(name));
            own.push(Arc::new(Preset {
                file: Some(Arc::clone(path)),
                ..preset
            }));
        }
        Self { own }
    }

    /// Those of the program, and these texts with a name for each.
    ///
    /// # Errors
    /// Every problem of every text.
    pub fn of(texts: &[SourceText], names: &[Text]) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::with_presets(texts, names);
        let library = Self::read(&mut problems);
        if problems.has_errors() {
            return Err(problems.into_sorted());
        }
        Ok(library)
    }

    /// A preset by its name.
    pub fn preset(&self, name: &str) -> Option<Arc<Preset>> {
        let own = self.own.iter().find(|preset| &*preset.name == name);
        own.cloned().or_else(|| preset(name))
    }

    /// The names of all presets, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut all: BTreeSet<&str> = names().collect();
        all.extend(self.own.iter().map(|preset| &*preset.name));
        all.into_iter().collect()
    }

    /// What to say to someone who wrote a name that nothing has.
    pub fn help_for(&self, name: &str) -> String {
        if let Some((_, help)) = CALLED_OTHERWISE.iter().find(|(known, _)| *known == name) {
            return (*help).to_owned();
        }
        let names = self.names();
        let without_folder = names
            .iter()
            .find(|full| full.split_once('/').is_some_and(|(_, last)| last == name));
        match without_folder.copied().or_else(|| typed::nearest(name, &names)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("`sluicegate presets` lists all {}", names.len()),
        }
    }
}

impl Preset {
    /// The rows for a cloud.
    pub fn rows_for(&self, cloud: Cloud) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.clouds.contains(&cloud))
    }

    /// Whether there is anything in it; one without rows was refused.
    pub fn is_readable(&self) -> bool {
        !self.rows.is_empty()
    }

    /// The document of a row, and its date.
    pub fn source_of<'a>(&'a self, row: &'a Row) -> (&'a str, Option<&'a str>) {
        match &row.source {
            Some(source) => (source, row.date.as_deref()),
            None => (&self.source, self.date.as_deref()),
        }
    }

    /// Something of this name was written; what, could not be understood, and that was noted.
    fn unreadable(name: &Text) -> Self {
        Self {
            name: Arc::clone(name),
            about: Box::default(),
            for_nodes: false,
            source: Box::default(),
            date: None,
            read: None,
            rows: Vec::new(),
            file: None,
        }
    }
}

impl Row {
    /// The wildcard, where this is one over names of all kinds of customers, so that data can leave to any of them. Not so
    /// where every name below it is one service's own, such as the workspaces of a log.
    pub fn opens_to_anyone(&self) -> Option<Destination> {
        let to = expand::Sample::fill(self.to.as_deref()?).ok()?;
        let HostMatch::Name(pattern @ HostPattern::Below(suffix)) = &to.host else {
            return None;
        };
        let shared = opened_suffix(pattern)?;
        // What holds the shared suffixes of several services is short: `azure.com`, `core.windows.net`.
        let holds = shared != suffix.as_str() && suffix.as_str().split('.').count() <= 3;
        let wide = self.on_request || holds;
        wide.then_some(to)
    }

    /// Whether a rule that names the preset opens it without naming the row.
    pub fn is_opened_unasked(&self) -> bool {
        !self.on_request && self.level != Level::Ignorable
    }
}

impl Level {
    pub(super) const WORDS: [(&str, Self); 4] = [
        ("required", Self::Required),
        ("recommended", Self::Recommended),
        ("conditional", Self::Conditional),
        ("ignorable", Self::Ignorable),
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Recommended => "recommended",
            Self::Conditional => "conditional",
            Self::Ignorable => "ignorable",
        }
    }
}

impl Protocol {
    pub(super) const WORDS: [(&str, Self); 2] = [("TCP", Self::Tcp), ("UDP", Self::Udp)];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

impl Target {
    /// Which of Azure's kinds it is.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Cidr(_) => "cidr",
            Self::Ip(_) => "ip",
            Self::ServiceTag(_) => "service_tag",
            Self::Fqdn(_) => "fqdn",
        }
    }

    pub fn text(&self) -> &str {
        match self {
            Self::Cidr(text) | Self::Ip(text) | Self::ServiceTag(text) | Self::Fqdn(text) => text,
        }
    }
}

impl fmt::Display for Network {
    /// `UDP 1194 to AzureCloud.westeurope or 20.50.1.2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: Vec<_> = self.ports.iter().map(u16::to_string).collect();
        let targets: Vec<_> = self.any_of.iter().map(Target::text).collect();
        write!(
            f,
            "{} {} to {}",
            self.protocol.as_str(),
            ports.join(", "),
            targets.join(" or ")
        )
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.what, self.issue)?;
        if let Some(seen) = &self.seen {
            write!(f, ", {seen}")?;
        }
        f.write_str(")")
    }
}

/// Names that a person may well look for here, and what to write instead.
const CALLED_OTHERWISE: &[(&str, &str)] = &[
    ("aks/node-updates", "did you mean `aks/node-os-updates`?"),
    ("aks/aks-backup", "did you mean `aks/backup`?"),
    ("aks/gitops", "did you mean `aks/flux`?"),
    ("aks/container-insights", "did you mean `aks/azure-monitor`?"),
    (
        "aks/istio",
        "Istio has no endpoints of its own; with a CA of your own or secure gateways it needs `aks/key-vault-csi`",
    ),
    (
        "aks/app-routing",
        "application routing has no endpoints of its own; with TLS from Key Vault it needs `aks/key-vault-csi`",
    ),
    (
        "aks/keda",
        "KEDA has no endpoints of its own: it only needs the API server, which `aks/core` has",
    ),
    (
        "aks/kaito",
        "KAITO has no endpoints of its own: its images come from mcr.microsoft.com, which `aks/core` has, and models \
         are your own dependency",
    ),
];

#[cfg(test)]
mod tests;
