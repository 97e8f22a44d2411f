//! An open tunnel: relays until one side ends it or it is cut, then leaves its record.
//! Must not judge; it is opened by a settled, allowed case. The record leaves on drop, so no path can forget it.
//! Called by every front that relays bytes.

use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::BytesMut;
use jiff::Timestamp;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::balance::Balance;
use super::client::Client;
use super::session::{Allowed, sni_of};
use super::tracker::Tracked;
use crate::policy::Ask;
use crate::relay::{Relay, Stop, relay};
use crate::telemetry::metrics::Open;
use crate::telemetry::record::{End, TunnelRecord};

/// Counts a tunnel as open, and writes its record when it is dropped.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) tracked: Arc<Tracked>,
    ask: Ask,
    generation: crate::policy::Generation,
    opened: Instant,
    /// The first one that was noted.
    end: Option<End>,
    _open: Open,
}

/// A tunnel with both its ends, ready to relay. What set it up is gone by then, so that an idle tunnel keeps little.
#[derive(Debug)]
pub(crate) struct Established {
    tunnel: Tunnel,
    client: Client,
    upstream: TcpStream,
    /// What the client has sent already.
    first: BytesMut,
    relay: Relay,
}

/// An open tunnel on its way to another worker, which neither thread's runtime knows. Dropped, it is cut short.
#[derive(Debug)]
pub(crate) struct Moving {
    tunnel: Tunnel,
    client: std::net::TcpStream,
    upstream: std::net::TcpStream,
    relay: Relay,
}

impl Tunnel {
    /// Opens a tunnel for an allowed case. `None`: a policy that came into force meanwhile refuses it.
    pub(crate) fn open(allowed: Allowed) -> Option<Self> {
        let Allowed {
            tracked,
            decision,
            ask,
            at,
            rule: allowed_by,
        } = allowed;
        let connection = &tracked.connection;
        let stays = tracked.establish(at, allowed_by, decision.generation);
        let open = connection.front.metrics.tunnel();
        let mut tunnel = Self {
            ask,
            generation: decision.generation,
            opened: Instant::now(),
            end: None,
            _open: open,
            tracked,
        };
        if stays {
            return Some(tunnel);
        }
        tunnel.ended(End::Reload);
        None
    }

    /// Notes how it ended, unless that was noted before.
    pub(crate) fn ended(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// Notes that another address serves it now.
    pub(crate) fn redialled(&mut self, address: IpAddr) {
        self.ask.address = Some(address);
        self.tracked.ask(self.ask.clone());
    }
}

impl Established {
    /// Opens the tunnel of an allowed case over its two ends. `None`: a policy that came into force meanwhile refuses it.
    pub(crate) fn open(allowed: Option<Allowed>, client: Client, upstream: TcpStream, first: BytesMut) -> Option<Self> {
        if let Some(tunnel) = allowed.and_then(Tunnel::open) {
            return Some(Self::over(tunnel, client, upstream, first));
        }
        client.abort();
        None
    }

    /// A tunnel that is open already, and its two ends.
    pub(crate) fn over(tunnel: Tunnel, client: Client, upstream: TcpStream, first: BytesMut) -> Self {
        Self {
            tunnel,
            client,
            upstream,
            first,
            relay: Relay::new(),
        }
    }

    /// Passes the first bytes to the upstream, then bytes both ways. `Break` at the end; `Continue` where another worker is
    /// to go on.
    pub(crate) async fn relay(&mut self) -> ControlFlow<()> {
        let tracked = &self.tunnel.tracked;
        let mut ends = Ends {
            client: &mut self.client,
            upstream: &mut self.upstream,
            whole: false,
        };
        let end = if tracked.connection.proxy.drained.is_cancelled() {
            // It opened behind the one that has cut all others.
            End::Drain
        } else {
            let stop = tokio::select! {
                biased;
                end = tracked.wait_cut() => Stop::Ended(end),
                stop = run(tracked, &mut ends, &mut self.first, &mut self.relay) => stop,
            };
            match stop {
                Stop::Ended(end) => end,
                Stop::GivenAway => {
                    ends.whole = true;
                    return ControlFlow::Continue(());
                }
            }
        };
        // A reset is passed on as a reset.
        ends.whole = end == End::Finished;
        self.tunnel.ended(end);
        ControlFlow::Break(())
    }

