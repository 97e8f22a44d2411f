//! `diff`: which requests a new policy answers differently, by the rules that answer; what opens most stands first.
//! Must not compare by itself: it reads two sets of rules, asks the library and prints.
//! Called by [`super::main`].

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::azure::import::Mapping;
use crate::azure::report::Kind;
use crate::policy::diff::{self, Decider, Diff, Group, HostClass, Row, diff, shown_sent};
use crate::policy::rule::{HostMatch, Scheme};

use super::Exit;
use super::args::Output;
use super::export::acceptable;
use super::output::Terminal;

mod sides;

#[derive(Debug, ClapArgs)]
pub(super) struct DiffArgs {
    /// Policy file or directory; Azure Firewall's rules as JSON (`FILE.json`); or a list by name: `preset:aks/core`
    #[arg(value_name = "OLD")]
    old: String,
    /// The same, as it shall be
    #[arg(value_name = "NEW")]
    new: String,
    /// For people, or for machines
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    azure: AzureArgs,
}

/// How Azure Firewall's rules are read; as `import azure-firewall` does.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "For rules of Azure Firewall")]
pub(super) struct AzureArgs {
    /// Who the sources are here: each range exactly as the rules name it, or the name of an IP group; may be repeated
    #[arg(long, value_name = "SOURCE=WORKLOAD,...", value_parser = Mapping::parse_list)]
    sources: Vec<Vec<Mapping>>,
    /// IP groups as JSON; may be repeated
    #[arg(long, value_name = "FILE")]
    ip_groups: Vec<PathBuf>,
    /// Service tags as Microsoft publishes them
    #[arg(long, value_name = "FILE")]
    service_tags: Option<PathBuf>,
    /// Policy file or directory with the workloads and the cluster that the rules need; may be repeated
    #[arg(long, value_name = "PATH")]
    policy: Vec<PathBuf>,
    /// Kinds of findings that are left out or narrowed before the comparison
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = acceptable)]
    accept: Vec<Kind>,
}

/// Compares two policies.
pub(super) fn run(args: &DiffArgs, terminal: &mut Terminal) -> Exit {
    let now = Timestamp::now();
    let [old, new] = match sides::read([&args.old, &args.new], &args.azure, now) {
        Ok(both) => both,
        Err(wrong) => {
            terminal.say(&wrong.shown(terminal.colour));
            return Exit::Unusable;
        }
    };
    for note in old.notes.iter().chain(&new.notes) {
        terminal.say(&format!("note: {note}"));
    }
    let found = diff(&old.policy, &new.policy, now);
    match args.output {
        Output::Text => terminal.result(&text(&found)),
        Output::Json => terminal.result(&format!("{:#}", as_json(&found))),
    }
    if found.is_empty() { Exit::Yes } else { Exit::No }
}

fn text(found: &Diff) -> String {
    let mut out = String::new();
    for group in &found.groups {
        out.push_str(&head(group));
        out.push('\n');
        for row in &group.rows {
            out.push_str("    ");
            out.push_str(&line(row));
            out.push('\n');
        }
    }
    if let Some((old, new)) = found.mode {
        let said = |mode: crate::policy::Mode| match mode {
            crate::policy::Mode::Enforce => "enforce".to_owned(),
            crate::policy::Mode::Report { until } => format!("report until {until}"),
        };
        let _ = writeln!(out, "! mode    {} -> {}", said(old), said(new));
    }
    out.push_str(&summary(found));
    out
}

fn head(group: &Group) -> String {
    let named = |rule: &Decider| format!("`{}` ({}:{})", rule.name, rule.file, rule.line);
    let since = group
        .since
        .map_or_else(String::new, |since| format!(", from {since} on"));
    let said = match (group.kind, &group.old, &group.new) {
        (diff::Kind::Opened, old, new) => {
            let new = new.as_ref().map_or_else(|| "by whatever rule".to_owned(), named);
            let old = old.as_ref().map(|old| format!(", was denied by {}", named(old)));
            format!("+ allow   {new}{}", old.unwrap_or_default())
        }
        (diff::Kind::Closed, old, new) => {
            let old = old.as_ref().map_or_else(|| "whatever rule".to_owned(), named);
            let new = new.as_ref().map(|new| format!("by {}, ", named(new)));
            format!("- deny    {}was allowed by {old}", new.unwrap_or_default())
        }
        (diff::Kind::Rule, old, new) => {
            let none = || "for want of a rule".to_owned();
            let allows = [old, new].into_iter().flatten().any(|rule| rule.allows);
            let (old, new) = (
                old.as_ref().map_or_else(none, named),
                new.as_ref().map_or_else(none, named),
            );
            format!("~ {}   {old} -> {new}", if allows { "allow" } else { "deny " })
        }
    };
    format!("{said}{since}")
}

