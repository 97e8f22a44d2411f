//! Draws the pictures of the README from the numbers that the questions have left.
//! Must draw only what was measured: a question without an answer leaves its part out.
//! Called as `sluicegate-lab draw`, by `benches/run` at its end.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use crate::picture::{Bar, Bars, Curve, Curves, Point, Range, comparison, growth};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where the questions have left their numbers.
    #[arg(long, default_value = "benches/results")]
    results: PathBuf,
    /// Where the pictures go.
    #[arg(long, default_value = "benches/pictures")]
    pictures: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    fs::create_dir_all(&arguments.pictures)?;
    let mut compared = Vec::new();
    for question in ["connect", "tls", "bulk", "roundtrip", "http", "idle"] {
        compared.extend(tables(&arguments.results, question)?);
    }
    let panels = |tls: bool| -> Vec<Bars> {
        let wanted = compared.iter().filter(|table| is_drawn(label(table)));
        let wanted = wanted.filter(|table| label(table).contains("TLS") == tls);
        wanted.filter_map(bars).collect()
    };
    for (name, title, panels) in [
        (
            "connect.svg",
            "CONNECT and plain HTTP: what each proxy costs",
            panels(false),
        ),
        ("tls.svg", "Transparent TLS: what each proxy costs", panels(true)),
    ] {
        if !panels.is_empty() {
            let note = "CPU time per unit of work, as a multiple of the floor (dashed): a relay that does nothing else. \
                        Shorter is better; thin lines are ranges.";
            write(&arguments.pictures, name, &comparison(title, note, &panels))?;
        }
    }
    let mut grown = Vec::new();
    for question in ["rules", "tunnels", "sources"] {
        grown.extend(tables(&arguments.results, question)?);
    }
    let panels = curves(&grown);
    if !panels.is_empty() {
        let note = "Medians; upright lines are ranges. The number across is on a logarithmic scale.";
        let title = "What a unit of work costs when there is more of everything";
        write(&arguments.pictures, "growth.svg", &growth(title, note, &panels))?;
    }
    Ok(())
}

fn write(folder: &Path, name: &str, picture: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    println!("{}", path.display());
    fs::write(&path, picture).with_context(|| path.display().to_string())
}

/// The tables of a question; none if it was not asked.
fn tables(results: &Path, question: &str) -> anyhow::Result<Vec<Value>> {
    let path = results.join(format!("{question}.json"));
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(path.display().to_string()),
    };
    let answer: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    Ok(list(&answer["tables"]).cloned().collect())
}

/// Of 1, 8 and 32 streams one is enough for a picture.
fn is_drawn(label: &str) -> bool {
    !label.starts_with("GiB") || label.contains(", 8 ")
}

fn bars(table: &Value) -> Option<Bars> {
    let rows: Vec<_> = list(&table["rows"]).collect();
    let floor = rows.iter().find(|row| row["name"] == "floor")?;
    let title = label(table);
    let others = rows.iter().filter(|row| row["name"] != "floor");
    let bar = |row: &&Value, value: Range| Bar {
        name: row["name"].as_str().unwrap_or_default().to_owned(),
        value,
        ours: row["name"] == "sluicegate",
    };
    if let Some(each) = floor["per_tunnel"].as_f64() {
        let bars = others.filter_map(|row| Some(bar(row, exact(row["per_tunnel"].as_f64()?))));
        return Some(Bars {
            title: title.to_owned(),
            note: "KiB each".to_owned(),
            floor: each,
            proxies: bars.collect(),
        });
    }
    let cost = range(&floor["cpu"])?.median;
    let unit = table["unit"].as_str()?.trim_start_matches("CPU us per ");
    let note = if unit == "GiB" {
        format!("floor: {:.2} s per {unit}", cost / 1e6)
    } else {
        format!("floor: {cost:.0} us per {unit}")
    };
    let bars = others.filter_map(|row| Some(bar(row, range(&row["floor"])?)));
    Some(Bars {
        title: title.to_owned(),
        note,
        floor: 1.0,
        proxies: bars.collect(),
    })
}

/// One panel for all that was counted across the same thing, if it was measured in the same unit or beside a floor.
fn curves(tables: &[Value]) -> Vec<Curves> {
    let mut panels: Vec<Curves> = Vec::new();
    for table in tables {
        let (Some(across), Some(unit)) = (table["across"].as_str(), table["unit"].as_str()) else {
            continue;
        };
        let beside_floor = list(&table["points"]).all(|point| range(&point["floor"]).is_some());
        let (key, unit) = if beside_floor {
            ("floor", "CPU time, as a multiple of the floor")
        } else {
            ("cpu", unit)
        };
        let points = list(&table["points"]).filter_map(|point| {
            Some(Point {
                count: point["count"].as_f64()?,
                value: range(&point[key])?,
            })
        });
        let curve = Curve {
            name: label(table).trim_start_matches("new tunnel, ").to_owned(),
            points: points.collect(),
        };
        match panels
            .iter_mut()
            .find(|panel| panel.across == across && panel.up == unit)
        {
            Some(panel) => panel.lines.push(curve),
            None => panels.push(Curves {
                title: format!("More {across}"),
                across: across.to_owned(),
                up: unit.to_owned(),
                lines: vec![curve],
            }),
        }
    }
    panels
}

fn label(table: &Value) -> &str {
    table["label"].as_str().unwrap_or_default()
}

fn range(series: &Value) -> Option<Range> {
    Some(Range {
        median: series["median"].as_f64()?,
        lowest: series["low"].as_f64()?,
        highest: series["high"].as_f64()?,
    })
}

fn exact(value: f64) -> Range {
    Range {
        median: value,
        lowest: value,
        highest: value,
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
