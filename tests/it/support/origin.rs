//! Servers that play the internet: HTTP, TLS, echo, a server that speaks first, or whatever a test makes of one.
//! Must not judge; each records every connection and every byte, so that tests can say what an upstream saw.
//! Called by tests; they run as threads until the process ends.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::DEADLINE;
use super::event::Events;
use super::http::Message;

/// A running server.
#[derive(Clone, Debug)]
pub struct Origin {
    pub address: SocketAddr,
    pub connections: Events<Connection>,
}

/// What one connection brought.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Every byte, before TLS is taken off.
    pub bytes: Vec<u8>,
    /// The requests, after it.
    pub requests: Vec<Message>,
    pub ended: Option<Ended>,
}

/// How a connection ended for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The client finished (FIN).
    Finished,
    /// It reset the connection, or it was gone.
    Reset,
}

/// What an HTTP server answers.
pub struct Reply {
    pub status: &'static str,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What an HTTP server is.
pub type Site = Arc<dyn Fn(&Message) -> Reply + Send + Sync>;

impl Reply {
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: "200 OK",
            fields: Vec::new(),
            body: body.into(),
        }
    }

    pub fn not_found() -> Self {
        Self {
            status: "404 Not Found",
            ..Self::ok("no such page\n")
        }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Origin {
    /// Serves each connection with `serve`, in a thread of its own.
    pub fn start(bind: &str, serve: impl Fn(&mut Tap) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(bind).unwrap_or_else(|error| panic!("{bind}: {error}"));
        let address = listener.local_addr().unwrap();
        let connections = Events::<Connection>::default();
        let (serve, log) = (Arc::new(serve), connections.clone());
        thread::spawn(move || {
            loop {
                let Ok((stream, _)) = listener.accept() else {
                    continue;
                };
                let number = log.update(|all| {
                    all.push(Connection {
                        bytes: Vec::new(),
                        requests: Vec::new(),
                        ended: None,
                    });
                    all.len() - 1
                });
                let mut tap = Tap {
                    stream,
                    log: log.clone(),
                    number,
                };
                let serve = Arc::clone(&serve);
                thread::spawn(move || {
                    let _ = serve(&mut tap);
                });
            }
        });
        Self { address, connections }
    }

    /// Sends back what comes.
    pub fn echo() -> Self {
        Self::start(ANY, |tap| {
            let mut buffer = [0; 16 * 1024];
            loop {
                match tap.read(&mut buffer)? {
                    0 => return tap.stream.shutdown(Shutdown::Write),
                    len => tap.write_all(&buffer[..len])?,
                }
            }
        })
    }

    /// Speaks first, then sends back what comes.
    pub fn banner(text: &'static str) -> Self {
        Self::start(ANY, move |tap| {
            tap.write_all(text.as_bytes())?;
            let mut buffer = [0; 1024];
            loop {
                match tap.read(&mut buffer)? {
                    0 => return Ok(()),
                    len => tap.write_all(&buffer[..len])?,
                }
            }
        })
    }

    /// Plain HTTP, with the pages of [`pages`].
    pub fn http() -> Self {
        Self::http_at(ANY, Arc::new(pages))
    }

    pub fn http_at(bind: &str, site: Site) -> Self {
        Self::start(bind, move |tap| {
            let (log, number) = (tap.log.clone(), tap.number);
            serve_http(tap, &log, number, &site)
        })
    }

    /// The same over TLS.
    pub fn https(config: Arc<ServerConfig>) -> Self {
        Self::https_at(ANY, config, Arc::new(pages))
    }

    pub fn https_at(bind: &str, config: Arc<ServerConfig>, site: Site) -> Self {
        Self::start(bind, move |tap| {
            let (log, number) = (tap.log.clone(), tap.number);
            let connection = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(connection, tap);
            let served = serve_http(&mut stream, &log, number, &site);
            stream.conn.send_close_notify();
            while stream.conn.wants_write() && stream.conn.write_tls(&mut stream.sock).is_ok() {}
            served
        })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections came so far.
    pub fn accepted(&self) -> usize {
        self.connections.len()
    }

    /// Every byte of every connection, one after the other.
    pub fn received(&self) -> Vec<u8> {
        self.connections
            .with(|all| all.iter().flat_map(|one| one.bytes.clone()).collect())
    }

    /// All requests of all connections.
    pub fn requests(&self) -> Vec<Message> {
        self.connections
            .with(|all| all.iter().flat_map(|one| one.requests.clone()).collect())
    }

    /// Waits until the first connection has brought exactly these bytes so far.
    pub fn expect_bytes(&self, bytes: &[u8]) {
        let came = self.connections.wait(DEADLINE, |all| {
            let first = all.first()?;
            (first.bytes.len() >= bytes.len()).then(|| first.bytes.clone())
        });
        assert_eq!(came.as_deref(), Some(bytes), "the upstream saw {:?}", self.received());
    }

    /// Waits until connection `number` has ended, and says how.
    pub fn expect_end(&self, number: usize) -> Ended {
        let ended = self.connections.wait(DEADLINE, |all| all.get(number)?.ended);
        ended.unwrap_or_else(|| panic!("upstream connection {number} did not end"))
    }
}

/// The pages of a plain test server.
pub fn pages(request: &Message) -> Reply {
    let target = request.target();
    let path = target.split('?').next().unwrap_or_default();
    match path {
        "/echo" => Reply::ok(request.body.clone()),
        "/head" => Reply::ok(request.head.clone()),
        "/hop" => Reply::ok("hop\n")
            .with("Connection", "X-Private, keep-alive")
            .with("X-Private", "1")
            .with("Keep-Alive", "timeout=5")
            .with("Proxy-Authenticate", "Basic")
            .with("X-Public", "1"),
        "/elsewhere" => Reply {
            status: "302 Found",
            ..Reply::ok("")
        }
        .with("Location", "http://denied.test/"),
        _ => match path.strip_prefix("/size/").and_then(|size| size.parse().ok()) {
            Some(size) => Reply::ok(pattern(size)),
            None => Reply::ok(format!("{path} of {}\n", request.field("host").unwrap_or("nobody"))),
        },
    }
}

/// Bytes that tell where they stand.
pub fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// One connection's requests, one after the other; `GET /socket` with an upgrade becomes an echo.
fn serve_http(
    stream: &mut (impl Read + Write),
    log: &Events<Connection>,
    number: usize,
    site: &Site,
) -> io::Result<()> {
    while let Some(mut request) = Message::read_head(stream)? {
        if request.field("expect").is_some() && request.target() != "/refuse" {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if request.target() != "/refuse" {
            request.read_body(stream, false)?;
        }
        log.update(|all| all[number].requests.push(request.clone()));
        if request.target() == "/socket" && request.field("upgrade").is_some() {
            stream
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")?;
            let mut buffer = [0; 1024];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    len => stream.write_all(&buffer[..len])?,
                }
            }
        }
        if request.target() == "/broken" {
            return stream.write_all(b"SSH-2.0-this is not HTTP\r\n");
        }
        let reply = if request.target() == "/refuse" {
            Reply {
                status: "417 Expectation Failed",
                ..Reply::ok("no\n")
            }
            .with("Connection", "close")
        } else {
            site(&request)
        };
        let closes = reply
            .fields
            .iter()
            .any(|(name, value)| name == "Connection" && value == "close");
        write_reply(stream, &request, &reply)?;
        if closes || request.target().starts_with("/close") {
            return Ok(());
        }
    }
    Ok(())
}

fn write_reply(stream: &mut impl Write, request: &Message, reply: &Reply) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {}\r\n", reply.status);
    for (name, value) in &reply.fields {
        head += &format!("{name}: {value}\r\n");
    }
    let chunked = request.target().starts_with("/chunked");
    if chunked {
        head += "Transfer-Encoding: chunked\r\n";
    } else if !request.target().starts_with("/close") {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    let mut bytes = (head + "\r\n").into_bytes();
    if request.method() != "HEAD" {
        if chunked {
            for chunk in reply.body.chunks(7) {
                bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
        } else {
            bytes.extend(&reply.body);
        }
    }
    stream.write_all(&bytes)
}

/// The server's side of a connection, which records what comes in.
pub struct Tap {
    pub stream: TcpStream,
    log: Events<Connection>,
    number: usize,
}

impl Tap {
    /// Ends the connection with a reset.
    pub fn reset(&self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer);
        self.log.update(|all| match &read {
            Ok(0) if !buffer.is_empty() => all[self.number].ended = Some(Ended::Finished),
            Ok(len) => all[self.number].bytes.extend(&buffer[..*len]),
            Err(_) => all[self.number].ended = Some(Ended::Reset),
        });
        read
    }
}

impl Write for Tap {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tap({})", self.number)
    }
}

const ANY: &str = "127.0.0.1:0";
