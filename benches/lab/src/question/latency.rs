//! How much later does the first answer come through a proxy than without one?
//! Must compare within one round, all of them and the origin itself.
//! Called as `sluicegate-lab latency`.

use std::path::Path;

use serde_json::json;

use super::{Answer, tunnel};
use crate::cast::{Contender, Kind, cast};
use crate::hello::Wish;
use crate::lab::{Lab, NAMES};
use crate::report::{Series, row, table};
use crate::rounds::{Effort, Noted, alternate};

/// What one adds to a direct connection, in microseconds.
struct Added {
    kind: Kind,
    name: &'static str,
    p50: Series,
    p99: Series,
}

pub(crate) async fn ask(binary: &Path, effort: Effort) -> anyhow::Result<Answer> {
    let lab = Lab::start(1000).await?;
    let mut contenders = vec![Contender::direct(&lab)];
    let mut kinds = vec![None];
    for kind in [Kind::Connect, Kind::Tls] {
        let all = cast(&lab, binary, kind, effort.rules).await?;
        kinds.extend(all.iter().map(|_| Some(kind)));
        contenders.extend(all);
    }
    let targets = lab.targets(NAMES, Wish::Echo)?;
    let mut answer = Answer::default();
    for (label, at_once) in [("added latency, 1 at a time", 1), ("added latency, 32 at once", 32)] {
        for contender in &contenders {
            tunnel::turn(&lab, contender, &targets, Effort::warm_up(), at_once).await?;
        }
        let notes = alternate(label, &contenders, effort.rounds(), async |contender| {
            tunnel::turn(&lab, contender, &targets, effort.turn(), at_once).await
        })
        .await?;
        let Some((direct, notes)) = notes.split_first() else {
            continue;
        };
        let kinds = kinds.iter().copied().skip(1).flatten();
        let all: Vec<_> = kinds
            .zip(notes)
            .map(|(kind, note)| Added::new(kind, note, direct))
            .collect();
        answer.latency(label, direct, &all);
    }
    for contender in &contenders {
        answer.missed.extend(contender.settle(2).await?);
    }
    Ok(answer)
}

impl Added {
    fn new(kind: Kind, note: &Noted, direct: &Noted) -> Self {
        Self {
            kind,
            name: note.name,
            p50: note.p50.less(&direct.p50),
            p99: note.p99.less(&direct.p99),
        }
    }
}

impl Answer {
    fn latency(&mut self, label: &str, direct: &Noted, all: &[Added]) {
        let mut rows = vec![row([label, "", "p50 us, median (range)", "p99 us, median (range)"])];
        rows.push(row(["direct (whole)", "", &direct.p50.range(0), &direct.p99.range(0)]));
        for one in all {
            rows.push(row([one.name, one.kind.label(), &one.p50.range(0), &one.p99.range(0)]));
        }
        table(&rows);
        self.data.push(json!({
            "label": label,
            "unit": "us beside a direct connection",
            "rows": all.iter().map(|one| json!({
                "name": one.name,
                "kind": one.kind.label(),
                "p50": one.p50.json(),
                "p99": one.p99.json(),
            })).collect::<Vec<_>>(),
        }));
        for ours in all.iter().filter(|one| one.name == "sluicegate") {
            let peers = all
                .iter()
                .filter(|one| one.kind == ours.kind && !["floor", ours.name].contains(&one.name));
            for peer in peers {
                for (which, ours_adds, peer_adds) in [("p50", &ours.p50, &peer.p50), ("p99", &ours.p99, &peer.p99)] {
                    if ours_adds.median() > peer_adds.median() {
                        self.missed.push(format!(
                            "{label}, {}: {which} is {:.0} us; no more than {}'s {:.0}",
                            ours.kind.label(),
                            ours_adds.median(),
                            peer.name,
                            peer_adds.median()
                        ));
                    }
                }
            }
        }
    }
}
