//! Commands of the binary, run to their end: in a directory of their own, with what they read, wrote and ended with.
//! Must not judge the output.
//! Called by the tests of commands that answer and end.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A directory with files, in which commands are run.
#[derive(Debug)]
pub struct Folder(TempDir);

/// How a command has ended, and what it has said.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Folder {
    pub fn with(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// What stands in a file; `None` if there is none.
    pub fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path().join(name)).ok()
    }

    pub fn run(&self, words: &[&str]) -> Ended {
        self.run_with(words, &[])
    }

    /// The same with nothing but these variables around it.
    pub fn run_with(&self, words: &[&str], environment: &[(&str, &str)]) -> Ended {
        Ended::of(command(self.path(), words).envs(environment.iter().copied()), "")
    }

    /// The same with this on standard input.
    pub fn run_reading(&self, words: &[&str], input: &str) -> Ended {
        Ended::of(&mut command(self.path(), words), input)
    }
}

impl Ended {
    /// Of a command in a directory that something else owns.
    pub fn in_directory(directory: &Path, words: &[&str], input: &str) -> Self {
        Self::of(&mut command(directory, words), input)
    }

    fn of(command: &mut Command, input: &str) -> Self {
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        // A command that is refused before it reads closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Self {
            code: output.status.code().expect("it was killed"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn command(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.args(words).current_dir(folder).env_clear();
    command
}
