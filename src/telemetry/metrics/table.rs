//! The table of metrics: every name, its labels and its help, and the buckets of the histograms.
//! Must not hold handles; a name that is written anywhere else is a mistake.
//! Called by the handles beside it, the documentation and the tests.

/// One row of the table of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Metric {
    /// Every metric, in the order of the documentation.
    pub const ALL: &[Self] = &[
        DECISIONS,
        CONNECTIONS,
        TUNNELS,
        TUNNEL_ENDS,
        BYTES,
        CONNECT,
        DNS,
        RELOADS,
        GENERATION,
        FINGERPRINT,
        AGE,
        LOAD_FAILED,
        MODE,
        REPORT_END,
        LIMITS,
        DROPPED,
        BUILD,
        CPU,
        MEMORY,
        OPEN_DESCRIPTORS,
        MAX_DESCRIPTORS,
        STARTED,
    ];
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

pub(super) const DECISIONS: Metric = Metric {
    name: "sluicegate_decisions_total",
    kind: Kind::Counter,
    labels: &["action", "reason", "listener", "workload"],
    help: "Final verdicts, by action (allow, deny), reason code, listener, and the workload that names the source (empty if none does).",
};
pub(super) const CONNECTIONS: Metric = Metric {
    name: "sluicegate_open_connections",
    kind: Kind::Gauge,
    labels: &["listener"],
    help: "Client connections open now.",
};
pub(super) const TUNNELS: Metric = Metric {
    name: "sluicegate_open_tunnels",
    kind: Kind::Gauge,
    labels: &["listener"],
    help: "Allowed connections being relayed now.",
};
pub(super) const TUNNEL_ENDS: Metric = Metric {
    name: "sluicegate_tunnel_ends_total",
    kind: Kind::Counter,
    labels: &["end", "listener"],
    help: "Closed tunnels, by who or what ended them.",
};
pub(super) const BYTES: Metric = Metric {
    name: "sluicegate_bytes_total",
    kind: Kind::Counter,
    labels: &["direction", "listener"],
    help: "Bytes relayed: up from clients to upstreams, down back to clients.",
};
pub(super) const CONNECT: Metric = Metric {
    name: "sluicegate_connect_seconds",
    kind: Kind::Histogram,
    labels: &["result"],
    help: "Time to reach a destination or to give up, all attempts together (ok, failed, timeout).",
};
pub(super) const DNS: Metric = Metric {
    name: "sluicegate_dns_seconds",
    kind: Kind::Histogram,
    labels: &["result"],
    help: "Time of one question to the resolver (ok, not_found, failed, timeout; cached; stale: past its time while all servers are down).",
};
pub(super) const RELOADS: Metric = Metric {
    name: "sluicegate_policy_reloads_total",
    kind: Kind::Counter,
    labels: &["result"],
    help: "Changed sets of policy files that came into force (accepted) or did not (refused).",
};
pub(super) const GENERATION: Metric = Metric {
    name: "sluicegate_policy_generation",
    kind: Kind::Gauge,
    labels: &[],
    help: "Number of the policy in force; it grows by one with each accepted load.",
};
pub(super) const FINGERPRINT: Metric = Metric {
    name: "sluicegate_policy_fingerprint",
    kind: Kind::Gauge,
    labels: &[],
    help: "A number of 48 bits for the contents of the policy files in force; replicas that hold the same policy show the same one.",
};
pub(super) const AGE: Metric = Metric {
    name: "sluicegate_policy_age_seconds",
    kind: Kind::Gauge,
    labels: &[],
    help: "Seconds since the policy in force was accepted.",
};
pub(super) const LOAD_FAILED: Metric = Metric {
    name: "sluicegate_policy_load_failed",
    kind: Kind::Gauge,
    labels: &[],
    help: "1 while the newest policy files are refused and an older set is in force, else 0.",
};
pub(super) const MODE: Metric = Metric {
    name: "sluicegate_mode",
    kind: Kind::Gauge,
    labels: &["mode"],
    help: "1 for the mode in force (enforce, report), 0 for the other.",
};
pub(super) const REPORT_END: Metric = Metric {
    name: "sluicegate_report_end_seconds",
    kind: Kind::Gauge,
    labels: &[],
    help: "When report mode ends, in seconds since the Unix epoch; 0 while enforcing.",
};
pub(super) const LIMITS: Metric = Metric {
    name: "sluicegate_limits_hit_total",
    kind: Kind::Counter,
    labels: &["limit"],
    help: "What a limit turned away (connections, per_source, descriptors, dns; log: refused because log.required could not be met).",
};
pub(super) const DROPPED: Metric = Metric {
    name: "sluicegate_records_dropped_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Decision and tunnel records that could not be written; their decisions are counted all the same.",
};
pub(super) const BUILD: Metric = Metric {
    name: "sluicegate_build_info",
    kind: Kind::Gauge,
    labels: &["version"],
    help: "Always 1; the version is the label.",
};

pub(super) const CPU: Metric = Metric {
    name: "process_cpu_seconds_total",
    kind: Kind::Counter,
    labels: &[],
    help: "CPU time of the process, user and system.",
};
pub(super) const MEMORY: Metric = Metric {
    name: "process_resident_memory_bytes",
    kind: Kind::Gauge,
    labels: &[],
    help: "Resident memory of the process.",
};
pub(super) const OPEN_DESCRIPTORS: Metric = Metric {
    name: "process_open_fds",
    kind: Kind::Gauge,
    labels: &[],
    help: "Descriptors open now.",
};
pub(super) const MAX_DESCRIPTORS: Metric = Metric {
    name: "process_max_fds",
    kind: Kind::Gauge,
    labels: &[],
    help: "Most descriptors the process may open.",
};
pub(super) const STARTED: Metric = Metric {
    name: "process_start_time_seconds",
    kind: Kind::Gauge,
    labels: &[],
    help: "When the process started, in seconds since the Unix epoch.",
};

/// Seconds. From one address in the same zone to all attempts of a slow one; `timeouts.connect` is 10 s by default.
pub(super) const CONNECT_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Seconds. From a cache hit to several servers that time out one after the other.
pub(super) const DNS_BUCKETS: &[f64] = &[
    0.000_01, 0.000_1, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
