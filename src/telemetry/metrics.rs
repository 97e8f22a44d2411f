//! Every metric: its name, labels and help in one table, its handle in one struct that is fetched once.
//! Must not take a host name, a path or anything else that a client chooses as a label.
//! Called by the record handle, sessions, the dialler, the resolver and the reload; rendered by `/metrics`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram, Label};
use foldhash::fast::RandomState;
use jiff::Timestamp;
use metrics_exporter_prometheus::{PrometheusHandle, PrometheusRecorder};

use super::record::{DecisionRecord, End};
use crate::policy::{Policy, Reason};

mod exporter;
mod labels;
mod process;
mod table;

use exporter::{counter, gauge, histogram, label, recorder, sorted};
pub use labels::{ConnectResult, DnsResult, Limit};
use table::{
    AGE, BUILD, BYTES, CONNECT, CONNECTIONS, DECISIONS, DNS, DROPPED, FINGERPRINT, GENERATION, LIMITS, LOAD_FAILED,
    MODE, RELOADS, REPORT_END, TUNNEL_ENDS, TUNNELS,
};
pub use table::{Kind, Metric};

/// All metrics of one proxy. Clones share them; several proxies in one process do not.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    listeners: RwLock<HashMap<Arc<str>, ListenerMetrics, RandomState>>,
    connect: ByLabel<Histogram>,
    dns: ByLabel<Histogram>,
    limits: ByLabel<Counter>,
    reloads_accepted: Counter,
    reloads_refused: Counter,
    generation: Gauge,
    fingerprint: Gauge,
    age: Gauge,
    load_failed: Gauge,
    enforce: Gauge,
    report: Gauge,
    report_end: Gauge,
    dropped: Counter,
    /// When the policy in force was accepted, in milliseconds since the epoch.
    policy_since: AtomicI64,
    started: Timestamp,
}

/// The metrics of one listener. Get it once when the listener is bound, see [`Metrics::listener`].
#[derive(Clone)]
pub struct ListenerMetrics(Arc<OfListener>);

struct OfListener {
    name: Arc<str>,
    connections: Gauge,
    tunnels: Gauge,
    up: Counter,
    down: Counter,
    ends: [OnceLock<Counter>; End::ALL.len()],
    /// By the name of the workload; empty where none names the source.
    decisions: RwLock<HashMap<Arc<str>, Decisions, RandomState>>,
}

/// One counter for each action and reason, made when it is first needed: most pairs never are.
#[derive(Default)]
struct Decisions {
    allowed: Reasons,
    denied: Reasons,
}

struct Reasons([OnceLock<Counter>; Reason::ALL.len()]);

/// The handles of a closed set of label values, in the order of the set.
type ByLabel<T> = Vec<T>;

/// Counts one in a gauge for as long as it lives.
#[must_use = "what it counts ends when it is dropped"]
pub struct Open(Gauge);

impl Metrics {
    /// `now` is when the process started.
    pub fn new(now: Timestamp) -> Self {
        let recorder = recorder();
        let results = |metric: Metric, values: &[&'static str]| -> Vec<Histogram> {
            values
                .iter()
                .map(|value| histogram(&recorder, metric, "result", value))
                .collect()
        };
        let inner = Inner {
            connect: results(CONNECT, &ConnectResult::ALL.map(ConnectResult::as_str)),
            dns: results(DNS, &DnsResult::ALL.map(DnsResult::as_str)),
            limits: Limit::ALL
                .iter()
                .map(|limit| counter(&recorder, LIMITS, vec![label("limit", limit.as_str())]))
                .collect(),
            reloads_accepted: counter(&recorder, RELOADS, vec![label("result", "accepted")]),
            reloads_refused: counter(&recorder, RELOADS, vec![label("result", "refused")]),
            generation: gauge(&recorder, GENERATION, vec![]),
            fingerprint: gauge(&recorder, FINGERPRINT, vec![]),
            age: gauge(&recorder, AGE, vec![]),
            load_failed: gauge(&recorder, LOAD_FAILED, vec![]),
            enforce: gauge(&recorder, MODE, vec![label("mode", "enforce")]),
            report: gauge(&recorder, MODE, vec![label("mode", "report")]),
            report_end: gauge(&recorder, REPORT_END, vec![]),
            dropped: counter(&recorder, DROPPED, vec![]),
            listeners: RwLock::default(),
            policy_since: AtomicI64::new(now.as_millisecond()),
            started: now,
            handle: recorder.handle(),
            recorder,
        };
        gauge(
            &inner.recorder,
            BUILD,
            vec![label("version", env!("CARGO_PKG_VERSION"))],
        )
        .set(1);
        Self(Arc::new(inner))
    }

