//! What an evaluation takes of each row: a column, or what a function of the script makes of it.

use crate::data::Dataset as Rows;
use crate::script::engine::state::State;
use crate::script::values::callback::Callback;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::{describe, FromScript};
use crate::script::values::json::to_dynamic;
use crate::script::values::options::Options;
use crate::{Error, Kind, Result};
use rhai::{Dynamic, FnPtr, NativeCallContext};
use serde_json::Value;

/// What is taken of each row: a column, or what a function makes of the row.
pub enum Field {
    Column(String),
    Function { option: String, function: FnPtr },
}

impl Field {
    pub fn take(options: &mut Options, name: &str, column: &str) -> Result<Self> {
        let Some(given) = options.take_any(name) else { return Ok(Field::Column(column.to_owned())) };
        if let Some(function) = given.clone().try_cast::<FnPtr>() {
            return Ok(Field::Function { option: name.to_owned(), function });
        }
        match String::from_script(&given) {
            Some(column) => Ok(Field::Column(column)),
            None => Err(options.wrong(name, "a function of the row or the name of a column", &describe(&given))),
        }
    }

    pub fn values<T: FromScript>(&self, context: &NativeCallContext, data: &Rows) -> RhaiResultOf<Vec<T>> {
        match self {
            Field::Column(name) => Ok(from_column(data, name)?),
            Field::Function { option, function } => {
                let callback = Callback::new(context, function.clone());
                let values = data.iter().enumerate().map(|(at, row)| {
                    callback.call([to_dynamic(&Value::Object(row.clone()))]).map_err(|error| in_row(at, error)).map_err(
                        |error| if error.kind == Kind::Stopped { error } else { error.context(format!("`{option}`")) },
                    )
                });
                callback.settle(values.collect::<Result<_>>())
            }
        }
    }
}

pub fn from_column<T: FromScript>(data: &Rows, name: &str) -> Result<Vec<T>> {
    data.ensure_columns(&[name])?;
    let values = data.iter().enumerate().map(|(at, row)| {
        let value = row.get(name).map_or(Dynamic::UNIT, to_dynamic);
        T::from_script(&value).ok_or_else(|| {
            Error::data(format!("row {at}: column `{name}`: expected {}, found {}", T::expected(), describe(&value)))
        })
    });
    values.collect()
}

pub fn in_row(at: usize, error: Error) -> Error {
    match error.kind {
        Kind::Stopped => error,
        _ => error.context(format!("row {at}")),
    }
}

pub fn limited(data: &Rows, options: &mut Options, state: &State) -> Result<Rows> {
    Ok(data.take(state.few(options.take("limit", data.len())?)))
}
