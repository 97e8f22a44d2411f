//! One direction of a relay: read, write all of it, repeat; then pass the end on. Bulk between two sockets is spliced.
//! Must not hold a buffer or a pipe while it waits for bytes to read, nor run on for ever beside other tunnels.
//! Called by the relay, once for each direction, each time either socket is ready.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use tokio::io::{Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::yield_now;

use super::Side;
use super::buffer::{self, Lease, Size};
use super::lane::Lane;
use super::pipe::{Pipe, Pipes};

/// The state of one direction.
#[derive(Debug)]
pub(super) struct Copy {
    /// Bytes that were read and not written yet.
    held: Held,
    size: Size,
    /// Reads in a row that a smaller buffer would have done for, or that are too small to splice.
    small_reads: u8,
    /// Reads in a row that filled 64 KiB, up to the number from which on it is spliced.
    full_reads: u8,
    /// Set once it has had more than it may move at once.
    lane: Option<Box<Lane>>,
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

/// Where the bytes are that were read and not written yet. There is at least one, unless it is nothing.
#[derive(Debug)]
enum Held {
    Nothing,
    Buffer { lease: Lease, start: u32, end: u32 },
    Pipe(Pipe),
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
            held: Held::Nothing,
            size: Size::Small,
            small_reads: 0,
            full_reads: 0,
            lane: None,
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
        reader: &mut impl Side,
        writer: &mut impl Side,
        pipes: &Pipes,
        moved: &mut dyn FnMut(usize),
    ) -> Poll<Result<(), Failed>> {
        if self.phase == Phase::Moving {
            if let Err(failed) = ready!(self.poll_moving(cx, reader, writer, pipes, moved)) {
                return self.end(Err(failed));
            }
            self.lane = None;
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
        self.held = Held::Nothing;
        self.lane = None;
        self.phase = Phase::Done;
        Poll::Ready(how)
    }

    /// Ready at the end of the reader's input, with all of it written.
    fn poll_moving(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut impl Side,
        writer: &mut impl Side,
        pipes: &Pipes,
        moved: &mut dyn FnMut(usize),
    ) -> Poll<Result<(), Failed>> {
        if let Some(lane) = self.lane.as_mut().filter(|lane| lane.waits()) {
            ready!(lane.poll_turn(cx));
        }
        let mut allowance = CHUNK;
        loop {
            let Poll::Ready(written) = self.poll_write(cx, writer, pipes, moved) else {
                self.leave_lane();
                return Poll::Pending;
            };
            written.map_err(|_| Failed::Write)?;
            if allowance == 0 {
                let lane = self.lane.get_or_insert_with(|| Box::new(Lane::new()));
                lane.moved(CHUNK);
                ready!(lane.poll_turn(cx));
                // Not woken at once: that would wake another thread as well, only to take this turn over.
                ready!(pin!(yield_now()).poll(cx));
                allowance = CHUNK;
            }
            let read = self.poll_next(cx, reader, writer, pipes);
            let Poll::Ready(read) = read else {
                self.leave_lane();
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

    /// From here on another thread polls this; the lane is this one's.
    pub(super) fn leave_thread(&mut self) {
        self.lane = None;
    }

    /// Those that wait need not wait for what a socket has not got yet.
    fn leave_lane(&mut self) {
        if let Some(lane) = &mut self.lane {
            lane.leave();
        }
    }

    /// Reads what there is, in the way that suits it.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut impl Side,
        writer: &impl Side,
        pipes: &Pipes,
    ) -> Poll<io::Result<usize>> {
        if let Some(socket) = reader.socket() {
            // So that a buffer or a pipe is borrowed only if there is something for it.
            ready!(socket.poll_read_ready(cx))?;
            if self.full_reads >= pipes.promote_after
                && writer.socket().is_some()
                && let Some(spliced) = self.poll_splice(cx, socket, pipes)
            {
                return spliced;
            }
        }
        self.poll_read(cx, reader)
    }

    /// Reads into a borrowed buffer, which stays here only if there is something in it.
    fn poll_read(&mut self, cx: &mut Context<'_>, reader: &mut impl Side) -> Poll<io::Result<usize>> {
        let mut lease = buffer::borrow(self.size);
        let size = lease.size();
        let mut target = ReadBuf::new(&mut lease);
        ready!(Pin::new(reader).poll_read(cx, &mut target))?;
        let read = target.filled().len();
        if read > 0 {
            self.fit(size, read);
            let end = u32::try_from(read).unwrap_or(u32::MAX);
            self.held = Held::Buffer { lease, start: 0, end };
        }
        Poll::Ready(Ok(read))
    }

    /// Reads into a pipe, which stays here only if there is something in it. `None`: it is to be copied.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        reader: &TcpStream,
        pipes: &Pipes,
    ) -> Option<Poll<io::Result<usize>>> {
        let Some(mut pipe) = pipes.take() else {
            self.full_reads = 0;
            return None;
        };
        let read = poll_io(cx, reader, Interest::READABLE, || pipe.fill(reader, pipes.size));
        if !pipe.is_empty() {
            self.fit_spliced(pipe.held());
            self.held = Held::Pipe(pipe);
        } else if matches!(&read, Poll::Ready(Err(error)) if !is_of_socket(error)) {
            // The socket is as it was, and a copying read can tell whether there is something wrong with it.
            pipes.give_up();
            self.full_reads = 0;
            return None;
        } else {
            pipes.give_back(pipe);
        }
        Some(read)
    }

    /// Writes what is held, all of it.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut impl Side,
        pipes: &Pipes,
        moved: &mut dyn FnMut(usize),
    ) -> Poll<io::Result<()>> {
        loop {
            let (written, all) = match &mut self.held {
                Held::Nothing => return Poll::Ready(Ok(())),
                Held::Buffer { lease, start, end } => {
                    let rest = lease.get(*start as usize..*end as usize).unwrap_or_default();
                    let written = ready!(Pin::new(&mut *writer).poll_write(cx, rest))?;
                    self.unflushed = true;
                    *start += u32::try_from(written).unwrap_or(u32::MAX);
                    (written, start >= end)
                }
                Held::Pipe(pipe) => {
                    // Only sockets are spliced, and no side changes its kind.
                    let Some(socket) = writer.socket() else {
                        return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
                    };
                    let written = ready!(poll_io(cx, socket, Interest::WRITABLE, || pipe.drain(socket)))?;
                    (written, pipe.is_empty())
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            moved(written);
            if all && let Held::Pipe(pipe) = std::mem::replace(&mut self.held, Held::Nothing) {
                pipes.give_back(pipe);
            }
        }
    }

    /// Chooses the next buffer: larger after a read that filled this one, smaller after several small ones.
    fn fit(&mut self, size: Size, read: usize) {
        self.full_reads = if read >= Size::Middle.bytes() {
            self.full_reads.saturating_add(1)
        } else {
            0
        };
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

    /// Goes back to buffers when what comes is small again.
    fn fit_spliced(&mut self, read: usize) {
        if read > Size::Small.bytes() {
            self.small_reads = 0;
            return;
        }
        self.small_reads += 1;
        if self.small_reads == SHRINK_AFTER {
            self.size = Size::Small;
            self.small_reads = 0;
            self.full_reads = 0;
        }
    }
}

/// Does `splice` as soon as the socket is ready for it. What it moves counts against the task's budget.
fn poll_io(
    cx: &mut Context<'_>,
    socket: &TcpStream,
    interest: Interest,
    mut splice: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        if interest.is_readable() {
            ready!(socket.poll_read_ready(cx))?;
        } else {
            ready!(socket.poll_write_ready(cx))?;
        }
        match socket.try_io(interest, &mut splice) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            done => return Poll::Ready(done),
        }
    }
}

/// Whether an error of a read is the socket's. The others are what `splice` says where it does not work at all: refused by
/// a filter of system calls, or not there.
fn is_of_socket(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    !matches!(errno, Some(Errno::INVAL | Errno::NOSYS | Errno::PERM))
}

/// Bytes after which a direction lets the others of its thread run: a ping waits for no more than this.
const CHUNK: usize = 256 << 10;
const SHRINK_AFTER: u8 = 8;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio_test::assert_ready;
    use tokio_test::task::spawn;

    use super::*;
    use crate::relay::tests::sockets::pair;

    /// A signal is no reason to end a tunnel, nor to wait until its socket is ready once more.
    #[tokio::test]
    async fn a_splice_that_a_signal_interrupts_is_done_again() {
        let (socket, _peer) = pair().await;
        let mut answers = vec![Ok(7), Err(Errno::INTR.into()), Err(Errno::INTR.into())];
        socket.writable().await.unwrap();
        let mut task = spawn(poll_fn(|cx| {
            poll_io(cx, &socket, Interest::WRITABLE, || answers.pop().unwrap())
        }));
        assert_eq!(assert_ready!(task.poll()).unwrap(), 7);
        drop(task);
        assert!(answers.is_empty());
    }

    /// Whoever gets no pipe copies as much again before it asks for one, or it would ask for each read.
    #[tokio::test]
    async fn without_a_pipe_bulk_has_to_be_proven_anew() {
        let (socket, _peer) = pair().await;
        let pipes = Pipes::with(0, 1 << 16, 3);
        let mut copy = Copy {
            full_reads: 3,
            ..Copy::new()
        };
        let mut task = spawn(poll_fn(|cx| {
            Poll::Ready(copy.poll_splice(cx, &socket, &pipes).is_none())
        }));
        assert!(assert_ready!(task.poll()), "it is to be copied");
        drop(task);
        assert_eq!(copy.full_reads, 0);
    }
}
