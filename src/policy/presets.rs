//! Presets: maintained lists of destinations as data, and what they come to for one cluster.
//! Must not open anything by itself; a rule names a preset and says for whom.
//! Called by the compiler, and by the built-in policy.

use std::sync::Arc;

use ipnet::IpNet;

use super::document::destination::{self, Role};
use super::document::{Cloud, Cluster, syntax};
use super::lint::any_tenant;
use super::problem::{Problem, Problems, SourceText};
use super::rule::{Destination, HostMatch};
use super::yaml::typed::{self, Empty, Fields};
use super::yaml::{Node, Yaml};

/// A maintained list.
#[derive(Clone, Debug)]
pub struct Preset {
    /// As rules write it: `aks/core`.
    pub name: &'static str,
    pub about: Box<str>,
    /// Meant for nodes, and too much for pods.
    pub for_nodes: bool,
    /// The document that the rows come from, and its date.
    pub source: Box<str>,
    pub date: String,
    pub rows: Vec<Row>,
}

/// One destination of a list.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: String,
    pub clouds: Vec<Cloud>,
    pub way: Way,
    pub required: bool,
    /// Under which condition it is needed.
    pub when: Option<String>,
    pub purpose: String,
    pub trouble: Option<String>,
}

/// How a row leaves the cluster.
#[derive(Clone, Debug)]
pub enum Way {
    /// Through the proxy. Both hold placeholders such as `{region}`.
    Proxy { to: String, addresses: Option<String> },
    /// Not through any proxy; what the network must let pass.
    Network(String),
}

/// A row with the facts of a cluster filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expanded {
    pub to: Destination,
    pub addresses: Vec<IpNet>,
}

/// A fact that a row needs and nobody wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingFact {
    /// The key below `cluster`.
    pub key: String,
    /// What could stand there.
    pub example: &'static str,
    /// How to find out what should.
    pub source: &'static str,
}

/// The names of all presets.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// A preset by its name.
pub fn preset(name: &str) -> Option<Preset> {
    let (name, text) = FILES.iter().find(|(known, _)| *known == name)?;
    // The files are part of the program, and a test reads each; one that cannot be read is as good as none.
    read(name, text).ok()
}

/// The policy of a process that was given none: the rows of `aks/core` that need no facts, for loopback. The second is
/// what was left out, a line for each.
pub fn builtin() -> (SourceText, Vec<String>) {
    let mut text = String::from("# The built-in policy: what AKS nodes need, for clients on this host only.\nallow:\n");
    let mut left_out = Vec::new();
    let Some(core) = preset(BUILTIN) else {
        left_out.push(format!("{BUILTIN}: unreadable"));
        return (named("allow: []\n".to_owned()), left_out);
    };
    for row in core.rows_for(Cloud::default()) {
        let label = format!("{BUILTIN}: {}", row.id);
        match (&row.way, row.expand(&Cluster::default())) {
            (_, Some(Ok(expanded))) => {
                let to = expanded.to;
                text.push_str("  - name: \"");
                text.push_str(&label);
                text.push_str("\"\n    from: [127.0.0.0/8, \"::1\"]\n    to: [\"");
                text.push_str(&to.to_string());
                text.push_str("\"]\n");
                if matches!(&to.host, HostMatch::Name(pattern) if any_tenant(pattern).is_some()) {
                    text.push_str("    accept:\n      any-tenant: for clients on this host alone\n");
                }
            }
            (Way::Proxy { to, .. }, Some(Err(missing))) => {
                left_out.push(format!(
                    "{label} ({to}): needs `cluster.{}` in a policy file",
                    missing.key
                ));
            }
            (Way::Network(network), _) => left_out.push(format!("{label} ({network}): no proxy can carry it")),
            (Way::Proxy { .. }, None) => {}
        }
    }
    (named(text), left_out)
}

impl Preset {
    /// The rows for a cloud.
    pub fn rows_for(&self, cloud: Cloud) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.clouds.contains(&cloud))
    }
}

