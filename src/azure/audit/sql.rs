//! SQL servers: who gets in from outside the virtual network, and whether their traffic fits through a proxy.
//! Must not conclude from a missing list of rules that there are none.
//! Called by the audit.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::given::SqlParts;
use super::{Check, Finding, Subject, fail, pass, unknown};
use crate::azure::resource::{Resource, plain, shell};
use crate::criterion::Criterion;

pub(super) fn check(subject: &Subject<'_>, parts: &BTreeMap<String, SqlParts<'_>>, checks: &mut Vec<Check>) {
    let none = SqlParts::default();
    let parts = parts.get(&subject.id.to_ascii_lowercase()).unwrap_or(&none);
    subject.report(checks, PUBLIC, public(subject, parts));
    subject.report(checks, AZURE, azure_services(subject, parts));
    subject.report(checks, WAY_IN, way_in(subject, parts));
    subject.report(checks, TLS, tls(subject));
    subject.report(checks, CONNECTION, connection(subject, parts));
}

/// The public endpoint is off, or lets in subnets alone.
fn public(subject: &Subject<'_>, parts: &SqlParts<'_>) -> Finding {
    let access = subject.field("publicNetworkAccess");
    match access.word().as_deref() {
        Some("disabled") => return pass(&access),
        Some("enabled") => {}
        None if access.is_null() => {}
        _ => return subject.unknown(&access),
    }
    let rules = &parts.firewall_rules;
    let open: Vec<_> = rules
        .all
        .iter()
        .filter(|rule| !is_azure(**rule))
        .map(|rule| shown(*rule))
        .collect();
    if open.is_empty() && !rules.complete {
        return no_rules(subject, &access.to_string());
    }
    if open.is_empty() {
        return pass(format!("{access}, and no firewall rule lets in an address"));
    }
    fail(
        format!("{access}, and firewall rules let in {}", open.join(", ")),
        format!(
            "az sql server update {} --enable-public-network false",
            subject.target()
        ),
    )
}

/// The rule 0.0.0.0 to 0.0.0.0 stands for every tenant's resources in Azure.
fn azure_services(subject: &Subject<'_>, parts: &SqlParts<'_>) -> Finding {
    let access = subject.field("publicNetworkAccess");
    if access.word().as_deref() == Some("disabled") {
        return pass(format!("{access}: no firewall rule counts"));
    }
    let rules = &parts.firewall_rules;
    if let Some(rule) = rules.all.iter().find(|rule| bounds(**rule).is_none()) {
        return unknown(
            format!("firewall rule {}: not two IPv4 addresses", shown(*rule)),
            list_rules(subject),
        );
    }
    let Some(rule) = rules.all.iter().find(|rule| is_azure(**rule)) else {
        return if rules.complete {
            pass("no firewall rule from 0.0.0.0")
        } else {
            no_rules(subject, &access.to_string())
        };
    };
    fail(
        format!("firewall rule {}: every resource in Azure, of any tenant", shown(*rule)),
        format!(
            "az sql server firewall-rule delete -g {} -s {} -n {}",
            shell(subject.group),
            shell(subject.name),
            shell(rule.text("name").unwrap_or("RULE"))
        ),
    )
}

/// Somebody inside must get in as well.
fn way_in(subject: &Subject<'_>, parts: &SqlParts<'_>) -> Finding {
    let connections = subject.field("privateEndpointConnections");
    let status = "privateLinkServiceConnectionState.status";
    let approved = connections
        .items()
        .unwrap_or_default()
        .iter()
        .filter_map(Resource::of)
        .any(|connection| {
            let status = connection.field(status).word();
            status.as_deref() == Some("approved")
        });
    if approved {
        return pass("privateEndpointConnections: one is approved");
    }
    let access = subject.field("publicNetworkAccess");
    let closed = access.word().as_deref() == Some("disabled");
    if !closed && !parts.network_rules.all.is_empty() {
        return pass("a virtual network rule lets in a subnet");
    }
    let mend = format!(
        "az network private-endpoint create -g {} -n {} --vnet-name VNET --subnet SUBNET --group-id sqlServer \
         --connection-name {} --private-connection-resource-id {}",
        shell(subject.group),
        shell(&format!("{}-sql", subject.name)),
        shell(subject.name),
        shell(if subject.id.is_empty() { "SERVER-ID" } else { subject.id })
    );
    let known = connections.items().is_some() || connections.is_null();
    if known && (closed || parts.network_rules.complete) {
        return fail(
            format!("{connections}, {access}: nobody in the virtual network gets in privately"),
            mend,
        );
    }
    if known {
        let list = format!(
            "az sql server vnet-rule list -g {} -s {} --query \"{{id: '{}/virtualNetworkRules', value: @}}\" -o json",
            shell(subject.group),
            shell(subject.name),
            quoted(subject.id)
        );
        return unknown(
            format!("{connections}; the list of virtual network rules was not given"),
            list,
        );
    }
    subject.unknown(&connections)
}

