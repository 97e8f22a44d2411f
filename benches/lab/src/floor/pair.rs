//! A client's socket and the origin's, joined.
//! Must not look at a byte but for the empty line that ends a CONNECT.
//! Called by the loop of the floor, with what epoll says.

use std::net::SocketAddr;

use rustix::event::epoll::EventFlags;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::flow::{Flow, Shared, State};

#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(super) enum Side {
    Client = 0,
    Upstream = 1,
}

pub(super) struct Pair {
    client: OwnedFd,
    upstream: Option<OwnedFd>,
    stage: Stage,
    up: Flow,
    down: Flow,
}

enum Stage {
    /// The client has sent this much of its CONNECT.
    Asking(Vec<u8>),
    /// The origin is being dialled. What epoll has said of the client meanwhile it will not say again.
    Dialling {
        asked: bool,
        client: EventFlags,
    },
    Open,
}

impl Side {
    pub(super) fn of(data: u64) -> Self {
        if data & 1 == 0 { Self::Client } else { Self::Upstream }
    }
}

impl Pair {
    pub(super) fn asking(client: OwnedFd) -> Self {
        Self::new(client, None, Stage::Asking(Vec::new()))
    }

    pub(super) fn dialling(client: OwnedFd, upstream: OwnedFd) -> Self {
        Self::new(client, Some(upstream), dialling(false, EventFlags::empty()))
    }

    fn new(client: OwnedFd, upstream: Option<OwnedFd>, stage: Stage) -> Self {
        Self {
            client,
            upstream,
            stage,
            up: Flow::default(),
            down: Flow::default(),
        }
    }

    /// Does what one side is ready for; `dialled` watches a new upstream socket. False once it is over.
    pub(super) fn on(
        &mut self,
        side: Side,
        flags: EventFlags,
        origin: SocketAddr,
        dialled: impl FnOnce(&OwnedFd) -> rustix::io::Result<()>,
        shared: &mut Shared,
    ) -> bool {
        let result = match (&mut self.stage, side) {
            (Stage::Asking(_), _) => self.ask(flags, origin, dialled, shared),
            (Stage::Dialling { client, .. }, Side::Client) => {
                *client |= flags;
                return true;
            }
            (Stage::Dialling { asked, client }, Side::Upstream) => {
                let (asked, client) = (*asked, *client);
                self.stage = Stage::Open;
                self.opened(asked, client, flags, shared)
            }
            (Stage::Open, side) => self.relay(side, flags, shared),
        };
        matches!(result, Ok(State::Goes))
    }

    fn ask(
        &mut self,
        flags: EventFlags,
        origin: SocketAddr,
        dialled: impl FnOnce(&OwnedFd) -> rustix::io::Result<()>,
        shared: &mut Shared,
    ) -> rustix::io::Result<State> {
        let Stage::Asking(received) = &mut self.stage else {
            return Ok(State::Goes);
        };
        let more = match shared.read(self.client.as_fd()) {
            Ok([]) => return Ok(State::Over),
            Ok(more) => more,
            Err(Errno::AGAIN) => return Ok(State::Goes),
            Err(error) => return Err(error),
        };
        // Nearly always there is all of it at once, and nothing to keep.
        let whole = if received.is_empty() && ends(more) == Some(more.len()) {
            true
        } else {
            received.extend(more);
            match ends(received) {
                Some(end) => {
                    self.up.hold(received.split_off(end));
                    true
                }
                None => false,
            }
        };
        if whole {
            let upstream = dial(origin)?;
            dialled(&upstream)?;
            self.upstream = Some(upstream);
            self.stage = dialling(true, flags & ENDS);
        }
        Ok(State::Goes)
    }

    fn opened(
        &mut self,
        asked: bool,
        client: EventFlags,
        upstream: EventFlags,
        shared: &mut Shared,
    ) -> rustix::io::Result<State> {
        if upstream.contains(EventFlags::ERR) {
            return Ok(State::Over);
        }
        if asked {
            // The first bytes into an empty socket: it takes them all.
            rustix::io::write(&self.client, ESTABLISHED)?;
        }
        if !self.up.is_empty() || client.intersects(READABLE) {
            self.relay(Side::Client, client | EventFlags::IN, shared)?;
        }
        if upstream.intersects(READABLE) {
            return self.relay(Side::Upstream, upstream, shared);
        }
        Ok(State::Goes)
    }

    fn relay(&mut self, side: Side, flags: EventFlags, shared: &mut Shared) -> rustix::io::Result<State> {
        let Some(upstream) = &self.upstream else {
            return Ok(State::Over);
        };
        let (client, upstream) = (self.client.as_fd(), upstream.as_fd());
        let (from_here, to_here, here, there) = match side {
            Side::Client => (&mut self.up, &mut self.down, client, upstream),
            Side::Upstream => (&mut self.down, &mut self.up, upstream, client),
        };
        if flags.intersects(READABLE) {
            from_here.pass(here, there, flags.intersects(ENDS), shared)?;
        }
        if flags.contains(EventFlags::OUT) && !to_here.is_empty() {
            to_here.pass(there, here, true, shared)?;
        }
        // An end that came first is passed on as such; the second one closes both sockets.
        if from_here.is_over() && to_here.is_over() {
            return Ok(State::Over);
        }
        from_here.pass_end(there)?;
        to_here.pass_end(here)?;
        Ok(State::Goes)
    }
}

/// A connection to the origin that is still on its way.
pub(super) fn dial(origin: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    super::no_delay(socket.as_fd())?;
    match connect(&socket, &origin) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

fn dialling(asked: bool, client: EventFlags) -> Stage {
    Stage::Dialling { asked, client }
}

/// Where the empty line ends.
fn ends(bytes: &[u8]) -> Option<usize> {
    if bytes.ends_with(EMPTY_LINE) {
        return Some(bytes.len());
    }
    let at = bytes
        .windows(EMPTY_LINE.len())
        .position(|window| window == EMPTY_LINE)?;
    Some(at + EMPTY_LINE.len())
}

const EMPTY_LINE: &[u8] = b"\r\n\r\n";
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
const ENDS: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);
const READABLE: EventFlags = ENDS.union(EventFlags::IN);
