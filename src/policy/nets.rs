//! Address ranges by their length: which of them hold an address, at a cost that does not grow with their number.
//! Must not know what a range stands for; whoever keeps one says what is kept with it.
//! Called by the index for the ranges in rules, by the policy for those of workloads, and by long lists of sources.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use ipnet::IpNet;

/// Something for each range. One probe for each prefix length in use.
#[derive(Clone, Debug)]
pub(super) struct Nets<T> {
    by_net: HashMap<IpNet, T, RandomState>,
    /// The prefix lengths in use, of IPv4 and of IPv6, longest first.
    lengths: [Vec<u8>; 2],
}

impl<T: Default> Nets<T> {
    /// What is kept with a range.
    pub(super) fn entry(&mut self, net: IpNet) -> &mut T {
        let net = net.trunc();
        let [v4, v6] = &mut self.lengths;
        let lengths = if net.addr().is_ipv4() { v4 } else { v6 };
        if let Err(place) = lengths.binary_search_by(|length| net.prefix_len().cmp(length)) {
            lengths.insert(place, net.prefix_len());
        }
        self.by_net.entry(net).or_default()
    }
}

impl<T> Nets<T> {
    /// What is kept with all of them, in no order that means anything.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.by_net.values()
    }

    /// The ranges that hold an address, the narrowest first: how long their prefix is, and what is kept with them.
    pub(super) fn around(&self, address: IpAddr) -> impl Iterator<Item = (u8, &T)> {
        let [v4, v6] = &self.lengths;
        let lengths = if address.is_ipv4() { v4 } else { v6 };
        lengths.iter().filter_map(move |length| {
            let net = IpNet::new(address, *length).ok()?.trunc();
            Some((*length, self.by_net.get(&net)?))
        })
    }
}

impl<T> Default for Nets<T> {
    fn default() -> Self {
        Self {
            by_net: HashMap::default(),
            lengths: [Vec::new(), Vec::new()],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// The definition: of all ranges those that contain the address.
        #[test]
        fn as_if_each_range_were_looked_at(
            ranges in proptest::collection::vec(range(), 0..40),
            addresses in proptest::collection::vec(address(), 1..20),
        ) {
            let mut nets: Nets<Vec<usize>> = Nets::default();
            for (place, range) in ranges.iter().enumerate() {
                nets.entry(*range).push(place);
            }
            let edges = ranges.iter().flat_map(|range| [range.network(), range.broadcast()]);
            for address in addresses.into_iter().chain(edges) {
                let around: Vec<_> = nets.around(address).collect();
                prop_assert!(around.is_sorted_by(|(one, _), (next, _)| one > next));
                for (length, places) in &around {
                    prop_assert!(places.iter().all(|place| ranges[*place].prefix_len() == *length));
                }
                let mut found: Vec<_> = around.iter().flat_map(|(_, places)| places.iter().copied()).collect();
                found.sort_unstable();
                let holding = ranges.iter().enumerate().filter(|(_, range)| range.contains(&address));
                prop_assert_eq!(found, holding.map(|(place, _)| place).collect::<Vec<_>>());
            }
        }
    }

    /// Few distinct bits, so that ranges nest; not truncated, as files may write them.
    fn range() -> impl Strategy<Value = IpNet> {
        (address(), any::<prop::sample::Index>()).prop_map(|(address, length)| {
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let length = u8::try_from(length.index(longest + 1)).unwrap();
            IpNet::new(address, length).unwrap()
        })
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        let four = (0_u8..3, 0_u8..3, 0_u8..3).prop_map(|(a, b, c)| IpAddr::from([10, a, b, c << 6]));
        let six = (0_u16..3, 0_u16..3).prop_map(|(a, b)| IpAddr::from([0x2001, 0xdb8, a, 0, 0, 0, 0, b << 14]));
        prop_oneof![four, six]
    }
}
