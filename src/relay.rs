//! The relay: bytes both ways between a client and an upstream until both have finished or one has gone.
//! Must not time out, decide or record: the tunnel selects over it, and whoever cuts one drops this future.
//! Called for every tunnel, and by workers, which free buffers and say how many tunnels are to go on elsewhere.

pub mod activity;
mod buffer;
mod copy;
mod lane;
mod pipe;

use std::cell::Cell;
use std::future::poll_fn;
use std::ptr;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub use self::activity::{Activity, Clock, Tick};
use self::copy::{Copy, Failed};
pub use self::pipe::Pipes;
use crate::telemetry::record::End;

/// One end of a tunnel.
pub trait Side: AsyncRead + AsyncWrite + Unpin {
    /// The socket, if what is read and written is just its bytes: then the kernel may move them by itself.
    fn socket(&self) -> Option<&TcpStream>;
}

impl Side for TcpStream {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

/// How far the two directions of a tunnel are, and what they have read and not written yet.
#[derive(Debug)]
pub struct Relay {
    up: Copy,
    down: Copy,
    end: End,
}

/// How relaying stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is over.
    Ended(End),
    /// It is to go on in another thread ([`give_away`]), where the same [`Relay`] goes on.
    GivenAway,
}

/// Relays until both directions are done.
///
/// An end of input is passed on as one (flush, then shutdown of the other side's writing), and the other direction goes
/// on. The end of both is left to the caller, who closes the sockets: then the second one is passed on. Anything else that
/// ends a side is [`End::ClientReset`] or [`End::UpstreamReset`]: the caller then resets the other socket too
/// ([`crate::net::abort`]), so that nothing cut short looks complete. What was moved is in `activity` at every moment,
/// however this ends, and no buffer or pipe is held while nothing moves.
pub async fn relay<C: Side, U: Side>(
    relay: &mut Relay,
    client: &mut C,
    upstream: &mut U,
    activity: &Activity,
    pipes: &Pipes,
) -> Stop {
    let Relay { up, down, end } = relay;
    poll_fn(|cx| {
        if client.socket().is_some() && upstream.socket().is_some() && is_given_away(activity) {
            up.leave_thread();
            down.leave_thread();
            return Poll::Ready(Stop::GivenAway);
        }
        match up.poll(cx, client, upstream, pipes, &mut |bytes| activity.moved_up(bytes)) {
            Poll::Ready(Err(failed)) => match meaning(failed, down) {
                Failure::Lost => return Poll::Ready(Stop::Ended(End::ClientReset)),
                Failure::Unheard => {
                    *end = End::UpstreamReset;
                    down.end_without_shutdown();
                }
                Failure::None => {}
            },
            Poll::Ready(Ok(())) if is_closed_by_its_drop(client) => down.end_without_shutdown(),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        match down.poll(cx, upstream, client, pipes, &mut |bytes| activity.moved_down(bytes)) {
            Poll::Ready(Err(failed)) => match meaning(failed, up) {
                Failure::Lost => return Poll::Ready(Stop::Ended(End::UpstreamReset)),
                Failure::Unheard => {
                    *end = End::ClientReset;
                    up.end_without_shutdown();
                }
                Failure::None => {}
            },
            Poll::Ready(Ok(())) if is_closed_by_its_drop(upstream) => up.end_without_shutdown(),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        match (up.is_done(), down.is_done()) {
            (true, true) => return Poll::Ready(Stop::Ended(*end)),
            (false, false) => {}
            _ => activity.half_close(),
        }
        Poll::Pending
    })
    .await
}

impl Relay {
    /// Nothing has moved yet.
    pub fn new() -> Self {
        Self {
            up: Copy::new(),
            down: Copy::new(),
            end: End::Finished,
        }
    }
}

impl Default for Relay {
    fn default() -> Self {
        Self::new()
    }
}

/// From now on that many tunnels of this thread, those that move bytes first, stop to go on elsewhere. Not the very first:
/// one that keeps a thread busy alone would do the same to each other one. Not those that have moved little, which may be
/// over before it pays, nor those that are more than two sockets: what belongs to TLS stays.
pub fn give_away(tunnels: u32) {
    GIVES.set(tunnels);
    STAYS.set(None);
}

/// The same, as if one had been seen that stays.
#[cfg(test)]
pub(crate) fn give_away_beside_another(tunnels: u32) {
    give_away(tunnels);
    STAYS.set(Some(0));
}

/// Frees the buffers of this thread that no relay has borrowed since this was last called.
pub fn trim_buffers() {
    buffer::trim();
}

fn is_given_away(activity: &Activity) -> bool {
    let gives = GIVES.get();
    if gives == 0 || activity.up() + activity.down() < GIVEN_AFTER {
        return false;
    }
    let this = ptr::from_ref(activity).addr();
    let stays = STAYS.get().unwrap_or(this);
    STAYS.set(Some(stays));
    if stays == this {
        return false;
    }
    GIVES.set(gives - 1);
    true
}

/// Whether a side that has ended its input hears of the other's end by the close alone that follows: a socket does, and
/// nothing unread is left that would make the close a reset. TLS has an end of its own.
fn is_closed_by_its_drop(side: &impl Side) -> bool {
    side.socket().is_some()
}

/// What the failure of one direction means for the tunnel.
enum Failure {
    /// The reader has gone. It has sent nothing that is not delivered, and hears nothing any more.
    Lost,
    /// The writer has gone. What it had sent before is still to be delivered, but its end is no longer a clean one.
    Unheard,
    /// The writer has closed altogether after it had finished, and all bytes for it were written: a common way to end.
    None,
}

fn meaning(failed: Failed, other: &Copy) -> Failure {
    match failed {
        Failed::Read => Failure::Lost,
        Failed::Shutdown if other.is_done() => Failure::None,
        Failed::Write | Failed::Shutdown => Failure::Unheard,
    }
}

/// Bytes. To change the thread costs as much as a new tunnel.
const GIVEN_AFTER: u64 = 256 << 10;

thread_local! {
    static GIVES: Cell<u32> = const { Cell::new(0) };
    /// The first one that could have gone, by where its activity is.
    static STAYS: Cell<Option<usize>> = const { Cell::new(None) };
}

#[cfg(test)]
mod tests;
