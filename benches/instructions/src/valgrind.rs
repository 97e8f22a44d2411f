//! Counts the instructions of a program from its start to its end, thread by thread.
//! Must not simulate caches: nothing is counted but what is executed.
//! Called for each case.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use anyhow::{Context, ensure};

/// Instructions by the number of the thread, in the order in which they were started.
pub(crate) type Threads = BTreeMap<u32, u64>;

/// The thread that a program starts with.
pub(crate) const MAIN: u32 = 1;

/// Runs the program to its end.
pub(crate) fn count(program: &Command) -> anyhow::Result<Threads> {
    let dir = tempfile::tempdir()?;
    let child = under(program, dir.path()).spawn().context("valgrind")?;
    ended(child, dir.path())
}

/// The same program, counted; what is found goes to `dir`, which holds nothing else that begins with `counts`.
pub(crate) fn under(program: &Command, dir: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--separate-threads=yes"])
        .arg(format!("--callgrind-out-file={}", dir.join("counts").display()))
        .arg(format!("--log-file={}", dir.join("log").display()))
        .arg(program.get_program())
        .args(program.get_args());
    command
}

/// Waits for the end.
pub(crate) fn ended(mut child: Child, dir: &Path) -> anyhow::Result<Threads> {
    let status = child.wait()?;
    let log = fs::read_to_string(dir.join("log")).context("valgrind")?;
    ensure!(status.success(), "{status}: {log}");
    let mut threads = Threads::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // counts-01, counts-02, ...
        if let Some(("counts", thread)) = entry.file_name().to_string_lossy().split_once('-') {
            let text = fs::read_to_string(entry.path())?;
            let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
            threads.insert(thread.parse()?, total.context("valgrind writes no total")?.parse()?);
        }
    }
    ensure!(!threads.is_empty(), "valgrind counts nothing: {log}");
    Ok(threads)
}
