//! Functions of the caller that a run calls: a loss, reports of steps and evaluations, further metrics.
//!
//! They hold the model themselves: a run trains a [shallow clone](crate::lora::Model::shallow_clone) of it.

use super::observer::{EvalReport, StepReport};
use crate::bail;
use crate::data::Batch;
use crate::error::{Kind, Result};
use crate::random::Key;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use tch::Tensor;

/// Further numbers of an evaluation, by name.
pub type Metrics = BTreeMap<String, f64>;
/// Returns the loss of a micro-batch, a tensor of one number with a graph. The key is that of its dropout.
pub type LossFunction<'a> = dyn Fn(&Batch, Key) -> Result<Tensor> + 'a;

/// Follows a run by its reports, and ends it in good order with [`ControlFlow::Break`].
pub type ReportFunction<'a, T> = dyn Fn(&T) -> Result<ControlFlow<()>> + 'a;

/// Makes the micro-batches of a run, instead of its rows.
pub trait Rollout {
    /// The micro-batches of a step, counted from 0, from the rows that are its turn.
    fn window(&self, step: u64, rows: &[u32]) -> Result<Vec<Batch>>;

    /// What later steps need of what was made, for checkpoints; `None` where they need nothing.
    fn state(&self) -> Result<Option<Value>>;

    /// Goes on from such a state.
    fn restore(&self, state: Value) -> Result<()>;
}

/// Functions that a run calls.
#[derive(Clone, Copy, Default)]
pub struct Callbacks<'a> {
    /// In place of the cross-entropy over the labels.
    pub loss: Option<&'a LossFunction<'a>>,
    pub on_step: Option<&'a ReportFunction<'a, StepReport>>,
    pub on_eval: Option<&'a ReportFunction<'a, EvalReport>>,
    /// In place of the rows themselves.
    pub rollout: Option<&'a dyn Rollout>,
    /// Further numbers of the last step.
    pub step_metrics: Option<&'a (dyn Fn() -> Metrics + 'a)>,
    /// Measures the model at every evaluation.
    pub metrics: Option<&'a (dyn Fn() -> Result<Metrics> + 'a)>,
}

/// Goes backward from `scale` times a loss; returns the loss.
///
/// # Errors
/// A tensor of several numbers, or one that depends on nothing that is trained.
pub fn backward(loss: &Tensor, scale: f64) -> Result<f64> {
    if loss.numel() != 1 {
        bail!(Kind::Input, "loss: expected a tensor of one number, found shape {:?}", loss.size(); hint: "take the mean() or sum() of it");
    }
    if !loss.requires_grad() {
        bail!(Kind::Input, "loss: expected a number that depends on what is trained, found one that does not"; hint: "compute it from model.forward(batch), outside of no_grad");
    }
    let scaled = loss.f_mul_scalar(scale)?;
    super::by_hand::went_backward(scaled.f_backward())?;
    Ok(loss.f_detach()?.f_double_value(&[])?)
}
