//! CONNECT, and every other tunnel to a name that is known before the client's own bytes: dial, answer, look, relay.
//! Must not pass a byte either way before what the rule demands has been seen and has passed the gate again.
//! Called by the explicit listeners; the fixed-target front uses the same steps without the HTTP answer.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::client::Client;
use super::forward::{self, Ready, Scope};
use super::refusal::Refusal;
use super::session::{Case, Connection, inspection};
use super::tunnel::Established;
use crate::name::{Host, HostName, Port};
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

/// Sets up one tunnel to `host:port`. `early` is what the client has already sent for its inside. `None`: it was refused,
/// or has already been served.
pub(crate) async fn serve(
    connection: Arc<Connection>,
    mut client: Client,
    early: BytesMut,
    (host, port): (Host, Port),
    manner: Manner,
    started: Instant,
) -> Option<Established> {
    let entry = if manner == Manner::Connect {
        Entry::Connect
    } else {
        Entry::Tcp
    };
    let mut case = Case::open(Arc::clone(&connection), entry, started);
    let ask = Ask::new(host, port);
    let decision = case.judge(ask.clone());
    if !decision.is_allowed() {
        manner
            .refuse(client, case.deny(Stage::Request, decision.reason, None))
            .await;
        return None;
    }
    let (dialled, decision) = match case.reach(&ask).await {
        Ok(reached) => reached,
        Err((reason, detail)) => {
            manner.refuse(client, case.deny(Stage::Address, reason, detail)).await;
            return None;
        }
    };
    let inspect = inspection(&decision)?;
    if manner == Manner::Connect {
        // One that does not take even this, behind an answer that it does not read, would hold its upstream for ever.
        let deadline = connection.head_deadline(Instant::now());
        let told = timeout_at(deadline, client.write_all(ESTABLISHED)).await;
        if !matches!(told, Ok(Ok(()))) {
            return None;
        }
    }
    let ask = ask.dialling(dialled.address);
    let mut inside = Inside {
        case,
        client,
        upstream: dialled.stream,
        bytes: early,
    };
    match inspect {
        Inspect::Nothing => inside.establish(Stage::Address, decision),
        Inspect::Hello => inside.look_for_hello(ask).await,
        Inspect::Http => inside.serve_http(decision, ask).await,
        Inspect::HelloOrHttp => match inside.first_byte().await {
            Ok(TLS_HANDSHAKE) => inside.look_for_hello(ask).await,
            Ok(_) => inside.serve_http(decision, ask).await,
            Err(unread) => inside.refuse_unread(&unread).await,
        },
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

/// A tunnel whose upstream is connected, and whose client has yet to show what the rule wants to see.
#[derive(Debug)]
struct Inside {
    case: Case,
    client: Client,
    upstream: TcpStream,
    /// What the client has sent so far; not one byte of it has gone on.
    bytes: BytesMut,
}

impl Inside {
    fn establish(self, stage: Stage, decision: Decision) -> Option<Established> {
        let Self {
            case,
            client,
            upstream,
            bytes,
        } = self;
        Established::open(case.allow(stage, decision), client, upstream, bytes)
    }

    /// Reads the ClientHello and judges it.
    async fn look_for_hello(mut self, ask: Ask) -> Option<Established> {
        let connection = Arc::clone(&self.case.connection);
        let read = read_hello(
            &connection,
            &mut self.client,
            Some(&self.upstream),
            ask.host.name(),
            &mut self.bytes,
        )
        .await;
        let seen = match read {
            Ok(Hello { sni, ech }) => Seen::Hello { sni, ech },
            // Report mode lets other protocols through, so the gate says what they are worth.
            Err(Unread::NotTls(_)) => Seen::Other,
            Err(unread) => return self.refuse_unread(&unread).await,
        };
        let decision = self.case.judge(ask.seeing(seen));
        if decision.is_allowed() {
            return self.establish(Stage::Hello, decision);
        }
        let refusal = self
            .case
            .deny(Stage::Hello, decision.reason, not_tls_detail(decision.reason));
        // Nothing was sent to the upstream; it sees an abort, not a finished conversation.
        crate::net::abort(&self.upstream);
        refuse_inside(self.client, &self.bytes, &refusal).await;
        None
    }

    async fn refuse_unread(self, unread: &Unread) -> Option<Established> {
        crate::net::abort(&self.upstream);
        refuse_unread(self.case, self.client, &self.bytes, unread).await;
        None
    }

    /// Serves the inside as plain HTTP; each request is a case of its own.
    async fn serve_http(self, decision: Decision, ask: Ask) -> Option<Established> {
        let Self {
            mut case,
            client,
            upstream,
            bytes,
        } = self;
        case.note_http();
        let connection = Arc::clone(&case.connection);
        let (rule, generation) = (decision.rule, decision.generation);
        case.allow(Stage::Address, decision)?;
        let ready = ask.address.map(|address| Ready {
            stream: upstream,
            address,
            rule,
            generation,
        });
        let scope = Scope::Inside(forward::Inside {
            host: ask.host,
            port: ask.port,
        });
        Box::pin(forward::serve_origin(connection, client, bytes, scope, ready)).await
    }

    async fn first_byte(&mut self) -> Result<u8, Unread> {
        let deadline = self.case.connection.head_deadline(Instant::now());
        loop {
            if let Some(byte) = self.bytes.first() {
                return Ok(*byte);
            }
            self.bytes.reserve(HELLO_READ);
            match timeout_at(deadline, self.client.read_buf(&mut self.bytes)).await {
                Ok(Ok(1..)) => {}
                Ok(_) => return Err(Unread::ClientClosed),
                Err(_) => return Err(Unread::TimedOut { server_first: false }),
            }
        }
    }
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

/// Reads until the hello is complete; it is likely to bear the name that was asked for. The upstream, if there is one
/// yet, is watched but not read.
pub(crate) async fn read_hello(
    connection: &Connection,
    client: &mut Client,
    upstream: Option<&TcpStream>,
    asked: Option<&HostName>,
    bytes: &mut BytesMut,
) -> Result<Hello, Unread> {
    let mut reader = HelloReader::expecting(asked.cloned());
    let mut deadline = connection.head_deadline(Instant::now());
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
            read = client.read_buf(bytes) => match read {
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
        Some(upstream) => {
            let peeked = poll_fn(|cx| upstream.poll_peek(cx, &mut ReadBuf::new(&mut [0]))).await;
            matches!(peeked, Ok(1..))
        }
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

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
const TLS_HANDSHAKE: u8 = 22;
const HELLO_READ: usize = 4096;
const SERVER_FIRST_GRACE: Duration = Duration::from_secs(1);
const SERVER_FIRST: &str = "the server spoke first; protocols in which it does need a rule of the form tcp://host:port";
const NOT_TLS: &str = "the first bytes are not TLS; other protocols need a rule of the form tcp://host:port";

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::policy::fixture::load;
    use crate::proxy::fixture::{connection, proxy, settings};

    #[tokio::test]
    async fn a_client_that_does_not_take_its_answer_is_given_up() {
        let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = Port::new(origin.local_addr().unwrap().port()).unwrap();
        let policy = load(&format!(
            "allow:\n  - {{to: [\"tcp://127.0.0.1:{port}\"], addresses: [127.0.0.0/8]}}\n"
        ));
        let mut settings = settings();
        settings.timeouts.head = Duration::from_millis(50);
        let (proxy, front) = proxy(&settings, policy);
        let (_client, stream) = full().await;
        let connection = connection(&proxy, &front, stream.peer_addr().unwrap());
        let to = (Host::Address(IpAddr::from(Ipv4Addr::LOCALHOST)), port);
        let (client, early) = (Client::Plain(stream), BytesMut::new());
        let served = serve(connection, client, early, to, Manner::Connect, Instant::now());
        let served = tokio::time::timeout(Duration::from_secs(20), served).await;
        assert!(served.expect("it is given up").is_none());
        origin.accept().await.expect("it was dialled");
    }

    /// A client that reads nothing, and the proxy's side of it, which takes no byte more.
    async fn full() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let (client, accepted) = tokio::join!(socket.connect(listener.local_addr().unwrap()), listener.accept());
        let stream = accepted.unwrap().0;
        socket2::SockRef::from(&stream).set_send_buffer_size(4096).unwrap();
        // What is sent may still make room once more while it travels.
        let moment = Duration::from_millis(200);
        while tokio::time::timeout(moment, stream.writable()).await.is_ok() {
            while stream.try_write(&[0; 4096]).is_ok() {}
        }
        (client.unwrap(), stream)
    }
}
