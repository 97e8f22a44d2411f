//! A directory of presets: which files it holds, and what each is called.
//! Must not read them, nor leave out what is misnamed: a preset that is not there is not the one of the program.
//! Called by the reading of files and by the looks at them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files;

/// Every file of the folders in a directory, and those that lie beside the folders and have no name; sorted.
pub(super) fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = files::list(directory)?;
    for folder in folders(directory)? {
        found.extend(files::list(&folder)?);
    }
    Ok(found)
}

/// The folders in a directory. Those that begin with a dot are left out: a mounted ConfigMap keeps its versions there.
pub(super) fn folders(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && fs::metadata(entry.path()).is_ok_and(|found| found.is_dir()) {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

/// What rules call a file: `aks/core` for `aks/core.yaml`.
pub(super) fn name(directory: &Path, file: &Path) -> Option<Arc<str>> {
    let name = file.strip_prefix(directory).ok()?.with_extension("");
    let name = name.to_str()?;
    let is_word = |word: &str| {
        let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !word.is_empty() && word.bytes().all(inside)
    };
    let (folder, own) = name.split_once('/')?;
    (is_word(folder) && is_word(own)).then(|| name.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::super::Paths;
    use super::*;

    #[test]
    fn a_preset_is_called_by_its_folder_and_file() {
        let root = TempDir::new().unwrap();
        let path = |name: &str| root.path().join(name);
        for folder in ["p/aks", "p/..data/team"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        symlink("..data/team", path("p/team")).unwrap();
        for file in [
            "policy.yaml",
            "p/aks/core.yaml",
            "p/..data/team/web.yml",
            "p/aks/.hidden.yaml",
        ] {
            fs::write(path(file), file).unwrap();
        }
        let paths = Paths {
            policy: Arc::from([path("policy.yaml")]),
            presets: Some(path("p").into()),
        };
        let read = files::read(&paths);
        assert!(read.problems.is_empty(), "{:?}", read.problems);
        let names: Vec<_> = read.presets.iter().map(|name| &**name).collect();
        let texts: Vec<_> = read.texts.iter().map(|text| &*text.text).collect();
        assert_eq!(names, ["aks/core", "team/web"]);
        assert_eq!(texts, ["policy.yaml", "p/aks/core.yaml", "p/..data/team/web.yml"]);

        for (file, message) in [
            ("p/loose.yaml", "this is not the name of a preset"),
            ("p/aks/Core.yaml", "this is not the name of a preset"),
            ("p/aks/core.yml", "there is a second file for the preset `aks/core`"),
        ] {
            fs::write(path(file), "x").unwrap();
            let read = files::read(&paths);
            let said: Vec<_> = read.problems.iter().map(|problem| &*problem.message).collect();
            assert_eq!(said, [message], "{file}");
            fs::remove_file(path(file)).unwrap();
        }
        for gone in ["nowhere", "p/aks/core.yaml"] {
            let paths = Paths {
                presets: Some(path(gone).into()),
                ..paths.clone()
            };
            assert_eq!(files::read(&paths).problems.len(), 1, "{gone}");
        }
        fs::create_dir(path("empty")).unwrap();
        let empty = Paths {
            presets: Some(path("empty").into()),
            ..paths
        };
        let read = files::read(&empty);
        assert_eq!(read.problems[0].message, "this directory holds no preset");
    }
}
