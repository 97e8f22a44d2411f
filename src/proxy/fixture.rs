//! A proxy without listeners, connections and tunnels through it that nobody asked for, and workers for them.
//! Must not be part of any build but a test's. What needs sockets is made inside of a tokio runtime.
//! Called by the unit tests of the data path.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::Proxy;
use super::balance::Balance;
use super::client::Client;
use super::session::{Case, Connection, Front};
use super::tracker::Tracked;
use super::tunnel::Established;
use crate::name::{Host, Port};
use crate::net::Resolver;
use crate::policy::{self, Ask, Policy, Source, Stage};
use crate::settings::{Inputs, Mode, Settings, load};
use crate::state::State;
use crate::telemetry::record::Entry;
use crate::telemetry::{Colour, Metrics, Telemetry};

/// The settings that nobody has changed, and a name server that is not there.
pub(super) fn settings() -> Settings {
    let mut settings = load(&Inputs::default()).unwrap();
    settings.dns.servers = vec![(Ipv4Addr::LOCALHOST, 53).into()];
    settings
}

/// A proxy under a policy, and its explicit listener as sessions see it.
pub(super) fn proxy(settings: &Settings, policy: Policy) -> (Arc<Proxy>, Arc<Front>) {
    balanced(settings, policy, Balance::new([]))
}

/// The same with workers.
pub(super) fn balanced(settings: &Settings, policy: Policy, balance: Balance) -> (Arc<Proxy>, Arc<Front>) {
    let now = Timestamp::now();
    let metrics = Metrics::new(now);
    let front = Front {
        name: "proxy".into(),
        mode: Mode::Explicit { tls: None },
        workload: None,
        metrics: metrics.listener("proxy"),
    };
    let proxy = Proxy::new(
        settings,
        Arc::new(State::new(policy, now)),
        Telemetry::new(&settings.log, metrics, std::io::sink(), Colour::Never).unwrap(),
        Resolver::new(&settings.dns).unwrap(),
        Arc::new(balance),
        1024,
    );
    (Arc::new(proxy), Arc::new(front))
}

/// What a tunnel is made of: a client, an origin, and the proxy's sockets to them.
pub(super) struct Sockets {
    client: TcpStream,
    accepted: TcpStream,
    origin: TcpStream,
    upstream: TcpStream,
}

/// An open tunnel, whose peers are a client and an origin.
pub(super) struct Between {
    pub(super) client: TcpStream,
    pub(super) origin: TcpStream,
    pub(super) tracked: Arc<Tracked>,
    pub(super) established: Established,
}

/// A tunnel that was just allowed, to where nobody dialled. The client has sent `first`.
pub(super) async fn tunnel(first: &'static str, balance: Balance) -> (Arc<Proxy>, Between) {
    let policy = policy::fixture::load("allow:\n  - {to: [\"tcp://127.0.0.1:9\"], addresses: [127.0.0.0/8]}\n");
    let (proxy, front) = balanced(&settings(), policy, balance);
    let between = open(&proxy, &front, sockets().await, first);
    (proxy, between)
}

pub(super) async fn sockets() -> Sockets {
    let (client, accepted) = pair().await;
    let (origin, upstream) = pair().await;
    Sockets {
        client,
        accepted,
        origin,
        upstream,
    }
}

/// Opens a tunnel as [`tunnel`] does, under the same policy.
pub(super) fn open(proxy: &Arc<Proxy>, front: &Arc<Front>, sockets: Sockets, first: &'static str) -> Between {
    let Sockets {
        client,
        accepted,
        origin,
        upstream,
    } = sockets;
    let connection = connection(proxy, front, accepted.peer_addr().unwrap());
    let mut case = Case::open(connection, Entry::Connect, Instant::now());
    let address = IpAddr::from(Ipv4Addr::LOCALHOST);
    let ask = Ask::new(Host::Address(address), Port::new(9).unwrap());
    let decision = case.judge(ask.dialling(address));
    let tracked = Arc::clone(&case.tracked);
    let allowed = case.allow(Stage::Address, decision);
    let established = Established::open(allowed, Client::Plain(accepted), upstream, BytesMut::from(first));
    Between {
        client,
        origin,
        tracked,
        established: established.unwrap(),
    }
}

pub(super) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (near, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (near.unwrap(), accepted.unwrap().0)
}

/// A connection that was accepted now.
pub(super) fn connection(proxy: &Arc<Proxy>, front: &Arc<Front>, peer: SocketAddr) -> Arc<Connection> {
    Arc::new(Connection {
        proxy: Arc::clone(proxy),
        front: Arc::clone(front),
        peer,
        source: Source::at(peer.ip()),
        accepted: Instant::now(),
        cut: Notify::new(),
    })
}

/// A worker's runtime, which nobody drives yet.
pub(super) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A thread that runs what it is given, until the sender is dropped.
pub(super) fn other_worker() -> (Handle, oneshot::Sender<()>) {
    let (stop, stopped) = oneshot::channel();
    let runtime = runtime();
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(stopped));
    (handle, stop)
}

/// A peer that is waited for, and not for ever.
pub(super) fn blocking(peer: std::net::TcpStream) -> std::net::TcpStream {
    peer.set_nonblocking(false).unwrap();
    peer.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    peer
}
