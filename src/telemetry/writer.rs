//! Takes records off the data path: a bounded queue, and one thread that turns them into lines and writes them.
//! Must not block who pushes, and must not die with its output: what cannot be queued is counted, what cannot be
//! written is tried again. Called by the record handle only.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::metrics::Metrics;
use super::record::{DecisionRecord, TunnelRecord};

/// The pushing end. The thread ends once this is dropped and what was queued is written.
pub(super) struct Writer(Arc<Shared>);

/// Something to write.
#[derive(Clone, Debug)]
pub(super) enum Line {
    Decision(Arc<DecisionRecord>),
    Tunnel(Arc<TunnelRecord>),
}

/// Appends the bytes of one line, with its line end.
pub(super) type Format = Box<dyn FnMut(&Line, &mut Vec<u8>) + Send>;

struct Shared {
    queue: Mutex<Queue>,
    /// For the thread: there is something to do.
    work: Condvar,
    /// For [`Writer::flush`]: something was written.
    written: Condvar,
    /// The last attempt to write failed.
    failing: AtomicBool,
    dropped: AtomicU64,
    metrics: Metrics,
}

#[derive(Default)]
struct Queue {
    lines: Vec<Line>,
    /// Lines ever queued, and those of them that have left this process or were given up.
    pushed: u64,
    done: u64,
    /// Somebody waits in [`Writer::flush`].
    hurry: bool,
    closed: bool,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn start(out: impl Write + Send + 'static, format: Format, metrics: Metrics) -> io::Result<Self> {
        Self::lingering(out, format, metrics, LINGER)
    }

    /// The first line of a batch waits that long for others.
    fn lingering(
        out: impl Write + Send + 'static,
        format: Format,
        metrics: Metrics,
        linger: Duration,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            written: Condvar::new(),
            failing: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            metrics,
        });
        let thread = Thread {
            shared: Arc::clone(&shared),
            out,
            format,
            bytes: Vec::with_capacity(CHUNK),
            linger,
            told: 0,
            told_at: None,
        };
        thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || thread.run())?;
        Ok(Self(shared))
    }

    /// Queues a line, or drops and counts it. Says whether it will be written unless the output fails for good.
    pub(super) fn push(&self, line: Line) -> bool {
        let mut queue = self.0.lock();
        if queue.lines.len() >= CAPACITY {
            drop(queue);
            self.0.drop_records(1);
            return false;
        }
        queue.lines.push(line);
        queue.pushed += 1;
        let waiting = queue.lines.len();
        drop(queue);
        // A wake-up is a system call, and so is each write: the thread is woken by the first line, and then once more
        // only if so many follow that waiting longer could fill the queue.
        if waiting == 1 || waiting == PLENTY {
            self.0.work.notify_one();
        }
        !self.failing()
    }

    /// Whether a record pushed now would be taken by an output that works.
    pub(super) fn writable(&self) -> bool {
        !self.failing() && self.0.lock().lines.len() < CAPACITY
    }

    /// Waits until everything pushed so far is written, at most this long. Blocks the thread that calls it.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let end = Instant::now() + within;
        let mut queue = self.0.lock();
        let goal = queue.pushed;
        while queue.done < goal {
            queue.hurry = true;
            self.0.work.notify_one();
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (queue, _) = self
                .0
                .written
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    fn failing(&self) -> bool {
        self.0.failing.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.work.notify_one();
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_records(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
        self.metrics.record_dropped(count);
    }
}

struct Thread<W> {
    shared: Arc<Shared>,
    out: W,
    format: Format,
    bytes: Vec<u8>,
    linger: Duration,
    /// How many dropped records the operational log has been told of, and when.
    told: u64,
    told_at: Option<Instant>,
}

impl<W: Write> Thread<W> {
    fn run(mut self) {
        let mut lines = Vec::new();
        while self.next_batch(&mut lines) {
            let mut unwritten = 0;
            for line in lines.drain(..) {
                (self.format)(&line, &mut self.bytes);
                unwritten += 1;
                if self.bytes.len() >= CHUNK {
                    self.write(unwritten);
                    unwritten = 0;
                }
            }
            self.write(unwritten);
            self.tell_of_drops();
        }
    }

    /// Waits for lines and takes all of them; `false` once there will be no more.
    fn next_batch(&self, lines: &mut Vec<Line>) -> bool {
        let shared = &self.shared;
        let mut queue = shared
            .work
            .wait_while(shared.lock(), |queue| queue.lines.is_empty() && !queue.closed)
            .unwrap_or_else(PoisonError::into_inner);
        (queue, _) = shared
            .work
            .wait_timeout_while(queue, self.linger, |queue| {
                queue.lines.len() < PLENTY && !queue.hurry && !queue.closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        queue.hurry = false;
        std::mem::swap(&mut queue.lines, lines);
        !lines.is_empty()
    }

    /// Writes what is collected, `lines` of them, however long the output refuses; gives up only at the end.
    /// It goes on at the byte where it stopped, so that no line is torn by an output that recovers.
    fn write(&mut self, lines: u64) {
        if lines == 0 {
            return;
        }
        let mut from = 0;
        let mut flushed = false;
        while !flushed {
            match self.attempt(&mut from) {
                Ok(()) => flushed = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if !self.shared.failing.swap(true, Ordering::Relaxed) {
                        tracing::error!(%error, "the decision log cannot be written; trying again");
                    }
                    if !self.pause() {
                        self.shared.drop_records(lines);
                        break;
                    }
                }
            }
        }
        if flushed && self.shared.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the decision log is written again");
        }
        self.bytes.clear();
        self.shared.lock().done += lines;
        self.shared.written.notify_all();
    }

    fn attempt(&mut self, from: &mut usize) -> io::Result<()> {
        while let Some(rest) = self.bytes.get(*from..).filter(|rest| !rest.is_empty()) {
            match self.out.write(rest)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => *from += written,
            }
        }
        self.out.flush()
    }

    /// Waits before the next attempt; `false` if nobody is left for whom to make it.
    fn pause(&self) -> bool {
        let (mut queue, _) = self
            .shared
            .work
            .wait_timeout_while(self.shared.lock(), RETRY, |queue| !queue.hurry && !queue.closed)
            .unwrap_or_else(PoisonError::into_inner);
        queue.hurry = false;
        !queue.closed
    }

    fn tell_of_drops(&mut self) {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        if dropped > self.told && self.told_at.is_none_or(|at| at.elapsed() > TELL) {
            let records = dropped - self.told;
            tracing::warn!(
                records,
                "decision records were lost: the log takes them too slowly, or not at all"
            );
            self.told = dropped;
            self.told_at = Some(Instant::now());
        }
    }
}

