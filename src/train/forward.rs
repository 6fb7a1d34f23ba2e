//! A forward pass that its caller looks into: the loss, the log-probabilities of the labels, the logits and the hidden
//! states, each computed when it is first asked for.
//!
//! The loss goes through the output matrix piece by piece, so that a loop that asks for the loss alone never holds the
//! logits of all positions.

use crate::bail;
use crate::data::Batch;
use crate::error::{Kind, Result};
use crate::lora::trainable::dropout_key;
use crate::lora::{Model, Trainable};
use crate::model::loss::{token_losses, token_losses_of_logits, Targets};
use crate::model::{Adapters, Decoder, Input, NoAdapters};
use crate::random::Key;
use crate::train::nested::ensure_not_nested;
use crate::train::step::{label_cells, label_weights_of, total_weight};
use std::cell::OnceCell;
use tch::{no_grad, Kind as Dtype, Tensor};

/// Seeds the dropout of loops; within [`train`](super::train) the key is that of the run's micro-batch.
const SEED: u64 = 42;

/// The hidden states of a batch, and what was computed from them.
#[derive(Debug)]
pub struct ForwardPass {
    input: Input,
    /// `[tokens, width]`, after the last norm.
    hidden: Tensor,
    targets: Targets,
    /// The cells that have labels, row after row.
    label_cells: Vec<i64>,
    /// How much each of these labels counts in the mean, adding up to 1; `None` if all count the same.
    label_shares: Option<Tensor>,
    has_no_weight: bool,
    rows: i64,
    seq_len: i64,
    /// f32 `[rows, seq_len]`: 1 at tokens, 0 at padding.
    mask: Tensor,
    records_gradients: bool,
    /// `[tokens, vocabulary]`: kept from the start where the output matrix is trained, because it may change later.
    token_logits: Option<Tensor>,
    logits: OnceCell<Tensor>,
    losses: OnceCell<Tensor>,
    loss: OnceCell<Tensor>,
}

impl ForwardPass {
    /// Runs the model on a batch; with `train`, applies dropout and records gradients.
    ///
    /// # Errors
    /// Token ids that the model has not, and memory that runs out.
    pub fn run(model: &mut Model, batch: &Batch, train: bool) -> Result<Self> {
        if train {
            let nested =
                model.adapted.active_name().and_then(|_| model.adapted.adapter(None).ok()).and_then(Trainable::nested);
            ensure_not_nested(nested, "forward")?;
        }
        let key = train.then(|| next_dropout_key(model));
        let (decoder, adapters) = (model.decoder(), model.adapted.adapter_set(key));
        let input = Input::from_batches(&[batch], decoder)?;
        let compute = || -> Result<_> {
            let hidden = decoder.hidden(&input, &adapters)?;
            let trains_head = adapters.affects(&decoder.lm_head, 0);
            let token_logits = trains_head.then(|| decoder.logits(&hidden, &input.tokens, &adapters)).transpose()?;
            Ok((hidden, token_logits))
        };
        let compute = || if train { compute() } else { no_grad(compute) };
        let (hidden, token_logits) = decoder.files.unless_changed(compute)?;
        Ok(ForwardPass {
            targets: Targets::new(&input, &[&batch.labels], decoder.device)?,
            label_cells: label_cells(batch).map(|cell| cell as i64).collect(),
            label_shares: label_shares(batch, decoder)?,
            has_no_weight: total_weight(batch) == 0.0,
            mask: mask(batch, decoder)?,
            rows: batch.rows as i64,
            seq_len: batch.seq_len as i64,
            records_gradients: train,
            logits: OnceCell::new(),
            losses: OnceCell::new(),
            loss: OnceCell::new(),
            input,
            hidden,
            token_logits,
        })
    }

    /// The mean cross-entropy over the labels, in nats: the weighted mean where the batch has weights.
    ///
    /// # Errors
    /// A batch without labels or with weights of 0 only, and memory that runs out.
    pub fn loss(&self, decoder: &Decoder) -> Result<Tensor> {
        if self.label_cells.is_empty() {
            bail!(Kind::Data, "loss: expected a batch with labels, found none"; hint: "batch.labels lists them; -100 stands where none is trained on");
        }
        if self.has_no_weight {
            bail!(Kind::Data, "loss: expected a label with a weight above 0, found none"; hint: "batch.weights lists them");
        }
        let losses = self.losses(decoder)?;
        once(&self.loss, || {
            self.recorded(|| match &self.label_shares {
                Some(shares) => Ok(losses.f_dot(&shares.f_to_kind(losses.f_kind()?)?)?),
                None => Ok(losses.f_mean(None)?),
            })
        })
    }

    /// f32 `[rows, seq_len]`: at each label the logarithm of its probability, in nats; 0 elsewhere.
    pub fn token_logprobs(&self, decoder: &Decoder) -> Result<Tensor> {
        self.at_labels(decoder, if self.label_cells.is_empty() { None } else { Some(self.losses(decoder)?) })
    }

