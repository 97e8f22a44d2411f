//! Accepting: limits first, then one task per connection, which goes to its listener's front.
//! Must not read from clients before they are admitted; a full proxy says so at once instead of hanging.
//! Called by the app, once per bound listener and worker.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use foldhash::fast::RandomState;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::Client;
use super::connect::{self, Manner};
use super::forward::{self, Scope};
use super::session::{Case, Connection, Front};
use super::tls::Certificates;
use super::tunnel::Established;
use super::{Proxy, explicit, sni};
use crate::name::Port;
use crate::net;
use crate::net::original::{redirected, tproxied};
use crate::net::shared_listener::SharedListener;
use crate::policy::{Reason, Source, Stage};
use crate::settings::{Limits, Mode, UpstreamPort};
use crate::telemetry::Limit;
use crate::telemetry::record;

/// Counts client connections against the limits.
#[derive(Debug)]
pub(crate) struct Admission {
    limit: usize,
    all: AtomicUsize,
    per_source: usize,
    /// In shards, so that workers seldom wait for each other.
    sources: [Mutex<HashMap<IpAddr, usize, RandomState>>; SHARDS],
    shard: RandomState,
    /// Descriptors beyond the two of each connection, for upstream connections that are kept.
    pub(crate) spare: Arc<Semaphore>,
    /// Refusals that are being told at the same time; beyond it, connections are just closed.
    farewells: Arc<Semaphore>,
}

/// A connection's place among all and among those of its source.
#[derive(Debug)]
struct Admitted {
    proxy: Arc<Proxy>,
    source: IpAddr,
}

/// One bound listener.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The socket, once for each worker.
    pub(crate) listeners: Vec<SharedListener>,
    pub(crate) door: Door,
}

/// What a listener's connections come in through, whichever worker takes them.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// Swapped when a reload gives a workload's port to another workload.
    pub(crate) front: Arc<ArcSwap<Front>>,
    /// Set on `https://` proxies.
    pub(crate) certificates: Option<Arc<Certificates>>,
}

impl Admission {
    /// `descriptors` is what the system gives the process; more connections than it carries are not promised.
    pub(crate) fn new(limits: &Limits, descriptors: u64) -> Self {
        let limit = limits.connections.min(net::descriptors::connections(descriptors));
        let spare = net::descriptors::spare(descriptors, limit).min(Semaphore::MAX_PERMITS);
        Self {
            limit,
            all: AtomicUsize::new(0),
            spare: Arc::new(Semaphore::new(spare)),
            per_source: limits.per_source,
            sources: Default::default(),
            shard: RandomState::default(),
            farewells: Arc::new(Semaphore::new(FAREWELLS)),
        }
    }

    /// How many connections are served at the same time.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    fn admit(proxy: &Arc<Proxy>, source: IpAddr) -> Result<Admitted, Limit> {
        let admission = &proxy.admission;
        let place = |taken| (taken < admission.limit).then_some(taken + 1);
        if admission.all.fetch_update(Relaxed, Relaxed, place).is_err() {
            return Err(Limit::Connections);
        }
        let mut sources = admission.sources(source);
        let count = sources.entry(source).or_default();
        if *count >= admission.per_source {
            admission.all.fetch_sub(1, Relaxed);
            return Err(Limit::PerSource);
        }
        *count += 1;
        drop(sources);
        Ok(Admitted {
            proxy: Arc::clone(proxy),
            source,
        })
    }

    fn sources(&self, source: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, usize, RandomState>> {
        // The remainder is below the length of the array.
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 16")]
        let shard = (self.shard.hash_one(source) % SHARDS as u64) as usize;
        self.sources[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let admission = &self.proxy.admission;
        if let Entry::Occupied(mut count) = admission.sources(self.source).entry(self.source) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        admission.all.fetch_sub(1, Relaxed);
    }
}

/// Accepts until `closed`, beside the other workers on the same socket. Connections stay with the worker that took them,
/// in `sessions`, which outlives the listener.
pub(crate) async fn accept(
    proxy: Arc<Proxy>,
    listener: SharedListener,
    door: Door,
    sessions: TaskTracker,
    closed: CancellationToken,
) {
    let Door { front, certificates } = door;
    let mut pause = PAUSE_MIN;
    let mut turn = 0;
    let mut closing = pin!(closed.cancelled());
    // Each worker has its own, so that its connections do not queue for one lock.
    let drained = proxy.drained.child_token();
    loop {
        if turn == ACCEPTS_A_TURN {
            // The other workers get their share of a burst, and what was taken is served first.
            turn = 0;
            yield_now().await;
        }
        turn += 1;
        let accepted = tokio::select! {
            biased;
            () = &mut closing => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = PAUSE_MIN;
                welcome(
                    &proxy,
                    &front.load(),
                    certificates.as_ref(),
                    &sessions,
                    &drained,
                    stream,
                    peer,
                );
            }
            Err(error) if is_peer_gone(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: those that are open go on, and their end makes room.
                proxy.telemetry.metrics().limit(Limit::Descriptors);
                tracing::warn!(listener = %front.load().name, %error, "cannot accept; waiting {pause:?}");
                tokio::select! {
                    () = &mut closing => return,
                    () = sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                }
            }
        }
    }
}