/// Records that wait at most; at half a KiB each this is 4 MiB.
pub(super) const CAPACITY: usize = 8192;
/// So many need not wait for more.
const PLENTY: usize = 512;
/// How long the first of a batch waits for others.
const LINGER: Duration = Duration::from_millis(10);
/// Between two attempts to write.
const RETRY: Duration = Duration::from_secs(1);
/// Between two warnings about lost records.
const TELL: Duration = Duration::from_secs(10);
/// Bytes in one write.
const CHUNK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;
    use crate::telemetry::samples::{self, Collected, PATIENCE};

    #[test]
    fn lines_come_out_in_order() {
        let (out, writer, _) = collecting();
        for id in 0..3 {
            assert!(writer.push(decision(id)));
        }
        assert!(writer.flush(PATIENCE));
        assert_eq!(out.text(), "0\n1\n2\n");
    }

    #[test]
    fn the_last_lines_are_written_when_nobody_is_left() {
        let (out, writer, _) = collecting();
        writer.push(decision(1));
        drop(writer);
        out.wait_for_end();
        assert_eq!(out.text(), "1\n");
    }

    /// K07: a blocked sink costs records, which are counted, and nothing else.
    #[test]
    fn a_blocked_output_costs_counted_records_and_no_time() {
        let (entered, has_entered) = sync_channel(1);
        let (release, released) = sync_channel(1);
        let metrics = Metrics::new(now());
        let out = Blocked { entered, released };
        let writer = Writer::start(out, Box::new(number), metrics.clone()).unwrap();
        writer.push(decision(0));
        has_entered.recv_timeout(PATIENCE).unwrap();
        for id in 1..=CAPACITY as u64 {
            assert!(writer.push(decision(id)), "{id} still fits");
        }
        assert!(!writer.writable());
        for id in 0..5 {
            assert!(!writer.push(decision(id)));
        }
        assert_eq!(dropped(&metrics), 5);
        drop(release);
        assert!(writer.flush(PATIENCE), "it goes on when the output does");
        assert!(writer.writable());
        assert_eq!(dropped(&metrics), 5);
    }

    /// K07: disk full, or a closed pipe.
    #[test]
    fn a_failing_output_is_tried_again_and_no_line_is_torn() {
        let (attempts, attempted) = sync_channel(100);
        let out = Failing {
            // The first write takes four bytes of "10\n11\n", then the disk is full, then it is not.
            answers: vec![Ok(4), Err(io::ErrorKind::StorageFull)],
            written: Collected::default(),
            attempts,
        };
        let written = out.written.clone();
        let metrics = Metrics::new(now());
        let writer = Writer::start(out, Box::new(number), metrics.clone()).unwrap();
        writer.push(decision(10));
        writer.push(decision(11));
        for _ in 0..2 {
            attempted.recv_timeout(PATIENCE).unwrap();
        }
        assert!(!wait_until_failing(&writer));
        writer.push(decision(12));
        assert!(writer.flush(PATIENCE));
        assert_eq!(written.text(), "10\n11\n12\n");
        assert!(writer.writable());
        assert_eq!(dropped(&metrics), 0);
    }

    /// It is tried for as long as there is somebody to try it for; then it is lost, and counted.
    #[test]
    fn what_is_given_up_at_the_end_is_counted() {
        let (out, metrics) = (Collected::default(), Metrics::new(now()));
        let long = |line: &Line, bytes: &mut Vec<u8>| {
            number(line, bytes);
            bytes.resize(bytes.len() + CHUNK / 3, b'x');
        };
        let writer = Writer::start(Broken(out.clone()), Box::new(long), metrics.clone()).unwrap();
        // In more than one piece, and all behind the first one: it is still being tried.
        for id in 0..10 {
            writer.push(decision(id));
        }
        assert!(!writer.flush(Duration::from_millis(50)));
        for id in 10..15 {
            assert!(!writer.push(decision(id)), "it will not be written");
        }
        assert_eq!(dropped(&metrics), 0, "it may still be written");
        drop(writer);
        out.wait_for_end();
        assert_eq!(dropped(&metrics), 15);
    }

    #[test]
    fn many_lines_do_not_wait_for_more() {
        let (out, metrics) = (Collected::default(), Metrics::new(now()));
        let writer = Writer::lingering(out.clone(), Box::new(number), metrics, Duration::from_hours(1)).unwrap();
        writer.push(decision(0));
        // Time for the thread to see that there is one, and to wait for more.
        (0..10_000).for_each(|_| thread::yield_now());
        for id in 1..PLENTY as u64 {
            assert_eq!(out.text(), "", "{id} are not many");
            writer.push(decision(id));
        }
        let end = Instant::now() + PATIENCE;
        while out.text().lines().count() < PLENTY {
            assert!(Instant::now() < end, "they wait");
            thread::yield_now();
        }
    }

    /// The attempt has been seen, but its error is noted a moment later.
    fn wait_until_failing(writer: &Writer) -> bool {
        let end = Instant::now() + PATIENCE;
        while writer.writable() && Instant::now() < end {
            thread::yield_now();
        }
        writer.writable()
    }

    fn collecting() -> (Collected, Writer, Metrics) {
        let (out, metrics) = (Collected::default(), Metrics::new(now()));
        let writer = Writer::start(out.clone(), Box::new(number), metrics.clone()).unwrap();
        (out, writer, metrics)
    }

    fn decision(id: u64) -> Line {
        Line::Decision(Arc::new(samples::denied(id)))
    }

    fn number(line: &Line, out: &mut Vec<u8>) {
        let Line::Decision(record) = line else {
            panic!("only decisions are pushed")
        };
        writeln!(out, "{}", record.id).unwrap();
    }

    fn dropped(metrics: &Metrics) -> u64 {
        let text = metrics.render(now());
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix("sluicegate_records_dropped_total "));
        value.unwrap().parse().unwrap()
    }

    fn now() -> jiff::Timestamp {
        samples::denied(0).at
    }

    struct Blocked {
        entered: SyncSender<()>,
        released: Receiver<()>,
    }

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.entered.try_send(());
            // Ends when the other half is dropped.
            let _ = self.released.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Takes nothing, ever.
    struct Broken(#[expect(dead_code, reason = "says whether the thread is there")] Collected);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Failing {
        answers: Vec<Result<usize, io::ErrorKind>>,
        written: Collected,
        attempts: SyncSender<()>,
    }

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.attempts.send(()).unwrap();
            if self.answers.is_empty() {
                return self.written.write(bytes);
            }
            let taken = self.answers.remove(0)?;
            self.written.write(&bytes[..taken])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
