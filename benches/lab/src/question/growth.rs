//! What grows with a number, and what must not: ours beside ours, each with another count of something.
//! Must compare within one round, with the one that has the fewest.
//! Called by the questions about growth; the drawings are made of what it keeps.

use serde_json::json;

use super::Answer;
use crate::report::{Series, row, table};
use crate::rounds::Noted;

/// What is counted, and what is measured of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth<'a> {
    pub(super) label: &'a str,
    /// What there are many of.
    pub(super) across: &'a str,
    /// What the CPU time is divided by.
    pub(super) unit: &'a str,
    /// Seconds instead of microseconds.
    pub(super) seconds: bool,
}

/// With one count.
#[derive(Debug)]
pub(super) struct Point {
    pub(super) count: usize,
    /// CPU time per unit, in microseconds.
    pub(super) cpu: Series,
    /// As a multiple of what the fewest cost in the same rounds.
    pub(super) ratio: Series,
    /// As a multiple of the floor, where there was one.
    pub(super) floor: Series,
}

impl Answer {
    /// Prints the table, keeps its numbers; the cost must not depend on the count.
    pub(super) fn flat(&mut self, growth: Growth<'_>, points: &[Point]) {
        let (scale, decimals, time) = if growth.seconds { (1e-6, 3, "s") } else { (1.0, 1, "us") };
        let Growth {
            label, across, unit, ..
        } = growth;
        let mut rows = vec![row([
            &format!("{label}: {across}"),
            &format!("CPU {time} per {unit}, median (range)"),
            "x the fewest",
            "x floor",
        ])];
        let mut data = Vec::new();
        for point in points {
            let floor = if point.floor.last().is_some() {
                point.floor.range(2)
            } else {
                String::new()
            };
            rows.push(row([
                &point.count.to_string(),
                &point.cpu.scaled(scale).range(decimals),
                &point.ratio.range(2),
                &floor,
            ]));
            data.push(json!({
                "count": point.count,
                "cpu": point.cpu.json(),
                "ratio": point.ratio.json(),
                "floor": point.floor.json(),
            }));
            if point.ratio.median() > NOISE {
                self.missed.push(format!(
                    "{label}: {} {across} cost {:.2} times what the fewest cost; at most {NOISE}",
                    point.count,
                    point.ratio.median()
                ));
            }
        }
        table(&rows);
        self.data.push(json!({
            "label": label,
            "across": across,
            "unit": format!("CPU us per {unit}"),
            "points": data,
        }));
    }
}

/// The points of variants that were measured together; a floor among them has no count.
pub(super) fn points(counts: &[usize], notes: Vec<Noted>) -> Vec<Point> {
    let mut variants: Vec<_> = notes.into_iter().filter(|note| note.name != "floor").collect();
    let fewest = variants.first().map(|note| note.total.clone()).unwrap_or_default();
    let with_counts = counts.iter().zip(variants.drain(..));
    with_counts
        .map(|(count, note)| Point {
            count: *count,
            ratio: note.total.over(&fewest),
            cpu: note.total,
            floor: note.multiple,
        })
        .collect()
}

/// A count as the name of a contender.
pub(super) fn name(count: usize) -> &'static str {
    // A handful of them, until the end of the run.
    count.to_string().leak()
}

/// A larger ratio than this is a difference.
pub(super) const NOISE: f64 = 1.10;
