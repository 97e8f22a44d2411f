//! What does the proxy take when it only waits, with the preset that every cluster has?
//! Must count all that is resident, the pages of its own file included; before and after it has worked.
//! Called as `rest`.

use std::path::Path;

use clap::Args;

use crate::lab::{Lab, ZONE};
use crate::load::open_and_close;
use crate::report::{Series, fact, mib, row, table};
use crate::sluicegate::{Sluicegate, write_settings_for};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Tunnels between the two looks.
    #[arg(long, default_value_t = 5000)]
    tunnels: usize,
}

pub(crate) async fn measure(binary: &Path, arguments: &Arguments) -> anyhow::Result<Vec<String>> {
    let lab = Lab::start(AT_ONCE).await?;
    let settings = write_settings_for(&lab, "rest", &policy(lab.origin.address.port()))?;
    let [mut before, mut own, mut after] = [const { Series::new() }; 3];
    for _ in 0..arguments.rounds {
        let proxy = Sluicegate::start(binary, &settings).await?;
        let memory = proxy.process.memory()?;
        before.push(mib(memory.resident));
        own.push(mib(memory.own));
        open_and_close(proxy.proxy, &lab.targets, arguments.tunnels, AT_ONCE).await?;
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
    Ok(missed)
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
