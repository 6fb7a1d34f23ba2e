//! The axes of a grid and the values of a point, as options.

use super::grid::Point;
use crate::lora::LoraSpec;
use crate::options;
use crate::options::{Entry, Mismatch, OptionSet, OptionType, Table, Value};
use crate::train::TrainConfig;
use serde_json::Map;

options! {
    /// The axes whose values are not read here: functions, models, rows.
    #[derive(Debug, Clone)]
    struct ObjectAxes {
        /// Functions by their names, as in `loss: #{ built_in: (), smooth: |model, batch| … }`; `()` is the built-in loss.
        loss: Map<String, serde_json::Value> = Map::new();
        /// Models by their names, as in `base: #{ small: m1, large: m2 }`.
        base: Map<String, serde_json::Value> = Map::new();
        /// Tokenized splits by their names, as in `data: #{ small: d1, all: d2 }`.
        data: Map<String, serde_json::Value> = Map::new();
    }
}

/// The values of each axis.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Axes(pub Map<String, serde_json::Value>);

impl<const N: usize> From<[(&str, serde_json::Value); N]> for Axes {
    fn from(axes: [(&str, serde_json::Value); N]) -> Self {
        Axes(axes.into_iter().map(|(key, values)| (key.to_owned(), values)).collect())
    }
}

impl OptionType for Axes {
    fn type_name() -> String {
        "map of arrays".to_owned()
    }
    fn inner() -> Option<&'static Table> {
        static AXES: Table = Table {
            entries: &[Entry::Set(LoraSpec::table), Entry::Set(TrainConfig::table), Entry::Set(ObjectAxes::table)],
        };
        Some(&AXES)
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        object(value).map(Axes).ok_or_else(|| Mismatch::of::<Self>(value))
    }
    fn to_value(&self) -> Value {
        as_map(&self.0)
    }
}

/// A point as an option: a map of axis values.
impl OptionType for Point {
    fn type_name() -> String {
        "map".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        object(value).map(|values| Point { values }).ok_or_else(|| Mismatch::of::<Self>(value))
    }
    fn to_value(&self) -> Value {
        as_map(&self.values)
    }
}

fn as_map(values: &Map<String, serde_json::Value>) -> Value {
    Value::Map(values.iter().map(|(key, value)| (key.clone(), Value::from(value))).collect())
}

/// `None` if JSON cannot hold one of the values: a function, NaN.
fn object(value: &Value) -> Option<Map<String, serde_json::Value>> {
    value.as_map()?.iter().map(|(key, value)| Some((key.clone(), value.to_json()?))).collect()
}
