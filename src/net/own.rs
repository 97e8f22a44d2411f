//! Whether a destination is this process itself: a local address on a port that it listens on.
//! Must not send anything. Addresses come and go, so each question asks the kernel.
//! Called by the judge of every address that is about to be dialled.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use arc_swap::ArcSwap;

/// The ports that this process listens on.
#[derive(Debug, Default)]
pub struct Own {
    ports: ArcSwap<HashSet<u16>>,
}

impl Own {
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the ports, when listeners come or go.
    pub fn listen_on(&self, ports: impl IntoIterator<Item = u16>) {
        self.ports.store(Arc::new(ports.into_iter().collect()));
    }

    /// Whether dialling `address:port` would reach this process. Any address of this host counts, whatever the
    /// listener is bound to.
    pub fn contains(&self, address: IpAddr, port: u16) -> bool {
        self.ports.load().contains(&port) && is_local(address.to_canonical())
    }
}

/// Whether an address belongs to this host.
fn is_local(address: IpAddr) -> bool {
    address.is_unspecified()
        || address.is_loopback()
        || can_bind(address) && binding_tells(address)
        || is_source(address)
}

/// A socket can be bound to local addresses only (or to any, where `ip_nonlocal_bind` is set).
fn can_bind(address: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

/// Whether a successful bind means anything: a documentation address (RFC 5737, RFC 3849) is never local.
fn binding_tells(address: IpAddr) -> bool {
    !can_bind(match address {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    })
}

/// The kernel picks a local destination as its own source. Misses secondary addresses, so it comes second.
fn is_source(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connecting a datagram socket sends nothing; the port only has to be one.
    let source = UdpSocket::bind(SocketAddr::new(any, 0)).and_then(|socket| {
        socket.connect(SocketAddr::new(address, 9))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_on_our_ports_are_own() {
        let own = Own::new();
        own.listen_on([3128, 9090]);
        for address in ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1"] {
            let address: IpAddr = address.parse().unwrap();
            assert!(own.contains(address, 3128), "{address}");
            assert!(!own.contains(address, 3129), "{address}");
        }
        for address in ["192.0.2.7", "8.8.8.8", "2001:db8::7"] {
            assert!(!own.contains(address.parse().unwrap(), 3128), "{address}");
        }
        own.listen_on([3129]);
        assert!(!own.contains(Ipv4Addr::LOCALHOST.into(), 3128));
    }

    #[test]
    fn the_kernel_knows_its_own_addresses_both_ways() {
        assert!(can_bind(Ipv4Addr::new(127, 3, 2, 1).into()));
        assert!(is_source(Ipv4Addr::LOCALHOST.into()));
        assert!(!is_source(Ipv4Addr::new(192, 0, 2, 1).into()));
    }
}
