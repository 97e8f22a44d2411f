//! What a policy file says, flat: presets as their rows, what the compiler adds by itself, and nothing that has expired.
//! Must not know Azure's shapes. Names of rules are made here where a file gives none.
//! Called by the export.

use std::collections::HashSet;

use jiff::Timestamp;

use super::Input;
use super::losses::Losses;
use crate::azure::report::Kind;
use crate::name::HostPattern;
use crate::policy::Policy;
use crate::policy::document::{
    AllowRule, Checks, CollectionRules, DenyRule, Document, Identity, Notes, Opens, Text, Workload,
};
use crate::policy::problem::{At, Place};
use crate::policy::rule::{Destination, Effect, From, HostMatch, Peer};

/// Everything that an export has to say.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) deny: Vec<Closing>,
    /// As in the document, by place.
    pub(super) collections: Vec<Rules>,
    pub(super) allow: Vec<Opening>,
}

/// The rules of a collection.
#[derive(Debug)]
pub(super) enum Rules {
    Allow(Vec<Opening>),
    Deny(Vec<Closing>),
}

/// An allow rule.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) at: Place,
    pub(super) from: Option<Vec<At<Peer>>>,
    pub(super) to: Vec<Destination>,
    pub(super) tags: Vec<Text>,
    pub(super) checks: Checks,
}

/// A deny rule.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) at: Place,
    pub(super) from: Option<Vec<At<Peer>>>,
    pub(super) to: Vec<Destination>,
}

/// Reads a document flat.
pub(super) fn gather(input: &Input<'_>, now: Timestamp, losses: &mut Losses<'_>) -> Gathered {
    let document = input.document;
    let mut reader = Reader {
        document,
        policy: input.policy,
        now,
        losses,
    };
    let mut gathered = Gathered {
        deny: reader.denies(&document.deny),
        ..Gathered::default()
    };
    gathered.deny.extend(reader.api_server());
    for collection in &document.collections {
        gathered.collections.push(match &collection.value.rules {
            CollectionRules::Allow(rules) => Rules::Allow(reader.allows(rules)),
            CollectionRules::Deny(rules) => Rules::Deny(reader.denies(rules)),
        });
    }
    let identities = document
        .workloads
        .iter()
        .filter_map(|workload| identity(&workload.value));
    let implied: Vec<_> = identities.collect();
    gathered.allow = reader.allows(document.allow.iter().chain(&implied));
    gathered
}

struct Reader<'a, 't> {
    document: &'a Document,
    policy: &'a Policy,
    now: Timestamp,
    losses: &'a mut Losses<'t>,
}

