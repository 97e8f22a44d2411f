//! Addresses and networks as files write them, and the ones that no rule may name.
//! Must not accept host bits behind a prefix length: what is meant then is a guess.
//! Called by the readers of the document.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::address::never_within;
use crate::policy::problem::{At, Problems};
use crate::policy::yaml::{
    Node,
    typed::{self, Empty},
};

/// Why text is not a network, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadNetwork {
    pub(super) why: String,
    pub(super) help: String,
    /// The IPv4 network that was written as an IPv6 one.
    pub(super) meant: Option<IpNet>,
}

/// A network, or one address as the network that holds only it. `None`: it does not look like an address at all.
pub(super) fn network(text: &str) -> Option<Result<IpNet, BadNetwork>> {
    let parsed = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse());
    if let Ok(network) = parsed {
        if let Some(v4) = unmapped(network) {
            return Some(Err(BadNetwork {
                why: format!("`{text}` is IPv4 in IPv6 form"),
                help: if v4.prefix_len() == 0 {
                    "name the IPv4 range that is meant, such as `10.1.2.0/24`".to_owned()
                } else {
                    format!("as IPv4, write `{}`", shown(v4))
                },
                meant: Some(v4),
            }));
        }
        if network.addr() == network.network() {
            return Some(Ok(network));
        }
        return Some(Err(BadNetwork {
            why: format!("`{text}` has bits set behind its prefix length"),
            help: format!(
                "write `{}` for the network, or `{}` for the one address",
                network.trunc(),
                network.addr()
            ),
            meant: None,
        }));
    }
    let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || b"./".contains(&byte));
    let colons = text.matches(':').count() > 1
        && text
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || b":./".contains(&byte));
    (numeric || colons).then(|| {
        Err(BadNetwork {
            why: format!("`{text}` is neither an address nor a network"),
            help: "an address is written `10.1.2.3` or `2001:db8::1`, a network `10.0.0.0/8` or `2001:db8::/32`"
                .to_owned(),
            meant: None,
        })
    })
}

/// The IPv4 network inside an IPv4-mapped one. Sources are unmapped before they are compared, so it would match nobody.
fn unmapped(network: IpNet) -> Option<IpNet> {
    let IpNet::V6(network) = network else { return None };
    let inner = network.addr().to_ipv4_mapped()?;
    let prefix = network.prefix_len().checked_sub(96)?;
    Ipv4Net::new(inner, prefix).ok().map(IpNet::V4)
}

/// A list of networks that may not be empty.
pub(super) fn networks(node: &Node<'_>, what: &str, problems: &mut Problems<'_>) -> Vec<At<IpNet>> {
    let items = typed::list(node, what, Empty::Refused, problems).unwrap_or_default();
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        all.extend(one(item, what, problems));
    }
    all
}

/// One network.
pub(super) fn one(node: &Node<'_>, what: &str, problems: &mut Problems<'_>) -> Option<At<IpNet>> {
    let text = typed::raw(node, &format!("an item of {what}"), problems)?;
    let bad = match network(&text) {
        Some(Ok(value)) => return Some(At { value, at: node.at }),
        Some(Err(bad)) => bad,
        None => BadNetwork {
            why: format!("`{text}` is neither an address nor a network"),
            help: format!("{what} takes networks such as `10.1.2.0/24`, and single addresses"),
            meant: None,
        },
    };
    let never = bad.meant.filter(|_| what == "`addresses`").and_then(never);
    problems.error(node.at, bad.why).help(match never {
        Some(_) => "remove it: no rule can open it".to_owned(),
        None => bad.help,
    });
    None
}

/// What is never dialled, whatever a rule says, and was named all the same.
pub(super) struct Never {
    pub(super) why: String,
    /// All of the network, not a part.
    pub(super) inside: bool,
}

/// What of a network is never dialled.
pub(super) fn never(network: IpNet) -> Option<Never> {
    let (range, what) = never_within(network)?;
    let (inside, network, range) = (range.contains(&network), shown(network), shown(range));
    let why = if inside {
        format!("`{network}` is never dialled ({what})")
    } else {
        format!("`{network}` holds {range}, which is never dialled ({what})")
    };
    Some(Never { why, inside })
}

/// A network as a person writes it: one address without its prefix length.
pub(crate) fn shown(network: IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

pub(crate) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_exact() {
        let net = |text: &str| network(text).unwrap();
        assert_eq!(net("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(net("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
        assert_eq!(net("2001:db8::1").unwrap().to_string(), "2001:db8::1/128");
        assert!(net("10.1.2.3/8").unwrap_err().help.contains("`10.0.0.0/8`"));
        assert!(net("10.0.0.0/33").is_err());
        assert!(net("::ffff:10.0.0.0/104").unwrap_err().help.contains("`10.0.0.0/8`"));
        assert!(net("::ffff:10.0.0.1").unwrap_err().help.contains("`10.0.0.1`"));
        assert!(net("10.1.2").is_err());
        assert!(net("2001:db8::/129").is_err());
        assert!(network("trips").is_none());
        assert!(network("a.example").is_none());
    }

    #[test]
    fn never_by_overlap() {
        let never = |text: &str| never(text.parse().unwrap()).is_some();
        for text in [
            "169.254.169.254/32",
            "169.0.0.0/8",
            "168.63.129.16/32",
            "fd00::/8",
            "fe80::1/128",
        ] {
            assert!(never(text), "{text}");
        }
        for text in [
            "10.0.0.0/8",
            "127.0.0.0/8",
            "::1/128",
            "fd12::/16",
            "64:ff9b::a00:0/104",
            "2001:db8::/32",
        ] {
            assert!(!never(text), "{text}");
        }
    }
}
