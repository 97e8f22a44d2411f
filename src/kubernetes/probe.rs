//! What `verify` tries as a workload: each attempt, what must come of it, what that proves, and what to do otherwise.
//! Must not open a socket; it is made from the policy alone, so that two pods try the same and can be compared.
//! Called by `verify`, which runs the probes, and by the judge.

mod attempt;
mod cluster;
mod direct;
mod proxied;
mod targets;
mod unprovable;

use super::plan::{Plan, Pods};
pub use crate::criterion::Criterion;
use crate::name::Host;
use crate::policy::Policy;
use crate::policy::document::Document;
use crate::policy::problem::Problems;

pub use attempt::{Attempt, Opener, Request, Then};
pub use targets::{ProxyAt, Target, Targets};

/// One thing that is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The same in every pod that tries the same.
    pub id: String,
    /// Ids of the collection of bypass attempts.
    pub cases: &'static [&'static str],
    pub criterion: Criterion,
    pub attempt: Attempt,
    pub must: Must,
    /// What is known once it holds.
    pub proves: String,
    /// What to do when it does not.
    pub advice: String,
}

/// What must come of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Must {
    /// It does not come through, and does in a pod without a lock.
    BeBlocked(Credit),
    /// The same, and a pod without a lock must not come through either: it would have to get in where only others may.
    BeBlockedToBoth,
    /// The proxy says no; or, where a process looks at itself, it has not what it must not have.
    BeRefused(Credit),
    Work,
    /// DNS answers, be it that there is no such name.
    BeAnswered,
    /// It works here, and does not come through in the pod without a lock.
    WorkHereOnly,
    /// Nothing: what is open is said, and cannot be closed by what is generated.
    BeSaid,
}

/// What becomes of a probe that proves nothing: it was not tried, or another pod did not come through either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credit {
    /// Nothing is proven, and that fails.
    NeedsControl,
    /// Nothing is proven; but something else keeps the control out, or there may be nothing to reach.
    Optional,
}

/// The probes of a workload, in the order in which they are reported; those that must come first say so themselves.
///
/// # Errors
/// A line for a person: there is no such workload, or its namespace is not locked.
pub fn probes(
    document: &Document,
    policy: &Policy,
    workload: &str,
    targets: &Targets,
    problems: &mut Problems<'_>,
) -> Result<Vec<Probe>, String> {
    let plan = Plan::of(document, problems);
    let names = plan.locked.iter().flat_map(|namespace| &namespace.workloads);
    let Some(pods) = names.clone().find(|pods| pods.name() == workload) else {
        let names: Vec<_> = names.map(|pods| format!("`{}`", pods.name())).collect();
        return Err(match &*names {
            [] => "no workload of the policy has pods in a locked namespace: there is nothing to prove".to_owned(),
            names => format!(
                "`{workload}` is no workload with pods in a locked namespace; there are {}",
                names.join(", ")
            ),
        });
    };
    let case = Case {
        plan: &plan,
        policy,
        pods,
        targets,
    };
    let mut probes = direct::probes(&case);
    probes.extend(cluster::probes(&case));
    probes.extend(proxied::probes(&case));
    probes.extend(unprovable::probes());
    let mut known = std::collections::HashSet::new();
    probes.retain(|probe| known.insert(probe.id.clone()));
    Ok(probes)
}

/// What probes are made from.
struct Case<'a> {
    plan: &'a Plan<'a>,
    policy: &'a Policy,
    pods: &'a Pods<'a>,
    targets: &'a Targets,
}

impl Case<'_> {
    fn name(&self) -> &str {
        self.pods.name()
    }

    /// As pods find it: what was given, or its Service.
    fn proxy_host(&self) -> Option<Host> {
        let given = &self.targets.proxy.host;
        if !given.is_empty() {
            return Host::parse(given.as_bytes()).ok();
        }
        let proxy = &self.plan.cluster.proxy;
        let service = format!("{}.{}.svc.cluster.local", proxy.service, proxy.namespace);
        Host::parse(service.as_bytes()).ok()
    }
}

#[cfg(test)]
mod tests;
