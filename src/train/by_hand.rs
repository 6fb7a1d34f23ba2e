//! The steps of a training loop that callers write themselves: the forward pass, going backward, the optimizer's step.

use super::adamw::{AdamW, AdamWConfig};
use super::checkpoint::loop_state;
use super::clip;
use crate::bail;
use crate::data::Batch;
use crate::error::{Error, Kind, Result};
use crate::lora::trainable::dropout_key;
use crate::lora::{AdaptedModel, Model};
use crate::model::{loss, Adapters, Decoder, Input};
use serde_json::{json, Value};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use tch::Tensor;

/// How often [`backward`] was called.
static BACKWARDS: AtomicU64 = AtomicU64::new(0);
/// Seeds the dropout of such loops; [`train`](super::train) has its own keys.
const FORWARD_SEED: u64 = 42;

/// What a forward pass returns.
#[derive(Debug)]
pub struct Forward {
    /// `[rows, time, vocabulary]`, 0 at padding.
    pub logits: Tensor,
    /// The mean cross-entropy over the labels.
    pub loss: Tensor,
    /// f32 `[rows, time]`: 1 at tokens, 0 at padding.
    pub mask: Tensor,
}

/// Runs the model on a batch; with `train`, applies dropout and records gradients.
pub fn forward(model: &mut Model, batch: &Batch, train: bool) -> Result<Forward> {
    let key = train.then(|| dropout_key(FORWARD_SEED, model.forwards, 0));
    model.forwards += u64::from(train);
    let adapters = model.adapted.adapter_set(key);
    let run = || logits_and_loss(model.decoder(), batch, &adapters);
    let files = &model.decoder().files;
    let (logits, loss) = files.unless_changed(|| if train { run() } else { tch::no_grad(run) })?;
    Ok(Forward { logits, loss, mask: mask(batch, model.decoder())? })
}

fn mask(batch: &Batch, decoder: &Decoder) -> Result<Tensor> {
    let cells = (0..batch.cells()).map(|cell| f32::from(batch.is_token(cell))).collect::<Vec<f32>>();
    let mask = Tensor::f_from_slice(&cells)?.f_reshape([batch.rows as i64, batch.seq_len as i64])?;
    Ok(mask.f_to_device(decoder.device)?)
}

fn logits_and_loss(decoder: &Decoder, batch: &Batch, adapters: &dyn Adapters) -> Result<(Tensor, Tensor)> {
    let input = Input::from_batches(&[batch], decoder)?;
    let hidden = decoder.hidden(&input, adapters)?;
    let logits = input.padded(&decoder.logits(&hidden, &input.tokens, adapters)?)?;
    let labels = Tensor::f_from_slice(&batch.labels)?.f_reshape([batch.rows as i64, batch.seq_len as i64])?;
    let loss = loss::mean_loss(&logits, &labels.f_to_device(decoder.device)?)?;
    Ok((logits, loss))
}

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
    x.f_backward().map_err(|error| already_used(error.into()))?;
    BACKWARDS.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn already_used(error: Error) -> Error {
    if !error.message.contains("second time") {
        return error;
    }
    Error::input("backward: this number went backward already")
        .with_hint("run forward(batch) again, or add the losses before going backward once")
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

    /// Saves the trained values of `model`, this optimizer and `values` into `folder`.
    ///
    /// # Errors
    /// Another adapter than the optimizer's, or a folder that cannot be written.
    pub fn save_checkpoint(&self, model: &Model, folder: &Path, values: Value) -> Result<()> {
        self.ensure_same_adapter(&model.adapted)?;
        let values = json!({ "values": values, "lr": self.lr, "forwards": model.forwards });
        loop_state::save(folder, model.adapted.trainable()?, &self.adamw, values)?;
        Ok(())
    }

    /// Goes on from the newest checkpoint in `folder` and returns the values saved with it; `None` where there is no
    /// checkpoint. `note` gets lines for the user.
    ///
    /// # Errors
    /// Another adapter than the optimizer's, or a checkpoint of other parameters.
    pub fn load_checkpoint(
        &mut self,
        model: &mut Model,
        folder: &Path,
        note: &mut dyn FnMut(&str),
    ) -> Result<Option<Value>> {
        self.ensure_same_adapter(&model.adapted)?;
        let parameters = model.adapted.trainable_mut()?;
        let Some(mut saved) = loop_state::load(folder, parameters, &mut self.adamw, note)? else { return Ok(None) };
        let (Some(lr), Some(forwards)) = (saved["lr"].as_f64(), saved["forwards"].as_u64()) else {
            return Err(Error::input(format!("the checkpoint in `{}` has no learning rate", folder.display())));
        };
        (self.lr, model.forwards) = (lr, forwards);
        self.backwards = BACKWARDS.load(Ordering::Relaxed);
        Ok(Some(saved["values"].take()))
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
