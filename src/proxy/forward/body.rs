//! A body on its way from one side to the other: what moves and how it ends is noted with its exchange.
//! Must not hold or change a byte.
//! Called by hyper, which asks for frames when the other side has room.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::exchange::Exchange;
use crate::telemetry::record::End;

/// The body of a request or of a response.
#[derive(Debug)]
pub(crate) struct Passing {
    way: Way,
    body: Incoming,
    exchange: Arc<Exchange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

impl Passing {
    pub(super) fn new(way: Way, body: Incoming, exchange: Arc<Exchange>) -> Self {
        Self { way, body, exchange }
    }

    /// The exchange ends with its answer; its record waits for the request, too.
    fn ended(&self) {
        if self.way == Way::Down {
            self.exchange.ended(End::Finished);
        }
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.exchange.moved(self.way, bytes);
            }
            Some(Err(_)) => self.exchange.broke_off(self.way),
            None => self.ended(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // hyper does not ask an empty body, or one whose announced length has passed, for its end.
        if self.body.is_end_stream() {
            self.ended();
        }
    }
}