fn tls(subject: &Subject<'_>) -> Finding {
    let version = subject.field("minimalTlsVersion");
    let mend = format!("az sql server update {} --minimal-tls-version 1.2", subject.target());
    match version.word().as_deref() {
        Some("1.2" | "1.3") => pass(&version),
        Some("1.0" | "1.1" | "none" | "") => fail(&version, mend),
        None if version.is_null() => fail(&version, mend),
        _ => subject.unknown(&version),
    }
}

fn connection(subject: &Subject<'_>, parts: &SqlParts<'_>) -> Finding {
    let target = format!("-g {} -s {}", shell(subject.group), shell(subject.name));
    let show = format!("az sql server conn-policy show {target} -o json");
    let Some(policy) = parts.connection_policy else {
        return unknown("the connection policy was not given", show);
    };
    let kind = policy.field("connectionType");
    let mend = format!("az sql server conn-policy update {target} -t Proxy");
    match kind.word().as_deref() {
        Some("proxy") => pass(&kind),
        Some("redirect") => fail(&kind, mend),
        // Private endpoints are documented to redirect only where Redirect is chosen, and the rest of Azure without that.
        Some("default") if subject.field("publicNetworkAccess").word().as_deref() == Some("disabled") => unknown(
            format!("{kind}, which inside Azure is Redirect, and through private endpoints should be Proxy"),
            mend,
        ),
        Some("default") => fail(format!("{kind}, which inside Azure is Redirect"), mend),
        _ => unknown(&kind, show),
    }
}

fn no_rules(subject: &Subject<'_>, seen: &str) -> Finding {
    unknown(
        format!("{seen}; the firewall rules were not given"),
        list_rules(subject),
    )
}

/// In a form that says of what it is a list even when it is empty.
fn list_rules(subject: &Subject<'_>) -> String {
    format!(
        "az sql server firewall-rule list -g {} -s {} --query \"{{id: '{}/firewallRules', value: @}}\" -o json",
        shell(subject.group),
        shell(subject.name),
        quoted(subject.id)
    )
}

/// Inside single quotes inside double quotes of a shell.
fn quoted(id: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "._-/()".contains(c);
    if !id.is_empty() && id.chars().all(safe) {
        id.to_owned()
    } else {
        "SERVER-ID".to_owned()
    }
}

fn bounds(rule: Resource<'_>) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let address = |path| rule.text(path)?.parse().ok();
    Some((address("startIpAddress")?, address("endIpAddress")?))
}

fn is_azure(rule: Resource<'_>) -> bool {
    bounds(rule) == Some((Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED))
}

fn shown(rule: Resource<'_>) -> String {
    let text = |path| plain(rule.text(path).unwrap_or("?"));
    format!(
        "{} ({} to {})",
        text("name"),
        text("startIpAddress"),
        text("endIpAddress")
    )
}

type About = (&'static str, Criterion, &'static str);
const PUBLIC: About = (
    "public-access",
    Criterion::Sql,
    "what a workload writes into this database can be read from nowhere else",
);
const AZURE: About = (
    "azure-services-rule",
    Criterion::Sql,
    "machines of other tenants do not get in by the rule that the portal calls `Allow Azure services`",
);
const WAY_IN: About = (
    "private-way-in",
    Criterion::Sql,
    "workloads reach it through a private endpoint or a subnet's rule, not over the internet",
);
const TLS: About = (
    "minimal-tls",
    Criterion::Sql,
    "passwords do not travel under broken encryption",
);
const CONNECTION: About = (
    "connection-policy",
    Criterion::LeastEgress,
    "clients need port 1433 of one name alone, and are not sent on to ports 11000-11999 (by private endpoints: to any \
     from 1433 on) of addresses that no rule by name covers",
);
