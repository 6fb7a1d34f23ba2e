//! Small statistics: `log2`, `mean`, `stdev`, `round` to digits; functions of floats for ints
//! too; numbers as text, by `format`.

use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::describe;
use crate::script::values::number_format::Format;
use crate::script::values::order::numbers;
use crate::script::values::tensor::number;
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

    /// The square root of an int.
    ///
    /// ```rhai
    /// print(sqrt(16));
    /// ```
    #[rhai_fn(name = "sqrt")]
    pub fn sqrt_int(x: i64) -> f64 {
        (x as f64).sqrt()
    }

    /// The exponential of an int.
    ///
    /// ```rhai
    /// print(exp(1));
    /// ```
    #[rhai_fn(name = "exp")]
    pub fn exp_int(x: i64) -> f64 {
        (x as f64).exp()
    }

    /// The natural logarithm of an int.
    ///
    /// ```rhai
    /// print(ln(10));
    /// ```
    #[rhai_fn(name = "ln")]
    pub fn ln_int(x: i64) -> f64 {
        (x as f64).ln()
    }

    /// The logarithm of a number to base 10.
    ///
    /// ```rhai
    /// print(log10(1000.0));
    /// ```
    pub fn log10(x: f64) -> f64 {
        x.log10()
    }

    /// The logarithm of an int to base 10.
    ///
    /// ```rhai
    /// print(log10(1000));
    /// ```
    #[rhai_fn(name = "log10")]
    pub fn log10_int(x: i64) -> f64 {
        (x as f64).log10()
    }

    /// A number, or the one number of a tensor, as text with so many digits after the point.
    ///
    /// ```rhai
    /// let loss = 2.5;
    /// print(`loss ${format(loss, 3)}`);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn format(x: Dynamic, digits: i64) -> RhaiResultOf<String> {
        formatted(&x, &format!(".{digits}f"))
    }

    /// A number, or the one number of a tensor, as text by Python's format: `.3f`, `.2e`, `,`, `.1%`, `8.3f`, `04d`.
    ///
    /// ```rhai
    /// print(`${format(0.8125, ".1%")} of ${format(12345, ",")} rows`);
    /// ```
    #[rhai_fn(name = "format", return_raw)]
    pub fn format_by(x: Dynamic, form: &str) -> RhaiResultOf<String> {
        formatted(&x, form)
    }
}

fn formatted(x: &Dynamic, form: &str) -> RhaiResultOf<String> {
    let wrong = || {
        Error::input(format!("format: expected a form such as \".3f\", \".2e\", \",\" or \".1%\", found \"{form}\""))
    };
    let form = Format::read(form).ok_or_else(wrong)?;
    if let Ok(int) = x.as_int() {
        return Ok(form.int(int));
    }
    let Some(float) = number(x)? else {
        let error = Error::input(format!("format: expected a number, found {}", describe(x)));
        return Err(error.with_hint("values stand inside a text between backticks: `rank ${rank}`").into());
    };
    Ok(form.float(float).ok_or_else(|| {
        Error::input(format!("format: \"d\" is for ints, found float {float}")).with_hint("write \".0f\"")
    })?)
}
