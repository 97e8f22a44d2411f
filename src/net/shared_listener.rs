//! A listening socket that several threads accept from: all are told of a connection, and one gets it.
//! Must not wait in the kernel, nor ask it for a connection that is not there: to say no costs it as much as 15 `poll`s.
//! Called by each worker, with its own copy of the descriptor.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::task::Poll;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;

/// One thread's share of the socket.
#[derive(Debug)]
pub struct SharedListener {
    /// Told of connections. What it is told is taken back without asking for one.
    told: AsyncFd<TcpListener>,
    /// Gives them: of its streams tokio knows that they may be read at once, without being told so first.
    listener: tokio::net::TcpListener,
}

impl SharedListener {
    /// With this thread's runtime. The socket must not block.
    ///
    /// # Errors
    /// The system gives no more descriptors.
    // tokio cannot know whether a type's descriptor stays the same and open. That of a listener does, and what says so
    // instead is an `unsafe` function.
    #[expect(
        deprecated,
        reason = "sound for a listener, which owns its descriptor until it is dropped"
    )]
    pub fn of(socket: &TcpListener) -> io::Result<Self> {
        Ok(Self {
            told: AsyncFd::with_interest(socket.try_clone()?, Interest::READABLE)?,
            listener: tokio::net::TcpListener::from_std(socket.try_clone()?)?,
        })
    }

    /// The next connection that no other thread takes. May be dropped while it waits.
    ///
    /// # Errors
    /// Those of `accept(2)`. Those of the network concern one connection that is gone by now.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let mut told = self.told.readable().await?;
            // A connection that comes after this look is told anew.
            if !self.has_pending()? {
                told.clear_ready();
                continue;
            }
            let accepted = poll_fn(|cx| Poll::Ready(self.listener.poll_accept(cx))).await;
            if let Poll::Ready(accepted) = accepted {
                return accepted;
            }
            // Another thread was faster; or one of the two is told later, and until then there is nothing to look for.
            if self.has_pending()? {
                return self.listener.accept().await;
            }
        }
    }

    fn has_pending(&self) -> io::Result<bool> {
        let mut listener = [PollFd::new(&self.listener, PollFlags::IN)];
        Ok(poll(&mut listener, Some(&Timespec::default()))? > 0)
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::task::spawn;
    use tokio_test::{assert_pending, assert_ready};

    use super::*;
    use crate::net::listen::bind;

    #[tokio::test]
    async fn each_connection_goes_to_one() {
        let socket = bind("127.0.0.1:0".parse().unwrap(), &[]).unwrap();
        let address = socket.local_addr().unwrap();
        let listeners = [(); 2].map(|()| SharedListener::of(&socket).unwrap());
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let mut expected: Vec<_> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
        // More than one at a time, without being told again.
        let mut came = vec![
            listeners[0].accept().await.unwrap().1,
            listeners[1].accept().await.unwrap().1,
            listeners[0].accept().await.unwrap().1,
        ];
        came.sort();
        expected.sort();
        assert_eq!(came, expected);

        let mut waiting = [0, 1].map(|number: usize| spawn(listeners[number].accept()));
        for waiting in &mut waiting {
            assert_pending!(waiting.poll());
        }
        let client = TcpStream::connect(address).await.unwrap();
        while !waiting.iter().all(tokio_test::task::Spawn::is_woken) {
            tokio::task::yield_now().await;
        }
        let (accepted, peer) = assert_ready!(waiting[1].poll()).unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(accepted.peer_addr().unwrap() == peer && accepted.nodelay().unwrap());
        assert_pending!(waiting[0].poll());
    }

    /// A connection whose client has gone before it is accepted.
    #[tokio::test]
    async fn one_that_is_gone_is_given_all_the_same() {
        let socket = bind("[::1]:0".parse().unwrap(), &[]).unwrap();
        let listener = SharedListener::of(&socket).unwrap();
        let client = TcpStream::connect(socket.local_addr().unwrap()).await.unwrap();
        let address = client.local_addr().unwrap();
        crate::net::abort(&client);
        drop(client);
        assert_eq!(listener.accept().await.unwrap().1, address);
    }
}
