//! The relay: bytes both ways between a client and an upstream until both have finished or one has gone.
//! Must not time out, decide or record: the session selects over it, and whoever cuts a tunnel drops this future.
//! Called by the session for every allowed tunnel.

pub mod activity;
mod buffer;
mod copy;

use std::future::poll_fn;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite};

pub use self::activity::{Activity, Clock, Tick};
use self::copy::{Copy, Failed};
use crate::telemetry::record::End;

/// Relays until both directions are done.
///
/// An end of input is passed on as one (flush, then shutdown of the other side's writing), and the other direction goes
/// on. Anything else that ends a side is [`End::ClientReset`] or [`End::UpstreamReset`]: the caller then resets the
/// other socket too ([`crate::net::abort`]), so that nothing cut short looks complete. What was moved is in `activity`
/// at every moment, however this ends, and no buffer is held while nothing moves.
pub async fn relay<C, U>(client: &mut C, upstream: &mut U, activity: &Activity) -> End
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut up = Copy::new();
    let mut down = Copy::new();
    let mut end = End::Finished;
    poll_fn(|cx| {
        // Where writing fails the other direction still delivers what its reader had sent before it went, but its end
        // is no longer a clean one. Where reading fails there is nothing left to deliver.
        let up_is_done = match up.poll(cx, client, upstream, &mut |bytes| activity.moved_up(bytes)) {
            Poll::Ready(Err(Failed::Read)) => return Poll::Ready(End::ClientReset),
            Poll::Ready(Err(Failed::Write)) => {
                end = End::UpstreamReset;
                down.end_without_shutdown();
                true
            }
            polled => polled.is_ready(),
        };
        let down_is_done = match down.poll(cx, upstream, client, &mut |bytes| activity.moved_down(bytes)) {
            Poll::Ready(Err(Failed::Read)) => return Poll::Ready(End::UpstreamReset),
            Poll::Ready(Err(Failed::Write)) => {
                end = End::ClientReset;
                up.end_without_shutdown();
                true
            }
            polled => polled.is_ready(),
        };
        if up_is_done != down_is_done {
            activity.half_close();
        }
        if up_is_done && down_is_done {
            Poll::Ready(end)
        } else {
            Poll::Pending
        }
    })
    .await
}

#[cfg(test)]
mod tests;
