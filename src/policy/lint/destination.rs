//! Lints of one destination: wider than it looks, open to anyone's account, or without a public address.
//! Must not look at other rules.
//! Called by the lints, for each destination that a file spells out.

use ipnet::IpNet;

use super::Noted;
use super::suffix::{any_tenant, opened_suffix};
use crate::address::{AddressClass, classify_net};
use crate::name::HostPattern;
use crate::policy::document::{Accept, Checks, Document, Text, address};
use crate::policy::problem::At;
use crate::policy::problem::lint::Lint;
use crate::policy::rule::{Destination, HostMatch};

/// Notes what is worth a look in a destination of an allow rule.
pub(super) fn check(to: &At<Destination>, checks: Option<&Checks>, accept: &[At<Accept>], noted: &mut Noted<'_, '_>) {
    match &to.value.host {
        HostMatch::Name(pattern) => {
            check_shared(to, pattern, accept, noted);
            check_any_tenant(to, pattern, accept, noted);
            if checks.is_none_or(|checks| checks.addresses.is_empty()) {
                check_private(to, pattern, accept, noted);
            }
        }
        HostMatch::Cidr(network) => check_wide(to, *network, accept, noted),
    }
}

/// Rows of a preset that are as wide as a destination that would be noted.
pub(super) fn check_preset(
    document: &Document,
    name: &At<Text>,
    checks: Option<&Checks>,
    accept: &[At<Accept>],
    noted: &mut Noted<'_, '_>,
) {
    // What every node needs is no choice.
    let found = document.presets.preset(&name.value).filter(|_| *name.value != *CORE);
    let Some(preset) = found else { return };
    let choice = checks
        .and_then(|checks| checks.rows.as_deref().cloned())
        .unwrap_or_default();
    let cloud = document
        .cluster()
        .cloud
        .map_or_else(Default::default, |cloud| cloud.value);
    let opened = preset.rows_for(cloud).filter(|row| choice.opens(row));
    let wide = opened.filter_map(|row| Some(format!("`{}` ({})", row.opens_to_anyone()?, row.id)));
    let wide: Vec<_> = wide.collect();
    if !wide.is_empty() {
        let message = format!(
            "`{}` opens wildcards below which anyone can get a name: {}",
            name.value,
            wide.join(", ")
        );
        noted
            .note(Lint::SharedSuffix, accept, name.at, message)
            .label("data can leave to any tenant")
            .help("leave out with `without` what is not needed, or end the rule with `until`");
    }
}

/// Notes a range in `addresses` that is too wide to be meant.
pub(super) fn check_addresses(range: &At<IpNet>, accept: &[At<Accept>], noted: &mut Noted<'_, '_>) {
    let limit = if range.value.addr().is_ipv4() { 8 } else { 32 };
    if range.value.prefix_len() < limit {
        let message = format!("`{}` is a wide range of addresses", address::shown(range.value));
        noted
            .note(Lint::WideRange, accept, range.at, message)
            .help("whoever controls the DNS of the destination chooses any of them; write the subnet that is meant");
    }
}

/// A wildcard over names that any customer of a cloud can take lets data out to all of them.
fn check_shared(to: &At<Destination>, pattern: &HostPattern, accept: &[At<Accept>], noted: &mut Noted<'_, '_>) {
    let Some(shared) = opened_suffix(pattern) else { return };
    let suffix = match pattern {
        HostPattern::Exact(suffix) | HostPattern::Below(suffix) => suffix,
        HostPattern::Label(label) => &label.suffix,
    };
    let star = if suffix.as_str() == shared {
        ""
    } else {
        ", which this holds"
    };
    let message = format!("anyone can get a name below `{shared}`{star}");
    noted
        .note(Lint::SharedSuffix, accept, to.at, message)
        .label("data can leave to any tenant")
        .help(if shared.contains('*') {
            "write your own names, each to its end".to_owned()
        } else {
            format!("write your own names: `NAME.{shared}`")
        });
}

fn check_any_tenant(to: &At<Destination>, pattern: &HostPattern, accept: &[At<Accept>], noted: &mut Noted<'_, '_>) {
    let Some(host) = any_tenant(pattern) else { return };
    noted
        .note(
            Lint::AnyTenant,
            accept,
            to.at,
            format!("`{host}` signs in to any tenant"),
        )
        .label("whose tenant it is, only TLS knows")
        .help("pods with `identity: workload` have it already; for others limit it with `from`, and accept it there");
}

/// What resolves into a private network, where it resolves at all, is refused unless `addresses` opens that network.
fn check_private(to: &At<Destination>, pattern: &HostPattern, accept: &[At<Accept>], noted: &mut Noted<'_, '_>) {
    let suffix = match pattern {
        HostPattern::Exact(suffix) | HostPattern::Below(suffix) => suffix,
        HostPattern::Label(label) => &label.suffix,
    };
    let Some(why) = private(suffix.as_str()) else { return };
    noted
        .note(
            Lint::PrivateName,
            accept,
            to.at,
            format!("this has private addresses by design ({why}), and the rule opens none"),
        )
        .label("answers in private ranges are refused")
        .help("add `addresses: [10.1.2.0/24]`, the range of its private endpoint, or use the public name");
}

/// Which kind of name is never answered with a public address.
fn private(name: &str) -> Option<&'static str> {
    let mut labels = name.split('.');
    if labels.clone().any(|label| label == "privatelink") {
        return Some("Private Link");
    }
    if name.ends_with(".azmk8s.io") && labels.any(|label| label == "private") {
        return Some("a private API server");
    }
    PRIVATE
        .iter()
        .find(|(suffix, _)| {
            name.strip_suffix(suffix)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
        .map(|(_, why)| *why)
}

fn check_wide(to: &At<Destination>, network: IpNet, accept: &[At<Accept>], noted: &mut Noted<'_, '_>) {
    let shown = address::shown(network);
    let is_v4 = network.addr().is_ipv4();
    match classify_net(network) {
        AddressClass::Public if network.prefix_len() < if is_v4 { 16 } else { 32 } => {
            let message = format!("`{shown}` is a wide range of addresses");
            noted
                .note(Lint::WideRange, accept, to.at, message)
                .help("no name is checked behind an address rule; write the addresses that are needed");
        }
        AddressClass::Special(class) if network.prefix_len() < if is_v4 { 24 } else { 64 } => {
            let message = format!("`{shown}` is a wide range of addresses ({class})");
            noted
                .note(Lint::WideRange, accept, to.at, message)
                .label("naming it opens all of it")
                .help("write the addresses that are needed");
        }
        _ => {}
    }
}

/// Suffixes that no public resolver knows, and who gives out names there.
const PRIVATE: &[(&str, &str)] = &[
    ("internal.cloudapp.net", "a virtual network"),
    ("internal", "reserved for private networks"),
    ("local", "a local network, or the cluster"),
    ("svc", "the cluster"),
    ("home.arpa", "reserved for private networks"),
];

const CORE: &str = "aks/core";
