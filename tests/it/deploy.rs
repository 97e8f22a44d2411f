//! What `deploy/` says to a cluster: objects that fit each other and the settings, alerts and panels on metrics that exist.
//! Must not do what kustomize does beyond collecting files; single objects are judged by `manifests`.
//! Called by every test run; `promtool` belongs to the ring of programs that are not ours.

mod monitoring;
mod promql;
mod promtool;
mod references;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The objects of the files in a folder of the repository and below. Policies and settings are no objects.
pub fn objects(folder: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for path in files_below(&root().join(folder)) {
        if path.extension().is_some_and(|kind| kind == "yaml") {
            let documents = documents(&path).into_iter();
            found.extend(documents.filter(|document| !document["kind"].is_null()));
        }
    }
    found
}

pub fn one<'v>(objects: &'v [Value], kind: &str) -> &'v Value {
    let mut found = objects.iter().filter(|object| text(&object["kind"]) == kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    first
}

pub fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
