//! The record of a single run, `run.json` in its folder: the settings, written when the run begins, and its status
//! and final metrics, written when it ends.

use super::metrics::{read_metrics, MetricsRow};
use super::outcome::{TrainOutcome, PEAK_MEMORY};
use crate::error::{Error, Kind, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The file that marks the folder of a single run.
pub const RUN: &str = "run.json";
/// The log of a run, or of a trial of a sweep.
pub const METRICS: &str = "metrics.jsonl";

/// How a run ended, if it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum RunStatus {
    /// It is still running, or was stopped.
    Unfinished,
    /// Metrics that are not finite are left out.
    Finished {
        metrics: BTreeMap<String, f64>,
    },
    Failed {
        error: String,
    },
}

/// Who trains in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunKind {
    #[default]
    Train,
    /// A training loop of a script's own.
    Loop,
}

impl RunKind {
    fn is_train(&self) -> bool {
        *self == RunKind::Train
    }
}

/// The content of `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    #[serde(default, skip_serializing_if = "RunKind::is_train")]
    pub kind: RunKind,
    pub settings: Value,
    #[serde(flatten)]
    pub status: RunStatus,
}

impl RunRecord {
    /// Marks `folder` as that of a run with these settings that has begun.
    pub fn begin(folder: &Path, kind: RunKind, settings: Value) -> Result<Self> {
        let record = RunRecord { kind, settings, status: RunStatus::Unfinished };
        record.write(folder)?;
        Ok(record)
    }

    /// A run of `train`, or a trial.
    pub fn new(settings: Value, status: RunStatus) -> Self {
        RunRecord { kind: RunKind::Train, settings, status }
    }

    /// Records how the run ended. A run that the user stopped stays unfinished.
    pub fn conclude(self, folder: &Path, outcome: &Result<TrainOutcome>) -> Result<()> {
        match outcome {
            Ok(outcome) => self.finish(folder, final_metrics(outcome)),
            Err(error) => self.fail(folder, error),
        }
    }

    /// Records the results of a run. Those that are not finite are left out.
    pub fn finish(mut self, folder: &Path, metrics: BTreeMap<String, f64>) -> Result<()> {
        let metrics = metrics.into_iter().filter(|(_, value)| value.is_finite()).collect();
        self.status = RunStatus::Finished { metrics };
        self.write(folder)
    }

    /// Records the error that ended a run. One that the user stopped stays unfinished.
    pub fn fail(mut self, folder: &Path, error: &Error) -> Result<()> {
        if error.kind == Kind::Stopped {
            return Ok(());
        }
        self.status = RunStatus::Failed { error: error.message.clone() };
        self.write(folder)
    }

    fn write(&self, folder: &Path) -> Result<()> {
        files::write_json(&folder.join(RUN), self)
    }

    /// Reads the record of a run. Without `run.json` the metrics are the last ones of the log, and the settings null.
    ///
    /// # Errors
    /// A file that cannot be read or is no record.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(RUN);
        if !path.is_file() {
            return Ok(Self::new(Value::Null, from_log(&read_metrics(&folder.join(METRICS))?)));
        }
        serde_json::from_value(files::read_json(&path)?).map_err(|error| {
            Error::new(Kind::File, format!("`{}` is not a run's record: {error}", path.display()))
                .with_hint("the file was changed by hand, or written by another version of lorhai")
        })
    }
}

fn final_metrics(outcome: &TrainOutcome) -> BTreeMap<String, f64> {
    let named = [
        ("steps", Some(outcome.steps as f64)),
        ("train_loss", Some(outcome.train_loss)),
        ("eval_loss", outcome.eval_loss),
        ("eval_perplexity", outcome.eval_perplexity()),
        ("tokens", Some(outcome.tokens as f64)),
        ("seconds", Some(outcome.seconds)),
        (PEAK_MEMORY, outcome.peak_memory.map(|bytes| bytes as f64)),
    ];
    let present = named.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
    present.chain(outcome.metrics.clone()).collect()
}

/// A log does not show whether the run ended: its last metrics are taken as final.
fn from_log(rows: &[MetricsRow]) -> RunStatus {
    let last = |name: &str| rows.iter().rev().find_map(|row| row.get(name)).filter(|value| value.is_finite());
    let named = [("train_loss", last("loss")), ("eval_loss", last("eval_loss"))];
    if rows.is_empty() {
        return RunStatus::Unfinished;
    }
    let metrics = named.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?))).collect();
    RunStatus::Finished { metrics }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outcome() -> TrainOutcome {
        TrainOutcome {
            steps: 4,
            train_loss: 1.5,
            eval_loss: Some(f64::INFINITY),
            best_step: None,
            tokens: 100,
            seconds: 2.0,
            stopped_early: false,
            is_paused: false,
            overfitting: None,
            peak_memory: Some(1 << 30),
            metrics: BTreeMap::from([("eval_accuracy".into(), 0.5)]),
            has_perplexity: true,
        }
    }

    #[test]
    fn a_run_is_unfinished_until_its_end_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let record = RunRecord::begin(folder.path(), RunKind::Train, json!({"train": {"lr": 0.5}})).unwrap();
        assert_eq!(RunRecord::read(folder.path()).unwrap(), record);
        record.clone().conclude(folder.path(), &Err(Error::stopped())).unwrap();
        assert_eq!(RunRecord::read(folder.path()).unwrap().status, RunStatus::Unfinished);
        record.clone().conclude(folder.path(), &Err(Error::data("no rows"))).unwrap();
        assert_eq!(RunRecord::read(folder.path()).unwrap().status, RunStatus::Failed { error: "no rows".into() });
        record.conclude(folder.path(), &Ok(outcome())).unwrap();
        let RunStatus::Finished { metrics } = RunRecord::read(folder.path()).unwrap().status else { panic!() };
        assert_eq!((metrics["steps"], metrics["train_loss"], metrics.get("eval_loss")), (4.0, 1.5, None));
        assert_eq!(metrics["eval_accuracy"], 0.5);
    }

    #[test]
    fn what_is_no_record_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["{", "[]", r#"{"settings": {}, "status": "great"}"#] {
            std::fs::write(folder.path().join(RUN), text).unwrap();
            assert!(RunRecord::read(folder.path()).unwrap_err().message.contains("run.json"), "{text}");
        }
    }
}
