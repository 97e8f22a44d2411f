//! Application rules: names by protocol and port, tags, and what looks into TLS.
//! Must not decide who asks; the sources do.
//! Called by import for each application rule.

use super::Lossy;
use super::draft::Opens;
use super::host;
use crate::azure::json::shortened;
use crate::azure::model::{Action, Application, Placed, Protocol, Rule};
use crate::azure::report::{Kind, Place};
use crate::name::HostPattern;
use crate::policy::presets::fqdn_tag;
use crate::policy::rule::{Destination, HostMatch, Scheme};

/// What the rule opens or closes. None: nothing is left of it, or something was wrong; that was noted.
pub(super) fn opens(target: &Application, rule: &Rule, allows_behind: bool, lossy: &mut Lossy<'_>) -> Option<Opens> {
    if let Some(at) = &target.terminate_tls {
        let message = "TLS inspection looks at what is inside of TLS".to_owned();
        let outcome = if target.urls.is_empty() && target.web_categories.is_empty() {
            "carried over without it: only names are looked at"
        } else {
            "not carried over"
        };
        lossy.changed(Kind::TlsInspection, at, message, outcome);
    }
    if let Some(at) = &target.headers {
        let message = "headers are inserted into requests".to_owned();
        lossy
            .changed(Kind::HeaderInsertion, at, message, "carried over without them")
            .help("what they limit, such as tenants, is not limited here");
    }
    if let Some(first) = target.addresses.iter().find(|address| address.value != "*") {
        let message = "an application rule names destination addresses, whose meaning is not documented".to_owned();
        lossy.changed(
            Kind::DestinationAddresses,
            &first.at,
            message,
            "carried over without them",
        );
    }
    let kinds = [
        !target.fqdns.is_empty(),
        !target.fqdn_tags.is_empty(),
        !target.urls.is_empty(),
        !target.web_categories.is_empty(),
    ];
    match kinds.iter().filter(|given| **given).count() {
        0 => {
            lossy
                .report
                .note(Kind::Empty, &rule.at, "the rule has no target")
                .help("it has `targetFqdns`, `fqdnTags`, `targetUrls` or `webCategories`; empty is not any");
            return None;
        }
        1 => {}
        _ => {
            lossy
                .report
                .note(
                    Kind::BadValue,
                    &rule.at,
                    "the rule has targets of several kinds, and how Azure joins them is not documented",
                )
                .help("make a rule of each");
            return None;
        }
    }
    if let Some(first) = target.urls.first() {
        let message = format!(
            "`{}` is a URL: what stands behind the name cannot be seen here",
            shortened(&first.value)
        );
        lossy.lost(Kind::Url, &first.at, message, "not carried over");
        return None;
    }
    if let Some(first) = target.web_categories.first() {
        let message = format!(
            "`{}` is a category of names that Microsoft keeps",
            shortened(&first.value)
        );
        lossy.lost(Kind::WebCategory, &first.at, message, "not carried over");
        return None;
    }
    if !target.fqdn_tags.is_empty() {
        return tags(target, lossy);
    }
    names(target, rule, allows_behind, lossy)
}

