//! What does a GiB cost that is streamed through 1, 8 or 32 tunnels, down or up?
//! Must not count how the tunnels came to be open; every byte is compared.
//! Called as `sluicegate-lab bulk`.

use std::path::Path;

use clap::Args;

use super::{Answer, Columns};
use crate::cast::{Contender, Kind, cast};
use crate::hello::Wish;
use crate::lab::{Lab, NAMES};
use crate::load::{self, Times};
use crate::rounds::{Effort, Turn, alternate, measured};

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) effort: Effort,
    /// MiB of one turn, all tunnels together.
    #[arg(long, default_value_t = 512)]
    mib: u32,
}

pub(crate) async fn ask(binary: &Path, arguments: Arguments) -> anyhow::Result<Answer> {
    let effort = arguments.effort;
    let mib = if effort.quick { arguments.mib / 4 } else { arguments.mib };
    let mut answer = Answer::default();
    let lab = Lab::start(1000).await?;
    for (kind, through) in [(Kind::Connect, "CONNECT tunnels"), (Kind::Tls, "TLS connections")] {
        let contenders = cast(&lab, binary, kind, effort.rules).await?;
        for tunnels in [1, 8, 32] {
            for down in [true, false] {
                let label = format!("{}, {tunnels} {through}", if down { "GiB down" } else { "GiB up" });
                let notes = alternate(&label, &contenders, effort.rounds(), async |contender| {
                    turn(&lab, contender, tunnels, down, mib).await
                })
                .await?;
                let columns = Columns {
                    unit: "GiB",
                    seconds: true,
                    latency: false,
                    at_most: Some(1.15),
                };
                answer.add(&label, columns, &notes);
            }
        }
        for contender in &contenders {
            answer.missed.extend(contender.settle(2).await?);
        }
    }
    Ok(answer)
}

pub(super) async fn turn(lab: &Lab, contender: &Contender, tunnels: u32, down: bool, mib: u32) -> anyhow::Result<Turn> {
    let length = (u64::from(mib) << 20) / u64::from(tunnels);
    let wish = if down { Wish::Down(length) } else { Wish::Up(length) };
    let targets = lab.targets(NAMES, wish)?;
    let at_once = usize::try_from(tunnels)?;
    let tunnels = load::open(contender.entry, &targets, at_once, at_once).await?;
    contender.has_served(tunnels.len());
    let mut open = Vec::new();
    let turn = measured(contender, async {
        open = load::streams(tunnels, length, down).await?;
        Ok((f64::from(mib) / 1024.0, Times::default()))
    })
    .await;
    drop(open);
    lab.origin.wait_open(0).await?;
    turn
}
