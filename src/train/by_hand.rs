//! The steps of a training loop that callers write themselves, after the forward pass (`forward.rs`): going backward, the
//! optimizer's step.

use super::adamw::{AdamW, AdamWConfig};
use super::checkpoint::loop_state::LoopPart;
use super::clip;
use crate::bail;
use crate::data::batch::{Batch, LabelledDocument, IGNORE};
use crate::error::{Error, Kind, Result};
use crate::lora::{AdaptedModel, Model};
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use tch::Tensor;

/// How often [`backward`] was called.
static BACKWARDS: AtomicU64 = AtomicU64::new(0);
/// Computes the gradients of everything that this number depends on.
///
/// # Errors
/// A tensor of several numbers, one without gradients, or one that went backward already.
pub fn backward(x: &Tensor) -> Result<()> {
    if x.numel() != 1 {
        bail!(Kind::Input, "backward: expected a tensor of one number, found shape {:?}", x.size(); hint: "take the mean() or sum() first");
    }
    if !x.requires_grad() {
        bail!(Kind::Input, "backward: this number does not depend on any trainable parameter"; hint: "add an adapter with add_lora, and run forward(batch) in training");
    }
    went_backward(x.f_backward())?;
    BACKWARDS.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Says what is wrong where the graph was used before.
pub(super) fn went_backward(result: std::result::Result<(), tch::TchError>) -> Result<()> {
    let Err(error) = result else { return Ok(()) };
    let error = Error::from(error);
    if !error.message.contains("second time") {
        return Err(error);
    }
    Err(Error::input("backward: this number went backward already")
        .with_hint("run forward(batch) again, or add the losses before going backward once"))
}

/// The trained parameters by name. They are the model's: changes in place are seen by its next forward pass.
pub fn parameters(model: &AdaptedModel) -> Result<Vec<(String, Tensor)>> {
    let parameters = model.trainable()?;
    let leaves = parameters.leaves().iter().map(Tensor::shallow_clone);
    Ok(parameters.names().iter().cloned().zip(leaves).collect())
}

/// A list of numbers of a batch as a tensor `[rows, seq_len]`, on the CPU.
pub fn cells(batch: &Batch, numbers: &[i64]) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(numbers)?.f_reshape([batch.rows as i64, batch.seq_len as i64])?)
}

/// How much each label of a batch counts, f32 `[rows, seq_len]`, on the CPU.
pub fn weights(batch: &Batch) -> Result<Tensor> {
    let weights = batch.weights.clone().unwrap_or_else(|| vec![1.0; batch.cells()]);
    Ok(Tensor::f_from_slice(&weights)?.f_reshape([batch.rows as i64, batch.seq_len as i64])?)
}

/// A batch of rows `{ input_ids, labels, weights }`, of which the last two may be missing.
///
/// # Errors
/// No row or an empty one, ids that the model has not, lists of different lengths, weights that are negative or not
/// finite.
pub fn batch_of_rows(rows: &[Value], model: &Model) -> Result<Batch> {
    if rows.is_empty() {
        bail!(Kind::Input, "batch: expected at least one row, found none");
    }
    let vocabulary = model.decoder().config.vocab_size;
    let document = |(number, row): (usize, &Value)| {
        labelled_document(row, vocabulary).map_err(|error| error.context(format!("batch: row {number}")))
    };
    let documents = rows.iter().enumerate().map(document).collect::<Result<Vec<_>>>()?;
    Ok(Batch::of_documents(&documents, 0))
}

fn labelled_document(row: &Value, vocabulary: i64) -> Result<LabelledDocument> {
    let list = |name: &str| match row.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list)),
        Some(other) => bail!(Kind::Input, "`{name}`: expected an array of numbers, found {other}"),
    };
    let tokens = |name: &str| {
        let token = |value: &Value| {
            let token = value
                .as_i64()
                .filter(|token| (0..vocabulary).contains(token) || (name == "labels" && *token == IGNORE));
            token.ok_or_else(|| {
                let below = vocabulary - 1;
                let or = if name == "labels" { ", or -100" } else { "" };
                Error::input(format!("`{name}`: expected tokens from 0 to {below}{or}, found {value}"))
            })
        };
        list(name)?.map(|list| list.iter().map(token).collect::<Result<Vec<i64>>>()).transpose()
    };
    let weight = |value: &Value| {
        let weight = value.as_f64().filter(|weight| weight.is_finite() && *weight >= 0.0);
        let weight = weight.map(|weight| weight as f32);
        weight.ok_or_else(|| Error::input(format!("`weights`: expected numbers of at least 0, found {value}")))
    };
    let Some(input_ids) = tokens("input_ids")?.filter(|ids| !ids.is_empty()) else {
        bail!(Kind::Input, "expected a map with `input_ids`, an array of at least one token, found {row}");
    };
    let labels = tokens("labels")?.unwrap_or_else(|| input_ids.clone());
    let weights = list("weights")?.map(|list| list.iter().map(weight).collect::<Result<Vec<f32>>>()).transpose()?;
    for (name, length) in [("labels", Some(labels.len())), ("weights", weights.as_ref().map(Vec::len))] {
        if let Some(length) = length.filter(|length| *length != input_ids.len()) {
            bail!(Kind::Input, "expected as many `{name}` as `input_ids`, found {length} and {}", input_ids.len());
        }
    }
    Ok(LabelledDocument { input_ids, labels, weights })
}

