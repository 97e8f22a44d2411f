//! A hint from the kernel that something moved near the policy files.
//! Must not be relied on: mounts without inotify, exhausted watches and lost events only make a reload wait for the
//! next look. Called by the watch, which looks at the files themselves whenever the hint comes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Watches the directories around a set of paths.
#[derive(Debug)]
pub(super) struct Hint {
    events: mpsc::Receiver<()>,
    /// Kept for its thread; `None` where the kernel gives no watch.
    _watcher: Option<RecommendedWatcher>,
    /// Why some or all hints will not come.
    missing: Option<String>,
}

impl Hint {
    pub(super) fn around(paths: &[PathBuf]) -> Self {
        // One place: any number of events between two looks is one hint.
        let (sender, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| is_change(event.kind)) {
                let _ = sender.try_send(());
            }
        });
        let mut missing = None;
        let watcher = watcher.inspect_err(|error| missing = Some(error.to_string()));
        let watcher = watcher.ok().map(|mut watcher| {
            for directory in directories(paths) {
                // One that cannot be watched is no reason to give up the others.
                if let Err(error) = watcher.watch(&directory, RecursiveMode::NonRecursive)
                    && !matches!(error.kind, ErrorKind::PathNotFound)
                {
                    missing.get_or_insert_with(|| format!("{}: {error}", directory.display()));
                }
            }
            watcher
        });
        Self {
            events,
            _watcher: watcher,
            missing,
        }
    }

    /// Why some or all hints will not come, where that is so.
    pub(super) fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// Returns when something moved; never, where there are no hints.
    pub(super) async fn moved(&mut self) {
        if self.events.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// The directories whose entries decide what a path means: its own, if it is one, those that hold it, and those that
/// hold what it links to.
fn directories(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    for path in paths {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        for path in [path.canonicalize().unwrap_or_else(|_| path.clone()), path] {
            directories.extend(path.parent().map(Path::to_owned));
            if path.is_dir() {
                directories.insert(path);
            }
        }
    }
    directories
}

/// Our own reading opens and closes files; only writing counts.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}
