//! The clients: open a tunnel through a proxy, send a ClientHello, take the answer; ask for pages.
//! Must not hide a failure; one wrong byte ends the run, because a proxy that fails is cheap.
//! Called by the load, with the names of the lab.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::hello::{Wish, hello};
use crate::origin::{ANSWER, PAGE};

/// How one gets to the origin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Entry {
    /// With CONNECT.
    Connect(SocketAddr),
    /// By speaking to this address as to the origin itself; it may be the origin.
    Plain(SocketAddr),
}

impl Entry {
    pub(crate) fn address(self) -> SocketAddr {
        match self {
            Self::Connect(address) | Self::Plain(address) => address,
        }
    }
}

/// What a client sends for one name.
#[derive(Debug)]
pub(crate) struct Target {
    head: Vec<u8>,
    hello: Vec<u8>,
    request: Vec<u8>,
}

/// Asks for page after page, on one connection if the proxy lets it live.
#[derive(Debug)]
pub(crate) struct Pages {
    proxy: SocketAddr,
    stream: Option<TcpStream>,
    once: bool,
    targets: Arc<[Target]>,
    place: usize,
}

impl Target {
    /// `port` is of the origin's TLS, `web` of its pages.
    pub(crate) fn new(name: &str, port: u16, web: u16, wish: Wish) -> anyhow::Result<Self> {
        Ok(Self {
            head: format!("CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n").into_bytes(),
            hello: hello(name, wish)?,
            request: format!(
                "GET http://{name}:{web}/page HTTP/1.1\r\nHost: {name}:{web}\r\nUser-Agent: lab\r\nAccept: */*\r\n\r\n"
            )
            .into_bytes(),
        })
    }

    /// Opens a tunnel and takes the origin's first answer.
    pub(crate) async fn open(&self, entry: Entry) -> anyhow::Result<TcpStream> {
        let opened = async { self.open_in(connect(entry.address()).await?, entry).await };
        timeout(PATIENCE, opened).await.context("no answer through the proxy")?
    }

    /// The same, as a client with that address.
    pub(crate) async fn open_from(&self, source: Ipv4Addr, entry: Entry) -> anyhow::Result<TcpStream> {
        let opened = async {
            let socket = TcpSocket::new_v4()?;
            // Ports of connections that are over are free again.
            socket.set_reuseaddr(true)?;
            socket.set_nodelay(true)?;
            socket.bind((source, 0).into())?;
            let stream = socket
                .connect(entry.address())
                .await
                .context("cannot reach the proxy")?;
            self.open_in(stream, entry).await
        };
        timeout(PATIENCE, opened).await.context("no answer through the proxy")?
    }

    async fn open_in(&self, mut stream: TcpStream, entry: Entry) -> anyhow::Result<TcpStream> {
        if let Entry::Connect(_) = entry {
            let status = self.ask(&mut stream).await?;
            ensure!(status == 200, "the proxy answers {status}");
        }
        stream.write_all(&self.hello).await?;
        let mut answer = [0; ANSWER];
        stream.read_exact(&mut answer).await.context("no answer to the hello")?;
        ensure!(answer == [0x16; ANSWER], "the origin did not say this");
        Ok(stream)
    }

    /// Sends CONNECT; the status of the answer.
    async fn ask(&self, stream: &mut TcpStream) -> anyhow::Result<u16> {
        stream.write_all(&self.head).await?;
        let mut buffer = [0; HEAD];
        let mut length = 0;
        let end = read_head(stream, &mut buffer, &mut length).await?;
        let status = status(buffer.get(..length).unwrap_or_default())?;
        ensure!(status != 200 || end == length, "bytes after a 200");
        Ok(status)
    }

    /// Whether the proxy refuses to fetch a page.
    pub(crate) async fn page_is_refused(&self, proxy: SocketAddr) -> anyhow::Result<bool> {
        let mut stream = connect(proxy).await?;
        Ok(self.page(&mut stream).await? == 403)
    }

    /// Asks for a page; the status of the answer. If that is 200, it is the right page.
    async fn page(&self, stream: &mut TcpStream) -> anyhow::Result<u16> {
        stream.write_all(&self.request).await?;
        let mut buffer = [0; HEAD];
        let mut length = 0;
        let end = timeout(PATIENCE, read_head(stream, &mut buffer, &mut length))
            .await
            .context("no page")??;
        let head = buffer.get(..end).unwrap_or_default();
        let status = status(head)?;
        if status == 200 {
            let page = buffer
                .get_mut(end..end + PAGE.len())
                .context("a head as long as that")?;
            ensure!(length <= end + PAGE.len(), "bytes after the page");
            stream
                .read_exact(page.get_mut(length - end..).unwrap_or_default())
                .await?;
            ensure!(page == PAGE, "not the page");
        }
        Ok(status)
    }

    /// Whether the proxy refuses it.
    pub(crate) async fn is_refused(&self, entry: Entry) -> anyhow::Result<bool> {
        let mut stream = connect(entry.address()).await?;
        match entry {
            Entry::Connect(_) => Ok(self.ask(&mut stream).await? == 403),
            Entry::Plain(_) => {
                stream.write_all(&self.hello).await?;
                let mut answer = Vec::new();
                // An alert, an end, or a reset; but nothing of the origin's.
                let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
                    .await
                    .context("no answer")?;
                Ok(answer.len() < ANSWER)
            }
        }
    }
}

impl Pages {
    pub(crate) fn new(proxy: SocketAddr, targets: &Arc<[Target]>, place: usize) -> Self {
        Self {
            proxy,
            stream: None,
            once: false,
            targets: Arc::clone(targets),
            place: place % targets.len(),
        }
    }

    /// Takes the next page; whether that went through a connection that was there.
    pub(crate) async fn get(&mut self) -> anyhow::Result<bool> {
        let target = self.targets.get(self.place).context("no targets")?;
        if let Some(mut stream) = self.stream.take() {
            if let Ok(status) = target.page(&mut stream).await {
                ensure!(status == 200, "the proxy answers {status}");
                self.stream = Some(stream);
                return Ok(true);
            }
            // It closes after each page, as it may; the caller knows whether it should.
            self.once = true;
        }
        let mut stream = connect(self.proxy).await?;
        let status = target.page(&mut stream).await?;
        ensure!(status == 200, "the proxy answers {status}");
        self.stream = Some(stream).filter(|_| !self.once);
        Ok(false)
    }
}

async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await.context("cannot reach the proxy")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads until the empty line; where that ends. More may have come with it.
async fn read_head(stream: &mut TcpStream, buffer: &mut [u8], length: &mut usize) -> anyhow::Result<usize> {
    loop {
        let read = stream.read(buffer.get_mut(*length..).unwrap_or_default()).await?;
        ensure!(read > 0, "the proxy closes within its answer");
        *length += read;
        let received = buffer.get(..*length).unwrap_or_default();
        if let Some(at) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            return Ok(at + 4);
        }
    }
}

fn status(head: &[u8]) -> anyhow::Result<u16> {
    let status = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    std::str::from_utf8(status)?
        .parse()
        .context("no status in the proxy's answer")
}

const HEAD: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(30);
