//! The relay between scripted streams (here and in `chaos`), and between real sockets and TLS (`sockets`, `splice`).
//! Must not depend on how fast the machine is: scripted streams run in paused time.
//! Called by the test run.

mod chaos;
pub(super) mod sockets;
mod splice;

use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::Context;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio_test::task::Spawn;
use tokio_test::{assert_pending, assert_ready_eq};

use super::*;

/// A relay between two streams in memory: near and far end, and the relay as a task of this thread.
struct Ends {
    near: DuplexStream,
    far: DuplexStream,
    activity: Arc<Activity>,
    relay: tokio::task::JoinHandle<End>,
}

impl Ends {
    fn new(capacity: usize) -> Self {
        let (near, mut client) = duplex(capacity);
        let (far, mut upstream) = duplex(capacity);
        let activity = Arc::new(Activity::new(&Clock::new()));
        let relay = tokio::spawn({
            let activity = activity.clone();
            async move { relay(&mut client, &mut upstream, &activity, &NO_PIPES).await }
        });
        Self {
            near,
            far,
            activity,
            relay,
        }
    }
}

impl Side for DuplexStream {
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
}

/// Pipes for a relay that has no use for them.
static NO_PIPES: LazyLock<Pipes> = LazyLock::new(|| Pipes::with(0, 0, 0));

/// One that is never given away.
async fn relay<C: Side, U: Side>(client: &mut C, upstream: &mut U, activity: &Activity, pipes: &Pipes) -> End {
    match super::relay(&mut Relay::new(), client, upstream, activity, pipes).await {
        Stop::Ended(end) => end,
        Stop::GivenAway => panic!("nobody asked for that"),
    }
}

/// Lets everything on this thread run until it waits.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_idle_tunnel_holds_no_buffer() {
    let mut ends = Ends::new(1 << 20);
    settle().await;
    assert_eq!(buffer::leased(), 0, "before the first byte");
    let mut bytes = vec![7; 100_000];
    ends.near.write_all(&bytes).await.unwrap();
    ends.far.read_exact(&mut bytes).await.unwrap();
    ends.far.write_all(&bytes).await.unwrap();
    ends.near.read_exact(&mut bytes).await.unwrap();
    settle().await;
    assert_eq!((ends.activity.up(), ends.activity.down()), (100_000, 100_000));
    assert_eq!(buffer::leased(), 0, "between bytes");
    ends.near.shutdown().await.unwrap();
    settle().await;
    assert!(ends.activity.is_half_closed());
    assert_eq!(buffer::leased(), 0, "half closed");
    ends.relay.abort();
    assert!(ends.relay.await.unwrap_err().is_cancelled());
}

/// K04: a peer that does not read costs one buffer, stops the sender, and does not stop the other direction.
#[tokio::test]
async fn a_blocked_peer_holds_one_buffer() {
    let mut ends = Ends::new(1000);
    let sent = Arc::new(Mutex::new(0));
    let (mut reader, mut writer) = tokio::io::split(ends.near);
    let sender = tokio::spawn({
        let sent = sent.clone();
        async move {
            let block = vec![1; 1000];
            while writer.write_all(&block).await.is_ok() {
                *sent.lock().unwrap() += block.len();
            }
        }
    });
    settle().await;
    let stopped_at = *sent.lock().unwrap();
    assert!(stopped_at <= 3000, "two streams and what one read took: {stopped_at}");
    assert_eq!(buffer::leased(), 1);
    ends.far.write_all(b"meanwhile").await.unwrap();
    let mut meanwhile = [0; 9];
    reader.read_exact(&mut meanwhile).await.unwrap();
    assert_eq!(&meanwhile, b"meanwhile");
    assert_eq!((*sent.lock().unwrap(), buffer::leased()), (stopped_at, 1));
    // Dropped in that state, it gives its buffer back.
    ends.relay.abort();
    assert!(ends.relay.await.unwrap_err().is_cancelled());
    assert_eq!(buffer::leased(), 0);
    sender.abort();
}

