//! Rounds: everybody gets one turn in each, and is compared with the floor of the same round.
//! Must take turns in another order each time: what the machine does meanwhile must hit all alike.
//! Called by the questions, which say what a turn is.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::time::Instant;

use crate::cast::Contender;
use crate::load::{Times, Until};
use crate::process::Cpu;
use crate::report::Series;

/// How much is measured.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Effort {
    /// Each round gives everybody one turn.
    #[arg(long, default_value_t = 7)]
    pub(crate) rounds: usize,
    /// Milliseconds of a turn that has no other end.
    #[arg(long, default_value_t = 1000)]
    pub(crate) turn: u64,
    /// A short pass: three rounds, shorter turns, fewer tunnels.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Rules of our policy; the peers have ten.
    #[arg(long, default_value_t = 1000)]
    pub(crate) rules: usize,
}

/// What a turn has come to.
#[derive(Debug)]
pub(crate) struct Turn {
    /// How many units, in the unit of the table.
    pub(crate) units: f64,
    pub(crate) cpu: Cpu,
    pub(crate) wall: Duration,
    pub(crate) times: Times,
}

/// All turns of one contender. CPU time is in microseconds per unit, and so are the percentiles.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    pub(crate) name: &'static str,
    pub(crate) user: Series,
    pub(crate) system: Series,
    pub(crate) total: Series,
    /// As multiples of the floor's in the same round.
    pub(crate) multiple: Series,
    pub(crate) p50: Series,
    pub(crate) p99: Series,
    /// Units per second by the clock.
    pub(crate) rate: Series,
}

impl Effort {
    pub(crate) fn rounds(&self) -> usize {
        if self.quick { self.rounds.min(3) } else { self.rounds }
    }

    pub(crate) fn turn(&self) -> Until {
        Until::Time(Duration::from_millis(if self.quick {
            self.turn.min(400)
        } else {
            self.turn
        }))
    }

    /// Before it counts: caches are filled, buffers and pools have the size they need.
    pub(crate) fn warm_up() -> Until {
        Until::Time(Duration::from_millis(300))
    }
}

/// Measures what one turn does; `work` says how many units it was.
pub(crate) async fn measured<F>(contender: &Contender, work: F) -> anyhow::Result<Turn>
where
    F: Future<Output = anyhow::Result<(f64, Times)>>,
{
    let before = contender.cpu()?;
    let started = Instant::now();
    let (units, times) = work.await.context(contender.name)?;
    Ok(Turn {
        units,
        cpu: contender.cpu()?.since(before),
        wall: started.elapsed(),
        times,
    })
}

/// All rounds; the floor's multiples come from the contender of that name.
pub(crate) async fn alternate(
    label: &str,
    contenders: &[Contender],
    rounds: usize,
    turn: impl AsyncFn(&Contender) -> anyhow::Result<Turn>,
) -> anyhow::Result<Vec<Noted>> {
    let mut notes: Vec<_> = contenders
        .iter()
        .map(|contender| Noted {
            name: contender.name,
            ..Noted::default()
        })
        .collect();
    println!("\n{label}\nround proxy units user_us system_us total_us p50_us p99_us wall_ms");
    for round in 0..rounds {
        for step in 0..contenders.len() {
            let next = (round + step) % contenders.len();
            let (Some(contender), Some(note)) = (contenders.get(next), notes.get_mut(next)) else {
                continue;
            };
            let line = note.turn(turn(contender).await?);
            println!("{} {} {line}", round + 1, contender.name);
        }
        let floor = notes
            .iter()
            .find(|note| note.name == "floor")
            .and_then(|note| note.total.last());
        for note in &mut notes {
            if let (Some(total), Some(floor)) = (note.total.last(), floor) {
                note.multiple.push(total / floor);
            }
        }
    }
    Ok(notes)
}

impl Noted {
    fn turn(&mut self, mut turn: Turn) -> String {
        let total = turn.cpu.total().as_secs_f64() * 1e6 / turn.units;
        let user = total * turn.cpu.user_share();
        let (p50, p99) = (turn.times.percentile(50), turn.times.percentile(99));
        self.user.push(user);
        self.system.push(total - user);
        self.total.push(total);
        self.p50.push(p50);
        self.p99.push(p99);
        self.rate.push(turn.units / turn.wall.as_secs_f64());
        format!(
            "{:.2} {user:.1} {:.1} {total:.1} {p50:.0} {p99:.0} {}",
            turn.units,
            total - user,
            turn.wall.as_millis()
        )
    }
}
