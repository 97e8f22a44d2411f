//! Allow and deny entries: a destination alone, or a map with more.
//! Must not expand presets or look at other files; what refers to workloads is checked when all files are read.
//! Called by the reader of a file.

mod choice;

use ipnet::IpNet;
use jiff::civil::Date;

use super::destination::{self, Role};
use super::{Accept, Shared, Text, accept, address, syntax};
use crate::address::translated_net;
use crate::policy::problem::lint::Bearer;
use crate::policy::problem::{At, Place, Problems};
use crate::policy::rule::{Destination, Few, HostMatch, Peer, Scheme, SniCheck};
use crate::policy::yaml::{
    Node, Value,
    typed::{self, Empty, Fields},
};

pub use choice::Choice;

/// One entry of `allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowRule {
    pub opens: Opens,
    /// Absent: every source. In a file with `scope`, the scope.
    pub from: Option<Vec<At<Peer>>>,
    /// Boxed, as most rules have none.
    pub notes: Option<Box<Notes>>,
    pub checks: Option<Box<Checks>>,
}

/// What an allow entry opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opens {
    To(Few<At<Destination>>),
    /// A maintained list, such as `aks/core`.
    Preset(At<Text>),
    /// Azure's tags, at least one; each stands for presets.
    Tags(Vec<At<Text>>),
}

/// One entry of `deny`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenyRule {
    pub to: Few<At<Destination>>,
    pub from: Option<Vec<At<Peer>>>,
    pub notes: Option<Box<Notes>>,
}

/// What a rule is called, how long it holds and on whose behalf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    pub name: Option<At<Text>>,
    /// To the end of that day, UTC.
    pub until: Option<At<Date>>,
    pub owner: Option<Text>,
    pub reason: Option<Text>,
    /// The warnings that stand where they are.
    pub accept: Vec<At<Accept>>,
}

/// How an allow rule looks at addresses and into the tunnel, where that is not the usual way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    pub addresses: Vec<At<IpNet>>,
    pub sni: SniCheck,
    pub no_sni: bool,
    pub ech_outer: bool,
    pub report: bool,
    /// Of a preset: what it is filled with, and which of its rows.
    pub rows: Option<Box<Choice>>,
}

pub(super) fn read_allow(node: &Node<'_>, shared: &mut Shared, problems: &mut Problems<'_>) -> Option<At<AllowRule>> {
    if let Some(to) = alone(node, Role::Allow, problems) {
        let to = to?;
        refuse_unnamed(&to, problems);
        let value = AllowRule {
            opens: Opens::To(to.into()),
            from: None,
            notes: None,
            checks: None,
        };
        return Some(At { value, at: node.at });
    }
    let errors = problems.errors();
    let fields = typed::fields(node, "an allow rule", &ALLOW_KEYS, problems)?;
    let keys_fit = problems.errors() == errors;
    let opens = match (fields.value("to"), fields.value("preset"), fields.value("fqdnTags")) {
        (Some(node), None, None) => Some(Opens::To(to(node, Role::Allow, problems))),
        (None, Some(node), None) => preset(node, &fields, problems),
        (None, None, Some(node)) => tags(node, &fields, problems),
        (_, Some(second), None) | (_, _, Some(second)) => {
            problems
                .error(second.at, "a rule has only one of `to`, `preset` and `fqdnTags`")
                .help("make an entry of each");
            None
        }
        (None, None, None) => {
            // An unknown key may well have been meant for it.
            if keys_fit {
                refuse_aimless(node, problems);
            }
            None
        }
    };
    let from = from(&fields, shared, problems);
    let notes = notes(&fields, shared, problems);
    let checks = checks(&fields, opens.as_ref(), problems);
    let value = AllowRule {
        opens: opens?,
        from: from?,
        notes,
        checks,
    };
    Some(At { value, at: node.at })
}