    /// Where it might go on.
    pub(crate) fn balance(&self) -> &Balance {
        &self.tunnel.tracked.connection.proxy.balance
    }

    /// Takes it off this thread's runtime.
    pub(crate) fn detach(self) -> io::Result<Moving> {
        let Client::Plain(client) = self.client else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        // Whatever comes in between, neither side may take what it has for complete.
        crate::net::abort(&client);
        crate::net::abort(&self.upstream);
        Ok(Moving {
            tunnel: self.tunnel,
            client: client.into_std()?,
            upstream: self.upstream.into_std()?,
            relay: self.relay,
        })
    }
}

impl Moving {
    /// Goes on with this thread's runtime.
    ///
    /// # Errors
    /// One of the sockets is gone, or the system lets nobody wait for one more.
    pub(crate) fn attach(self) -> io::Result<Established> {
        let client = TcpStream::from_std(self.client)?;
        let upstream = TcpStream::from_std(self.upstream)?;
        crate::net::do_not_abort(&client)?;
        crate::net::do_not_abort(&upstream)?;
        Ok(Established {
            tunnel: self.tunnel,
            client: Client::Plain(client),
            upstream,
            first: BytesMut::new(),
            relay: self.relay,
        })
    }
}

/// The two ends of a tunnel while bytes go both ways. Dropped before that is over, by a cut or with the worker, they must
/// not look complete to either side.
struct Ends<'a> {
    client: &'a mut Client,
    upstream: &'a mut TcpStream,
    /// Whether nothing has been lost.
    whole: bool,
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        if !self.whole {
            self.client.abort();
            crate::net::abort(self.upstream);
        }
    }
}

