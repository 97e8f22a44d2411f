//! Rows with facts filled in: those of the cluster, and those that a rule gives in `with`.
//! Must not put anything wider in the place of a fact that is missing.
//! Called by the compiler, the built-in policy and `presets show`.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{Network, Row, Target};
use crate::policy::document::destination::{self, BadDestination, Role};
use crate::policy::document::{Cluster, Text};
use crate::policy::rule::Destination;

/// What a rule gives beside what the cluster knows, by placeholder.
pub type With = BTreeMap<Text, Text>;

/// Where facts come from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub cluster: &'a Cluster,
    pub with: &'a With,
}

/// A row with its facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expanded {
    pub to: Destination,
    pub addresses: Vec<IpNet>,
}

/// Why a row could not be filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfilled {
    Missing(MissingFact),
    /// What a fact made of the row is no destination.
    Bad(BadDestination),
}

/// A fact that a row needs and nobody wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingFact {
    /// The key below `cluster`, or below `with`.
    pub key: String,
    /// Whether the rule says it, in `with`.
    pub with: bool,
    /// What could stand there.
    pub example: String,
    /// How to find out what should.
    pub source: &'static str,
}

impl Row {
    /// The row for a cluster; nothing if it does not go through a proxy.
    pub fn expand(&self, facts: &Facts<'_>) -> Option<Result<Expanded, Unfilled>> {
        let to = self.to.as_deref()?;
        Some(self.filled(to, facts))
    }

    /// The network rule for a cluster, with placeholders where a fact is missing.
    pub fn network_for(&self, facts: &Facts<'_>) -> Option<Network> {
        let fill = |text: &str| fill_known(text, facts).into();
        let network = self.network.as_ref()?;
        let any_of = network.any_of.iter().map(|target| match target {
            Target::Cidr(text) => Target::Cidr(fill(text)),
            Target::Ip(text) => Target::Ip(fill(text)),
            Target::ServiceTag(text) => Target::ServiceTag(fill(text)),
            Target::Fqdn(text) => Target::Fqdn(fill(text)),
        });
        Some(Network {
            any_of: any_of.collect(),
            ..network.clone()
        })
    }

    /// The placeholders that a rule would have to give in `with`.
    pub fn needs_with(&self) -> impl Iterator<Item = &str> {
        placeholders(self.to.as_deref().unwrap_or_default()).filter(|name| !is_of_cluster(name))
    }

    fn missing(&self, name: &str) -> MissingFact {
        // The tunnel is called after the API server.
        let key = name.strip_suffix("_tunnel").unwrap_or(name);
        let known = SOURCES.iter().find(|(known, ..)| *known == key);
        let (_, example, source) = known
            .copied()
            .unwrap_or((key, "NAME", "the preset says what it stands for"));
        // The document says what names of this cloud look like.
        let documented = self.documented.as_deref().filter(|_| key == "api_server");
        let documented = documented.map(|name| {
            name.replace('*', "NAME")
                .replace("{region}", "REGION")
                .replace(".tun.", ".hcp.")
        });
        MissingFact {
            key: key.to_owned(),
            with: !is_of_cluster(name),
            example: documented.unwrap_or_else(|| example.to_owned()),
            source,
        }
    }

    fn filled(&self, to: &str, facts: &Facts<'_>) -> Result<Expanded, Unfilled> {
        let to = fill(to, facts).map_err(|name| Unfilled::Missing(self.missing(name)))?;
        let to = destination::parse(&to, Role::Allow).map_err(Unfilled::Bad)?;
        let addresses = &facts.cluster.api_server_addresses;
        let addresses = addresses.iter().filter(|_| self.addresses).map(|range| range.value);
        Ok(Expanded {
            to,
            addresses: addresses.collect(),
        })
    }
}

impl Facts<'_> {
    fn value(&self, name: &str) -> Option<String> {
        let cluster = self.cluster;
        match name {
            "region" => cluster.region.as_ref().map(|region| region.value.to_string()),
            "api_server" => cluster.api_server.as_ref().map(|name| name.value.to_string()),
            // Both are documented below parallel domains. Other API servers, such as private ones, have no such twin, and
            // their own name opens nothing that is not open already.
            "api_server_tunnel" => {
                let name = cluster.api_server.as_ref().map(|name| name.value.to_string());
                name.map(|name| name.replacen(".hcp.", ".tun.", 1))
            }
            _ => self.with.get(name).map(ToString::to_string),
        }
    }
}

/// Whether a placeholder speaks of the cluster, so that `with` cannot give it.
pub fn is_of_cluster(name: &str) -> bool {
    matches!(name, "region" | "api_server" | "api_server_tunnel")
}

/// The names in braces.
pub(super) fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    let parts = template.split('{').skip(1);
    parts.map(|part| part.split('}').next().unwrap_or_default())
}

