//! The pipes of spliced directions: a budget of the process, and the empty ones that are kept for the next.
//! Must not keep a pipe with bytes in it, nor believe in a size that the system did not grant.
//! Called by the relay when a direction has proven bulk; opened once at start, trimmed by the sweeper.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};
use tokio::net::TcpStream;

/// The pipes that the process may have open, and those of them that are free.
#[derive(Debug)]
pub struct Pipes {
    /// Bytes that one takes.
    pub(super) size: usize,
    /// Reads of 64 KiB or more in a row after which a direction is spliced.
    pub(super) promote_after: u8,
    limit: AtomicUsize,
    open: Arc<AtomicUsize>,
    free: Mutex<Free>,
}

/// A pipe that is used by one direction. Dropping it closes it, whatever is in it.
#[derive(Debug)]
pub(super) struct Pipe {
    from: OwnedFd,
    into: OwnedFd,
    held: u32,
    _place: Place,
}

#[derive(Debug, Default)]
struct Free {
    pipes: Vec<Pipe>,
    /// How many of them nobody has needed since the last trim.
    unused: usize,
}

/// A pipe's place in the budget.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Pipes {
    /// A budget of at most `limit` pipes, and not more than half of what the system lets one user have: other processes
    /// of that user, on the whole node, share it.
    pub fn new(limit: usize) -> Self {
        let of_system = |name: &str| {
            let text = std::fs::read_to_string(format!("/proc/sys/fs/{name}")).ok()?;
            text.trim().parse().ok()
        };
        let (size, limit) = budget(limit, rustix::param::page_size(), of_system);
        Self::with(limit, size, PROMOTE_AFTER)
    }

    pub(super) fn with(limit: usize, size: usize, promote_after: u8) -> Self {
        Self {
            size,
            promote_after,
            limit: AtomicUsize::new(limit),
            open: Arc::default(),
            free: Mutex::default(),
        }
    }

    /// Closes the free pipes that nobody has needed since this was last called.
    pub fn trim(&self) {
        let mut free = self.free();
        // The last ones are used first, so the first ones were not.
        let unused = free.unused.min(free.pipes.len());
        let closed: Vec<_> = free.pipes.drain(..unused).collect();
        free.unused = free.pipes.len();
        drop(free);
        drop(closed);
    }

    /// An empty pipe. `None`: all are in use, or the system does not grant one of the full size.
    pub(super) fn take(&self) -> Option<Pipe> {
        let mut free = self.free();
        let kept = free.pipes.pop();
        free.unused = free.unused.min(free.pipes.len());
        drop(free);
        kept.or_else(|| self.open())
    }

    /// Keeps a pipe for the next direction, if it is empty.
    pub(super) fn give_back(&self, pipe: Pipe) {
        if pipe.held == 0 && self.open.load(Ordering::Relaxed) <= self.limit.load(Ordering::Relaxed) {
            self.free().pipes.push(pipe);
        }
    }

    /// No pipe any more: this system does not splice.
    pub(super) fn give_up(&self) {
        self.limit.store(0, Ordering::Relaxed);
        let closed = std::mem::take(&mut self.free().pipes);
        drop(closed);
    }

    fn open(&self) -> Option<Pipe> {
        let limit = self.limit.load(Ordering::Relaxed);
        let one_more = |open| (open < limit).then_some(open + 1);
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        let place = Place(Arc::clone(&self.open));
        let (from, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        fcntl_setpipe_size(&into, self.size).ok()?;
        // Beyond a user's quota a pipe is smaller than asked for, and nobody says so.
        fcntl_getpipe_size(&into).ok().filter(|granted| *granted >= self.size)?;
        Some(Pipe {
            from,
            into,
            held: 0,
            _place: place,
        })
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        // A vector and a number are whole after every statement, so a panic elsewhere does not spoil them.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipe {
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Bytes in it.
    pub(super) fn held(&self) -> usize {
        self.held as usize
    }

    /// Takes what the socket has, `at_most` so many bytes; 0 at the end of its input. For an empty pipe only: with
    /// bytes in it, `WouldBlock` could mean a full pipe as well as an empty socket.
    pub(super) fn fill(&mut self, socket: &TcpStream, at_most: usize) -> io::Result<usize> {
        debug_assert!(self.is_empty(), "reading into a pipe with bytes in it");
        #[cfg(test)]
        SPLICED.with(|spliced| spliced.set(spliced.get() + 1));
        let taken = splice(socket, None, &self.into, None, at_most, FLAGS)?;
        self.held = u32::try_from(taken).unwrap_or(u32::MAX);
        Ok(taken)
    }

    /// Gives the socket what it takes.
    pub(super) fn drain(&mut self, socket: &TcpStream) -> io::Result<usize> {
        #[cfg(test)]
        SPLICED.with(|spliced| spliced.set(spliced.get() + 1));
        let given = splice(&self.from, None, socket, None, self.held as usize, FLAGS)?;
        self.held = self.held.saturating_sub(u32::try_from(given).unwrap_or(u32::MAX));
        Ok(given)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The size of a pipe and how many of them, from what the system says. A limit that cannot be read is what Linux has if
/// nobody changes it; what is granted is checked with each pipe.
fn budget(limit: usize, page: usize, of_system: impl Fn(&str) -> Option<usize>) -> (usize, usize) {
    let size = of_system("pipe-max-size").unwrap_or(1 << 20).min(SIZE);
    if size < SMALLEST {
        return (size, 0);
    }
    let quotas = [
        of_system("pipe-user-pages-soft").unwrap_or(16_384),
        of_system("pipe-user-pages-hard").unwrap_or(0),
    ];
    let pages = size.div_ceil(page);
    // 0 is no quota.
    let quotas = quotas.into_iter().filter(|quota| *quota > 0);
    let limit = quotas.map(|quota| quota / 2 / pages).fold(limit, usize::min);
    (size, limit)
}

#[cfg(test)]
impl Pipes {
    /// How many have bytes in them, or are being used right now.
    pub(super) fn in_use(&self) -> usize {
        self.opened() - self.free().pipes.len()
    }

    /// How many there are.
    pub(super) fn opened(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Puts two sockets among the free pipes, which are none.
    pub(super) fn spoil(&self) {
        let (from, into) = std::os::unix::net::UnixStream::pair().unwrap();
        self.open.fetch_add(1, Ordering::Relaxed);
        self.give_back(Pipe {
            from: from.into(),
            into: into.into(),
            held: 0,
            _place: Place(Arc::clone(&self.open)),
        });
    }
}

#[cfg(test)]
thread_local! {
    static SPLICED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// System calls of this thread that splice.
#[cfg(test)]
pub(super) fn spliced() -> usize {
    SPLICED.get()
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);
/// Of one pipe, in bytes.
const SIZE: usize = 256 << 10;
/// A pipe holds one piece of a packet per page, however small that is: fewer pages would not carry enough.
const SMALLEST: usize = 64 << 10;
/// About 600 KiB, where they fill ever larger buffers.
const PROMOTE_AFTER: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_half_of_what_a_user_has() {
        let linux = |name: &str| match name {
            "pipe-max-size" => Some(1 << 20),
            "pipe-user-pages-soft" => Some(16_384),
            _ => Some(0),
        };
        assert_eq!(budget(1000, 4096, linux), (256 << 10, 128));
        assert_eq!(budget(4, 4096, linux), (256 << 10, 4));
        assert_eq!(budget(1000, 4096, |_| None), (256 << 10, 128), "as Linux is");
        assert_eq!(budget(1000, 4096, |_| Some(0)), (0, 0), "no pipe is large enough");
        let unlimited = |name: &str| (name == "pipe-max-size").then_some(1 << 20).or(Some(0));
        assert_eq!(budget(1000, 4096, unlimited), (256 << 10, 1000));
        let hard = |name: &str| {
            if name == "pipe-user-pages-hard" {
                Some(1024)
            } else {
                linux(name)
            }
        };
        assert_eq!(budget(1000, 4096, hard), (256 << 10, 8));
        let narrow = |name: &str| {
            if name == "pipe-max-size" {
                Some(64 << 10)
            } else {
                linux(name)
            }
        };
        assert_eq!(budget(1000, 4096, narrow), (64 << 10, 512));
        assert_eq!(
            budget(1000, 65_536, linux),
            (256 << 10, 1000),
            "a quota is counted in pages"
        );
    }

    #[test]
    fn a_pipe_that_is_not_granted_is_not_used() {
        // No system has one of this size.
        let pipes = Pipes::with(1, 1 << 40, 0);
        assert!(pipes.take().is_none());
        assert_eq!(pipes.opened(), 0, "its place is free again");
    }

    #[test]
    fn where_nothing_splices_no_pipe_is_kept() {
        let pipes = Pipes::with(2, 1 << 16, 0);
        let (one, other) = (pipes.take().unwrap(), pipes.take().unwrap());
        pipes.give_back(one);
        pipes.give_up();
        pipes.give_back(other);
        assert_eq!(pipes.opened(), 0);
    }

    #[test]
    fn free_pipes_are_closed_when_nobody_needs_them() {
        let pipes = Pipes::with(8, 1 << 16, 0);
        let all: Vec<_> = (0..8).map(|_| pipes.take().unwrap()).collect();
        assert!(pipes.take().is_none());
        for pipe in all {
            pipes.give_back(pipe);
        }
        pipes.trim();
        assert_eq!(pipes.opened(), 8, "all were needed since the last time");
        let three: Vec<_> = (0..3).map(|_| pipes.take().unwrap()).collect();
        for pipe in three {
            pipes.give_back(pipe);
        }
        pipes.trim();
        assert_eq!((pipes.opened(), pipes.in_use()), (3, 0));
        pipes.trim();
        assert_eq!(pipes.opened(), 0);
    }
}