impl Row {
    /// The row for a cluster; nothing if it does not go through a proxy.
    pub fn expand(&self, cluster: &Cluster) -> Option<Result<Expanded, MissingFact>> {
        let Way::Proxy { to, addresses } = &self.way else {
            return None;
        };
        let text = match fill(to, cluster) {
            Ok(text) => text,
            Err(missing) => return Some(Err(missing)),
        };
        // Facts are checked where they are read, and a test fills every row.
        let to = destination::parse(&text, Role::Allow).ok()?;
        let addresses = match addresses.as_deref() {
            Some("{api_server_addresses}") => cluster.api_server_addresses.iter().map(|range| range.value).collect(),
            _ => Vec::new(),
        };
        Some(Ok(Expanded { to, addresses }))
    }
}

/// Replaces placeholders by facts.
fn fill(template: &str, cluster: &Cluster) -> Result<String, MissingFact> {
    let mut text = template.to_owned();
    let facts = [
        (
            "region",
            cluster.region.as_ref().map(|region| region.value.to_string()),
            "westeurope",
            "`az aks show --query location` prints it",
        ),
        (
            "api_server",
            cluster.api_server.as_ref().map(|name| name.value.to_string()),
            "NAME.hcp.REGION.azmk8s.io",
            "`az aks show --query fqdn` prints the name, for a private cluster `--query privateFqdn`",
        ),
    ];
    for (key, fact, example, source) in facts {
        let placeholder = format!("{{{key}}}");
        if !text.contains(&placeholder) {
            continue;
        }
        let Some(fact) = fact else {
            let key = key.to_owned();
            return Err(MissingFact { key, example, source });
        };
        text = text.replace(&placeholder, &fact);
    }
    Ok(text)
}

fn named(text: String) -> SourceText {
    SourceText {
        name: Arc::from("built-in policy"),
        text: text.into(),
    }
}

fn read(name: &'static str, text: &'static str) -> Result<Preset, Vec<Problem>> {
    let texts = [SourceText {
        name: name.into(),
        text: text.into(),
    }];
    let mut problems = Problems::new(&texts);
    let preset = read_file(name, text, &mut problems);
    match preset {
        Some(preset) if !problems.has_errors() => Ok(preset),
        _ => Err(problems.into_sorted()),
    }
}

fn read_file(name: &'static str, text: &str, problems: &mut Problems<'_>) -> Option<Preset> {
    let mut preset = Preset {
        name,
        about: Box::default(),
        for_nodes: false,
        source: Box::default(),
        date: String::new(),
        rows: Vec::new(),
    };
    let mut yaml = Yaml::open(0, text, "a preset begins with `about:`", problems)?;
    while let Some(key) = yaml.key(problems) {
        let node = yaml.value(&key, problems)?;
        let node = &node;
        match typed::text(&key, "a key", problems)? {
            "about" => preset.about = typed::text(node, "`about`", problems)?.into(),
            "for" => {
                preset.for_nodes = typed::word(node, "`for`", &[("nodes", true), ("workloads", false)], problems)?;
            }
            "source" => preset.source = typed::text(node, "`source`", problems)?.into(),
            "date" => preset.date = syntax::date(node, "`date`", problems)?.value.to_string(),
            "rows" => {
                for item in typed::list(node, "`rows`", Empty::Refused, problems)? {
                    preset.rows.push(row(item, problems)?);
                }
            }
            other => {
                typed::refuse_key(
                    &key,
                    other,
                    node,
                    "a preset",
                    &["about", "for", "source", "date", "rows"],
                    problems,
                );
            }
        }
    }
    Some(preset)
}

