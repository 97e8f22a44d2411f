//! From values to pixels: linear from zero, or logarithmic where values span more than a decade and a bit.
//! Must not cut a value off: the axis ends at or behind the largest.
//! Called by the pictures.

#[derive(Clone, Debug)]
pub(super) struct Axis {
    logarithmic: bool,
    lowest: f64,
    highest: f64,
    /// Pixels of the two ends; the first may be the larger one.
    start: f64,
    end: f64,
}

impl Axis {
    /// From zero to the largest value.
    pub(super) fn linear(values: &[f64], start: f64, end: f64) -> Self {
        let (_, highest) = bounds(values);
        Self {
            logarithmic: false,
            lowest: 0.0,
            highest: if highest > 0.0 { highest } else { 1.0 },
            start,
            end,
        }
    }

    /// Ends at a round number: linear, or logarithmic where the largest value is [`DECADES`] times the smallest.
    pub(super) fn round(values: &[f64], start: f64, end: f64) -> Self {
        let (lowest, highest) = bounds(values);
        if lowest > 0.0 && highest / lowest > DECADES {
            return Self {
                logarithmic: true,
                lowest: power(lowest.log10().floor()),
                highest: power(highest.log10().ceil()),
                start,
                end,
            };
        }
        let mut axis = Self::linear(values, start, end);
        axis.highest = (axis.highest / axis.step() - EPSILON).ceil() * axis.step();
        axis
    }

    /// Logarithmic from the smallest value to the largest, for counts of things.
    pub(super) fn counts(values: &[f64], start: f64, end: f64) -> Self {
        let (lowest, highest) = bounds(values);
        Self {
            logarithmic: true,
            lowest,
            highest,
            start,
            end,
        }
    }

    pub(super) fn logarithmic(&self) -> bool {
        self.logarithmic
    }

    pub(super) fn at(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value / self.lowest).log10() / (self.highest / self.lowest).log10()
        } else {
            value / self.highest
        };
        self.start + (self.end - self.start) * share
    }

    pub(super) fn ticks(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        let mut tick = self.lowest;
        while tick <= self.highest * (1.0 + EPSILON) {
            ticks.push(tick);
            tick = if self.logarithmic {
                tick * 10.0
            } else {
                tick + self.step()
            };
        }
        ticks
    }

    /// 1, 2 or 5 times a power of ten, so that there are three to six of them.
    fn step(&self) -> f64 {
        let rough = self.highest / 4.0;
        let decade = power(rough.log10().floor());
        match rough / decade {
            small if small <= 1.0 => decade,
            small if small <= 2.0 => 2.0 * decade,
            small if small <= 5.0 => 5.0 * decade,
            _ => 10.0 * decade,
        }
    }
}

fn bounds(values: &[f64]) -> (f64, f64) {
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (lowest, highest)
}

fn power(of_ten: f64) -> f64 {
    10_f64.powf(of_ten)
}

const DECADES: f64 = 20.0;
const EPSILON: f64 = 1e-9;

#[cfg(test)]
mod tests {
    use super::Axis;

    #[test]
    fn a_linear_axis_starts_at_zero_and_ends_at_a_round_number() {
        let axis = Axis::round(&[66.0, 97.0], 0.0, 100.0);
        assert!(!axis.logarithmic());
        assert_eq!(axis.ticks(), [0.0, 50.0, 100.0]);
        assert!((axis.at(50.0) - 50.0).abs() < 1e-6);
    }

    #[test]
    fn values_that_span_decades_are_logarithmic() {
        let axis = Axis::round(&[3.0, 2_000.0], 100.0, 0.0);
        assert!(axis.logarithmic());
        assert_eq!(axis.ticks().len(), 5);
        assert!((axis.at(100.0) - 50.0).abs() < 1e-6);
    }
}
