//! Address classes: which addresses are public, which are never dialled, which a rule may open.
//! Must not know rules or sockets. Source of the ranges: the IANA special-purpose registries, RFC 6890 and design notes.
//! Called by the gate, and by the lints for rules that name addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What the guard thinks of an address before it looks at any rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressClass {
    /// Ordinary public unicast.
    Public,
    /// Special-purpose: dialled only where a rule's `addresses` names the range. Carries the range's name.
    Special(&'static str),
    /// Never dialled, whatever a rule says.
    Never(&'static str),
}

/// Classifies an address. IPv6 forms that carry an IPv4 address are `Never` (mapped, compatible, 6to4, Teredo), but NAT64
/// (`64:ff9b::/96`) is judged by the address inside.
pub fn classify(address: IpAddr) -> AddressClass {
    // How many leading bits they share, which is much cheaper than what `ipnet` does for ranges: every address that is
    // dialled is compared with the whole table, a few times.
    match translated(address) {
        IpAddr::V4(address) => class_of(V4, |range: &Ipv4Net| {
            let differ = range.addr().to_bits() ^ address.to_bits();
            differ.leading_zeros() >= u32::from(range.prefix_len())
        }),
        IpAddr::V6(address) => class_of(V6, |range: &Ipv6Net| {
            let differ = range.addr().to_bits() ^ address.to_bits();
            differ.leading_zeros() >= u32::from(range.prefix_len())
        }),
    }
}

/// Classifies a whole range: special or never only where one single range of that class holds all of it. `0.0.0.0/0` is
/// `Public` here, because nobody who writes it means loopback.
pub fn classify_net(net: IpNet) -> AddressClass {
    match translated_net(net) {
        IpNet::V4(net) => class_of(V4, |range: &Ipv4Net| range.contains(&net)),
        IpNet::V6(net) => class_of(V6, |range: &Ipv6Net| range.contains(&net)),
    }
}

/// A range that is never dialled and that this one lies in or holds; and what that range is. A rule must not name it.
pub fn never_within(net: IpNet) -> Option<(IpNet, &'static str)> {
    let net = translated_net(net);
    let v4 = V4.iter().map(|(range, class)| (IpNet::V4(*range), *class));
    let v6 = V6.iter().map(|(range, class)| (IpNet::V6(*range), *class));
    for (range, class) in v4.chain(v6) {
        let around = range.contains(&net);
        if let Never(what) = class
            && (around || net.contains(&range))
        {
            return Some((range, what));
        }
        if around {
            return None;
        }
    }
    None
}

/// Every range that is not ordinary public unicast. They lie in each other or apart.
pub fn special_ranges() -> impl Iterator<Item = IpNet> {
    let v4 = V4.iter().map(|(range, _)| IpNet::V4(*range));
    v4.chain(V6.iter().map(|(range, _)| IpNet::V6(*range)))
}

/// The IPv4 address that a NAT64 gateway reads out of an address (RFC 6052, the well-known prefix); any other address
/// unchanged.
pub fn translated(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if NAT64.contains(&v6) => IpAddr::V4(last_32_bits(v6)),
        _ => address,
    }
}

/// The same for a range.
pub fn translated_net(net: IpNet) -> IpNet {
    match net {
        IpNet::V6(v6) if NAT64.contains(&v6) => {
            let inner = Ipv4Net::new(last_32_bits(v6.network()), v6.prefix_len() - NAT64.prefix_len());
            inner.map_or(net, IpNet::V4)
        }
        _ => net,
    }
}

fn last_32_bits(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

fn class_of<N>(table: &[(N, AddressClass)], holds: impl Fn(&N) -> bool) -> AddressClass {
    table
        .iter()
        .find(|(range, _)| holds(range))
        .map_or(AddressClass::Public, |(_, class)| *class)
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

/// The first four groups are enough for every range but those below `::/96` and single addresses.
const fn v6(groups: [u16; 4], prefix: u8) -> Ipv6Net {
    let [a, b, c, d] = groups;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix)
}

const fn v6_low(groups: [u16; 4], prefix: u8) -> Ipv6Net {
    let [e, f, g, h] = groups;
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, e, f, g, h), prefix)
}