    /// As [`Self::token_logprobs`], of scores that are divided by `temperature`.
    pub fn token_logprobs_at(&self, decoder: &Decoder, temperature: f64) -> Result<Tensor> {
        if temperature == 1.0 || self.label_cells.is_empty() {
            return self.token_logprobs(decoder);
        }
        let losses = self.recorded(|| match &self.token_logits {
            Some(logits) => token_losses_of_logits(&logits.f_div_scalar(temperature)?, &self.targets),
            // The output matrix has no bias: dividing what it is applied to divides the scores.
            None => {
                let hidden = self.hidden.f_div_scalar(temperature)?;
                let losses = || token_losses(decoder, &self.input, &hidden, &self.targets, &NoAdapters);
                decoder.files.unless_changed(losses)
            }
        })?;
        self.at_labels(decoder, Some(losses))
    }

    /// The negative losses at their cells, f32 `[rows, seq_len]`.
    fn at_labels(&self, decoder: &Decoder, losses: Option<Tensor>) -> Result<Tensor> {
        self.recorded(|| {
            let zeros = Tensor::f_zeros([self.rows * self.seq_len], (Dtype::Float, decoder.device))?;
            let flat = match losses {
                Some(losses) => {
                    let cells = Tensor::f_from_slice(&self.label_cells)?.f_to_device(decoder.device)?;
                    zeros.f_index_copy(0, &cells, &losses.f_neg()?.f_to_kind(Dtype::Float)?)?
                }
                // As a sum over no labels: 0, with a gradient of 0.
                None if self.records_gradients => zeros.f_add(&self.hidden.f_sum(Dtype::Float)?.f_mul_scalar(0.0)?)?,
                None => zeros,
            };
            Ok(flat.f_reshape([self.rows, self.seq_len])?)
        })
    }

    /// `[rows, seq_len, vocabulary]`, 0 at padding.
    pub fn logits(&self, decoder: &Decoder) -> Result<Tensor> {
        once(&self.logits, || {
            self.recorded(|| match &self.token_logits {
                Some(logits) => self.input.padded(logits),
                None => decoder.files.unless_changed(|| {
                    self.input.padded(&decoder.logits(&self.hidden, &self.input.tokens, &NoAdapters)?)
                }),
            })
        })
    }

    /// The states that the output matrix is applied to, after the last norm: `[rows, seq_len, width]`, 0 at padding.
    pub fn hidden(&self) -> Result<Tensor> {
        self.recorded(|| self.input.padded(&self.hidden))
    }

    /// f32 `[rows, seq_len]`: 1 at tokens, 0 at padding.
    pub fn mask(&self) -> &Tensor {
        &self.mask
    }

    /// The cross-entropy of each label, `[labels]`.
    fn losses(&self, decoder: &Decoder) -> Result<Tensor> {
        once(&self.losses, || {
            self.recorded(|| match &self.token_logits {
                Some(logits) => token_losses_of_logits(logits, &self.targets),
                None => decoder
                    .files
                    .unless_changed(|| token_losses(decoder, &self.input, &self.hidden, &self.targets, &NoAdapters)),
            })
        })
    }

    /// Gradients are recorded as they were in the pass itself.
    fn recorded<T>(&self, compute: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.records_gradients {
            compute()
        } else {
            no_grad(compute)
        }
    }
}

fn next_dropout_key(model: &mut Model) -> Key {
    if let Some(micro_batch) = &mut model.micro_batch {
        return micro_batch.next_key();
    }
    let key = dropout_key(SEED, model.forwards, 0);
    model.forwards += 1;
    key
}

fn once(cell: &OnceCell<Tensor>, compute: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
    if let Some(known) = cell.get() {
        return Ok(known.shallow_clone());
    }
    let computed = compute()?;
    Ok(cell.get_or_init(|| computed).shallow_clone())
}

/// In the order of [`Targets`].
fn label_shares(batch: &Batch, decoder: &Decoder) -> Result<Option<Tensor>> {
    if batch.weights.is_none() {
        return Ok(None);
    }
    let (weights, total) = (label_weights_of(batch), total_weight(batch));
    let shares: Vec<f64> = weights.into_iter().map(|weight| if total > 0.0 { weight / total } else { 0.0 }).collect();
    Ok(Some(Tensor::f_from_slice(&shares)?.f_to_device(decoder.device)?))
}

fn mask(batch: &Batch, decoder: &Decoder) -> Result<Tensor> {
    let cells = (0..batch.cells()).map(|cell| f32::from(batch.is_token(cell))).collect::<Vec<f32>>();
    let mask = Tensor::f_from_slice(&cells)?.f_reshape([batch.rows as i64, batch.seq_len as i64])?;
    Ok(mask.f_to_device(decoder.device)?)
}
