//! What does a new tunnel cost when clients become more: their addresses, and the workloads that a policy knows them by?
//! Must give every client its turn, so that no cache of the last one helps.
//! Called as `sources`.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use clap::Args;

use crate::lab::{Lab, ZONE};
use crate::load::open_and_close_from;
use crate::report::fact;
use crate::sluicegate::{Sluicegate, write_settings, write_settings_for};
use crate::turns::{Variant, alternate, flat};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Tunnels in one turn.
    #[arg(long, default_value_t = 10_000)]
    tunnels: usize,
    #[arg(long, default_value_t = 32)]
    at_once: usize,
    /// Client addresses.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 10_000])]
    addresses: Vec<usize>,
    /// Workloads in the policy, each with one address.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1000, 10_000])]
    workloads: Vec<usize>,
    /// Rules of the policy while addresses are counted.
    #[arg(long, default_value_t = 1000)]
    rules: usize,
}

#[derive(Debug)]
struct Crowd<'a> {
    proxy: &'a Sluicegate,
    sources: Arc<[Ipv4Addr]>,
}

pub(crate) async fn measure(binary: &Path, arguments: &Arguments) -> anyhow::Result<Vec<String>> {
    let lab = Lab::start(arguments.at_once).await?;
    fact(
        "a turn",
        &format!("{} tunnels, {} at once", arguments.tunnels, arguments.at_once),
    );
    let turn = async |crowd: &Crowd<'_>| {
        let before = crowd.proxy.process.cpu()?;
        open_and_close_from(
            &crowd.sources,
            crowd.proxy.proxy,
            &lab.targets,
            arguments.tunnels,
            arguments.at_once,
        )
        .await?;
        lab.origin.wait_open(0).await?;
        let cpu = crowd.proxy.process.cpu()?.since(before).total();
        Ok(cpu.as_secs_f64() * 1e6 / f64::from(u32::try_from(arguments.tunnels)?))
    };

    let proxy = Sluicegate::start(binary, &write_settings(&lab, arguments.rules)?).await?;
    let mut addresses = Vec::new();
    for count in &arguments.addresses {
        let sources = (0..*count).map(address).collect();
        addresses.push(Variant::new(count.to_string(), Crowd { proxy: &proxy, sources }));
    }
    alternate(UNIT, arguments.rounds, &mut addresses, &turn).await?;
    let mut missed = flat("client addresses", UNIT, &addresses);

    for shape in [Shape::Together, Shape::Apart] {
        let mut proxies = Vec::new();
        for count in &arguments.workloads {
            let text = shape.policy(*count, lab.origin.address.port());
            let settings = write_settings_for(&lab, &format!("{shape:?}-{count}"), &text)?;
            proxies.push((*count, Sluicegate::start(binary, &settings).await?));
        }
        let mut workloads = Vec::new();
        for (count, proxy) in &proxies {
            let sources = (0..*count).map(address).collect();
            workloads.push(Variant::new(count.to_string(), Crowd { proxy, sources }));
        }
        alternate(UNIT, arguments.rounds, &mut workloads, &turn).await?;
        missed.extend(flat(shape.name(), UNIT, &workloads));
    }
    Ok(missed)
}

/// How the workloads are allowed the same names.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// One rule has them all in `from`.
    Together,
    /// Each has a rule of its own.
    Apart,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::Together => "workloads in one rule",
            Self::Apart => "workloads, each with a rule",
        }
    }

    fn policy(self, workloads: usize, origin: u16) -> String {
        let to = format!("to: [\"*.{ZONE}:{origin}\"], addresses: [127.0.0.0/8]");
        let named = (0..workloads).map(|number| format!("  client-{number}: {{cidrs: [{}/32]}}\n", address(number)));
        let workloads_section = "workloads:\n".to_owned() + &named.collect::<String>();
        let rules: String = match self {
            Self::Together => {
                let all: Vec<_> = (0..workloads).map(|number| format!("client-{number}")).collect();
                format!("  - {{name: bench, from: [{}], {to}}}\n", all.join(", "))
            }
            Self::Apart => {
                let each = |number| format!("  - {{name: bench-{number}, from: [client-{number}], {to}}}\n");
                (0..workloads).map(each).collect()
            }
        };
        format!("{workloads_section}allow:\n{rules}")
    }
}

/// The address of a client: from 127.1.0.1 on, all of this machine.
fn address(number: usize) -> Ipv4Addr {
    let first = u32::from(Ipv4Addr::new(127, 1, 0, 1));
    Ipv4Addr::from(first + u32::try_from(number).unwrap_or_default())
}

const UNIT: &str = "CPU us per new tunnel";
