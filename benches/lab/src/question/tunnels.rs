//! What does a new tunnel cost while others are open, in CPU time; and what do those take, the kernel's part included?
//! Must measure beside a proxy that has none open, in the same rounds.
//! Called as `sluicegate-lab tunnels`.

use std::path::Path;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::growth::{Growth, Point};
use super::{Answer, tunnel};
use crate::cast::{Contender, Kind};
use crate::group::Group;
use crate::hello::Wish;
use crate::lab::{Lab, NAMES};
use crate::load;
use crate::report::{Series, fact, mib, row, table};
use crate::rounds::{Effort, alternate};
use crate::sluicegate::{Sluicegate, policy_text, write_settings_for};

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    effort: Effort,
    /// Open at the same time, from few to many; two descriptors each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1000, 9000])]
    tunnels: Vec<usize>,
}

pub(crate) async fn ask(binary: &Path, arguments: Arguments) -> anyhow::Result<Answer> {
    let effort = arguments.effort;
    let most = arguments.tunnels.iter().copied().max().context("no tunnels")?;
    let lab = Lab::start(most + 2 * AT_ONCE).await?;
    let targets = lab.targets(NAMES, Wish::Echo)?;
    let text = policy_text(effort.rules, &lab.origin);
    let mut contenders = Vec::new();
    for which in ["none open", "open"] {
        let ours = Sluicegate::start(binary, &write_settings_for(&lab, which, &text)?).await?;
        contenders.push(Contender::variant(&lab, which, ours, Kind::Connect).await?);
    }
    let [none, many] = contenders.as_slice() else {
        unreachable!("two were made")
    };
    let group = Group::around(many.sluicegate().context("ours")?.process.id());
    if let Err(error) = &group {
        fact("memory with the kernel's part", &format!("not measured: {error:#}"));
    }

    let mut answer = Answer::default();
    let mut rows = vec![row([
        "open tunnels",
        "own MiB",
        "KiB each",
        "with the kernel's part, MiB",
        "KiB each",
    ])];
    let mut memory = Vec::new();
    let mut points = Vec::new();
    let mut open = Vec::new();
    // Warm: what the first tunnels cost once is not theirs.
    tunnel::turn(&lab, many, &targets, Effort::warm_up(), AT_ONCE).await?;
    let before = Kept::of(many, group.as_ref().ok())?;
    for wanted in arguments.tunnels {
        let more = load::open(many.entry, &targets, wanted.saturating_sub(open.len()), AT_ONCE).await?;
        many.has_served(more.len());
        open.extend(more);
        lab.origin.wait_open(open.len()).await?;
        let kept = Kept::of(many, group.as_ref().ok())?;
        let each = f64::from(u32::try_from(wanted)?) / 1024.0;
        let own = (kept.own - before.own) / each;
        let all = kept.all.zip(before.all).map(|(all, before)| (all - before) / each);
        rows.push(row([
            &wanted.to_string(),
            &format!("{:.1}", kept.own),
            &format!("{own:.2}"),
            &kept.all.map(|all| format!("{all:.1}")).unwrap_or_default(),
            &all.map(|all| format!("{all:.2}")).unwrap_or_default(),
        ]));
        memory.push(json!({"count": wanted, "own_each": own, "all_each": all, "own": kept.own, "all": kept.all}));

        let label = format!("new tunnel beside {wanted} open ones");
        let notes = alternate(&label, &contenders, effort.rounds(), async |contender| {
            tunnel::turn_beside(&lab, contender, &targets, effort.turn(), AT_ONCE, open.len()).await
        })
        .await?;
        if let [first, second] = notes.as_slice() {
            points.push(Point {
                count: wanted,
                cpu: second.total.clone(),
                ratio: second.total.over(&first.total),
                floor: Series::default(),
            });
        }
    }
    table(&rows);
    let growth = Growth {
        label: "new tunnel",
        across: "open tunnels",
        unit: "tunnel",
        seconds: false,
    };
    answer.flat(growth, &points);
    answer
        .data
        .push(json!({"label": "memory of open tunnels", "unit": "KiB", "memory": memory}));
    drop(open);
    lab.origin.wait_open(0).await?;
    for contender in [none, many] {
        answer.missed.extend(contender.settle(2).await?);
    }
    Ok(answer)
}

/// MiB.
struct Kept {
    own: f64,
    /// As a pod's limit counts.
    all: Option<f64>,
}

impl Kept {
    fn of(contender: &Contender, group: Option<&Group>) -> anyhow::Result<Self> {
        Ok(Self {
            own: mib(contender.memory()?.own),
            all: group.map(Group::memory).transpose()?.map(mib),
        })
    }
}

/// Few: of 20,000 descriptors, which some systems do not let one raise, a proxy promises 9,026 clients theirs, and one whose
/// client has gone keeps its place until the proxy has seen that.
const AT_ONCE: usize = 4;