pub(super) fn read_deny(node: &Node<'_>, shared: &mut Shared, problems: &mut Problems<'_>) -> Option<At<DenyRule>> {
    if let Some(to) = alone(node, Role::Deny, problems) {
        let value = DenyRule {
            to: to?.into(),
            from: None,
            notes: None,
        };
        return Some(At { value, at: node.at });
    }
    let errors = problems.errors();
    let entries = typed::map(node, "a deny rule", problems)?;
    for (key, value) in entries {
        let Value::Text(name) = &key.value else { continue };
        if DENY_KEYS.contains(&&**name) {
            continue;
        }
        if ALLOW_KEYS.contains(&&**name) {
            problems
                .error(key.at, format!("`{name}` means nothing in a deny rule"))
                .help("a deny rule closes names and addresses whatever is seen on the wire; remove the key");
        } else {
            typed::refuse_key(key, name, value, "a deny rule", &DENY_KEYS, problems);
        }
    }
    let fields = Fields::of(entries);
    let Some(closes) = fields.value("to") else {
        if problems.errors() == errors {
            refuse_aimless(node, problems);
        }
        return None;
    };
    let value = DenyRule {
        to: to(closes, Role::Deny, problems),
        from: from(&fields, shared, problems)?,
        notes: notes(&fields, shared, problems),
    };
    Some(At { value, at: node.at })
}

/// An entry that is only a destination. The inner nothing: it is one, but a wrong one.
#[expect(clippy::option_option, reason = "three answers: not text, wrong text, a destination")]
fn alone(node: &Node<'_>, role: Role, problems: &mut Problems<'_>) -> Option<Option<At<Destination>>> {
    match &node.value {
        Value::Map(_) => None,
        Value::Text(text) if text.split_once(":[").is_some_and(|(key, _)| ALLOW_KEYS.contains(&key)) => {
            let (key, list) = text.split_once(':').unwrap_or((text, ""));
            problems
                .error(node.at, "a key needs a space after its colon")
                .help(format!("write `{key}: {list}`"));
            Some(None)
        }
        Value::Text(_) => Some(rule_destination(node, role, problems)),
        Value::Refused => Some(None),
        _ => {
            let help = match &node.value {
                Value::List(_)
                    if problems.quote(node.at).starts_with('[') && !problems.quote(node.at).contains('\n') =>
                {
                    format!("write `{{to: {}}}`", problems.quote(node.at))
                }
                Value::List(_) => "put `to: ` before the list, behind the first dash".to_owned(),
                Value::Null => "write a destination behind the dash, or remove it".to_owned(),
                _ => {
                    "a destination is written `api.example.com`, a rule with more `{to: [api.example.com]}`".to_owned()
                }
            };
            let message = format!("a rule must be a destination or a map, not {}", node.kind());
            problems.error(node.at, message).help(help);
            Some(None)
        }
    }
}

fn refuse_aimless(node: &Node<'_>, problems: &mut Problems<'_>) {
    problems
        .error(node.at, "the rule does not say what it is about")
        .help("add `to: [api.example.com]`");
}

fn to(node: &Node<'_>, role: Role, problems: &mut Problems<'_>) -> Few<At<Destination>> {
    let items = typed::list(node, "`to`", Empty::Refused, problems).unwrap_or_default();
    let read = items.iter().filter_map(|item| rule_destination(item, role, problems));
    read.collect()
}

fn rule_destination(node: &Node<'_>, role: Role, problems: &mut Problems<'_>) -> Option<At<Destination>> {
    let to = destination::read(node, |text| destination::parse(text, role), problems)?;
    if role == Role::Allow
        && let HostMatch::Cidr(network) = to.value.host
        && translated_net(network).prefix_len() >= NAMING
        && let Some(never) = address::never(network)
    {
        let help = if never.inside {
            "remove the line: no rule can open it"
        } else {
            "name a range without it: no rule can open it"
        };
        problems.error(node.at, never.why).help(help);
        return None;
    }
    Some(to)
}

