//! A client stream that hyper may read: it passes only heads that our reader accepted, and bodies as they were announced.
//! Must not change a byte. At the first byte that does not pass it ends the stream, and keeps the reason.
//! Called by the plain HTTP front, which takes the stream back from hyper when it has ended.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::client::Client;
use super::session::Connection;
use super::tracker::Tracked;
use crate::policy::Reason;
use crate::wire::Progress;
use crate::wire::body::{BodyReader, BodyStep, Framing};
use crate::wire::head::{Form, HeadReader, HeadReject, RequestHead, Target};

/// The client under the strict readers.
#[derive(Debug)]
pub(crate) struct Strict {
    client: Client,
    form: Form,
    /// Read from the client, not yet passed on.
    buffer: BytesMut,
    /// How many bytes at the front of `buffer` have passed.
    passed: usize,
    phase: Phase,
    /// When the client has kept silent for the idle time, where a head may begin.
    idle_until: Option<Instant>,
    /// Rings when the head or the idle time is over, or before.
    alarm: Option<Pin<Box<Sleep>>>,
    /// hyper was told to wait for bytes, and must be told of those that come.
    hyper_waits: bool,
    /// The client has finished its side.
    finished: bool,
    next_look: Option<Pin<Box<Sleep>>>,
    /// Set while the client takes nothing of what is written to it: when it has had its time.
    patience: Option<Pin<Box<Sleep>>>,
    connection: Arc<Connection>,
    findings: Arc<Findings>,
}

/// What the reader found, for the front that decides.
#[derive(Debug, Default)]
pub(crate) struct Findings(Mutex<Found>);

#[derive(Debug, Default)]
struct Found {
    /// The head that hyper is handling now, with the moment its first byte came.
    head: Option<(RequestHead, Instant)>,
    stop: Option<Stop>,
    cut_short: bool,
    /// The client has finished its side.
    finished: bool,
    /// The exchange under way. It holds itself; a finished one is no longer open.
    exchange: Weak<Tracked>,
}

/// Why the stream ended before the client closed it.
#[derive(Clone, Debug)]
pub(crate) enum Stop {
    /// A head that does not pass.
    Head(HeadReject),
    /// A body that breaks the framing its head announced.
    Body(&'static str),
    /// A CONNECT on a connection that has served other requests; its head is still unread.
    Connect,
    /// Nothing came for the idle time.
    Idle,
}

#[derive(Debug)]
enum Phase {
    Head { reader: HeadReader, since: Option<Instant> },
    Body(BodyReader),
    Stopped,
}

impl Strict {
    /// Takes a client and what was already read from it.
    pub(crate) fn new(
        connection: Arc<Connection>,
        client: Client,
        buffer: BytesMut,
        form: Form,
    ) -> (Self, Arc<Findings>) {
        let findings = Arc::new(Findings::default());
        let phase = Phase::Head {
            reader: HeadReader::new(form),
            since: Some(Instant::now()),
        };
        let strict = Self {
            client,
            form,
            buffer,
            passed: 0,
            phase,
            idle_until: None,
            alarm: None,
            hyper_waits: false,
            finished: false,
            next_look: None,
            patience: None,
            connection,
            findings: Arc::clone(&findings),
        };
        (strict, findings)
    }

    /// The client, and what was read from it and not passed on.
    pub(crate) fn into_parts(self) -> (Client, BytesMut) {
        (self.client, self.buffer)
    }

    /// Judges what is in the buffer. Afterwards either bytes have passed, or more must be read, or it has stopped.
    fn advance(&mut self) {
        match &mut self.phase {
            Phase::Stopped => {}
            Phase::Body(reader) => match reader.advance(&self.buffer) {
                BodyStep::More(n) => self.passed = n,
                BodyStep::Done(n) => {
                    self.passed = n;
                    self.await_head();
                }
                BodyStep::Reject(detail) => self.stop(Stop::Body(detail)),
            },
            Phase::Head { reader, since } => {
                if self.buffer.is_empty() {
                    return;
                }
                let started = *since.get_or_insert_with(Instant::now);
                match reader.advance(&self.buffer) {
                    Progress::Need(_) => {}
                    Progress::Reject(reject) => self.stop(Stop::Head(reject)),
                    Progress::Value(head) if matches!(head.target, Target::Connect { .. }) => self.stop(Stop::Connect),
                    Progress::Value(head) => {
                        self.passed = head.len;
                        let framing = head.framing;
                        self.findings.found().head = Some((head, started));
                        match framing {
                            Framing::Empty => self.await_head(),
                            framing => self.phase = Phase::Body(BodyReader::new(framing)),
                        }
                    }
                }
            }
        }
    }

    /// Reads what the client has sent. `false`: it has finished.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.buffer.reserve(READ);
        let before = self.buffer.len();
        let read = pin!(self.client.read_buf(&mut self.buffer));
        ready!(read.poll(cx))?;
        if self.buffer.len() > before {
            return Poll::Ready(Ok(true));
        }
        self.finished = true;
        self.findings.client_finished();
        Poll::Ready(Ok(false))
    }

    /// Reads ahead, so that the client's end is seen while hyper does not read: it does not between a request and the end
    /// of its answer. What comes stays in the buffer, as much as fits.
    ///
    /// # Errors
    /// The client has gone.
    fn watch(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.finished && self.buffer.len() < READ {
            let Poll::Ready(read) = self.poll_fill(cx) else { break };
            read?;
            if self.hyper_waits {
                self.hyper_waits = false;
                cx.waker().wake_by_ref();
            }
        }
        if self.finished || self.buffer.len() >= READ {
            self.look(cx)?;
        }
        Ok(())
    }

