//! What does a CONNECT cost in CPU time, beside squid and tinyproxy in the same run?
//! Must take turns: what the machine does meanwhile must hit all proxies alike.
//! Called as `binary connect`.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, ensure};
use clap::Args;
use tokio::time::Instant;

use crate::client::open_and_close;
use crate::lab::Lab;
use crate::peers;
use crate::process::{Cpu, Process};
use crate::report::{Series, fact, row, table};
use crate::sluicegate::{Sluicegate, write_settings};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Each round gives every proxy one turn.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Tunnels in one turn.
    #[arg(long, default_value_t = 5000)]
    tunnels: usize,
    #[arg(long, default_value_t = 32)]
    at_once: usize,
    /// Rules of our policy; the peers have ten.
    #[arg(long, default_value_t = 1000)]
    rules: usize,
}

/// One proxy and what was measured of it, in microseconds of CPU time per tunnel.
struct Contender<'a> {
    name: &'static str,
    process: &'a Process,
    address: SocketAddr,
    user: Series,
    system: Series,
    total: Series,
}

pub(crate) async fn measure(binary: &Path, arguments: &Arguments) -> anyhow::Result<Vec<String>> {
    let lab = Lab::start(arguments.at_once).await?;
    let settings = write_settings(&lab, arguments.rules)?;
    let ours = Sluicegate::start(binary, &settings).await?;
    let squid = peers::squid(&lab).await?;
    let tinyproxy = peers::tinyproxy(&lab).await?;
    fact(
        "sluicegate",
        &format!("{} rules, records to a file, metrics on", arguments.rules),
    );
    for peer in [&squid, &tinyproxy] {
        fact(
            peer.name,
            &format!("{}, ten allowed zones, no access log", peer.version),
        );
    }
    fact(
        "a turn",
        &format!("{} tunnels, {} at once", arguments.tunnels, arguments.at_once),
    );
    let mut contenders = [
        Contender::new("sluicegate", &ours.process, ours.proxy),
        Contender::new(squid.name, &squid.process, squid.address),
        Contender::new(tinyproxy.name, &tinyproxy.process, tinyproxy.address),
    ];
    for contender in &contenders {
        let (status, _) = lab.denied.ask(contender.address).await?;
        ensure!(
            status == 403,
            "{} answers {status} to what it must refuse",
            contender.name
        );
        let warm_up = arguments.tunnels.div_ceil(10);
        contender.turn(&lab, warm_up, arguments.at_once).await?;
    }
    println!("\nround proxy user_us system_us total_us wall_ms");
    for round in 0..arguments.rounds {
        for turn in 0..contenders.len() {
            let next = (round + turn) % contenders.len();
            let contender = contenders.get_mut(next).context("no contenders")?;
            let started = Instant::now();
            let cpu = contender.turn(&lab, arguments.tunnels, arguments.at_once).await?;
            let wall = started.elapsed().as_millis();
            let name = contender.name;
            let (user, system) = contender.note(cpu, arguments.tunnels)?;
            println!("{} {name} {user:.1} {system:.1} {:.1} {wall}", round + 1, user + system);
        }
    }

    // A denial leaves one record, a tunnel two; all of them must be there, or ours did less than it says.
    let served = arguments.tunnels * arguments.rounds + arguments.tunnels.div_ceil(10);
    ours.wait_metric("sluicegate_decisions_total", "action=\"allow\"", served)
        .await?;
    ours.wait_metric("sluicegate_records_dropped_total", "", 0).await?;
    ours.wait_records(2 * served + 1).await?;

    let [us, others @ ..] = &contenders;
    let mut rows = vec![row([
        "",
        "CPU us per CONNECT, median (range)",
        "user",
        "system",
        "against ours",
    ])];
    for contender in &contenders {
        rows.push(row([
            contender.name,
            &contender.total.range(1),
            &format!("{:.1}", contender.user.median()),
            &format!("{:.1}", contender.system.median()),
            &format!("{:.2}", contender.total.median() / us.total.median()),
        ]));
    }
    table(&rows);
    let missed = others.iter().filter(|other| us.total.median() >= other.total.median());
    Ok(missed
        .map(|other| {
            let (ours, theirs) = (us.total.median(), other.total.median());
            format!(
                "{ours:.1} us of CPU time per CONNECT; below {}'s {theirs:.1} us",
                other.name
            )
        })
        .collect())
}

impl<'a> Contender<'a> {
    fn new(name: &'static str, process: &'a Process, address: SocketAddr) -> Self {
        Self {
            name,
            process,
            address,
            user: Series::default(),
            system: Series::default(),
            total: Series::default(),
        }
    }

    /// The CPU time of one turn, until the last tunnel is closed at both ends.
    async fn turn(&self, lab: &Lab, tunnels: usize, at_once: usize) -> anyhow::Result<Cpu> {
        let before = self.process.cpu()?;
        open_and_close(self.address, &lab.targets, tunnels, at_once)
            .await
            .context(self.name)?;
        lab.origin.wait_open(0).await?;
        Ok(self.process.cpu()?.since(before))
    }

    /// Notes a turn; user and system time in microseconds per tunnel.
    fn note(&mut self, cpu: Cpu, tunnels: usize) -> anyhow::Result<(f64, f64)> {
        let each = 1e6 / f64::from(u32::try_from(tunnels)?);
        let (user, system) = (cpu.user.as_secs_f64() * each, cpu.system.as_secs_f64() * each);
        self.user.push(user);
        self.system.push(system);
        self.total.push(user + system);
        Ok((user, system))
    }
}
