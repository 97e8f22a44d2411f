//! The clients: open a tunnel through a proxy, send a ClientHello, take the answer.
//! Must not hide a failure; one wrong byte ends the run, because a proxy that fails is cheap.
//! Called by the questions, with the names of the lab.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::hello::hello;
use crate::origin::ANSWER;

/// What a client sends for one name.
#[derive(Debug)]
pub(crate) struct Target {
    head: Vec<u8>,
    hello: Vec<u8>,
}

impl Target {
    pub(crate) fn new(name: &str, port: u16) -> anyhow::Result<Self> {
        Ok(Self {
            head: format!("CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n").into_bytes(),
            hello: hello(name)?,
        })
    }

    /// Opens a tunnel through that proxy and takes the origin's first answer.
    pub(crate) async fn open(&self, proxy: SocketAddr) -> anyhow::Result<TcpStream> {
        timeout(PATIENCE, self.open_patiently(proxy))
            .await
            .context("no answer through the proxy")?
    }

    /// The same, as a client with that address.
    pub(crate) async fn open_from(&self, source: Ipv4Addr, proxy: SocketAddr) -> anyhow::Result<TcpStream> {
        let opened = async {
            let socket = TcpSocket::new_v4()?;
            // Ports of connections that are over are free again.
            socket.set_reuseaddr(true)?;
            socket.bind((source, 0).into())?;
            let stream = socket.connect(proxy).await.context("cannot reach the proxy")?;
            self.open_in(stream).await
        };
        timeout(PATIENCE, opened).await.context("no answer through the proxy")?
    }

    async fn open_patiently(&self, proxy: SocketAddr) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(proxy).await.context("cannot reach the proxy")?;
        self.open_in(stream).await
    }

    async fn open_in(&self, stream: TcpStream) -> anyhow::Result<TcpStream> {
        let (status, mut stream) = self.ask_in(stream).await?;
        ensure!(status == 200, "the proxy answers {status}");
        stream.write_all(&self.hello).await?;
        let mut answer = [0; ANSWER];
        stream.read_exact(&mut answer).await.context("no answer to the hello")?;
        ensure!(answer == [0x16; ANSWER], "the origin did not say this");
        Ok(stream)
    }

    /// Sends CONNECT; the status of the answer.
    pub(crate) async fn ask(&self, proxy: SocketAddr) -> anyhow::Result<(u16, TcpStream)> {
        let stream = TcpStream::connect(proxy).await.context("cannot reach the proxy")?;
        self.ask_in(stream).await
    }

    async fn ask_in(&self, mut stream: TcpStream) -> anyhow::Result<(u16, TcpStream)> {
        stream.set_nodelay(true)?;
        stream.write_all(&self.head).await?;
        let mut head = [0; 4096];
        let mut length = 0;
        loop {
            let read = stream.read(head.get_mut(length..).unwrap_or_default()).await?;
            ensure!(read > 0, "the proxy closes within its answer");
            length += read;
            let received = head.get(..length).unwrap_or_default();
            if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
                let status = std::str::from_utf8(received)?.split(' ').nth(1).unwrap_or_default();
                let status = status.parse().context("no status in the proxy's answer")?;
                ensure!(status != 200 || end + 4 == length, "bytes after a 200");
                return Ok((status, stream));
            }
        }
    }
}

/// Opens and closes that many tunnels, so many at once, over the targets in turn.
pub(crate) async fn open_and_close(
    proxy: SocketAddr,
    targets: &Arc<[Target]>,
    tunnels: usize,
    at_once: usize,
) -> anyhow::Result<()> {
    each(targets, tunnels, at_once, move |targets, turn| async move {
        let Some(target) = targets.get(turn % targets.len()) else {
            bail!("no targets")
        };
        target.open(proxy).await.map(drop)
    })
    .await
    .map(drop)
}

/// Like [`open_and_close`], as one client after the other.
pub(crate) async fn open_and_close_from(
    sources: &Arc<[Ipv4Addr]>,
    proxy: SocketAddr,
    targets: &Arc<[Target]>,
    tunnels: usize,
    at_once: usize,
) -> anyhow::Result<()> {
    let sources = Arc::clone(sources);
    each(targets, tunnels, at_once, move |targets, turn| {
        let sources = Arc::clone(&sources);
        async move {
            let (Some(target), Some(source)) = (targets.get(turn % targets.len()), sources.get(turn % sources.len()))
            else {
                bail!("no targets or no sources")
            };
            target.open_from(*source, proxy).await.map(drop)
        }
    })
    .await
    .map(drop)
}

/// Opens that many tunnels and passes `echo` bytes there and back in each; they stay open.
pub(crate) async fn open_and_keep(
    proxy: SocketAddr,
    targets: &Arc<[Target]>,
    tunnels: usize,
    at_once: usize,
    echo: usize,
) -> anyhow::Result<Vec<TcpStream>> {
    each(targets, tunnels, at_once, move |targets, turn| async move {
        let Some(target) = targets.get(turn % targets.len()) else {
            bail!("no targets")
        };
        let mut stream = target.open(proxy).await?;
        let sent = vec![0x42; echo];
        stream.write_all(&sent).await?;
        let mut back = vec![0; echo];
        timeout(PATIENCE, stream.read_exact(&mut back))
            .await
            .context("no echo")??;
        ensure!(back == sent, "the echo is not what was sent");
        Ok(stream)
    })
    .await
}

/// Does one thing `turns` times, `at_once` at a time; the first failure is the result.
async fn each<T, F>(
    targets: &Arc<[Target]>,
    turns: usize,
    at_once: usize,
    one: impl Fn(Arc<[Target]>, usize) -> F + Clone + Send + 'static,
) -> anyhow::Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>> + Send + 'static,
{
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..at_once {
        let (next, targets, one) = (Arc::clone(&next), Arc::clone(targets), one.clone());
        workers.spawn(async move {
            let mut done = Vec::new();
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                if turn >= turns {
                    return anyhow::Ok(done);
                }
                let result = one(Arc::clone(&targets), turn).await;
                done.push(result.with_context(|| format!("tunnel {turn}"))?);
            }
        });
    }
    let mut all = Vec::with_capacity(turns);
    while let Some(done) = workers.join_next().await {
        all.extend(done??);
    }
    Ok(all)
}

const PATIENCE: Duration = Duration::from_secs(30);
