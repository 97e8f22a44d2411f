//! What the proxies connect to: takes a ClientHello, answers with 127 bytes, then echoes.
//! Must not cost the proxy anything that a real server would not; it runs in this process, whose time does not count.
//! Called by the lab; clients know what to expect.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::hello;

/// Bytes of the first answer: about a `ServerHello`.
pub(crate) const ANSWER: usize = 127;

#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    open: watch::Receiver<usize>,
}

impl Origin {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (count, open) = watch::channel(0);
        let count = Arc::new(count);
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
        Ok(Self { address, open })
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

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = [0; hello::LENGTH];
    stream.read_exact(&mut bytes).await?;
    stream.write_all(&[0x16; ANSWER]).await?;
    loop {
        let read = stream.read(&mut bytes).await?;
        let Some(echo) = bytes.get(..read).filter(|echo| !echo.is_empty()) else {
            return Ok(());
        };
        stream.write_all(echo).await?;
    }
}

const PATIENCE: Duration = Duration::from_mins(1);
