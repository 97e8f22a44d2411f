//! What a deployment needs for so many connections and bytes: from the numbers of the questions, and held against `deploy/`.
//! Must not guess: a number that was not measured ends it.
//! Called as `sluicegate-lab sizing`, by `benches/run` at its end.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use crate::report::{fact, row, table};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where the questions have left their numbers.
    #[arg(long, default_value = "benches/results")]
    results: PathBuf,
    #[arg(long, default_value = "deploy")]
    deploy: PathBuf,
}

/// What one unit takes.
#[derive(Debug)]
struct Costs {
    /// CPU seconds of a new tunnel, and of a Gbit.
    tunnel: f64,
    gbit: f64,
    /// MiB of the pod without tunnels but with 100,000 rules, and of an open tunnel with the kernel's part.
    base: f64,
    open: f64,
}

/// What `deploy/` gives each replica, in CPUs; and how many there may be.
#[derive(Debug)]
struct Given {
    request: f64,
    limit: f64,
    target: f64,
    least: f64,
    most: f64,
}

/// The targets that are missed: loads that the largest deployment does not carry.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Vec<String>> {
    let costs = Costs::read(&arguments.results)?;
    let given = Given::read(&arguments.deploy)?;
    fact(
        "formula",
        &format!(
            "CPUs = {:.0} us x new tunnels per second + {:.3} s x Gbit/s; MiB = {:.0} x replicas + {:.1} KiB x open tunnels",
            costs.tunnel * 1e6,
            costs.gbit,
            costs.base,
            costs.open * 1024.0
        ),
    );
    let mut rows = vec![row([
        "new tunnels per second",
        "Gbit/s",
        "open tunnels",
        "CPUs",
        "replicas of the autoscaler",
        "CPU of each",
        "MiB of each",
    ])];
    let mut missed = Vec::new();
    for (tunnels, gbits, open) in LOADS {
        let cpu = tunnels * costs.tunnel + gbits * costs.gbit;
        let replicas = (cpu / (given.request * given.target))
            .ceil()
            .clamp(given.least, given.most);
        let each = cpu / replicas;
        rows.push(row([
            &tunnels.to_string(),
            &gbits.to_string(),
            &open.to_string(),
            &format!("{cpu:.2}"),
            &replicas.to_string(),
            &format!("{each:.2}"),
            &format!("{:.0}", costs.base + open * costs.open / replicas),
        ]));
        if each > given.limit {
            missed.push(format!(
                "{tunnels} tunnels per second and {gbits} Gbit/s are {each:.2} CPUs for each of {replicas} replicas; \
                 their limit is {}",
                given.limit
            ));
        }
    }
    table(&rows);
    Ok(missed)
}

impl Costs {
    fn read(results: &Path) -> anyhow::Result<Self> {
        let [connect, bulk, tunnels, rules] =
            ["connect", "bulk", "tunnels", "rules"].map(|question| answer(results, question));
        let (connect, bulk, tunnels, rules) = (connect?, bulk?, tunnels?, rules?);
        let down = ours(&bulk, "GiB down, 8 CONNECT tunnels")?;
        let up = ours(&bulk, "GiB up, 8 CONNECT tunnels")?;
        let memory = last(&tunnels, "memory of open tunnels", "memory")?;
        let starts = last(&rules, "starting with many rules", "starts")?;
        Ok(Self {
            tunnel: ours(&connect, "new CONNECT tunnel, 32 at once")? / 1e6,
            gbit: f64::midpoint(down, up) / 1e6 / GBIT_PER_GIB,
            base: starts["resident"]["median"]
                .as_f64()
                .context("no memory of many rules")?,
            open: memory["all_each"]
                .as_f64()
                .context("no memory of open tunnels with the kernel's part")?
                / 1024.0,
        })
    }
}

impl Given {
    fn read(deploy: &Path) -> anyhow::Result<Self> {
        let pod = deploy.join("base/deployment.yaml");
        let scaler = deploy.join("components/autoscaling/horizontalpodautoscaler.yaml");
        Ok(Self {
            request: number_after(&pod, "requests: {cpu: ", "m")? / 1000.0,
            limit: number_after(&pod, "limits: {cpu: \"", "\"")?,
            target: number_after(&scaler, "averageUtilization: ", "}")? / 100.0,
            least: number_after(&scaler, "minReplicas: ", "\n")?,
            most: number_after(&scaler, "maxReplicas: ", "\n")?,
        })
    }
}

fn number_after(path: &Path, before: &str, after: &str) -> anyhow::Result<f64> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let number = text.split_once(before).and_then(|(_, rest)| rest.split_once(after));
    let (number, _) = number.with_context(|| format!("{}: no `{before}NUMBER{after}`", path.display()))?;
    number.parse().with_context(|| format!("{}: {number}", path.display()))
}

fn answer(results: &Path, question: &str) -> anyhow::Result<Value> {
    let path = results.join(format!("{question}.json"));
    let text = fs::read_to_string(&path).with_context(|| format!("{} (benches/run {question})", path.display()))?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

fn labelled<'a>(answer: &'a Value, label: &str) -> anyhow::Result<&'a Value> {
    let mut tables = answer["tables"].as_array().into_iter().flatten();
    let found = tables.find(|table| table["label"] == label);
    found.with_context(|| format!("no answer to `{label}`"))
}

/// CPU microseconds of ours.
fn ours(answer: &Value, label: &str) -> anyhow::Result<f64> {
    let mut rows = labelled(answer, label)?["rows"].as_array().into_iter().flatten();
    let ours = rows.find(|row| row["name"] == "sluicegate");
    let cost = ours.and_then(|row| row["cpu"]["median"].as_f64());
    cost.with_context(|| format!("no cost of ours in `{label}`"))
}

fn last<'a>(answer: &'a Value, label: &str, key: &str) -> anyhow::Result<&'a Value> {
    let rows = labelled(answer, label)?[key].as_array().and_then(|rows| rows.last());
    rows.with_context(|| format!("nothing in `{label}`"))
}

/// New tunnels per second, Gbit/s, open tunnels.
const LOADS: [(f64, f64, f64); 5] = [
    (100.0, 0.1, 1_000.0),
    (1_000.0, 1.0, 5_000.0),
    (5_000.0, 5.0, 20_000.0),
    (10_000.0, 20.0, 50_000.0),
    (30_000.0, 40.0, 200_000.0),
];
const GBIT_PER_GIB: f64 = 8.589_934_592;
