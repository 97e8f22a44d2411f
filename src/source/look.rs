//! A cheap look at a set of files: which there are, and what the file system says of each, without reading them.
//! Must not be trusted alone: it says when to read again, the content decides whether anything changed.
//! Called by the watch, several times a second.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Paths, files, presets};

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
    pub(super) fn at(paths: &Paths) -> Self {
        let mut found = Vec::new();
        let policies = paths.policy.iter().map(|path| (path.clone(), files::list(path)));
        let own = paths
            .presets
            .iter()
            .map(|path| (path.to_path_buf(), presets::list(path)));
        for (path, listed) in policies.chain(own) {
            match listed {
                Ok(files) => found.extend(files.into_iter().map(|file| {
                    let state = Found::at(&file);
                    (file, state)
                })),
                Err(error) => found.push((path, Found::Failed(error.kind()))),
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn every_way_in_which_a_set_can_change_shows() {
        let root = TempDir::new().unwrap();
        let path = |name: &str| root.path().join(name);
        for version in ["..v1", "..v2"] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("policy.yaml"), "allow: []\n").unwrap();
        }
        symlink("..v1", path("..data")).unwrap();
        symlink("..data/policy.yaml", path("policy.yaml")).unwrap();
        let look = || Look::at(&vec![root.path().to_owned()].into());

        let mut last = look();
        assert_eq!(look(), last, "nothing has changed");
        let changes: [(&str, &dyn Fn()); 5] = [
            ("the link is swapped", &|| {
                symlink("..v2", path("..new")).unwrap();
                fs::rename(path("..new"), path("..data")).unwrap();
            }),
            ("a file comes", &|| fs::write(path("more.yaml"), "allow: []\n").unwrap()),
            ("a file is replaced by one of the same size", &|| {
                fs::write(path("new"), "allow: []\n").unwrap();
                fs::rename(path("new"), path("more.yaml")).unwrap();
            }),
            ("a file goes", &|| fs::remove_file(path("more.yaml")).unwrap()),
            ("a link dangles", &|| fs::remove_file(path("..v2/policy.yaml")).unwrap()),
        ];
        for (change, make) in changes {
            make();
            let now = look();
            assert_ne!(now, last, "{change}");
            last = now;
        }
    }

    /// Two writes within one tick of the file system's clock look the same, so a fresh file is read again.
    #[test]
    fn a_fresh_file_is_not_settled() {
        let root = TempDir::new().unwrap();
        let path = root.path().join("policy.yaml");
        fs::write(&path, "allow: []\n").unwrap();
        let look = Look::at(&vec![path].into());
        let now = SystemTime::now();
        assert!(!look.is_settled(now));
        assert!(
            !look.is_settled(now - Duration::from_hours(1)),
            "written in the future of a clock that was set back"
        );
        assert!(look.is_settled(now + Duration::from_secs(4)));
    }
}
