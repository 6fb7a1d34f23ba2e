//! The scale of an axis: linear or logarithmic.

/// Values beyond these bounds are as good as infinite, or zero, on an axis.
const LARGEST: f64 = 1e300;
const SMALLEST: f64 = 1e-300;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    #[default]
    Linear,
    Log2,
    Log10,
}

crate::choices!(
    Scale,
    [("linear", Scale::Linear), ("log2", Scale::Log2), ("log10", Scale::Log10), ("log", Scale::Log10)]
);

impl Scale {
    /// log2 for powers of two, log10 for values that span a factor of 10 or more, else linear.
    pub fn natural(values: &[f64]) -> Self {
        let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(*x), high.max(*x)));
        if values.is_empty() || low <= 0.0 {
            Scale::Linear
        } else if values.len() > 2 && values.iter().all(|x| x.log2().fract() == 0.0) {
            Scale::Log2
        } else if high / low >= 10.0 {
            Scale::Log10
        } else {
            Scale::Linear
        }
    }

    pub fn is_log(self) -> bool {
        self != Scale::Linear
    }

    /// Can `value` be drawn on such an axis?
    pub fn shows(self, value: f64) -> bool {
        value.is_finite() && value.abs() <= LARGEST && (!self.is_log() || value >= SMALLEST)
    }

    /// The position of `value` on the axis, in the scale's own measure: an exponent on a log axis.
    pub(in crate::plot) fn forward(self, value: f64) -> f64 {
        match self {
            Scale::Linear if value.abs() < SMALLEST => 0.0,
            Scale::Linear => value,
            Scale::Log2 => value.log2(),
            Scale::Log10 => value.log10(),
        }
    }

    /// The value at a position.
    pub(in crate::plot) fn back(self, position: f64) -> f64 {
        match self {
            Scale::Linear => position,
            Scale::Log2 => position.exp2(),
            Scale::Log10 => 10f64.powf(position),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{OptionType, Value};

    #[test]
    fn an_unknown_scale_names_the_known_ones() {
        let mismatch = Scale::from_value(&Value::Text("log3".to_owned())).unwrap_err();
        assert_eq!(mismatch.expected, "one of \"linear\", \"log2\", \"log10\", \"log\"");
        assert!(mismatch.hint.unwrap().starts_with("did you mean `log2`?"));
    }
}
