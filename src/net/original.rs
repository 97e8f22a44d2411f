//! Where a transparently redirected connection was going before it came here.
//! Must not be dialled: callers take the port and throw the address away.
//! Called by transparent listeners with `original: redirect` or `original: tproxy`.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// The original destination of a connection that a REDIRECT rule (or DNAT) of this host's netfilter sent here.
///
/// Fails where connection tracking knows nothing of it.
pub fn redirected(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    // An IPv4 client of a dual-stack listener has an IPv4-mapped local address, and is tracked as IPv4.
    let original = if stream.local_addr()?.ip().to_canonical().is_ipv4() {
        socket.original_dst_v4()?
    } else {
        socket.original_dst_v6()?
    };
    original
        .as_socket()
        .map(canonical)
        .ok_or_else(|| io::Error::other("the original destination is not an IP address"))
}

/// The original destination of a connection that a TPROXY rule sent here: its local address.
pub fn tproxied(stream: &TcpStream) -> io::Result<SocketAddr> {
    stream.local_addr().map(canonical)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
