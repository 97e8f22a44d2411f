//! Compares the embedded presets with the facts that they were made from, row for row and both ways.
//! Must not be satisfied by what is missing on either side; each side can be broken, and a test does so.
//! Called by the tests of the presets.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::*;
use crate::policy::rule::{Destination, Scheme};
use expand::Sample;

#[derive(Clone, Debug, Deserialize)]
struct Reference {
    meta: Meta,
    rules: Vec<Fact>,
    undocumented_but_seen: Vec<Undocumented>,
}

#[derive(Clone, Debug, Deserialize)]
struct Meta {
    generated_on: String,
    sources: BTreeMap<String, Document>,
}

#[derive(Clone, Debug, Deserialize)]
struct Document {
    repo: Option<String>,
    path: Option<String>,
    commit: Option<String>,
    page: Option<String>,
    doc_date: Option<String>,
    note: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fact {
    id: String,
    clouds: Vec<String>,
    group: String,
    kind: String,
    fqdn: Option<String>,
    effective_fqdn: Option<String>,
    any_of: Option<Vec<BTreeMap<String, String>>>,
    protocol: String,
    ports: Vec<u16>,
    level: String,
    when: Option<String>,
    purpose: String,
    source: String,
    note: Option<String>,
    confidence: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Undocumented {
    fqdn: Option<String>,
    service_tag: Option<String>,
    r#ref: String,
    date: String,
}

/// What both sides say of one row, in one cloud.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    group: String,
    /// The documented name, or the alternatives of a network rule.
    what: String,
    protocol: String,
    ports: Vec<u16>,
    level: String,
    when: Option<String>,
    purpose: String,
    source: String,
    date: Option<String>,
    note: Option<String>,
    observed: bool,
}

#[test]
fn the_presets_are_the_facts_row_for_row() {
    let reference = reference();
    let mut rows = 0;
    for cloud in CLOUDS {
        let facts = facts(&reference, cloud);
        let found = difference(&facts, &embedded(cloud));
        assert!(found.is_empty(), "{}:\n{found}", cloud.as_str());
        rows += facts.len();
    }
    assert!(rows > 240, "only {rows} rows were compared");
    for name in names().filter(|name| *name != UNDOCUMENTED) {
        let preset = preset(name).unwrap();
        assert_eq!(preset.read.as_deref(), Some(&*reference.meta.generated_on), "{name}");
    }
}

/// The comparison sees every field of every row, on either side.
#[test]
fn a_changed_row_is_a_difference() {
    let facts = facts(&reference(), Cloud::Public);
    for row in &facts {
        for change in 0..11 {
            let mut other = row.clone();
            match change {
                0 => other.group += "x",
                1 => other.what += "x",
                2 => other.protocol += "x",
                3 => other.ports.push(1),
                4 => other.level += "x",
                5 => other.when = Some(other.when.unwrap_or_default() + "x"),
                6 => other.purpose += "x",
                7 => other.source += "x",
                8 => other.date = Some(other.date.unwrap_or_default() + "x"),
                9 => other.note = Some(other.note.unwrap_or_default() + "x"),
                _ => other.observed = !other.observed,
            }
            let changed: BTreeSet<_> = facts
                .iter()
                .map(|fact| if fact == row { other.clone() } else { fact.clone() })
                .collect();
            assert_eq!(difference(&facts, &changed).lines().count(), 2, "{row:?}");
            assert_eq!(difference(&changed, &facts).lines().count(), 2, "{row:?}");
        }
    }
}

#[test]
fn what_was_seen_and_is_in_no_list_is_there() {
    let undocumented = preset(UNDOCUMENTED).unwrap();
    for seen in reference().undocumented_but_seen {
        let row = undocumented.rows.iter().find(|row| {
            let tags = row.network.iter().flat_map(|network| &network.any_of).map(Target::text);
            row.to.as_deref() == seen.fqdn.as_deref() && tags.collect::<Vec<_>>() == Vec::from_iter(&seen.service_tag)
        });
        let row = row.unwrap_or_else(|| panic!("{seen:?} is missing"));
        assert_eq!(&*row.trouble[0].issue, seen.r#ref);
        assert_eq!(row.trouble[0].seen.as_deref(), Some(&*seen.date));
        assert!(row.observed && !(row.to.is_some() && row.is_opened_unasked()));
    }
}

/// Names that are narrower than the document are so on purpose, and never wider.
#[test]
fn where_a_destination_differs_it_is_narrower() {
    let mut differing = Vec::new();
    for name in names() {
        for row in &preset(name).unwrap().rows {
            if let Some(documented) = &row.documented {
                let to = row.to.as_deref().unwrap();
                assert!(!to.contains('*'), "{name} {to}");
                differing.push(format!("{documented} -> {to}"));
            }
        }
    }
    differing.sort();
    assert_eq!(
        differing,
        [
            "*.hcp.{region}.azmk8s.io -> {api_server}",
            "*.hcp.{region}.cx.aks.containerservice.azure.us -> {api_server}",
            "*.hcp.{region}.cx.prod.service.azk8s.cn -> {api_server}",
            "*.tun.{region}.cx.prod.service.azk8s.cn -> {api_server_tunnel}",
            "*.vault.usgovcloudapi.net -> {keyvault_name}.vault.usgovcloudapi.net",
            "vault.azure.net -> {keyvault_name}.vault.azure.net",
        ]
    );
}

/// Whoever reads a policy with a tag is told what it comes to.
#[test]
fn a_tag_says_which_rows_it_stands_for() {
    let policy = "cluster: {api_server: a.hcp.westeurope.azmk8s.io}\nallow:\n  - {fqdnTags: [AzureKubernetesService], from: \
                  [10.224.0.0/16]}\n  - {fqdnTags: [AzureKubernetesService], from: [10.225.0.0/16]}\n";
    let loaded = load(policy, &[]).unwrap();
    assert_eq!(
        loaded.tags,
        [
            "`AzureKubernetesService` stands for aks/core (api-server, mcr, mcr-data, mcr-msedge, arm, entra, packages, \
             binaries-old, binaries) and aks/node-os-updates (ubuntu-security, ubuntu-archive, ubuntu-changelogs, \
             ubuntu-snapshot)"
        ]
    );
    let opened = loaded
        .policy
        .rules()
        .iter()
        .filter(|rule| rule.name.starts_with("Azure"))
        .count();
    assert_eq!(opened, 2 * 13);
}

/// An application collection speaks of names, whoever wrote the preset.
#[test]
fn an_address_of_a_preset_is_no_rule_of_an_application_collection() {
    const OWN: &str = "about: a server without a name
for: workloads
source: https://wiki.example.com/server
date: 2026-11
rows:
  - {id: server, clouds: [public], to: \"tcp://198.18.0.1:443\", level: required, purpose: x}
";
    let policy = |rules: &str| {
        format!("allow: []\ncollections:\n  - {{name: c, priority: 100, action: allow, rules: [{rules}]}}\n")
    };
    let own = [("team/server", OWN)];
    let refused = load(&policy("{preset: team/server}"), &own).unwrap_err();
    assert!(
        refused.contains("the row `server` of `team/server` is an address"),
        "{refused}"
    );
    load("allow: [{preset: team/server}]\n", &own).unwrap();
}

/// A file replaces a preset whole or adds one, and its problems come with those of the policies.
#[test]
fn files_replace_and_add_presets() {
    const POLICY: &str = "workloads: {nodes: {cidrs: [10.224.0.0/16]}}
allow:
  - {preset: aks/gpu, from: [nodes]}
  - {preset: team/web, from: [nodes], with: {shop: www}}
";
    const GPU: &str = "about: drivers from a mirror
for: nodes
source: https://wiki.example.com/mirror
rows:
  - {id: mirror, clouds: [public], to: mirror.example.net, level: required, purpose: drivers}
";
    const WEB: &str = "about: the shop
for: workloads
source: https://wiki.example.com/shop
date: 2026-11
rows:
  - {id: shop, clouds: [public], to: \"{shop}.example.com\", level: required, purpose: the shop}
  - {id: stock, clouds: [public], to: \"tls://stock.example.com:8443\", level: ignorable, purpose: never opened}
";
    let loaded = load(POLICY, &[("aks/gpu", GPU), ("team/web", WEB)]).unwrap();
    let names: Vec<_> = loaded.policy.rules().iter().map(|rule| &*rule.name).collect();
    assert_eq!(names, ["aks/gpu: mirror", "team/web: shop"]);
    assert_eq!(loaded.policy.rules()[1].to[0].to_string(), "www.example.com");
    let files: Vec<_> = loaded.policy.files().iter().map(|file| &**file).collect();
    assert_eq!(files, ["policy.yaml"], "those to whom a line is added");
    let host = crate::name::HostName::parse(b"mirror.example.net").unwrap();
    assert_eq!(
        loaded.policy.needs().of(&host, crate::name::Port::HTTPS),
        ["aks/gpu".into()]
    );

    let fingerprint = |presets: &[(&str, &str)]| load("allow: []\n", presets).unwrap().policy.fingerprint();
    let all = [
        fingerprint(&[]),
        fingerprint(&[("aks/gpu", GPU)]),
        fingerprint(&[("aks/gpx", GPU)]),
        fingerprint(&[("aks/gpu", WEB)]),
        fingerprint(&[("aks/gpu", GPU), ("team/web", WEB)]),
    ];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());

    let refused = |presets: &[(&str, &str)]| load(POLICY, presets).unwrap_err();
    let missing = refused(&[("aks/gpu", GPU)]);
    assert!(missing.contains("there is no preset `team/web`"), "{missing}");
    let broken = refused(&[
        ("aks/gpu", &GPU.replace("required", "requierd")),
        ("team/web", &WEB.replace("{shop}.example.com", "*")),
        ("team/more", "about: nothing else\n"),
        ("team/twice", &WEB.replace("id: stock", "id: shop")),
    ]);
    for said in [
        "aks/gpu.yaml:5:67\n",
        "did you mean `required`?",
        "team/web.yaml:6:38\n",
        "`*` would allow every name",
        "the preset has no `for`",
        "the preset has no `rows`",
        "a second row is called `shop`",
        "6 errors",
    ] {
        assert!(broken.contains(said), "{said} in\n{broken}");
    }
}

fn load(policy: &str, presets: &[(&str, &str)]) -> Result<crate::policy::Loaded, String> {
    let text = |name: &str, text: &str| SourceText {
        name: name.into(),
        text: text.into(),
    };
    let policies = std::iter::once(text("policy.yaml", policy));
    let own = presets.iter().map(|(name, own)| text(&format!("{name}.yaml"), own));
    let texts: Vec<_> = policies.chain(own).collect();
    let names: Vec<Text> = presets.iter().map(|(name, _)| (*name).into()).collect();
    let now = "2026-11-20T12:00:00Z".parse().unwrap();
    crate::policy::load_with(&texts, &names, now, crate::policy::Generation(1), None)
        .map_err(|problems| crate::policy::render(&problems, &texts, false))
}

fn reference() -> Reference {
    serde_saphyr::from_str(include_str!("../../../tests/corpus/azure/aks-outbound.yaml")).unwrap()
}

fn facts(reference: &Reference, cloud: Cloud) -> BTreeSet<Said> {
    let mut above = None;
    let mut said = BTreeSet::new();
    for fact in &reference.rules {
        let when = match fact.when.as_deref() {
            Some("as above") => above.clone(),
            _ => fact.when.clone(),
        };
        above.clone_from(&when);
        if !fact.clouds.iter().any(|name| name == cloud.as_str()) {
            continue;
        }
        let document = &reference.meta.sources[&fact.source];
        let year = document.note.as_deref().and_then(|note| {
            let years = note.split(|c: char| !c.is_ascii_digit());
            years.filter(|year| year.starts_with("20")).map(str::to_owned).next()
        });
        let is_new = said.insert(Said {
            group: fact.group.replace("aks-backup", "backup"),
            what: match (&fact.fqdn, &fact.any_of) {
                (Some(fqdn), None) if fact.kind == "application" => fqdn.clone(),
                (None, Some(any_of)) if fact.kind == "network" => serde_json::to_string(any_of).unwrap(),
                _ => panic!("{} is of no kind", fact.id),
            },
            protocol: fact.protocol.clone(),
            ports: fact.ports.clone(),
            level: fact.level.clone(),
            when,
            purpose: fact.purpose.clone(),
            source: document.url(),
            date: document.doc_date.clone().or(year),
            note: fact.note.clone(),
            observed: fact.confidence.as_deref() == Some("observed"),
        });
        assert!(is_new, "{} stands there twice", fact.id);
        assert!(fact.effective_fqdn.as_deref().is_none_or(|name| {
            let of_group = preset(&format!("aks/{}", fact.group)).unwrap();
            of_group.rows.iter().any(|row| row.to.as_deref() == Some(name))
        }));
    }
    said
}

fn embedded(cloud: Cloud) -> BTreeSet<Said> {
    let mut said = BTreeSet::new();
    for name in names().filter(|name| *name != UNDOCUMENTED) {
        let preset = preset(name).unwrap();
        for row in preset.rows_for(cloud) {
            let (source, date) = preset.source_of(row);
            let owned = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
            let (what, protocol, ports) = if let Some(network) = &row.network {
                (alternatives(network), network.protocol.as_str(), network.ports.clone())
            } else {
                let to = row.to.as_deref().unwrap();
                let host = to.split_once("://").map_or(to, |(_, rest)| rest);
                let host = host.split(':').next().unwrap();
                let Destination { scheme, ports, .. } = Sample::fill(to).unwrap();
                let protocol = if scheme == Some(Scheme::Http) { "HTTP" } else { "HTTPS" };
                let what = row.documented.as_deref().unwrap_or(host);
                (what.to_owned(), protocol, ports.collect())
            };
            let is_new = said.insert(Said {
                group: name.strip_prefix("aks/").unwrap().to_owned(),
                what,
                protocol: protocol.to_owned(),
                ports,
                level: row.level.as_str().to_owned(),
                when: owned(&row.when),
                purpose: row.purpose.to_string(),
                source: source.to_owned(),
                date: date.map(str::to_owned),
                note: owned(&row.note),
                observed: row.observed,
            });
            assert!(is_new, "{name} {} stands there twice", row.id);
        }
    }
    said
}

fn alternatives(network: &Network) -> String {
    let any_of = network.any_of.iter();
    let any_of: Vec<_> = any_of
        .map(|target| Value::from_iter([(target.kind(), target.text())]))
        .collect();
    serde_json::to_string(&any_of).unwrap()
}

/// A line for each row that only one side has.
fn difference(facts: &BTreeSet<Said>, embedded: &BTreeSet<Said>) -> String {
    let missing = facts.difference(embedded).map(|row| format!("not embedded: {row:?}\n"));
    let added = embedded
        .difference(facts)
        .map(|row| format!("not in the facts: {row:?}\n"));
    missing.chain(added).collect()
}

impl Document {
    fn url(&self) -> String {
        match (&self.repo, &self.path, &self.commit, &self.page) {
            (Some(repo), Some(path), Some(commit), None) => format!("https://github.com/{repo}/blob/{commit}/{path}"),
            (None, None, None, Some(page)) => format!("https://{page}"),
            _ => "https://github.com/mspnp/aks-baseline".to_owned(),
        }
    }
}

const CLOUDS: [Cloud; 3] = [Cloud::Public, Cloud::China, Cloud::UsGov];
const UNDOCUMENTED: &str = "aks/undocumented";
