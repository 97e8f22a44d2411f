//! Rules of Azure as products: protocols times names, ports times addresses; what does not fit into one becomes several.
//! Must not lose a pair or make one up.
//! Called by the writer of rules.

use super::template::{Protocol, Rule, Source};
use crate::policy::rule::Destination;

/// Targets with what each is open for, in the order in which they were written.
#[derive(Debug)]
pub(super) struct Grouped<K>(Vec<(String, Vec<K>)>);

impl<K> Default for Grouped<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: PartialEq> Grouped<K> {
    pub(super) fn add(&mut self, target: String, kinds: impl IntoIterator<Item = K>) {
        let place = self.0.iter().position(|(known, _)| *known == target);
        let place = place.unwrap_or_else(|| {
            self.0.push((target, Vec::new()));
            self.0.len() - 1
        });
        let Some((_, known)) = self.0.get_mut(place) else {
            return;
        };
        for kind in kinds {
            if !known.contains(&kind) {
                known.push(kind);
            }
        }
    }

    /// Targets that are open for the same, together: each is one rule.
    fn products(self) -> Vec<(Vec<String>, Vec<K>)> {
        let mut products: Vec<(Vec<String>, Vec<K>)> = Vec::new();
        for (target, kinds) in self.0 {
            match products.iter_mut().find(|(_, known)| *known == kinds) {
                Some((targets, _)) => targets.push(target),
                None => products.push((vec![target], kinds)),
            }
        }
        products
    }
}

pub(super) fn application_rules(
    name: &str,
    description: Option<&String>,
    source: &Source,
    targets: Grouped<Protocol>,
) -> Vec<Rule> {
    let products = targets.products().into_iter().enumerate();
    let rule = |(place, (target_fqdns, protocols)): (usize, (Vec<String>, Vec<Protocol>))| Rule::Application {
        name: numbered(name, place),
        description: description.cloned(),
        source: source.clone(),
        protocols,
        target_fqdns,
        fqdn_tags: Vec::new(),
    };
    products.map(rule).collect()
}

/// Addresses and names never stand in one rule, not even for the same ports: which of them Azure would match is not
/// documented, and import refuses it.
pub(super) fn network_rules(
    name: &str,
    description: Option<&String>,
    source: &Source,
    addresses: Grouped<String>,
    names: Grouped<String>,
) -> Vec<Rule> {
    let mut products: Vec<(Vec<String>, Vec<String>, Vec<String>)> = Vec::new();
    for (addresses, ports) in addresses.products() {
        products.push((addresses, Vec::new(), ports));
    }
    for (names, ports) in names.products() {
        products.push((Vec::new(), names, ports));
    }
    let rule = |(place, (destination_addresses, destination_fqdns, destination_ports))| Rule::Network {
        name: numbered(name, place),
        description: description.cloned(),
        ip_protocols: ["TCP"],
        source: source.clone(),
        destination_addresses,
        destination_fqdns,
        destination_ports,
    };
    products.into_iter().enumerate().map(rule).collect()
}

fn numbered(name: &str, place: usize) -> String {
    match place {
        0 => name.to_owned(),
        more => format!("{name}-{}", more + 1),
    }
}

pub(super) fn ports(to: &Destination) -> String {
    match (*to.ports.start(), *to.ports.end()) {
        (0 | 1, u16::MAX) => "*".to_owned(),
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}
