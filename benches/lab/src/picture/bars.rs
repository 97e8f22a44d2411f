//! The comparison: one panel for each row of the table, one bar for each proxy, the floor as a line.
//! Must begin every bar at zero: half the length is half the cost.
//! Called by `draw`.

use super::axis::Axis;
use super::svg::{Anchor, Svg};
use super::{Range, number};

/// One row of the comparison.
#[derive(Debug)]
pub(crate) struct Bars {
    pub(crate) title: String,
    /// What the floor costs, in its unit; empty where there is none.
    pub(crate) note: String,
    /// In the unit of the bars.
    pub(crate) floor: f64,
    pub(crate) proxies: Vec<Bar>,
}

#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: Range,
    pub(crate) ours: bool,
}

/// All rows, two beside each other.
pub(crate) fn comparison(title: &str, note: &str, panels: &[Bars]) -> String {
    let rows: Vec<_> = panels.chunks(2).collect();
    let heights: Vec<_> = rows
        .iter()
        .map(|row| row.iter().map(height).fold(0.0, f64::max))
        .collect();
    let mut svg = Svg::new(title, WIDTH, HEAD + heights.iter().sum::<f64>() + MARGIN);
    svg.text("title", Anchor::Start, MARGIN, 26.0, title);
    svg.text("note", Anchor::Start, MARGIN, 43.0, note);
    let mut y = HEAD;
    for (row, height) in rows.iter().zip(heights) {
        let mut x = MARGIN;
        for panel in *row {
            draw(&mut svg, panel, x, y);
            x += PANEL + GAP;
        }
        y += height;
    }
    svg.finish()
}

fn draw(svg: &mut Svg, panel: &Bars, x: f64, y: f64) {
    svg.text("strong", Anchor::Start, x, y + 14.0, &panel.title);
    svg.text("note", Anchor::End, x + PANEL, y + 14.0, &panel.note);
    let values: Vec<_> = panel
        .proxies
        .iter()
        .map(|bar| bar.value.highest.max(panel.floor))
        .collect();
    let zero = x + NAMES;
    let axis = Axis::linear(&values, zero, x + PANEL - VALUES);
    let top = y + PANEL_HEAD;
    let mut at = top;
    for bar in &panel.proxies {
        let class = if bar.ours { "ours" } else { "peer" };
        let weight = if bar.ours { "strong" } else { "name" };
        let middle = at + BAR / 2.0;
        svg.text(weight, Anchor::End, zero - 8.0, middle + 4.0, &bar.name);
        let end = axis.at(bar.value.median);
        svg.rectangle(class, zero, at + 2.0, end - zero, BAR - 4.0);
        let (lowest, highest) = (axis.at(bar.value.lowest), axis.at(bar.value.highest));
        if highest - lowest >= 1.0 {
            svg.line("range", (lowest, middle), (highest, middle));
        }
        let text = multiple(bar.value.median);
        svg.text(weight, Anchor::Start, end.max(highest) + 6.0, middle + 4.0, &text);
        at += BAR;
    }
    svg.line("axis", (zero, top - 2.0), (zero, at + 2.0));
    let floor = axis.at(panel.floor);
    svg.line("floor", (floor, top - 2.0), (floor, at + 2.0));
}

fn height(panel: &Bars) -> f64 {
    let mut height = PANEL_HEAD + PANEL_FOOT;
    for _ in &panel.proxies {
        height += BAR;
    }
    height
}

/// Two decimals where they say something.
fn multiple(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.2}")
    } else {
        number(value)
    }
}

const WIDTH: f64 = 880.0;
const MARGIN: f64 = 20.0;
const GAP: f64 = 32.0;
const PANEL: f64 = (WIDTH - 2.0 * MARGIN - GAP) / 2.0;
const HEAD: f64 = 62.0;
const PANEL_HEAD: f64 = 26.0;
const PANEL_FOOT: f64 = 18.0;
const BAR: f64 = 18.0;
/// Room for the names on the left and for the numbers on the right.
const NAMES: f64 = 92.0;
const VALUES: f64 = 44.0;
