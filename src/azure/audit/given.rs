//! What the files hold: each resource by its type, parts by the server they belong to.
//! Must not pass over what it does not know.
//! Called by the audit.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use crate::azure::resource::{Resource, kind_of, plain, resources};

/// One parsed file.
#[derive(Clone, Debug)]
pub struct File {
    /// For messages.
    pub name: String,
    pub value: Value,
}

/// Why there is no audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Of the file.
    pub name: String,
    pub why: String,
}

/// Resources by kind.
#[derive(Default)]
pub(super) struct Given<'j> {
    pub(super) clusters: Vec<Resource<'j>>,
    pub(super) sql_servers: Vec<Resource<'j>>,
    /// By the server's id in lower case.
    pub(super) sql_parts: BTreeMap<String, SqlParts<'j>>,
    /// The file in which a part of a server was first seen.
    parts_in: BTreeMap<String, String>,
    pub(super) storage_accounts: Vec<Resource<'j>>,
    pub(super) registries: Vec<Resource<'j>>,
    pub(super) vaults: Vec<Resource<'j>>,
    /// By id in lower case.
    pub(super) public_addresses: BTreeMap<String, IpAddr>,
}

/// What is printed by commands of its own, and belongs to one server.
#[derive(Default)]
pub(super) struct SqlParts<'j> {
    pub(super) firewall_rules: Rules<'j>,
    pub(super) network_rules: Rules<'j>,
    pub(super) connection_policy: Option<Resource<'j>>,
}

/// Rules, and whether they are all: a list is, an object alone is not.
#[derive(Default)]
pub(super) struct Rules<'j> {
    pub(super) all: Vec<Resource<'j>>,
    pub(super) complete: bool,
}

pub(super) fn sort(files: &[File]) -> Result<Given<'_>, Vec<Refused>> {
    let mut given = Given::default();
    let mut refused = Vec::new();
    let mut ids = BTreeMap::new();
    for file in files {
        let mut refuse = |why: String| {
            refused.push(Refused {
                name: file.name.clone(),
                why,
            });
        };
        if let Some((id, items)) = named_list(&file.value) {
            match list_of(&id, items) {
                Ok((server, part)) => given.merge(server, part, &file.name),
                Err(why) => refuse(why),
            }
            continue;
        }
        let is_list = file.value.is_array() || file.value.get("value").is_some();
        let found = match resources(&file.value) {
            Ok(found) => found,
            Err(why) => {
                refuse(why);
                continue;
            }
        };
        if found.is_empty() {
            refuse(EMPTY.to_owned());
        }
        for resource in found {
            if let Some(id) = resource.text("id")
                && let Some(other) = ids.insert(id.to_ascii_lowercase(), resource)
                && other != resource
            {
                refuse(format!("`{}` was given twice, with different contents", plain(id)));
            } else if let Err(why) = given.add(resource, is_list, &file.name) {
                refuse(why);
            }
        }
    }
    refused.extend(given.orphans());
    if refused.is_empty() { Ok(given) } else { Err(refused) }
}

impl<'j> Given<'j> {
    fn add(&mut self, resource: Resource<'j>, is_list: bool, file: &str) -> Result<(), String> {
        let id = resource.text("id").unwrap_or_default();
        let kind = resource
            .text("type")
            .map_or_else(|| kind_of(id), str::to_ascii_lowercase);
        let place = match kind.as_str() {
            "microsoft.containerservice/managedclusters" => &mut self.clusters,
            "microsoft.sql/servers" => &mut self.sql_servers,
            "microsoft.storage/storageaccounts" => &mut self.storage_accounts,
            "microsoft.containerregistry/registries" => &mut self.registries,
            "microsoft.keyvault/vaults" => &mut self.vaults,
            "microsoft.network/publicipaddresses" => return self.add_address(id, resource),
            _ => return self.add_part(&kind, resource, is_list, file),
        };
        if id.is_empty() && resource.text("name").is_none() {
            return Err(format!(
                "a resource of type `{}` has neither `id` nor `name`",
                plain(&kind)
            ));
        }
        // The same resource in two files is one.
        if !place.contains(&resource) {
            place.push(resource);
        }
        Ok(())
    }

