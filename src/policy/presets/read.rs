//! One preset from its YAML: the columns that `config/presets/aks/core.yaml` explains.
//! Must not accept a row that could not be opened once its facts are there; every problem has its place.
//! Called for the embedded files, and for those of a directory of one's own.

use super::expand::{Sample, is_name, placeholders};
use super::{Level, Network, Preset, Protocol, Row, Target, Trouble};
use crate::policy::document::{Cloud, Text, syntax};
use crate::policy::problem::{Place, Problems};
use crate::policy::yaml::typed::{self, Empty, Fields};
use crate::policy::yaml::{Node, Yaml};

/// Reads a preset, as far as it can be understood; what cannot is noted.
pub(super) fn file(file: u32, name: &Text, text: &str, problems: &mut Problems<'_>) -> Option<Preset> {
    let mut preset = Preset::unreadable(name);
    let mut yaml = Yaml::open(file, text, "a preset begins with `about:`", problems)?;
    let mut seen: Vec<(String, Place)> = Vec::new();
    let mut cut = false;
    while let Some(key) = yaml.key(problems) {
        let Some(value) = yaml.value(&key, problems) else {
            cut = true;
            break;
        };
        let Some(known) = typed::text(&key, "a key", problems) else {
            continue;
        };
        if let Some((_, twin)) = seen.iter().find(|(earlier, _)| earlier == known) {
            typed::refuse_twin(key.at, *twin, known, problems);
        }
        seen.push((known.to_owned(), key.at));
        entry(&mut preset, &key, known, &value, problems);
    }
    for required in ["about", "for", "source", "rows"] {
        if !cut && !problems.is_cut_short() && !seen.iter().any(|(key, _)| key == required) {
            problems
                .error_of_file(file, format!("the preset has no `{required}`"))
                .help(format!(
                    "add `{required}:`; config/presets/aks/core.yaml explains what stands there"
                ));
        }
    }
    Some(preset)
}

fn entry(preset: &mut Preset, key: &Node<'_>, known: &str, node: &Node<'_>, problems: &mut Problems<'_>) {
    let mut line = |what: &str| syntax::line(node, what, problems).map(Into::into);
    match known {
        "about" => preset.about = line("`about`").unwrap_or_default(),
        "source" => preset.source = line("`source`").unwrap_or_default(),
        "for" => {
            let kinds = [("nodes", true), ("workloads", false)];
            preset.for_nodes = typed::word(node, "`for`", &kinds, problems).unwrap_or_default();
        }
        "date" => preset.date = date(node, "`date`", problems),
        "read" => preset.read = date(node, "`read`", problems),
        "rows" => {
            for item in typed::list(node, "`rows`", Empty::Refused, problems).unwrap_or_default() {
                let Some(row) = row(item, problems) else { continue };
                if preset.rows.iter().any(|other| other.id == row.id) {
                    problems
                        .error(item.at, format!("a second row is called `{}`", row.id))
                        .help("rules and records name rows by their `id`; give each its own");
                }
                preset.rows.push(row);
            }
        }
        other => typed::refuse_key(key, other, node, "a preset", &FILE_KEYS, problems),
    }
}

fn row(node: &Node<'_>, problems: &mut Problems<'_>) -> Option<Row> {
    let fields = typed::fields(node, "a row", &ROW_KEYS, problems)?;
    let mut line = |key: &str| -> Option<Box<str>> {
        let node = fields.value(key)?;
        syntax::line(node, &format!("`{key}`"), problems).map(Into::into)
    };
    let (id, purpose, to) = (line("id"), line("purpose"), line("to"));
    let (documented, when, source, remark) = (line("documented"), line("when"), line("source"), line("note"));
    let mut word = |key: &str, words: &[(&str, bool)]| {
        let value = typed::word(fields.value(key)?, &format!("`{key}`"), words, problems);
        value.filter(|value| *value)
    };
    let addresses = word("addresses", &[("{api_server_addresses}", true)]).is_some();
    let observed = word("confidence", &[("observed", true)]).is_some();
    let on_request = fields.value("on_request");
    let on_request = on_request.and_then(|node| typed::flag(node, "`on_request`", problems));
    let level = fields.value("level");
    let level = level.and_then(|node| typed::word(node, "`level`", &Level::WORDS, problems));
    let network = fields.value("network").and_then(|node| network(node, problems));
    let date = fields.value("date").and_then(|node| date(node, "`date`", problems));
    let clouds = clouds(&fields, problems);
    let trouble = trouble(&fields, problems);
    for key in ["id", "clouds", "level", "purpose"] {
        if fields.value(key).is_none() {
            problems.error(node.at, format!("the row has no `{key}`")).help(format!(
                "add `{key}:`; config/presets/aks/core.yaml explains what stands there"
            ));
        }
    }
    if fields.value("to").is_none() && fields.value("network").is_none() {
        problems
            .error(node.at, "the row does not say what it is about")
            .help("add `to:` with a destination, or `network:` with what no proxy can carry");
    }
    if let (Some(to), Some(node)) = (&to, fields.value("to")) {
        check(to, node, problems);
    }
    Some(Row {
        id: id?,
        clouds,
        to,
        documented,
        addresses,
        network,
        level: level?,
        on_request: on_request.unwrap_or_default(),
        when,
        purpose: purpose?,
        source,
        date,
        observed,
        note: remark,
        trouble,
    })
}

