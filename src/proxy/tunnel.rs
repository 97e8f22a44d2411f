//! An open tunnel: relays until one side ends it or it is cut, then leaves its record.
//! Must not judge; it is opened by a settled, allowed case. The record leaves on drop, so no path can forget it.
//! Called by every front that relays bytes.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::BytesMut;
use jiff::Timestamp;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::client::Client;
use super::session::{Allowed, sni_of};
use super::tracker::Tracked;
use crate::policy::Ask;
use crate::relay::relay;
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
    pub(crate) tunnel: Tunnel,
    pub(crate) client: Client,
    pub(crate) upstream: TcpStream,
    /// What the client has sent already.
    pub(crate) first: BytesMut,
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
            return Some(Self {
                tunnel,
                client,
                upstream,
                first,
            });
        }
        client.abort();
        None
    }

    /// Passes the first bytes to the upstream, then bytes both ways until the end.
    // Not an `async fn`: that would keep room for its argument twice, in every idle tunnel.
    #[allow(clippy::manual_async_fn, reason = "its future is half the size")]
    pub(crate) fn relay(mut self) -> impl Future<Output = ()> + Send {
        async move {
            let tracked = &self.tunnel.tracked;
            let end = if tracked.connection.proxy.drained.is_cancelled() {
                // It opened behind the one that has cut all others.
                End::Drain
            } else {
                tokio::select! {
                    biased;
                    end = tracked.wait_cut() => end,
                    end = run(tracked, &mut self.client, &mut self.upstream, &mut self.first) => end,
                }
            };
            self.tunnel.ended(end);
            if end != End::Finished {
                // A reset is passed on as a reset; what we cut must not look complete to either side.
                self.client.abort();
                crate::net::abort(&self.upstream);
            }
        }
    }
}

async fn run(tracked: &Tracked, client: &mut Client, upstream: &mut TcpStream, first: &mut BytesMut) -> End {
    while !first.is_empty() {
        match upstream.write_buf(first).await {
            Ok(0) | Err(_) => return End::UpstreamReset,
            Ok(written) => tracked.activity.moved_up(written),
        }
    }
    // An idle tunnel holds no buffer, not even the one its first bytes came in.
    *first = BytesMut::new();
    relay(client, upstream, &tracked.activity, &tracked.connection.proxy.pipes).await
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
    use std::net::Ipv4Addr;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::name::{Host, Port};
    use crate::policy::Stage;
    use crate::policy::fixture::load;
    use crate::proxy::fixture::{connection, proxy, settings};
    use crate::proxy::session::Case;
    use crate::proxy::{explicit, sni};
    use crate::telemetry::record::Entry;

    /// Allowed when all that was open has been cut already, because the process ends.
    #[tokio::test]
    async fn no_tunnel_opens_behind_the_end_of_a_drain() {
        let policy = load("allow:\n  - {to: [\"tcp://127.0.0.1:9\"], addresses: [127.0.0.0/8]}\n");
        let (proxy, front) = proxy(&settings(), policy);
        let (mut near, client) = pair().await;
        let (mut far, upstream) = pair().await;
        let connection = connection(&proxy, &front, client.peer_addr().unwrap());
        let mut case = Case::open(connection, Entry::Connect, Instant::now());
        let address = IpAddr::from(Ipv4Addr::LOCALHOST);
        let ask = Ask::new(Host::Address(address), Port::new(9).unwrap());
        let decision = case.judge(ask.dialling(address));
        let allowed = case.allow(Stage::Address, decision);
        let (client, first) = (Client::Plain(client), BytesMut::from("early"));
        proxy.drained.cancel();
        let established = Established::open(allowed, client, upstream, first).expect("it is allowed");
        let mut relay = tokio_test::task::spawn(established.relay());
        tokio_test::assert_ready!(relay.poll());
        drop(relay);
        for peer in [&mut near, &mut far] {
            let read = peer.read(&mut [0; 8]).await;
            assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        }
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (near, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), accepted.unwrap().0)
    }

    /// Every idle tunnel holds this future, and no buffer.
    #[test]
    fn a_relay_is_small() {
        let size = size(|(established,)| Established::relay(established));
        assert!(size <= 640, "{size}");
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
