//! The settings of a training run. Names and defaults are those of transformers and TRL, except for the learning
//! rate, which is the usual one for adapters.

use super::adamw::AdamWConfig;
use super::eval_interval::EvalInterval;
use super::grouping::Grouping;
use super::objective::ObjectiveOptions;
use super::optim::Optim;
use super::schedule::{Schedule, SchedulerType};
use crate::error::Result;
use crate::options;
use crate::options::{OptionType, Refusal};
use serde::Serialize;

options! {
    #[derive(Debug, Clone, PartialEq, Serialize)]
    pub struct TrainConfig {
        /// Optimizer steps; 0 trains for `epochs`.
        pub steps: u64 = 0, alias ["max_steps"];
        /// Passes over the rows, where `steps` is 0.
        pub epochs: f64 = 3.0, alias ["num_train_epochs"];
        /// Rows per micro-batch.
        pub batch: usize = 8, alias ["per_device_train_batch_size", "batch_size"], range at_least(1.0);
        /// Micro-batches per optimizer step.
        pub accumulation: usize = 1, alias ["gradient_accumulation_steps"], range at_least(1.0);
        pub optimizer: AdamWConfig = AdamWConfig::default(), is set;
        /// How the learning rate falls.
        pub schedule: SchedulerType = SchedulerType::Linear, alias ["lr_scheduler_type"];
        /// Steps in which the learning rate rises from 0, with any schedule; below 1 a fraction of all steps.
        pub warmup: f64 = 0.0, alias ["warmup_steps", "warmup_ratio"], range at_least(0.0);
        /// The largest norm of the gradient; 0 turns clipping off.
        pub max_grad_norm: f64 = 1.0, alias ["clip"], range at_least(0.0);
        /// Train on the rows in a new random order each epoch; `false` keeps the order of the data.
        #[serde(skip_serializing_if = "is_true")]
        pub shuffle: bool = true;
        /// The seed of the order of rows, of dropout, and of the adapters of a sweep.
        pub seed: u64 = 42;
        /// Steps between log rows.
        pub log_every: u64 = 10, alias ["logging_steps"], range at_least(1.0);
        pub eval_every: EvalInterval = EvalInterval::Steps(0), is set;
        /// Rows per evaluation batch.
        pub eval_batch: usize = 8, alias ["per_device_eval_batch_size"], range at_least(1.0);
        /// Stop after this many evaluations without improvement; 0 means never.
        pub early_stopping: u64 = 0, alias ["early_stopping_patience"];
        /// Keep the adapter of the best evaluation instead of the last.
        pub keep_best: bool = false, alias ["load_best_model_at_end"];
        /// Recompute activations in the backward pass instead of keeping them: slower, the same numbers, far less
        /// memory.
        pub gradient_checkpointing: bool = false, words "false (TRL true)";
        #[serde(flatten)]
        pub grouping: Grouping = Grouping::default(), is set;
        #[serde(flatten)]
        pub objective: ObjectiveOptions = ObjectiveOptions::default(), is set;
        /// A name of AdamW. Names of quantised or paged states, such as "paged_adamw_8bit", change nothing.
        // No part of a trial's settings, because it changes no number.
        #[serde(skip)]
        pub optim: Optim = Optim::default();
    }
    resolve TrainConfig::resolve_interval;
    rule TrainConfig::rule;
}

/// The default is left out of a trial's settings, so that trials made before the option existed stay finished.
fn is_true(value: &bool) -> bool {
    *value
}

impl TrainConfig {
    fn resolve_interval(&mut self) {
        if self.eval_every == EvalInterval::AtEveryLog {
            self.eval_every = EvalInterval::Steps(self.log_every);
        }
    }

    fn rule(&self) -> Option<Refusal> {
        if self.steps == 0 && !(self.epochs.is_finite() && self.epochs > 0.0) {
            return Some(Refusal::new("epochs", "float above 0", self.epochs.to_value().describe()));
        }
        if self.grouping.group_by_length && !self.shuffle {
            let refusal = Refusal::new("shuffle", "true with `group_by_length`", "false");
            return Some(
                refusal.with_hint("rows grouped by length are in no order of the data: leave one of them out"),
            );
        }
        let samples = self.objective.samples_per_row();
        if !(self.batch * self.accumulation).is_multiple_of(samples) {
            let expected = format!("`batch` × `accumulation` a multiple of num_generations, {samples}");
            return Some(Refusal::new("batch", expected, (self.batch * self.accumulation).to_string()));
        }
        let needs_evaluation = [("early_stopping", self.early_stopping > 0), ("keep_best", self.keep_best)];
        let (name, _) = needs_evaluation.into_iter().find(|(_, is_set)| *is_set)?;
        let hint = "set eval_every to a number of steps, or eval_strategy: \"epoch\"";
        let refusal = Refusal::new(name, "`eval_every` with it", "no evaluation on the way").with_hint(hint);
        (!self.eval_every.is_on_the_way()).then_some(refusal)
    }

    /// Micro-batches in one epoch of `rows` rows; the last may have fewer rows.
    pub fn micro_batches(&self, rows: usize) -> usize {
        rows.div_ceil(self.batch)
    }

    /// The rows of a micro-batch and the micro-batches of a step, as rows are drawn: where samples of the rows are trained
    /// on, all rows of a step are drawn at once.
    pub fn rows_drawn(&self) -> (usize, usize) {
        match self.objective.samples_per_row() {
            1 => (self.batch, self.accumulation),
            samples => ((self.batch * self.accumulation / samples).max(1), 1),
        }
    }

    /// Optimizer steps in one epoch, counted as transformers counts them.
    pub fn steps_per_epoch(&self, rows: usize) -> u64 {
        let (batch, accumulation) = self.rows_drawn();
        rows.div_ceil(batch).div_ceil(accumulation).max(1) as u64 * self.objective.steps_per_rollout()
    }

    /// Optimizer steps of the run.
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