/// Whether the row would be a destination if its facts were there.
fn check(to: &str, node: &Node<'_>, problems: &mut Problems<'_>) {
    if let Some(odd) = placeholders(to).find(|name| !is_name(name)) {
        problems
            .error(node.at, format!("`{{{odd}}}` is not a placeholder"))
            .help("a placeholder has lower-case letters and `_`, such as `{region}` or `{keyvault_name}`");
    } else if let Err(bad) = Sample::fill(to) {
        problems.error(node.at, bad.why).help(bad.help);
    }
}

fn clouds(fields: &Fields<'_, '_>, problems: &mut Problems<'_>) -> Vec<Cloud> {
    let Some(node) = fields.value("clouds") else {
        return Vec::new();
    };
    let items = typed::list(node, "`clouds`", Empty::Refused, problems).unwrap_or_default();
    let read = |item| typed::word(item, "a cloud", &Cloud::WORDS, problems);
    items.iter().filter_map(read).collect()
}

fn network(node: &Node<'_>, problems: &mut Problems<'_>) -> Option<Network> {
    let fields = typed::fields(node, "`network`", &["protocol", "ports", "any_of"], problems)?;
    for key in ["protocol", "ports", "any_of"] {
        if fields.value(key).is_none() {
            problems
                .error(node.at, format!("`network` has no `{key}`"))
                .help("write `{protocol: UDP, ports: [123], any_of: [{fqdn: ntp.ubuntu.com}]}`");
        }
    }
    let protocol = typed::word(fields.value("protocol")?, "`protocol`", &Protocol::WORDS, problems);
    let mut ports = Vec::new();
    for item in typed::list(fields.value("ports")?, "`ports`", Empty::Refused, problems).unwrap_or_default() {
        let number = typed::integer(item, "a port", problems);
        match number.map(u16::try_from) {
            Some(Ok(port)) if port > 0 => ports.push(port),
            Some(_) => {
                problems
                    .error(item.at, "a port is a number from 1 to 65535")
                    .help("write the port that is meant");
            }
            None => {}
        }
    }
    let targets = typed::list(fields.value("any_of")?, "`any_of`", Empty::Refused, problems).unwrap_or_default();
    let any_of = targets.iter().filter_map(|item| target(item, problems)).collect();
    Some(Network {
        protocol: protocol?,
        ports,
        any_of,
    })
}

fn target(node: &Node<'_>, problems: &mut Problems<'_>) -> Option<Target> {
    let fields = typed::fields(node, "an item of `any_of`", &TARGETS, problems)?;
    let mut found = TARGETS.iter().filter_map(|kind| Some((*kind, fields.value(kind)?)));
    let (kind, value) = found.next()?;
    if found.next().is_some() {
        problems
            .error(node.at, "an item of `any_of` names one thing")
            .help("make several items of it");
    }
    let text = syntax::line(value, "an item of `any_of`", problems)?.into();
    Some(match kind {
        "cidr" => Target::Cidr(text),
        "ip" => Target::Ip(text),
        "service_tag" => Target::ServiceTag(text),
        _ => Target::Fqdn(text),
    })
}

fn trouble(fields: &Fields<'_, '_>, problems: &mut Problems<'_>) -> Vec<Trouble> {
    let Some(node) = fields.value("trouble") else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for item in typed::list(node, "`trouble`", Empty::Refused, problems).unwrap_or_default() {
        let Some(fields) = typed::fields(item, "an item of `trouble`", &["issue", "seen", "what"], problems) else {
            continue;
        };
        let seen = fields.value("seen").and_then(|node| date(node, "`seen`", problems));
        let mut line = |key: &str| syntax::line(fields.value(key)?, &format!("`{key}`"), problems);
        match (line("issue"), line("what")) {
            (Some(issue), Some(what)) => all.push(Trouble {
                issue: issue.into(),
                seen,
                what: what.into(),
            }),
            _ => {
                problems
                    .error(item.at, "an item of `trouble` has `issue` and `what`")
                    .help("write `{issue: \"OWNER/REPOSITORY#1\", seen: \"2026-06\", what: one line}`");
            }
        }
    }
    all
}

/// A year, a month or a day: documents do not always say more.
fn date(node: &Node<'_>, what: &str, problems: &mut Problems<'_>) -> Option<Box<str>> {
    let text = typed::raw(node, what, problems)?;
    let bytes = text.as_bytes();
    let shape = |at: usize| if at == 4 || at == 7 { b'-' } else { b'0' };
    let fits = bytes.iter().enumerate().all(|(at, byte)| match shape(at) {
        b'-' => *byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    if fits && matches!(bytes.len(), 4 | 7 | 10) {
        return Some(text.as_ref().into());
    }
    problems
        .error(node.at, format!("{what} cannot be `{text}`"))
        .help("write a day, a month or a year: `2026-06-18`, `2026-06` or `2026`");
    None
}

const FILE_KEYS: [&str; 6] = ["about", "for", "source", "date", "read", "rows"];
const TARGETS: [&str; 4] = ["cidr", "ip", "service_tag", "fqdn"];
const ROW_KEYS: [&str; 15] = [
    "id",
    "clouds",
    "to",
    "documented",
    "addresses",
    "network",
    "level",
    "on_request",
    "when",
    "purpose",
    "source",
    "date",
    "confidence",
    "note",
    "trouble",
];
