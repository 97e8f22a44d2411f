//! `/policy`: what is in force, since when, from which files, and how often each rule decided.
//! Must stay usable with 100,000 rules: it shows a part, and finds rules by their text.
//! Called by people who ask what is allowed, and which rules nobody uses.

use axum::extract::State as Shared;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;

use super::query::{Pairs, Refused, Values};
use super::{Pages, page as pages};
use crate::policy::rule::{CollectionRef, Effect, From, Rule, SniCheck};
use crate::policy::{Mode, Policy};
use crate::state::State;
use crate::telemetry::json::{self, moment};

pub(super) const ABOUT: &str = "the policy in force and its rules, with hits: ?match=TEXT &offset= &limit=";

pub(super) async fn page(Shared(all): Shared<Pages>, pairs: Pairs) -> Response {
    let values = match Values::read(pairs, &["match", "offset", "limit"]) {
        Ok(values) => values,
        Err(refused) => return refused.answer(),
    };
    // A search reads every rule; other requests, readiness among them, do not wait for that.
    let made = tokio::task::spawn_blocking(move || render(&all.state, &values, Timestamp::now())).await;
    match made {
        Ok(Ok(answer)) => answer,
        Ok(Err(refused)) => refused.answer(),
        Err(_) => pages::unavailable("the page could not be made\n".to_owned()),
    }
}

fn render(state: &State, values: &Values, now: Timestamp) -> Result<Response, Refused> {
    let policy = state.policy();
    let offset = values.number("offset", 0, usize::MAX)?;
    let limit = values.number("limit", DEFAULT_LIMIT, MAX_LIMIT)?;
    let wanted = values.text("match").unwrap_or_default().to_lowercase();
    let mut matching = 0;
    let mut shown = Vec::new();
    for rule in policy.rules() {
        if wanted.is_empty() || mentions(rule, &wanted) {
            if matching >= offset && shown.len() < limit {
                shown.push(Row::new(rule, now));
            }
            matching += 1;
        }
    }
    let head = Head::new(state, &policy, now, matching, offset, shown.len());
    Ok(pages::rows(&head, "rules", &shown, json::append))
}

#[derive(Serialize)]
struct Head {
    generation: u64,
    /// When it came into force.
    since: String,
    /// `enforce` or `report`, at this moment.
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    report_until: Option<String>,
    files: Vec<String>,
    /// The newest files, where they are not what is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<Refusal>,
    workloads: Vec<Workload>,
    rules_in_all: usize,
    /// How many of them pass `match`.
    matching: usize,
    offset: usize,
    shown: usize,
}

#[derive(Serialize)]
struct Refusal {
    at: String,
    /// The text that `check` prints.
    problems: String,
}

#[derive(Serialize)]
struct Workload {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cidrs: Vec<String>,
}

/// One rule. Absent means: not written, or its usual value.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    at: String,
    effect: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    collection: Option<InCollection<'a>>,
    /// Absent: every source.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Vec<String>>,
    to: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// `until` has passed: it matches nothing any more.
    #[serde(skip_serializing_if = "is_false")]
    expired: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_sni: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ech: Option<&'static str>,
    #[serde(skip_serializing_if = "is_false")]
    report: bool,
    hits: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_hit: Option<String>,
}

/// The collection of a rule. Rules come in the order of evaluation.
#[derive(Serialize)]
struct InCollection<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    r#type: &'static str,
    priority: u16,
}

impl Head {
    fn new(state: &State, policy: &Policy, now: Timestamp, matching: usize, offset: usize, shown: usize) -> Self {
        let report_until = match policy.mode() {
            Mode::Report { until } => Some(moment(until)),
            Mode::Enforce => None,
        };
        Self {
            generation: policy.generation().0,
            since: moment(state.since()),
            mode: if policy.reports(now) { "report" } else { "enforce" },
            report_until,
            files: policy.files().iter().map(ToString::to_string).collect(),
            refused: state.refused().map(|refused| Refusal {
                at: moment(refused.at),
                problems: refused.problems.clone(),
            }),
            workloads: policy.workloads().iter().map(Workload::new).collect(),
            rules_in_all: policy.rules().len(),
            matching,
            offset,
            shown,
        }
    }
}

impl Workload {
    fn new(workload: &crate::policy::Workload) -> Self {
        Self {
            name: workload.name.to_string(),
            port: workload.port.map(|port| port.value.number()),
            cidrs: workload.cidrs.iter().map(ToString::to_string).collect(),
        }
    }
}

impl<'a> InCollection<'a> {
    fn new(collection: &'a CollectionRef) -> Self {
        Self {
            name: &collection.name,
            group: collection.group.as_deref(),
            r#type: collection.kind.as_str(),
            priority: collection.priority,
        }
    }
}

impl<'a> Row<'a> {
    fn new(rule: &'a Rule, now: Timestamp) -> Self {
        Self {
            name: &rule.name,
            at: rule.at.to_string(),
            effect: match rule.effect {
                Effect::Allow => "allow",
                Effect::Deny => "deny",
            },
            collection: rule.collection.as_deref().map(InCollection::new),
            from: match &rule.from {
                From::Everyone => None,
                From::Any(peers) => Some(peers.iter().map(ToString::to_string).collect()),
            },
            to: rule.to.iter().map(ToString::to_string).collect(),
            until: rule.until.map(moment),
            expired: rule.until.is_some_and(|until| until <= now),
            owner: rule.owner.as_deref(),
            reason: rule.why.as_deref(),
            addresses: rule.addresses.iter().map(ToString::to_string).collect(),
            sni: match rule.sni {
                SniCheck::Strict => None,
                SniCheck::Listed => Some("listed"),
                SniCheck::Off => Some("off"),
            },
            no_sni: rule.no_sni.then_some("allow"),
            ech: rule.ech_outer.then_some("outer"),
            report: rule.report,
            hits: rule.hits.count(),
            last_hit: rule.hits.last().map(moment),
        }
    }
}

/// Whether the text stands in the rule's name, collection, place, owner, sources or destinations. `wanted` is in lower case.
fn mentions(rule: &Rule, wanted: &str) -> bool {
    let says = |text: &str| text.to_lowercase().contains(wanted);
    says(&rule.name)
        || rule.owner.as_deref().is_some_and(says)
        || rule
            .collection
            .as_deref()
            .is_some_and(|collection| says(&collection.name) || collection.group.as_deref().is_some_and(says))
        || rule.to.iter().any(|to| says(&to.to_string()))
        || matches!(&rule.from, From::Any(peers) if peers.iter().any(|peer| says(&peer.to_string())))
        || says(&rule.at.to_string())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_false(value: &bool) -> bool {
    !value
}

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 10_000;
