//! A client made of raw bytes: writes what it is given, in the pieces it is given, and says how the connection ended.
//! Must not add or repair a byte. Every read has a deadline.
//! Called by nearly every test; real clients are in the ring `clients`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

use super::DEADLINE;
use super::http::Message;

#[derive(Debug)]
pub struct Client {
    pub stream: TcpStream,
}

/// How a connection ended for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Closed,
    Reset,
    /// Not at all, within the deadline.
    Open,
}

pub type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream =
            TcpStream::connect_timeout(&address, DEADLINE).unwrap_or_else(|error| panic!("{address}: {error}"));
        Self::over(stream)
    }

    /// From one of the loopback's other addresses.
    pub fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
        socket.connect_timeout(&address.into(), DEADLINE).unwrap();
        Self::over(socket.into())
    }

    /// Over a connection that is there already.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Sends a CONNECT and reads the head of the answer.
    pub fn connect_request(proxy: SocketAddr, target: &str) -> (Self, Message) {
        let mut client = Self::connect(proxy);
        client.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"));
        let answer = client.head();
        (client, answer)
    }

    /// A tunnel that the proxy agreed to.
    pub fn tunnel(proxy: SocketAddr, target: &str) -> Self {
        let (mut client, answer) = Self::connect_request(proxy, target);
        if answer.status() != 200 {
            let (body, _) = client.read_to_end();
            panic!("{target}: {}\n{}", answer.head, String::from_utf8_lossy(&body));
        }
        client
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the proxy takes bytes");
    }

    /// Asks a proxy for an absolute URL.
    pub fn get(&mut self, url: &str) {
        let host = url.split('/').nth(2).unwrap();
        self.send(format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }

    /// Like [`Client::send`], where the proxy may already have closed.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends pieces of at most `size` bytes, each in a segment of its own, `apart` from each other.
    pub fn trickle(&mut self, bytes: &[u8], size: usize, apart: Duration) {
        for piece in bytes.chunks(size) {
            self.send(piece);
            // This paces the sender, it waits for nothing.
            thread::park_timeout(apart);
        }
    }

    /// Sends everything and ends its own side.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    /// The head of an answer.
    pub fn head(&mut self) -> Message {
        let head = Message::read_head(&mut self.stream).expect("an answer comes");
        head.expect("an answer comes before the end")
    }

    /// A whole answer; without framing, up to the end of the connection.
    pub fn response(&mut self) -> Message {
        let mut answer = self.head();
        let bodiless = matches!(answer.status(), 100..=199 | 204 | 304);
        if !bodiless {
            answer.read_body(&mut self.stream, true).expect("the body comes whole");
        }
        answer
    }

    pub fn read_exact(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).expect("the bytes come");
        bytes
    }

    /// Everything up to the end.
    pub fn read_to_end(&mut self) -> (Vec<u8>, Ending) {
        let mut bytes = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return (bytes, Ending::Closed),
                Ok(len) => bytes.extend(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return (bytes, Ending::Reset),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return (bytes, Ending::Open);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Asserts that nothing comes, and the connection stays, for `time`.
    pub fn expect_quiet(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let (bytes, ending) = self.read_to_end();
        assert_eq!((bytes, ending), (Vec::new(), Ending::Open));
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
    }

    /// Speaks TLS from here on.
    pub fn tls(self, config: &Arc<ClientConfig>, name: &str) -> Tls {
        let name = name.to_owned().try_into().unwrap();
        let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        StreamOwned::new(connection, self.stream)
    }
}

/// One GET over an open stream.
pub fn get(stream: &mut (impl Read + Write), host: &str, path: &str) -> io::Result<Message> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
    let mut answer = Message::read_head(stream)?.ok_or(ErrorKind::UnexpectedEof)?;
    answer.read_body(stream, true)?;
    Ok(answer)
}