/// AdamW over what one model trains.
pub struct Optimizer {
    adamw: AdamW,
    lr: f64,
    /// The adapter whose parameters it updates; `None` for all weights.
    adapter: Option<String>,
    /// [`BACKWARDS`] when the gradients were last used or set to zero.
    backwards: u64,
}

impl Optimizer {
    pub fn new(config: AdamWConfig, model: &AdaptedModel) -> Result<Self> {
        let lr = config.lr;
        let adamw = AdamW::new(config, model.trainable()?)?;
        let adapter = model.active_name().map(str::to_owned);
        Ok(Optimizer { adamw, lr, adapter, backwards: BACKWARDS.load(Ordering::Relaxed) })
    }

    /// The learning rate of the next step.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    pub fn set_lr(&mut self, lr: f64) -> Result<()> {
        if !lr.is_finite() || lr < 0.0 {
            bail!(Kind::Input, "lr: expected a number of at least 0, found {lr}");
        }
        self.lr = lr;
        Ok(())
    }

    /// Updates the parameters from their gradients.
    ///
    /// # Errors
    /// Another adapter than the optimizer's, or gradients that are not finite or that were never computed.
    pub fn step(&mut self, model: &AdaptedModel) -> Result<()> {
        self.ensure_same_adapter(model)?;
        let parameters = model.trainable()?;
        let norm = parameters.gradient_norm()?;
        if !norm.is_finite() {
            bail!(Kind::Numeric, "the gradient is not finite; the weights are as they were"; hint: "lower the learning rate, or clip the gradient");
        }
        // A gradient of 0 may be right, but not if backward() was never called.
        if norm == 0.0 && self.backwards == BACKWARDS.load(Ordering::Relaxed) {
            bail!(Kind::Input, "no trainable parameter has a gradient"; hint: "call loss.backward() first, on a loss of a forward pass in training");
        }
        self.adamw.step(parameters, self.lr, 1.0)?;
        self.backwards = BACKWARDS.load(Ordering::Relaxed);
        Ok(())
    }

    /// Sets the gradients to zero.
    pub fn zero_grad(&mut self, model: &mut AdaptedModel) -> Result<()> {
        self.backwards = BACKWARDS.load(Ordering::Relaxed);
        model.trainable_mut()?.zero_gradients()
    }

    /// The settings that it was made with.
    pub fn config(&self) -> &AdamWConfig {
        &self.adamw.config
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.adamw.steps()
    }

    /// The state of this optimizer and of the values that it trains, in views of them.
    ///
    /// # Errors
    /// A model that has no longer the adapter of the optimizer.
    pub fn state(&self, model: &Model) -> Result<LoopPart> {
        let parameters = model.adapted.parameters_of(self.adapter.as_deref())?;
        LoopPart::of(parameters, model.forwards, Some((&self.adamw, self.lr)))
    }

    /// Overwrites the values that it trains, its own state, and the count of forward passes.
    ///
    /// # Errors
    /// The state of other parameters, or of no optimizer.
    pub fn restore(&mut self, model: &mut Model, state: &LoopPart) -> Result<()> {
        let parameters = model.adapted.parameters_of_mut(self.adapter.as_deref())?;
        state.restore(parameters, Some(&mut self.adamw))?;
        model.forwards = state.numbers.forwards;
        self.lr = state.numbers.optimizer.as_ref().map_or(self.lr, |numbers| numbers.lr);
        self.backwards = BACKWARDS.load(Ordering::Relaxed);
        Ok(())
    }

    /// The moments of one adapter do not fit another.
    fn ensure_same_adapter(&self, model: &AdaptedModel) -> Result<()> {
        let (optimized, active) = (self.adapter.as_deref(), model.active_name());
        if optimized == active {
            return Ok(());
        }
        let name =
            |adapter: Option<&str>| adapter.map_or("all weights".to_owned(), |name| format!("the adapter `{name}`"));
        let (optimized, active) = (name(optimized), name(active));
        bail!(Kind::Input, "this optimizer is for {optimized}, and {active} would be trained now"; hint: "call model.set_adapter(name) before the forward pass, or make an optimizer for each")
    }
}

/// The state of what `model` trains, without an optimizer.
pub fn model_state(model: &Model) -> Result<LoopPart> {
    LoopPart::of(model.adapted.trainable()?, model.forwards, None)
}

/// Overwrites what `model` trains, and the count of forward passes.
///
/// # Errors
/// The state of other parameters.
pub fn restore_model(model: &mut Model, state: &LoopPart) -> Result<()> {
    state.restore(model.adapted.trainable_mut()?, None)?;
    model.forwards = state.numbers.forwards;
    Ok(())
}

/// Scales the gradients down so that their norm is at most `max_norm`; returns the norm before.
pub fn clip_grad_norm(model: &mut AdaptedModel, max_norm: f64) -> Result<f64> {
    if !max_norm.is_finite() || max_norm <= 0.0 {
        bail!(Kind::Input, "clip_grad_norm: expected a norm above 0, found {max_norm}");
    }
    let parameters = model.trainable_mut()?;
    let norm = parameters.gradient_norm()?;
    let factor = clip::factor(norm, max_norm);
    if factor < 1.0 {
        parameters.scale_gradients(factor)?;
    }
    Ok(norm)
}