/// The sources of a rule; the outer nothing: they were wrong.
#[expect(
    clippy::option_option,
    reason = "an absent `from` and a wrong one are different things"
)]
fn from(fields: &Fields<'_, '_>, shared: &mut Shared, problems: &mut Problems<'_>) -> Option<Option<Vec<At<Peer>>>> {
    let Some(node) = fields.value("from") else {
        return Some(None);
    };
    let items = typed::list(node, "`from`", Empty::Refused, problems)?;
    // Each item has its say before the list fails.
    let read = |item: &Node<'_>| peer(item, shared, problems).map(|value| At { value, at: item.at });
    let all: Vec<_> = items.iter().map(read).collect();
    all.into_iter().collect::<Option<_>>().map(Some)
}

fn peer(item: &Node<'_>, shared: &mut Shared, problems: &mut Problems<'_>) -> Option<Peer> {
    let text = &*typed::raw(item, "an item of `from`", problems)?;
    match address::network(text) {
        None if text == "*" => {
            problems
                .error(item.at, format!("`{text}` is neither a workload nor an address"))
                .help("remove `from`: a rule without it is for every source");
            None
        }
        None => Some(Peer::Workload(shared.text(text))),
        Some(Ok(network)) => Some(Peer::Cidr(network)),
        Some(Err(bad)) => {
            problems.error(item.at, bad.why).help(bad.help);
            None
        }
    }
}

fn notes(fields: &Fields<'_, '_>, shared: &mut Shared, problems: &mut Problems<'_>) -> Option<Box<Notes>> {
    let mut line = |key: &str, what: &str| {
        let node = fields.value(key)?;
        Some((syntax::line(node, what, problems)?, node.at))
    };
    let (name, owner) = (line("name", "`name`"), line("owner", "`owner`"));
    let reason = line("reason", "`reason`");
    let until = fields
        .value("until")
        .and_then(|node| syntax::date(node, "`until`", problems));
    let notes = Notes {
        name: name.map(|(name, at)| At { value: name.into(), at }),
        until,
        owner: owner.map(|(owner, _)| shared.text(owner)),
        reason: reason.map(|(reason, _)| reason.into()),
        accept: fields
            .value("accept")
            .map(|node| accept::read(node, Bearer::Rule, problems))
            .unwrap_or_default(),
    };
    (notes != Notes::default()).then(|| Box::new(notes))
}

fn preset(node: &Node<'_>, fields: &Fields<'_, '_>, problems: &mut Problems<'_>) -> Option<Opens> {
    refuse_beside(
        "preset",
        &["name", "addresses", "sni", "no_sni", "ech"],
        fields,
        problems,
    );
    let name = typed::text(node, "`preset`", problems)?;
    Some(Opens::Preset(At {
        value: name.into(),
        at: node.at,
    }))
}

/// The name of such a rule is that of Azure; what it opens is called by its rows, as with presets.
fn tags(node: &Node<'_>, fields: &Fields<'_, '_>, problems: &mut Problems<'_>) -> Option<Opens> {
    refuse_beside("fqdnTags", &["addresses", "sni", "no_sni", "ech"], fields, problems);
    let items = typed::list(node, "`fqdnTags`", Empty::Refused, problems)?;
    let mut tags: Vec<At<Text>> = Vec::with_capacity(items.len());
    for item in items {
        let Some(name) = typed::text(item, "an item of `fqdnTags`", problems) else {
            continue;
        };
        if tags.iter().any(|tag| &*tag.value == name) {
            problems
                .error(item.at, format!("`{name}` stands here a second time"))
                .help("keep one of them");
            continue;
        }
        tags.push(At {
            value: name.into(),
            at: item.at,
        });
    }
    Some(Opens::Tags(tags))
}

fn refuse_beside(what: &str, keys: &[&str], fields: &Fields<'_, '_>, problems: &mut Problems<'_>) {
    for key in keys {
        if let Some(at) = fields.place(key) {
            problems
                .error(at, format!("`{key}` means nothing beside `{what}`"))
                .help("the rows of a preset bring their own; remove the key");
        }
    }
}

