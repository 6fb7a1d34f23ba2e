//! The values that a sweep may draw for an option: `log_uniform`, `uniform`, `int_uniform`, `choice`.

use crate::error::{Error, Result};
use crate::options::OptionType;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::{describe, to_map, to_value};
use crate::sweep::rounds::space::Distribution;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// Numbers whose logarithms are drawn evenly between those of two others, for the `search` of a sweep.
    ///
    /// Learning rates are drawn so: between 1e-5 and 1e-3 as many lie below 1e-4 as above. Values have four digits.
    ///
    /// ```rhai
    /// let result = sweep(#{
    ///     search: #{ lr: log_uniform(1e-5, 1e-3) }, trials: 4, out: "runs/drawn",
    ///     trial: |point, run| #{ distance: abs(log2(point.lr / 1e-4)) } });
    /// print(result.best("distance").summary);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn log_uniform(low: Dynamic, high: Dynamic) -> RhaiResultOf<Map> {
        let [low, high] = ends("log_uniform", [&low, &high])?;
        Ok(described("log_uniform", Distribution::LogUniform { low, high })?)
    }

    /// Numbers drawn evenly between two others, for the `search` of a sweep.
    ///
    /// Values have four digits.
    ///
    /// ```rhai
    /// let result = sweep(#{
    ///     search: #{ dropout: uniform(0.0, 0.3) }, trials: 4, out: "runs/drawn",
    ///     trial: |point, run| #{ distance: abs(point.dropout - 0.1) } });
    /// print(result.best("distance").summary);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn uniform(low: Dynamic, high: Dynamic) -> RhaiResultOf<Map> {
        let [low, high] = ends("uniform", [&low, &high])?;
        Ok(described("uniform", Distribution::Uniform { low, high })?)
    }

    /// Whole numbers drawn evenly from one to another, both included, for the `search` of a sweep.
    ///
    /// ```rhai
    /// let result = sweep(#{
    ///     search: #{ rank: int_uniform(1, 64) }, trials: 4, out: "runs/drawn",
    ///     trial: |point, run| #{ distance: abs(point.rank - 16) } });
    /// print(result.best("distance").summary);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn int_uniform(low: i64, high: i64) -> RhaiResultOf<Map> {
        Ok(described("int_uniform", Distribution::IntUniform { low, high })?)
    }

    /// One of these values, drawn evenly, for the `search` of a sweep.
    ///
    /// ```rhai
    /// let result = sweep(#{
    ///     search: #{ rank: choice([4, 16, 64]), warmup: choice([0, 10]) }, trials: 4, out: "runs/drawn",
    ///     trial: |point, run| #{ distance: abs(point.rank - 16) + point.warmup } });
    /// print(result.best("distance").summary);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn choice(values: Array) -> RhaiResultOf<Map> {
        let values = to_value(&Dynamic::from_array(values));
        let read = Distribution::from_value(&values).map_err(|mismatch| {
            Error::input(format!("choice: expected {}, found {}", mismatch.expected, values.describe()))
        });
        Ok(described("choice", read?)?)
    }
}

fn ends(function: &str, ends: [&Dynamic; 2]) -> Result<[f64; 2]> {
    let number = |value: &Dynamic| {
        let number = to_value(value).as_f64();
        number.ok_or_else(|| Error::input(format!("{function}: expected two numbers, found {}", describe(value))))
    };
    Ok([number(ends[0])?, number(ends[1])?])
}

/// The map that stands for a distribution.
fn described(function: &str, distribution: Distribution) -> Result<Map> {
    let value = distribution.to_value();
    let entries = value.as_map().ok_or_else(|| Error::bug("a distribution that is no map"))?;
    if let Some(expected) = distribution.problem() {
        let found: Vec<String> = entries.iter().skip(1).map(|(_, value)| value.literal()).collect();
        return Err(Error::input(format!("{function}: expected {expected}, found {}", found.join(" and "))));
    }
    Ok(to_map(entries))
}
