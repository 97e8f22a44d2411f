//! Addresses as Azure writes them: one, a CIDR, or a range `a-b`, as networks.
//! Must not repair: what can be read in two ways is refused.
//! Called by import for sources and destinations.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

/// The networks of an address, a CIDR or a range `a-b`.
pub(super) fn ranges(text: &str) -> Result<Vec<IpNet>, &'static str> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(vec![address.into()]);
    }
    if let Ok(network) = text.parse::<IpNet>() {
        if network.addr() != network.network() {
            return Err("has bits set behind its prefix length, so that it can be read in two ways");
        }
        return Ok(vec![network]);
    }
    let Some((first, last)) = text.split_once('-') else {
        return Err("is neither an address nor a range of addresses");
    };
    match (first.parse::<IpAddr>(), last.parse::<IpAddr>()) {
        (Ok(IpAddr::V4(first)), Ok(IpAddr::V4(last))) if first <= last => {
            Ok(Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect())
        }
        (Ok(IpAddr::V6(first)), Ok(IpAddr::V6(last))) if first <= last => {
            Ok(Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect())
        }
        (Ok(_), Ok(_)) => Err("is a range that ends before it begins"),
        _ => Err("is neither an address nor a range of addresses"),
    }
}

/// Whether a text was meant as an address, and not as a name or a tag.
pub(super) fn looks_like_address(text: &str) -> bool {
    let first = text.split(['/', '-', '.', ':']).next().unwrap_or_default();
    text.contains(':')
        || text.parse::<Ipv4Addr>().is_ok()
        || !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit()) && text.contains('.')
}
