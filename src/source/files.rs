//! From paths to texts: every policy file of a set, whole, in a fixed order.
//! Must not skip what it cannot read: a missing, empty or unreadable path is a problem, never an empty policy.
//! Called by the first load and by the watch, off the async threads.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Paths, presets};
use crate::policy::{Problem, Severity, SourceText, Span};

/// The files of a set, and what kept the others from being read.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Policies, then presets.
    pub(super) texts: Vec<SourceText>,
    /// The names of those presets.
    pub(super) presets: Vec<Arc<str>>,
    pub(super) problems: Vec<Problem>,
}

/// Reads all files that the paths name: files as they are, directories for the files in them that end in `.yaml` or
/// `.yml`, sorted by name. Entries that begin with a dot are left out (a mounted ConfigMap keeps its versions there),
/// symbolic links are followed. Then the presets, by the same rules.
pub(super) fn read(paths: &Paths) -> Gathered {
    let mut set = Set::default();
    for path in &*paths.policy {
        set.add_path(path);
    }
    if let Some(directory) = &paths.presets {
        set.add_presets(directory);
    }
    set.read
}

/// The files of a path in their order, without reading them.
pub(super) fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        let policy = Path::new(&name)
            .extension()
            .is_some_and(|kind| kind == "yaml" || kind == "yml");
        if policy && !hidden {
            files.push(path.join(name));
        }
    }
    files.sort();
    Ok(files)
}

/// A set of files as it is being read.
#[derive(Default)]
struct Set {
    read: Gathered,
    bytes: u64,
    /// Device and inode of what was read, and under which name.
    seen: HashMap<(u64, u64), String>,
}

impl Set {
    fn add_path(&mut self, path: &Path) {
        match list(path) {
            Ok(files) if files.is_empty() => self.problem(
                path,
                "this directory holds no policy file",
                "put at least one *.yaml file into it; a policy that denies everything is `allow: []`",
            ),
            Ok(files) => files.iter().for_each(|file| self.add_file(file)),
            Err(error) => self.failed(path, &error),
        }
    }

    fn add_presets(&mut self, directory: &Path) {
        let found = match presets::list(directory) {
            Ok(found) if found.is_empty() => {
                self.problem(
                    directory,
                    "this directory holds no preset",
                    "a preset is a file FOLDER/NAME.yaml in it, such as aks/core.yaml",
                );
                return;
            }
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let help = "create it, or name another with `presets` in the settings or --presets";
                return self.problem(directory, "there is no such directory", help);
            }
            Err(error) => return self.failed(directory, &error),
        };
        for file in found {
            let Some(name) = presets::name(directory, &file) else {
                let help =
                    "a preset is a file FOLDER/NAME.yaml: lower-case letters, digits and `-`, such as aks/core.yaml";
                self.problem(&file, "this is not the name of a preset", help);
                continue;
            };
            if self.read.presets.contains(&name) {
                let message = format!("there is a second file for the preset `{name}`");
                self.problem(&file, &message, "keep one of *.yaml and *.yml");
                continue;
            }
            let before = self.read.texts.len();
            self.add_file(&file);
            if self.read.texts.len() > before {
                self.read.presets.push(name);
            }
        }
    }

    fn add_file(&mut self, path: &Path) {
        if self.read.texts.len() >= MAX_FILES {
            // Said once: the next file over the limit would say the same.
            if self.read.texts.len() == MAX_FILES
                && !self
                    .read
                    .problems
                    .iter()
                    .any(|problem| problem.message == TOO_MANY_FILES)
            {
                self.problem(path, TOO_MANY_FILES, "join some of them; a policy may have 1000 files");
            }
            return;
        }
        match self.text(path) {
            Ok(Some(text)) => self.read.texts.push(text),
            Ok(None) => {}
            Err(error) => self.failed(path, &error),
        }
    }

    /// `None` where a problem was noted.
    fn text(&mut self, path: &Path) -> io::Result<Option<SourceText>> {
        let found = fs::metadata(path)?;
        if !found.is_file() {
            self.problem(
                path,
                "this is not a regular file",
                "name a file, or a directory of *.yaml files",
            );
            return Ok(None);
        }
        if let Some(first) = self.seen.insert((found.dev(), found.ino()), path.display().to_string()) {
            let message = format!("this is the same file as `{first}`");
            self.problem(path, &message, "name each policy file once");
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let room = MAX_BYTES.saturating_sub(self.bytes);
        let length = File::open(path)?.take(room + 1).read_to_end(&mut bytes)? as u64;
        if length > room {
            self.problem(
                path,
                "the policy is larger than 32 MiB",
                "split off what this cluster does not need",
            );
            return Ok(None);
        }
        self.bytes += length;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(SourceText {
                name: name(path),
                text: text.into(),
            })),
            Err(error) => {
                // Up to there the text is the same, and the place is shown in it.
                let start = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                self.problem(path, "this is not UTF-8", "save the file as UTF-8");
                if let Some(problem) = self.read.problems.last_mut() {
                    let end = start + char::REPLACEMENT_CHARACTER.len_utf8();
                    problem.span = Some(Span { start, end });
                }
                self.read.texts.push(SourceText {
                    name: name(path),
                    text: text.into(),
                });
                Ok(None)
            }
        }
    }

    fn failed(&mut self, path: &Path, error: &io::Error) {
        let (message, help) = match error.kind() {
            io::ErrorKind::NotFound => (
                "there is no such file or directory".to_owned(),
                "a missing policy never means \"allow\"; create the file, or name another with --policy",
            ),
            io::ErrorKind::PermissionDenied => (
                "this cannot be read: permission denied".to_owned(),
                "let the user that sluicegate runs as read it",
            ),
            _ => (
                format!("this cannot be read: {error}"),
                "check the path and its file system",
            ),
        };
        self.problem(path, &message, help);
    }

    fn problem(&mut self, path: &Path, message: &str, help: &str) {
        self.read.problems.push(Problem {
            severity: Severity::Error,
            file: name(path),
            span: None,
            message: message.to_owned(),
            label: String::new(),
            help: Some(help.to_owned()),
            lint: None,
        });
    }
}