fn checks(fields: &Fields<'_, '_>, opens: Option<&Opens>, problems: &mut Problems<'_>) -> Option<Box<Checks>> {
    let mut checks = Checks::default();
    if let Some(node) = fields.value("addresses") {
        checks.addresses = address::networks(node, "`addresses`", problems);
        for range in &checks.addresses {
            refuse_wide(range, problems);
        }
    }
    if let Some(node) = fields.value("sni") {
        checks.sni = typed::word(node, "`sni`", &SNI, problems).unwrap_or_default();
    }
    if let Some(node) = fields.value("no_sni") {
        checks.no_sni = typed::word(node, "`no_sni`", &NO_SNI, problems).unwrap_or_default();
    }
    if let Some(node) = fields.value("ech") {
        checks.ech_outer = typed::word(node, "`ech`", &ECH, problems).unwrap_or_default();
    }
    if let Some(node) = fields.value("report") {
        checks.report = typed::flag(node, "`report`", problems).unwrap_or_default();
    }
    checks.rows = choice::read(fields, problems);
    if let Some(Opens::To(to)) = opens {
        check_tls(fields, to, &checks, problems);
    }
    (checks != Checks::default()).then(|| Box::new(checks))
}

/// `addresses` opens ranges beyond the public space, so it must not name what is never dialled, nor everything.
fn refuse_wide(range: &At<IpNet>, problems: &mut Problems<'_>) {
    if range.value.prefix_len() == 0 {
        problems
            .error(range.at, format!("`{}` is every address", range.value))
            .help("name the private range that the answers lie in, such as `10.1.2.0/24`");
    } else if let Some(never) = address::never(range.value) {
        let help = if never.inside {
            "remove it: no rule can open it"
        } else {
            "name a range without it: no rule can open it"
        };
        problems.error(range.at, never.why).help(help);
    }
}

/// What is looked at in a tunnel concerns TLS; and an address behind `tls` has no name that could be compared.
fn check_tls(fields: &Fields<'_, '_>, to: &[At<Destination>], checks: &Checks, problems: &mut Problems<'_>) {
    let looked_into = to.iter().any(|to| to.value.scheme == Some(Scheme::Tls));
    if !looked_into && !to.is_empty() {
        for key in ["sni", "no_sni", "ech"] {
            if let Some(at) = fields.place(key) {
                problems
                    .error(at, format!("`{key}` means nothing here"))
                    .help("only `https` and `tls` destinations are looked into; remove the key");
            }
        }
    }
    if checks.sni == SniCheck::Strict && !checks.no_sni {
        for to in to {
            refuse_unnamed(to, problems);
        }
    }
}

/// `tls` to an address, where the SNI would have to be that address.
fn refuse_unnamed(to: &At<Destination>, problems: &mut Problems<'_>) {
    if to.value.scheme == Some(Scheme::Tls) && matches!(to.value.host, HostMatch::Cidr(_)) {
        problems
            .error(to.at, "a ClientHello never names an address, so this could never match")
            .help("add `sni: listed`, `sni: off` or `no_sni: allow` to the rule, or use `tcp://`");
    }
}

/// The places of a rule that a scope must agree with.
pub(super) fn sources(from: Option<&[At<Peer>]>) -> impl Iterator<Item = (&Peer, Place)> {
    from.unwrap_or_default().iter().map(|peer| (&peer.value, peer.at))
}

/// A range as narrow as this, of either family, that holds what is never dialled names it. A wider one, such as
/// `0.0.0.0/0`, means the public space; what is never dialled stays closed in it.
const NAMING: u8 = 8;
const ALLOW_KEYS: [&str; 17] = [
    "name",
    "from",
    "to",
    "until",
    "owner",
    "reason",
    "addresses",
    "sni",
    "no_sni",
    "ech",
    "report",
    "preset",
    "accept",
    "with",
    "without",
    "also",
    "fqdnTags",
];
const DENY_KEYS: [&str; 7] = ["name", "from", "to", "until", "owner", "reason", "accept"];
const SNI: [(&str, SniCheck); 3] = [
    ("strict", SniCheck::Strict),
    ("listed", SniCheck::Listed),
    ("off", SniCheck::Off),
];
const NO_SNI: [(&str, bool); 2] = [("allow", true), ("deny", false)];
const ECH: [(&str, bool); 2] = [("outer", true), ("deny", false)];