    /// The handles of a listener, made when its name is first seen.
    pub fn listener(&self, name: &str) -> ListenerMetrics {
        self.with_listener(name, ListenerMetrics::clone)
    }

    fn with_listener<R>(&self, name: &str, then: impl FnOnce(&ListenerMetrics) -> R) -> R {
        let listeners = &self.0.listeners;
        if let Some(found) = listeners.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return then(found);
        }
        let mut listeners = listeners.write().unwrap_or_else(PoisonError::into_inner);
        let name: Arc<str> = name.into();
        let made = listeners
            .entry(Arc::clone(&name))
            .or_insert_with(|| ListenerMetrics(Arc::new(OfListener::new(&self.0.recorder, name))));
        then(made)
    }

    /// Counts a decision. Called by [`super::Telemetry::decision`], and by nobody else.
    pub(super) fn decision(&self, record: &DecisionRecord) {
        let labels = || {
            vec![
                label("action", record.action()),
                label("reason", record.reason.as_str()),
                Label::new("listener", Arc::clone(&record.listener)),
                Label::new("workload", record.workload.clone().unwrap_or_default()),
            ]
        };
        let count = |decisions: &Decisions| {
            let reasons = if record.allowed {
                &decisions.allowed
            } else {
                &decisions.denied
            };
            reasons.0[record.reason as usize]
                .get_or_init(|| counter(&self.0.recorder, DECISIONS, labels()))
                .increment(1);
        };
        let workload = record.workload.as_deref().unwrap_or_default();
        self.with_listener(&record.listener, |listener| listener.with_decisions(workload, count));
    }

    /// Counts the end of a tunnel. Called by [`super::Telemetry::tunnel`], and by nobody else.
    pub(super) fn tunnel_end(&self, listener: &str, end: End) {
        self.with_listener(listener, |listener| {
            let labels = || {
                vec![
                    label("end", end.as_str()),
                    Label::new("listener", Arc::clone(&listener.0.name)),
                ]
            };
            listener.0.ends[end as usize]
                .get_or_init(|| counter(&self.0.recorder, TUNNEL_ENDS, labels()))
                .increment(1);
        });
    }

    /// A record was lost.
    pub(super) fn record_dropped(&self, count: u64) {
        self.0.dropped.increment(count);
    }

    /// Notes how long it took to reach a destination, or to give up: all attempts together.
    pub fn connect(&self, result: ConnectResult, took: Duration) {
        self.0.connect[result as usize].record(took);
    }

    /// Notes how long the resolver took for one name and address family.
    pub fn dns(&self, result: DnsResult, took: Duration) {
        self.0.dns[result as usize].record(took);
    }

    /// Counts what a limit turned away.
    pub fn limit(&self, limit: Limit) {
        self.0.limits[limit as usize].increment(1);
    }

    /// A policy came into force: the first one, or the one of an accepted reload.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge is an f64, exact to 2^53; a fingerprint has 48 bits"
    )]
    pub fn policy_in_force(&self, policy: &Policy, since: Timestamp) {
        self.0.generation.set(policy.generation().0 as f64);
        self.0.fingerprint.set(policy.fingerprint() as f64);
        self.0.policy_since.store(since.as_millisecond(), Ordering::Relaxed);
        self.0.load_failed.set(0);
    }

    /// Counts a reload that was accepted; [`Self::policy_in_force`] says what it brought.
    pub fn reload_accepted(&self) {
        self.0.reloads_accepted.increment(1);
    }

    /// Counts a reload that was refused; the newest files are not in force from now on.
    pub fn reload_refused(&self) {
        self.0.reloads_refused.increment(1);
        self.0.load_failed.set(1);
    }

    /// The newest files are again those in force: nothing is refused any more.
    pub fn reload_restored(&self) {
        self.0.load_failed.set(0);
    }

    /// The mode in force at this moment, and when reporting ends; it changes with reloads and when `report_until` passes.
    pub fn mode(&self, report_until: Option<Timestamp>) {
        let report = report_until.is_some();
        self.0.report.set(u8::from(report));
        self.0.enforce.set(u8::from(!report));
        let end = report_until.map_or(0, Timestamp::as_second);
        #[expect(clippy::cast_precision_loss, reason = "a gauge is an f64, exact to 2^53")]
        self.0.report_end.set(end as f64);
    }

    /// Folds what histograms have collected. Without it they grow until somebody scrapes; call it every few seconds.
    pub fn upkeep(&self) {
        self.0.handle.run_upkeep();
    }

    /// Everything in the Prometheus text format 0.0.4, families and series in a stable order.
    pub fn render(&self, now: Timestamp) -> String {
        let since = self.0.policy_since.load(Ordering::Relaxed);
        let age = Duration::from_millis(u64::try_from(now.as_millisecond() - since).unwrap_or(0));
        self.0.age.set(age);
        let mut text = sorted(&self.0.handle.render());
        process::render(self.0.started, &mut text);
        text
    }
}

