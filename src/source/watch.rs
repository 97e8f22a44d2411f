//! Watches the policy files and brings each valid new set into force, within a second of its last write.
//! Must not let go of a good policy: whatever is wrong with the files, the one in force stays, and the refusal is said.
//! Called once, by the app, as a task that ends with the process.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::policy::problem::{Cause, Rejected};
use crate::policy::{Generation, Policy, Problem, SourceText, changes, render};
use crate::state::{RefusedLoad, State};

use super::background::in_the_background;
use super::files::Gathered;
use super::hint::Hint;
use super::look::Look;
use super::reading::{Fingerprint, look, read_stable};
use super::{Compiled, PolicySource, bug, compile};

/// What the rest of the process does around a new policy.
pub trait Adopt: Send {
    /// What was prepared: sockets that are bound and not yet served.
    type Ready: Send;

    /// Does everything that can fail before the policy comes into force: all of it, or nothing with every problem.
    fn prepare(&mut self, policy: &Policy) -> impl Future<Output = Result<Self::Ready, Vec<Problem>>> + Send;

    /// The policy is in force: serve what was prepared, close what is no longer wanted.
    fn commit(&mut self, ready: Self::Ready);

    /// Told of the outcome of every load after the first, for the metrics.
    fn loaded(&mut self, outcome: Outcome) {
        let _ = outcome;
    }
}

/// How a load ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Accepted(Generation),
    Refused(Cause),
    /// The files are again those in force, after others had been refused.
    Restored,
}

/// Follows the files of a policy.
#[derive(Debug)]
pub struct Watch {
    source: PolicySource,
    state: Arc<State>,
    /// Of the texts in force.
    in_force: Fingerprint,
    /// Of the texts, or of the problems in reading them, that were judged last.
    judged: Fingerprint,
    /// As of the last reading.
    look: Option<Look>,
    force: Arc<Notify>,
    /// Policies that are no longer in force, until nobody reads them any more.
    retired: Vec<Arc<Policy>>,
    /// The moment at which time alone next changes an answer.
    next_change: Option<Timestamp>,
    clock: fn() -> Timestamp,
}

impl Watch {
    pub(super) fn new(source: PolicySource, state: Arc<State>, texts: &[SourceText]) -> Self {
        let in_force = Fingerprint::of(texts, &[]);
        let clock = Timestamp::now;
        let next_change = state.policy().next_change(clock());
        Self {
            source,
            state,
            in_force,
            judged: in_force,
            look: None,
            force: Arc::default(),
            retired: Vec::new(),
            next_change,
            clock,
        }
    }

    /// Notified, it makes the watch read the files at once and judge them even if they were refused before, as SIGHUP does.
    pub fn force(&self) -> Arc<Notify> {
        self.force.clone()
    }

    /// Runs until stopped. SIGHUP is caught from the call on, not from the first poll: caught too late, it kills.
    pub fn run<A: Adopt>(self, adopt: A, stop: CancellationToken) -> impl Future<Output = ()> + Send {
        let hangup = signal(SignalKind::hangup())
            .inspect_err(|error| warn!("SIGHUP will not reload the policy: {error}"))
            .ok();
        self.watch(adopt, stop, hangup)
    }

