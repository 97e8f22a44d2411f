//! The floor: what a relay costs that does nothing but relay. The stand-in for what the machine itself asks for.
//! Must not parse, decide, look up, log, count or time out; whatever it did, it would no longer be the floor.
//! Called as `sluicegate-lab floor`, by the cast, as a process of its own.

mod flow;
mod pair;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, accept_with, bind, getsockname, listen, socket_with, sockopt,
};

use flow::Shared;
use pair::{Pair, Side};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    mode: Mode,
    /// Where every connection goes, whatever it asks for.
    #[arg(long)]
    origin: SocketAddr,
    /// Each with a listener of its own on the same port.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Mode {
    /// Takes bytes up to the first empty line for a CONNECT, dials, answers 200, relays.
    Connect,
    /// Dials as soon as it has accepted, relays from the first byte on.
    Forward,
}

/// Says on standard output where it listens, then relays until it is killed.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let first = listener(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = SocketAddr::try_from(getsockname(&first)?)?;
    let mut listeners = vec![first];
    for _ in 1..arguments.threads {
        listeners.push(listener(address)?);
    }
    writeln!(std::io::stdout(), "listening {address}")?;
    let (mode, origin) = (arguments.mode, arguments.origin);
    let threads: Vec<_> = listeners
        .into_iter()
        .map(|listener| thread::spawn(move || Loop::new(listener, mode, origin)?.turn()))
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a thread panicked"))??;
    }
    Ok(())
}

/// One thread's: a listener, and all that it has accepted.
struct Loop {
    epoll: OwnedFd,
    listener: OwnedFd,
    mode: Mode,
    origin: SocketAddr,
    /// Where in here a pair stands is what epoll knows it by.
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
    shared: Shared,
}

impl Loop {
    fn new(listener: OwnedFd, mode: Mode, origin: SocketAddr) -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            mode,
            origin,
            pairs: Vec::new(),
            free: Vec::new(),
            shared: Shared::new(),
        })
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        let mut ended = Vec::new();
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll_wait"),
            }
            for event in &events {
                let (flags, data) = (event.flags, event.data.u64());
                if data == LISTENER {
                    self.accept()?;
                    continue;
                }
                let (place, side) = (usize::try_from(data >> 1)?, Side::of(data));
                // An earlier event of this batch may have ended it.
                let Some(Some(pair)) = self.pairs.get_mut(place) else {
                    continue;
                };
                let dialled = |upstream: &OwnedFd| watch(&self.epoll, upstream, place, Side::Upstream);
                if !pair.on(side, flags, self.origin, dialled, &mut self.shared) {
                    ended.push(place);
                }
            }
            // Not before the batch is over: a later event in it would hit whoever took the place.
            for place in ended.drain(..) {
                if self.pairs.get_mut(place).and_then(Option::take).is_some() {
                    self.free.push(place);
                }
            }
        }
    }

    /// One: if more are waiting, the next look says so again, together with whatever else has come.
    fn accept(&mut self) -> anyhow::Result<()> {
        let client = match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(client) => client,
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error).context("accept"),
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.pairs.push(None);
            self.pairs.len() - 1
        });
        watch(&self.epoll, &client, place, Side::Client)?;
        let pair = match self.mode {
            Mode::Connect => Pair::asking(client),
            Mode::Forward => {
                let upstream = pair::dial(self.origin)?;
                watch(&self.epoll, &upstream, place, Side::Upstream)?;
                Pair::dialling(client, upstream)
            }
        };
        if let Some(vacant) = self.pairs.get_mut(place) {
            *vacant = Some(pair);
        }
        Ok(())
    }
}

/// Once and for all: edge-triggered, both directions, so that no later change of mind costs a call.
fn watch(epoll: &OwnedFd, socket: &OwnedFd, place: usize, side: Side) -> rustix::io::Result<()> {
    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
    epoll::add(
        epoll,
        socket,
        EventData::new_u64((place as u64) << 1 | side as u64),
        flags,
    )
}

fn listener(address: SocketAddr) -> anyhow::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let listener = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseport(&listener, true)?;
    // What is accepted inherits it, and saves a call.
    no_delay(listener.as_fd())?;
    bind(&listener, &address)?;
    listen(&listener, BACKLOG)?;
    Ok(listener)
}

fn no_delay(socket: BorrowedFd) -> rustix::io::Result<()> {
    sockopt::set_tcp_nodelay(socket, true)
}

const LISTENER: u64 = u64::MAX;
const EVENTS: usize = 256;
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
    use std::thread;

    use rustix::net::getsockname;

    use super::{Loop, Mode, listener};

    /// More than all buffers on the way hold, and not a multiple of any.
    const MANY: usize = 20_000_003;

    /// An origin that reads to the end before it answers with as much, behind a floor of that kind.
    fn floor(mode: Mode) -> SocketAddr {
        let origin = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = origin.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = origin.accept().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(&all).unwrap();
        });
        let listener = listener("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = SocketAddr::try_from(getsockname(&listener).unwrap()).unwrap();
        thread::spawn(move || Loop::new(listener, mode, to).unwrap().turn());
        address
    }

    fn bytes() -> Vec<u8> {
        (0..MANY)
            .map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[1])
            .collect()
    }

    #[test]
    fn each_direction_ends_by_itself_and_loses_nothing() {
        let mut client = TcpStream::connect(floor(Mode::Forward)).unwrap();
        client.write_all(&bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert!(back == bytes());
    }

    #[test]
    fn a_connect_in_pieces_and_what_follows_it_at_once_arrive() {
        let mut client = TcpStream::connect(floor(Mode::Connect)).unwrap();
        client.write_all(b"CONNECT a.example:443 HTTP/1.1\r\n").unwrap();
        client.write_all(b"\r\nfirst").unwrap();
        let mut answer = [0; 19];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK\r\n\r\n");
        client.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert_eq!(back, b"first");
    }
}
