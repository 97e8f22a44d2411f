//! What an answer section says of the name that was asked for: the aliases from it, and the addresses at their end.
//! Must not look at any other record: whatever else a server sends along is nobody's business.
//! Pure; called for each answer of a DNS server.

use std::net::IpAddr;

use hickory_resolver::proto::rr::{Name, RData, Record};

use super::Family;
use crate::name::{BadHost, HostName};

/// The records that count.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// Names that were followed, without the asked one.
    pub(super) aliases: Vec<HostName>,
    /// The name at the end of the aliases: the asked one if there are none.
    pub(super) end: Name,
    /// Its addresses, in the order of the answer, each once; at most [`MAX_ADDRESSES`].
    pub(super) addresses: Vec<IpAddr>,
    /// The smallest TTL on the way, in seconds; `None` if there is no record at all.
    pub(super) ttl: Option<u32>,
}

/// Why an answer is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadChain {
    /// Longer than [`MAX_ALIASES`], or going round.
    TooLong,
    /// An alias that is no host name.
    Alias(BadHost),
}

/// Follows the aliases from `asked`.
pub(super) fn follow(asked: &Name, family: Family, answers: &[Record]) -> Result<Chain, BadChain> {
    let mut chain = Chain {
        aliases: Vec::new(),
        end: asked.clone(),
        addresses: Vec::new(),
        ttl: None,
    };
    while let Some((target, ttl)) = alias_of(&chain.end, answers) {
        if chain.aliases.len() == MAX_ALIASES {
            return Err(BadChain::TooLong);
        }
        let alias = HostName::parse(target.to_ascii().as_bytes()).map_err(BadChain::Alias)?;
        chain.aliases.push(alias);
        chain.end = target.clone();
        chain.shorten(ttl);
    }
    for record in answers {
        let address = match (&record.data, family) {
            (RData::A(address), Family::V4) => IpAddr::V4(address.0),
            (RData::AAAA(address), Family::V6) => IpAddr::V6(address.0),
            _ => continue,
        };
        if record.name != chain.end || chain.addresses.contains(&address) {
            continue;
        }
        if chain.addresses.len() == MAX_ADDRESSES {
            break;
        }
        chain.addresses.push(address);
        chain.shorten(record.ttl);
    }
    Ok(chain)
}

impl Chain {
    fn shorten(&mut self, ttl: u32) {
        self.ttl = Some(self.ttl.map_or(ttl, |old| old.min(ttl)));
    }
}

fn alias_of<'a>(name: &Name, answers: &'a [Record]) -> Option<(&'a Name, u32)> {
    answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.name == *name => Some((&target.0, record.ttl)),
        _ => None,
    })
}

/// More than any honest name has.
pub(super) const MAX_ALIASES: usize = 16;
/// More than anybody dials.
pub(super) const MAX_ADDRESSES: usize = 64;

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn alias(from: &str, to: &str, ttl: u32) -> Record {
        Record::from_rdata(name(from), ttl, RData::CNAME(CNAME(name(to))))
    }

    fn address(at: &str, address: &str, ttl: u32) -> Record {
        let data = match address.parse().unwrap() {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        Record::from_rdata(name(at), ttl, data)
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn only_the_chain_of_the_asked_name_counts() {
        let answers = [
            address("evil.test.", "198.51.100.66", 1),
            alias("b.test.", "c.test.", 50),
            alias("A.test.", "b.test.", 300),
            address("c.test.", "192.0.2.1", 100),
            address("C.TEST.", "192.0.2.2", 90),
            address("c.test.", "192.0.2.1", 100),
            address("c.test.", "2001:db8::1", 2),
            address("a.test.", "198.51.100.67", 1),
            alias("d.test.", "e.test.", 1),
        ];
        let chain = follow(&name("a.test."), Family::V4, &answers).unwrap();
        assert_eq!(chain.addresses, addresses(&["192.0.2.1", "192.0.2.2"]));
        let aliases: Vec<_> = chain.aliases.iter().map(HostName::as_str).collect();
        assert_eq!(aliases, ["b.test", "c.test"]);
        assert_eq!((chain.end, chain.ttl), (name("c.test."), Some(50)));
        let chain = follow(&name("a.test."), Family::V6, &answers).unwrap();
        assert_eq!((chain.addresses, chain.ttl), (addresses(&["2001:db8::1"]), Some(2)));
    }

    #[test]
    fn a_loop_and_a_long_chain_are_refused() {
        let round = [alias("a.test.", "b.test.", 1), alias("b.test.", "a.test.", 1)];
        assert_eq!(follow(&name("a.test."), Family::V4, &round), Err(BadChain::TooLong));
        let mut long: Vec<_> = (0..16)
            .map(|i| alias(&format!("n{i}.test."), &format!("n{}.test.", i + 1), 1))
            .collect();
        long.push(address("n16.test.", "192.0.2.1", 1));
        assert_eq!(follow(&name("n0.test."), Family::V4, &long).unwrap().aliases.len(), 16);
        long.push(alias("x.test.", "n0.test.", 1));
        assert_eq!(follow(&name("x.test."), Family::V4, &long), Err(BadChain::TooLong));
    }

    #[test]
    fn an_alias_that_is_no_host_name_is_refused() {
        let answers = [alias("a.test.", "127.0.0.1.", 1)];
        assert_eq!(
            follow(&name("a.test."), Family::V4, &answers),
            Err(BadChain::Alias(BadHost::Numeric))
        );
    }

    #[test]
    fn a_huge_answer_is_cut() {
        let answers: Vec<_> = (0..5000_u32)
            .map(|i| address("a.test.", &format!("10.0.{}.{}", i / 250, i % 250), 1))
            .collect();
        assert_eq!(
            follow(&name("a.test."), Family::V4, &answers).unwrap().addresses.len(),
            MAX_ADDRESSES
        );
    }
}
