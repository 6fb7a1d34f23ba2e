//! What an evaluation takes of each row: the name of a column, or a function of the script.

use crate::data::Dataset as Rows;
use crate::eval::field::{column, Field};
use crate::options::{Mismatch, OptionType, Value};
use crate::script::engine::state::State;
use crate::script::values::callback::Callback;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::FromScript;
use crate::script::values::json::to_dynamic;
use rhai::{FnPtr, NativeCallContext};
use serde_json::Value as Json;

#[derive(Debug, Clone)]
pub enum FieldOption {
    Column(String),
    Function(FnPtr),
}

impl FieldOption {
    pub fn column(name: &str) -> Self {
        FieldOption::Column(name.to_owned())
    }

    /// The values of all rows; `option` is where the field comes from.
    pub fn values<T: FromScript + OptionType>(
        &self,
        context: &NativeCallContext,
        option: &str,
        rows: &Rows,
    ) -> RhaiResultOf<Vec<T>> {
        match self {
            FieldOption::Column(name) => Ok(column(rows, name)?),
            FieldOption::Function(function) => {
                let callback = Callback::new(context, function.clone());
                let call = |row: &crate::data::Row| callback.call([to_dynamic(&Json::Object(row.clone()))]);
                let values = Field::Function(Box::new(call)).values(option, rows);
                callback.settle(values)
            }
        }
    }
}

impl OptionType for FieldOption {
    fn type_name() -> String {
        "string or function".to_owned()
    }
    fn expected() -> String {
        "a function of the row or the name of a column".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let column = value.as_str().map(FieldOption::column);
        let function = || FnPtr::from_value(value).map(FieldOption::Function);
        column.map_or_else(function, Ok).map_err(|_| Mismatch::of::<Self>(value))
    }
    fn to_value(&self) -> Value {
        match self {
            FieldOption::Column(name) => Value::Text(name.clone()),
            FieldOption::Function(function) => function.to_value(),
        }
    }
}

/// The first rows: all, `limit`, or the few of a rehearsal.
pub fn limited(rows: &Rows, limit: Option<usize>, state: &State) -> Rows {
    rows.take(state.capped(limit.unwrap_or(rows.len())))
}
