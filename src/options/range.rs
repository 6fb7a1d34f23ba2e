//! The numbers that an option takes.

use super::value::Value;
use std::fmt;

/// An interval of finite numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NumberRange {
    low: f64,
    high: f64,
    includes_low: bool,
    includes_high: bool,
    /// What such a number is called, where it has a name of its own.
    noun: Option<&'static str>,
}

impl NumberRange {
    const ALL: NumberRange = NumberRange {
        low: f64::NEG_INFINITY,
        high: f64::INFINITY,
        includes_low: true,
        includes_high: true,
        noun: None,
    };

    pub fn contains(&self, number: f64) -> bool {
        let is_above = number > self.low || (self.includes_low && number == self.low);
        let is_below = number < self.high || (self.includes_high && number == self.high);
        number.is_finite() && is_above && is_below
    }

    /// The first number in `value` that lies outside, arrays and maps included.
    pub fn outside<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        match value {
            Value::Array(items) => items.iter().find_map(|item| self.outside(item)),
            Value::Map(entries) => entries.iter().find_map(|(_, item)| self.outside(item)),
            _ => value.as_f64().filter(|number| !self.contains(*number)).map(|_| value),
        }
    }

    /// What to write after "expected", for numbers of this type: "int of at least 1".
    pub fn expected(&self, type_name: &str) -> String {
        format!("{} {self}", self.noun.unwrap_or(type_name))
    }
}

pub const fn at_least(low: f64) -> NumberRange {
    NumberRange { low, ..NumberRange::ALL }
}

pub const fn above(low: f64) -> NumberRange {
    NumberRange { low, includes_low: false, ..NumberRange::ALL }
}

/// Both ends included.
pub const fn between(low: f64, high: f64) -> NumberRange {
    NumberRange { low, high, ..NumberRange::ALL }
}

/// Both ends excluded.
pub const fn inside(low: f64, high: f64) -> NumberRange {
    NumberRange { low, high, includes_low: false, includes_high: false, ..NumberRange::ALL }
}

/// Above `low`, and `high` at most.
pub const fn above_up_to(low: f64, high: f64) -> NumberRange {
    NumberRange { low, high, includes_low: false, ..NumberRange::ALL }
}

/// From 0, and below 1.
pub const fn probability() -> NumberRange {
    NumberRange { low: 0.0, high: 1.0, includes_high: false, noun: Some("a probability"), ..NumberRange::ALL }
}

impl fmt::Display for NumberRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NumberRange { low, high, includes_low, includes_high, .. } = self;
        match (low.is_finite(), high.is_finite(), includes_low) {
            (false, false, _) => write!(out, "of any size"),
            (false, true, _) => write!(out, "of at most {high}"),
            (true, false, true) if *low != 0.0 && low.abs() < 1e-3 => write!(out, "of at least {low:e}"),
            (true, false, true) => write!(out, "of at least {low}"),
            (true, false, false) => write!(out, "above {low}"),
            (true, true, _) => {
                let (open, close) = (if *includes_low { '[' } else { '(' }, if *includes_high { ']' } else { ')' });
                write!(out, "in {open}{low}, {high}{close}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ranges_contain_finite_numbers_and_say_what_they_expect() {
        for (range, inside, outside, expected) in [
            (at_least(1.0), 1.0, 0.0, "int of at least 1"),
            (above(0.0), 1e-9, 0.0, "int above 0"),
            (probability(), 0.0, 1.0, "a probability in [0, 1)"),
            (above_up_to(0.0, 1.0), 1.0, 0.0, "int in (0, 1]"),
            (inside(0.0, 1.0), 0.5, 1.0, "int in (0, 1)"),
            (at_least(1e-37), 1e-37, 0.0, "int of at least 1e-37"),
        ] {
            assert!(range.contains(inside) && !range.contains(outside), "{range}");
            assert!(!range.contains(f64::NAN) && !range.contains(f64::INFINITY), "{range}");
            assert_eq!(range.expected("int"), expected);
        }
    }

    #[test]
    fn numbers_inside_arrays_and_maps_are_checked() {
        let value = Value::from(&json!({"q_proj": 4, "v_proj": [1, 0]}));
        let outside = at_least(1.0).outside(&value).map(Value::describe);
        assert_eq!(outside.as_deref(), Some("int 0"));
        assert!(at_least(0.0).outside(&value).is_none());
    }
}