fn line(row: &Row) -> String {
    let (destinations, also) = destinations(row);
    let into = row.into.join(", ");
    let mut parts = match &row.host {
        HostClass::Resolving(_) => vec![format!("any allowed name that resolves into {into}, {destinations}")],
        _ => vec![destinations],
    };
    if !also.is_empty() {
        parts.push(format!("({})", also.join(", ")));
    }
    let from = if row.from.from.is_empty() {
        "everyone".to_owned()
    } else {
        row.from.from.join(", ")
    };
    let except = match row.from.except.join(", ") {
        none if none.is_empty() => none,
        except => format!(" but not {except}"),
    };
    parts.push(format!(" from {from}{except}"));
    if !into.is_empty() && !matches!(row.host, HostClass::Resolving(_)) {
        parts.push(format!(" where it resolves into {into}"));
    }
    parts.extend(row.breadth.remark().map(|remark| format!(" # {remark}")));
    parts.join(" ")
}

/// The destinations of a row, and what else is meant beside what their scheme says.
fn destinations(row: &Row) -> (String, Vec<&'static str>) {
    let (scheme, also) = shown_sent(&row.sent, row.tried_all);
    let host = match &row.host {
        HostClass::Range(net) => HostMatch::Cidr(*net).to_string(),
        other => other.to_string(),
    };
    let ports: Vec<_> = row
        .ports
        .iter()
        .map(|ports| match (*ports.start(), *ports.end()) {
            (start, end) if start == end => start.to_string(),
            (start, end) => format!("{start}-{end}"),
        })
        .collect();
    if let HostClass::Resolving(_) = row.host {
        let ports = if ports == ["1-65535"] {
            "any port".to_owned()
        } else {
            format!("port {}", ports.join(", "))
        };
        return (ports, Vec::new());
    }
    let scheme = match scheme {
        Some(Scheme::Tls) if ports == ["443"] => return (format!("https://{host}"), also),
        Some(Scheme::Http) if ports == ["80"] => return (format!("http://{host}"), also),
        Some(scheme) => format!("{}://", scheme.as_str()),
        None => String::new(),
    };
    (format!("{scheme}{host}:{}", ports.join(",")), also)
}

fn summary(found: &Diff) -> String {
    let counts = [
        (diff::Kind::Opened, "opened"),
        (diff::Kind::Closed, "closed"),
        (diff::Kind::Rule, "decided by another rule"),
    ];
    let counts = counts.map(|(kind, word)| (found.count(kind), word));
    let shown: Vec<_> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    if shown.is_empty() && found.mode.is_none() {
        return "no request is answered differently".to_owned();
    }
    shown.join(", ")
}

fn as_json(found: &Diff) -> Value {
    let decider = |rule: &Option<Decider>| {
        rule.as_ref()
            .map(|rule| json!({"rule": rule.name, "at": format!("{}:{}", rule.file, rule.line), "allows": rule.allows}))
    };
    let row = |row: &Row| {
        let ports = row.ports.iter().map(|ports| json!([ports.start(), ports.end()]));
        json!({
            "destination": destinations(row).0,
            "host": match &row.host {
                HostClass::Resolving(_) => Value::Null,
                host => Value::from(host.to_string()),
            },
            "ports": ports.collect::<Vec<_>>(),
            "sent": row.sent.iter().map(|sent| sent.as_str()).collect::<Vec<_>>(),
            "from": row.from.from,
            "except": row.from.except,
            "resolves_into": row.into,
            "breadth": row.breadth.as_str(),
        })
    };
    let changes = found.groups.iter().map(|group| {
        json!({
            "kind": group.kind.as_str(),
            "old": decider(&group.old),
            "new": decider(&group.new),
            "since": group.since.map(|since| since.to_string()),
            "requests": group.rows.iter().map(row).collect::<Vec<_>>(),
        })
    });
    json!({
        "equal": found.is_empty(),
        "mode_changes": found.mode.is_some(),
        "opened": found.count(diff::Kind::Opened),
        "closed": found.count(diff::Kind::Closed),
        "rule": found.count(diff::Kind::Rule),
        "changes": changes.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Generation, Policy, SourceText, load};

    /// `UPDATE_CORPUS=1` writes what comes out, for a person to read before it is committed.
    #[test]
    fn it_reads_as_written_down() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let load = |name: &str, text: &str| -> Policy {
            let texts = [SourceText {
                name: name.into(),
                text: text.into(),
            }];
            load(&texts, now, Generation(1), None).unwrap().policy
        };
        let old = load("old.yaml", include_str!("../../tests/corpus/diff/old.yaml"));
        let new = load("new.yaml", include_str!("../../tests/corpus/diff/new.yaml"));
        let found = diff(&old, &new, now);
        let said = text(&found);
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/diff/expected.txt");
            std::fs::write(path, &said).unwrap();
        }
        assert_eq!(said, include_str!("../../tests/corpus/diff/expected.txt"));
        let json = as_json(&found);
        assert_eq!(json["changes"].as_array().unwrap().len(), found.groups.len());
        assert_eq!(json["changes"][0]["requests"][0]["breadth"], "shared-suffix");
        assert_eq!(
            json["changes"][0]["requests"][0]["destination"],
            "https://*.blob.core.windows.net"
        );
        assert_eq!(text(&diff(&new, &new, now)), "no request is answered differently");
    }
}
