//! Reading a set of files at a moment at which nobody writes them, and telling one content from another.
//! Must not judge what the files say, and must not touch files on the async threads.
//! Called by the watch.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::resume_unwind;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Paths;
use super::background::in_the_background;
use super::files::{self, Gathered};
use super::look::Look;
use crate::policy::{Problem, SourceText};

/// Tells texts from one another; a hash suffices, since who writes them can also write what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

/// Reads until a set has held still, so that no half-written file and no half-swapped directory is judged.
pub(super) async fn read_stable(paths: &Paths) -> (Look, Gathered, Fingerprint) {
    loop {
        let read = {
            let paths = paths.clone();
            move || read(&paths)
        };
        let (before, gathered, fingerprint) = match in_the_background("read", read.clone()).await {
            Ok(read) => read,
            // Without a thread for it there may still be one of the runtime's; and a panic goes on here.
            Err(_) => blocking(read).await,
        };
        sleep(STILL).await;
        if look(paths).await == before {
            return (before, gathered, fingerprint);
        }
    }
}

fn read(paths: &Paths) -> (Look, Gathered, Fingerprint) {
    let look = Look::at(paths);
    let gathered = files::read(paths);
    let fingerprint = Fingerprint::of(&gathered.texts, &gathered.problems);
    (look, gathered, fingerprint)
}

pub(super) async fn look(paths: &Paths) -> Look {
    let paths = paths.clone();
    blocking(move || Look::at(&paths)).await
}

impl Fingerprint {
    pub(super) fn of(texts: &[SourceText], problems: &[Problem]) -> Self {
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

/// How long files must hold still before they are judged.
const STILL: Duration = Duration::from_millis(60);
