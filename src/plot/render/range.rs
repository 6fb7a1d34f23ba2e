//! The range of an axis, and the position of a value in it.

use crate::plot::charts::scale::Scale;

/// The range of an axis that is drawn. `low < high`, both in the scale's own measure: exponents on a
/// log axis.
#[derive(Debug, Clone, Copy)]
pub struct AxisRange {
    pub scale: Scale,
    pub low: f64,
    pub high: f64,
}

impl AxisRange {
    /// A range of `values`, with the fraction `padding` of their span free on both sides, or around them if
    /// they are all equal. `scale` must be able to show them all.
    pub fn around(scale: Scale, values: impl Iterator<Item = f64>, padding: f64) -> Option<AxisRange> {
        let positions = values.map(|value| scale.forward(value));
        let (low, high) = positions.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p), h.max(p)));
        if low > high {
            return None;
        }
        let (span, size) = (high - low, low.abs().max(high.abs()));
        // Below 1e-11 of their size, differences are rounding of f64, and tick labels would repeat.
        if span > size * 1e-11 {
            return Some(AxisRange { scale, low: low - span * padding, high: high + span * padding });
        }
        let margin = if scale == Scale::Linear && size != 0.0 { size * 0.1 } else { 1.0 };
        Some(AxisRange { scale, low: low - margin, high: high + margin })
    }

    /// Moves the ends that the user fixed. If they cross, the other end moves too.
    pub fn fixed(mut self, low: Option<f64>, high: Option<f64>) -> AxisRange {
        if let Some(low) = low {
            self.low = self.scale.forward(low);
        }
        if let Some(high) = high {
            self.high = self.scale.forward(high);
        }
        if self.low >= self.high {
            let span = self.low.abs().max(1.0) * 0.1;
            (self.low, self.high) =
                if high.is_some() { (self.high - span, self.high) } else { (self.low, self.low + span) };
        }
        self
    }

    /// The position of `value`: 0 at the low end, 1 at the high end.
    pub fn position(&self, value: f64) -> f64 {
        (self.scale.forward(value) - self.low) / (self.high - self.low)
    }

    /// Does `value` lie in the range? Allows for rounding at the ends.
    pub fn holds(&self, value: f64) -> bool {
        self.scale.shows(value) && (-1e-9..=1.0 + 1e-9).contains(&self.position(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_and_extremes_still_make_a_range() {
        for (scale, values) in [
            (Scale::Linear, vec![0.0]),
            (Scale::Linear, vec![3.5, 3.5]),
            (Scale::Linear, vec![-1e300, 1e300]),
            (Scale::Linear, vec![1e-310, 2e-310]),
            (Scale::Linear, vec![1.0, 1.0 + 1e-15]),
            (Scale::Log2, vec![8.0]),
            (Scale::Log10, vec![1e-300, 1e300]),
        ] {
            let range = AxisRange::around(scale, values.iter().copied(), 0.05).unwrap();
            assert!(range.low < range.high, "{values:?}: {range:?}");
            assert!(values.iter().all(|value| range.holds(*value)), "{values:?}: {range:?}");
        }
        assert!(AxisRange::around(Scale::Linear, std::iter::empty(), 0.05).is_none());
    }

    #[test]
    fn logarithms_show_only_positive_values() {
        assert!(!Scale::Log2.shows(0.0) && !Scale::Log10.shows(-1.0) && Scale::Linear.shows(-1.0));
        assert!(!Scale::Linear.shows(f64::NAN) && !Scale::Linear.shows(f64::INFINITY));
        let range = AxisRange { scale: Scale::Log2, low: 1.0, high: 5.0 };
        assert_eq!((range.position(2.0), range.position(8.0), range.position(32.0)), (0.0, 0.5, 1.0));
    }

    #[test]
    fn fixed_ends_win_even_when_they_leave_the_data() {
        let range = AxisRange { scale: Scale::Linear, low: 1.0, high: 2.0 };
        let moved = range.fixed(Some(5.0), None);
        assert!(moved.low == 5.0 && moved.high > 5.0);
        let moved = range.fixed(None, Some(0.0));
        assert!(moved.high == 0.0 && moved.low < 0.0);
    }
}