    /// Looks once in a while what became of a client from which nothing more may be read now.
    fn look(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut next = self.next_look.take().unwrap_or_else(|| Box::pin(sleep(LOOK)));
        while next.as_mut().poll(cx).is_ready() {
            next.as_mut().reset(Instant::now() + LOOK);
            let state = pin!(self.client.tcp().ready(Interest::READABLE | Interest::ERROR)).poll(cx);
            let Poll::Ready(state) = state else { continue };
            let state = state?;
            if state.is_error() {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            // Behind a body that waits for its server there is no telling yet what the end is the end of.
            if state.is_read_closed() && matches!(self.phase, Phase::Head { .. }) {
                self.findings.client_finished();
            }
        }
        self.next_look = Some(next);
        Ok(())
    }

    /// Gives up a client that takes nothing for the idle time. While an exchange is under way the sweeper sees to that; what
    /// hyper still holds of a finished one is known only here.
    ///
    /// # Errors
    /// Those of the client, or its time is over.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let idle = self.connection.proxy.timeouts.idle;
        if written.is_ready() || idle.is_zero() {
            self.patience = None;
            return written;
        }
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(idle)));
        ready!(patience.as_mut().poll(cx));
        if self.findings.exchange().is_some() {
            self.patience = None;
            return self.bounded(cx, written);
        }
        self.findings.cut_short();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn await_head(&mut self) {
        self.phase = Phase::Head {
            reader: HeadReader::new(self.form),
            since: None,
        };
        self.idle_until = None;
    }

    fn stop(&mut self, stop: Stop) {
        self.phase = Phase::Stopped;
        self.findings.found().stop.get_or_insert(stop);
    }

    /// Between two heads nothing is due but the idle time; inside one, the head time.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Phase::Head { since, .. } = &self.phase else {
            return Poll::Pending;
        };
        let within = *since;
        let idle = self.connection.proxy.timeouts.idle;
        let due = match within {
            Some(since) => self.connection.head_deadline(since),
            None if idle.is_zero() => return Poll::Pending,
            None => *self.idle_until.get_or_insert_with(|| Instant::now() + idle),
        };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if alarm.deadline() > due {
            alarm.as_mut().reset(due);
        }
        ready!(alarm.as_mut().poll(cx));
        while alarm.deadline() < due {
            // It was set for an earlier request. Most requests come long before it rings, and do not touch it.
            alarm.as_mut().reset(due);
            ready!(alarm.as_mut().poll(cx));
        }
        let late = HeadReject {
            reason: Reason::HeadTimeout,
            detail: "the request head was not complete in time",
        };
        self.stop(if within.is_some() { Stop::Head(late) } else { Stop::Idle });
        Poll::Ready(())
    }
}

impl Findings {
    /// The head that hyper was just given.
    pub(crate) fn take_head(&self) -> Option<(RequestHead, Instant)> {
        self.found().head.take()
    }

    /// Notes which exchange is under way. Where the client has finished already, it is half closed from the start.
    pub(crate) fn serves(&self, tracked: &Arc<Tracked>) {
        let mut found = self.found();
        found.exchange = Arc::downgrade(tracked);
        if found.finished {
            tracked.activity.half_close();
        }
    }

    /// Whether the exchange under way was cut.
    pub(crate) fn is_cut(&self) -> bool {
        self.exchange().is_some_and(|tracked| tracked.cut_for().is_some())
    }

    fn client_finished(&self) {
        self.found().finished = true;
        if let Some(tracked) = self.exchange() {
            tracked.activity.half_close();
        }
    }

    fn exchange(&self) -> Option<Arc<Tracked>> {
        self.found().exchange.upgrade()
    }

    /// Why the stream ended, if it was not the client.
    pub(crate) fn stopped(&self) -> Option<Stop> {
        self.found().stop.clone()
    }

    /// Notes that an answer has broken off.
    pub(crate) fn cut_short(&self) {
        self.found().cut_short = true;
    }

    /// Whether an answer has broken off, so that the connection must not end cleanly.
    pub(crate) fn was_cut_short(&self) -> bool {
        self.found().cut_short
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Strict {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.hyper_waits = false;
        loop {
            if this.passed > 0 {
                let n = this.passed.min(out.remaining());
                out.put_slice(&this.buffer[..n]);
                this.buffer.advance(n);
                this.passed -= n;
                return Poll::Ready(Ok(()));
            }
            this.advance();
            if this.passed > 0 {
                continue;
            }
            if matches!(this.phase, Phase::Stopped) {
                return Poll::Ready(Ok(()));
            }
            if this.poll_deadline(cx).is_ready() {
                continue;
            }
            let Poll::Ready(read) = this.poll_fill(cx) else {
                this.hyper_waits = true;
                return Poll::Pending;
            };
            if !read? {
                // Half a head or half a body is nothing that could be passed.
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Strict {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.client).poll_write(cx, buf);
        this.bounded(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.client).poll_write_vectored(cx, bufs);
        this.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.client.is_write_vectored()
    }

    /// hyper flushes at the end of each turn, whatever it waits for: the place to look whether the client is still there.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.watch(cx)?;
        let flushed = Pin::new(&mut this.client).poll_flush(cx);
        this.bounded(cx, flushed)
    }

    /// hyper has finished and holds nothing back. The client stays open for the front, which takes it and has the last word.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// Asked of the client at a time.
const READ: usize = 16 * 1024;
/// Between two looks at a client from which nothing more may be read.
const LOOK: Duration = Duration::from_secs(1);
