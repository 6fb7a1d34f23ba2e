//! The value that an evaluation reads from each row: a column, or the result of the caller's function.

use crate::data::{Dataset, Pace, Row};
use crate::error::{Error, Kind, Result};
use crate::options::{OptionType, Value};

/// Computes a value from a row.
type RowFunction<'a, T> = Box<dyn Fn(&Row) -> Result<T> + 'a>;

/// A value of type `T` in each row.
pub enum Field<'a, T> {
    Column(String),
    Function(RowFunction<'a, T>),
}

impl<T: OptionType> Field<'_, T> {
    /// The values of all rows. Errors of the function name `option`, through which it was passed.
    pub fn values(&self, option: &str, rows: &Dataset) -> Result<Vec<T>> {
        match self {
            Field::Column(name) => column(rows, name),
            Field::Function(function) => {
                let values = rows.iter().enumerate().map(|(number, row)| {
                    let value = row.and_then(|row| function(&row)).map_err(|error| in_row(number, error));
                    value.map_err(|error| {
                        if error.kind == Kind::Stopped {
                            error
                        } else {
                            error.context(format!("`{option}`"))
                        }
                    })
                });
                values.collect()
            }
        }
    }
}

/// The values of a column.
///
/// # Errors
/// A column that is not there, or a value of another type.
pub fn column<T: OptionType>(rows: &Dataset, name: &str) -> Result<Vec<T>> {
    rows.ensure_columns(&[name])?;
    let values = rows.iter().enumerate().map(|(number, row)| {
        let value = row?.get(name).map_or(Value::Unit, Value::from);
        T::from_value(&value).map_err(|mismatch| {
            let (expected, value) = (mismatch.expected, value.describe());
            Error::data(format!("row {number}: column `{name}`: expected {expected}, found {value}"))
        })
    });
    values.collect()
}

/// The rows that are measured: the first `limit`, or all; few in a rehearsal.
pub fn first(rows: &Dataset, limit: Option<usize>, pace: Pace) -> Dataset {
    rows.take(pace.count(limit.unwrap_or(rows.len())))
}

/// Names the row in an error, unless it is the interrupt.
pub fn in_row(number: usize, error: Error) -> Error {
    match error.kind {
        Kind::Stopped => error,
        _ => error.context(format!("row {number}")),
    }
}
