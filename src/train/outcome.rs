//! How a run ended: its losses, tokens and time.

use super::callbacks::Metrics;
use super::overfitting::{Overfitting, OVERFITS_AFTER};
use crate::data::{number, Row};
use serde_json::Value;

/// The peak memory of a run in bytes: its name in records and results.
pub const PEAK_MEMORY: &str = "peak_memory";

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOutcome {
    /// Optimizer steps taken.
    pub steps: u64,
    /// Mean over all steps, as transformers reports it.
    pub train_loss: f64,
    /// The held-out loss of the parameters that the run ends with.
    pub eval_loss: Option<f64>,
    pub best_step: Option<u64>,
    /// Tokens trained on, without padding.
    pub tokens: u64,
    /// Seconds of training, without evaluations. The time of joint steps is divided among the runs by their tokens, so
    /// that runs side by side have the speed of all of them together.
    pub seconds: f64,
    pub stopped_early: bool,
    /// Did the run pause before its end, to go on later?
    pub is_paused: bool,
    /// Set if held-out loss rose while training loss fell.
    pub overfitting: Option<Overfitting>,
    /// Peak memory in bytes while the run trained and was evaluated: see [`PeakWatch`]. Runs side by side have one
    /// peak.
    pub peak_memory: Option<u64>,
    /// Further means that were logged last, and under names with `eval_` those of the evaluation that `eval_loss` is of.
    pub metrics: Metrics,
    /// Is `eval_loss` a cross-entropy? That of preferences is none.
    pub has_perplexity: bool,
}

impl TrainOutcome {
    pub fn eval_perplexity(&self) -> Option<f64> {
        self.eval_loss.filter(|_| self.has_perplexity).map(f64::exp)
    }

    /// As an object; numbers that are not finite are those of [`number`].
    pub fn fields(&self) -> Row {
        let or_null = |number: Option<f64>| number.map_or(Value::Null, number::value);
        let fields = [
            ("steps", self.steps.into()),
            ("train_loss", number::value(self.train_loss)),
            ("eval_loss", or_null(self.eval_loss)),
            ("eval_perplexity", or_null(self.eval_perplexity())),
            ("tokens", self.tokens.into()),
            ("seconds", number::value(self.seconds)),
            ("tokens_per_s", number::value(self.tokens as f64 / self.seconds.max(1e-9))),
            ("stopped_early", self.stopped_early.into()),
            (OVERFITS_AFTER, self.overfitting.map(|overfitting| overfitting.best_step).into()),
            (PEAK_MEMORY, self.peak_memory.into()),
        ];
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
        fields.chain(self.metrics.iter().map(|(name, value)| (name.clone(), number::value(*value)))).collect()
    }
}