    async fn watch<A: Adopt>(mut self, mut adopt: A, stop: CancellationToken, mut hangup: Option<Signal>) {
        let mut hint = self.hint(None);
        let mut tick = interval(POLL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let forced = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = hung_up(hangup.as_mut()) => true,
                () = self.force.notified() => true,
                () = hint.moved() => false,
                _ = tick.tick() => false,
            };
            self.expire();
            self.release();
            match stop.run_until_cancelled(self.turn(forced, &mut adopt)).await {
                // New directories may have come into play.
                Some(true) => hint = self.hint(hint.missing()),
                Some(false) => {}
                None => return,
            }
        }
    }

    /// Says what keeps hints from coming, unless that was said before.
    fn hint(&self, said: Option<&str>) -> Hint {
        let hint = match &self.source {
            PolicySource::Builtin => Hint::around(&[]),
            PolicySource::Files(paths) => Hint::around(&paths.all()),
        };
        if let Some(why) = hint.missing().filter(|why| Some(*why) != said) {
            warn!(
                "the kernel does not say when the policy files change ({why}); they are looked at every {POLL:?} all the same"
            );
        }
        hint
    }

    /// Tells who holds tunnels that time alone changed an answer.
    fn expire(&mut self) {
        let now = (self.clock)();
        if self.next_change.is_some_and(|at| at <= now) {
            info!("a rule or the report mode has expired; open tunnels are judged again");
            self.next_change = self.state.policy().next_change(now);
            self.state.rejudge();
        }
    }

    /// Lets go of the policies that nobody reads any more. Until then they are held here, so that the last reader is never
    /// a session: dropping a hundred thousand rules takes as long as opening hundreds of tunnels.
    fn release(&mut self) {
        let unread = |policy: &Arc<Policy>| Arc::strong_count(policy) == 1;
        let (done, read) = std::mem::take(&mut self.retired).into_iter().partition(unread);
        self.retired = read;
        let done: Vec<_> = done;
        if !done.is_empty() {
            drop(in_the_background("drop", || drop(done)));
        }
    }

    /// Looks once, and loads what has changed. Says whether anything has.
    async fn turn<A: Adopt>(&mut self, forced: bool, adopt: &mut A) -> bool {
        let PolicySource::Files(paths) = &self.source else {
            if forced {
                info!("the built-in policy is in force; there is nothing to reload");
            }
            return false;
        };
        let paths = paths.clone();
        if !forced && self.is_unchanged(&look(&paths).await) {
            return false;
        }
        let (look, read, fingerprint) = read_stable(&paths).await;
        self.look = Some(look);
        if fingerprint == self.judged && !forced {
            return false;
        }
        self.judged = fingerprint;
        if fingerprint == self.in_force {
            self.restore(adopt);
            return true;
        }
        match self.load(read, adopt).await {
            Ok(()) => self.in_force = fingerprint,
            Err(rejected) => self.refuse(&rejected, adopt),
        }
        true
    }

    fn is_unchanged(&self, look: &Look) -> bool {
        look.is_settled(SystemTime::now()) && self.look.as_ref() == Some(look)
    }

    async fn load<A: Adopt>(&mut self, read: Gathered, adopt: &mut A) -> Result<(), Rejected> {
        let previous = self.state.policy();
        let now = (self.clock)();
        let texts = read.texts.clone();
        let compiled = {
            let previous = previous.clone();
            in_the_background("compile", move || {
                let compiled = compile(read, now, previous.generation().next(), Some(&previous))?;
                compiled.policy.needs().prepare();
                let changes = changes(&previous, &compiled.policy);
                Ok((compiled, changes))
            })
        };
        let (compiled, changes) = compiled.await.unwrap_or_else(|_| Err(bug(texts)))?;
        let Compiled {
            policy,
            warnings,
            texts,
            tags,
            ..
        } = compiled;
        let ready = match adopt.prepare(&policy).await {
            Ok(ready) => ready,
            Err(problems) => {
                return Err(Rejected {
                    cause: Cause::Unfit,
                    problems,
                    texts,
                });
            }
        };
        let now = (self.clock)();
        self.next_change = policy.next_change(now);
        self.state.publish(policy, now);
        self.retired.push(previous);
        adopt.commit(ready);
        let generation = self.state.policy().generation();
        info!("generation {generation} of the policy is in force: {changes}");
        for tag in tags {
            info!("{tag}");
        }
        if !warnings.is_empty() {
            warn!("{}", render(&warnings, &texts, false));
        }
        adopt.loaded(Outcome::Accepted(generation));
        Ok(())
    }

    fn refuse<A: Adopt>(&self, rejected: &Rejected, adopt: &mut A) {
        let problems = rejected.render(false);
        let generation = self.state.policy().generation();
        error!("the new policy is refused, generation {generation} stays in force\n{problems}");
        self.state.refuse(RefusedLoad {
            at: (self.clock)(),
            problems,
        });
        adopt.loaded(Outcome::Refused(rejected.cause));
    }

    /// The files are those in force: nothing to load, but a refusal of others no longer stands.
    fn restore<A: Adopt>(&self, adopt: &mut A) {
        let generation = self.state.policy().generation();
        if self.state.refused().is_some() {
            self.state.restore();
            info!("the policy files are again those of generation {generation}, which stayed in force");
            adopt.loaded(Outcome::Restored);
        } else {
            info!("the policy files have not changed; generation {generation} stays in force");
        }
    }
}

async fn hung_up(signal: Option<&mut Signal>) {
    let received = match signal {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if received.is_none() {
        std::future::pending::<()>().await;
    }
}

/// How often the files are looked at where no hint comes.
const POLL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
