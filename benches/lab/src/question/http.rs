//! What does a page cost that is asked for by plain HTTP, on connections that stay open?
//! Must have the proxy judge each request: ours leaves a record of every one.
//! Called as `sluicegate-lab http`.

use std::path::Path;
use std::sync::Arc;

use anyhow::ensure;

use super::tunnel::units;
use super::{Answer, Columns};
use crate::cast::{Contender, Kind, cast};
use crate::client::Target;
use crate::hello::Wish;
use crate::lab::{Lab, NAMES};
use crate::load::{self, Until};
use crate::rounds::{Effort, Turn, alternate, measured};

pub(crate) async fn ask(binary: &Path, effort: Effort) -> anyhow::Result<Answer> {
    let lab = Lab::start(1000).await?;
    let contenders = cast(&lab, binary, Kind::Web, effort.rules).await?;
    let targets = lab.targets(NAMES, Wish::Echo)?;
    for contender in &contenders {
        turn(contender, &targets, Effort::warm_up()).await?;
    }
    let label = "plain HTTP GET, 32 connections kept alive";
    let notes = alternate(label, &contenders, effort.rounds(), async |contender| {
        turn(contender, &targets, effort.turn()).await
    })
    .await?;
    let mut answer = Answer::default();
    let columns = Columns {
        unit: "request",
        seconds: false,
        latency: true,
        at_most: Some(2.5),
    };
    answer.add(label, columns, &notes);
    for contender in &contenders {
        answer.missed.extend(contender.settle(2).await?);
    }
    Ok(answer)
}

pub(super) async fn turn(contender: &Contender, targets: &Arc<[Target]>, until: Until) -> anyhow::Result<Turn> {
    measured(contender, async {
        let (times, opened) = load::pages(contender.address(), targets, until, CONNECTIONS).await?;
        // A peer that cannot keep a connection pays for each page with a new one.
        ensure!(
            opened == CONNECTIONS || contender.is_peer(),
            "{opened} connections, not {CONNECTIONS}"
        );
        contender.has_served(times.count());
        Ok((units(times.count())?, times))
    })
    .await
}

const CONNECTIONS: usize = 32;