impl ListenerMetrics {
    /// Counts a client connection for as long as the guard lives.
    pub fn connection(&self) -> Open {
        Open::count(&self.0.connections)
    }

    /// Counts a tunnel for as long as the guard lives.
    pub fn tunnel(&self) -> Open {
        Open::count(&self.0.tunnels)
    }

    /// Bytes relayed from the client to the upstream. Add them as they move; tunnel records do not add them.
    pub fn up(&self, bytes: u64) {
        self.0.up.increment(bytes);
    }

    /// Bytes relayed from the upstream to the client. Add them as they move; tunnel records do not add them.
    pub fn down(&self, bytes: u64) {
        self.0.down.increment(bytes);
    }

    fn with_decisions(&self, workload: &str, then: impl FnOnce(&Decisions)) {
        let decisions = &self.0.decisions;
        if let Some(found) = decisions.read().unwrap_or_else(PoisonError::into_inner).get(workload) {
            return then(found);
        }
        let mut decisions = decisions.write().unwrap_or_else(PoisonError::into_inner);
        then(decisions.entry(workload.into()).or_default());
    }
}

impl OfListener {
    fn new(recorder: &PrometheusRecorder, name: Arc<str>) -> Self {
        let listener = || Label::new("listener", Arc::clone(&name));
        let bytes = |direction| counter(recorder, BYTES, vec![label("direction", direction), listener()]);
        Self {
            connections: gauge(recorder, CONNECTIONS, vec![listener()]),
            tunnels: gauge(recorder, TUNNELS, vec![listener()]),
            up: bytes("up"),
            down: bytes("down"),
            ends: [const { OnceLock::new() }; End::ALL.len()],
            decisions: RwLock::default(),
            name,
        }
    }
}

