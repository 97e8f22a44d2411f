//! Tests of the policy, as written: who asks for what, and which answer is right.
//! Must not run them; the gate does.
//! Called by the reader of a file.

use std::net::IpAddr;

use super::{Text, address, destination};
use crate::name::{Host, Port};
use crate::policy::problem::{At, Problems};
use crate::policy::rule::Scheme;
use crate::policy::yaml::{
    Node, Value,
    typed::{self, Empty},
};

/// One entry of `expect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Absent: every source.
    pub from: Option<Vec<At<Tester>>>,
    pub verdict: Verdict,
    pub of: Vec<At<Wanted>>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tester {
    Workload(Text),
    Address(IpAddr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Deny,
}

/// One exact destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub scheme: Scheme,
    pub host: Host,
    pub port: Port,
}

pub(super) fn read(node: &Node<'_>, problems: &mut Problems<'_>) -> Option<At<Expectation>> {
    if matches!(node.value, Value::Refused) {
        return None;
    }
    let errors = problems.errors();
    let fields = typed::fields(node, "an entry of `expect`", &["from", "allow", "deny"], problems)?;
    let (verdict, wanted) = match (fields.value("allow"), fields.value("deny")) {
        (Some(node), None) => (Verdict::Allow, node),
        (None, Some(node)) => (Verdict::Deny, node),
        // An unknown key may well have been meant for one of them.
        (None, None) if problems.errors() > errors => return None,
        (both, _) => {
            let what = if both.is_some() { "not both" } else { "one of them" };
            problems
                .error(node.at, format!("a test says `allow` or `deny`: {what}"))
                .help("write `{from: WORKLOAD, allow: https://api.example.com}`");
            return None;
        }
    };
    // Everything has its say before the entry fails.
    let from = fields.value("from").map(|node| testers(node, problems));
    let what = if verdict == Verdict::Allow { "`allow`" } else { "`deny`" };
    let items = one_or_more(wanted, what, problems)?;
    let of: Vec<_> = items
        .iter()
        .map(|item| destination::read(item, destination::parse_exact, problems))
        .collect();
    let of = of
        .into_iter()
        .map(|wanted| Some(wanted?.map(|(scheme, host, port)| Wanted { scheme, host, port })))
        .collect::<Option<_>>()?;
    let from = match from {
        None => None,
        Some(testers) => Some(testers?),
    };
    let value = Expectation { from, verdict, of };
    Some(At { value, at: node.at })
}

fn testers(node: &Node<'_>, problems: &mut Problems<'_>) -> Option<Vec<At<Tester>>> {
    let items = one_or_more(node, "`from`", problems)?;
    let all: Vec<_> = items.iter().map(|item| tester(item, problems)).collect();
    all.into_iter().collect()
}

fn tester(item: &Node<'_>, problems: &mut Problems<'_>) -> Option<At<Tester>> {
    let text = typed::text(item, "`from`", problems)?;
    let value = match (text.parse(), address::network(text)) {
        (Ok(address), _) => Tester::Address(address),
        (Err(_), None) => Tester::Workload(text.into()),
        (Err(_), Some(_)) => {
            problems
                .error(item.at, format!("`{text}` is not one address"))
                .help("a test asks as a workload or as one address");
            return None;
        }
    };
    Some(At { value, at: item.at })
}

fn one_or_more<'n, 't>(node: &'n Node<'t>, what: &str, problems: &mut Problems<'_>) -> Option<&'n [Node<'t>]> {
    match node.value {
        Value::List(_) => typed::list(node, what, Empty::Refused, problems),
        _ => Some(std::slice::from_ref(node)),
    }
}
