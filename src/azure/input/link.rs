//! Whether groups are those of one firewall, and which of them come from the parent of its policy.
//! Must not guess: rules that may not belong together are an error.
//! Called when all files are read.

use crate::azure::arm::policy::PolicyFacts;
use crate::azure::json::{EXPORT, shortened};
use crate::azure::model::{Firewall, Group};
use crate::azure::report::{Kind, Report};

/// Makes sure that all groups are those of one firewall, and knows which come from the parent.
pub(super) fn link(firewall: &mut Firewall, policies: &[PolicyFacts], parents_given: bool, report: &mut Report) {
    let mut names: Vec<String> = Vec::new();
    for group in &firewall.groups {
        if let Some(policy) = &group.policy
            && !names.iter().any(|name| same(name, policy))
        {
            names.push(policy.clone());
        }
    }
    let base_of = |name: &str| {
        let facts = policies
            .iter()
            .find(|facts| facts.name.as_deref().is_some_and(|own| same(own, name)))?;
        facts.base.clone()
    };
    let known = policies.iter().filter_map(|facts| facts.name.as_deref());
    let mut all: Vec<&str> = known.chain(names.iter().map(String::as_str)).collect();
    all.sort_unstable_by_key(|name| name.to_ascii_lowercase());
    all.dedup_by(|a, b| same(a, b));
    let lost = firewall
        .groups
        .iter()
        .find(|group| group.policy.is_none() && group.name.is_some());
    let twins = policies.iter().enumerate().any(|(index, facts)| {
        let mut earlier = policies.iter().take(index);
        earlier.any(|other| other.at.file == facts.at.file && other.name.is_some() && other.name == facts.name)
    });
    if let Some(lost) = lost
        && (twins || all.len() > 1)
    {
        let message = "several policies were given, and nothing says to which of them this group belongs";
        report.note(Kind::SeveralPolicies, &lost.at, message).help(
            "import one policy, and give the rules of its parent with `--parent FILE`; a plan that creates both \
             does not say it, the state after apply does",
        );
    }
    for name in &names {
        let Some(base) = base_of(name) else { continue };
        if same(name, &base) {
            let message = format!("the policy and its parent are both called `{}`", shortened(name));
            let at = policies.first().map(|facts| facts.at.clone()).unwrap_or_default();
            report
                .note(Kind::SeveralPolicies, &at, message)
                .help("import the child alone, and give the rules of its parent with `--parent FILE`");
            continue;
        }
        for group in &mut firewall.groups {
            group.parent |= group.policy.as_deref().is_some_and(|policy| same(policy, &base));
        }
    }
    for facts in policies {
        let Some(base) = &facts.base else { continue };
        let has_parent = parents_given || firewall.groups.iter().any(|group| group.parent);
        if !has_parent {
            report
                .note(
                    Kind::ParentPolicy,
                    &facts.at,
                    format!(
                        "the policy inherits from `{}`, whose rules were not given",
                        shortened(base)
                    ),
                )
                .outcome("not carried over: its rules come before all of these")
                .help("give them: `--parent FILE`");
        }
    }
    check_levels(firewall, report);
    check_listed(firewall, policies, report);
}

/// The child's groups are those of one policy, and so are the parent's.
fn check_levels(firewall: &Firewall, report: &mut Report) {
    for parent in [false, true] {
        let mut of_level = firewall
            .groups
            .iter()
            .filter(|group| group.parent == parent && group.policy.is_some());
        if let Some(first) = of_level.next()
            && let Some(other) = of_level.find(|group| {
                let ids = (&group.policy_id, &first.policy_id);
                let is_same_id = !matches!(ids, (Some(own), Some(other)) if own != other);
                !is_same_id
                    || !same(
                        group.policy.as_deref().unwrap_or_default(),
                        first.policy.as_deref().unwrap_or_default(),
                    )
            })
        {
            let same_name = first
                .policy
                .as_deref()
                .is_some_and(|own| same(own, other.policy.as_deref().unwrap_or_default()));
            let name = |group: &Group| {
                let id = group.policy_id.as_deref().filter(|_| same_name);
                let name = id.or(group.policy.as_deref()).unwrap_or_default();
                name.replace('\u{fffd}', "")
            };
            report
                .note(
                    Kind::SeveralPolicies,
                    &other.at,
                    format!(
                        "these rules belong to `{}`, and others to `{}`",
                        name(other),
                        name(first)
                    ),
                )
                .help("import one policy or firewall, and give the rules of its parent with `--parent FILE`");
        }
    }
}

/// A policy's own list of groups, against those that were given.
fn check_listed(firewall: &Firewall, policies: &[PolicyFacts], report: &mut Report) {
    for facts in policies {
        for listed in &facts.groups {
            let given = firewall
                .groups
                .iter()
                .any(|group| group.name.as_deref().is_some_and(|name| same(name, &listed.value)));
            if !given {
                report
                    .note(
                        Kind::Incomplete,
                        &listed.at,
                        format!(
                            "the policy has a group `{}` that was not given",
                            shortened(&listed.value)
                        ),
                    )
                    .help(EXPORT);
            }
        }
    }
}

fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}
