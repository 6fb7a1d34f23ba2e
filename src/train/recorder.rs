//! Writes the reports of a run into its folder: `metrics.jsonl` and a TensorBoard event file.

use super::folder::METRICS;
use super::log_file::LogPosition;
use super::mean_metrics::MeanMetrics;
use super::metrics::{MetricsLog, MetricsRow};
use super::observer::{EvalReport, StepReport, TrainObserver};
use super::overfitting::OVERFITS_AFTER;
use super::tensorboard::{EventWriter, HParam};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// The tokens trained on until a row, as transformers calls them.
pub const TOKENS_SEEN: &str = "num_input_tokens_seen";

/// How far the files of a run have come: a resumed run goes on behind these bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogState {
    #[serde(rename = "metrics")]
    log: LogPosition,
    /// The name of the event file.
    events: String,
    events_end: LogPosition,
    /// As in [`Recorder`].
    since: (f64, u64),
    #[serde(default, rename = "step_metrics")]
    metrics: MeanMetrics,
    last: Option<StepReport>,
}

pub struct Recorder {
    log: MetricsLog,
    events: EventWriter,
    /// Steps between rows.
    every: u64,
    /// The sum of the losses since the last row, and their number.
    since: (f64, u64),
    /// Those of the steps since the last row.
    step_metrics: MeanMetrics,
    /// The last step since the last row.
    last: Option<StepReport>,
}

impl Recorder {
    /// Creates the files in `folder`. TensorBoard shows `settings` as hyperparameters.
    pub fn create(folder: &Path, every: u64, settings: &Value) -> Result<Self> {
        let log = MetricsLog::create(&folder.join(METRICS))?;
        let mut events = EventWriter::create(folder)?;
        events.hparams(&hyperparameters("", settings))?;
        Ok(Recorder {
            log,
            events,
            every: every.max(1),
            since: (0.0, 0),
            step_metrics: MeanMetrics::default(),
            last: None,
        })
    }

    /// Goes on with the files of a run in `folder` where they were at `state`; what was written after it is dropped.
    ///
    /// # Errors
    /// A file that is absent or shorter than it was then.
    pub fn resume(folder: &Path, every: u64, state: LogState) -> Result<Self> {
        let LogState { log, events, events_end, since, metrics: step_metrics, last } = state;
        let log = MetricsLog::resume(&folder.join(METRICS), log)?;
        let events = EventWriter::resume(folder, &events, events_end)?;
        Ok(Recorder { log, events, every: every.max(1), since, step_metrics, last })
    }

    /// Waits until everything so far is on the disk.
    pub fn state(&mut self) -> Result<LogState> {
        Ok(LogState {
            log: self.log.sync()?,
            events: self.events.name(),
            events_end: self.events.sync()?,
            since: self.since,
            metrics: self.step_metrics.clone(),
            last: self.last.clone(),
        })
    }

    /// Writes a last row where steps are left, as after a run that ends early, and waits until everything is on the
    /// disk.
    pub fn finish(mut self) -> Result<()> {
        self.write_steps()?;
        self.log.finish()?;
        self.events.finish()
    }

    /// Writes a row of means over the steps since the last one, if there are any.
    fn write_steps(&mut self) -> Result<()> {
        let Some(report) = self.last.take() else { return Ok(()) };
        let (sum, steps) = std::mem::take(&mut self.since);
        let metrics = std::mem::take(&mut self.step_metrics);
        let means = metrics.means().map(|(name, mean)| (name.to_owned(), mean));
        let seen = report.tokens_seen.map(|tokens| (TOKENS_SEEN.to_owned(), tokens as f64));
        self.write(&MetricsRow {
            step: report.step,
            epoch: Some(report.epoch),
            loss: Some(sum / steps as f64),
            learning_rate: Some(report.learning_rate),
            grad_norm: Some(report.grad_norm),
            tokens_per_s: Some(report.tokens_per_s),
            extra: seen.into_iter().chain(means).collect(),
            ..MetricsRow::default()
        })
    }

    /// Writes one row.
    pub fn write(&mut self, row: &MetricsRow) -> Result<()> {
        self.log.append(row)?;
        self.events.row(row)
    }
}

impl TrainObserver for Recorder {
    fn on_step(&mut self, report: &StepReport) -> Result<()> {
        self.since.0 += report.loss;
        self.since.1 += 1;
        self.step_metrics.extend(&report.metrics);
        self.last = Some(report.clone());
        if report.step.is_multiple_of(self.every) || report.step == report.total_steps {
            self.write_steps()?;
        }
        Ok(())
    }

    fn on_eval(&mut self, report: &EvalReport) -> Result<()> {
        let best_step = report.overfitting.map(|overfitting| overfitting.best_step as f64);
        let overfits_after = best_step.map(|step| (OVERFITS_AFTER.to_owned(), step));
        self.write(&MetricsRow {
            step: report.step,
            epoch: Some(report.epoch),
            eval_loss: Some(report.loss),
            extra: report.metrics.clone().into_iter().chain(overfits_after).collect(),
            ..MetricsRow::default()
        })
    }

    fn log_state(&mut self) -> Result<Option<LogState>> {
        self.state().map(Some)
    }
}

/// The name of a metric on held-out rows, as in transformers.
pub fn eval_name(name: &str) -> String {
    format!("eval_{name}")
}

/// Returns the leaves of nested settings, named by their paths.
fn hyperparameters(prefix: &str, settings: &Value) -> Vec<(String, HParam)> {
    let Value::Object(map) = settings else { return Vec::new() };
    let mut leaves = Vec::new();
    for (key, value) in map {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Number(number) => leaves.push((name, HParam::Number(number.as_f64().unwrap_or(f64::NAN)))),
            Value::Bool(flag) => leaves.push((name, HParam::Flag(*flag))),
            Value::String(text) => leaves.push((name, HParam::Text(text.clone()))),
            Value::Object(_) => leaves.extend(hyperparameters(&name, value)),
            Value::Array(_) => leaves.push((name, HParam::Text(value.to_string()))),
            Value::Null => {}
        }
    }
    leaves
}
