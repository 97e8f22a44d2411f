//! One policy file into the document: its top-level keys, what may stand only once, and its `scope`.
//! Must not stop at the first problem; only a YAML error ends the file.
//! Called by the document, file by file, in order.

use std::collections::HashMap;

use super::expect::Tester;
use super::rule::sources;
use super::{Document, Group, Mode, Namespace, Shared, Text, Workload};
use super::{accept, cluster, collection, expect, rule, syntax, workload};
use crate::policy::problem::lint::Bearer;
use crate::policy::problem::{At, Place, Problems};
use crate::policy::rule::Peer;
use crate::policy::yaml::{
    Held, Node, Yaml,
    typed::{self, Empty},
};

/// Reads one file and adds what it says.
pub(super) fn read(file: u32, text: &str, document: &mut Document, problems: &mut Problems<'_>) {
    let expected = "a policy file begins with keys such as `allow:`, `deny:`, `workloads:`, each with a colon and a space or a new line behind it";
    let Some(mut yaml) = Yaml::open(file, text, expected, problems) else {
        return;
    };
    let before = Before::of(document);
    let errors = problems.errors();
    let mut seen: Vec<(String, Place)> = Vec::new();
    let mut scope = None;
    while let Some(key) = yaml.key(problems) {
        let name = typed::text(&key, "a key", problems).unwrap_or_default().to_owned();
        if let Some((_, twin)) = seen.iter().find(|(earlier, _)| *earlier == name) {
            typed::refuse_twin(key.at, *twin, &name, problems);
        }
        let more = match name.as_str() {
            "allow" | "deny" | "collections" | "expect" => rules(&mut yaml, &key, &name, document, problems),
            _ => match yaml.value(&key, problems) {
                Some(node) => {
                    other(&key, &name, &node, document, &mut scope, problems);
                    Some(())
                }
                None => None,
            },
        };
        seen.push((name, key.at));
        if more.is_none() {
            break;
        }
    }
    if seen.is_empty() && problems.errors() == errors {
        problems
            .error_of_file(file, "the file says nothing")
            .help("to deny everything on purpose, write `allow: []`");
    }
    if let Some((scope, at)) = scope {
        narrow(&scope, at, &seen, &before, document, problems);
    }
}

/// These lists may be long, so their items are read one by one.
fn rules<'t>(
    yaml: &mut Yaml<'t>,
    key: &Node<'t>,
    name: &str,
    document: &mut Document,
    problems: &mut Problems<'_>,
) -> Option<()> {
    document.says_allow |= name == "allow";
    match yaml.held(key, problems)? {
        Held::List => {}
        Held::Node(node) => {
            typed::list(&node, &format!("`{name}`"), Empty::Fine, problems);
            return Some(());
        }
    }
    // A list that grows by doubling leaves as much behind as it holds.
    match name {
        "allow" => document.allow.reserve(yaml.lines_with_dash()),
        "deny" => document.deny.reserve(yaml.lines_with_dash()),
        _ => {}
    }
    let mut shared = Shared::default();
    let mut held: Option<Node<'_>> = None;
    loop {
        let errors = problems.errors();
        let next = yaml.item(problems);
        // What stands before an error of the syntax was probably not meant as it reads.
        let is_cut = next.is_none() && problems.errors() > errors;
        if let Some(node) = held.take().filter(|_| !is_cut) {
            match name {
                "allow" => document.allow.extend(rule::read_allow(&node, &mut shared, problems)),
                "deny" => document.deny.extend(rule::read_deny(&node, &mut shared, problems)),
                "collections" => {
                    let read = collection::read(&node, &mut shared, problems);
                    document.collections.extend(read);
                }
                _ => document.expect.extend(expect::read(&node, problems)),
            }
        }
        if next.is_none() {
            return Some(());
        }
        held = next;
    }
}

fn other<'t>(
    key: &Node<'t>,
    name: &str,
    node: &Node<'t>,
    document: &mut Document,
    scope: &mut Option<(Vec<At<Text>>, Place)>,
    problems: &mut Problems<'_>,
) {
    match name {
        "cluster" => {
            let errors = problems.errors();
            let value = cluster::read(node, problems);
            document.doubts.facts |= problems.errors() > errors;
            once(name, key.at, value, &mut document.cluster, problems);
        }
        "mode" => {
            let value = typed::word(node, "`mode`", &MODES, problems);
            document.doubts.mode |= value.is_none();
            once(name, key.at, value, &mut document.mode, problems);
        }
        "report_until" => {
            let value = syntax::date(node, "`report_until`", problems).map(|date| date.value);
            document.doubts.mode |= value.is_none();
            once(name, node.at, value, &mut document.report_until, problems);
        }
        "lock" => {
            let value = cluster::read_lock(node, problems);
            once(name, key.at, value, &mut document.lock, problems);
        }
        "workloads" => {
            let read = workload::read_all(node, &mut document.doubts, problems);
            let name = |workload: &Workload| workload.name.to_string();
            add_new(read, &mut document.workloads, name, "workload", problems);
        }
        "groups" => {
            let errors = problems.errors();
            let read = collection::read_groups(node, problems);
            document.doubts.groups |= problems.errors() > errors;
            let name = |group: &Group| group.name.to_string();
            add_new(read, &mut document.groups, name, "group", problems);
        }
        "namespaces" => {
            let read = cluster::read_namespaces(node, problems);
            let name = |namespace: &Namespace| namespace.name.value.to_string();
            add_new(read, &mut document.namespaces, name, "namespace", problems);
        }
        "accept" => document.accept.extend(accept::read(node, Bearer::File, problems)),
        "scope" => {
            let Some(items) = typed::list(node, "`scope`", Empty::Refused, problems) else {
                return;
            };
            let mut names = Vec::with_capacity(items.len());
            for item in items {
                let name = typed::text(item, "an item of `scope`", problems);
                names.extend(name.map(|name| At {
                    value: name.into(),
                    at: item.at,
                }));
            }
            document.scopes.extend(names.iter().cloned());
            *scope = Some((names, key.at));
        }
        "" => {}
        _ => {
            typed::refuse_key(key, name, node, "a policy file", &KEYS, problems);
            // It may have been meant for any of these.
            document.doubts.facts = true;
            document.doubts.workloads = true;
            document.doubts.groups = true;
            document.doubts.mode = true;
        }
    }
}