fn row(node: &Node<'_>, problems: &mut Problems<'_>) -> Option<Row> {
    let fields = typed::fields(node, "a row", &ROW_KEYS, problems)?;
    let mut clouds = Vec::new();
    for item in typed::list(fields.value("clouds")?, "`clouds`", Empty::Refused, problems)? {
        clouds.push(typed::word(item, "a cloud", &Cloud::WORDS, problems)?);
    }
    let to = text(&fields, "to", problems);
    let network = text(&fields, "network", problems);
    let way = match (to, network) {
        (Some(to), None) => Way::Proxy {
            to,
            addresses: text(&fields, "addresses", problems),
        },
        (None, Some(network)) => Way::Network(network),
        _ => {
            problems.error(node.at, "a row has `to` or `network`");
            return None;
        }
    };
    Some(Row {
        id: text(&fields, "id", problems)?,
        clouds,
        way,
        required: typed::word(
            fields.value("level")?,
            "`level`",
            &[("required", true), ("optional", false)],
            problems,
        )?,
        when: text(&fields, "when", problems),
        purpose: text(&fields, "purpose", problems)?,
        trouble: text(&fields, "trouble", problems),
    })
}

fn text(fields: &Fields<'_, '_>, key: &str, problems: &mut Problems<'_>) -> Option<String> {
    let node = fields.value(key)?;
    typed::text(node, key, problems).map(str::to_owned)
}

const BUILTIN: &str = "aks/core";
const FILES: &[(&str, &str)] = &[
    ("aks/core", include_str!("../../config/presets/aks/core.yaml")),
    (
        "aks/workload-identity",
        include_str!("../../config/presets/aks/workload-identity.yaml"),
    ),
];
const ROW_KEYS: [&str; 9] = [
    "id",
    "clouds",
    "to",
    "addresses",
    "network",
    "level",
    "when",
    "purpose",
    "trouble",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::HostName;
    use crate::policy::problem::{At, Place, render};

    #[test]
    fn every_preset_is_readable_and_every_row_fills() {
        let cluster = cluster();
        for (name, text) in FILES {
            let texts = [SourceText {
                name: (*name).into(),
                text: (*text).into(),
            }];
            let preset = read(name, text).unwrap_or_else(|problems| panic!("{}", render(&problems, &texts, false)));
            assert!(!preset.rows.is_empty() && !preset.source.is_empty() && !preset.date.is_empty());
            for row in &preset.rows {
                let carried = matches!(row.way, Way::Proxy { .. });
                assert_eq!(
                    row.expand(&cluster).map(|row| row.is_ok()),
                    carried.then_some(true),
                    "{}",
                    row.id
                );
                let twins = preset.rows.iter().filter(|other| other.id == row.id);
                assert_eq!(twins.count(), 1, "{}", row.id);
            }
        }
    }

    #[test]
    fn the_api_server_is_that_of_this_cluster_alone() {
        let core = preset("aks/core").unwrap();
        let row = core.rows.iter().find(|row| row.id == "api-server").unwrap();
        let mut cluster = cluster();
        let expanded = row.expand(&cluster).unwrap().unwrap();
        assert_eq!(expanded.to.to_string(), "api.hcp.westeurope.azmk8s.io");
        assert_eq!(expanded.addresses, ["20.50.1.2/32".parse::<IpNet>().unwrap()]);
        cluster.api_server = None;
        assert_eq!(row.expand(&cluster).unwrap().unwrap_err().key, "api_server");
    }

    #[test]
    fn the_built_in_policy_says_what_it_leaves_out() {
        let (source, left_out) = builtin();
        assert!(
            source.text.contains("mcr.microsoft.com") && !source.text.contains('{'),
            "{}",
            source.text
        );
        assert!(
            left_out.iter().any(|line| line.contains("cluster.api_server")),
            "{left_out:?}"
        );
        assert!(left_out.iter().any(|line| line.contains("UDP 123")), "{left_out:?}");
    }

    fn cluster() -> Cluster {
        let at = Place::default();
        Cluster {
            region: Some(At {
                value: "westeurope".into(),
                at,
            }),
            api_server: Some(At {
                value: HostName::parse(b"api.hcp.westeurope.azmk8s.io").unwrap(),
                at,
            }),
            api_server_addresses: vec![At {
                value: "20.50.1.2/32".parse().unwrap(),
                at,
            }],
            ..Cluster::default()
        }
    }
}