#[tokio::test]
async fn an_end_waits_for_the_bytes_before_it() {
    let mut ends = Ends::new(100);
    let sender = tokio::spawn(async move {
        ends.near.write_all(&vec![3; 50_000]).await.unwrap();
        ends.near.shutdown().await.unwrap();
        ends.near
    });
    settle().await;
    assert!(!ends.activity.is_half_closed());
    let mut bytes = Vec::new();
    ends.far.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, vec![3; 50_000]);
    assert!(ends.activity.is_half_closed());
    drop(ends.far);
    assert_eq!(ends.relay.await.unwrap(), End::Finished);
    drop(sender.await.unwrap());
}

#[tokio::test]
async fn either_side_may_finish_first() {
    for client_first in [true, false] {
        let mut ends = Ends::new(100);
        if !client_first {
            std::mem::swap(&mut ends.near, &mut ends.far);
        }
        ends.near.write_all(b"question").await.unwrap();
        ends.near.shutdown().await.unwrap();
        let mut question = String::new();
        ends.far.read_to_string(&mut question).await.unwrap();
        assert!(!ends.relay.is_finished());
        ends.far.write_all(b"answer").await.unwrap();
        ends.far.shutdown().await.unwrap();
        let mut answer = String::new();
        ends.near.read_to_string(&mut answer).await.unwrap();
        assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
        assert_eq!(ends.relay.await.unwrap(), End::Finished);
        let moved = (ends.activity.up(), ends.activity.down());
        assert_eq!(moved, if client_first { (8, 6) } else { (6, 8) });
    }
}

#[tokio::test]
async fn ten_thousand_tunnels_leave_nothing_behind() {
    for number in 0..10_000_usize {
        let mut ends = Ends::new(64);
        ends.near.write_all(b"ping").await.unwrap();
        let mut ping = [0; 4];
        ends.far.read_exact(&mut ping).await.unwrap();
        if number % 3 == 0 {
            ends.relay.abort();
        }
        drop((ends.near, ends.far));
        assert!(
            ends.relay
                .await
                .map_or_else(|error| error.is_cancelled(), |end| end == End::Finished)
        );
    }
    assert_eq!(buffer::leased(), 0);
}

/// Gives zeros without end and takes everything; notes the sizes it was asked to read into.
#[derive(Default)]
struct Endless {
    asked: Vec<usize>,
    /// What a read gives at most, from that read on; all that fits before.
    small: Option<(usize, usize)>,
    /// Never gives anything.
    silent: bool,
    fails_to_write_after: Option<usize>,
    fails_to_shut_down: bool,
    ends_after: Option<usize>,
    /// Bytes until nothing can be read or written for now.
    stuck_after: Option<usize>,
    was_shut_down: bool,
}

impl Endless {
    fn is_stuck(&mut self, bytes: usize) -> bool {
        let stuck = self.stuck_after == Some(0);
        self.stuck_after = self.stuck_after.map(|left| left.saturating_sub(bytes));
        stuck
    }
}

