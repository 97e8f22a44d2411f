//! The gate against the model, flow by flow, with the differences that the report of an import names.
//! Must not excuse more than the report does: where ours opens what Azure closes there is no excuse but those.
//! Called by the tests of import and export.

use jiff::Timestamp;
use serde_json::Value;
use sluicegate::name::{Host, HostName, Port};
use sluicegate::policy::{
    Action, Ask, Decision, Generation, Inspect, Policy, Seen, Source, SourceText, gate, load, render,
};

use super::model::{Answer, Firewall, Flow, Kind, Protocol, matches_name};

/// A policy, the rules that it was made from, and what its making reported.
#[derive(Debug)]
pub struct Pair {
    pub firewall: Firewall,
    pub policy: Policy,
    /// The resources as they stand.
    pub documents: Vec<Value>,
    /// Kinds of findings.
    pub reported: Vec<String>,
}

/// How often a comparison said something.
#[derive(Debug, Default)]
pub struct Tally {
    pub allowed: usize,
    pub denied: usize,
    pub excused: usize,
}

impl Pair {
    /// Compares one flow; an error says how the two differ.
    pub fn compare(&self, flow: &Flow, tally: &mut Tally) -> Result<(), String> {
        let theirs = self.firewall.answer(flow);
        let ours = ours(&self.policy, flow);
        match (ours.is_allowed(), theirs.allowed) {
            (true, true) => tally.allowed += 1,
            (false, false) => tally.denied += 1,
            (true, false) if self.opens(flow) || self.is_listed(&ours) => tally.excused += 1,
            (false, true) if self.narrows(flow, &theirs) => tally.excused += 1,
            _ => {
                let rule = ours
                    .rule
                    .and_then(|id| self.policy.rule(id))
                    .map(|rule| format!("{} {}", rule.at, rule.name));
                return Err(format!(
                    "{flow:?}\n  Azure: {theirs:?}\n  we: {:?} {} {rule:?}\n  reported: {:?}",
                    ours.action,
                    ours.reason.as_str(),
                    self.reported
                ));
            }
        }
        Ok(())
    }

    /// What we let through and Azure does not, and the report says so.
    fn opens(&self, flow: &Flow) -> bool {
        // `mssql`: the bytes of a SQL rule are not looked at.
        let sql = Flow {
            protocol: Protocol::Mssql,
            ..flow.clone()
        };
        let sql = flow.protocol != Protocol::Mssql && self.says("mssql") && self.firewall.answer(&sql).allowed;
        // `network-fqdn`: a name in a network rule is judged as the name, whatever it resolves to.
        let unresolved = Flow {
            address: None,
            ..flow.clone()
        };
        let by_name = flow.name.is_some() && self.says("network-fqdn") && self.firewall.answer(&unresolved).allowed;
        sql || by_name && flow.address.is_none()
    }

    /// `fqdn-tag-list`: what a tag stands for in Azure is not published, and so the model knows nothing of it.
    fn is_listed(&self, ours: &Decision) -> bool {
        let rule = ours.rule.and_then(|id| self.policy.rule(id));
        self.says("fqdn-tag-list") && rule.is_some_and(|rule| rule.name.starts_with("AzureKubernetesService: "))
    }

    /// What Azure lets through and we do not, and the report says so.
    fn narrows(&self, flow: &Flow, theirs: &Answer) -> bool {
        let Some(by) = &theirs.by else { return false };
        let rule = self.rule(&by.group, &by.collection, &by.rule);
        let lists = |key: &str| rule[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        if let Some(name) = &flow.name {
            // `address-rule`: an address never opens a name that resolves to it.
            let named = lists("destinationFqdns").any(|own| matches_name(own, name));
            if by.kind == Kind::Network && !named && self.says("address-rule") {
                return true;
            }
            // `star-without-dot`: `*x` became `x` and `*.x`.
            let dotted = |pattern: &str| match pattern.strip_prefix('*') {
                Some(rest) if !rest.starts_with('.') => {
                    matches_name(rest, name) || matches_name(&format!("*.{rest}"), name)
                }
                _ => matches_name(pattern, name),
            };
            if by.kind == Kind::Application && !lists("targetFqdns").any(dotted) && self.says("star-without-dot") {
                return true;
            }
        }
        // `deny-protocol`: ours closes a port for all that is spoken there.
        let others = [Protocol::Http, Protocol::Https, Protocol::Mssql];
        self.says("deny-protocol")
            && others.iter().any(|other| {
                self.is_denied_by_rule(&Flow {
                    protocol: *other,
                    ..flow.clone()
                })
            })
    }

    fn is_denied_by_rule(&self, flow: &Flow) -> bool {
        let answer = self.firewall.answer(flow);
        !answer.allowed && answer.by.is_some_and(|by| by.kind == Kind::Application)
    }

    fn says(&self, kind: &str) -> bool {
        self.reported.iter().any(|reported| reported == kind)
    }

    /// The rule as it stands in the file.
    fn rule(&self, group: &str, collection: &str, rule: &str) -> &Value {
        let found = self
            .documents
            .iter()
            .find_map(|document| find(document, &[group, collection, rule]));
        found.unwrap_or(&Value::Null)
    }
}

/// What the proxy would do: first with nothing seen, then with what the protocol shows.
pub fn ours(policy: &Policy, flow: &Flow) -> Decision {
    let source = Source::at(flow.source);
    let host = match &flow.name {
        Some(name) => Host::parse(name.as_bytes()).unwrap(),
        None => Host::Address(flow.address.unwrap()),
    };
    let mut ask = Ask::new(host, Port::new(flow.port).unwrap());
    if let Some(address) = flow.address {
        ask = ask.dialling(address);
    }
    let seen = match flow.protocol {
        Protocol::Http => Seen::Http,
        Protocol::Https => Seen::Hello {
            sni: ask
                .host
                .name()
                .map(|name| HostName::parse(name.as_str().as_bytes()).unwrap()),
            ech: false,
        },
        Protocol::Mssql | Protocol::Tcp => Seen::Other,
    };
    let first = gate(policy, now(), &source, &ask);
    match first.action {
        Action::Deny | Action::Allow(Inspect::Nothing) => first,
        Action::Allow(_) => gate(policy, now(), &source, &ask.seeing(seen)),
    }
}

/// The texts of a policy, compiled.
pub fn compiled(texts: &[&str]) -> Policy {
    let texts: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(number, text)| SourceText {
            name: format!("{number}.yaml").into(),
            text: (*text).into(),
        })
        .collect();
    match load(&texts, now(), Generation(1), None) {
        Ok(loaded) => loaded.policy,
        Err(problems) => panic!("{}", render(&problems, &texts, false)),
    }
}

pub fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

/// What has these names, one inside of the other; groups are called `policy/group`.
fn find<'v>(value: &'v Value, names: &[&str]) -> Option<&'v Value> {
    let [first, rest @ ..] = names else { return Some(value) };
    match value {
        Value::Object(fields) => {
            let own = fields.get("name").and_then(Value::as_str).unwrap_or_default();
            let is_it = own == *first
                || own
                    .trim_end_matches(&[')', ']', '\''][..])
                    .ends_with(&format!("/{first}"));
            let rest = if is_it || first.is_empty() { rest } else { names };
            if rest.is_empty() {
                return Some(value);
            }
            fields.values().find_map(|field| find(field, rest))
        }
        Value::Array(items) => items.iter().find_map(|item| find(item, names)),
        _ => None,
    }
}
