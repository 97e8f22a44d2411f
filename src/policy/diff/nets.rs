//! Ranges of addresses as a tree: which addresses two policies cannot tell apart, and one of each kind.
//! Must not know what the ranges are for.
//! Called by the comparison, for sources, for literal hosts and for what names resolve into.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Ranges that lie in each other or apart, with all of IPv4 and all of IPv6 around them. A node stands for the addresses
/// of its range that lie in none of its children. Parents come before their children.
#[derive(Clone, Debug)]
pub(super) struct Tree(Vec<Node>);

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) net: IpNet,
    pub(super) parent: Option<usize>,
    /// An address that it stands for; none, where its children hold all of it.
    pub(super) sample: Option<IpAddr>,
}

impl Tree {
    pub(super) fn of(nets: impl IntoIterator<Item = IpNet>) -> Self {
        let all = nets.into_iter().map(|net| net.trunc()).chain(roots());
        let sorted: BTreeSet<_> = all
            .map(|net| (net.addr().is_ipv6(), first(net), net.prefix_len(), net))
            .collect();
        let mut nodes: Vec<Node> = Vec::with_capacity(sorted.len());
        // Of each node, the lowest number that no child has taken yet; nothing behind the last.
        let mut free: Vec<Option<u128>> = Vec::with_capacity(sorted.len());
        let mut around: Vec<usize> = Vec::new();
        for (_, start, _, net) in sorted {
            while around.last().is_some_and(|top| !nodes[*top].net.contains(&net)) {
                around.pop();
            }
            let parent = around.last().copied();
            if let Some(parent) = parent {
                let node = &mut nodes[parent];
                if node.sample.is_none() && free[parent].is_some_and(|free| free < start) {
                    node.sample = free[parent].map(|free| address(free, node.net));
                }
                free[parent] = last(net).checked_add(1);
            }
            around.push(nodes.len());
            free.push(Some(start));
            nodes.push(Node {
                net,
                parent,
                sample: None,
            });
        }
        for (node, free) in nodes.iter_mut().zip(free) {
            let rest = free.filter(|free| *free <= last(node.net));
            node.sample = node.sample.or_else(|| rest.map(|free| address(free, node.net)));
        }
        Self(nodes)
    }

    /// Every node that stands for any address.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.0.iter().enumerate().filter(|(_, node)| node.sample.is_some())
    }

    /// A set of nodes as people write it: ranges, and what of them is not meant.
    pub(super) fn shown(&self, set: &BTreeSet<usize>) -> (Vec<IpNet>, Vec<IpNet>) {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for (place, node) in self.0.iter().enumerate() {
            let is_in = |place: usize| set.contains(&place) || self.is_empty_below(place, set);
            let parent = node.parent.is_some_and(is_in);
            match (is_in(place), parent) {
                (true, false) => with.push(node.net),
                (false, true) => without.push(node.net),
                _ => {}
            }
        }
        (with, without)
    }

    #[cfg(test)]
    pub(super) fn node(&self, place: usize) -> Option<&Node> {
        self.0.get(place)
    }

    /// The node that stands for an address.
    #[cfg(test)]
    pub(super) fn place_of(&self, address: IpAddr) -> Option<usize> {
        self.0.iter().rposition(|node| node.net.contains(&address))
    }

    /// A node that stands for nothing itself is in a set when all its children are.
    fn is_empty_below(&self, place: usize, set: &BTreeSet<usize>) -> bool {
        let Some(node) = self.0.get(place).filter(|node| node.sample.is_none()) else {
            return false;
        };
        let children = self.0.iter().enumerate().skip(place + 1);
        let mut children = children
            .take_while(|(_, child)| node.net.contains(&child.net))
            .filter(|(_, child)| child.sample.is_some());
        children.all(|(child, _)| set.contains(&child))
    }
}

fn roots() -> [IpNet; 2] {
    [
        IpNet::new_assert(Ipv4Addr::UNSPECIFIED.into(), 0),
        IpNet::new_assert(Ipv6Addr::UNSPECIFIED.into(), 0),
    ]
}

fn first(net: IpNet) -> u128 {
    number(net.network())
}

fn last(net: IpNet) -> u128 {
    number(net.broadcast())
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn address(number: u128, like: IpNet) -> IpAddr {
    match (like, u32::try_from(number)) {
        (IpNet::V4(_), Ok(number)) => Ipv4Addr::from(number).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_an_address_of_its_own() {
        let nets = [
            "10.0.0.0/8",
            "10.0.0.0/9",
            "10.128.0.0/9",
            "10.1.0.0/16",
            "192.0.2.0/24",
            "2001:db8::/32",
        ];
        let tree = Tree::of(nets.iter().map(|net| net.parse().unwrap()));
        for (place, node) in tree.nodes() {
            assert_eq!(tree.place_of(node.sample.unwrap()), Some(place), "{node:?}");
        }
        let empty: Vec<_> = tree.0.iter().filter(|node| node.sample.is_none()).collect();
        assert_eq!(empty.len(), 1, "{empty:?}");
        let set = |text: &[&str]| -> BTreeSet<usize> {
            text.iter()
                .map(|a| tree.place_of(a.parse().unwrap()).unwrap())
                .collect()
        };
        let shown = |text: &[&str]| {
            let (with, without) = tree.shown(&set(text));
            let text = |nets: Vec<IpNet>| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            (text(with), text(without))
        };
        // Not all of 10.0.0.0/8, so its two halves.
        let halves = ("10.0.0.0/9 10.128.0.0/9".into(), "10.1.0.0/16".into());
        assert_eq!(shown(&["10.2.0.1", "10.200.0.1"]), halves);
        let whole = ("10.0.0.0/8".into(), String::new());
        assert_eq!(shown(&["10.2.0.1", "10.1.0.1", "10.200.0.1"]), whole);
        assert_eq!(
            shown(&["1.1.1.1", "192.0.2.1"]),
            ("0.0.0.0/0".into(), "10.0.0.0/8".into())
        );
        assert_eq!(shown(&["10.1.2.3"]), ("10.1.0.0/16".into(), String::new()));
    }
}