impl AsyncRead for Endless {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.silent || self.is_stuck(0) {
            return Poll::Pending;
        }
        self.asked.push(buffer.remaining());
        if self.ends_after.is_some_and(|reads| self.asked.len() > reads) {
            return Poll::Ready(Ok(()));
        }
        let length = match self.small {
            Some((from, length)) if self.asked.len() >= from => length.min(buffer.remaining()),
            _ => buffer.remaining(),
        };
        buffer.initialize_unfilled_to(length);
        buffer.advance(length);
        self.is_stuck(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_stuck(bytes.len()) {
            return Poll::Pending;
        }
        match &mut self.fails_to_write_after {
            None => Poll::Ready(Ok(bytes.len())),
            Some(0) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Some(left) => {
                let taken = bytes.len().min(*left);
                *left -= taken;
                Poll::Ready(Ok(taken))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.was_shut_down = true;
        Poll::Ready(if self.fails_to_shut_down {
            Err(io::ErrorKind::NotConnected.into())
        } else {
            Ok(())
        })
    }
}

impl Side for Endless {
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
}

#[test]
fn a_busy_tunnel_lets_others_run() {
    let (mut client, mut upstream) = (Endless::default(), Endless::default());
    upstream.silent = true;
    let activity = Activity::new(&Clock::new());
    let mut task = tokio_test::task::spawn(relay(&mut client, &mut upstream, &activity, &NO_PIPES));
    for turn in 1..=3 {
        assert_pending!(task.poll());
        assert!(task.is_woken(), "it wants to go on");
        assert!(
            activity.up() >= turn * (256 << 10) && activity.up() < turn * (512 << 10),
            "{}",
            activity.up()
        );
    }
}

/// What belongs to TLS cannot be taken from its thread.
#[test]
fn what_is_more_than_two_sockets_is_not_given_away() {
    give_away_beside_another(1);
    let (mut client, mut upstream) = (Endless::default(), Endless::default());
    upstream.silent = true;
    let activity = Activity::new(&Clock::new());
    let mut task = tokio_test::task::spawn(relay(&mut client, &mut upstream, &activity, &NO_PIPES));
    while activity.up() < 2 * GIVEN_AFTER {
        assert_pending!(task.poll());
    }
    give_away(0);
}

#[tokio::test]
async fn no_more_are_given_away_than_are_to_be() {
    let activities = [(); 4].map(|()| Activity::new(&Clock::new()));
    give_away(2);
    // The first one stays, also where it asks again.
    for (asks, given_away) in [(0, false), (0, false), (1, true), (2, true), (3, false)] {
        let activity = &activities[asks];
        activity.moved_down(usize::try_from(GIVEN_AFTER).unwrap());
        let ((_near, mut client), (_far, mut upstream)) = (sockets::pair().await, sockets::pair().await);
        let mut state = Relay::new();
        let mut task = tokio_test::task::spawn(super::relay(
            &mut state,
            &mut client,
            &mut upstream,
            activity,
            &NO_PIPES,
        ));
        if given_away {
            assert_ready_eq!(task.poll(), Stop::GivenAway);
        } else {
            assert_pending!(task.poll());
        }
    }
}

/// All may move a little at once; of those that could go on without end, one of a thread does, for a bounded time.
#[test]
fn streams_take_turns() {
    let activities = [(); 3].map(|()| Activity::new(&Clock::new()));
    let mut ends = [(); 3].map(|()| {
        let silent = Endless {
            silent: true,
            ..Endless::default()
        };
        (Endless::default(), silent)
    });
    let relays = ends.iter_mut().zip(&activities);
    let relays = relays
        .map(|((client, upstream), activity)| tokio_test::task::spawn(relay(client, upstream, activity, &NO_PIPES)));
    let [mut one, mut two, mut three] = relays.collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!());
    for relay in [&mut one, &mut two, &mut three] {
        assert_pending!(relay.poll());
    }
    assert_eq!([&one, &two, &three].map(Spawn::is_woken), [true, false, false]);
    // Woken for another reason, it still has to wait.
    let before = activities[1].up();
    assert_pending!(two.poll());
    assert_eq!(activities[1].up(), before);

    let started = activities[0].up();
    while one.is_woken() {
        assert_pending!(one.poll());
    }
    let turn = activities[0].up() - started;
    assert!((8 << 20..9 << 20).contains(&turn), "{turn}");
    assert_eq!([&two, &three].map(Spawn::is_woken), [true, false]);

    // Gone before it has taken the turn it was woken for.
    drop(two);
    assert!(three.is_woken());
    assert_pending!(three.poll());
    assert!(three.is_woken() && !one.is_woken());
    drop(three);
    assert!(one.is_woken());
}

/// Whoever has to wait for a socket does not keep those waiting that need not.
#[test]
fn a_stream_that_is_stuck_gives_way() {
    for stuck in ["reading", "writing"] {
        let stuck_after = |end| (end == stuck).then_some(1 << 20);
        let mut ends = [(Some("reading"), Some("writing")), (None, None)].map(|(client, upstream)| {
            let client = Endless {
                stuck_after: client.and_then(stuck_after),
                ..Endless::default()
            };
            let upstream = Endless {
                silent: true,
                stuck_after: upstream.and_then(stuck_after),
                ..Endless::default()
            };
            (client, upstream, Activity::new(&Clock::new()))
        });
        let relays = ends
            .iter_mut()
            .map(|(client, upstream, activity)| tokio_test::task::spawn(relay(client, upstream, activity, &NO_PIPES)));
        let [mut first, mut second] = relays.collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!());
        assert_pending!(first.poll());
        assert_pending!(second.poll());
        assert!(first.is_woken() && !second.is_woken());
        while first.is_woken() {
            assert_pending!(first.poll());
        }
        assert!(second.is_woken(), "{stuck}");
        drop((first, second));
        assert!((1 << 20..2 << 20).contains(&ends[0].2.up()), "stuck early");
    }
}

