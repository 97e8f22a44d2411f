//! A control group for one process: what a pod's limit would count, the kernel's memory for its sockets included.
//! Must leave nothing behind: the group goes when its process has ended.
//! Called by the questions about memory; where there are no control groups they say so.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;

#[derive(Debug)]
pub(crate) struct Group {
    folder: PathBuf,
    usage: PathBuf,
}

impl Group {
    /// Moves a process into a group of its own. What it has so far stays counted where it was.
    pub(crate) fn around(process: u32) -> anyhow::Result<Self> {
        let name = format!("sluicegate-lab-{process}");
        let mut failed = None;
        for (root, usage) in VERSIONS {
            let folder = PathBuf::from(root).join(&name);
            let group = Self {
                usage: folder.join(usage),
                folder,
            };
            let tried = fs::create_dir(&group.folder)
                .and_then(|()| fs::metadata(&group.usage))
                .and_then(|_| fs::write(group.folder.join("cgroup.procs"), process.to_string()));
            match tried {
                Ok(()) => return Ok(group),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.context("no control groups")?.into())
    }

    /// KiB.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        Ok(fs::read_to_string(&self.usage)?.trim().parse::<u64>()? / 1024)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its process may still be on its way out; then it goes back where it came from.
        if let (Some(parent), Ok(processes)) = (
            self.folder.parent(),
            fs::read_to_string(self.folder.join("cgroup.procs")),
        ) {
            for process in processes.lines() {
                let _ = fs::write(parent.join("cgroup.procs"), process);
            }
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Where groups are and what counts their memory: version 1, version 2.
const VERSIONS: [(&str, &str); 2] = [
    ("/sys/fs/cgroup/memory", "memory.usage_in_bytes"),
    ("/sys/fs/cgroup", "memory.current"),
];