pub(super) fn is_name(placeholder: &str) -> bool {
    !placeholder.is_empty()
        && placeholder
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Replaces placeholders by facts; without one, that placeholder is the error.
fn fill<'t>(template: &'t str, facts: &Facts<'_>) -> Result<String, &'t str> {
    let mut text = template.to_owned();
    for name in placeholders(template) {
        let value = facts.value(name).ok_or(name)?;
        text = text.replace(&format!("{{{name}}}"), &value);
    }
    Ok(text)
}

/// The same, with placeholders where a fact is missing.
pub(super) fn fill_known(template: &str, facts: &Facts<'_>) -> String {
    let mut text = template.to_owned();
    for name in placeholders(template) {
        if let Some(value) = facts.value(name) {
            text = text.replace(&format!("{{{name}}}"), &value);
        }
    }
    text
}

/// Rows of a file before there are any facts.
pub(super) struct Sample;

impl Sample {
    /// What a row comes to with facts of the usual shape.
    pub(super) fn fill(template: &str) -> Result<Destination, BadDestination> {
        let mut text = template.to_owned();
        for name in placeholders(template) {
            let value = match name {
                "api_server" | "api_server_tunnel" | "git_host" => "name.example.com",
                _ => "sample",
            };
            text = text.replace(&format!("{{{name}}}"), value);
        }
        destination::parse(&text, Role::Allow)
    }
}

/// Placeholders, what could stand there, and how to find out what should.
const SOURCES: &[(&str, &str, &str)] = &[
    ("region", "westeurope", "`az aks show --query location` prints it"),
    (
        "api_server",
        "NAME.hcp.REGION.azmk8s.io",
        "`az aks show --query fqdn` prints the name, for a private cluster `--query privateFqdn`",
    ),
    (
        "keyvault_name",
        "kv-test",
        "`az keyvault list --query [].name` prints the names of vaults",
    ),
    (
        "acr_name",
        "acrtest",
        "`az acr list --query [].name` prints the names of registries",
    ),
    (
        "aoai_name",
        "aoai-test",
        "`az cognitiveservices account list --query [].name` prints the names of resources",
    ),
    ("git_host", "git.example.com", "the host in the URL of the source"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::HostName;
    use crate::policy::presets::{names, preset};
    use crate::policy::problem::{At, Place};

    #[test]
    fn every_row_fills() {
        let cluster = cluster();
        let with = with(&[
            ("keyvault_name", "kv-test"),
            ("acr_name", "acrtest"),
            ("aoai_name", "aoai"),
            ("git_host", "git.example.com"),
        ]);
        let facts = Facts {
            cluster: &cluster,
            with: &with,
        };
        for name in names() {
            for row in &preset(name).unwrap().rows {
                let expanded = row.expand(&facts);
                assert_eq!(expanded.is_some(), row.to.is_some(), "{name} {}", row.id);
                assert!(expanded.is_none_or(|row| row.is_ok()), "{name} {}", row.id);
                for needed in row.needs_with() {
                    assert!(SOURCES.iter().any(|(known, ..)| *known == needed), "{name} {needed}");
                }
            }
        }
    }

    #[test]
    fn the_api_server_is_that_of_this_cluster_alone() {
        let core = preset("aks/core").unwrap();
        let row = core.rows.iter().find(|row| &*row.id == "api-server").unwrap();
        let mut cluster = cluster();
        let with = With::new();
        let expand = |cluster: &Cluster| {
            let facts = Facts { cluster, with: &with };
            row.expand(&facts).unwrap()
        };
        let expanded = expand(&cluster).unwrap();
        assert_eq!(expanded.to.to_string(), "api.hcp.westeurope.azmk8s.io");
        assert_eq!(expanded.addresses, ["20.50.1.2/32".parse::<IpNet>().unwrap()]);
        cluster.api_server = None;
        let Err(Unfilled::Missing(missing)) = expand(&cluster) else {
            panic!("it was filled")
        };
        assert_eq!((missing.key.as_str(), missing.with), ("api_server", false));
    }

    #[test]
    fn the_tunnel_of_china_is_that_of_this_cluster_alone() {
        let core = preset("aks/core").unwrap();
        let row = core.rows.iter().find(|row| &*row.id == "tunnel").unwrap();
        let mut cluster = cluster();
        cluster.api_server.as_mut().unwrap().value = host("a-1.hcp.chinaeast2.cx.prod.service.azk8s.cn");
        let with = With::new();
        let facts = Facts {
            cluster: &cluster,
            with: &with,
        };
        let to = row.expand(&facts).unwrap().unwrap().to;
        assert_eq!(to.to_string(), "a-1.tun.chinaeast2.cx.prod.service.azk8s.cn");
    }

    #[test]
    fn a_fact_that_a_rule_must_give_says_so() {
        let vault = preset("aks/key-vault-csi").unwrap();
        let cluster = cluster();
        let facts = |with| Facts {
            cluster: &cluster,
            with,
        };
        let none = With::new();
        let Err(Unfilled::Missing(missing)) = vault.rows[0].expand(&facts(&none)).unwrap() else {
            panic!("it was filled")
        };
        assert_eq!((missing.key.as_str(), missing.with), ("keyvault_name", true));
        let given = with(&[("keyvault_name", "kv-test")]);
        let to = vault.rows[0].expand(&facts(&given)).unwrap().unwrap().to;
        assert_eq!(to.to_string(), "kv-test.vault.azure.net");
        let odd = with(&[("keyvault_name", "a/b")]);
        assert!(matches!(
            vault.rows[0].expand(&facts(&odd)).unwrap(),
            Err(Unfilled::Bad(_))
        ));
    }

    fn with(pairs: &[(&str, &str)]) -> With {
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    fn host(name: &str) -> HostName {
        HostName::parse(name.as_bytes()).unwrap()
    }

    fn cluster() -> Cluster {
        let at = Place::default();
        Cluster {
            region: Some(At {
                value: "westeurope".into(),
                at,
            }),
            api_server: Some(At {
                value: host("api.hcp.westeurope.azmk8s.io"),
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
