//! Accepting: limits first, then a task for each connection, which goes to its listener's front and then carries its tunnel.
//! Must not read from clients before they are admitted; a full proxy says so at once instead of hanging.
//! Called by the app, once per bound listener and worker.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::Admission;
use super::carry::{Place, carry};
use super::client::Client;
use super::connect::{self, Manner};
use super::forward::{self, Scope};
use super::session::{Case, Connection, Front};
use super::tls::Certificates;
use super::tunnel::Established;
use super::{Proxy, explicit, sni};
use crate::name::Port;
use crate::net::original::{redirected, tproxied};
use crate::net::shared_listener::SharedListener;
use crate::policy::{Reason, Source, Stage};
use crate::settings::{Mode, UpstreamPort};
use crate::telemetry::Limit;
use crate::telemetry::record;

/// One bound listener.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The socket, once for each worker.
    pub(crate) sockets: Vec<TcpListener>,
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

/// Accepts while this worker is to, until `closed`. Connections are in `sessions`, which outlives the listener.
pub(crate) async fn accept(
    proxy: Arc<Proxy>,
    worker: usize,
    socket: TcpListener,
    door: Door,
    sessions: TaskTracker,
    closed: CancellationToken,
) {
    let Some(mut accepts) = proxy.balance.accepts(worker) else {
        return;
    };
    // Each worker has its own, so that its connections do not queue for one lock.
    let drained = proxy.drained.child_token();
    let mut pause = PAUSE_MIN;
    let mut while_it_accepts = async || {
        while accepts.wait_for(|accepts| *accepts).await.is_ok() {
            match SharedListener::of(&socket) {
                Ok(listener) => {
                    pause = PAUSE_MIN;
                    let until = async {
                        // Nobody is left to say so where it fails, and this ends as well.
                        let _ = accepts.wait_for(|accepts| !accepts).await;
                    };
                    tokio::select! {
                        biased;
                        () = until => {}
                        () = accept_all(&proxy, &listener, &door, &sessions, &drained) => {}
                    }
                }
                Err(error) => cannot_accept(&proxy, &door, &error, &mut pause).await,
            }
        }
    };
    closed.run_until_cancelled(while_it_accepts()).await;
}

/// Never ends.
async fn accept_all(
    proxy: &Arc<Proxy>,
    listener: &SharedListener,
    door: &Door,
    sessions: &TaskTracker,
    drained: &CancellationToken,
) {
    let Door { front, certificates } = door;
    let mut pause = PAUSE_MIN;
    let mut turn = 0;
    loop {
        if turn == ACCEPTS_A_TURN {
            // The other workers get their share of a burst, and what was taken is served first.
            turn = 0;
            yield_now().await;
        }
        turn += 1;
        match listener.accept().await {
            Ok((stream, peer)) => {
                pause = PAUSE_MIN;
                let certificates = certificates.as_ref();
                welcome(proxy, &front.load(), certificates, sessions, drained, stream, peer);
            }
            Err(error) if is_peer_gone(&error) => {}
            Err(error) => cannot_accept(proxy, door, &error, &mut pause).await,
        }
    }
}

/// Out of descriptors or memory: those that are open go on, and their end makes room.
async fn cannot_accept(proxy: &Proxy, door: &Door, error: &io::Error, pause: &mut Duration) {
    proxy.telemetry.metrics().limit(Limit::Descriptors);
    tracing::warn!(listener = %door.front.load().name, %error, "cannot accept; waiting {pause:?}");
    sleep(*pause).await;
    *pause = (*pause * 2).min(PAUSE_MAX);
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
            let place = Place::new(&connection.front, admitted, sessions);
            tokio::spawn(async move {
                // What sets a tunnel up is large; it is boxed, and gone before the tunnel is relayed.
                let set_up = Box::pin(serve(connection, stream, certificates));
                if let Some(Some(established)) = drained.run_until_cancelled_owned(set_up).await {
                    carry(established, place).await;
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
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpStream};
    use std::thread;

    use super::*;
    use crate::net;
    use crate::proxy::balance::Balance;
    use crate::proxy::fixture::{balanced, blocking, other_worker, runtime, settings};

    #[test]
    fn the_second_worker_accepts_when_the_first_is_full() {
        let first = runtime();
        let (second, stop) = other_worker();
        let balance = Balance::new([first.handle().clone(), second.clone()]);
        let policy = crate::policy::fixture::load("allow: []\n");
        let (proxy, front) = first.block_on(async { balanced(&settings(), policy, balance) });
        let socket = net::listen::bind((Ipv4Addr::LOCALHOST, 0).into(), &[]).unwrap();
        let address = socket.local_addr().unwrap();
        let sessions = TaskTracker::new();
        for (worker, runtime) in [first.handle(), &second].into_iter().enumerate() {
            runtime.spawn(accept(
                Arc::clone(&proxy),
                worker,
                socket.try_clone().unwrap(),
                Door {
                    front: Arc::new(ArcSwap::new(Arc::clone(&front))),
                    certificates: None,
                },
                sessions.clone(),
                CancellationToken::new(),
            ));
        }
        let ask = move || {
            let mut client = blocking(TcpStream::connect(address).unwrap());
            client.write_all(b"nothing that is HTTP\r\n\r\n").unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        };
        let now = std::time::Instant::now;
        proxy.balance.beat(0, 1000, now());
        proxy.balance.beat(1, 0, now());
        // The first one does not run.
        ask();
        proxy.balance.beat(0, 0, now());
        proxy.balance.beat(1, 0, now());
        drop(stop);
        let asked = thread::spawn(ask);
        first.block_on(async {
            while !asked.is_finished() {
                yield_now().await;
            }
        });
        asked.join().unwrap();
    }
}
