//! Container registries: who gets in from outside the virtual network, with what, and where layers come from.
//! Must not take Azure's defaults for closed.
//! Called by the audit.

use super::{Check, Subject, public_access};
use crate::azure::resource::shell;
use crate::criterion::Criterion;

pub(super) fn check(subject: &Subject<'_>, checks: &mut Vec<Check>) {
    let name = shell(subject.name);
    let update = |flags: &str| format!("az acr update -n {name} {flags}");
    // Network rules, private endpoints and data endpoints are for this SKU alone.
    let premium = match subject.field("sku.name").word().as_deref() {
        Some("premium") => "",
        _ => "--sku Premium ",
    };
    let public = update(&format!("{premium}--public-network-enabled false"));
    subject.report(checks, PUBLIC, public_access(subject, "networkRuleSet", public));
    let endpoints = update(&format!("{premium}--data-endpoint-enabled true"));
    let endpoints = subject.set("dataEndpointEnabled", true, endpoints);
    subject.report(checks, DATA_ENDPOINTS, endpoints);
    let anonymous = subject.flag("anonymousPullEnabled", false, update("--anonymous-pull-enabled false"));
    subject.report(checks, ANONYMOUS, anonymous);
    let admin = subject.flag("adminUserEnabled", false, update("--admin-enabled false"));
    subject.report(checks, ADMIN, admin);
}

type About = (&'static str, Criterion, &'static str);
const PUBLIC: About = (
    "public-access",
    Criterion::Stores,
    "what a workload pushes can be pulled from nowhere else",
);
const DATA_ENDPOINTS: About = (
    "data-endpoints",
    Criterion::LeastEgress,
    "layers come from names of this registry, not from `*.blob.core.windows.net`, where any tenant can put data",
);
const ANONYMOUS: About = (
    "anonymous-pull",
    Criterion::Stores,
    "nobody pulls images without an identity",
);
const ADMIN: About = (
    "admin-user",
    Criterion::Identities,
    "nobody gets in with one password for all, past every identity",
);