    fn add_part(&mut self, kind: &str, resource: Resource<'j>, complete: bool, file: &str) -> Result<(), String> {
        let mut part = SqlParts::default();
        let rules = Rules {
            all: vec![resource],
            complete,
        };
        match kind {
            "microsoft.sql/servers/firewallrules" => part.firewall_rules = rules,
            "microsoft.sql/servers/virtualnetworkrules" => part.network_rules = rules,
            "microsoft.sql/servers/connectionpolicies" => part.connection_policy = Some(resource),
            "" => return Err(UNNAMED.to_owned()),
            _ => {
                return Err(format!(
                    "resources of type `{}` are not known here; {KNOWN}",
                    plain(kind)
                ));
            }
        }
        let id = resource.text("id").unwrap_or_default();
        let server = server_of(id).ok_or_else(|| format!("`{}` does not name its server in `id`", plain(kind)))?;
        self.merge(server, part, file);
        Ok(())
    }

    fn merge(&mut self, server: String, part: SqlParts<'j>, file: &str) {
        self.parts_in.entry(server.clone()).or_insert_with(|| file.to_owned());
        self.sql_parts.entry(server).or_default().merge(part);
    }

    /// Parts of servers that were not given: nobody would look at them.
    fn orphans(&self) -> Vec<Refused> {
        let servers: Vec<_> = self.sql_servers.iter().filter_map(|server| server.text("id")).collect();
        let alone = |server: &&String| !servers.iter().any(|known| known.eq_ignore_ascii_case(server));
        let lines = self.sql_parts.keys().filter(alone).map(|server| Refused {
            name: self.parts_in.get(server).cloned().unwrap_or_default(),
            why: format!(
                "this belongs to `{}`, which was not given: add what `az sql server show -o json` prints",
                plain(server)
            ),
        });
        lines.collect()
    }

    fn add_address(&mut self, id: &str, resource: Resource<'j>) -> Result<(), String> {
        let address = resource.text("ipAddress").and_then(|address| address.parse().ok());
        let Some(address) = address.filter(|_| !id.is_empty()) else {
            return Err("a public IP address has no `ipAddress` or no `id`".to_owned());
        };
        self.public_addresses.insert(id.to_ascii_lowercase(), address);
        Ok(())
    }
}

impl SqlParts<'_> {
    fn merge(&mut self, other: Self) {
        self.firewall_rules.merge(other.firewall_rules);
        self.network_rules.merge(other.network_rules);
        self.connection_policy = self.connection_policy.or(other.connection_policy);
    }
}

impl Rules<'_> {
    fn merge(&mut self, other: Self) {
        self.all.extend(other.all);
        self.complete |= other.complete;
    }
}

/// `{"id": "SERVER/firewallRules", "value": [...]}`: a list that says of what it is, even when it is empty.
fn named_list(value: &Value) -> Option<(String, &[Value])> {
    let object = value.as_object()?;
    let id = object.get("id")?.as_str()?;
    let items = object.get("value")?.as_array()?;
    Some((id.to_ascii_lowercase(), items))
}

fn list_of<'j>(id: &str, items: &'j [Value]) -> Result<(String, SqlParts<'j>), String> {
    let all: Option<Vec<_>> = items.iter().map(Resource::of).collect();
    let rules = Rules {
        all: all.ok_or("an item of `value` is not an object")?,
        complete: true,
    };
    let (server, list) = id.rsplit_once('/').unwrap_or_default();
    if kind_of(server) != "microsoft.sql/servers" {
        return Err(format!(
            "`{}` is not the id of a list of an SQL server; {KNOWN}",
            plain(id)
        ));
    }
    let mut part = SqlParts::default();
    match list {
        "firewallrules" => part.firewall_rules = rules,
        "virtualnetworkrules" => part.network_rules = rules,
        _ => return Err(format!("`{}` is not a list that is known here; {KNOWN}", plain(id))),
    }
    Ok((server.to_owned(), part))
}

/// The server's own id, from the id of a part of it.
fn server_of(id: &str) -> Option<String> {
    let id = id.to_ascii_lowercase();
    let mut parts = id.rsplitn(3, '/');
    let (_, _, server) = (parts.next()?, parts.next()?, parts.next()?);
    (kind_of(server) == "microsoft.sql/servers").then(|| server.to_owned())
}

const EMPTY: &str = "an empty list does not say of what: for the rules of an SQL server add \
                     `--query \"{id: 'SERVER-ID/firewallRules', value: @}\"` to the command";
const UNNAMED: &str =
    "the resource has no `type` and no `id`: give what `az ... show -o json` prints, without `--query`";
const KNOWN: &str = "known are the outputs of `az aks show`, `az sql server show`, `az sql server firewall-rule list`, \
                     `az sql server vnet-rule list`, `az sql server conn-policy show`, `az storage account show`, \
                     `az acr show`, `az keyvault show`, `az network public-ip show`, and their lists";
