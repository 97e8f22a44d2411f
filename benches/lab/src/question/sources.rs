//! What does a new tunnel cost when clients become more: their addresses, and the workloads that a policy knows them by?
//! Must give every client its turn, so that no memory of the last one helps.
//! Called as `sluicegate-lab sources`.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use clap::Args;

use super::Answer;
use super::growth::{Growth, name, points};
use super::tunnel::units;
use crate::cast::{Contender, Kind};
use crate::client::Target;
use crate::hello::Wish;
use crate::lab::{Lab, NAMES, ZONE};
use crate::load::{self, Until};
use crate::rounds::{Effort, Turn, alternate, measured};
use crate::sluicegate::{Sluicegate, policy_text, write_settings_for};

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    effort: Effort,
    /// Client addresses.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 10_000])]
    addresses: Vec<usize>,
    /// Workloads in the policy, each with one address.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1000, 10_000])]
    workloads: Vec<usize>,
}

/// What a policy says of the clients.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Nothing: it is for everybody.
    Addresses,
    /// All workloads are in the `from` of one rule.
    Together,
    /// Each has a rule of its own, all for the same names.
    Apart,
}

pub(crate) async fn ask(binary: &Path, arguments: Arguments) -> anyhow::Result<Answer> {
    let lab = Lab::start(1000).await?;
    let targets = lab.targets(NAMES, Wish::Echo)?;
    let effort = arguments.effort;
    let mut answer = Answer::default();
    for shape in [Shape::Addresses, Shape::Together, Shape::Apart] {
        let counts = match shape {
            Shape::Addresses => &arguments.addresses,
            Shape::Together | Shape::Apart => &arguments.workloads,
        };
        let mut contenders = Vec::new();
        for count in counts {
            let text = shape.policy(&lab, *count, effort.rules);
            let settings = write_settings_for(&lab, &format!("{shape:?}-{count}"), &text)?;
            let ours = Sluicegate::start(binary, &settings).await?;
            contenders.push(Contender::variant(&lab, name(*count), ours, Kind::Connect).await?);
        }
        for contender in &contenders {
            turn(&lab, contender, &targets, Effort::warm_up()).await?;
        }
        let label = shape.label();
        let notes = alternate(label, &contenders, effort.rounds(), async |contender| {
            turn(&lab, contender, &targets, effort.turn()).await
        })
        .await?;
        let growth = Growth {
            label,
            across: shape.across(),
            unit: "tunnel",
            seconds: false,
        };
        answer.flat(growth, &points(counts, notes));
        for contender in &contenders {
            answer.missed.extend(contender.settle(2).await?);
        }
    }
    Ok(answer)
}

async fn turn(lab: &Lab, contender: &Contender, targets: &Arc<[Target]>, until: Until) -> anyhow::Result<Turn> {
    let sources = (0..contender.name.parse()?).map(address).collect();
    measured(contender, async {
        let times = load::tunnels_from(&sources, contender.entry, targets, until, AT_ONCE).await?;
        lab.origin.wait_open(0).await?;
        contender.has_served(times.count());
        Ok((units(times.count())?, times))
    })
    .await
}

impl Shape {
    fn label(self) -> &'static str {
        match self {
            Self::Addresses => "new tunnel, one rule for all",
            Self::Together => "new tunnel, one rule",
            Self::Apart => "new tunnel, a rule each",
        }
    }

    fn across(self) -> &'static str {
        match self {
            Self::Addresses => "client addresses",
            Self::Together | Self::Apart => "workloads",
        }
    }

    fn policy(self, lab: &Lab, count: usize, rules: usize) -> String {
        let port = lab.origin.address.port();
        let to = format!("to: [\"*.{ZONE}:{port}\"], addresses: [127.0.0.0/8]");
        let named = (0..count).map(|number| format!("  client-{number}: {{cidrs: [{}/32]}}\n", address(number)));
        let workloads = "workloads:\n".to_owned() + &named.collect::<String>();
        match self {
            Self::Addresses => policy_text(rules, &lab.origin),
            Self::Together => {
                let all: Vec<_> = (0..count).map(|number| format!("client-{number}")).collect();
                let all = all.join(", ");
                format!("{workloads}allow:\n  - {{name: bench, from: [{all}], {to}}}\n")
            }
            Self::Apart => {
                let each = |number| format!("  - {{name: bench-{number}, from: [client-{number}], {to}}}\n");
                let each: String = (0..count).map(each).collect();
                format!("{workloads}allow:\n{each}")
            }
        }
    }
}

/// The address of a client: from 127.1.0.1 on, all of this machine.
fn address(number: usize) -> Ipv4Addr {
    let first = u32::from(Ipv4Addr::new(127, 1, 0, 1));
    Ipv4Addr::from(first + u32::try_from(number).unwrap_or_default())
}

const AT_ONCE: usize = 32;
