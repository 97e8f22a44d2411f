//! What does the proxy take when it only waits, with the preset that every cluster has?
//! Must count all that is resident, the pages of its own file included; before and after it has worked.
//! Called as `sluicegate-lab rest`.

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::Answer;
use crate::client::Entry;
use crate::hello::Wish;
use crate::lab::{Lab, NAMES, ZONE};
use crate::load::{self, Until};
use crate::report::{Series, fact, mib, row, table};
use crate::sluicegate::{Sluicegate, write_settings_for};

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Tunnels between the two looks.
    #[arg(long, default_value_t = 5000)]
    tunnels: usize,
    /// Two rounds.
    #[arg(long)]
    quick: bool,
}

pub(crate) async fn ask(binary: &Path, arguments: Arguments) -> anyhow::Result<Answer> {
    let lab = Lab::start(AT_ONCE).await?;
    let targets = lab.targets(NAMES, Wish::Echo)?;
    let rounds = if arguments.quick { 2 } else { arguments.rounds };
    let settings = write_settings_for(&lab, "rest", &policy(lab.origin.address.port()))?;
    let [mut before, mut own, mut after] = [(); 3].map(|()| Series::default());
    for _ in 0..rounds {
        let proxy = Sluicegate::start(binary, &settings).await?;
        let memory = proxy.process.memory()?;
        before.push(mib(memory.resident));
        own.push(mib(memory.own));
        load::tunnels(
            Entry::Connect(proxy.proxy),
            &targets,
            0,
            Until::Count(arguments.tunnels),
            AT_ONCE,
        )
        .await?;
        lab.origin.wait_open(0).await?;
        proxy.wait_metric("sluicegate_open_tunnels", "", 0).await?;
        after.push(mib(proxy.process.memory()?.resident));
    }
    fact("policy", "aks/core for the nodes, with the facts of a cluster");
    fact("between", &format!("{} tunnels, {AT_ONCE} at once", arguments.tunnels));
    table(&[
        row(["at rest", "MiB, median (range)"]),
        row(["resident, just ready", &before.range(1)]),
        row(["of that its own", &own.range(1)]),
        row(["resident, after the tunnels", &after.range(1)]),
    ]);
    let mut missed = Vec::new();
    if before.median() > MOST {
        missed.push(format!("{:.1} MiB at rest; at most {MOST}", before.median()));
    }
    let data = json!({
        "label": "memory at rest",
        "unit": "MiB",
        "at_most": MOST,
        "ready": before.json(),
        "own": own.json(),
        "after": after.json(),
    });
    Ok(Answer {
        data: vec![data],
        missed,
    })
}

fn policy(origin: u16) -> String {
    format!(
        "cluster:\n  \
           cloud: public\n  \
           region: westeurope\n  \
           kubernetes: \"1.35\"\n  \
           engine: cilium\n  \
           api_server: bench-1a2b3c4d.hcp.westeurope.azmk8s.io\n  \
           api_server_addresses: [20.50.1.2/32]\n  \
           networks: {{nodes: [10.224.0.0/16], pods: [10.244.0.0/16], services: [10.0.0.0/16]}}\n\
         workloads:\n  \
           nodes: {{cidrs: [10.224.0.0/16]}}\n\
         allow:\n  \
           - {{preset: aks/core, from: [nodes]}}\n  \
           - {{name: bench, to: [\"*.{ZONE}:{origin}\"], addresses: [127.0.0.0/8]}}\n"
    )
}

const AT_ONCE: usize = 32;
/// Resident MiB.
const MOST: f64 = 12.0;
