//! Production's rules in and out, against an independent model of the firewall that they were written for.
//! Must not start a proxy, except where the README does; the gate is asked as a function, a hundred thousand times.
//! Called by `tests/run`.

mod agreement;
mod dice;
mod exported;
mod imported;
mod made_up;
mod model;
mod readme;
mod requests;
mod round_trip;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::setup::BINARY;

/// What a command ended with.
#[derive(Debug)]
struct Ended {
    code: i32,
    err: String,
    /// What `--report` wrote.
    report: Value,
}

/// A folder for one command after the other.
#[derive(Debug)]
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file and says where.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn import(&self, files: &[PathBuf], words: &[&str]) -> Ended {
        self.run("import", files, words)
    }

    fn export(&self, policies: &[PathBuf], words: &[&str]) -> Ended {
        let files: Vec<PathBuf> = policies
            .iter()
            .flat_map(|policy| ["--policy".into(), policy.clone()])
            .collect();
        self.run("export", &files, words)
    }

    fn run(&self, command: &str, files: &[PathBuf], words: &[&str]) -> Ended {
        let report = self.path("report.json");
        let output = Command::new(BINARY)
            .args([command, "azure-firewall", "--report"])
            .arg(&report)
            .args(words)
            .args(files)
            .current_dir(self.0.path())
            .env_clear()
            .output()
            .unwrap();
        let report = fs::read_to_string(&report).unwrap_or_default();
        Ended {
            code: output.status.code().unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            report: serde_json::from_str(&report).unwrap_or_default(),
        }
    }
}

impl Ended {
    /// The kinds of all findings.
    fn kinds(&self) -> Vec<String> {
        let findings = self.report["findings"].as_array().into_iter().flatten();
        findings
            .map(|finding| finding["kind"].as_str().unwrap().to_owned())
            .collect()
    }

    /// What to say after `--accept`; nothing that is found is an error of another kind.
    fn to_accept(&self) -> String {
        let kinds = self.report["to_accept"].as_array().into_iter().flatten();
        kinds.map(|kind| kind.as_str().unwrap()).collect::<Vec<_>>().join(",")
    }
}
