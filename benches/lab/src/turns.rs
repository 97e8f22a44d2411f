//! Turns: the same work for several variants of the proxy, round by round, each round beginning with another one.
//! Must not compare what was measured at different times: a ratio is of one round.
//! Called by the questions about growth.

use anyhow::Context;

use crate::report::{Series, row, table};

/// One of the things that are compared.
#[derive(Debug)]
pub(crate) struct Variant<T> {
    pub(crate) name: String,
    pub(crate) what: T,
    pub(crate) cost: Series,
}

impl<T> Variant<T> {
    pub(crate) fn new(name: impl Into<String>, what: T) -> Self {
        Self {
            name: name.into(),
            what,
            cost: Series::default(),
        }
    }

    /// Round by round, as a multiple of what `first` cost in the same round.
    pub(crate) fn against(&self, first: &Self) -> Series {
        let mut ratios = Series::default();
        for (cost, first) in self.cost.values().iter().zip(first.cost.values()) {
            ratios.push(cost / first);
        }
        ratios
    }
}

/// Gives every variant its turn in every round, and one before that does not count.
pub(crate) async fn alternate<T>(
    unit: &str,
    rounds: usize,
    variants: &mut [Variant<T>],
    turn: impl AsyncFn(&T) -> anyhow::Result<f64>,
) -> anyhow::Result<()> {
    for variant in &*variants {
        turn(&variant.what).await.with_context(|| variant.name.clone())?;
    }
    println!("\nround: {unit}");
    for round in 0..rounds {
        for place in 0..variants.len() {
            let next = (round + place) % variants.len();
            let variant = variants.get_mut(next).context("no variants")?;
            let cost = turn(&variant.what).await.with_context(|| variant.name.clone())?;
            println!("{} {}: {cost:.2}", round + 1, variant.name);
            variant.cost.push(cost);
        }
    }
    Ok(())
}

/// A table of the variants, each against the first; the targets that are missed.
pub(crate) fn flat<T>(what: &str, unit: &str, variants: &[Variant<T>]) -> Vec<String> {
    let Some(first) = variants.first() else {
        return Vec::new();
    };
    let mut rows = vec![row([what, &format!("{unit}, median (range)"), "against the first"])];
    let mut missed = Vec::new();
    for variant in variants {
        let ratio = variant.against(first);
        rows.push(row([&variant.name, &variant.cost.range(1), &ratio.range(2)]));
        if ratio.median() > NOISE {
            missed.push(format!(
                "{what}, {}: {:.2} times what {} costs; less than {NOISE}",
                variant.name,
                ratio.median(),
                first.name
            ));
        }
    }
    table(&rows);
    missed
}

/// A larger ratio than this is a difference.
pub(crate) const NOISE: f64 = 1.10;

#[cfg(test)]
mod tests {
    use super::{Variant, alternate, flat};

    #[tokio::test]
    async fn what_grows_is_found_and_what_the_machine_does_is_not() {
        let clock = std::cell::Cell::new(0.0);
        let mut variants = [
            Variant::new("10", 1.0),
            Variant::new("1,000", 1.05),
            Variant::new("100,000", 2.0),
        ];
        // The machine becomes slower all the time.
        alternate("us", 9, &mut variants, async |cost| {
            clock.set(clock.get() + 0.01);
            Ok(cost * (1.0 + clock.get()))
        })
        .await
        .unwrap();
        let missed = flat("rules", "us", &variants);
        assert_eq!(missed.len(), 1, "{missed:?}");
        assert!(missed.iter().all(|missed| missed.contains("100,000")), "{missed:?}");
    }
}