/// Adds what other files have not named yet. Twice in one file was noted with the keys of the map.
fn add_new<T>(
    read: Vec<At<T>>,
    known: &mut Vec<At<T>>,
    name: impl Fn(&T) -> String,
    what: &str,
    problems: &mut Problems<'_>,
) {
    let mut places: HashMap<_, _> = known.iter().map(|known| (name(&known.value), known.at)).collect();
    for new in read {
        let name = name(&new.value);
        match places.get(&name) {
            Some(twin) if twin.file == new.at.file => {}
            Some(twin) => {
                let first = problems.position(*twin);
                problems
                    .error(new.at, format!("the {what} `{name}` stands in two files"))
                    .help(format!("it stands first at {first}; keep one of them"));
            }
            None => {
                places.insert(name, new.at);
                known.push(new);
            }
        }
    }
}

/// What one policy has one of.
fn once<T>(name: &str, at: Place, value: Option<T>, slot: &mut Option<At<T>>, problems: &mut Problems<'_>) {
    match slot {
        // Twice in one file was noted with the key.
        Some(first) if first.at.file == at.file => {}
        Some(first) => {
            let first = problems.position(first.at);
            problems
                .error(at, format!("`{name}` may stand only once in all files"))
                .help(format!("it stands first at {first}; keep one of them"));
        }
        None => *slot = value.map(|value| At { value, at }),
    }
}

/// How much of the document other files have said.
struct Before {
    allow: usize,
    deny: usize,
    expect: usize,
}

impl Before {
    fn of(document: &Document) -> Self {
        Self {
            allow: document.allow.len(),
            deny: document.deny.len(),
            expect: document.expect.len(),
        }
    }
}

/// Makes all that this file said speak for its scope only. What concerns everyone cannot stand in such a file.
fn narrow(
    scope: &[At<Text>],
    at: Place,
    seen: &[(String, Place)],
    before: &Before,
    document: &mut Document,
    problems: &mut Problems<'_>,
) {
    let first = problems.position(at);
    for (name, at) in seen {
        if GLOBAL.contains(&name.as_str()) {
            problems
                .error(*at, format!("`{name}` cannot stand in a file with `scope`"))
                .help(format!(
                    "the scope ({first}) limits this file to some workloads; move the key to another file"
                ));
        }
    }
    let within = |peer: &Peer| matches!(peer, Peer::Workload(name) if scope.iter().any(|scoped| scoped.value == *name));
    let everyone = || -> Vec<_> {
        let peers = scope.iter().map(|name| name.clone().map(Peer::Workload));
        peers.collect()
    };
    let mut outside = Vec::new();
    let allow = document
        .allow
        .iter_mut()
        .skip(before.allow)
        .map(|rule| &mut rule.value.from);
    let deny = document
        .deny
        .iter_mut()
        .skip(before.deny)
        .map(|rule| &mut rule.value.from);
    for from in allow.chain(deny) {
        let strangers = sources(from.as_deref()).filter(|(peer, _)| !within(peer));
        outside.extend(strangers.map(|(_, at)| at));
        from.get_or_insert_with(everyone);
    }
    for expectation in document.expect.iter_mut().skip(before.expect) {
        let testers = expectation.value.from.get_or_insert_with(|| {
            let testers = scope.iter().map(|name| name.clone().map(Tester::Workload));
            testers.collect()
        });
        for tester in testers {
            if !matches!(&tester.value, Tester::Workload(name) if within(&Peer::Workload(name.clone()))) {
                outside.push(tester.at);
            }
        }
    }
    for place in outside {
        let source = problems.quote(place).to_owned();
        problems
            .error(place, format!("`{source}` is not in the scope of this file"))
            .help(format!(
                "the file speaks only for the workloads of its `scope` ({first})"
            ));
    }
}

const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("report", Mode::Report)];
const GLOBAL: [&str; 9] = [
    "accept",
    "cluster",
    "mode",
    "report_until",
    "lock",
    "workloads",
    "namespaces",
    "groups",
    "collections",
];
const KEYS: [&str; 13] = [
    "accept",
    "cluster",
    "workloads",
    "allow",
    "deny",
    "expect",
    "mode",
    "report_until",
    "scope",
    "lock",
    "namespaces",
    "groups",
    "collections",
];
