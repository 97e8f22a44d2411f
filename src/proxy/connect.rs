//! CONNECT, and every other tunnel to a name that is known before the client's own bytes: dial, answer, look, relay.
//! Must not pass a byte either way before what the rule demands has been seen and has passed the gate again.
//! Called by the explicit listeners; the fixed-target front uses the same steps without the HTTP answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::client::Client;
use super::forward::{self, Inside};
use super::refusal::Refusal;
use super::session::{Case, Connection, inspection};
use super::tunnel::Tunnel;
use crate::name::{Host, Port};
use crate::policy::{Ask, Decision, Inspect, Reason, Seen, Stage};
use crate::telemetry::record::Entry;
use crate::wire::Progress;
use crate::wire::hello::{Hello, HelloReader};

/// How the client was addressed, and so how it is told no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It sent CONNECT: a 200 before the tunnel, an HTTP answer if there is none.
    Connect,
    /// It believes to speak to the target itself.
    Silent,
}

/// Serves one tunnel to `host:port`. `early` is what the client has already sent for the inside of the tunnel.
pub(crate) async fn serve(
    connection: Arc<Connection>,
    mut client: Client,
    early: BytesMut,
    (host, port): (Host, Port),
    manner: Manner,
    started: Instant,
) {
    let entry = if manner == Manner::Connect {
        Entry::Connect
    } else {
        Entry::Tcp
    };
    let mut case = Case::open(Arc::clone(&connection), entry, started);
    let ask = Ask::new(host, port);
    let decision = case.judge(ask.clone());
    if !decision.is_allowed() {
        return manner
            .refuse(client, case.deny(Stage::Request, decision.reason, None))
            .await;
    }
    let (dialled, decision) = match case.reach(&ask).await {
        Ok(reached) => reached,
        Err((reason, detail)) => return manner.refuse(client, case.deny(Stage::Address, reason, detail)).await,
    };
    let ask = ask.dialling(dialled.address);
    let upstream = dialled.stream;
    if manner == Manner::Connect && client.write_all(ESTABLISHED).await.is_err() {
        return;
    }
    match inspection(&decision) {
        Some(Inspect::Nothing) => relay(case, Stage::Address, decision, client, upstream, early).await,
        Some(Inspect::Hello) => look_for_hello(case, client, upstream, early, ask).await,
        Some(Inspect::Http) => serve_http(case, decision, client, upstream, early, ask).await,
        Some(Inspect::HelloOrHttp) => {
            let mut early = early;
            match first_byte(&connection, &mut client, &mut early).await {
                Some(TLS_HANDSHAKE) => look_for_hello(case, client, upstream, early, ask).await,
                Some(_) => serve_http(case, decision, client, upstream, early, ask).await,
                None => drop(case.deny(Stage::Hello, Reason::HelloTimeout, None)),
            }
        }
        None => drop(case.deny(Stage::Address, decision.reason, None)),
    }
}

impl Manner {
    async fn refuse(self, client: Client, refusal: Refusal) {
        match self {
            Self::Connect => client.close_with(&refusal.to_bytes()).await,
            // There is no protocol to say no in: a reset is at least no clean end.
            Self::Silent => client.abort(),
        }
    }
}

async fn relay(case: Case, stage: Stage, decision: Decision, client: Client, upstream: TcpStream, first: BytesMut) {
    let Some(tunnel) = case.allow(stage, decision).and_then(Tunnel::open) else {
        client.abort();
        return;
    };
    tunnel.relay(client, upstream, first).await;
}

/// Reads the ClientHello, judges it, and relays from its first byte.
async fn look_for_hello(mut case: Case, mut client: Client, upstream: TcpStream, mut bytes: BytesMut, ask: Ask) {
    let read = read_hello(&case.connection, &mut client, Some(&upstream), &mut bytes).await;
    let seen = match read {
        Ok(Hello { sni, ech }) => Seen::Hello { sni, ech },
        Err(Unread::NotTls(_)) => Seen::Other,
        Err(unread) => return refuse_unread(case, client, &bytes, &unread).await,
    };
    let decision = case.judge(ask.seeing(seen));
    if decision.is_allowed() {
        return relay(case, Stage::Hello, decision, client, upstream, bytes).await;
    }
    let refusal = case.deny(Stage::Hello, decision.reason, not_tls_detail(decision.reason));
    // Nothing was sent to the upstream; it sees an abort, not a finished conversation.
    crate::net::abort(&upstream);
    refuse_inside(client, &bytes, &refusal).await;
}

