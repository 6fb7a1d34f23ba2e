//! From a value to a place on an axis: linear or logarithmic, over a range.

/// Values beyond these bounds cannot be told from infinity, or from zero, on an axis.
const LARGEST: f64 = 1e300;
const SMALLEST: f64 = 1e-300;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    #[default]
    Linear,
    Log2,
    Log10,
}

crate::choices!(Scale, [("linear", Scale::Linear), ("log2", Scale::Log2), ("log10", Scale::Log10)]);

impl Scale {
    pub fn is_log(self) -> bool {
        self != Scale::Linear
    }

    /// Whether `value` has a place on such an axis.
    pub fn shows(self, value: f64) -> bool {
        value.is_finite() && value.abs() <= LARGEST && (!self.is_log() || value >= SMALLEST)
    }

    pub(super) fn forward(self, value: f64) -> f64 {
        match self {
            Scale::Linear if value.abs() < SMALLEST => 0.0,
            Scale::Linear => value,
            Scale::Log2 => value.log2(),
            Scale::Log10 => value.log10(),
        }
    }

    pub(super) fn back(self, place: f64) -> f64 {
        match self {
            Scale::Linear => place,
            Scale::Log2 => place.exp2(),
            Scale::Log10 => 10f64.powf(place),
        }
    }
}

/// The stretch of an axis that is drawn. `low < high`, both in the scale's own measure
/// (log2 axis: exponents).
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub scale: Scale,
    pub low: f64,
    pub high: f64,
}

impl Range {
    /// Covers `values` and leaves the share `padding` of their span free on both sides.
    /// Values that are all equal get a range around them. All must be shown by `scale`.
    pub fn around(scale: Scale, values: impl Iterator<Item = f64>, padding: f64) -> Option<Range> {
        let places = values.map(|value| scale.forward(value));
        let (low, high) = places.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p), h.max(p)));
        if low > high {
            return None;
        }
        let (span, size) = (high - low, low.abs().max(high.abs()));
        // Below 1e-11 of their size, differences are rounding of f64, and tick labels would repeat.
        if span > size * 1e-11 {
            return Some(Range { scale, low: low - span * padding, high: high + span * padding });
        }
        let around = match (scale, size == 0.0) {
            (Scale::Linear, false) => size * 0.1,
            _ => 1.0,
        };
        Some(Range { scale, low: low - around, high: high + around })
    }

    /// Moves the ends that the user fixed. A fixed end at or beyond the other one moves that too.
    pub fn fixed(mut self, low: Option<f64>, high: Option<f64>) -> Range {
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

    /// 0 at the low end, 1 at the high end.
    pub fn place(&self, value: f64) -> f64 {
        (self.scale.forward(value) - self.low) / (self.high - self.low)
    }

    /// Whether `value` lies on the drawn stretch, with room for rounding at its ends.
    pub fn holds(&self, value: f64) -> bool {
        self.scale.shows(value) && (-1e-9..=1.0 + 1e-9).contains(&self.place(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{OptionType, Value};

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
            let range = Range::around(scale, values.iter().copied(), 0.05).unwrap();
            assert!(range.low < range.high, "{values:?}: {range:?}");
            assert!(values.iter().all(|value| range.holds(*value)), "{values:?}: {range:?}");
        }
        assert!(Range::around(Scale::Linear, std::iter::empty(), 0.05).is_none());
    }

    #[test]
    fn logarithms_show_only_positive_values() {
        assert!(!Scale::Log2.shows(0.0) && !Scale::Log10.shows(-1.0) && Scale::Linear.shows(-1.0));
        assert!(!Scale::Linear.shows(f64::NAN) && !Scale::Linear.shows(f64::INFINITY));
        let range = Range { scale: Scale::Log2, low: 1.0, high: 5.0 };
        assert_eq!((range.place(2.0), range.place(8.0), range.place(32.0)), (0.0, 0.5, 1.0));
    }

    #[test]
    fn fixed_ends_win_even_when_they_leave_the_data() {
        let range = Range { scale: Scale::Linear, low: 1.0, high: 2.0 };
        let moved = range.fixed(Some(5.0), None);
        assert!(moved.low == 5.0 && moved.high > 5.0);
        let moved = range.fixed(None, Some(0.0));
        assert!(moved.high == 0.0 && moved.low < 0.0);
    }

    #[test]
    fn an_unknown_scale_names_the_known_ones() {
        let name = Value::Text("log3".to_owned());
        let mismatch = Scale::from_value(&name).unwrap_err();
        assert_eq!(mismatch.expected, "one of \"linear\", \"log2\", \"log10\"");
        assert!(mismatch.hint.unwrap().starts_with("did you mean `log2`?"));
    }
}
