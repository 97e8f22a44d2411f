//! Everything that is open: what was asked and seen, how much moved, and the switch that cuts it.
//! Must not relay or decide on its own; it asks the gate again when the policy or the time changes.
//! Called by sessions, which register before they decide, and by `/tunnels`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use foldhash::fast::RandomState;
use jiff::Timestamp;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::session::Connection;
use crate::policy::{Action, Ask, Generation, Inspect, Policy, Seen, gate};
use crate::relay::{Activity, Tick};
use crate::telemetry::LiveTunnel;
use crate::telemetry::record::{End, Entry};

/// All registered sessions, in shards so that registering does not queue.
#[derive(Debug)]
pub(crate) struct Tracker {
    shards: [Shard; SHARDS],
}

/// The sessions hold themselves; here they are only found.
type Shard = Mutex<HashMap<u64, Weak<Tracked>, RandomState>>;

/// One session: a tunnel, or one HTTP exchange. Registered until its last holder drops it.
#[derive(Debug)]
pub(crate) struct Tracked {
    pub(crate) id: u64,
    pub(crate) entry: Entry,
    pub(crate) connection: Arc<Connection>,
    pub(crate) opened: Instant,
    pub(crate) activity: Activity,
    /// Bytes up and down that the metrics already hold.
    reported: (AtomicU64, AtomicU64),
    known: Mutex<Known>,
    /// Why it was cut: 0 is not at all, otherwise the index into [`End::ALL`] plus one. The first reason stays. Who waits
    /// for it waits on the connection's `cut`.
    end: AtomicU8,
}

/// What is known of a session so far.
#[derive(Debug, Default)]
struct Known {
    ask: Option<Ask>,
    established: Option<Established>,
    /// Everything else was judged again before this was established: its verdict may be from before.
    passed_over: bool,
    /// Refused by the policy in force: when and why it will be cut.
    doomed: Option<(Instant, End)>,
}

#[derive(Clone, Debug)]
struct Established {
    at: Timestamp,
    rule: Option<Arc<str>>,
}

/// How long what may go on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spans {
    pub(crate) idle: Duration,
    pub(crate) half_close: Duration,
    pub(crate) lifetime: Duration,
}

impl Tracker {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Registers a session. Done before its first decision, so that no reload slips in between.
    pub(crate) fn register(&self, id: u64, entry: Entry, connection: Arc<Connection>) -> Arc<Tracked> {
        let tracked = Arc::new(Tracked {
            id,
            entry,
            opened: Instant::now(),
            activity: Activity::new(&connection.proxy.clock),
            reported: (AtomicU64::new(0), AtomicU64::new(0)),
            known: Mutex::default(),
            end: AtomicU8::new(0),
            connection,
        });
        lock(self.shard(id)).insert(id, Arc::downgrade(&tracked));
        tracked
    }

    /// Asks the gate about every established session again. What is refused now is cut at `deadline`; what is allowed
    /// again is spared. Returns how many are refused.
    pub(crate) async fn rejudge(&self, policy: &Policy, now: Timestamp, deadline: Instant, end: End) -> usize {
        let mut refused = 0;
        self.each_in_turns(|tracked| {
            let mut known = tracked.known();
            if known.established.is_none() {
                known.passed_over = true;
                return;
            }
            let passes = known
                .ask
                .as_ref()
                .is_some_and(|ask| passes(policy, now, &tracked.connection, ask));
            if passes {
                known.doomed = None;
            } else {
                refused += 1;
                known.doomed.get_or_insert((deadline, end));
            }
        })
        .await;
        refused
    }

