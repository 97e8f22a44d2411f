//! One admission rule: a `ValidatingAdmissionPolicy` with its binding, and the pieces of CEL that several rules share.
//! Must not know what a rule is for. Plain CEL only: macros and operators, none of Kubernetes' own libraries.
//! Called by the rules. Source: kubernetes.io "Validating Admission Policy".

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec, Validation,
    Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::kubernetes::object::{Object, cluster_metadata};
use crate::kubernetes::selector::NAMESPACE_NAME;

/// What is judged, for whom, and what must hold.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) purpose: String,
    pub(super) namespaces: Option<LabelSelector>,
    pub(super) resources: Vec<NamedRuleWithOperations>,
    /// Name and expression; the rule is for requests for which all of them hold.
    pub(super) conditions: Vec<(&'static str, String)>,
    /// Name and expression; each may use those before it.
    pub(super) variables: Vec<(&'static str, String)>,
    /// What must hold, and what is said to who asks for something else.
    pub(super) validations: Vec<(String, String)>,
}

impl Rule {
    /// The policy and what puts it into force. An expression that fails refuses the request.
    pub(super) fn objects(self) -> [Object; 2] {
        let policy = ValidatingAdmissionPolicy {
            metadata: cluster_metadata(&*self.name, &*self.purpose),
            spec: Some(ValidatingAdmissionPolicySpec {
                failure_policy: Some("Fail".to_owned()),
                match_conditions: some(self.conditions.into_iter().map(condition)),
                match_constraints: Some(constraints(self.namespaces, self.resources)),
                validations: some(self.validations.into_iter().map(|(expression, message)| Validation {
                    expression,
                    message: Some(message),
                    reason: Some("Forbidden".to_owned()),
                    ..Validation::default()
                })),
                variables: some(self.variables.into_iter().map(|(name, expression)| Variable {
                    expression,
                    name: name.to_owned(),
                })),
                ..ValidatingAdmissionPolicySpec::default()
            }),
            ..ValidatingAdmissionPolicy::default()
        };
        let binding = ValidatingAdmissionPolicyBinding {
            metadata: cluster_metadata(&*self.name, "puts the policy of the same name into force"),
            spec: ValidatingAdmissionPolicyBindingSpec {
                policy_name: self.name,
                validation_actions: vec!["Deny".to_owned()],
                ..ValidatingAdmissionPolicyBindingSpec::default()
            },
        };
        [Object::of(&policy), Object::of(&binding)]
    }
}

pub(in crate::kubernetes) fn condition((name, expression): (&str, String)) -> MatchCondition {
    MatchCondition {
        expression,
        name: name.to_owned(),
    }
}

/// Also in the versions of an API that are not named, which the API server translates first.
pub(in crate::kubernetes) fn constraints(
    namespaces: Option<LabelSelector>,
    resources: Vec<NamedRuleWithOperations>,
) -> MatchResources {
    MatchResources {
        match_policy: Some("Equivalent".to_owned()),
        namespace_selector: namespaces,
        resource_rules: Some(resources),
        ..MatchResources::default()
    }
}

/// Requests of these operations for these resources.
pub(in crate::kubernetes) fn resources(
    group: &str,
    version: &str,
    resources: &[&str],
    operations: &[&str],
) -> NamedRuleWithOperations {
    let owned = |items: &[&str]| Some(items.iter().map(|item| (*item).to_owned()).collect());
    NamedRuleWithOperations {
        api_groups: owned(&[group]),
        api_versions: owned(&[version]),
        operations: owned(operations),
        resources: owned(resources),
        ..NamedRuleWithOperations::default()
    }
}

/// These namespaces, by the one label that nobody can forge or take away.
pub(in crate::kubernetes) fn in_namespaces(names: &[&str]) -> LabelSelector {
    by_name("In", names)
}

pub(super) fn not_in_namespaces(names: &[&str]) -> LabelSelector {
    by_name("NotIn", names)
}

fn by_name(operator: &str, names: &[&str]) -> LabelSelector {
    LabelSelector {
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: NAMESPACE_NAME.to_owned(),
            operator: operator.to_owned(),
            values: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        }]),
        match_labels: None,
    }
}

/// Who asks is none of these users, and in none of these groups.
pub(super) fn is_none_of(users: &[&str], groups: &[&str]) -> String {
    let by_name = (!users.is_empty()).then(|| format!("request.userInfo.username in {}", list(users)));
    let by_group = (!groups.is_empty()).then(|| {
        format!(
            "(has(request.userInfo.groups) && request.userInfo.groups.exists(group, group in {}))",
            list(groups)
        )
    });
    let ways: Vec<_> = by_name.into_iter().chain(by_group).collect();
    format!("!({})", ways.join(" || "))
}

pub(super) fn list(items: &[&str]) -> String {
    let items: Vec<_> = items.iter().map(|item| literal(item)).collect();
    format!("[{}]", items.join(", "))
}

/// A text in an expression.
pub(in crate::kubernetes) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

fn some<T>(items: impl Iterator<Item = T>) -> Option<Vec<T>> {
    let items: Vec<_> = items.collect();
    (!items.is_empty()).then_some(items)
}

pub(in crate::kubernetes) const CREATE: &str = "CREATE";
pub(super) const UPDATE: &str = "UPDATE";
pub(super) const DELETE: &str = "DELETE";
pub(super) const CONNECT: &str = "CONNECT";
