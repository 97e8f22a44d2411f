//! Several futures at once, the first to finish wins a turn: no tasks, no allocation but the futures' own boxes.
//! Must not be used for many: each wake-up polls all of them.
//! Called by the dialler for addresses and by the resolver for DNS servers.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Futures that run beside each other. Dropping it drops those that have not finished.
pub(super) struct Race<'a, T> {
    running: Vec<Pin<Box<dyn Future<Output = T> + Send + 'a>>>,
}

impl<'a, T> Race<'a, T> {
    pub(super) fn new() -> Self {
        Self { running: Vec::new() }
    }

    pub(super) fn enter(&mut self, runner: impl Future<Output = T> + Send + 'a) {
        self.running.push(Box::pin(runner));
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// The output of the next one to finish. Waits for ever while none is running.
    pub(super) async fn next(&mut self) -> T {
        poll_fn(|cx| {
            for place in 0..self.running.len() {
                let runner = self.running.get_mut(place).map(|runner| runner.as_mut().poll(cx));
                if let Some(Poll::Ready(output)) = runner {
                    drop(self.running.remove(place));
                    return Poll::Ready(output);
                }
            }
            Poll::Pending
        })
        .await
    }
}
