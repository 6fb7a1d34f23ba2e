//! A trial, which is one point of the grid with its complete settings and its folder; and the plan, which holds all
//! trials of a sweep.

use super::checkpoints::TrialCheckpoints;
use super::decide::DecideOptions;
use super::grid::{Grid, Point};
use super::place::Place;
use super::settings_diff;
use super::shared::{WorkerId, WORK};
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::train::origin::Origin;
use crate::train::recorded::ADAPTER;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, Clone)]
pub struct Trial {
    /// The position in grid order, from 0.
    pub index: usize,
    /// The folder name, such as `rank-4_seed-0`.
    pub name: String,
    pub point: Point,
    /// Everything that the result depends on: resolved lora and train settings, fingerprints of model and data, the
    /// program's version. A finished trial is run again if any of it changed.
    pub settings: Value,
    pub dir: PathBuf,
    /// Written to the folder as `origin.json`.
    pub origin: Option<Arc<Origin>>,
}

impl Trial {
    pub fn fingerprint(&self) -> String {
        settings_diff::fingerprint(&self.settings)
    }
    /// The log, one JSON object per logged step: see [`crate::train::metrics`].
    pub fn metrics_path(&self) -> PathBuf {
        self.dir.join("metrics.jsonl")
    }
    /// The folder of the adapter.
    pub fn adapter_dir(&self) -> PathBuf {
        self.dir.join(ADAPTER)
    }
}

/// The plan of a sweep, for [`super::run`].
#[derive(Debug, Clone)]
pub struct Plan {
    pub out: PathBuf,
    pub grid: Grid,
    /// In grid order.
    pub trials: Vec<Trial>,
    /// Identifies the sweep, such as by the model's name. A folder with another identity is refused, not overwritten.
    /// Values that may change from run to run belong in the settings instead.
    pub identity: Value,
    /// What trials go on from; `None` begins each anew and saves none.
    pub checkpoints: Option<TrialCheckpoints>,
    /// Do trials keep their checkpoints in their own folders?
    pub goes_on_in_place: bool,
    /// What the sweep decides, where it adds seeds until that is known.
    pub decide: Option<DecideOptions>,
    /// The option that each setting was tuned by, before settings were compared.
    pub tuned: Option<String>,
    /// The number of the round, from 0, where later ones add trials by the results; `None` where this plan is the sweep.
    pub round: Option<usize>,
    /// Where its trials run.
    pub place: Option<Place>,
    /// This worker, in a sweep that several processes share.
    pub shared: Option<WorkerId>,
}

impl Plan {
    /// `settings` returns the complete settings of a point. Its errors get the point as context.
    pub fn new(
        out: impl AsRef<Path>,
        grid: Grid,
        identity: Value,
        mut settings: impl FnMut(&Point) -> Result<Value>,
    ) -> Result<Self> {
        let out = out.as_ref().to_path_buf();
        if out.as_os_str().is_empty() {
            bail!(Kind::Input, "out: expected a folder, found an empty string"; hint: "e.g. out: \"runs/my-sweep\"");
        }
        super::columns::ensure_no_axis_is_a_column(&grid)?;
        let mut trials = Vec::new();
        for (index, point) in grid.points().into_iter().enumerate() {
            let settings = settings(&point).map_err(|error| error.context(format!("trial {point}")))?;
            let name = point.folder_name();
            trials.push(Trial { index, dir: out.join(&name), name, point, settings, origin: None });
        }
        ensure_distinct_names(&trials)?;
        let (checkpoints, decide, tuned, round, place, shared) = Default::default();
        Ok(Plan {
            out,
            grid,
            trials,
            identity,
            checkpoints,
            goes_on_in_place: false,
            decide,
            tuned,
            round,
            place,
            shared,
        })
    }

    /// Shares the sweep with other processes, as the worker `id`: its trials train in folders of its own.
    pub fn share(&mut self, id: WorkerId) {
        let work = self.out.join(WORK).join(id.as_str());
        self.trials.iter_mut().for_each(|trial| trial.dir = work.join(&trial.name));
        self.shared = Some(id);
    }

    /// Every trial comes from `origin`.
    pub fn set_origin(&mut self, origin: Option<&Origin>) {
        let origin = origin.cloned().map(Arc::new);
        self.trials.iter_mut().for_each(|trial| trial.origin = origin.clone());
    }
}

/// Folder names must differ even where the file system ignores case.
fn ensure_distinct_names(trials: &[Trial]) -> Result<()> {
    let mut seen: HashMap<String, &Point> = HashMap::new();
    for trial in trials {
        if let Some(other) = seen.insert(trial.name.to_lowercase(), &trial.point) {
            return Err(Error::input(format!("grid: {other} and {} would share one folder", trial.point))
                .with_hint("rename one of the values"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::Axis;
    use serde_json::json;

    fn grid(key: &str, values: Value) -> Grid {
        Grid::new(vec![Axis { key: key.into(), values: values.as_array().unwrap().clone() }]).unwrap()
    }

    #[test]
    fn a_plan_names_the_point_whose_settings_fail() {
        let refuse = |point: &Point| match point.get("rank") {
            Some(rank) if rank == 0 => Err(Error::input("rank: expected at least 1, found 0")),
            _ => Ok(json!({})),
        };
        let error = Plan::new("out", grid("rank", json!([4, 0])), json!({}), refuse).unwrap_err();
        assert_eq!(error.message, "trial rank=0: rank: expected at least 1, found 0");
        assert!(Plan::new("", grid("rank", json!([4])), json!({}), refuse).is_err());
    }

    #[test]
    fn names_that_differ_only_in_case_are_refused() {
        let error = Plan::new("out", grid("schedule", json!(["Cosine", "cosine"])), json!({}), |_| Ok(json!({})));
        assert!(error.unwrap_err().message.contains("share one folder"));
    }

    #[test]
    fn an_axis_may_not_hide_a_column() {
        let error = Plan::new("out", grid("seconds", json!([1])), json!({}), |_| Ok(json!({}))).unwrap_err();
        assert!(error.message.contains("`seconds`"), "{error}");
    }
}
