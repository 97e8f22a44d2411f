//! Requests around what a rule file names: the names themselves, their neighbours and imitations, other ports and
//! protocols, sources inside and beside every range. Must not know how any of them is answered.
//! Called by the tests of import and export.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use super::dice::Dice;
use super::model::{Flow, Protocol};

/// What a file names, all in all and rule by rule.
#[derive(Debug, Default)]
pub struct Around {
    names: Vec<String>,
    /// With what is spoken there, where the file says it.
    ports: Vec<(u16, Option<Protocol>)>,
    sources: Vec<IpAddr>,
    targets: Vec<IpAddr>,
    rules: Vec<Around>,
}

impl Around {
    pub fn of(documents: &[Value]) -> Self {
        let mut around = Self::default();
        for document in documents {
            around.collect("", document);
        }
        around.ports.extend([80, 443, 22].map(|port| (port, None)));
        around
            .sources
            .extend([[192, 0, 2, 9], [10, 244, 3, 4], [127, 0, 0, 1]].map(IpAddr::from));
        around
            .targets
            .extend([[93, 184, 216, 34], [8, 8, 8, 8]].map(IpAddr::from));
        assert!(!around.names.is_empty(), "the file names nothing");
        around
    }

    /// Most flows are near one rule, in all but a part or two.
    pub fn flow(&self, dice: &mut Dice) -> Flow {
        let rule = dice.pick(&self.rules);
        let near = |dice: &mut Dice, has: bool| if has && !dice.once_in(6) { rule } else { self };
        let sources = near(dice, !rule.sources.is_empty());
        let source = *dice.pick(&sources.sources);
        let spoken = near(dice, !rule.ports.is_empty());
        let (port, protocol) = *dice.pick(&spoken.ports);
        let port = match dice.below(12) {
            0 => port.saturating_add(1),
            1 => port.saturating_sub(1).max(1),
            _ => port,
        };
        let protocols = [
            Protocol::Http,
            Protocol::Https,
            Protocol::Https,
            Protocol::Mssql,
            Protocol::Tcp,
        ];
        let protocol = protocol.filter(|_| !dice.once_in(6)).unwrap_or(*dice.pick(&protocols));
        let named = near(dice, !rule.names.is_empty());
        let is_named = if rule.targets.is_empty() {
            !dice.once_in(12)
        } else {
            dice.once_in(2)
        };
        let name = is_named.then(|| named.name(dice));
        let aimed = near(dice, !rule.targets.is_empty());
        // What a name resolves to is public here: private answers are for the guard of addresses, not for rules.
        let public: Vec<_> = self
            .targets
            .iter()
            .filter(|address| is_public(**address))
            .copied()
            .collect();
        let address = match name {
            None => Some(*dice.pick(&aimed.targets)),
            Some(_) => dice.once_in(3).then(|| *dice.pick(&public)),
        };
        Flow {
            source,
            protocol,
            name,
            address,
            port,
        }
    }

    fn name(&self, dice: &mut Dice) -> String {
        let name = dice.pick(&self.names).clone();
        let parent = || {
            name.split_once('.')
                .map_or(name.as_str(), |(_, parent)| parent)
                .to_owned()
        };
        match dice.below(26) {
            0 => format!("a.{name}"),
            1 => format!("x.y-1.{name}"),
            2 => parent(),
            3 => format!("sibling.{}", parent()),
            4 => format!("evil{name}"),
            5 => format!("evil-{name}"),
            6 => format!("{name}.evil.example"),
            7 => name.replacen('.', "-", 1),
            8 => format!("{name}x"),
            9 => name.to_ascii_uppercase(),
            10 => format!("{name}."),
            11 => "unrelated.example.edu".to_owned(),
            12 => format!("a.evil{name}"),
            _ => name,
        }
    }

    fn collect(&mut self, key: &str, value: &Value) {
        match value {
            Value::Object(fields) => {
                if let (Some(port), Some(protocol)) = (fields.get("port"), fields.get("protocolType")) {
                    let port = port.as_u64().and_then(|port| u16::try_from(port).ok());
                    let port = port.or_else(|| port_of(fields["port"].as_str()?));
                    let protocol = match protocol.as_str().unwrap_or_default().to_ascii_lowercase().as_str() {
                        "http" => Protocol::Http,
                        "https" => Protocol::Https,
                        _ => Protocol::Mssql,
                    };
                    self.ports.extend(port.map(|port| (port, Some(protocol))));
                    return;
                }
                let is_rule = RULES.iter().any(|key| fields.contains_key(*key));
                let mut inner = Self::default();
                for (key, value) in fields {
                    inner.collect(key, value);
                }
                self.names.extend(inner.names.iter().cloned());
                self.ports.extend(&inner.ports);
                self.sources.extend(&inner.sources);
                self.targets.extend(&inner.targets);
                self.rules.append(&mut inner.rules);
                if is_rule {
                    self.rules.push(inner);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.collect(key, item)),
            Value::String(text) => match key {
                "targetFqdns" | "destinationFqdns" => {
                    let name = text.trim_start_matches('*').trim_start_matches('.');
                    self.names.extend((!name.is_empty()).then(|| name.to_owned()));
                }
                "destinationPorts" => self
                    .ports
                    .extend(text.split('-').filter_map(port_of).map(|port| (port, None))),
                "sourceAddresses" | "ipAddresses" => self.sources.extend(edges(text)),
                "destinationAddresses" => self.targets.extend(edges(text)),
                _ => {}
            },
            _ => {}
        }
    }
}

fn port_of(text: &str) -> Option<u16> {
    text.parse().ok()
}

fn is_public(address: IpAddr) -> bool {
    let IpAddr::V4(address) = address else { return false };
    !address.is_private() && !address.is_loopback() && !address.is_link_local() && !address.is_documentation()
}

/// The first and last address of a range, and those beside it.
fn edges(range: &str) -> Vec<IpAddr> {
    let bits = |text: &str| text.parse().ok().map(Ipv4Addr::to_bits);
    let (first, last) = if let Some((network, length)) = range.split_once('/') {
        let size = u32::MAX.checked_shr(length.parse().unwrap()).unwrap_or(0);
        (bits(network), bits(network).map(|first| first | size))
    } else if let Some((first, last)) = range.split_once('-') {
        (bits(first), bits(last))
    } else {
        (bits(range), bits(range))
    };
    let (Some(first), Some(last)) = (first, last) else {
        return Vec::new();
    };
    let middle = first + (last - first) / 2;
    let edges = [first.wrapping_sub(1), first, middle, last, last.wrapping_add(1)];
    edges.map(|bits| Ipv4Addr::from_bits(bits).into()).into()
}

/// What makes an object a rule.
const RULES: [&str; 3] = ["targetFqdns", "destinationFqdns", "destinationAddresses"];
