//! Numbers as text: facts of the run, medians with their ranges, tables in Markdown.
//! Must not name the machine by more than its CPU count, kernel and memory.
//! Called by the questions.

use std::fs;

use anyhow::Context;
use serde_json::{Value, json};

/// Measurements of one thing, in the order they were taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn scaled(&self, by: f64) -> Self {
        Self(self.0.iter().map(|value| value * by).collect())
    }

    /// Minus the other's of the same round.
    pub(crate) fn less(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one - other).collect())
    }

    /// For whoever draws it.
    pub(crate) fn json(&self) -> Value {
        json!({"median": self.median(), "low": self.lowest(), "high": self.highest(), "all": self.0})
    }

    /// Divided by the other's of the same round.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one / other).collect())
    }

    pub(crate) fn last(&self) -> Option<f64> {
        self.0.last().copied()
    }

    /// The middle of the sorted values; the mean of the two middle ones if there is no single one.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let upper = sorted.len() / 2;
        let lower = sorted.len().saturating_sub(1) / 2;
        match (sorted.get(lower), sorted.get(upper)) {
            (Some(lower), Some(upper)) => f64::midpoint(*lower, *upper),
            _ => f64::NAN,
        }
    }

    pub(crate) fn lowest(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn highest(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// `median (lowest to highest)`.
    pub(crate) fn range(&self, decimals: usize) -> String {
        format!(
            "{:.decimals$} ({:.decimals$} to {:.decimals$})",
            self.median(),
            self.lowest(),
            self.highest()
        )
    }
}

/// What the run was made on.
pub(crate) fn machine() -> anyhow::Result<()> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel = kernel.split(['-', '\n']).next().unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo")?;
    let total = memory
        .split_whitespace()
        .nth(1)
        .and_then(|number| number.parse::<u64>().ok())
        .context("no MemTotal in /proc/meminfo")?;
    fact("CPUs", &std::thread::available_parallelism()?.to_string());
    fact("kernel", &format!("Linux {kernel}"));
    fact("memory", &format!("{} GiB", (total + (1 << 19)) >> 20));
    machine_now()
}

/// How busy it is.
pub(crate) fn machine_now() -> anyhow::Result<()> {
    let load = fs::read_to_string("/proc/loadavg")?;
    let minute = load.split(' ').next().unwrap_or_default();
    fact("load average (1 min)", minute);
    Ok(())
}

pub(crate) fn fact(name: &str, value: &str) {
    println!("{name}: {value}");
}

/// A table in Markdown; the first row is its head.
pub(crate) fn table(rows: &[Vec<String>]) {
    println!();
    for (number, row) in rows.iter().enumerate() {
        println!("| {} |", row.join(" | "));
        if number == 0 {
            println!("|{}", "---|".repeat(row.len()));
        }
    }
    println!();
}

/// From KiB.
pub(crate) fn mib(kib: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^52")]
    let kib = kib as f64;
    kib / 1024.0
}

/// The cells of one row.
pub(crate) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}
