//! Results as pictures: SVG files that the README shows.
//! Must not depend on the page's colours: each picture has a ground of its own, light or dark as the reader's system asks.
//! Called by `draw`; text and numbers come in, a file's text goes out.

mod axis;
mod bars;
mod curves;
mod svg;

pub(crate) use bars::{Bar, Bars, comparison};
pub(crate) use curves::{Curve, Curves, Point, growth};

/// A measured value: its median, and the lowest and the highest of the rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

/// A number as people write it: 9,000; 0.21; 1.05; 12.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        large if large >= 10.0 => 0,
        small if small >= 1.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text
        .split_once('.')
        .map_or((text.as_str(), ""), |(whole, rest)| (whole, rest));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && digit.is_ascii_digit() {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let rest = rest.trim_end_matches('0');
    if rest.is_empty() {
        grouped
    } else {
        format!("{grouped}.{rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_short_and_grouped() {
        for (value, text) in [
            (100_000.0, "100,000"),
            (9_000.0, "9,000"),
            (999.4, "999"),
            (12.3, "12"),
            (1.5, "1.5"),
            (1.04, "1"),
            (0.214, "0.21"),
            (0.0, "0"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
