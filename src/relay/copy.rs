//! One direction of a relay: read, write all of it, repeat; then pass the end on.
//! Must not hold a buffer while it waits for bytes to read, nor run on for ever beside other tunnels.
//! Called by the relay, once for each direction, each time either socket is ready.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffer::{self, Lease, Size};

/// The state of one direction.
#[derive(Debug)]
pub(super) struct Copy {
    /// Bytes that were read and not written yet. `None` whenever there are none.
    pending: Option<Pending>,
    size: Size,
    /// Reads in a row that a smaller buffer would have done for.
    small_reads: u8,
    /// The writer may hold bytes back that it took (TLS).
    unflushed: bool,
    shuts_down: bool,
    phase: Phase,
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    Read,
    Write,
    /// All bytes were written; only their end could not be passed on.
    Shutdown,
}

#[derive(Debug)]
struct Pending {
    lease: Lease,
    start: u32,
    end: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Moving,
    /// The reader has ended; the writer is being told.
    Ending,
    Done,
}

impl Copy {
    pub(super) fn new() -> Self {
        Self {
            pending: None,
            size: Size::Small,
            small_reads: 0,
            unflushed: false,
            shuts_down: true,
            phase: Phase::Moving,
        }
    }

    /// From now on an end of input just ends this direction: the tunnel is lost, and the writer must not be told
    /// that all went well.
    pub(super) fn end_without_shutdown(&mut self) {
        self.shuts_down = false;
    }

    /// Whether there is nothing left to do.
    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Moves what can be moved. `moved` is told of bytes as soon as the writer has taken them. Ready when the reader
    /// has ended and the writer knows it, and again whenever asked after that; an error is told once.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
        moved: &mut dyn FnMut(usize),
    ) -> Poll<Result<(), Failed>> {
        if self.phase == Phase::Moving {
            if let Err(failed) = ready!(self.poll_moving(cx, reader, writer, moved)) {
                return self.end(Err(failed));
            }
            self.phase = Phase::Ending;
        }
        if self.phase == Phase::Ending && self.shuts_down {
            // A shutdown flushes first: both of TCP (nothing to do) and of TLS (close_notify after all else).
            let shut = ready!(Pin::new(writer).poll_shutdown(cx));
            return self.end(shut.map_err(|_| Failed::Shutdown));
        }
        self.end(Ok(()))
    }

    fn end(&mut self, how: Result<(), Failed>) -> Poll<Result<(), Failed>> {
        self.pending = None;
        self.phase = Phase::Done;
        Poll::Ready(how)
    }

    /// Ready at the end of the reader's input, with all of it written.
    fn poll_moving(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
        moved: &mut dyn FnMut(usize),
    ) -> Poll<Result<(), Failed>> {
        let mut allowance = YIELD_AFTER;
        loop {
            ready!(self.poll_write(cx, writer, moved)).map_err(|_| Failed::Write)?;
            if allowance == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Poll::Ready(read) = self.poll_read(cx, reader) else {
                if self.unflushed {
                    ready!(Pin::new(writer).poll_flush(cx)).map_err(|_| Failed::Write)?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            };
            match read.map_err(|_| Failed::Read)? {
                0 => return Poll::Ready(Ok(())),
                bytes => allowance = allowance.saturating_sub(bytes),
            }
        }
    }

    /// Reads into a borrowed buffer, which stays here only if there is something in it.
    fn poll_read<R: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, reader: &mut R) -> Poll<io::Result<usize>> {
        let mut lease = buffer::borrow(self.size);
        let size = lease.size();
        let mut target = ReadBuf::new(&mut lease);
        ready!(Pin::new(reader).poll_read(cx, &mut target))?;
        let read = target.filled().len();
        if read > 0 {
            self.fit(size, read);
            let end = u32::try_from(read).unwrap_or(u32::MAX);
            self.pending = Some(Pending { lease, start: 0, end });
        }
        Poll::Ready(Ok(read))
    }

    /// Writes what is pending, all of it.
    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        moved: &mut dyn FnMut(usize),
    ) -> Poll<io::Result<()>> {
        while let Some(pending) = &mut self.pending {
            let rest = pending
                .lease
                .get(pending.start as usize..pending.end as usize)
                .unwrap_or_default();
            let written = ready!(Pin::new(&mut *writer).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            moved(written);
            self.unflushed = true;
            pending.start += u32::try_from(written).unwrap_or(u32::MAX);
            if pending.start >= pending.end {
                self.pending = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Chooses the next buffer: larger after a read that filled this one, smaller after several small ones.
    fn fit(&mut self, size: Size, read: usize) {
        if read == size.bytes() {
            self.size = size.larger();
            self.small_reads = 0;
        } else if read <= size.smaller().bytes() {
            self.small_reads += 1;
            if self.small_reads == SHRINK_AFTER {
                self.size = size.smaller();
                self.small_reads = 0;
            }
        } else {
            self.small_reads = 0;
        }
    }
}

/// Bytes after which a direction lets the other tunnels of its thread run.
const YIELD_AFTER: usize = 1 << 20;
const SHRINK_AFTER: u8 = 8;