impl Reader<'_, '_> {
    fn allows<'r>(&mut self, rules: impl IntoIterator<Item = &'r At<AllowRule>>) -> Vec<Opening> {
        let mut all = Vec::new();
        let mut names = HashSet::new();
        for rule in rules {
            let (at, rule) = (rule.at, &rule.value);
            let notes = rule.notes.as_deref().cloned().unwrap_or_default();
            let checks = rule.checks.as_deref().cloned().unwrap_or_default();
            if checks.report {
                let why = "`report: true`: Azure has no rule that only marks";
                self.losses.note(Kind::ReportOnly, at, why, "left out");
                continue;
            }
            if !self.holds(&notes, at, "it opens without an end") {
                continue;
            }
            let opening = |name: String, description: Option<String>, to: Vec<Destination>| Opening {
                name,
                description,
                at,
                from: rule.from.clone(),
                to,
                tags: Vec::new(),
                checks: checks.clone(),
            };
            match &rule.opens {
                Opens::To(to) => {
                    let to: Vec<_> = to.iter().map(|to| to.value.clone()).collect();
                    let name = name(&notes, &to, &mut names);
                    all.push(opening(name, description(&notes), to));
                }
                Opens::Tags(tags) => {
                    let fallback = tags.first().map_or("", |tag| &*tag.value);
                    let name = notes.name.as_ref().map_or(fallback, |name| &*name.value);
                    let name = once(name, &mut names);
                    for tag in tags {
                        let why = format!(
                            "`{}`: here our open list, in Azure the list that Microsoft keeps",
                            tag.value
                        );
                        self.losses.note(Kind::FqdnTagList, tag.at, why, "");
                    }
                    all.push(Opening {
                        tags: tags.iter().map(|tag| Text::clone(&tag.value)).collect(),
                        ..opening(name, description(&notes), Vec::new())
                    });
                }
                Opens::Preset(preset) => {
                    for (id, why, to) in self.rows(preset, at, rule.from.as_deref()) {
                        let name = once(&spelt(&format!("{}-{id}", preset.value)), &mut names);
                        all.push(opening(name, description(&notes).or(why), vec![to]));
                    }
                }
            }
        }
        all
    }

    fn denies(&mut self, rules: &[At<DenyRule>]) -> Vec<Closing> {
        let mut all = Vec::new();
        let mut names = HashSet::new();
        for At { value: rule, at } in rules {
            let notes = rule.notes.as_deref().cloned().unwrap_or_default();
            if !self.holds(&notes, *at, "it closes without an end") {
                continue;
            }
            let to: Vec<_> = rule.to.iter().map(|to| to.value.clone()).collect();
            all.push(Closing {
                name: name(&notes, &to, &mut names),
                description: description(&notes),
                at: *at,
                from: rule.from.clone(),
                to,
            });
        }
        all
    }

    /// What the compiler closes by itself: the API server, for pods.
    fn api_server(&self) -> Option<Closing> {
        let cluster = self.document.cluster();
        let server = cluster.api_server?;
        let workloads = self.document.workloads.iter().map(|workload| &workload.value);
        let pods = workloads.filter(|workload| workload.namespace.is_some() && !workload.cidrs.is_empty());
        let pods = pods.map(|workload| At {
            value: Peer::Workload(Text::clone(&workload.name)),
            at: server.at,
        });
        let networks = cluster.networks.pods.iter().map(|network| At {
            value: Peer::Cidr(network.value),
            at: server.at,
        });
        let from: Vec<_> = pods.chain(networks).collect();
        (!from.is_empty()).then(|| Closing {
            name: "api-server".to_owned(),
            description: Some("pods have no business with the API server".to_owned()),
            at: server.at,
            from: Some(from),
            to: vec![Destination {
                scheme: None,
                host: HostMatch::Name(HostPattern::Exact(server.value)),
                ports: 1..=u16::MAX,
            }],
        })
    }

    /// The rows of a preset as the compiler filled them for this cluster.
    fn rows(
        &mut self,
        preset: &At<Text>,
        at: Place,
        from: Option<&[At<Peer>]>,
    ) -> Vec<(String, Option<String>, Destination)> {
        let position = self.losses.position(at);
        let from = from.map_or(From::Everyone, |from| {
            From::Any(from.iter().map(|peer| peer.value.clone()).collect())
        });
        let mut rows = Vec::new();
        for rule in self.policy.rules() {
            let id = rule
                .name
                .strip_prefix(&*preset.value)
                .and_then(|rest| rest.strip_prefix(": "));
            if let Some(id) = id
                && (rule.effect, &rule.at, &rule.from) == (Effect::Allow, &position, &from)
            {
                let why = rule.why.as_ref().map(ToString::to_string);
                rows.extend(rule.to.iter().map(|to| (id.to_owned(), why.clone(), to.clone())));
            }
        }
        rows
    }

    /// Whether a rule still matches, and that Azure will not know until when.
    fn holds(&mut self, notes: &Notes, at: Place, outcome: &str) -> bool {
        let Some(until) = &notes.until else { return true };
        if crate::policy::end_of(until.value) <= self.now {
            self.losses.note(
                Kind::Expired,
                at,
                format!("`until: {}` has passed", until.value),
                "left out",
            );
            return false;
        }
        self.losses.note(
            Kind::Until,
            until.at,
            format!("`until: {}`: Azure has no expiry", until.value),
            outcome,
        );
        true
    }
}

/// What `identity: workload` opens without being asked.
fn identity(workload: &Workload) -> Option<At<AllowRule>> {
    if workload.identity.value != Identity::Workload {
        return None;
    }
    let at = workload.identity.at;
    let own = At {
        value: Peer::Workload(Text::clone(&workload.name)),
        at,
    };
    let value = AllowRule {
        opens: Opens::Preset(At {
            value: "aks/workload-identity".into(),
            at,
        }),
        from: Some(vec![own]),
        notes: None,
        checks: None,
    };
    Some(At { value, at })
}

/// A rule's own name as it stands; where it has none, the first destination's.
fn name(notes: &Notes, to: &[Destination], names: &mut HashSet<String>) -> String {
    let own = notes.name.as_ref().map(|name| name.value.to_string());
    let own = own.unwrap_or_else(|| spelt(&to.first().map(ToString::to_string).unwrap_or_default()));
    once(&own, names)
}

/// With a number behind it, if another rule is called so already.
fn once(name: &str, names: &mut HashSet<String>) -> String {
    let mut free = name.to_owned();
    let mut number = 2;
    while !names.insert(free.clone()) {
        free = format!("{name}-{number}");
        number += 1;
    }
    free
}

/// In the letters that Azure takes for names.
fn spelt(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for letter in text.chars() {
        let fits = letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_');
        match (fits, name.ends_with('-')) {
            (true, _) => name.push(letter),
            (false, false) if !name.is_empty() => name.push('-'),
            (false, _) => {}
        }
    }
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() {
        "rule".to_owned()
    } else {
        name.to_owned()
    }
}

fn description(notes: &Notes) -> Option<String> {
    match (&notes.reason, &notes.owner) {
        (Some(reason), None) => Some(reason.to_string()),
        (Some(reason), Some(owner)) => Some(format!("{reason} (owner: {owner})")),
        (None, Some(owner)) => Some(format!("owner: {owner}")),
        (None, None) => None,
    }
}
