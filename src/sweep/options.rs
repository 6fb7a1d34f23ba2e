//! The options of a sweep, and the settings of a trial at a point of the grid.

use super::grid::{Grid, Point, BASE, DATA, LOSS};
use crate::error::{Error, Result};
use crate::lora::LoraSpec;
use crate::options;
use crate::options::{Declared, Entry, Mismatch, OptionSet, OptionType, Refusal, Source, Table, Value};
use crate::train::checkpoint::{CheckpointOptions, Resume};
use crate::train::TrainConfig;
use serde_json::Map;
use std::path::PathBuf;

options! {
    /// What a sweep varies, and where its results go.
    #[derive(Debug, Clone)]
    pub struct SweepOptions {
        /// The axes: any option of `lora` or `train` with an array of values, or with a map of values by their names, as in
        /// `rank_pattern: #{ flat: #{}, deep: #{ down_proj: 16 } }`. `seed` may be a count. `base`, `data` and `loss` take maps of
        /// models, splits and functions; with `trial` an axis may have any name.
        pub grid: Axes = Axes::default(), is required,
            hint "name what varies, e.g. grid: #{ rank: [4, 8, 16] }";
        /// The folder of the sweep. Trials that are already finished there are not run again.
        pub out: PathBuf = PathBuf::new(), is required;
        /// Write `charts/` and `report.html` into `out`.
        pub charts: bool = true;
        /// Train two trials again, each alone, and report how far they differ from the jointly trained ones.
        pub verify: bool = false;
        pub checkpoints: CheckpointOptions = CheckpointOptions::default(), is set;
    }
    rule SweepOptions::rule;
}

impl SweepOptions {
    fn rule(&self) -> Option<Refusal> {
        let Some(Resume::From(path)) = &self.checkpoints.resume else { return None };
        let refusal = Refusal::new("resume", "bool", format!("the path \"{}\"", path.display()));
        Some(refusal.with_hint("the trials of a sweep go on by themselves, from the checkpoints in `out`"))
    }

    /// The grid. Its axes are options of adapters and of training, under any of their names.
    pub fn grid(&self) -> Result<Grid> {
        let options = LoraSpec::table().options().into_iter().chain(TrainConfig::table().options());
        let names = options.flat_map(|option| [option.name].into_iter().chain(option.aliases.iter().copied()));
        Grid::from_json(&self.grid.0, &names.chain([LOSS, BASE, DATA]).collect::<Vec<_>>())
    }
}

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

/// The settings of a trial at its point of the grid.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialSettings {
    pub point: Point,
    pub spec: LoraSpec,
    pub config: TrainConfig,
    /// What tells the caller's function that computes the loss from another one; null for the built-in loss.
    pub loss: serde_json::Value,
}

/// The settings of all points. Where those of some points cannot be read, or not for the same reason, the error names
/// the point.
pub fn of_all_points<T>(points: &[Point], settings: Vec<Result<T>>) -> Result<Vec<T>> {
    let messages: Vec<Option<String>> =
        settings.iter().map(|settings| settings.as_ref().err().map(|error| error.message.clone())).collect();
    let is_everywhere = messages.iter().all(|message| Some(message) == messages.first());
    let settings = settings.into_iter().zip(points);
    let settings = settings.map(|(settings, point)| {
        settings.map_err(|error| if is_everywhere { error } else { error.context(format!("trial {point}")) })
    });
    settings.collect()
}

impl TrialSettings {
    /// `spec` and `config` with the values of `point`.
    ///
    /// # Errors
    /// A value of another type or outside of its range.
    pub fn at(point: Point, spec: &LoraSpec, config: &TrainConfig) -> Result<Self> {
        let spec = spec.clone().read_over(&mut ValuesOf(&point))?;
        let config = config.clone().read_over(&mut ValuesOf(&point))?;
        Ok(TrialSettings { point, spec, config, loss: serde_json::Value::Null })
    }
}

/// A point as a source of options.
struct ValuesOf<'a>(&'a Point);

impl Source for ValuesOf<'_> {
    fn take(&mut self, option: &Declared) -> Result<Option<Value>> {
        let mut axes = self.0.values.iter().filter(|(key, _)| option.is_called(key));
        let Some((key, value)) = axes.next() else { return Ok(None) };
        match axes.next() {
            Some((other, _)) => Err(Error::input(format!("sweep: the axes `{key}` and `{other}` are the same option"))
                .with_hint("leave one of them out")),
            None => Ok(Some(Value::from(value))),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Error {
        refusal.error("sweep")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn point(values: serde_json::Value) -> Point {
        Point { values: values.as_object().unwrap().clone() }
    }

    #[test]
    fn the_values_of_a_point_are_read_as_options() {
        let config = TrainConfig { batch: 3, ..TrainConfig::default() };
        let values = json!({"rank": 4, "learning_rate": 0.5, "seed": 7});
        let settings = TrialSettings::at(point(values), &LoraSpec::default(), &config).unwrap();
        assert_eq!((settings.spec.r, settings.config.optimizer.lr), (4, 0.5));
        assert_eq!((settings.config.seed, settings.config.batch), (7, 3));
        for (values, expected) in [
            (json!({"rank": 0}), "sweep: option `r`: expected int of at least 1, found 0"),
            (json!({"rank": 2, "r": 4}), "sweep: the axes `rank` and `r` are the same option"),
            (json!({"batch": "x"}), "sweep: option `batch`: expected int of at least 1, found string \"x\""),
        ] {
            let error = TrialSettings::at(point(values), &LoraSpec::default(), &config).unwrap_err();
            assert_eq!(error.message, expected);
        }
    }

    #[test]
    fn axes_are_options_of_adapters_and_training() {
        let options = |grid: serde_json::Value| {
            let grid = Axes::from_value(&Value::from(&grid)).unwrap();
            SweepOptions { grid, ..SweepOptions::default() }
        };
        assert_eq!(options(json!({"lora_alpha": [1, 2], "seed": 2})).grid().unwrap().points().len(), 4);
        assert!(options(json!({"out": ["a"]})).grid().is_err());
    }
}
