//! One optimizer step: forward and backward over a window of micro-batches, clip, update.

use super::adamw::AdamW;
use super::clip;
use super::step::{batch_loss, predicted_labels};
use crate::data::batch::Batch;
use crate::error::{Error, Kind, Result};
use crate::interrupt;
use crate::lora::trainable::{dropout_key, Trainable};
use crate::model::Decoder;

/// What one step needs to know besides model and data.
#[derive(Debug, Clone, Copy)]
pub struct StepSettings {
    /// Counted from 0; keys the dropout.
    pub step: u64,
    pub seed: u64,
    pub lr: f64,
    /// 0 turns clipping off.
    pub max_grad_norm: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepResult {
    /// Mean loss per label over the whole window.
    pub loss: f64,
    /// Before clipping.
    pub grad_norm: f64,
    pub labels: usize,
}

/// Trains on `window`, whose loss is the sum over all its labels divided by their number:
/// a mean of the micro-batches' means would weigh short batches too heavily.
pub fn update(
    decoder: &Decoder,
    trainable: &mut dyn Trainable,
    optimizer: &mut AdamW,
    window: &[Batch],
    settings: StepSettings,
) -> Result<StepResult> {
    let labels: usize = window.iter().map(predicted_labels).sum();
    if labels == 0 {
        return Err(Error::data(format!("step {}: no row of the batch has a label to learn", settings.step + 1))
            .with_hint("look at the rows with `data.show(0)`; a larger max_length may keep the answers"));
    }
    trainable.parameters_mut().zero_gradients()?;
    let mut loss = 0.0;
    for (micro_batch, batch) in window.iter().enumerate() {
        interrupt::check()?;
        if predicted_labels(batch) == 0 {
            continue;
        }
        let adapters = trainable.adapters(Some(dropout_key(settings.seed, settings.step, micro_batch)));
        let found = batch_loss(decoder, batch, adapters.as_ref())?;
        let share = found.sum.f_div_scalar(labels as f64)?;
        share.f_backward()?;
        loss += found.sum.f_double_value(&[])? / labels as f64;
    }
    let grad_norm = apply(trainable, optimizer, settings, loss)?;
    Ok(StepResult { loss, grad_norm, labels })
}

/// Clips and updates; refuses numbers that are not finite before they reach a weight.
fn apply(trainable: &mut dyn Trainable, optimizer: &mut AdamW, settings: StepSettings, loss: f64) -> Result<f64> {
    let step = settings.step + 1;
    let gradient = trainable.parameters().flat_gradient()?;
    let mut gradient =
        gradient.ok_or_else(|| Error::new(Kind::Input, "the loss does not depend on any trainable parameter"))?;
    let grad_norm = clip::norm(&gradient)?;
    for (name, value) in [("loss", loss), ("gradient norm", grad_norm)] {
        if !value.is_finite() {
            return Err(Error::new(
                Kind::Numeric,
                format!("step {step}: the {name} is {value}; the weights are as they were before this step"),
            )
            .with_hint("lower the learning rate, add warm-up, or look for a broken row in the data"));
        }
    }
    if settings.max_grad_norm > 0.0 {
        let factor = clip::factor(grad_norm, settings.max_grad_norm);
        if factor < 1.0 {
            let _ = gradient.f_mul_scalar_(factor)?;
        }
    }
    optimizer.step(trainable.parameters(), &gradient, settings.lr)?;
    trainable.parameters_mut().zero_gradients()?;
    Ok(grad_norm)
}
