//! Options that are functions of a row: what an evaluation takes of each row, which may also be the name of a column,
//! and how it scores a text.

use crate::data::store::TokenizedRow;
use crate::data::{Dataset as Rows, Row};
use crate::error::Error;
use crate::eval::field::{column, in_row, Field};
use crate::hub::tokenizer::Tokenizer;
use crate::options::{Mismatch, OptionType, Value};
use crate::script::values::callback::Callback;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::{describe, FromScript};
use crate::script::values::json::to_map;
use rhai::{Array, Dynamic, FnPtr, Map, NativeCallContext};

/// What is taken of each row.
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
                let call = |row: &Row| callback.call([Dynamic::from_map(to_map(row))]);
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

/// What gives tokens their weights.
#[derive(Debug, Clone)]
pub enum WeightsOption {
    /// A number for each row.
    Column(String),
    /// A function of a row and its tokens.
    Function(FnPtr),
}

impl OptionType for WeightsOption {
    fn type_name() -> String {
        FieldOption::type_name()
    }
    fn expected() -> String {
        "a function of a row and its tokens, or the name of a column".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match FieldOption::from_value(value) {
            Ok(FieldOption::Column(name)) => Ok(WeightsOption::Column(name)),
            Ok(FieldOption::Function(function)) => Ok(WeightsOption::Function(function)),
            Err(_) => {
                let hint = "as in |row, tokens| tokens.texts.map(|text| if text == \"!\" { 0.0 } else { 1.0 })";
                Err(Mismatch::of::<Self>(value).with_hint(hint))
            }
        }
    }
    fn to_value(&self) -> Value {
        match self {
            WeightsOption::Column(name) => Value::Text(name.clone()),
            WeightsOption::Function(function) => function.to_value(),
        }
    }
}

/// The weights that the function of the script gives the tokens of a row.
pub fn weights_by(
    function: &Callback,
    tokenizer: &Tokenizer,
    row: &Row,
    tokens: &TokenizedRow,
) -> crate::Result<Vec<f32>> {
    let texts = tokens.ids.iter().map(|&id| Ok(tokenizer.decode(&[id], false)?.into()));
    let tokens: Map = [
        ("ids".into(), tokens.ids.iter().map(|&id| Dynamic::from_int(i64::from(id))).collect::<Array>().into()),
        ("texts".into(), texts.collect::<crate::Result<Array>>()?.into()),
        ("trained".into(), tokens.trained.iter().map(|&is_trained| is_trained.into()).collect::<Array>().into()),
    ]
    .into();
    let weights: Vec<f64> = function.call([Dynamic::from_map(to_map(row)), Dynamic::from_map(tokens)])?;
    Ok(weights.into_iter().map(|weight| weight as f32).collect())
}

/// How outputs are scored.
#[derive(Debug, Clone)]
pub enum MetricOption {
    ExactMatch,
    Function(FnPtr),
}

/// The metric by name, and the name of its scores.
pub const EXACT_MATCH: &str = "exact_match";

impl OptionType for MetricOption {
    fn type_name() -> String {
        "string or function".to_owned()
    }
    fn expected() -> String {
        "\"exact_match\" or a function".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        if value.as_str() == Some(EXACT_MATCH) {
            return Ok(MetricOption::ExactMatch);
        }
        FnPtr::from_value(value)
            .map(MetricOption::Function)
            .map_err(|_| Mismatch::of::<Self>(value).with_hint("as in |output, row| output.contains(row.answer)"))
    }
    fn to_value(&self) -> Value {
        match self {
            MetricOption::ExactMatch => Value::Text(EXACT_MATCH.to_owned()),
            MetricOption::Function(function) => function.to_value(),
        }
    }
}

/// The score that the metric `function` of the script gives the output of a row.
pub fn score_by(function: &Callback, number: usize, output: &str, row: &Row) -> crate::Result<f64> {
    let arguments = [output.into(), Dynamic::from_map(to_map(row))];
    let value: Dynamic = function.call(arguments).map_err(|error| in_row(number, error))?;
    let score = f64::from_script(&value).or_else(|| Some(f64::from(bool::from_script(&value)?)));
    score.filter(|score| score.is_finite()).ok_or_else(|| {
        let value = describe(&value);
        Error::input(format!("row {number}: `metric` must return a finite number or a bool, found {value}"))
    })
}
