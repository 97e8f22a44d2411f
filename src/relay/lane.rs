//! Whose turn it is among the directions of one thread that could move bytes without end: one goes on at a time.
//! Must not be asked for by those that move little: they never wait here. Nor be kept while there is nothing to move.
//! Called by a direction that has used up what it may move at once.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// A direction's place in the lane of its thread: at the head with bytes left of its turn, behind others, or outside.
/// Dropping it lets the next one on.
///
/// Whoever keeps on moving keeps its sender and its receiver awake on other processors. Going around among many after
/// each few bytes lets them all fall asleep in between, and to wake a thread costs as much as to move 100 KiB.
#[derive(Debug)]
pub(super) struct Lane {
    queue: PollSemaphore,
    /// Set at the head.
    turn: Option<OwnedSemaphorePermit>,
    /// Bytes of the turn.
    left: usize,
    waits: bool,
}

impl Lane {
    /// Outside of this thread's lane.
    pub(super) fn new() -> Self {
        Self {
            queue: PollSemaphore::new(LANE.with(Arc::clone)),
            turn: None,
            left: 0,
            waits: false,
        }
    }

    /// Whether others are before it.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// Ready at the head of the lane. Whoever is outside of it, or at the end of a turn, comes behind all that wait.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.turn.is_none() {
            self.waits = true;
            // Nobody closes it; without a permit it would not be this one's turn.
            self.turn = ready!(self.queue.poll_acquire(cx));
            self.waits = false;
            self.left = TURN;
        }
        Poll::Ready(())
    }

    /// Takes bytes that were moved off the turn, and ends it with the last of them.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
        if self.left == 0 {
            self.leave();
        }
    }

    /// Lets the next one on.
    pub(super) fn leave(&mut self) {
        self.turn = None;
    }
}

thread_local! {
    static LANE: Arc<Semaphore> = Arc::new(Semaphore::new(1));
}

/// Bytes of one turn: 2 to 3 milliseconds. With a quarter of it, 8 and 32 tunnels cost 1.5 times as much for each byte.
const TURN: usize = 8 << 20;