#[test]
fn buffers_grow_while_they_are_filled_and_shrink_when_they_are_not() {
    let (mut client, mut upstream) = (Endless::default(), Endless::default());
    upstream.silent = true;
    client.small = Some((5, 1000));
    client.ends_after = Some(30);
    let activity = Activity::new(&Clock::new());
    let mut task = tokio_test::task::spawn(relay(&mut client, &mut upstream, &activity, &NO_PIPES));
    while !activity.is_half_closed() {
        assert_pending!(task.poll());
    }
    drop(task);
    let kib: Vec<_> = client.asked.iter().map(|bytes| bytes >> 10).collect();
    assert_eq!(kib[..4], [16, 64, 256, 256]);
    assert_eq!(kib[4..12], [256; 8]);
    assert_eq!(kib[12..20], [64; 8]);
    assert_eq!(kib[20..], [16; 11]);
}

/// Beyond the budget of the process a tunnel gets along with small buffers.
#[test]
fn larger_buffers_have_a_budget() {
    let mut out = Vec::new();
    loop {
        let lease = buffer::borrow(buffer::Size::Large);
        if lease.size() == buffer::Size::Small {
            break;
        }
        out.push(lease);
        assert!(out.len() <= 128, "32 MiB");
    }
    drop(out);
    assert_eq!(buffer::borrow(buffer::Size::Large).size(), buffer::Size::Large);
}

#[test]
fn the_future_is_small() {
    let (mut client, mut upstream) = (Endless::default(), Endless::default());
    let activity = Activity::new(&Clock::new());
    let mut state = Relay::new();
    let future = super::relay(&mut state, &mut client, &mut upstream, &activity, &NO_PIPES);
    let size = size_of_val(&future) + size_of::<Relay>();
    assert!(size <= 208, "{size} bytes");
}

#[test]
fn bytes_are_counted_up_to_the_error() {
    let (mut client, mut upstream) = (Endless::default(), Endless::default());
    upstream.silent = true;
    upstream.fails_to_write_after = Some(40_000);
    let activity = Activity::new(&Clock::new());
    let mut task = tokio_test::task::spawn(relay(&mut client, &mut upstream, &activity, &NO_PIPES));
    assert_pending!(task.poll());
    assert_eq!(activity.up(), 40_000);
    assert_eq!(buffer::leased(), 0);
}

/// A side that can no longer be written to has the rest of its own bytes delivered, but its end is not a clean one.
#[test]
fn what_a_lost_side_had_sent_is_delivered_without_an_end() {
    let (mut client, mut upstream) = (Endless::default(), Endless::default());
    client.small = Some((1, 10));
    upstream.fails_to_write_after = Some(0);
    upstream.small = Some((1, 10));
    upstream.ends_after = Some(5);
    let activity = Activity::new(&Clock::new());
    let mut task = tokio_test::task::spawn(relay(&mut client, &mut upstream, &activity, &NO_PIPES));
    assert_ready_eq!(task.poll(), End::UpstreamReset);
    drop(task);
    assert_eq!((activity.up(), activity.down()), (0, 50));
    assert!(!client.was_shut_down);
}

/// A client that had finished and then closed altogether cannot be told of the end. Nothing is lost by that.
#[test]
fn an_end_that_nobody_hears_is_no_failure() {
    for (client_ended, end) in [(true, End::Finished), (false, End::ClientReset)] {
        let (mut client, mut upstream) = (Endless::default(), Endless::default());
        client.ends_after = Some(0);
        client.silent = !client_ended;
        client.fails_to_shut_down = true;
        upstream.small = Some((1, 10));
        upstream.ends_after = Some(1);
        let activity = Activity::new(&Clock::new());
        let mut task = tokio_test::task::spawn(relay(&mut client, &mut upstream, &activity, &NO_PIPES));
        if client_ended {
            assert_ready_eq!(task.poll(), end);
        } else {
            // The client's own direction tells what became of it, or the idle limit does.
            assert_pending!(task.poll());
            drop(task);
            assert!(activity.is_half_closed());
        }
        assert_eq!(activity.down(), 10);
    }
}
