//! Whether the cluster, and what its workloads use, can be reached or left by another way than the proxy.
//! Must not take silence for good news: what is missing or not understood never passes.
//! Called by `audit`.

mod cluster;
mod given;
mod registry;
mod sql;
mod storage;
mod vault;

use std::net::IpAddr;

use serde::Serialize;

use super::resource::{Field, Resource, plain, shell};
use crate::criterion::Criterion;

pub use given::{File, Refused};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `KIND/NAME/WHAT`.
    pub id: String,
    pub criterion: Criterion,
    pub verdict: Verdict,
    /// Where it stands and what stands there.
    pub seen: String,
    /// What a pass shows.
    pub why: &'static str,
    /// The command that mends it, or prints what is missing. Nothing for what passes.
    pub mend: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Fail,
    Unknown,
    Pass,
}

impl Verdict {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "FAIL",
            Self::Unknown => "unknown",
            Self::Pass => "pass",
        }
    }
}

/// Judges all that was given; `egress` are the addresses from which the proxy leaves.
///
/// # Errors
/// A line for each file or resource that is not understood: half an audit would look like a whole one.
pub fn audit(files: &[File], egress: &[IpAddr]) -> Result<Vec<Check>, Vec<Refused>> {
    let given = given::sort(files)?;
    let mut checks = Vec::new();
    for found in &given.clusters {
        cluster::check(
            &Subject::of("cluster", *found),
            egress,
            &given.public_addresses,
            &mut checks,
        );
    }
    for found in &given.sql_servers {
        sql::check(&Subject::of("sql", *found), &given.sql_parts, &mut checks);
    }
    for found in &given.storage_accounts {
        storage::check(&Subject::of("storage", *found), &mut checks);
    }
    for found in &given.registries {
        registry::check(&Subject::of("registry", *found), &mut checks);
    }
    for found in &given.vaults {
        vault::check(&Subject::of("vault", *found), &mut checks);
    }
    Ok(checks)
}

/// A resource under audit, and how commands name it.
struct Subject<'j> {
    kind: &'static str,
    resource: Resource<'j>,
    /// As it stands in the input.
    id: &'j str,
    name: &'j str,
    group: &'j str,
}

/// What came of one look, before it has a name.
struct Finding {
    verdict: Verdict,
    seen: String,
    mend: Option<String>,
}

impl<'j> Subject<'j> {
    fn of(kind: &'static str, resource: Resource<'j>) -> Self {
        let id = resource.text("id").unwrap_or_default();
        Self {
            kind,
            resource,
            id,
            name: resource.name().unwrap_or("?"),
            group: resource.group().unwrap_or("RESOURCE-GROUP"),
        }
    }

    /// `-g GROUP -n NAME`, quoted for a shell.
    fn target(&self) -> String {
        format!("-g {} -n {}", shell(self.group), shell(self.name))
    }

    fn field(&self, path: &str) -> Field<'j> {
        self.resource.field(path)
    }

    fn report(
        &self,
        checks: &mut Vec<Check>,
        (what, criterion, why): (&'static str, Criterion, &'static str),
        finding: Finding,
    ) {
        checks.push(Check {
            id: format!("{}/{}/{what}", self.kind, plain(self.name)),
            criterion,
            verdict: finding.verdict,
            seen: finding.seen,
            why,
            mend: finding.mend,
        });
    }

    /// A flag that must have one value, and whose default is the other one, so that null fails.
    fn set(&self, path: &str, wanted: bool, mend: String) -> Finding {
        let field = self.field(path);
        if field.is_null() {
            return fail(&field, mend);
        }
        self.flag(path, wanted, mend)
    }

    /// A flag that must have one value, and whose default has changed with time or is not documented.
    fn flag(&self, path: &str, wanted: bool, mend: String) -> Finding {
        let field = self.field(path);
        match field.flag() {
            Some(seen) if seen == wanted => pass(&field),
            Some(_) => fail(&field, mend),
            None => self.unknown(&field),
        }
    }

    /// The file does not say; the command that prints all of the resource.
    fn unknown(&self, field: &Field<'_>) -> Finding {
        unknown(field.to_string(), self.show())
    }

    fn show(&self) -> String {
        let group = match self.kind {
            "cluster" => "aks",
            "sql" => "sql server",
            "storage" => "storage account",
            "registry" => "acr",
            _ => "keyvault",
        };
        format!("az {group} show {} -o json", self.target())
    }
}

fn pass(seen: impl Into<String>) -> Finding {
    Finding {
        verdict: Verdict::Pass,
        seen: seen.into(),
        mend: None,
    }
}

fn fail(seen: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding {
        verdict: Verdict::Fail,
        seen: seen.into(),
        mend: Some(mend.into()),
    }
}

fn unknown(seen: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding {
        verdict: Verdict::Unknown,
        seen: seen.into(),
        mend: Some(mend.into()),
    }
}

/// Who a network rule of a store lets in from outside: its public endpoint is off, closed to all but subnets, or open.
fn public_access(subject: &Subject<'_>, rules: &str, mend: String) -> Finding {
    let access = subject.field("publicNetworkAccess");
    match access.word().as_deref() {
        Some("disabled") => return pass(&access),
        Some("enabled") => {}
        // Null is Azure's default: enabled.
        None if access.is_null() => {}
        _ => return subject.unknown(&access),
    }
    let action = subject.field(&format!("{rules}.defaultAction"));
    match action.word().as_deref() {
        Some("deny") => {}
        Some("allow") => return fail(format!("{access}, {action}"), mend),
        // Without a set of rules everyone gets in.
        None if action.is_null() => return fail(format!("{access}, {action}"), mend),
        _ => return subject.unknown(&action),
    }
    let addresses = subject.field(&format!("{rules}.ipRules"));
    match addresses.items() {
        Some([]) => pass(format!("{access}, {action}, {addresses}")),
        None if addresses.is_null() => pass(format!("{access}, {action}, {addresses}")),
        Some(_) => fail(format!("{access}, {action}, {addresses}"), mend),
        None => subject.unknown(&addresses),
    }
}

#[cfg(test)]
mod tests;
