//! What is asked of all that stand side by side, one file per question, and the answer as tables.
//! Must name every target that is missed; a target that was not compared is none.
//! Called by main.

pub(crate) mod bulk;
pub(crate) mod fairness;
mod growth;
pub(crate) mod http;
pub(crate) mod idle;
pub(crate) mod latency;
pub(crate) mod reload;
pub(crate) mod rest;
pub(crate) mod roundtrip;
pub(crate) mod rules;
pub(crate) mod sources;
pub(crate) mod tunnel;
pub(crate) mod tunnels;

use serde_json::{Value, json};

use crate::report::table;
use crate::rounds::Noted;

/// What a question has come to.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// For whoever draws it.
    pub(crate) data: Vec<Value>,
    pub(crate) missed: Vec<String>,
}

/// What is common to all rows of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    /// What the CPU time is divided by.
    pub(crate) unit: &'static str,
    /// Whether it is told in seconds, instead of microseconds.
    pub(crate) seconds: bool,
    /// Whether how long a unit takes by the clock means anything.
    pub(crate) latency: bool,
    /// What ours may cost, as a multiple of the floor.
    pub(crate) at_most: Option<f64>,
}

impl Answer {
    /// Prints the table, keeps its numbers, and compares ours with the target.
    pub(crate) fn add(&mut self, label: &str, columns: Columns, notes: &[Noted]) {
        let (scale, decimals, time) = if columns.seconds {
            (1e-6, 3, "s")
        } else {
            (1.0, 1, "us")
        };
        let mut head = vec![
            label.to_owned(),
            "x floor, median (range)".to_owned(),
            format!("CPU {time} per {}", columns.unit),
            "user".to_owned(),
            "system".to_owned(),
        ];
        if columns.latency {
            head.extend(["p50 us".to_owned(), "p99 us".to_owned()]);
        }
        let mut rows = vec![head];
        for note in notes {
            let mut row = vec![
                note.name.to_owned(),
                note.multiple.range(2),
                note.total.scaled(scale).range(decimals),
                format!("{:.decimals$}", note.user.median() * scale),
                format!("{:.decimals$}", note.system.median() * scale),
            ];
            if columns.latency {
                row.extend([format!("{:.0}", note.p50.median()), format!("{:.0}", note.p99.median())]);
            }
            rows.push(row);
        }
        table(&rows);
        self.data.push(json!({
            "label": label,
            "unit": format!("CPU us per {}", columns.unit),
            "at_most": columns.at_most,
            "rows": notes.iter().map(data).collect::<Vec<_>>(),
        }));
        if let Some(at_most) = columns.at_most {
            let ours = notes.iter().filter(|note| note.name == "sluicegate");
            for multiple in ours.map(|note| note.multiple.median()) {
                if multiple > at_most {
                    self.missed
                        .push(format!("{label}: {multiple:.2} times the floor; at most {at_most}"));
                }
            }
        }
        self.ahead(label, notes);
    }

    /// Ours is the cheapest proxy of all in every table.
    fn ahead(&mut self, label: &str, notes: &[Noted]) {
        let Some(ours) = notes.iter().find(|note| note.name == "sluicegate") else {
            return;
        };
        let peers = notes
            .iter()
            .filter(|note| !["floor", "direct", ours.name].contains(&note.name));
        for peer in peers.filter(|peer| peer.total.median() <= ours.total.median()) {
            self.missed.push(format!(
                "{label}: {:.2} times what {} takes; less than that",
                ours.total.median() / peer.total.median(),
                peer.name
            ));
        }
    }
}

fn data(note: &Noted) -> Value {
    json!({
        "name": note.name,
        "floor": note.multiple.json(),
        "cpu": note.total.json(),
        "user": note.user.json(),
        "system": note.system.json(),
        "p50": note.p50.json(),
        "p99": note.p99.json(),
        "rate": note.rate.json(),
    })
}
