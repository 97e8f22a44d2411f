//! What the proxies connect to: takes a ClientHello and answers, then echoes, streams or takes a stream; and a web server.
//! Must not cost the proxy anything that a real server would not; it runs in this process, whose time does not count.
//! Called by the lab; clients know what to expect.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::hello::{self, Wish};
use crate::stream;

/// Bytes of the first answer: about a `ServerHello`.
pub(crate) const ANSWER: usize = 127;
/// The body of every page.
pub(crate) const PAGE: [u8; 128] = [b'p'; 128];
/// Said by a client that wants the stream to begin, and by the origin once it has all of one.
pub(crate) const GO: u8 = b'g';

#[derive(Debug)]
pub(crate) struct Origin {
    /// Of TLS, as far as a proxy sees.
    pub(crate) address: SocketAddr,
    /// Of pages.
    pub(crate) web: SocketAddr,
    open: watch::Receiver<usize>,
}

impl Origin {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let (count, open) = watch::channel(0);
        let count = Arc::new(count);
        Ok(Self {
            address: listen(Arc::clone(&count), serve).await?,
            web: listen(count, serve_pages).await?,
            open,
        })
    }

    /// Waits until exactly that many connections are open.
    pub(crate) async fn wait_open(&self, wanted: usize) -> anyhow::Result<()> {
        let mut open = self.open.clone();
        tokio::time::timeout(PATIENCE, open.wait_for(|open| *open == wanted))
            .await
            .with_context(|| format!("{} connections reach the origin, not {wanted}", *self.open.borrow()))??;
        Ok(())
    }
}

async fn listen<F>(count: Arc<watch::Sender<usize>>, serve: fn(TcpStream) -> F) -> anyhow::Result<SocketAddr>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.send_modify(|open| *open += 1);
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                // A peer that breaks off is the client's to report.
                let _ = serve(stream).await;
                count.send_modify(|open| *open -= 1);
            });
        }
    });
    Ok(address)
}

async fn serve(mut stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = [0; hello::LENGTH];
    stream.read_exact(&mut bytes).await?;
    let Some(wish) = Wish::of(&bytes) else {
        bail!("no hello of the lab's")
    };
    stream.write_all(&[0x16; ANSWER]).await?;
    match wish {
        Wish::Echo => loop {
            let read = stream.read(&mut bytes).await?;
            let Some(echo) = bytes.get(..read).filter(|echo| !echo.is_empty()) else {
                return Ok(());
            };
            stream.write_all(echo).await?;
        },
        Wish::Down(length) => loop {
            if stream.read(bytes.get_mut(..1).unwrap_or_default()).await? == 0 {
                return Ok(());
            }
            stream::send(&mut stream, length).await?;
        },
        Wish::Up(length) => {
            while stream::receive(&mut stream, length).await? {
                stream.write_all(&[GO]).await?;
            }
            Ok(())
        }
        Wish::Alone => {
            let stream = stream.into_std()?;
            stream.set_nonblocking(false)?;
            tokio::task::spawn_blocking(move || alone(stream)).await?
        }
    }
}

fn alone(mut stream: std::net::TcpStream) -> anyhow::Result<()> {
    let mut bytes = [0; hello::LENGTH];
    loop {
        let read = std::io::Read::read(&mut stream, &mut bytes)?;
        let Some(echo) = bytes.get(..read).filter(|echo| !echo.is_empty()) else {
            return Ok(());
        };
        std::io::Write::write_all(&mut stream, echo)?;
    }
}

async fn serve_pages(mut stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut page = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        PAGE.len()
    )
    .into_bytes();
    page.extend(PAGE);
    let mut head = [0; 4096];
    let mut length = 0;
    loop {
        let read = stream.read(head.get_mut(length..).unwrap_or_default()).await?;
        if read == 0 {
            return Ok(());
        }
        length += read;
        // One request at a time: no client sends the next one before it has its page.
        if head.get(..length).unwrap_or_default().ends_with(b"\r\n\r\n") {
            length = 0;
            stream.write_all(&page).await?;
        }
    }
}

const PATIENCE: Duration = Duration::from_mins(1);