const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0], 96);

use AddressClass::{Never, Special};

/// IANA IPv4 Special-Purpose Address Registry, the multicast registry, and Azure's own address. Narrower ranges come
/// before the wider ones around them. AS112, AMT and the anycast addresses of 192.0.0.0/24 are reachable from everywhere,
/// but are infrastructure that no workload has a reason to dial.
const V4: &[(Ipv4Net, AddressClass)] = &[
    (v4(168, 63, 129, 16, 32), Never("Azure platform (WireServer)")),
    (v4(169, 254, 0, 0, 16), Never("link-local")),
    (v4(0, 0, 0, 0, 32), Special("unspecified")),
    (v4(0, 0, 0, 0, 8), Special("this network")),
    (v4(10, 0, 0, 0, 8), Special("private")),
    (v4(100, 64, 0, 0, 10), Special("carrier-grade NAT")),
    (v4(127, 0, 0, 0, 8), Special("loopback")),
    (v4(172, 16, 0, 0, 12), Special("private")),
    (v4(192, 0, 2, 0, 24), Special("documentation (TEST-NET-1)")),
    (v4(192, 0, 0, 0, 24), Special("IETF protocol assignments")),
    (v4(192, 31, 196, 0, 24), Special("AS112")),
    (v4(192, 52, 193, 0, 24), Special("AMT")),
    (v4(192, 88, 99, 0, 24), Special("6to4 relay anycast")),
    (v4(192, 168, 0, 0, 16), Special("private")),
    (v4(192, 175, 48, 0, 24), Special("AS112")),
    (v4(198, 18, 0, 0, 15), Special("benchmarking")),
    (v4(198, 51, 100, 0, 24), Special("documentation (TEST-NET-2)")),
    (v4(203, 0, 113, 0, 24), Special("documentation (TEST-NET-3)")),
    (v4(224, 0, 0, 0, 4), Special("multicast")),
    (v4(255, 255, 255, 255, 32), Special("limited broadcast")),
    (v4(240, 0, 0, 0, 4), Special("reserved")),
];

/// IANA IPv6 Special-Purpose Address Registry; and because only `2000::/3` is given out as global unicast, all the rest.
/// Narrower ranges come before the wider ones around them.
const V6: &[(Ipv6Net, AddressClass)] = &[
    (v6_low([0, 0, 0, 0], 128), Special("unspecified")),
    (v6_low([0, 0, 0, 1], 128), Special("loopback")),
    (v6_low([0, 0, 0, 0], 96), Never("IPv4-compatible")),
    (v6_low([0, 0xffff, 0, 0], 96), Never("IPv4-mapped")),
    (v6_low([0xffff, 0, 0, 0], 96), Never("IPv4-translated")),
    (v6([0x64, 0xff9b, 1, 0], 48), Special("local-use NAT64")),
    (v6([0x100, 0, 0, 0], 64), Special("discard-only")),
    (v6([0x100, 0, 0, 1], 64), Special("dummy prefix")),
    (v6([0x2001, 0, 0, 0], 32), Never("Teredo")),
    (v6([0x2001, 2, 0, 0], 48), Special("benchmarking")),
    (v6([0x2001, 3, 0, 0], 32), Special("AMT")),
    (v6([0x2001, 4, 0x112, 0], 48), Special("AS112")),
    (v6([0x2001, 0x10, 0, 0], 28), Special("ORCHID")),
    (v6([0x2001, 0x20, 0, 0], 28), Special("ORCHIDv2")),
    (v6([0x2001, 0x30, 0, 0], 28), Special("drone remote identification")),
    (v6([0x2001, 0, 0, 0], 23), Special("IETF protocol assignments")),
    (v6([0x2001, 0xdb8, 0, 0], 32), Special("documentation")),
    (v6([0x2002, 0, 0, 0], 16), Never("6to4")),
    (v6([0x2620, 0x4f, 0x8000, 0], 48), Special("AS112")),
    (v6([0x3fff, 0, 0, 0], 20), Special("documentation")),
    (v6([0x5f00, 0, 0, 0], 16), Special("segment routing")),
    (FD00_EC2_254, Never("instance metadata")),
    (v6([0xfc00, 0, 0, 0], 7), Special("unique local")),
    (v6([0xfe80, 0, 0, 0], 10), Never("link-local")),
    (v6([0xfec0, 0, 0, 0], 10), Special("site-local")),
    (v6([0xff00, 0, 0, 0], 8), Special("multicast")),
    (v6([0, 0, 0, 0], 3), Special("reserved")),
    (v6([0x4000, 0, 0, 0], 2), Special("reserved")),
    (v6([0x8000, 0, 0, 0], 1), Special("reserved")),
];

