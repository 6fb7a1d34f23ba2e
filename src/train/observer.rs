//! What a run tells while it runs; progress bars and logs listen.

use super::flat_loss::FlatLoss;
use super::overfitting::Overfitting;
use super::recorder::LogState;
use serde::{Deserialize, Serialize};

/// State after one optimizer step.
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
    /// Before clipping.
    pub grad_norm: f64,
    /// Tokens of the step, without padding.
    pub tokens: usize,
    /// Since the start of training, evaluation left out.
    pub seconds: f64,
    pub tokens_per_s: f64,
    /// For how many steps the gradient has been exactly 0: told once, see [`stalled`].
    ///
    /// [`stalled`]: super::stalled
    pub stalled_for: Option<u64>,
    /// Told once, at the step at which it is first certain that the loss has not fallen.
    pub flat_loss: Option<FlatLoss>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvalReport {
    pub step: u64,
    pub epoch: f64,
    pub loss: f64,
    pub is_best: bool,
    /// Told once, at the evaluation at which it is first noticed.
    pub overfitting: Option<Overfitting>,
}

/// Listens to a run. Returning an error ends the run with that error.
pub trait Observer {
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

/// Listens to nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {}

/// Several listeners, told in order.
pub struct Several<'a>(pub Vec<&'a mut dyn Observer>);

impl Observer for Several<'_> {
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