    /// Cuts what is over its time. Returns the earliest moment at which a doomed session must be cut.
    pub(crate) async fn sweep(&self, now: Instant, tick: Tick, spans: Spans) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        self.each_in_turns(|tracked| {
            let known = tracked.known();
            if let Some((deadline, end)) = known.doomed {
                if deadline <= now {
                    tracked.cut(end);
                } else {
                    next = Some(next.map_or(deadline, |earliest| earliest.min(deadline)));
                }
            }
            if known.established.is_none() {
                return;
            }
            if over(spans.lifetime, now.saturating_duration_since(tracked.opened)) {
                tracked.cut(End::Lifetime);
            }
            tracked.report_bytes();
            let still = tracked.activity.idle_for(tick);
            if tracked.activity.is_half_closed() && over(spans.half_close, still) {
                tracked.cut(End::HalfClosed);
            } else if over(spans.idle, still) {
                tracked.cut(End::Idle);
            }
        })
        .await;
        next
    }

    /// Cuts everything that is still open.
    pub(crate) fn cut_all(&self, end: End) {
        self.each(|tracked| tracked.cut(end));
    }

    /// The established sessions, for people.
    pub(crate) fn live(&self) -> Vec<LiveTunnel> {
        let mut live = Vec::new();
        self.each(|tracked| live.extend(tracked.live()));
        live.sort_by_key(|tunnel| tunnel.since);
        live
    }

    fn each(&self, mut visit: impl FnMut(&Tracked)) {
        for shard in &self.shards {
            for tracked in &open(shard) {
                visit(tracked);
            }
        }
    }

    /// The same for whoever shares a worker with the sessions: it is given back after a few of them.
    async fn each_in_turns(&self, mut visit: impl FnMut(&Tracked)) {
        for shard in &self.shards {
            for some in open(shard).chunks(TURN) {
                for tracked in some {
                    visit(tracked);
                }
                yield_now().await;
            }
        }
    }

    fn shard(&self, id: u64) -> &Shard {
        // The remainder is below the length of the array.
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 16")]
        let index = (id % SHARDS as u64) as usize;
        &self.shards[index]
    }
}

impl Tracked {
    /// Notes what is asked, so far.
    pub(crate) fn ask(&self, ask: Ask) {
        self.known().ask = Some(ask);
    }

    /// From here on bytes are relayed, and every change of the policy is checked against it.
    ///
    /// `at` is when it was allowed, and `judged` the generation of that decision. If another one is in force by now, or
    /// time has changed answers meanwhile, it is judged again; `false` means that it is refused.
    pub(crate) fn establish(&self, at: Timestamp, rule: Option<Arc<str>>, judged: Generation) -> bool {
        let passed_over = {
            let mut known = self.known();
            known.established = Some(Established { at, rule });
            known.passed_over
        };
        let state = &self.connection.proxy.state;
        if state.generation() == judged && !passed_over {
            return true;
        }
        let policy = state.policy();
        let known = self.known();
        known
            .ask
            .as_ref()
            .is_some_and(|ask| passes(&policy, Timestamp::now(), &self.connection, ask))
    }

    /// Ends when this session is cut.
    pub(crate) async fn wait_cut(&self) -> End {
        loop {
            let notified = self.connection.cut.notified();
            if let Some(end) = self.cut_for() {
                return end;
            }
            notified.await;
        }
    }

    /// Adds what has moved since the last report to the listener's metrics.
    pub(crate) fn report_bytes(&self) {
        let metrics = &self.connection.front.metrics;
        let (up, down) = (self.activity.up(), self.activity.down());
        metrics.up(up - self.reported.0.swap(up, Ordering::Relaxed).min(up));
        metrics.down(down - self.reported.1.swap(down, Ordering::Relaxed).min(down));
    }

    /// Why it was cut, if it was.
    pub(crate) fn cut_for(&self) -> Option<End> {
        let index = self.end.load(Ordering::Acquire).checked_sub(1)?;
        End::ALL.get(usize::from(index)).copied()
    }

