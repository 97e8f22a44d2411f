//! The Prometheus exporter under the handles: registering what the table names, and a page in one order.
//! Must not be seen by whoever counts; it is the only place beside the handles that knows the exporter.
//! Called by the handles, when they are made and when the page is rendered.

use ::metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use super::table::{CONNECT, CONNECT_BUCKETS, DNS, DNS_BUCKETS, Kind, Metric};

pub(super) fn recorder() -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new();
    for (metric, buckets) in [(CONNECT, CONNECT_BUCKETS), (DNS, DNS_BUCKETS)] {
        #[expect(
            clippy::expect_used,
            reason = "it fails for an empty list only, and these are constants"
        )]
        let next = builder
            .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)
            .expect("buckets are given");
        builder = next;
    }
    let recorder = builder.build_recorder();
    for metric in Metric::ALL {
        let (name, help) = (metric.name.into(), metric.help.into());
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, None, help),
            Kind::Gauge => recorder.describe_gauge(name, None, help),
            Kind::Histogram => recorder.describe_histogram(name, None, help),
        }
    }
    recorder
}

pub(super) fn counter(recorder: &PrometheusRecorder, metric: Metric, labels: Vec<Label>) -> Counter {
    recorder.register_counter(&key(metric, Kind::Counter, labels), &METADATA)
}

pub(super) fn gauge(recorder: &PrometheusRecorder, metric: Metric, labels: Vec<Label>) -> Gauge {
    recorder.register_gauge(&key(metric, Kind::Gauge, labels), &METADATA)
}

pub(super) fn histogram(
    recorder: &PrometheusRecorder,
    metric: Metric,
    name: &'static str,
    value: &'static str,
) -> Histogram {
    recorder.register_histogram(&key(metric, Kind::Histogram, vec![label(name, value)]), &METADATA)
}

fn key(metric: Metric, kind: Kind, labels: Vec<Label>) -> Key {
    debug_assert_eq!(metric.kind, kind, "{}", metric.name);
    debug_assert!(
        labels.iter().map(Label::key).eq(metric.labels.iter().copied()),
        "{}",
        metric.name
    );
    Key::from_parts(metric.name, labels)
}

pub(super) fn label(name: &'static str, value: &'static str) -> Label {
    Label::from_static_parts(name, value)
}

/// The exporter walks hash maps; people who read the page, and diffs of it, want one order.
pub(super) fn sorted(text: &str) -> String {
    let mut families: Vec<Vec<&str>> = text
        .split("\n\n")
        .map(|family| family.lines().collect::<Vec<_>>())
        .filter(|family| !family.is_empty())
        .collect();
    families.sort_unstable();
    let mut out = String::with_capacity(text.len());
    for mut family in families {
        // The buckets of a histogram have an order of their own, which must stay.
        let is_histogram = family
            .iter()
            .any(|line| line.starts_with("# TYPE") && line.ends_with("histogram"));
        if !is_histogram {
            family.sort_unstable();
        }
        for line in family {
            out.push_str(line);
            out.push('\n');
        }
        out.push('\n');
    }
    out
}

const METADATA: Metadata<'_> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));
