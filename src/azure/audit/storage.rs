//! Storage accounts: who gets in from outside the virtual network, and with what.
//! Must not take Azure's defaults for closed.
//! Called by the audit.

use super::{Check, Finding, Subject, fail, pass, public_access};
use crate::criterion::Criterion;

pub(super) fn check(subject: &Subject<'_>, checks: &mut Vec<Check>) {
    let target = subject.target();
    let update = |flags: &str| format!("az storage account update {target} {flags}");
    // The command says `networkRuleSet`, REST and templates say `networkAcls`.
    let rules = rules(subject);
    let public = public_access(subject, rules, update("--public-network-access Disabled"));
    subject.report(checks, PUBLIC, public);
    subject.report(checks, BYPASS, bypass(subject, rules, update("--bypass None")));
    let keys = subject.set("allowSharedKeyAccess", false, update("--allow-shared-key-access false"));
    subject.report(checks, SHARED_KEY, keys);
    let anonymous = subject.flag(
        "allowBlobPublicAccess",
        false,
        update("--allow-blob-public-access false"),
    );
    subject.report(checks, ANONYMOUS, anonymous);
    subject.report(checks, TLS, tls(subject, update("--min-tls-version TLS1_2")));
}

fn rules(subject: &Subject<'_>) -> &'static str {
    let flat = subject.field("networkRuleSet");
    if flat.look == crate::azure::resource::Look::Absent {
        "networkAcls"
    } else {
        "networkRuleSet"
    }
}

fn bypass(subject: &Subject<'_>, rules: &str, mend: String) -> Finding {
    let bypass = subject.field(&format!("{rules}.bypass"));
    match bypass.word().as_deref() {
        Some("none") => pass(&bypass),
        Some(_) => fail(&bypass, mend),
        None => subject.unknown(&bypass),
    }
}

fn tls(subject: &Subject<'_>, mend: String) -> Finding {
    let version = subject.field("minimumTlsVersion");
    match version.word().as_deref() {
        Some("tls1_2" | "tls1_3") => pass(&version),
        Some("tls1_0" | "tls1_1") => fail(&version, mend),
        None if version.is_null() => fail(&version, mend),
        _ => subject.unknown(&version),
    }
}

type About = (&'static str, Criterion, &'static str);
const PUBLIC: About = (
    "public-access",
    Criterion::Stores,
    "what a workload writes into this account can be read from nowhere else",
);
const BYPASS: About = (
    "network-bypass",
    Criterion::Stores,
    "services of Azure, which act for whoever configured them, do not get in past the network rules",
);
const SHARED_KEY: About = (
    "shared-key",
    Criterion::Identities,
    "nobody gets in with a key, or a SAS made with it, past every identity",
);
const ANONYMOUS: About = (
    "anonymous-blobs",
    Criterion::Stores,
    "no container of this account can be opened to everyone",
);
const TLS: About = (
    "minimal-tls",
    Criterion::Stores,
    "keys and tokens do not travel under broken encryption",
);
