//! The trait [`TrainObserver`]: progress bars and logs follow a run by it.

use super::callbacks::Metrics;
use super::flat_loss::FlatLoss;
use super::mean_metrics::MeanMetrics;
use super::overfitting::Overfitting;
use super::recorder::LogState;
use serde::{Deserialize, Serialize};

/// The state after one optimizer step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Counted from 1.
    pub step: u64,
    pub total_steps: u64,
    /// Epochs of the data consumed so far.
    pub epoch: f64,
    /// Mean loss per label over this step.
    pub loss: f64,
    pub learning_rate: f64,
    /// The norm before clipping.
    pub grad_norm: f64,
    /// Tokens of the step, without padding.
    pub tokens: usize,
    /// Tokens of all steps so far; not known of a run that an earlier version saved.
    #[serde(default)]
    pub tokens_seen: Option<u64>,
    /// Seconds of training so far, without evaluations.
    pub seconds: f64,
    pub tokens_per_s: f64,
    /// For how many steps the gradient has been exactly 0: reported once, see [`stalled`].
    ///
    /// [`stalled`]: super::stalled
    pub stalled_for: Option<u64>,
    /// Reported once, at the first step at which it is certain that the loss has not fallen.
    pub flat_loss: Option<FlatLoss>,
    /// Further numbers, such as rewards: means of the step's micro-batches.
    #[serde(default)]
    pub metrics: MeanMetrics,
}

#[derive(Debug, Clone, PartialEq)]
pub struct EvalReport {
    pub step: u64,
    pub epoch: f64,
    pub loss: f64,
    /// e to the loss, where that is a cross-entropy.
    pub perplexity: Option<f64>,
    /// Further metrics by name, such as `eval_accuracy`.
    pub metrics: Metrics,
    pub is_best: bool,
    /// Reported once, at the first evaluation that shows it.
    pub overfitting: Option<Overfitting>,
}

/// Follows a run. An error that it returns ends the run.
pub trait TrainObserver {
    fn on_step(&mut self, report: &StepReport) -> crate::Result<()> {
        let _ = report;
        Ok(())
    }
    fn on_eval(&mut self, report: &EvalReport) -> crate::Result<()> {
        let _ = report;
        Ok(())
    }
    /// A line for the user, such as that the run was saved.
    fn on_note(&mut self, text: &str) {
        let _ = text;
    }
    /// How far the log of the run has come, if this observer writes one.
    fn log_state(&mut self) -> crate::Result<Option<LogState>> {
        Ok(None)
    }
}

/// Ignores every report.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl TrainObserver for Silent {}

/// Several observers, called in order.
pub struct Several<'a>(pub Vec<&'a mut dyn TrainObserver>);

impl TrainObserver for Several<'_> {
    fn on_step(&mut self, report: &StepReport) -> crate::Result<()> {
        self.0.iter_mut().try_for_each(|observer| observer.on_step(report))
    }
    fn on_eval(&mut self, report: &EvalReport) -> crate::Result<()> {
        self.0.iter_mut().try_for_each(|observer| observer.on_eval(report))
    }
    fn on_note(&mut self, text: &str) {
        self.0.iter_mut().for_each(|observer| observer.on_note(text));
    }
    fn log_state(&mut self) -> crate::Result<Option<LogState>> {
        for observer in &mut self.0 {
            if let Some(state) = observer.log_state()? {
                return Ok(Some(state));
            }
        }
        Ok(None)
    }
}
