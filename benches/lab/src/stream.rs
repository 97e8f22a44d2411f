//! Many bytes that can be told from others: sent, and compared as they arrive.
//! Must not repeat at a power of two, or a buffer that was lost or sent twice would not be noticed.
//! Called by origin and clients.

use std::sync::LazyLock;

use anyhow::{bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends that many bytes.
pub(crate) async fn send(stream: &mut TcpStream, length: u64) -> anyhow::Result<()> {
    let mut sent = 0;
    while sent < length {
        let block = expected(sent);
        let left = usize::try_from(length - sent).unwrap_or(usize::MAX);
        let written = stream.write(block.get(..left).unwrap_or(block)).await?;
        ensure!(written > 0, "the stream takes nothing more");
        sent += written as u64;
    }
    Ok(())
}

/// Takes that many bytes; false if the peer has ended instead of beginning.
pub(crate) async fn receive(stream: &mut TcpStream, length: u64) -> anyhow::Result<bool> {
    let mut buffer = vec![0; BLOCK];
    let mut received = 0;
    while received < length {
        let left = usize::try_from(length - received).unwrap_or(usize::MAX).min(BLOCK);
        let read = stream.read(buffer.get_mut(..left).unwrap_or_default()).await?;
        match buffer.get(..read) {
            Some([]) if received == 0 => return Ok(false),
            Some([]) => bail!("the stream ends after {received} bytes of {length}"),
            Some(bytes) => ensure!(expected(received).starts_with(bytes), "a wrong byte after {received}"),
            None => bail!("more bytes than the buffer has"),
        }
        received += read as u64;
    }
    Ok(true)
}

/// The bytes from there on, at least a block of them.
fn expected(from: u64) -> &'static [u8] {
    // Less than the period, which is a usize.
    let at = usize::try_from(from % PERIOD).unwrap_or_default();
    PATTERN.get(at..at + BLOCK).unwrap_or_default()
}

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut period = Vec::new();
    while (period.len() as u64) < PERIOD {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        period.extend(state.to_le_bytes().first());
    }
    period.iter().copied().cycle().take(period.len() + BLOCK).collect()
});

/// A prime.
const PERIOD: u64 = 65_521;
const BLOCK: usize = 256 * 1024;
