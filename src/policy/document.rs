//! The document: what the policy files say, merged, with the place of everything that a later problem may point at.
//! Must not know what runs: no index, no presets expanded, no defaults that depend on time. Generators read it too.
//! Called by the policy compiler, and by whoever writes Kubernetes or Azure objects from a policy.

pub mod accept;
pub mod address;
pub mod check;
pub mod cluster;
pub mod collection;
pub mod destination;
pub mod expect;
pub mod file;
pub mod rule;
pub mod syntax;
pub mod workload;

use std::collections::HashSet;
use std::sync::Arc;

use jiff::civil::Date;

pub use accept::Accept;
pub use cluster::{Cloud, Cluster, Engine, Labels, Lock, Namespace, Networks, Proxy};
pub use collection::{Collection, CollectionRules, Group};
pub use expect::{Expectation, Tester, Verdict, Wanted};
pub use rule::{AllowRule, Checks, Choice, DenyRule, Notes, Opens};
pub use workload::{Caller, Identity, Workload};

use super::presets::Library;
use super::problem::{At, Place, Problem, Problems, SourceText};

/// All files together. Equal documents say the same; where something stands is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    pub cluster: Option<At<Cluster>>,
    pub(super) doubts: Doubts,
    pub mode: Option<At<Mode>>,
    /// `report_until`; in force to the end of that day, UTC.
    pub report_until: Option<At<Date>>,
    /// In the order of the files.
    pub workloads: Vec<At<Workload>>,
    /// Whether any file has the key at all: nothing allowed on purpose is `allow: []`.
    pub says_allow: bool,
    pub allow: Vec<At<AllowRule>>,
    pub deny: Vec<At<DenyRule>>,
    pub groups: Vec<At<Group>>,
    /// Judged after `deny` and before `allow`, in an order of their own; here in that of the files.
    pub collections: Vec<At<Collection>>,
    pub expect: Vec<At<Expectation>>,
    /// The workloads that files limit themselves to. Their rules carry them in `from` already.
    pub scopes: Vec<At<Text>>,
    pub lock: Option<At<Lock>>,
    pub namespaces: Vec<At<Namespace>>,
    /// The warnings that files as a whole accept.
    pub accept: Vec<At<Accept>>,
    /// The presets that rules can name.
    pub presets: Library,
}

/// What was refused, so that what seems to be missing may have been written: one mistake is one problem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a doubt of its own")]
pub(super) struct Doubts {
    /// Something in `cluster`.
    pub(super) facts: bool,
    /// `workloads` as a whole.
    pub(super) workloads: bool,
    /// Single workloads.
    pub(super) names: HashSet<Text>,
    /// Something in `groups`.
    pub(super) groups: bool,
    /// `mode` or `report_until`.
    pub(super) mode: bool,
}

/// The `mode` key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Enforce,
    Report,
}

impl Document {
    /// Reads and merges files.
    ///
    /// # Errors
    /// Every problem of every file, errors and warnings, in the order of the files.
    pub fn read(texts: &[SourceText]) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::new(texts);
        let document = Self::read_noting(&mut problems);
        if problems.has_errors() {
            return Err(problems.into_sorted());
        }
        Ok(document)
    }

    /// The same, as far as the files can be understood; problems are added to those of the caller.
    pub fn read_noting(problems: &mut Problems<'_>) -> Self {
        let texts = problems.policies();
        let mut document = Self {
            presets: Library::read(problems),
            ..Self::default()
        };
        if texts.is_empty() {
            problems
                .error(Place::default(), "there is no policy file")
                .help("to deny everything on purpose, give a file that says `allow: []`");
        }
        for (index, text) in (0..).zip(texts) {
            file::read(index, &text.text, &mut document, problems);
        }
        check::check(&document, problems);
        document
    }

    /// A workload by its name.
    pub fn workload(&self, name: &str) -> Option<&At<Workload>> {
        self.workloads.iter().find(|workload| &*workload.value.name == name)
    }

    /// A fact's owner: the cluster as written, or one without facts.
    pub fn cluster(&self) -> Cluster {
        self.cluster
            .as_ref()
            .map(|cluster| cluster.value.clone())
            .unwrap_or_default()
    }
}

/// Text that outlives the file.
pub type Text = Arc<str>;

/// Texts that many rules hold, each kept once: owners, names of workloads.
#[derive(Debug, Default)]
struct Shared(HashSet<Text>);

impl Shared {
    fn text(&mut self, text: &str) -> Text {
        if let Some(shared) = self.0.get(text) {
            return Arc::clone(shared);
        }
        let new = Text::from(text);
        self.0.insert(Arc::clone(&new));
        new
    }
}
