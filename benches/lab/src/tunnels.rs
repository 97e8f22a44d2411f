//! What does an idle tunnel cost in the proxy's own memory?
//! Must count what the proxy keeps (`RssAnon`), not what the kernel keeps for the sockets.
//! Called as `binary tunnels`.

use std::path::Path;

use clap::Args;

use crate::client::open_and_keep;
use crate::lab::Lab;
use crate::report::{fact, row, table};
use crate::sluicegate::{Sluicegate, write_settings};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Tunnels in the end; two descriptors each.
    #[arg(long, default_value_t = 9000)]
    tunnels: usize,
    #[arg(long, default_value_t = 10)]
    rules: usize,
}

pub(crate) async fn measure(binary: &Path, arguments: &Arguments) -> anyhow::Result<Vec<String>> {
    let lab = Lab::start(arguments.tunnels).await?;
    let settings = write_settings(&lab, arguments.rules)?;
    let proxy = Sluicegate::start(binary, &settings).await?;
    fact("rules", &arguments.rules.to_string());
    fact(
        "in each tunnel",
        &format!("CONNECT, hello, answer, then {ECHO} bytes there and back"),
    );
    fact("opened", &format!("{AT_ONCE} at once"));

    let before = proxy.process.memory()?;
    let mut rows = vec![row(["open tunnels", "own memory, KiB", "KiB per tunnel"])];
    rows.push(row(["0", &before.own.to_string(), ""]));
    let mut open = Vec::new();
    let mut per_tunnel = f64::NAN;
    for wanted in [arguments.tunnels / 9, arguments.tunnels / 3, arguments.tunnels] {
        let more = wanted - open.len();
        open.extend(open_and_keep(proxy.proxy, &lab.targets, more, AT_ONCE, ECHO).await?);
        lab.origin.wait_open(wanted).await?;
        proxy.wait_metric("sluicegate_open_tunnels", "", wanted).await?;
        let own = proxy.process.memory()?.own;
        per_tunnel = kib(own.saturating_sub(before.own)) / kib(u64::try_from(wanted)?);
        rows.push(row([
            &wanted.to_string(),
            &own.to_string(),
            &format!("{per_tunnel:.2}"),
        ]));
    }
    drop(open);
    lab.origin.wait_open(0).await?;
    proxy.wait_metric("sluicegate_open_tunnels", "", 0).await?;
    let after = proxy.process.memory()?.own;
    rows.push(row(["0, after all were closed", &after.to_string(), ""]));
    table(&rows);
    proxy.wait_records(2 * arguments.tunnels).await?;

    let mut missed = Vec::new();
    if per_tunnel > TARGET {
        missed.push(format!(
            "{per_tunnel:.2} KiB per idle tunnel; at most {TARGET} at {} tunnels",
            arguments.tunnels
        ));
    }
    Ok(missed)
}

fn kib(value: u64) -> f64 {
    // Far below 2^52.
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^52")]
    let value = value as f64;
    value
}

const ECHO: usize = 500;
const AT_ONCE: usize = 32;
/// KiB of own memory per idle tunnel.
const TARGET: f64 = 4.0;