fn names(target: &Application, rule: &Rule, allows_behind: bool, lossy: &mut Lossy<'_>) -> Option<Opens> {
    if target.protocols.is_empty() {
        lossy
            .report
            .note(Kind::Empty, &rule.at, "the rule has target names and no `protocols`")
            .help("Azure wants them, such as `Https` on port 443");
        return None;
    }
    let all: Vec<_> = target.fqdns.iter().collect();
    // What denies all that is left does what the end of every policy does.
    if lossy.action == Action::Deny && !allows_behind && all.iter().any(|name| name.value == "*") {
        lossy
            .report
            .note(
                Kind::DefaultDeny,
                &rule.at,
                "the rule denies every name, and nothing is allowed behind it",
            )
            .outcome("left out: what no rule allows is denied here");
        lossy
            .remarks
            .push("denies what is left, as the end of every policy does".to_owned());
        return None;
    }
    let mut to = Vec::new();
    let mut protocols: Vec<(Protocol, u16, &Place)> = Vec::new();
    for Placed {
        value: (protocol, port),
        at,
    } in &target.protocols
    {
        if !protocols
            .iter()
            .any(|(own, number, _)| (own, number) == (protocol, port))
        {
            protocols.push((*protocol, *port, at));
        }
    }
    let mut patterns: Vec<HostPattern> = Vec::new();
    for name in all {
        for pattern in host::patterns(name, lossy) {
            note_open(&pattern, name, lossy);
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
    }
    if patterns.is_empty() {
        return None;
    }
    for (protocol, port, at) in protocols {
        if protocol == Protocol::Mssql && lossy.action == Action::Allow {
            let message = format!("`Mssql` on port {port} becomes plain TCP");
            lossy
                .changed(
                    Kind::Mssql,
                    at,
                    message,
                    "the name inside of the connection is not looked at",
                )
                .help("the server must use the connection policy `Proxy`, and only its own name may be allowed");
        }
        for pattern in &patterns {
            let destination = destination(protocol, port, pattern.clone(), lossy.action);
            if !to.contains(&destination) {
                to.push(destination);
            }
        }
    }
    Some(Opens::To(to))
}

fn destination(protocol: Protocol, port: u16, pattern: HostPattern, action: Action) -> Destination {
    let scheme = match (action, protocol) {
        (Action::Deny | Action::Dnat, _) => None,
        (Action::Allow, Protocol::Https) => Some(Scheme::Tls),
        (Action::Allow, Protocol::Http) => Some(Scheme::Http),
        (Action::Allow, Protocol::Mssql) => Some(Scheme::Tcp),
    };
    Destination {
        scheme,
        host: HostMatch::Name(pattern),
        ports: port..=port,
    }
}

fn tags(target: &Application, lossy: &mut Lossy<'_>) -> Option<Opens> {
    let mut known = Vec::new();
    let mut failed = false;
    for tag in &target.fqdn_tags {
        match fqdn_tag(&tag.value) {
            Err(bad) if bad.documented => {
                let help = bad.help.clone();
                lossy
                    .lost(Kind::FqdnTag, &tag.at, bad.why, "not carried over")
                    .help(help);
            }
            Err(bad) => {
                lossy.report.note(Kind::UnknownFqdnTag, &tag.at, bad.why).help(bad.help);
                failed = true;
            }
            Ok(_) if lossy.action == Action::Deny => {
                let message = format!("a deny rule cannot name the tag `{}`", tag.value);
                lossy.lost(Kind::FqdnTag, &tag.at, message, "not carried over");
            }
            Ok(presets) => {
                let message = format!("`{}` stands for our own open list", tag.value);
                lossy
                    .report
                    .note(Kind::FqdnTagList, &tag.at, message)
                    .outcome(format!("`sluicegate presets show` prints it: {}", presets.join(", ")));
                if !known.contains(&tag.value) {
                    known.push(tag.value.clone());
                }
            }
        }
    }
    if failed || known.is_empty() {
        return None;
    }
    let usual = [(Protocol::Http, 80), (Protocol::Https, 443)];
    let given: Vec<_> = target.protocols.iter().map(|protocol| protocol.value).collect();
    if !given.is_empty()
        && let Some(first) = target.protocols.first()
        && (usual.iter().any(|usual| !given.contains(usual)) || given.iter().any(|given| !usual.contains(given)))
    {
        let named: Vec<_> = given
            .iter()
            .map(|(protocol, port)| format!("{}:{port}", protocol.as_str()))
            .collect();
        let message = format!("the rule opens its tag for {}", named.join(", "));
        lossy.changed(
            Kind::FqdnTagProtocols,
            &first.at,
            message,
            "each host of our list brings its own protocol and port: Http:80 or Https:443",
        );
    }
    Some(Opens::Tags(known))
}

/// What a person should look at though it is exactly the same here.
fn note_open(pattern: &HostPattern, name: &Placed<String>, lossy: &mut Lossy<'_>) {
    if lossy.action != Action::Allow {
        return;
    }
    if let Some(shared) = crate::policy::opened_suffix(pattern) {
        lossy
            .report
            .note(
                Kind::AnyTenant,
                &name.at,
                format!("`{pattern}`: anyone can get a name below `{shared}`"),
            )
            .outcome("carried over as it is")
            .help(format!("name your own: `NAME.{shared}`"));
    } else if let Some(host) = crate::policy::any_tenant(pattern) {
        lossy
            .report
            .note(
                Kind::AnyTenant,
                &name.at,
                format!("`{host}` signs in users of every tenant"),
            )
            .outcome("carried over as it is");
    }
    let text = pattern.to_string();
    let retired = RETIRED
        .iter()
        .find(|(host, _)| text == *host || host.strip_prefix('*').is_some_and(|suffix| text.ends_with(suffix)));
    if let Some((_, why)) = retired {
        lossy
            .report
            .note(Kind::RetiredHost, &name.at, format!("`{text}` {why}"))
            .outcome("carried over as it is")
            .help("remove it, once nothing asks for it any more");
    }
}

/// What AKS or its images needed once, and our data of today does not have; `*` stands for what is below.
const RETIRED: &[(&str, &str)] = &[
    (
        "aksrepos.azurecr.io",
        "held images of AKS; they are at mcr.microsoft.com now",
    ),
    (
        "*.cdn.mscr.io",
        "served the layers of mcr.microsoft.com; *.data.mcr.microsoft.com does now",
    ),
    (
        "k8s.gcr.io",
        "is frozen; images of Kubernetes are at registry.k8s.io now",
    ),
    (
        "packages.cloud.google.com",
        "is frozen for Kubernetes; packages are at pkgs.k8s.io now",
    ),
    (
        "apt.dockerproject.org",
        "is gone; packages of Docker are at download.docker.com now",
    ),
    (
        "yum.dockerproject.org",
        "is gone; packages of Docker are at download.docker.com now",
    ),
    ("mirror.azk8s.cn", "is gone with its mirrors"),
    (
        "acs-mirror.azureedge.net",
        "is being replaced by packages.aks.azure.com",
    ),
];
