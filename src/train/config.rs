//! The settings of a training run. Names and defaults are those of transformers and TRL;
//! the learning rate is the usual one for adapters.

use super::adamw::AdamWConfig;
use super::eval_interval::EvalInterval;
use super::optim::Optim;
use super::schedule::{Schedule, Shape};
use crate::bail;
use crate::error::{Kind, Result};
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainConfig {
    /// Optimizer steps; 0 means: by `epochs`.
    pub steps: u64,
    pub epochs: f64,
    /// Rows per micro-batch.
    pub batch: usize,
    /// Micro-batches per optimizer step.
    pub accumulation: usize,
    pub optimizer: AdamWConfig,
    pub schedule: Shape,
    /// A share of the steps below 1, or a number of steps.
    pub warmup: f64,
    /// Largest norm of the gradient; 0 turns clipping off.
    pub max_grad_norm: f64,
    pub seed: u64,
    /// Steps between log rows.
    pub log_every: u64,
    pub eval_every: EvalInterval,
    /// Rows per evaluation batch.
    pub eval_batch: usize,
    /// Stop after so many evaluations without improvement; 0 means never.
    pub early_stopping: u64,
    /// Keep the adapter of the best evaluation instead of the last.
    pub keep_best: bool,
    /// Compute activations a second time in the backward pass instead of holding them: about
    /// a third more work for a fraction of the memory.
    pub gradient_checkpointing: bool,
    /// Rows of like length go together. Absent from the settings where it is off, so that sweeps
    /// from before it was there stay finished.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub group_by_length: bool,
    /// What AdamW was called. It changes nothing, and so is no setting of a trial.
    #[serde(skip)]
    pub optim: Optim,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            steps: 0,
            epochs: 3.0,
            batch: 8,
            accumulation: 1,
            optimizer: AdamWConfig::default(),
            schedule: Shape::Linear,
            warmup: 0.0,
            max_grad_norm: 1.0,
            seed: 42,
            log_every: 10,
            eval_every: EvalInterval::Steps(0),
            eval_batch: 8,
            early_stopping: 0,
            keep_best: false,
            gradient_checkpointing: false,
            group_by_length: false,
            optim: Optim::default(),
        }
    }
}

impl TrainConfig {
    pub fn check(&self) -> Result<()> {
        self.optimizer.check()?;
        for (name, value) in
            [("batch", self.batch), ("accumulation", self.accumulation), ("eval_batch", self.eval_batch)]
        {
            if value == 0 {
                bail!(Kind::Input, "`{name}`: expected at least 1, found 0");
            }
        }
        if self.log_every == 0 {
            bail!(Kind::Input, "`log_every`: expected at least 1, found 0");
        }
        if self.steps == 0 && !(self.epochs.is_finite() && self.epochs > 0.0) {
            bail!(Kind::Input, "`epochs`: expected a number above 0, found {}", self.epochs);
        }
        if !self.max_grad_norm.is_finite() || self.max_grad_norm < 0.0 {
            bail!(Kind::Input, "`max_grad_norm`: expected a number of at least 0, found {}", self.max_grad_norm);
        }
        if (self.early_stopping > 0 || self.keep_best) && !self.eval_every.is_on_the_way() {
            bail!(Kind::Input, "`early_stopping` and `keep_best` need `eval_every`"; hint: "set eval_every to a number of steps, or eval_strategy: \"epoch\"");
        }
        Ok(())
    }

    /// Micro-batches in one epoch of `rows` rows; the last may be smaller.
    pub fn micro_batches(&self, rows: usize) -> usize {
        rows.div_ceil(self.batch)
    }

    /// Optimizer steps in one epoch, counted as transformers counts them.
    pub fn steps_per_epoch(&self, rows: usize) -> u64 {
        self.micro_batches(rows).div_ceil(self.accumulation).max(1) as u64
    }

    /// Optimizer steps of the whole run.
    pub fn total_steps(&self, rows: usize) -> u64 {
        match self.steps {
            0 => (self.epochs * self.steps_per_epoch(rows) as f64).ceil() as u64,
            steps => steps,
        }
    }

    pub fn schedule(&self, rows: usize) -> Result<Schedule> {
        Schedule::new(self.schedule, self.total_steps(rows), self.warmup)
    }
}
