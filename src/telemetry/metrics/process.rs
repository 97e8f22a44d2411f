//! What Prometheus client libraries say of any process: CPU time, memory, descriptors, start time.
//! Must not run between scrapes; what cannot be read is left out rather than shown as 0.
//! Called by the rendering of the metrics.

use std::fmt::{Display, Write};

use jiff::Timestamp;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::table::{CPU, MAX_DESCRIPTORS, MEMORY, Metric, OPEN_DESCRIPTORS, STARTED};

/// Appends the process metrics in the Prometheus text format.
pub(super) fn render(started: Timestamp, out: &mut String) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = std::time::Duration::new(
        u64::try_from(cpu.tv_sec).unwrap_or(0),
        u32::try_from(cpu.tv_nsec).unwrap_or(0),
    );
    family(out, CPU, Some(cpu.as_secs_f64()));
    family(out, MEMORY, resident_bytes());
    family(
        out,
        OPEN_DESCRIPTORS,
        std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count),
    );
    family(out, MAX_DESCRIPTORS, getrlimit(Resource::Nofile).current);
    family(out, STARTED, Some(started.as_duration().as_secs_f64()));
}

fn family(out: &mut String, metric: Metric, value: Option<impl Display>) {
    let Some(value) = value else { return };
    let Metric { name, kind, help, .. } = metric;
    // Writing into a String cannot fail.
    let _ = write!(
        out,
        "# HELP {name} {help}\n# TYPE {name} {}\n{name} {value}\n\n",
        kind.as_str()
    );
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}
