//! What the proxy says of itself: decision and tunnel records, metrics, the operational log.
//! Must not decide or block: a record that cannot be written is counted and dropped, unless the settings require it.
//! Called by sessions at their final verdict and their end.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use crate::settings::{Log, LogFormat, LoggedDecisions};

mod azure;
pub mod json;
pub mod live;
pub mod log;
pub mod metrics;
pub mod recent;
pub mod record;
#[cfg(test)]
pub(crate) mod samples;
pub mod text;
mod writer;

pub use live::LiveTunnel;
pub use log::init_log;
pub use metrics::{ConnectResult, DnsResult, Limit, ListenerMetrics, Metrics};
pub use recent::Recent;
pub use record::{DecisionRecord, End, Entry, Shown, TunnelRecord};
pub use text::Colour;

use writer::{Line, Writer};

/// Where all records go. Clones are the same place.
#[derive(Clone, Debug)]
pub struct Telemetry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    metrics: Metrics,
    recent: Recent,
    writer: Writer,
    logged: LoggedDecisions,
}

impl Telemetry {
    /// Writes records to standard output.
    ///
    /// # Errors
    /// Standard output is closed, or the system refuses a thread.
    pub fn to_stdout(log: &Log, metrics: Metrics) -> io::Result<Self> {
        let stdout = io::stdout();
        let colour = if stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            Colour::Always
        } else {
            Colour::Never
        };
        // Past the buffer of `Stdout`, which forgets what it holds when a write fails half-way.
        let out = std::fs::File::from(stdout.as_fd().try_clone_to_owned()?);
        Self::new(log, metrics, out, colour)
    }

    /// Writes records to `out`, which may block or fail without harm to whoever makes records.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn new(log: &Log, metrics: Metrics, out: impl Write + Send + 'static, colour: Colour) -> io::Result<Self> {
        let format: writer::Format = match log.format {
            LogFormat::Json => {
                let mut clock = json::Clock::default();
                Box::new(move |line, out| {
                    match line {
                        Line::Decision(record) => json::decision(record, &mut clock, out),
                        Line::Tunnel(record) => json::tunnel(record, &mut clock, out),
                    }
                    out.push(b'\n');
                })
            }
            LogFormat::Text => Box::new(move |line, out| match line {
                Line::Decision(record) => text::decision(record, colour, out),
                Line::Tunnel(record) => text::tunnel(record, colour, out),
            }),
            LogFormat::Azure => Box::new(|line, out| match line {
                Line::Decision(record) => azure::decision(record, out),
                // Azure Firewall has no table of closed connections.
                Line::Tunnel(_) => {}
            }),
        };
        Ok(Self(Arc::new(Inner {
            writer: Writer::start(out, format, metrics.clone())?,
            recent: Recent::default(),
            logged: log.decisions,
            metrics,
        })))
    }

    /// Takes the record of a final verdict: counted always, kept for `/decisions`, queued for the log if the settings
    /// want it there. Never blocks.
    ///
    /// The answer matters only under `log.required`: `false` says that the record will not, or may not, reach the log.
    pub fn decision(&self, mut record: DecisionRecord) -> bool {
        record.trim();
        self.0.metrics.decision(&record);
        let wanted = self.0.logged == LoggedDecisions::All || record.denies();
        let record = Arc::new(record);
        self.0.recent.push(Arc::clone(&record));
        !wanted || self.0.writer.push(Line::Decision(record))
    }

    /// Takes the record of a closed tunnel. Never blocks. The bytes have been counted as they moved, see
    /// [`ListenerMetrics::up`].
    pub fn tunnel(&self, record: TunnelRecord) {
        self.0.metrics.tunnel_end(&record.listener, record.end);
        if self.0.logged == LoggedDecisions::All {
            self.0.writer.push(Line::Tunnel(Arc::new(record)));
        }
    }

    /// Whether a record would be written now: the last write did not fail, and the queue has room. Sessions ask before
    /// they allow anything when `log.required` is set.
    pub fn writable(&self) -> bool {
        self.0.writer.writable()
    }

    /// Waits until all records so far are written, at most this long; says whether they are. For the end of the
    /// process and for tests: it blocks the thread.
    pub fn flush(&self, within: Duration) -> bool {
        self.0.writer.flush(within)
    }

    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub fn recent(&self) -> &Recent {
        &self.0.recent
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{self, Collected, PATIENCE};
    use super::*;

    #[test]
    fn only_denials_are_logged_but_everything_is_counted() {
        let log = Log {
            format: LogFormat::Json,
            decisions: LoggedDecisions::Denied,
            required: false,
        };
        let (telemetry, out) = collecting(&log);
        telemetry.decision(samples::allowed(1));
        telemetry.decision(samples::denied(2));
        telemetry.decision(DecisionRecord {
            reason: crate::policy::Reason::Report,
            would_deny: Some(crate::policy::Reason::NoRule),
            ..samples::allowed(3)
        });
        telemetry.tunnel(samples::closed(1));
        assert!(telemetry.flush(PATIENCE));
        let text = out.text();
        let ids: Vec<_> = text.lines().map(|line| line.split('"').nth(11).unwrap()).collect();
        assert_eq!(ids, ["0000000000000002", "0000000000000003"], "{text}");
        let metrics = telemetry.metrics().render(samples::denied(0).at);
        for series in [
            r#"sluicegate_decisions_total{action="allow",reason="rule",listener="proxy",workload="trips"} 1"#,
            r#"sluicegate_decisions_total{action="allow",reason="report",listener="proxy",workload="trips"} 1"#,
            r#"sluicegate_decisions_total{action="deny",reason="no_rule",listener="proxy",workload="trips"} 1"#,
            r#"sluicegate_tunnel_ends_total{end="finished",listener="proxy"} 1"#,
        ] {
            assert!(metrics.contains(series), "{series} in:\n{metrics}");
        }
    }

    fn collecting(log: &Log) -> (Telemetry, Collected) {
        let out = Collected::default();
        let metrics = Metrics::new(samples::denied(0).at);
        (Telemetry::new(log, metrics, out.clone(), Colour::Never).unwrap(), out)
    }
}