/// Amazon's metadata service over IPv6; it stands inside the unique local range that a rule may open.
const FD00_EC2_254: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128);

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Row {
        id: String,
        range: IpNet,
        class: String,
        name: Option<String>,
        before: Option<String>,
        after: Option<String>,
    }

    fn words(class: AddressClass) -> (&'static str, Option<String>) {
        match class {
            AddressClass::Public => ("public", None),
            Special(name) => ("special", Some(name.to_owned())),
            Never(name) => ("never", Some(name.to_owned())),
        }
    }

    fn rows() -> Vec<Row> {
        serde_saphyr::from_str(include_str!("../tests/corpus/address.yaml")).unwrap()
    }

    /// The address `step` places away, within the same family.
    fn beside(address: IpAddr, step: i8) -> Option<IpAddr> {
        match address {
            IpAddr::V4(address) => {
                let number = i64::from(address.to_bits()) + i64::from(step);
                u32::try_from(number).ok().map(|bits| Ipv4Addr::from_bits(bits).into())
            }
            IpAddr::V6(address) => {
                let number = address.to_bits().checked_add_signed(step.into());
                number.map(|bits| Ipv6Addr::from_bits(bits).into())
            }
        }
    }

    #[test]
    fn every_range_begins_and_ends_where_it_should() {
        for row in rows() {
            let expected = (row.class.as_str(), row.name.clone());
            for address in [row.range.network(), row.range.broadcast()] {
                assert_eq!(words(classify(address)), expected, "{} {address}", row.id);
            }
            assert_eq!(words(classify_net(row.range)), expected, "{row:?} as a whole");
            let before = beside(row.range.network(), -1).map(classify);
            assert_eq!(
                before.map(|class| words(class).0),
                row.before.as_deref(),
                "before {row:?}"
            );
            let after = beside(row.range.broadcast(), 1).map(classify);
            assert_eq!(after.map(|class| words(class).0), row.after.as_deref(), "after {row:?}");
        }
    }

    #[test]
    fn the_rows_speak_of_every_range() {
        let rows = rows();
        let ranges = V4.iter().map(|(range, class)| (IpNet::V4(*range), *class));
        for (range, class) in ranges.chain(V6.iter().map(|(range, class)| (IpNet::V6(*range), *class))) {
            let spoken = rows
                .iter()
                .any(|row| range.contains(&row.range) && row.name == words(class).1);
            assert!(spoken, "no row for {range}");
        }
    }

    #[test]
    fn wide_ranges_are_nothing_special() {
        for range in ["0.0.0.0/0", "8.0.0.0/5", "172.0.0.0/8", "::/0", "64:ff9b::/96"] {
            assert_eq!(classify_net(range.parse().unwrap()), AddressClass::Public, "{range}");
        }
    }
}