fn name(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}

const TOO_MANY_FILES: &str = "this file is one too many";
const MAX_FILES: usize = 1000;
const MAX_BYTES: u64 = 32 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_directory_is_its_policy_files_in_the_order_of_their_names() {
        let root = TempDir::new().unwrap();
        for name in [
            "b.yaml",
            "a.yml",
            "notes.md",
            ".hidden.yaml",
            "..2026_01_01.yaml",
            "c.yaml.swp",
        ] {
            fs::write(root.path().join(name), name).unwrap();
        }
        fs::create_dir(root.path().join("..data")).unwrap();
        fs::write(root.path().join("..data/z.yaml"), "z").unwrap();
        symlink("..data/z.yaml", root.path().join("z.yaml")).unwrap();
        let read = read(&vec![root.path().to_owned()].into());
        assert!(read.problems.is_empty(), "{:?}", read.problems);
        let texts: Vec<_> = read.texts.iter().map(|text| &*text.text).collect();
        assert_eq!(texts, ["a.yml", "b.yaml", "z"]);
    }

    #[test]
    fn what_cannot_be_read_is_said_all_at_once() {
        let root = TempDir::new().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir(path("empty")).unwrap();
        fs::create_dir_all(path("folder/inner.yaml")).unwrap();
        fs::write(path("latin1.yaml"), b"allow: []\n# caf\xe9\n").unwrap();
        fs::write(path("good.yaml"), "allow: []\n").unwrap();
        symlink("good.yaml", path("again.yaml")).unwrap();
        symlink("nowhere.yaml", path("dangling.yaml")).unwrap();
        let names = [
            "missing.yaml",
            "empty",
            "folder",
            "latin1.yaml",
            "good.yaml",
            "again.yaml",
            "dangling.yaml",
        ];
        let read = read(&Paths::from(names.map(path).to_vec()));
        assert_eq!(read.texts.len(), 2, "what can be read is there, and what is quoted");
        let shown = crate::policy::render(&read.problems, &read.texts, false);
        assert!(shown.contains("latin1.yaml:2:6\n"), "{shown}");
        let said: Vec<_> = read
            .problems
            .iter()
            .map(|problem| (&*problem.file, &*problem.message))
            .collect();
        let full = |name: &str| path(name).display().to_string();
        let same = format!("this is the same file as `{}`", full("good.yaml"));
        assert_eq!(
            said,
            [
                (&*full("missing.yaml"), "there is no such file or directory"),
                (&*full("empty"), "this directory holds no policy file"),
                (&*full("folder/inner.yaml"), "this is not a regular file"),
                (&*full("latin1.yaml"), "this is not UTF-8"),
                (&*full("again.yaml"), &*same),
                (&*full("dangling.yaml"), "there is no such file or directory"),
            ]
        );
    }

    #[test]
    fn a_set_has_bounds() {
        let root = TempDir::new().unwrap();
        let half = usize::try_from(MAX_BYTES / 2 + 1).unwrap();
        for name in ["a.yaml", "b.yaml"] {
            fs::write(root.path().join(name), "#".repeat(half)).unwrap();
        }
        let rejected = read(&vec![root.path().to_owned()].into());
        assert_eq!(rejected.problems.len(), 1);
        assert!(rejected.problems[0].file.ends_with("b.yaml"));

        let many = TempDir::new().unwrap();
        for number in 0..MAX_FILES + 5 {
            fs::write(many.path().join(format!("{number:04}.yaml")), "allow: []\n").unwrap();
        }
        let rejected = read(&vec![many.path().to_owned()].into());
        assert_eq!(rejected.problems.len(), 1, "said once");
        assert_eq!(rejected.problems[0].message, TOO_MANY_FILES);
    }
}
