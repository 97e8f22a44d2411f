//! What a text is, before anyone reads rules in it: JSON or a source language, a template, parameters.
//! Must not read rules.
//! Called by the reader of files.

use crate::azure::json::{EXPORT, Json};
use crate::azure::report::{Kind, Place, Report};

pub(super) fn is_template(json: &Json) -> bool {
    let schema = json
        .find("$schema")
        .and_then(Json::as_text)
        .unwrap_or_default()
        .to_ascii_lowercase();
    let by_schema = schema.contains("deploymenttemplate");
    by_schema
        || json.find("resources").is_some() && json.find("type").is_none() && json.find("contentVersion").is_some()
}

pub(super) fn is_parameter_file(json: &Json) -> bool {
    let schema = json
        .find("$schema")
        .and_then(Json::as_text)
        .unwrap_or_default()
        .to_ascii_lowercase();
    schema.contains("deploymentparameters")
        || json.find("parameters").is_some() && json.find("resources").is_none() && json.find("type").is_none()
}

/// Whether some key in it is one of rules.
pub(super) fn speaks_of_rules(json: &Json) -> bool {
    match json {
        Json::List(items) => items.iter().any(speaks_of_rules),
        Json::Map(entries) => entries.iter().any(|(key, value)| {
            RULE_KEYS.iter().any(|known| known.eq_ignore_ascii_case(key)) || speaks_of_rules(value)
        }),
        _ => false,
    }
}

/// Bicep or HCL, and the command that gives JSON.
pub(super) fn source_code(name: &str, text: &str) -> Option<(&'static str, &'static str)> {
    let name = name.to_ascii_lowercase();
    let first = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with("//") && !line.starts_with('#'));
    let word = first
        .unwrap_or_default()
        .split([' ', '(', '='])
        .next()
        .unwrap_or_default();
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
    let looks_like_json = text.trim_start_matches('\u{feff}').trim_start().starts_with(['{', '[']);
    if looks_like_json {
        return None;
    }
    let quoted = first.is_some_and(|line| line.contains('"') && line.ends_with('{'));
    // What a file is called says more than its first line: the two languages look alike there.
    let called_bicep = ends(&[".bicep", ".bicepparam"]);
    let called_hcl = ends(&[".tf", ".hcl", ".tfvars"]);
    if called_hcl
        || !called_bicep
            && [
                "resource",
                "provider",
                "variable",
                "module",
                "locals",
                "terraform",
                "data",
            ]
            .contains(&word)
            && (quoted || first.is_some_and(|line| line.ends_with('{') && !line.contains('\'')))
    {
        return Some((
            "HCL",
            "`terraform show -json PLAN` prints a plan as JSON, without PLAN the state",
        ));
    }
    if called_bicep
        || [
            "targetScope",
            "param",
            "resource",
            "var",
            "module",
            "using",
            "metadata",
            "import",
            "type",
        ]
        .contains(&word)
        || word.starts_with('@')
    {
        return Some((
            "Bicep",
            "`bicep build FILE --stdout` gives a template; best is what Azure has made of it: `az network firewall policy rule-collection-group list --policy-name POLICY -g GROUP -o json`",
        ));
    }
    None
}

pub(super) fn refuse_text(text: &str, at: &Place, why: &str, report: &mut Report) {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.is_empty() {
        report.note(Kind::NoRules, at, "the file is empty").help(EXPORT);
        return;
    }
    let finding = report.note(Kind::NotJson, at, format!("this is not JSON: {why}"));
    if text.starts_with("//")
        || text.starts_with("/*")
        || text.contains("\n//")
        || text.contains(" //")
        || text.contains("/*")
    {
        finding.help("JSON has no comments: remove them, or give what Azure has made of the template");
    } else if !text.starts_with(['{', '[']) {
        finding.help("give JSON: `-o json` of `az`, `-json` of `terraform show`");
    }
}

const RULE_KEYS: &[&str] = &[
    "applicationRuleCollections",
    "destinationFqdns",
    "destinationPorts",
    "fqdnTags",
    "ipAddresses",
    "networkRuleCollections",
    "ruleCollections",
    "ruleCollectionType",
    "ruleType",
    "rules",
    "sourceAddresses",
    "sourceIpGroups",
    "targetFqdns",
    "webCategories",
];
