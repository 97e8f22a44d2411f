//! Growth: what a thing costs while rules, tunnels or clients become more, one panel for each.
//! Must show the range of every point; a slope within it is none.
//! Called by `draw`.

use super::axis::Axis;
use super::svg::{Anchor, Svg};
use super::{Range, number};

/// One panel: several curves over the same counts.
#[derive(Debug)]
pub(crate) struct Curves {
    pub(crate) title: String,
    /// What is counted: `rules in the policy`.
    pub(crate) across: String,
    /// The unit of the values.
    pub(crate) up: String,
    pub(crate) lines: Vec<Curve>,
}

#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<Point>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// How many there were; at least one.
    pub(crate) count: f64,
    pub(crate) value: Range,
}

/// All panels, two beside each other.
pub(crate) fn growth(title: &str, note: &str, panels: &[Curves]) -> String {
    let rows: Vec<_> = panels.chunks(2).collect();
    let mut height = HEAD + MARGIN;
    for _ in &rows {
        height += PANEL_HEIGHT;
    }
    let mut svg = Svg::new(title, WIDTH, height);
    svg.text("title", Anchor::Start, MARGIN, 26.0, title);
    svg.text("note", Anchor::Start, MARGIN, 43.0, note);
    let mut y = HEAD;
    for row in rows {
        let mut x = MARGIN;
        for panel in row {
            draw(&mut svg, panel, x, y);
            x += PANEL + GAP;
        }
        y += PANEL_HEIGHT;
    }
    svg.finish()
}

fn draw(svg: &mut Svg, panel: &Curves, x: f64, y: f64) {
    let points: Vec<_> = panel.lines.iter().flat_map(|curve| &curve.points).collect();
    let mut counts: Vec<_> = points.iter().map(|point| point.count).collect();
    counts.sort_by(f64::total_cmp);
    counts.dedup();
    let values: Vec<_> = points
        .iter()
        .flat_map(|point| [point.value.lowest, point.value.highest])
        .collect();
    let (top, bottom) = (y + PANEL_HEAD, y + PANEL_HEIGHT - PANEL_FOOT);
    let (left, right) = (x + TICKS, x + PANEL - LABELS);
    let across = Axis::counts(&counts, left, right);
    let up = Axis::round(&values, bottom, top);

    svg.text("strong", Anchor::Start, x, y + 14.0, &panel.title);
    let unit = if up.logarithmic() {
        format!("{}, logarithmic", panel.up)
    } else {
        panel.up.clone()
    };
    svg.text("note", Anchor::Start, x, y + 30.0, &unit);
    for tick in up.ticks() {
        let at = up.at(tick);
        svg.line("grid", (left, at), (right, at));
        svg.text("note", Anchor::End, left - 6.0, at + 4.0, &number(tick));
    }
    svg.line("axis", (left, bottom), (right, bottom));
    for count in counts {
        let at = across.at(count);
        svg.line("axis", (at, bottom), (at, bottom + 4.0));
        svg.text("note", Anchor::Middle, at, bottom + 17.0, &number(count));
    }
    svg.text(
        "note",
        Anchor::Middle,
        f64::midpoint(left, right),
        bottom + 34.0,
        &panel.across,
    );

    let mut labels = Vec::new();
    for (turn, curve) in panel.lines.iter().enumerate() {
        let class = format!("c{}", turn % HUES);
        let mut path = Vec::new();
        for point in &curve.points {
            let at = across.at(point.count);
            let (lowest, highest) = (up.at(point.value.lowest), up.at(point.value.highest));
            svg.line(&class, (at, lowest), (at, highest));
            path.push((at, up.at(point.value.median)));
        }
        svg.path(&class, &path);
        for (x, y) in &path {
            svg.dot(&class, *x, *y);
        }
        if let Some((_, y)) = path.last() {
            labels.push((*y, class, curve.name.as_str()));
        }
    }
    for (at, (end, class, name)) in apart(labels, top, bottom) {
        svg.line(&class, (right + 5.0, end), (right + 14.0, at));
        svg.text("name", Anchor::Start, right + 18.0, at + 4.0, name);
    }
}

/// The labels' heights, from the top: beside the ends of their curves, or as near as they do not cover each other.
fn apart<T>(mut labels: Vec<(f64, String, T)>, top: f64, bottom: f64) -> Vec<(f64, (f64, String, T))> {
    labels.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut heights: Vec<f64> = Vec::new();
    for (end, ..) in &labels {
        let free = heights.last().map_or(top, |last| last + LABEL);
        heights.push(end.max(free));
    }
    let mut free = bottom;
    for height in heights.iter_mut().rev() {
        *height = height.min(free);
        free = *height - LABEL;
    }
    heights.into_iter().zip(labels).collect()
}

const WIDTH: f64 = 880.0;
const MARGIN: f64 = 20.0;
const GAP: f64 = 32.0;
const PANEL: f64 = (WIDTH - 2.0 * MARGIN - GAP) / 2.0;
const PANEL_HEIGHT: f64 = 270.0;
const HEAD: f64 = 62.0;
const PANEL_HEAD: f64 = 44.0;
const PANEL_FOOT: f64 = 60.0;
/// Room for the numbers on the left and the names on the right.
const TICKS: f64 = 44.0;
const LABELS: f64 = 112.0;
/// The height of one label.
const LABEL: f64 = 15.0;
/// The colours that there are: `c0` to `c4`.
const HUES: usize = 5;

#[cfg(test)]
mod tests {
    use super::{LABEL, apart};

    #[test]
    fn labels_never_cover_each_other() {
        let labels = vec![
            (50.0, String::new(), 1),
            (49.0, String::new(), 2),
            (99.0, String::new(), 3),
            (98.0, String::new(), 4),
        ];
        let placed = apart(labels, 0.0, 100.0);
        let heights: Vec<_> = placed.iter().map(|(height, _)| *height).collect();
        for pair in heights.windows(2) {
            assert!(pair[1] - pair[0] >= LABEL - 1e-9, "{heights:?}");
        }
        assert!(
            heights.iter().all(|height| (0.0..=100.0).contains(height)),
            "{heights:?}"
        );
    }
}
