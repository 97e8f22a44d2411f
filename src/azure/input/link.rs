//! Whether groups are those of one firewall, and which of them come from the parent of its policy.
//! Must not guess: rules that may not belong together are an error.
//! Called when all files are read.

use crate::azure::arm::policy::PolicyFacts;
use crate::azure::json::{EXPORT, shortened};
use crate::azure::model::{Firewall, Group};
use crate::azure::report::{Kind, Report};

/// Makes sure that all groups are those of one firewall, and knows which come from the parent.
pub(super) fn link(firewall: &mut Firewall, policies: &[PolicyFacts], parents_given: bool, report: &mut Report) {
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
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
    for name in &names {
        let Some(base) = base_of(name) else { continue };
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
    for parent in [false, true] {
        let mut of_level = firewall
            .groups
            .iter()
            .filter(|group| group.parent == parent && group.policy.is_some());
        if let Some(first) = of_level.next()
            && let Some(other) = of_level.find(|group| {
                !same(
                    group.policy.as_deref().unwrap_or_default(),
                    first.policy.as_deref().unwrap_or_default(),
                )
            })
        {
            let name = |group: &Group| shortened(group.policy.as_deref().unwrap_or_default()).replace('\u{fffd}', "");
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
