//! One direction: bytes from one socket to the other, through one buffer while they are few, through a pipe when many.
//! Must hold neither buffer nor pipe of its own but for what the receiver did not take.
//! Called by the pair, whenever epoll says that it may go on.

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::{Errno, read, write};
use rustix::net::Shutdown;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Goes,
    Over,
}

#[derive(Default)]
pub(super) struct Flow {
    held: Option<Box<Held>>,
    /// The last read has filled the buffer.
    many: bool,
    ended: bool,
    end_passed: bool,
}

/// What the receiver has not taken yet.
enum Held {
    Bytes(Vec<u8>),
    Pipe(Pipe, usize),
}

/// What all flows of a thread use in turn.
pub(super) struct Shared {
    buffer: Vec<u8>,
    /// All empty.
    pipes: Vec<Pipe>,
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Flow {
    /// Bytes that go first.
    pub(super) fn hold(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.held = Some(Box::new(Held::Bytes(bytes)));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_none()
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended && self.held.is_none()
    }

    /// Tells the receiver that nothing more comes.
    pub(super) fn pass_end(&mut self, to: BorrowedFd) -> rustix::io::Result<()> {
        if self.is_over() && !self.end_passed {
            self.end_passed = true;
            rustix::net::shutdown(to, Shutdown::Write)?;
        }
        Ok(())
    }

    /// Passes on until one of the two has enough for now. `to_the_end`: a read that does not fill the buffer is not
    /// the last, because the sender's end is known to follow, or was seen while the receiver was full.
    pub(super) fn pass(
        &mut self,
        from: BorrowedFd,
        to: BorrowedFd,
        to_the_end: bool,
        shared: &mut Shared,
    ) -> rustix::io::Result<()> {
        let passed = loop {
            match self.step(from, to, to_the_end, shared) {
                Ok(State::Goes) => {}
                other => break other,
            }
        };
        match passed {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// `Over`: for now.
    fn step(
        &mut self,
        from: BorrowedFd,
        to: BorrowedFd,
        to_the_end: bool,
        shared: &mut Shared,
    ) -> rustix::io::Result<State> {
        if let Some(held) = &mut self.held {
            held.pass(to)?;
            if held.is_empty()
                && let Some(Held::Pipe(pipe, _)) = self.held.take().map(|held| *held)
            {
                shared.pipes.push(pipe);
            }
            return Ok(State::Goes);
        }
        if self.ended {
            return Ok(State::Over);
        }
        if self.many {
            return self.splice(from, to, shared);
        }
        let bytes = match shared.read(from)? {
            [] => {
                self.ended = true;
                return Ok(State::Over);
            }
            bytes => bytes,
        };
        let length = bytes.len();
        let taken = match write(to, bytes) {
            Ok(taken) => taken,
            Err(Errno::AGAIN) => 0,
            Err(error) => return Err(error),
        };
        self.hold(bytes.get(taken..).unwrap_or_default().to_vec());
        self.many = length == BUFFER;
        let more = self.many || to_the_end || self.held.is_some();
        Ok(if more { State::Goes } else { State::Over })
    }

    fn splice(&mut self, from: BorrowedFd, to: BorrowedFd, shared: &mut Shared) -> rustix::io::Result<State> {
        let pipe = shared.pipe()?;
        // The pipe is empty: what cannot be had now is not there.
        let length = match splice(from, None, &pipe.write, None, PIPE, SpliceFlags::NONBLOCK) {
            Ok(length) => length,
            Err(error) => {
                shared.pipes.push(pipe);
                return Err(error);
            }
        };
        if length == 0 {
            self.ended = true;
            shared.pipes.push(pipe);
            return Ok(State::Over);
        }
        self.many = length >= FEW;
        let taken = match splice(&pipe.read, None, to, None, length, SpliceFlags::NONBLOCK) {
            Ok(taken) => taken,
            Err(Errno::AGAIN) => 0,
            Err(error) => return Err(error),
        };
        if taken == length {
            shared.pipes.push(pipe);
        } else {
            self.held = Some(Box::new(Held::Pipe(pipe, length - taken)));
        }
        Ok(State::Goes)
    }
}

impl Held {
    fn is_empty(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Pipe(_, length) => *length == 0,
        }
    }

    fn pass(&mut self, to: BorrowedFd) -> rustix::io::Result<()> {
        match self {
            Self::Bytes(bytes) => {
                let taken = write(to, bytes)?;
                bytes.drain(..taken);
            }
            Self::Pipe(pipe, length) => {
                *length -= splice(&pipe.read, None, to, None, *length, SpliceFlags::NONBLOCK)?;
            }
        }
        Ok(())
    }
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER],
            pipes: Vec::new(),
        }
    }

    /// What is there now, at most a buffer; empty at the end.
    pub(super) fn read(&mut self, from: BorrowedFd) -> rustix::io::Result<&[u8]> {
        let length = read(from, self.buffer.as_mut_slice())?;
        Ok(self.buffer.get(..length).unwrap_or_default())
    }

    fn pipe(&mut self) -> rustix::io::Result<Pipe> {
        if let Some(pipe) = self.pipes.pop() {
            return Ok(pipe);
        }
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // Where the system does not give as much, what it gives does as well.
        let _ = fcntl_setpipe_size(&write, PIPE);
        Ok(Pipe { read, write })
    }
}

/// More than what calls and answers are made of.
const BUFFER: usize = 32 * 1024;
/// From here on two calls of `splice` are cheaper than one `read` and one `write`.
const FEW: usize = 16 * 1024;
const PIPE: usize = 256 * 1024;
