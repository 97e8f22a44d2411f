//! What does a new tunnel cost in CPU time: with CONNECT, or of transparent TLS?
//! Must end a turn only when its last tunnel is closed at both ends.
//! Called as `sluicegate-lab connect` and `sluicegate-lab tls`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cast::{Contender, Kind, cast};
use crate::client::Target;
use crate::hello::Wish;
use crate::lab::{Lab, NAMES};
use crate::load::{self, Until};
use crate::question::{Answer, Columns};
use crate::report::fact;
use crate::rounds::{Effort, Turn, alternate, measured};

pub(crate) async fn connect(binary: &Path, effort: Effort) -> anyhow::Result<Answer> {
    let variants = [
        ("new CONNECT tunnel, 32 at once", NAMES, 32),
        ("new CONNECT tunnel, 20,000 names", 20_000, 32),
    ];
    ask(binary, effort, Kind::Connect, &variants, 1.25).await
}

pub(crate) async fn tls(binary: &Path, effort: Effort) -> anyhow::Result<Answer> {
    let variants = [
        ("new TLS connection, 32 at once", NAMES, 32),
        ("new TLS connection, 1 at a time", NAMES, 1),
    ];
    ask(binary, effort, Kind::Tls, &variants, 1.10).await
}

async fn ask(
    binary: &Path,
    effort: Effort,
    kind: Kind,
    variants: &[(&str, usize, usize)],
    at_most: f64,
) -> anyhow::Result<Answer> {
    let lab = Lab::start(1000).await?;
    let contenders = cast(&lab, binary, kind, effort.rules).await?;
    let mut answer = Answer::default();
    for (label, names, at_once) in variants {
        let targets = lab.targets(*names, Wish::Echo)?;
        for contender in &contenders {
            turn(&lab, contender, &targets, Effort::warm_up(), *at_once).await?;
            // Every name is known before it counts, to all that can learn them within that time.
            let learned = Until::Either(LEARNING, *names);
            let learned = turn(&lab, contender, &targets, learned, *at_once).await?.times.count();
            if learned < *names {
                fact(
                    contender.name,
                    &format!("only {learned} names in {} s before", LEARNING.as_secs()),
                );
            }
        }
        let notes = alternate(label, &contenders, effort.rounds(), async |contender| {
            turn(&lab, contender, &targets, effort.turn(), *at_once).await
        })
        .await?;
        let columns = Columns {
            unit: "tunnel",
            seconds: false,
            latency: true,
            at_most: Some(at_most),
        };
        answer.add(label, columns, &notes);
    }
    for contender in &contenders {
        answer.missed.extend(contender.settle(2).await?);
    }
    Ok(answer)
}

pub(super) async fn turn(
    lab: &Lab,
    contender: &Contender,
    targets: &Arc<[Target]>,
    until: Until,
    at_once: usize,
) -> anyhow::Result<Turn> {
    turn_beside(lab, contender, targets, until, at_once, 0).await
}

/// While that many others stay open.
pub(super) async fn turn_beside(
    lab: &Lab,
    contender: &Contender,
    targets: &Arc<[Target]>,
    until: Until,
    at_once: usize,
    others: usize,
) -> anyhow::Result<Turn> {
    measured(contender, async {
        let first = contender.served();
        let times = load::tunnels(contender.entry, targets, first, until, at_once).await?;
        lab.origin.wait_open(others).await?;
        contender.has_served(times.count());
        Ok((units(times.count())?, times))
    })
    .await
}

pub(super) fn units(count: usize) -> anyhow::Result<f64> {
    Ok(f64::from(u32::try_from(count)?))
}

const LEARNING: Duration = Duration::from_secs(30);
