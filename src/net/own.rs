//! Whether a destination is this process itself: a local address on a port that it listens on.
//! Must not send anything. Addresses come and go, so each question asks the kernel.
//! Called by the judge of every address that is about to be dialled.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use arc_swap::ArcSwap;

/// The ports that this process listens on.
#[derive(Debug, Default)]
pub struct Own {
    /// Ascending.
    ports: ArcSwap<Vec<u16>>,
}

impl Own {
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the ports, when listeners come or go.
    pub fn listen_on(&self, ports: impl IntoIterator<Item = u16>) {
        let mut ports: Vec<_> = ports.into_iter().collect();
        ports.sort_unstable();
        self.ports.store(Arc::new(ports));
    }

    /// Whether dialling `address:port` would reach this process. Any address of this host counts, whatever the
    /// listener is bound to.
    pub fn contains(&self, address: IpAddr, port: u16) -> bool {
        self.ports.load().binary_search(&port).is_ok()
            && is_local(address.to_canonical(), &UdpSocket::bind::<SocketAddr>)
    }
}

/// Whether an address belongs to this host.
fn is_local(address: IpAddr, bind: Bind<'_>) -> bool {
    // Where the kernel cannot be asked, as without descriptors, an address on a port of ours is refused.
    address.is_unspecified() || address.is_loopback() || kernel_knows(address, bind).unwrap_or(true)
}

/// What the kernel says, in two ways; an error if it could not say.
fn kernel_knows(address: IpAddr, bind: Bind<'_>) -> io::Result<bool> {
    Ok(can_bind(address, bind)? && binding_tells(address, bind)? || is_source(address, bind)?)
}

/// A socket can be bound to local addresses only (or to any, where `ip_nonlocal_bind` is set).
fn can_bind(address: IpAddr, bind: Bind<'_>) -> io::Result<bool> {
    unless_foreign(bind(SocketAddr::new(address, 0)).map(|_| true))
}

/// Whether a successful bind means anything: a documentation address (RFC 5737, RFC 3849) is never local.
fn binding_tells(address: IpAddr, bind: Bind<'_>) -> io::Result<bool> {
    let foreign = match address {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    can_bind(foreign, bind).map(|can| !can)
}

/// The kernel picks a local destination as its own source. Misses secondary addresses, so it comes second.
fn is_source(address: IpAddr, bind: Bind<'_>) -> io::Result<bool> {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = bind(SocketAddr::new(any, 0))?;
    // Connecting a datagram socket sends nothing; the port only has to be one.
    let source = socket
        .connect(SocketAddr::new(address, 9))
        .and_then(|()| socket.local_addr());
    unless_foreign(source.map(|source| source.ip() == address))
}

/// `false` for the errors by which the kernel says that an address is not its own: it has none such, or no way there.
fn unless_foreign(said: io::Result<bool>) -> io::Result<bool> {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable};
    said.or_else(|error| match error.kind() {
        AddrNotAvailable | HostUnreachable | NetworkUnreachable => Ok(false),
        _ => Err(error),
    })
}

/// How a socket is bound. Tests run out of them.
type Bind<'a> = &'a dyn Fn(SocketAddr) -> io::Result<UdpSocket>;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

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
        let bind: Bind<'_> = &UdpSocket::bind::<SocketAddr>;
        assert!(can_bind(Ipv4Addr::new(127, 3, 2, 1).into(), bind).unwrap());
        assert!(is_source(Ipv4Addr::LOCALHOST.into(), bind).unwrap());
        assert!(!is_source(Ipv4Addr::new(192, 0, 2, 1).into(), bind).unwrap());
    }

    /// Both ways need a socket; no descriptor for either of them must not make an address a stranger.
    #[test]
    fn without_sockets_every_address_is_local() {
        for address in ["192.0.2.7", "2001:db8::7"] {
            let address = address.parse().unwrap();
            for sockets in 0..2 {
                let asked = Cell::new(0);
                let bind = |to| {
                    if asked.replace(asked.get() + 1) < sockets {
                        UdpSocket::bind(to)
                    } else {
                        Err(rustix::io::Errno::MFILE.into())
                    }
                };
                assert!(is_local(address, &bind), "{address} after {sockets}");
            }
            assert!(!is_local(address, &UdpSocket::bind::<SocketAddr>), "{address}");
        }
    }
}