/// Serves the inside of the tunnel as plain HTTP; each request is a case of its own.
async fn serve_http(case: Case, decision: Decision, client: Client, upstream: TcpStream, bytes: BytesMut, ask: Ask) {
    let connection = Arc::clone(&case.connection);
    let rule = decision.rule;
    let generation = decision.generation;
    if case.allow(Stage::Address, decision).is_none() {
        return;
    }
    let inside = Inside {
        host: ask.host,
        port: ask.port,
    };
    let first = ask.address.map(|address| forward::Ready {
        stream: upstream,
        address,
        rule,
        generation,
    });
    Box::pin(forward::serve_inside(connection, client, bytes, inside, first)).await;
}

/// Why there is no hello.
#[derive(Debug)]
pub(crate) enum Unread {
    NotTls(&'static str),
    Malformed(Reason, &'static str),
    /// The deadline passed; `server_first` if the upstream spoke meanwhile.
    TimedOut {
        server_first: bool,
    },
    ClientClosed,
}

/// Reads until the hello is complete. The upstream, if there is one yet, is watched but not read.
pub(crate) async fn read_hello(
    connection: &Connection,
    client: &mut Client,
    upstream: Option<&TcpStream>,
    bytes: &mut BytesMut,
) -> Result<Hello, Unread> {
    let mut reader = HelloReader::new();
    let mut deadline = Instant::now() + connection.proxy.timeouts.head;
    let mut watched = upstream;
    let mut server_first = false;
    loop {
        match reader.advance(bytes) {
            Progress::Value(hello) => return Ok(hello),
            Progress::Reject(reject) if reject.reason == Reason::NotTls => return Err(Unread::NotTls(reject.detail)),
            Progress::Reject(reject) => return Err(Unread::Malformed(reject.reason, reject.detail)),
            Progress::Need(_) => {}
        }
        bytes.reserve(HELLO_READ);
        tokio::select! {
            biased;
            read = tokio::io::AsyncReadExt::read_buf(client, bytes) => match read {
                Ok(0) | Err(_) => return Err(Unread::ClientClosed),
                Ok(_) => {}
            },
            () = sleep_until(deadline) => return Err(Unread::TimedOut { server_first }),
            spoke = speaks(watched) => {
                watched = None;
                if spoke && bytes.is_empty() {
                    // Both sides would now wait for each other; a client that does speak first has a moment left.
                    server_first = true;
                    deadline = deadline.min(Instant::now() + SERVER_FIRST_GRACE);
                }
            }
        }
    }
}

/// Whether the upstream sends something before the client has; pends for ever without an upstream.
async fn speaks(upstream: Option<&TcpStream>) -> bool {
    match upstream {
        Some(upstream) => matches!(upstream.peek(&mut [0]).await, Ok(1..)),
        None => std::future::pending().await,
    }
}

/// Refuses a client whose first bytes were no ClientHello that we can judge.
pub(crate) async fn refuse_unread(case: Case, client: Client, bytes: &[u8], unread: &Unread) {
    let (reason, detail) = match unread {
        Unread::NotTls(detail) => (Reason::NotTls, Some((*detail).to_owned())),
        Unread::Malformed(reason, detail) => (*reason, Some((*detail).to_owned())),
        Unread::TimedOut { server_first: true } => (Reason::HelloTimeout, Some(SERVER_FIRST.to_owned())),
        Unread::TimedOut { server_first: false } => (Reason::HelloTimeout, None),
        Unread::ClientClosed => (Reason::ClientClosed, None),
    };
    let refusal = case.deny(Stage::Hello, reason, detail);
    refuse_inside(client, bytes, &refusal).await;
}

/// Tells a client inside a tunnel, or on a transparent TLS listener, that this is the end: by an alert if it spoke TLS.
pub(crate) async fn refuse_inside(client: Client, bytes: &[u8], refusal: &Refusal) {
    let alert = refusal.to_alert();
    let answer: &[u8] = if bytes.first() == Some(&TLS_HANDSHAKE) {
        &alert
    } else {
        &[]
    };
    client.close_with(answer).await;
}

pub(crate) fn not_tls_detail(reason: Reason) -> Option<String> {
    (reason == Reason::NotTls).then(|| NOT_TLS.to_owned())
}

async fn first_byte(connection: &Connection, client: &mut Client, bytes: &mut BytesMut) -> Option<u8> {
    let read = async {
        while bytes.is_empty() {
            bytes.reserve(HELLO_READ);
            if tokio::io::AsyncReadExt::read_buf(client, bytes).await.ok()? == 0 {
                return None;
            }
        }
        bytes.first().copied()
    };
    tokio::time::timeout(connection.proxy.timeouts.head, read)
        .await
        .ok()
        .flatten()
}

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
const TLS_HANDSHAKE: u8 = 22;
const HELLO_READ: usize = 4096;
const SERVER_FIRST_GRACE: Duration = Duration::from_secs(1);
const SERVER_FIRST: &str = "the server spoke first; protocols in which it does need a rule of the form tcp://host:port";
const NOT_TLS: &str = "the first bytes are not TLS; other protocols need a rule of the form tcp://host:port";