    fn cut(&self, end: End) {
        let index = End::ALL.iter().position(|other| *other == end).unwrap_or_default();
        let value = u8::try_from(index + 1).unwrap_or(u8::MAX);
        if self
            .end
            .compare_exchange(0, value, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
        {
            // One task drives a connection; a permit stays for it if it is not waiting yet.
            self.connection.cut.notify_one();
        }
    }

    fn live(&self) -> Option<LiveTunnel> {
        let known = self.known();
        let established = known.established.clone()?;
        let ask = known.ask.clone()?;
        Some(LiveTunnel {
            id: self.id,
            listener: Arc::clone(&self.connection.front.name),
            entry: self.entry,
            source: self.connection.peer,
            workload: self.connection.workload(),
            host: ask.host,
            port: ask.port,
            sni: super::session::sni_of(&ask.seen),
            address: ask.address?,
            rule: established.rule,
            up: self.activity.up(),
            down: self.activity.down(),
            since: established.at,
            idle: self.activity.idle_for(self.connection.proxy.clock.now()),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        lock(self.connection.proxy.tracker.shard(self.id)).remove(&self.id);
    }
}

/// Whether an established session may go on: it must be allowed, and what the rule wants to see must have been seen. A
/// tunnel that was opaque so far and must now show a ClientHello has nothing to show.
fn passes(policy: &Policy, now: Timestamp, connection: &Connection, ask: &Ask) -> bool {
    let Action::Allow(inspect) = gate(policy, now, &connection.source, ask).action else {
        return false;
    };
    match ask.seen {
        Seen::Nothing | Seen::Other => inspect == Inspect::Nothing,
        Seen::Hello { .. } => inspect != Inspect::Http,
        Seen::Http => inspect != Inspect::Hello,
    }
}

/// Cloned out, so that no session waits for all others to be visited.
fn open(shard: &Shard) -> Vec<Arc<Tracked>> {
    lock(shard).values().filter_map(Weak::upgrade).collect()
}

fn over(limit: Duration, elapsed: Duration) -> bool {
    !limit.is_zero() && elapsed >= limit
}

/// What is behind these locks is whole after every statement, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const SHARDS: usize = 16;
/// Sessions between two turns of the others: about 50 us.
const TURN: usize = 256;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::policy::fixture::{allow, ask, policy};
    use crate::policy::rule::Rule;
    use crate::proxy::fixture::{connection, proxy, settings};

    /// A verdict from before an `until`, a tunnel from after it: nobody comes back for that one.
    #[tokio::test]
    async fn who_opens_late_is_judged_again() {
        let ended = |until| Rule {
            until: Some(until),
            ..allow(&["tcp://a.test:443"])
        };
        for (until, stays) in [(Timestamp::UNIX_EPOCH, false), (Timestamp::MAX, true)] {
            let (proxy, front) = proxy(&settings(), policy(vec![ended(until)]));
            let connection = connection(&proxy, &front, (Ipv4Addr::LOCALHOST, 1).into());
            let tracked = proxy.tracker.register(1, Entry::Connect, connection);
            tracked.ask(ask("a.test:443"));
            let (policy, now) = (proxy.state.policy(), Timestamp::now());
            let refused = proxy.tracker.rejudge(&policy, now, Instant::now(), End::Expired).await;
            assert_eq!(refused, 0, "it is not open yet");
            assert_eq!(
                tracked.establish(Timestamp::now(), None, policy.generation()),
                stays,
                "{until}"
            );
        }
    }

    /// A policy came into force after the verdict: before the tunnel opened, or later.
    #[tokio::test]
    async fn every_tunnel_is_judged_by_the_policy_in_force() {
        let before = Generation(0);
        for (rules, stays) in [
            (vec![allow(&["tcp://a.test:443"])], true),
            // It was never looked at, and cannot show any more what this rule wants to see.
            (vec![allow(&["a.test"])], false),
            (vec![allow(&["tcp://b.test:443"])], false),
        ] {
            let (proxy, front) = proxy(&settings(), policy(rules));
            let connection = connection(&proxy, &front, (Ipv4Addr::LOCALHOST, 1).into());
            let open = |id| {
                let tracked = proxy.tracker.register(id, Entry::Connect, Arc::clone(&connection));
                tracked.ask(ask("a.test:443"));
                assert_eq!(tracked.establish(Timestamp::now(), None, before), stays);
                tracked
            };
            // More than are visited in one turn.
            let all: Vec<_> = (0..=(SHARDS * TURN) as u64).map(open).collect();
            let (policy, now) = (proxy.state.policy(), Timestamp::now());
            let refused = proxy.tracker.rejudge(&policy, now, Instant::now(), End::Reload).await;
            assert_eq!(refused, if stays { 0 } else { all.len() });
        }
    }
}
