//! Listening sockets of both families, plain and transparent.
//! Must not accept: back-off, limits and what is spoken are the accept loop's.
//! Called by the application at start and on reload, for listeners, workload ports, admin and health.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::socket::tune_listener;

/// Binds and listens. Port 0 takes a free one; ask the listener which.
///
/// `[::]` also serves IPv4, unless one of `others` is an IPv4 address with the same port; every other IPv6 address
/// serves IPv6 only. It does not block, as the runtimes want it.
pub fn bind(address: SocketAddr, others: &[SocketAddr]) -> io::Result<TcpListener> {
    listen(address, others, false)
}

/// The same for connections that a TPROXY rule sends to addresses that are not ours. Needs `CAP_NET_ADMIN`.
pub fn bind_transparent(address: SocketAddr, others: &[SocketAddr]) -> io::Result<TcpListener> {
    listen(address, others, true)
}

fn listen(address: SocketAddr, others: &[SocketAddr], transparent: bool) -> io::Result<TcpListener> {
    let address = canonical(address);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // A restart must not wait for the TIME_WAITs of the process before. Linux still refuses a second listener.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(is_v6_only(address, others))?;
    }
    if transparent {
        if address.is_ipv6() {
            socket.set_ip_transparent_v6(true)?;
        } else {
            socket.set_ip_transparent_v4(true)?;
        }
    }
    tune_listener(&socket)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn is_v6_only(address: SocketAddr, others: &[SocketAddr]) -> bool {
    let taken = others
        .iter()
        .any(|other| canonical(*other).is_ipv4() && other.port() == address.port() && address.port() != 0);
    taken || !address.ip().is_unspecified()
}

/// `[::ffff:10.0.0.1]` is 10.0.0.1. A scope (`fe80::1%2`) is kept.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// The kernel cuts it to `net.core.somaxconn`, 4096 on current systems.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use socket2::SockRef;
    use tokio::net::TcpStream;

    use super::*;

    fn serve(address: SocketAddr, others: &[SocketAddr]) -> tokio::net::TcpListener {
        tokio::net::TcpListener::from_std(bind(address, others).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn the_v6_wildcard_serves_both_unless_v4_is_taken() {
        let both = serve("[::]:0".parse().unwrap(), &[]);
        let port = both.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (_, peer) = both.accept().await.unwrap();
        assert_eq!(peer.ip().to_canonical(), IpAddr::from([127, 0, 0, 1]));

        let v4 = bind("0.0.0.0:0".parse().unwrap(), &[]).unwrap().local_addr().unwrap();
        let v4_listener = serve(v4, &[]);
        let v6: SocketAddr = format!("[::]:{}", v4.port()).parse().unwrap();
        let v6_listener = serve(v6, &[v4, v6]);
        TcpStream::connect(("127.0.0.1", v4.port())).await.unwrap();
        TcpStream::connect(("::1", v4.port())).await.unwrap();
        assert!(v4_listener.accept().await.unwrap().1.is_ipv4());
        assert!(v6_listener.accept().await.unwrap().1.is_ipv6());
    }

    #[tokio::test]
    async fn clients_inherit_what_their_sockets_need() {
        let listener = serve("127.0.0.1:0".parse().unwrap(), &[]);
        let (_client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let accepted = accepted.unwrap().0;
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_mins(1));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(15));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
    }

    #[tokio::test]
    async fn one_address_has_one_listener() {
        let first = bind("127.0.0.1:0".parse().unwrap(), &[]).unwrap();
        let again = bind(first.local_addr().unwrap(), &[]);
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
