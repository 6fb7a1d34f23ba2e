//! The options of a sweep, and the settings of a trial at a point of the grid.

use super::axes::Axes;
use super::decide::DecideOptions;
use super::grid::{Grid, Point, BASE, DATA, LOSS};
use super::pruning::Pruning;
use super::rounds::space::Space;
use super::rounds::tpe::Sampler;
use super::rounds::tune::Tune;
use crate::error::{Error, Result};
use crate::lora::LoraSpec;
use crate::options;
use crate::options::{Declared, OptionSet, Refusal, Source, Value};
use crate::train::checkpoint::{CheckpointOptions, Resume};
use crate::train::TrainConfig;
use std::path::PathBuf;

options! {
    /// What a sweep varies, and where its results go.
    #[derive(Debug, Clone)]
    pub struct SweepOptions {
        /// The axes: any option of `lora` or `train` with an array of values, or with a map of values by their names, as in
        /// `rank_pattern: #{ flat: #{}, deep: #{ down_proj: 16 } }`. `seed` may be a count. `base`, `data` and `loss` take maps of
        /// models, splits and functions; with `trial` an axis may have any name.
        pub grid: Axes = Axes::default(), words "none; required without `search`";
        /// Options whose values are drawn, as in `#{ lr: log_uniform(1e-5, 1e-3), rank: choice([4, 16, 64]) }`, each of `lora` or
        /// `train`, or with `trial` of any name. Where there is a grid too, every point that is drawn is combined with every
        /// point of it.
        pub search: Space = Space::default(), words "none";
        /// The number of points that are drawn from `search`.
        pub trials: Option<usize> = None, range at_least(1.0), hint "as in trials: 40";
        /// How points are drawn: "sobol" spreads them evenly, "random" draws each by itself, and "tpe" draws, after ten points,
        /// four at a time where the best points so far are more frequent than the others (tree-structured Parzen estimator).
        pub sampler: Sampler = Sampler::Sobol;
        /// The seed of the points that are drawn.
        pub search_seed: u64 = 0;
        /// The option of which each setting finds its best value before settings are compared: "lr", or the values to try, as in
        /// `#{ lr: log_uniform(1e-5, 1e-2) }` or `#{ lr: [1e-4, 3e-4, 1e-3] }`. The trials for that are a sweep of their own
        /// in `out/tuning`, with the first seed alone.
        pub tune: Option<Tune> = None;
        /// The metric by which `tune`, `sampler: "tpe"` and `decide` compare.
        pub metric: Option<String> = None,
            words "\"eval_loss\", or \"train_loss\" where nothing was evaluated";
        pub decide: Option<DecideOptions> = None, is internal;
        /// The folder of the sweep. Trials that are already finished there are not run again.
        pub out: PathBuf = PathBuf::new(), is required;
        /// Write `charts/` and `report.html` into `out`.
        pub charts: bool = true;
        /// Train two trials again, each alone, and report how far they differ from the jointly trained ones.
        pub verify: bool = false;
        /// Stop trials early that fall behind: "halving", "median", or a map with `rule`, `eta`, `min_steps`, `metric` and
        /// `keep_states`, as in `#{ rule: "halving", eta: 3 }`.
        pub prune: Pruning = Pruning::default(), alias ["pruner"];
        pub checkpoints: CheckpointOptions = CheckpointOptions::default(), is set;
    }
    rule SweepOptions::rule;
}

impl SweepOptions {
    fn rule(&self) -> Option<Refusal> {
        let (is_drawn, has_grid) = (!self.search.0.is_empty(), !self.grid.0.is_empty());
        if !is_drawn && !has_grid {
            let refusal = Refusal::new("grid", "at least one axis", "none");
            return Some(refusal.with_hint("name what varies, e.g. grid: #{ rank: [4, 8, 16] }"));
        }
        if is_drawn && self.trials.is_none() {
            let refusal = Refusal::new("trials", "the number of points to draw from `search`", "nothing");
            return Some(refusal.with_hint("as in trials: 40"));
        }
        if !is_drawn && self.trials.is_some() {
            let refusal = Refusal::new("trials", "none without `search`", "it");
            return Some(refusal.with_hint("the grid says how many trials there are"));
        }
        let Some(Resume::From(path)) = &self.checkpoints.resume else { return None };
        let refusal = Refusal::new("resume", "bool", format!("the path \"{}\"", path.display()));
        Some(refusal.with_hint("the trials of a sweep go on by themselves, from the checkpoints in `out`"))
    }

    /// The names of axes in a sweep over adapters: options of adapters and of training, under any of their names.
    pub fn axis_names() -> Vec<&'static str> {
        let options = LoraSpec::table().options().into_iter().chain(TrainConfig::table().options());
        let names = options.flat_map(|option| [option.name].into_iter().chain(option.aliases.iter().copied()));
        names.chain([LOSS, BASE, DATA]).collect()
    }

    /// The grid of a sweep over adapters.
    pub fn grid(&self) -> Result<Grid> {
        Grid::from_json(&self.grid.0, &Self::axis_names())
    }

    /// Do its trials depend on anything but the grid?
    pub fn is_adaptive(&self) -> bool {
        !self.search.0.is_empty() || self.tune.is_some() || self.decide.is_some()
    }
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
    use crate::options::{OptionType, Value};
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
