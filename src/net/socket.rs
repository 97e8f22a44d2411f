//! Options of the two sockets of a tunnel: no delay, dead peers noticed, aborts passed on as aborts.
//! Must not read or write bytes. Buffers stay alone: setting their sizes would switch the kernel's tuning off.
//! Called for each listener and each upstream, and when a tunnel is cut or changes its worker.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Sets what the sockets of clients need on the listener that accepts them; they inherit it.
pub fn tune_listener(listener: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)
}

/// Sets what a socket to an upstream needs, before or after it is connected. Each option is a system call of each tunnel.
///
/// Probes are not counted, and not sent more often than the system's default says: with a user time-out, Linux goes by
/// that alone, from the last answer on.
pub fn tune_upstream(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER))?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// Makes the close that follows a reset. What the peer has not acknowledged yet is lost: it must not look complete.
pub fn abort(stream: &impl AsFd) {
    // A socket on which this fails is already gone, so there is nobody to tell.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Takes [`abort`] back.
///
/// # Errors
/// The socket is gone.
pub fn do_not_abort(stream: &impl AsFd) -> io::Result<()> {
    SockRef::from(stream).set_linger(None)
}

/// Well under the 4 minutes after which Azure's load balancers forget an idle flow.
const KEEPALIVE_AFTER: Duration = Duration::from_mins(1);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;
/// How long sent bytes may stay unacknowledged before the upstream counts as dead. The kernel counts a closed receive
/// window the same way (measured on 6.18, 2026-11): an upstream that reads nothing for this long is reset, alive or not.
/// So this leaves room for a server that pauses an upload; the kernel's own limit is about 15 minutes.
const USER_TIMEOUT: Duration = Duration::from_mins(5);
