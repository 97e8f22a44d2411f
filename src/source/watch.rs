//! Watches the policy files and brings each valid new set into force, within a second of its last write.
//! Must not let go of a good policy: whatever is wrong with the files, the one in force stays, and the refusal is said.
//! Called once, by the app, as a task that ends with the process.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::policy::problem::{Cause, Rejected};
use crate::policy::{Generation, Policy, Problem, SourceText, changes, render};
use crate::state::{RefusedLoad, State};

use super::files::Gathered;
use super::hint::Hint;
use super::look::Look;
use super::{Compiled, PolicySource, bug, compile, files};

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
    /// The moment at which time alone next changes an answer.
    next_change: Option<Timestamp>,
    clock: fn() -> Timestamp,
}

/// Tells texts from one another; a hash suffices, since who writes them can also write what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint(u64);

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
        let mut hint = self.hint();
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
            match stop.run_until_cancelled(self.turn(forced, &mut adopt)).await {
                // New directories may have come into play.
                Some(true) => hint = self.hint(),
                Some(false) => {}
                None => return,
            }
        }
    }

    fn hint(&self) -> Hint {
        match &self.source {
            PolicySource::Builtin => Hint::around(&[]),
            PolicySource::Files(paths) => Hint::around(paths),
        }
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
        let (look, read) = read_stable(&paths).await;
        self.look = Some(look);
        let fingerprint = Fingerprint::of(&read.texts, &read.problems);
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
            spawn_blocking(move || compile(read, now, previous.generation().next(), Some(&previous)))
        };
        let Compiled {
            policy,
            warnings,
            texts,
            ..
        } = compiled.await.unwrap_or_else(|_| Err(bug(texts)))?;
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
        adopt.commit(ready);
        let policy = self.state.policy();
        info!(
            "generation {} of the policy is in force: {}",
            policy.generation(),
            changes(&previous, &policy)
        );
        if !warnings.is_empty() {
            warn!("{}", render(&warnings, &texts, false));
        }
        adopt.loaded(Outcome::Accepted(policy.generation()));
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

impl Fingerprint {
    fn of(texts: &[SourceText], problems: &[Problem]) -> Self {
        let mut hasher = DefaultHasher::new();
        for SourceText { name, text } in texts {
            (name, text).hash(&mut hasher);
        }
        for problem in problems {
            ("problem", &problem.file, &problem.message).hash(&mut hasher);
        }
        Self(hasher.finish())
    }
}

/// Reads until a set has held still, so that no half-written file and no half-swapped directory is judged.
async fn read_stable(paths: &Arc<[PathBuf]>) -> (Look, Gathered) {
    loop {
        let read = {
            let paths = paths.clone();
            blocking(move || (Look::at(&paths), files::read(&paths)))
        };
        let (before, read) = read.await;
        sleep(STILL).await;
        if look(paths).await == before {
            return (before, read);
        }
    }
}

async fn look(paths: &Arc<[PathBuf]>) -> Look {
    let paths = paths.clone();
    blocking(move || Look::at(&paths)).await
}

