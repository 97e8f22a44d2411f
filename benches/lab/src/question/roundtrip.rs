//! What does a round trip of 64 bytes cost on tunnels that are open, when there is always another one?
//! Must not count how the tunnels came to be open.
//! Called as `sluicegate-lab roundtrip`.

use std::path::Path;
use std::sync::Arc;

use super::tunnel::units;
use super::{Answer, Columns};
use crate::cast::{Contender, Kind, cast};
use crate::client::Target;
use crate::hello::Wish;
use crate::lab::{Lab, NAMES};
use crate::load::{self, Until};
use crate::rounds::{Effort, Turn, alternate, measured};

pub(crate) async fn ask(binary: &Path, effort: Effort) -> anyhow::Result<Answer> {
    let mut answer = Answer::default();
    let lab = Lab::start(1000).await?;
    for (kind, label) in [
        (Kind::Connect, "64-byte round trip, 32 CONNECT tunnels"),
        (Kind::Tls, "64-byte round trip, 32 TLS connections"),
    ] {
        let contenders = cast(&lab, binary, kind, effort.rules).await?;
        let targets = lab.targets(NAMES, Wish::Echo)?;
        for contender in &contenders {
            turn(&lab, contender, &targets, Effort::warm_up()).await?;
        }
        let notes = alternate(label, &contenders, effort.rounds(), async |contender| {
            turn(&lab, contender, &targets, effort.turn()).await
        })
        .await?;
        let columns = Columns {
            unit: "round trip",
            seconds: false,
            latency: true,
            at_most: Some(1.05),
        };
        answer.add(label, columns, &notes);
        for contender in &contenders {
            answer.missed.extend(contender.settle(2).await?);
        }
    }
    Ok(answer)
}

pub(super) async fn turn(
    lab: &Lab,
    contender: &Contender,
    targets: &Arc<[Target]>,
    until: Until,
) -> anyhow::Result<Turn> {
    let tunnels = load::open(contender.entry, targets, TUNNELS, TUNNELS).await?;
    contender.has_served(tunnels.len());
    // The first bytes of a tunnel are not like those that follow.
    let (_, tunnels) = load::echoes(tunnels, BYTES, Until::Count(10 * TUNNELS)).await?;
    let mut open = Vec::new();
    let turn = measured(contender, async {
        let (times, tunnels) = load::echoes(tunnels, BYTES, until).await?;
        open = tunnels;
        Ok((units(times.count())?, times))
    })
    .await;
    drop(open);
    lab.origin.wait_open(0).await?;
    turn
}

const TUNNELS: usize = 32;
const BYTES: usize = 64;
