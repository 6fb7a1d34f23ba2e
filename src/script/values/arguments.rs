//! Arguments of functions, checked: counts, and arrays of one type.

use crate::error::{Error, Result};
use crate::options::{Mismatch, OptionType};
use crate::script::values::from_script::to_value;
use rhai::Array;

/// A count, or an index from the front.
pub fn natural(function: &str, number: i64) -> Result<usize> {
    usize::try_from(number)
        .map_err(|_| Error::input(format!("{function}: expected a number of at least 0, found {number}")))
}

/// The elements of an array that is an argument of `function`.
pub fn elements<T: OptionType>(function: &str, values: Array) -> Result<Vec<T>> {
    let value = to_value(&values.into());
    Vec::from_value(&value).map_err(|Mismatch { expected, hint, .. }| {
        let error = Error::input(format!("{function}: expected {expected}, found {}", value.describe()));
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    })
}