/// Runs what touches files off the async threads; a panic in it goes on here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is going away, and this task with it.
            Err(_) => std::future::pending().await,
        },
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
/// How long files must hold still before they are judged.
const STILL: Duration = Duration::from_millis(60);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

    use tempfile::TempDir;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_valid_change_comes_into_force() {
        let mut lab = Lab::start(|root| write(&root.join("policy.yaml"), A));
        write(&lab.root().join("policy.yaml"), B);
        assert_eq!(lab.outcome().await, Outcome::Accepted(Generation(2)));
        assert_eq!(lab.allowed(), ["b.example.test"]);
    }

    #[tokio::test]
    async fn a_directory_gains_and_loses_files() {
        let mut lab = Lab::start(|root| {
            fs::create_dir(root.join("teams")).unwrap();
            write(&root.join("teams/a.yaml"), A);
        });
        write(&lab.root().join("teams/b.yml"), B);
        assert_eq!(lab.outcome().await, Outcome::Accepted(Generation(2)));
        assert_eq!(lab.allowed(), ["a.example.test", "b.example.test"]);
        fs::remove_file(lab.root().join("teams/a.yaml")).unwrap();
        assert_eq!(lab.outcome().await, Outcome::Accepted(Generation(3)));
        assert_eq!(lab.allowed(), ["b.example.test"]);
    }

    /// J07: the link swap of a mounted ConfigMap.
    #[tokio::test]
    async fn the_link_of_a_mounted_config_map_is_swapped() {
        let mut lab = Lab::start(|root| config_map(root, "v1", A));
        config_map(lab.root(), "v2", B);
        assert_eq!(lab.outcome().await, Outcome::Accepted(Generation(2)));
        assert_eq!(lab.allowed(), ["b.example.test"]);
    }

    /// J07: two swaps in a row; each accepted set is one generation, and the last one wins.
    #[tokio::test]
    async fn two_swaps_at_once_end_with_the_second() {
        let mut lab = Lab::start(|root| config_map(root, "v1", A));
        config_map(lab.root(), "v2", B);
        config_map(lab.root(), "v3", C);
        let mut accepted = 1;
        while lab.allowed() != ["c.example.test"] {
            accepted += 1;
            assert_eq!(lab.outcome().await, Outcome::Accepted(Generation(accepted)));
        }
        assert_eq!(lab.state.policy().generation(), Generation(accepted));
    }

    /// J07, J08: nothing half-written or empty comes into force, and nothing is lost while it stands there.
    #[tokio::test]
    async fn half_written_and_empty_files_are_refused_until_they_are_whole() {
        let mut lab = Lab::start(|root| write(&root.join("policy.yaml"), A));
        for broken in [
            "allow: [b.example.te",
            "",
            "# nothing\n",
            "allow: [*.example.test]\n",
            "allow: [\"*\"]\n",
        ] {
            write(&lab.root().join("policy.yaml"), broken);
            assert_eq!(lab.outcome().await, Outcome::Refused(Cause::Invalid), "{broken:?}");
            assert_eq!(lab.allowed(), ["a.example.test"]);
            let refused = lab.state.refused().unwrap();
            assert!(refused.problems.contains("policy.yaml"), "{}", refused.problems);
        }
        write(&lab.root().join("policy.yaml"), B);
        assert_eq!(lab.outcome().await, Outcome::Accepted(Generation(2)));
        assert!(lab.state.refused().is_none());
    }

    /// J02: missing never means "allow".
    #[tokio::test]
    async fn files_that_disappear_leave_the_last_good_policy() {
        let mut lab = Lab::start(|root| write(&root.join("policy.yaml"), A));
        fs::remove_file(lab.root().join("policy.yaml")).unwrap();
        assert_eq!(lab.outcome().await, Outcome::Refused(Cause::Unreadable));
        assert_eq!(lab.allowed(), ["a.example.test"]);
        write(&lab.root().join("policy.yaml"), A);
        assert_eq!(lab.outcome().await, Outcome::Restored);
        assert_eq!(lab.state.policy().generation(), Generation(1));
        assert!(lab.state.refused().is_none());
    }

    /// J14: an older set that comes back is a generation of its own; the same set again is none.
    #[tokio::test]
    async fn an_old_set_is_a_new_generation_and_the_same_set_is_none() {
        let mut lab = Lab::start(|root| write(&root.join("policy.yaml"), A));
        write(&lab.root().join("policy.yaml"), B);
        assert_eq!(lab.outcome().await, Outcome::Accepted(Generation(2)));
        replace(&lab.root().join("policy.yaml"), B);
        lab.force.notify_one();
        write(&lab.root().join("policy.yaml"), A);
        assert_eq!(lab.outcome().await, Outcome::Accepted(Generation(3)));
    }

    #[tokio::test]
    async fn a_policy_that_this_process_cannot_serve_is_refused_until_it_can() {
        let mut lab = Lab::start(|root| write(&root.join("policy.yaml"), A));
        lab.unfit.store(true, Ordering::SeqCst);
        write(&lab.root().join("policy.yaml"), B);
        assert_eq!(lab.outcome().await, Outcome::Refused(Cause::Unfit));
        assert_eq!(lab.allowed(), ["a.example.test"]);
        lab.unfit.store(false, Ordering::SeqCst);
        lab.force.notify_one();
        assert_eq!(lab.outcome().await, Outcome::Accepted(Generation(2)));
    }

    #[tokio::test]
    async fn time_alone_tells_who_waits_without_a_new_generation() {
        static NOW: AtomicI64 = AtomicI64::new(0);
        let day = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
        NOW.store(day("2026-06-01T12:00:00Z"), Ordering::SeqCst);
        let text = "allow:\n  - {to: [a.example.test], until: 2026-06-01}\n";
        let lab = Lab::at(
            || Timestamp::from_second(NOW.load(Ordering::SeqCst)).unwrap(),
            |root| {
                write(&root.join("policy.yaml"), text);
            },
        );
        let mut changes = lab.state.changes();
        changes.mark_unchanged();
        NOW.store(day("2026-06-02T00:00:00Z"), Ordering::SeqCst);
        timeout(PATIENCE, changes.changed())
            .await
            .expect("nobody was told")
            .unwrap();
        assert_eq!(*changes.borrow(), Generation(1));
    }

    #[tokio::test]
    async fn it_stops_when_told() {
        let lab = Lab::start(|root| write(&root.join("policy.yaml"), A));
        lab.stop.cancel();
        timeout(PATIENCE, lab.task).await.expect("it goes on").unwrap();
    }

    /// A directory with a policy, and the watch on it.
    struct Lab {
        directory: TempDir,
        state: Arc<State>,
        outcomes: mpsc::Receiver<Outcome>,
        unfit: Arc<AtomicBool>,
        force: Arc<Notify>,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    impl Lab {
        fn start(make: impl FnOnce(&Path)) -> Self {
            Self::at(Timestamp::now, make)
        }

        /// Watches `policy.yaml`, `teams` or a mounted ConfigMap, whichever was made.
        fn at(clock: fn() -> Timestamp, make: impl FnOnce(&Path)) -> Self {
            let directory = TempDir::new().unwrap();
            make(directory.path());
            let places = ["policy.yaml", "teams"].map(|name| directory.path().join(name));
            let paths: Vec<_> = places.into_iter().filter(|path| path.exists()).collect();
            let source = PolicySource::Files(paths.into());
            let compiled = source
                .compile(clock())
                .unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
            let (state, mut watch) = source.start(compiled, clock());
            watch.clock = clock;
            watch.next_change = state.policy().next_change(clock());
            let (told, outcomes) = mpsc::channel(16);
            let unfit = Arc::new(AtomicBool::new(false));
            let (force, stop) = (watch.force(), CancellationToken::new());
            let adopt = Recorder {
                told,
                unfit: unfit.clone(),
            };
            let task = tokio::spawn(watch.run(adopt, stop.clone()));
            Self {
                directory,
                state,
                outcomes,
                unfit,
                force,
                stop,
                task,
            }
        }

        fn root(&self) -> &Path {
            self.directory.path()
        }

        async fn outcome(&mut self) -> Outcome {
            timeout(PATIENCE, self.outcomes.recv())
                .await
                .expect("nothing was loaded")
                .unwrap()
        }

        fn allowed(&self) -> Vec<String> {
            let policy = self.state.policy();
            policy.rules().iter().map(|rule| rule.name.to_string()).collect()
        }
    }

    struct Recorder {
        told: mpsc::Sender<Outcome>,
        unfit: Arc<AtomicBool>,
    }

    impl Adopt for Recorder {
        type Ready = ();

        async fn prepare(&mut self, policy: &Policy) -> Result<(), Vec<Problem>> {
            if self.unfit.load(Ordering::SeqCst) {
                return Err(bug(vec![SourceText {
                    name: policy.files()[0].clone(),
                    text: "".into(),
                }])
                .problems);
            }
            Ok(())
        }

        fn commit(&mut self, (): ()) {}

        fn loaded(&mut self, outcome: Outcome) {
            self.told.try_send(outcome).unwrap();
        }
    }

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
    }

    /// As careful editors do.
    fn replace(path: &Path, text: &str) {
        let new = path.with_extension("new");
        write(&new, text);
        fs::rename(new, path).unwrap();
    }

    /// As the kubelet does: a directory per version, a link to the newest, links to its files.
    fn config_map(root: &Path, version: &str, text: &str) {
        let data = format!("..{version}");
        fs::create_dir(root.join(&data)).unwrap();
        write(&root.join(&data).join("policy.yaml"), text);
        symlink(&data, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        if !root.join("policy.yaml").exists() {
            symlink("..data/policy.yaml", root.join("policy.yaml")).unwrap();
        }
    }

    const A: &str = "allow: [a.example.test]\n";
    const B: &str = "allow: [b.example.test]\n";
    const C: &str = "allow: [c.example.test]\n";
    /// Far more than any step takes, also on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(20);
}