async fn run(tracked: &Tracked, ends: &mut Ends<'_>, first: &mut BytesMut, state: &mut Relay) -> Stop {
    while !first.is_empty() {
        match ends.upstream.write_buf(first).await {
            Ok(0) | Err(_) => return Stop::Ended(End::UpstreamReset),
            Ok(written) => tracked.activity.moved_up(written),
        }
    }
    // An idle tunnel holds no buffer, not even the one its first bytes came in.
    *first = BytesMut::new();
    relay(
        state,
        ends.client,
        ends.upstream,
        &tracked.activity,
        &tracked.connection.proxy.pipes,
    )
    .await
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let tracked = &self.tracked;
        let connection = &tracked.connection;
        tracked.report_bytes();
        // Established tunnels have an address: they were dialled.
        let address = self.ask.address.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        connection.proxy.telemetry.tunnel(TunnelRecord {
            at: Timestamp::now(),
            id: tracked.id,
            generation: self.generation,
            listener: Arc::clone(&connection.front.name),
            entry: tracked.entry,
            source: connection.peer,
            workload: connection.workload(),
            host: self.ask.host.clone(),
            port: self.ask.port,
            sni: sni_of(&self.ask.seen),
            address,
            up: tracked.activity.up(),
            down: tracked.activity.down(),
            lasted: self.opened.elapsed(),
            // A cut is why everything else ended; with nothing noted, whoever held it has gone away.
            end: tracked.cut_for().or(self.end).unwrap_or(End::ClientReset),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Mutex;
    use std::task::{Context, Wake, Waker};

    use tokio::io::AsyncReadExt;
    use tokio_test::task::{Spawn, spawn};
    use tokio_test::{assert_pending, assert_ready};

    use super::*;
    use crate::proxy::carry::carry;
    use crate::proxy::fixture::{Between, Sockets, open, sockets, tunnel};
    use crate::proxy::{Proxy, explicit, sni};

    /// Allowed when all that was open has been cut already, because the process ends.
    #[tokio::test]
    async fn no_tunnel_opens_behind_the_end_of_a_drain() {
        let (proxy, between) = tunnel("early", Balance::new([])).await;
        let Between {
            mut client,
            mut origin,
            mut established,
            ..
        } = between;
        proxy.drained.cancel();
        assert!(assert_ready!(spawn(established.relay()).poll()).is_break());
        drop(established);
        for peer in [&mut client, &mut origin] {
            let read = peer.read(&mut [0; 8]).await;
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    }

    /// As by the end of its worker.
    #[tokio::test]
    async fn a_tunnel_that_is_dropped_looks_complete_to_nobody() {
        let (_proxy, between) = tunnel("", Balance::new([])).await;
        let Between {
            mut client,
            mut origin,
            mut established,
            ..
        } = between;
        let relayed = Box::pin(async move { established.relay().await.is_break() });
        let mut relayed = spawn(relayed);
        assert_pending!(relayed.poll());
        drop(relayed);
        for peer in [&mut client, &mut origin] {
            let read = peer.read(&mut [0; 8]).await;
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    }

    type Relaying = Spawn<Pin<Box<dyn Future<Output = bool> + Send>>>;

    /// Opens a tunnel in the very moment in which another one is cut, where those that are cut were already looked up.
    struct Late {
        proxy: Arc<Proxy>,
        beside: Arc<Tracked>,
        sockets: Mutex<Option<Sockets>>,
        relay: Mutex<Option<Relaying>>,
    }

    impl Wake for Late {
        fn wake(self: Arc<Self>) {
            let Some(sockets) = self.sockets.lock().unwrap().take() else {
                return;
            };
            // They are found by their number, 16 apart in the same place.
            while self.proxy.ids.next() % 16 != (self.beside.id + 15) % 16 {}
            let Between {
                client,
                origin,
                mut established,
                tracked,
            } = open(&self.proxy, &self.beside.connection.front, sockets, "");
            assert_eq!(tracked.id % 16, self.beside.id % 16);
            let mut relay: Relaying = spawn(Box::pin(async move {
                let _peers = (client, origin);
                established.relay().await.is_break()
            }));
            assert_pending!(relay.poll(), "nothing is over yet");
            *self.relay.lock().unwrap() = Some(relay);
        }
    }

    #[tokio::test]
    async fn a_tunnel_that_opens_while_the_others_are_cut_is_cut_too() {
        let (proxy, between) = tunnel("", Balance::new([])).await;
        let late = Arc::new(Late {
            proxy: Arc::clone(&proxy),
            beside: Arc::clone(&between.tracked),
            sockets: Mutex::new(Some(sockets().await)),
            relay: Mutex::default(),
        });
        let mut cut = Box::pin(between.tracked.wait_cut());
        let waker = Waker::from(Arc::clone(&late));
        assert!(cut.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        proxy.end_drain();
        let mut relay = late.relay.lock().unwrap().take().expect("it was opened");
        assert!(relay.is_woken());
        assert!(assert_ready!(relay.poll()));
    }

    /// Every idle tunnel holds this future, and no buffer.
    #[test]
    fn a_relay_is_small() {
        let size = size(|(established, place)| carry(established, place));
        assert!(size <= 736, "{size}");
    }

    /// Moved about a few times for each connection, and held by each one that has not shown what it wants.
    #[test]
    fn what_sets_up_a_tunnel_holds_no_buffer() {
        let explicit = size(|(connection, client)| explicit::serve(connection, client));
        assert!(explicit <= 3600, "{explicit}");
        let transparent = size(|(connection, client, port)| sni::serve(connection, client, port));
        assert!(transparent <= 1800, "{transparent}");
    }

    fn size<A, F: Future>(_: impl Fn(A) -> F) -> usize {
        size_of::<F>()
    }
}
