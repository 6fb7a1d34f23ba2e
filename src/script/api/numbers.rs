//! Small statistics: `log2`, `mean`, `stdev`, `round` to digits.

use crate::script::convert::RhaiResultOf;
use crate::script::values::{describe, FromScript};
use crate::Error;
use rhai::plugin::*;
use rhai::{Array, Dynamic};

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// The logarithm to base 2.
    ///
    /// ```rhai
    /// print(log2(0.5));
    /// ```
    pub fn log2(x: f64) -> f64 {
        x.log2()
    }

    /// The logarithm to base 2.
    ///
    /// ```rhai
    /// print(log2(8));
    /// ```
    #[rhai_fn(name = "log2")]
    pub fn log2_int(x: i64) -> f64 {
        (x as f64).log2()
    }

    /// The number rounded to so many digits after the point, 0 to 15.
    ///
    /// ```rhai
    /// print(round(3.14159, 2));
    /// ```
    #[rhai_fn(name = "round", return_raw)]
    pub fn round_to(x: f64, digits: i64) -> RhaiResultOf<f64> {
        let count = i32::try_from(digits).ok().filter(|count| (0..=15).contains(count));
        let count = count.ok_or_else(|| Error::input(format!("round: expected 0 to 15 digits, found {digits}")))?;
        let scale = 10_f64.powi(count);
        Ok((x * scale).round() / scale)
    }

    /// The mean of an array of numbers.
    ///
    /// ```rhai
    /// print(mean([1, 2, 4.5]));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn mean(values: Array) -> RhaiResultOf<f64> {
        let values = numbers("mean", &values, 1)?;
        Ok(values.iter().sum::<f64>() / values.len() as f64)
    }

    /// The standard deviation of a sample (dividing by n - 1) of at least two numbers.
    ///
    /// ```rhai
    /// print(stdev([1.0, 2.0, 3.0]));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn stdev(values: Array) -> RhaiResultOf<f64> {
        let values = numbers("stdev", &values, 2)?;
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        Ok((squares / (values.len() - 1) as f64).sqrt())
    }
}

fn numbers(function: &str, values: &Array, least: usize) -> Result<Vec<f64>, Error> {
    if values.len() < least {
        return Err(Error::input(format!("{function}: expected at least {least} numbers, found {}", values.len())));
    }
    let number = |value: &Dynamic| {
        f64::from_script(value)
            .ok_or_else(|| Error::input(format!("{function}: expected numbers, found {}", describe(value))))
    };
    values.iter().map(number).collect()
}