fn welcome(
    proxy: &Arc<Proxy>,
    front: &Arc<Front>,
    certificates: Option<&Arc<Certificates>>,
    sessions: &TaskTracker,
    drained: &CancellationToken,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let address = peer.ip().to_canonical();
    let source = match &front.workload {
        Some(workload) => Source::through(address, Arc::clone(workload)),
        None => Source::at(address),
    };
    let connection = Arc::new(Connection {
        proxy: Arc::clone(proxy),
        front: Arc::clone(front),
        peer: SocketAddr::new(address, peer.port()),
        source,
        accepted: Instant::now(),
        cut: Notify::new(),
    });
    let admitted = match Admission::admit(proxy, address) {
        Ok(_) if proxy.records_required && !proxy.telemetry.writable() => Err(Limit::Log),
        admitted => admitted,
    };
    match admitted {
        Ok(admitted) => {
            let (certificates, drained) = (certificates.cloned(), drained.clone());
            sessions.spawn(async move {
                let _open = connection.front.metrics.connection();
                let _admitted = admitted;
                // What sets a tunnel up is large; it is boxed, and gone before the tunnel is relayed.
                let set_up = Box::pin(serve(connection, stream, certificates));
                if let Some(Some(established)) = drained.run_until_cancelled_owned(set_up).await {
                    established.relay().await;
                }
            });
        }
        Err(limit) => refuse(connection, certificates.is_some(), sessions, stream, limit),
    }
}

/// Says 503 where there is HTTP to say it in, and leaves a record.
fn refuse(connection: Arc<Connection>, tls: bool, sessions: &TaskTracker, stream: TcpStream, limit: Limit) {
    connection.proxy.telemetry.metrics().limit(limit);
    let entry = match connection.front.mode {
        Mode::Explicit { .. } => record::Entry::Connect,
        Mode::Http { .. } => record::Entry::Http,
        Mode::Tls { .. } => record::Entry::Tls,
        Mode::Tcp { .. } => record::Entry::Tcp,
    };
    let speaks_http = !tls && matches!(entry, record::Entry::Connect | record::Entry::Http);
    let farewell = Arc::clone(&connection.proxy.admission.farewells).try_acquire_owned();
    let started = connection.accepted;
    let refusal = Case::open(connection, entry, started).deny(
        Stage::Request,
        Reason::Limit,
        Some(limit_detail(limit).to_owned()),
    );
    let client = Client::Plain(stream);
    match farewell {
        Ok(permit) if speaks_http => {
            sessions.spawn(async move {
                client.close_with(&refusal.to_bytes()).await;
                drop(permit);
            });
        }
        _ => client.abort(),
    }
}

async fn serve(
    connection: Arc<Connection>,
    stream: TcpStream,
    certificates: Option<Arc<Certificates>>,
) -> Option<Established> {
    let original = match connection.front.mode {
        Mode::Tls { port } | Mode::Http { port } => upstream_port(port, &stream),
        Mode::Explicit { .. } | Mode::Tcp { .. } => None,
    };
    let client = match certificates {
        None => Client::Plain(stream),
        Some(certificates) => {
            let handshake = certificates.acceptor().accept(stream);
            match timeout_at(connection.head_deadline(connection.accepted), Box::pin(handshake)).await {
                Ok(Ok(stream)) => Client::Tls(Box::new(stream)),
                // rustls has told the client why by an alert.
                Ok(Err(error)) => {
                    handshake_failed(&connection, &error);
                    return None;
                }
                Err(late) => {
                    handshake_failed(&connection, &late.into());
                    return None;
                }
            }
        }
    };
    match &connection.front.mode {
        Mode::Explicit { .. } => explicit::serve(connection, client).await,
        Mode::Tls { .. } => sni::serve(connection, client, original).await,
        Mode::Http { .. } => transparent_http(connection, client, original).await,
        Mode::Tcp { to } => {
            let to = to.clone();
            let started = connection.accepted;
            connect::serve(connection, client, BytesMut::new(), to, Manner::Silent, started).await
        }
    }
}

/// Transparent HTTP: the name is the Host, on every request.
async fn transparent_http(connection: Arc<Connection>, client: Client, port: Option<Port>) -> Option<Established> {
    let Some(port) = port else {
        let started = connection.accepted;
        let case = Case::open(connection, record::Entry::Http, started);
        let detail = "the connection has no original destination; was it redirected to this listener?".to_owned();
        let refusal = case.deny(Stage::Request, Reason::BadPort, Some(detail));
        client.close_with(&refusal.to_bytes()).await;
        return None;
    };
    forward::serve_origin(connection, client, BytesMut::new(), Scope::Transparent(port), None).await
}

/// The port that a transparent client meant. Its address is never used.
fn upstream_port(port: UpstreamPort, stream: &TcpStream) -> Option<Port> {
    match port {
        UpstreamPort::Fixed(port) => Some(port),
        UpstreamPort::Redirect => redirected(stream).ok().and_then(|address| Port::new(address.port())),
        UpstreamPort::Tproxy => tproxied(stream).ok().and_then(|address| Port::new(address.port())),
    }
}

fn handshake_failed(connection: &Arc<Connection>, error: &io::Error) {
    let case = Case::open(Arc::clone(connection), record::Entry::Connect, connection.accepted);
    case.deny(
        Stage::Request,
        Reason::BadHello,
        Some(format!("the TLS handshake with this proxy failed: {error}")),
    );
}

fn limit_detail(limit: Limit) -> &'static str {
    match limit {
        Limit::Connections => "the proxy serves as many connections as it may (limits.connections)",
        Limit::PerSource => "this client has as many connections as it may (limits.per_source)",
        Limit::Log => "decisions must be logged (log.required), and the log cannot be written now",
        Limit::Descriptors | Limit::Dns => "the proxy is short of resources",
    }
}

/// Errors of a connection that was gone before it was taken (accept(2), "Error handling").
fn is_peer_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Few, so that connections that come at once are shared out.
const ACCEPTS_A_TURN: usize = 4;
const SHARDS: usize = 16;
const FAREWELLS: usize = 256;
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