impl Open {
    fn count(gauge: &Gauge) -> Self {
        gauge.increment(1);
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

impl Default for Reasons {
    fn default() -> Self {
        Self([const { OnceLock::new() }; Reason::ALL.len()])
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ListenerMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ListenerMetrics").field(&self.0.name).finish()
    }
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt::Write;

    use super::*;
    use crate::name::Host;
    use crate::policy::Generation;
    use crate::policy::compiled::Parts;
    use crate::telemetry::samples;

    /// The file is what the documentation and dashboards rely on: a change of it is a change for users.
    #[test]
    fn names_labels_and_help_are_those_of_the_golden_file() {
        let mut table = String::new();
        for Metric {
            name,
            kind,
            labels,
            help,
        } in Metric::ALL
        {
            writeln!(table, "{name} {} {{{}}}\n    {help}", kind.as_str(), labels.join(", ")).unwrap();
        }
        let golden = include_str!("../../tests/golden/metrics.txt");
        assert_eq!(table, golden, "tests/golden/metrics.txt should be:\n{table}");
    }

    #[test]
    fn what_is_rendered_is_the_table() {
        let text = used().render(at("2026-03-01T12:01:01.25Z"));
        let mut families = BTreeMap::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(families.insert(name, (help, "")).is_none(), "{name} twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                families.get_mut(name).unwrap().1 = kind;
            }
        }
        let table: BTreeMap<_, _> = Metric::ALL
            .iter()
            .map(|metric| (metric.name, (metric.help, metric.kind.as_str())))
            .collect();
        assert_eq!(families, table);
        for metric in Metric::ALL {
            let labels: BTreeSet<_> = metric.labels.iter().copied().collect();
            let start = format!("{}{{", metric.name);
            for line in text.lines().filter(|line| line.starts_with(&start)) {
                let written: BTreeSet<_> = line
                    .split(['{', ','])
                    .filter_map(|part| part.split_once("=\"").map(|(label, _)| label))
                    .collect();
                assert_eq!(written, labels, "{line}");
            }
        }
    }

    #[test]
    fn values_are_what_happened() {
        let text = used().render(at("2026-03-01T12:01:01.25Z"));
        for line in [
            r#"sluicegate_decisions_total{action="deny",reason="no_rule",listener="proxy",workload="trips"} 2"#,
            r#"sluicegate_decisions_total{action="allow",reason="rule",listener="proxy",workload=""} 1"#,
            r#"sluicegate_open_connections{listener="proxy"} 1"#,
            r#"sluicegate_open_tunnels{listener="proxy"} 0"#,
            r#"sluicegate_tunnel_ends_total{end="reload",listener="proxy"} 1"#,
            r#"sluicegate_bytes_total{direction="up",listener="proxy"} 517"#,
            r#"sluicegate_bytes_total{direction="down",listener="proxy"} 48213"#,
            r#"sluicegate_connect_seconds_bucket{result="ok",le="0.01"} 0"#,
            r#"sluicegate_connect_seconds_bucket{result="ok",le="0.025"} 1"#,
            r#"sluicegate_connect_seconds_count{result="timeout"} 0"#,
            r#"sluicegate_dns_seconds_sum{result="stale"} 0.002"#,
            r#"sluicegate_limits_hit_total{limit="per_source"} 1"#,
            r#"sluicegate_limits_hit_total{limit="dns"} 0"#,
            r#"sluicegate_policy_reloads_total{result="accepted"} 1"#,
            r#"sluicegate_policy_reloads_total{result="refused"} 1"#,
            "sluicegate_policy_generation 3",
            "sluicegate_policy_fingerprint 281474976710655",
            "sluicegate_policy_age_seconds 60",
            "sluicegate_policy_load_failed 1",
            r#"sluicegate_mode{mode="enforce"} 0"#,
            r#"sluicegate_mode{mode="report"} 1"#,
            "sluicegate_report_end_seconds 1772409600",
            "sluicegate_records_dropped_total 2",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in:\n{text}");
        }
        for name in ["process_resident_memory_bytes", "process_open_fds", "process_max_fds"] {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            assert!(value.unwrap().parse::<u64>().unwrap() > 0, "{name}");
        }
    }

    /// F35: what clients choose does not make series.
    #[test]
    fn hosts_paths_and_ports_make_no_series() {
        let metrics = used();
        let series = || metrics.render(samples::denied(0).at).lines().count();
        let before = series();
        for number in 0..100_000 {
            let mut record = samples::denied(number);
            record.host = Some(Host::parse(format!("a{number}.evil.test").as_bytes()).unwrap());
            record.path = Some(format!("/{number}"));
            record.source.set_port(u16::try_from(number % 60_000).unwrap());
            metrics.decision(&record);
        }
        assert_eq!(series(), before);
    }

    #[test]
    fn two_proxies_in_one_process_count_apart() {
        let now = samples::denied(0).at;
        let (one, other) = (Metrics::new(now), Metrics::new(now));
        one.limit(Limit::Dns);
        let line = r#"sluicegate_limits_hit_total{limit="dns"} 1"#;
        assert!(one.render(now).contains(line));
        assert!(!other.render(now).contains(line));
    }

    /// Handles stand in lists in the order of these.
    #[test]
    fn lists_are_in_the_order_of_their_variants() {
        fn ordered<T: Copy>(all: &[T], place: impl Fn(T) -> usize) -> bool {
            all.iter().enumerate().all(|(expected, one)| place(*one) == expected)
        }
        assert!(ordered(Reason::ALL, |reason| reason as usize));
        assert!(ordered(End::ALL, |end| end as usize));
        assert!(ordered(&Limit::ALL, |limit| limit as usize));
        assert!(ordered(&DnsResult::ALL, |result| result as usize));
        assert!(ordered(&ConnectResult::ALL, |result| result as usize));
    }

    /// Metrics of a proxy to which something of every kind has happened.
    fn used() -> Metrics {
        let metrics = Metrics::new(at("2026-03-01T11:00:00Z"));
        metrics.decision(&samples::denied(1));
        metrics.decision(&samples::denied(2));
        metrics.decision(&DecisionRecord {
            workload: None,
            ..samples::allowed(3)
        });
        let listener = metrics.listener("proxy");
        // This connection stays open.
        std::mem::forget(listener.connection());
        drop(listener.tunnel());
        listener.up(517);
        listener.down(48213);
        metrics.tunnel_end("proxy", End::Reload);
        metrics.connect(ConnectResult::Ok, Duration::from_millis(20));
        metrics.dns(DnsResult::Stale, Duration::from_millis(2));
        metrics.limit(Limit::PerSource);
        metrics.reload_accepted();
        let parts = Parts {
            fingerprint: (1 << 48) - 1,
            ..Parts::default()
        };
        metrics.policy_in_force(&Policy::new(parts, Generation(3)), at("2026-03-01T12:00:01.25Z"));
        metrics.reload_refused();
        metrics.mode(Some(at("2026-03-02T00:00:00Z")));
        metrics.record_dropped(2);
        metrics
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }
}
