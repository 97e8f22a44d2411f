//! A cheap look at a set of files: which there are, and what the file system says of each, without reading them.
//! Must not be trusted alone: it says when to read again, the content decides whether anything changed.
//! Called by the watch, several times a second.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::files;

/// What a set of paths looked like at one moment. Equal looks mean equal content, unless a file changed so shortly
/// before that the file system's clock cannot tell: see [`Look::is_settled`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Look {
    found: Vec<(PathBuf, Found)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Links are followed, so that the swap of a link shows as another inode.
    File {
        device: u64,
        inode: u64,
        size: u64,
        modified: (i64, i64),
        changed: (i64, i64),
    },
    Failed(io::ErrorKind),
}

impl Look {
    pub(super) fn at(paths: &[PathBuf]) -> Self {
        let mut found = Vec::new();
        for path in paths {
            match files::list(path) {
                Ok(files) => found.extend(files.into_iter().map(|file| {
                    let state = Found::at(&file);
                    (file, state)
                })),
                Err(error) => found.push((path.clone(), Found::Failed(error.kind()))),
            }
        }
        Self { found }
    }

    /// Whether every change so far is old enough to be told from a next one by its time stamp.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let Ok(now) = now.duration_since(UNIX_EPOCH) else {
            return false;
        };
        self.found.iter().all(|(_, found)| match found {
            Found::File {
                changed: (seconds, _), ..
            } => u64::try_from(*seconds).is_ok_and(|changed| changed + SETTLED.as_secs() < now.as_secs()),
            Found::Failed(_) => true,
        })
    }
}

impl Found {
    fn at(file: &std::path::Path) -> Self {
        match fs::metadata(file) {
            Ok(found) => Self::File {
                device: found.dev(),
                inode: found.ino(),
                size: found.size(),
                modified: (found.mtime(), found.mtime_nsec()),
                changed: (found.ctime(), found.ctime_nsec()),
            },
            Err(error) => Self::Failed(error.kind()),
        }
    }
}

/// Longer than the time stamps of any file system are coarse (2 s on FAT and some network mounts).
const SETTLED: Duration = Duration::from_secs(2);
