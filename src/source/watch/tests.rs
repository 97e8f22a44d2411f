//! The watch on real files, with everything that editors and the kubelet do to them.
//! Must not wait for time to pass; every step waits for the outcome of a load.
//! Called by the test runner.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::Paths;
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

/// A preset that changes is a new policy, and one that breaks keeps the old one in force.
#[tokio::test]
async fn presets_are_watched_with_the_policy() {
    let preset = |host: &str| {
        format!(
            "about: the shop\nfor: workloads\nsource: https://wiki.example.test\nrows:\n  - {{id: web, clouds: [public], \
             to: {host}, level: required, purpose: the shop}}\n"
        )
    };
    let mut lab = Lab::start(|root| {
        fs::create_dir_all(root.join("presets/team")).unwrap();
        write(&root.join("presets/team/shop.yaml"), &preset("a.example.test"));
        write(&root.join("policy.yaml"), "allow: [{preset: team/shop}]\n");
    });
    assert_eq!(lab.destination(), "a.example.test");
    let shop = lab.root().join("presets/team/shop.yaml");
    write(&shop, &preset("b.example.test"));
    assert_eq!(lab.outcome().await, Outcome::Accepted(Generation(2)));
    assert_eq!(lab.destination(), "b.example.test");
    write(&shop, &preset("\"*\""));
    assert_eq!(lab.outcome().await, Outcome::Refused(Cause::Invalid));
    assert_eq!(lab.destination(), "b.example.test");
    assert!(lab.state.refused().unwrap().problems.contains("team/shop.yaml:5:"));
    fs::create_dir(lab.root().join("presets/more")).unwrap();
    fs::rename(&shop, lab.root().join("presets/more/shop.yaml")).unwrap();
    assert_eq!(lab.outcome().await, Outcome::Refused(Cause::Invalid));
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
        let presets = directory.path().join("presets");
        let source = PolicySource::Files(Paths {
            presets: presets.exists().then(|| presets.into()),
            ..paths.into()
        });
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

    /// Of the only rule.
    fn destination(&self) -> String {
        self.state.policy().rules()[0].to[0].to_string()
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
