//! Bytes through a relay whose streams take and give as little as they like, whenever they like.
//! Must not lose or reorder a byte, whatever the cut.
//! Called by the test run.

use proptest::prelude::*;

use super::*;

/// Cuts reads and writes at random places, and is at times not ready for no reason.
struct Chaos<S> {
    inner: S,
    state: u64,
    /// Holds written bytes back until it is flushed, as TLS may.
    held: Option<Vec<u8>>,
}

impl<S> Chaos<S> {
    fn new(inner: S, seed: u64, holds: bool) -> Self {
        let held = holds.then(Vec::new);
        Self {
            inner,
            state: seed | 1,
            held,
        }
    }

    /// The next number below `bound` (xorshift).
    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state >> 33).unwrap() % bound.max(1)
    }

    fn is_unwilling(&mut self, cx: &mut Context<'_>) -> bool {
        let unwilling = self.below(4) == 0;
        if unwilling {
            cx.waker().wake_by_ref();
        }
        unwilling
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Chaos<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_unwilling(cx) {
            return Poll::Pending;
        }
        let length = 1 + self.below(buffer.remaining());
        let mut some = vec![0; length];
        let mut part = ReadBuf::new(&mut some);
        let polled = Pin::new(&mut self.inner).poll_read(cx, &mut part);
        buffer.put_slice(part.filled());
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Chaos<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_unwilling(cx) {
            return Poll::Pending;
        }
        let length = 1 + self.below(bytes.len());
        let some = &bytes[..length];
        match &mut self.held {
            Some(held) if held.len() < 64 << 10 => {
                held.extend_from_slice(some);
                Poll::Ready(Ok(length))
            }
            Some(_) => {
                std::task::ready!(self.as_mut().poll_flush(cx))?;
                self.poll_write(cx, bytes)
            }
            None => Pin::new(&mut self.inner).poll_write(cx, some),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, held, .. } = &mut *self;
        let mut inner = Pin::new(inner);
        while let Some(held) = held.as_mut().filter(|held| !held.is_empty()) {
            let written = std::task::ready!(inner.as_mut().poll_write(cx, held))?;
            held.drain(..written);
        }
        inner.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_unwilling(cx) {
            return Poll::Pending;
        }
        std::task::ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Side for Chaos<S> {
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
}

/// Bytes that are nowhere like their neighbours.
pub(super) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    (0..length as u64)
        .map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(seed).to_be_bytes()[3])
        .collect()
}

async fn send_and_receive(stream: DuplexStream, bytes: Vec<u8>, flushes: bool) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sending = async move {
        for block in bytes.chunks(7_777) {
            writer.write_all(block).await.unwrap();
            if flushes {
                tokio::task::yield_now().await;
            }
        }
        writer.shutdown().await.unwrap();
        writer
    };
    let receiving = async move {
        let mut received = Vec::new();
        reader.read_to_end(&mut received).await.unwrap();
        received
    };
    tokio::join!(sending, receiving).1
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_arrives_in_order(
        seed in any::<u64>(),
        up in 0_usize..300_000,
        down in 0_usize..300_000,
        capacity in 1_usize..100_000,
        holds in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (sent_up, sent_down) = (pattern(up, seed), pattern(down, !seed));
        let activity = Activity::new(&Clock::new());
        let (end, received_down, received_up) = runtime.block_on(async {
            let (near, client) = duplex(capacity.max(up / 100));
            let (far, upstream) = duplex(capacity.max(down / 100));
            let mut client = Chaos::new(client, seed, holds);
            let mut upstream = Chaos::new(upstream, !seed, holds);
            tokio::join!(
                relay(&mut client, &mut upstream, &activity, &NO_PIPES),
                send_and_receive(near, sent_up.clone(), holds),
                send_and_receive(far, sent_down.clone(), !holds),
            )
        });
        prop_assert_eq!(end, End::Finished);
        prop_assert!(received_up == sent_up && received_down == sent_down);
        prop_assert_eq!((activity.up(), activity.down()), (up as u64, down as u64));
        prop_assert_eq!(buffer::leased(), 0);
    }
}

/// A question that a stream holds back until it is flushed must not wait for the next one.
#[tokio::test]
async fn held_bytes_are_flushed_when_the_reader_pauses() {
    let (mut near, client) = duplex(1000);
    let (mut far, upstream) = duplex(1000);
    let relay = tokio::spawn(async move {
        let (mut client, mut upstream) = (Chaos::new(client, 1, true), Chaos::new(upstream, 2, true));
        relay(&mut client, &mut upstream, &Activity::new(&Clock::new()), &NO_PIPES).await
    });
    for _ in 0..100 {
        near.write_all(b"ping").await.unwrap();
        let mut bytes = [0; 4];
        far.read_exact(&mut bytes).await.unwrap();
        far.write_all(&bytes).await.unwrap();
        near.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"ping");
    }
    relay.abort();
}
