//! A proxy as the kernel sees it: its CPU time with all threads and children, its memory.
//! Must leave nothing behind: what it started ends with it.
//! Called by what starts proxies, and by the questions for the numbers.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
}

/// CPU time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    /// In hundredths of a second, which is all that the kernel tells of the two apart.
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    /// In nanoseconds, but without threads and processes that have ended.
    alive: Duration,
}

/// Memory in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Of its own: heap and stacks (`RssAnon`).
    pub(crate) own: u64,
    /// With the pages of its files (`VmRSS`).
    pub(crate) resident: u64,
    /// The most that ever was resident (`VmHWM`).
    pub(crate) peak: u64,
}

impl Process {
    pub(crate) fn spawn(name: &'static str, command: &mut Command) -> anyhow::Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        Ok(Self { name, child })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Takes what the process says on its standard error.
    pub(crate) fn take_stderr(&mut self) -> anyhow::Result<std::process::ChildStderr> {
        self.child.stderr.take().context("standard error was not piped")
    }

    /// Takes what the process says on its standard output.
    pub(crate) fn take_stdout(&mut self) -> anyhow::Result<std::process::ChildStdout> {
        self.child.stdout.take().context("standard output was not piped")
    }

    /// Waits until somebody listens there.
    pub(crate) async fn wait_listening(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).await.is_err() {
            self.still_runs()?;
            if Instant::now() > deadline {
                bail!("{} does not listen on {address}", self.name);
            }
            sleep(AGAIN).await;
        }
        Ok(())
    }

    pub(crate) fn still_runs(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => match status.signal() {
                Some(signal) => bail!("{} was ended by signal {signal}", self.name),
                None => bail!("{} ended with {status}", self.name),
            },
        }
    }

    /// The time of the process, all its threads and all its children, also of those that have ended and were waited for.
    pub(crate) fn cpu(&self) -> anyhow::Result<Cpu> {
        let mut sum = Cpu::default();
        for process in self.family()? {
            let fields = stat(process)?;
            let ticks =
                |field: usize| -> anyhow::Result<u32> { Ok(fields.get(field).context("a short stat")?.parse()?) };
            sum.user += TICK * (ticks(UTIME)? + ticks(CUTIME)?);
            sum.system += TICK * (ticks(UTIME + 1)? + ticks(CUTIME + 1)?);
            sum.alive += threads(process)?;
        }
        Ok(sum)
    }

    /// The memory of the process and all its children.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let mut sum = Memory::default();
        for process in self.family()? {
            let status = fs::read_to_string(format!("/proc/{process}/status"))?;
            let read = |key: &str| -> anyhow::Result<u64> {
                let line = status
                    .lines()
                    .find_map(|line| line.strip_prefix(key))
                    .context(key.to_owned())?;
                let number = line.split_whitespace().nth(1).context(key.to_owned())?;
                Ok(number.parse()?)
            };
            sum.own += read("RssAnon")?;
            sum.resident += read("VmRSS")?;
            sum.peak += read("VmHWM")?;
        }
        Ok(sum)
    }

    /// The process, its children, and theirs.
    fn family(&self) -> anyhow::Result<Vec<u32>> {
        let mut all = vec![self.child.id()];
        let parents = parents()?;
        let mut next = 0;
        while let Some(process) = all.get(next).copied() {
            all.extend(
                parents
                    .iter()
                    .filter(|(_, parent)| *parent == process)
                    .map(|(id, _)| id),
            );
            next += 1;
        }
        Ok(all)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Cpu {
    /// The time of the children of this process that it has waited for.
    pub(crate) fn of_ended_children() -> anyhow::Result<Self> {
        let fields = stat(std::process::id())?;
        let ticks = |field: usize| -> anyhow::Result<u32> { Ok(fields.get(field).context("a short stat")?.parse()?) };
        Ok(Self {
            user: TICK * ticks(CUTIME)?,
            system: TICK * ticks(CUTIME + 1)?,
            alive: Duration::ZERO,
        })
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            alive: self.alive.saturating_sub(earlier.alive),
        }
    }

    /// The finer of the two counts, unless it lacks more than the coarse one can be wrong: then threads have ended.
    pub(crate) fn total(self) -> Duration {
        let coarse = self.user + self.system;
        if coarse > self.alive + 3 * TICK {
            coarse
        } else {
            self.alive
        }
    }

    /// The share of user time.
    pub(crate) fn user_share(self) -> f64 {
        self.user.as_secs_f64() / (self.user + self.system).max(TICK).as_secs_f64()
    }
}

/// A port that nobody uses now, for proxies that cannot say which one they chose.
pub(crate) async fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?)
}

/// Every process with its parent.
fn parents() -> anyhow::Result<Vec<(u32, u32)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Others end while we look.
        if let Ok(fields) = stat(process)
            && let Some(parent) = fields.get(1).and_then(|field| field.parse().ok())
        {
            found.push((process, parent));
        }
    }
    Ok(found)
}

/// The time that the scheduler gave to all threads of a process: first field of /proc/PID/task/TID/schedstat.
fn threads(process: u32) -> anyhow::Result<Duration> {
    let mut sum = Duration::ZERO;
    for entry in fs::read_dir(format!("/proc/{process}/task"))? {
        // Others end while we look.
        let Ok(text) = fs::read_to_string(entry?.path().join("schedstat")) else {
            continue;
        };
        let nanoseconds = text.split(' ').next().unwrap_or_default().parse()?;
        sum += Duration::from_nanos(nanoseconds);
    }
    Ok(sum)
}

/// The fields of /proc/PID/stat after the name, from the state on (proc(5)).
fn stat(process: u32) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = text.rsplit_once(") ").context("no name in stat")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

/// Linux counts in hundredths of a second towards user space, whatever its own clock.
const TICK: Duration = Duration::from_millis(10);
const UTIME: usize = 11;
const CUTIME: usize = 13;
const PATIENCE: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(20);
