//! Forward and backward passes of micro-batches: from token ids in host memory to losses with a graph.

use crate::data::batch::Batch;
use crate::error::Result;
use crate::model::loss::{token_losses, Targets, IGNORE};
use crate::model::{Adapters, Decoder, Grid, Input, LargerBatch};
use tch::{Device, Kind as Dtype, Tensor};

impl Input {
    /// Moves batches to the decoder's device; each becomes a part of the input.
    pub fn from_batches(batches: &[&Batch], decoder: &Decoder) -> Result<Self> {
        let grids = batches.iter().map(|batch| Grid {
            rows: batch.rows,
            time: batch.seq_len,
            input_ids: &batch.input_ids,
            position_ids: &batch.position_ids,
            segments: batch.segments.as_deref(),
            shares_prefixes: batch.shares_prefixes,
            part_of: batch.part_of.as_ref().map(|part| LargerBatch { rows: &part.rows, longest: part.longest }),
        });
        let grids: Vec<Grid> = grids.collect();
        Input::new(&grids, decoder.config.vocab_size, decoder.device)
    }
}

/// The losses of several batches that went through the decoder together.
#[derive(Debug)]
pub struct BatchLosses {
    /// The loss of every label in nats, `[labels]`, batch after batch.
    pub losses: Tensor,
    /// The number of labels of each batch.
    pub labels: Vec<usize>,
    /// How much each label counts, `[labels]`; `None` if all count 1.
    pub label_weights: Option<Vec<f64>>,
}

/// Runs the decoder on `batches` in one pass. Gradients are recorded unless the caller
/// turned them off.
pub fn batch_losses(decoder: &Decoder, batches: &[&Batch], adapters: &dyn Adapters) -> Result<BatchLosses> {
    let (input, targets) = on_device(decoder, batches)?;
    let hidden = decoder.hidden(&input, adapters)?;
    losses_of(decoder, batches, &input, targets, &hidden, adapters)
}

/// The input and the targets of `batches`. Both before the forward pass, because a GPU would end it first.
fn on_device(decoder: &Decoder, batches: &[&Batch]) -> Result<(Input, Targets)> {
    let input = Input::from_batches(batches, decoder)?;
    let labels: Vec<&[i64]> = batches.iter().map(|batch| batch.labels.as_slice()).collect();
    let targets = Targets::new(&input, &labels, decoder.device)?;
    Ok((input, targets))
}

fn losses_of(
    decoder: &Decoder,
    batches: &[&Batch],
    input: &Input,
    targets: Targets,
    hidden: &Tensor,
    adapters: &dyn Adapters,
) -> Result<BatchLosses> {
    let losses = token_losses(decoder, input, hidden, &targets, adapters)?;
    let label_weights = batches.iter().any(|batch| batch.weights.is_some());
    let label_weights = label_weights.then(|| batches.iter().flat_map(|batch| label_weights_of(batch)).collect());
    Ok(BatchLosses { losses, labels: targets.counts, label_weights })
}

/// Forward and backward from Σ over batches of weight · summed loss, where `weights` gives a
/// weight for each batch. With `checkpointing`, activations are computed twice rather than held.
pub fn backward(
    decoder: &Decoder,
    batches: &[&Batch],
    adapters: &dyn Adapters,
    weights: &[f64],
    checkpointing: bool,
) -> Result<BatchLosses> {
    let factors = label_factors(decoder, batches, weights)?;
    backward_from(decoder, batches, adapters, checkpointing, &mut |losses| Ok(losses.losses.f_dot(&factors)?))
}

/// As [`backward`], from the scalar that `total` makes of the losses.
pub fn backward_from(
    decoder: &Decoder,
    batches: &[&Batch],
    adapters: &dyn Adapters,
    checkpointing: bool,
    total: &mut dyn FnMut(&BatchLosses) -> Result<Tensor>,
) -> Result<BatchLosses> {
    if !checkpointing {
        let losses = batch_losses(decoder, batches, adapters)?;
        total(&losses)?.f_backward()?;
        return Ok(losses);
    }
    let (input, targets) = on_device(decoder, batches)?;
    let checkpoints = decoder.checkpoints(&input, adapters)?;
    let losses = losses_of(decoder, batches, &input, targets, &checkpoints.hidden()?, adapters)?;
    total(&losses)?.f_backward()?;
    checkpoints.backward()?;
    Ok(losses)
}

/// How much each label of `batches` counts in the sum of their losses, where `weights` gives a weight for each batch:
/// `[labels]`, on the decoder's device.
fn label_factors(decoder: &Decoder, batches: &[&Batch], weights: &[f64]) -> Result<Tensor> {
    let each = batches.iter().zip(weights);
    let factors = each.flat_map(|(batch, weight)| label_weights_of(batch).into_iter().map(move |label| weight * label));
    let dtype = if decoder.dtype == Dtype::Double { Dtype::Double } else { Dtype::Float };
    let factors = Tensor::f_from_slice(&factors.collect::<Vec<f64>>())?.f_to_kind(dtype)?;
    Ok(factors.f_to_device(decoder.device)?)
}

/// Numbers of several tensors, copied to the host together: a GPU finishes all work before each copy.
pub fn to_host(tensors: &[Tensor]) -> Result<Vec<Vec<f64>>> {
    let flat = tensors.iter().map(|tensor| tensor.f_detach()?.f_flatten(0, -1));
    let flat = flat.collect::<std::result::Result<Vec<_>, _>>()?;
    let all = if flat.is_empty() { Vec::new() } else { host_values(&Tensor::f_cat(&flat, 0)?)? };
    let mut rest = all.as_slice();
    let each = flat.iter().map(|tensor| {
        let (first, others) = rest.split_at(tensor.numel().min(rest.len()));
        rest = others;
        first.to_vec()
    });
    Ok(each.collect())
}

fn host_values(values: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::<f64>::try_from(values.f_to_device(Device::Cpu)?.f_to_kind(Dtype::Double)?)?)
}

impl BatchLosses {
    /// The losses of one batch, `[labels]`.
    pub fn of(&self, batch: usize) -> Result<Tensor> {
        let before: usize = self.labels.iter().take(batch).sum();
        let count = self.labels.get(batch).copied().unwrap_or(0);
        Ok(self.losses.f_narrow(0, before as i64, count as i64)?)
    }

    /// The summed loss of each batch, added up in f64, every label by its weight.
    pub fn sums(&self) -> Result<Vec<f64>> {
        Ok(self.sums_of(host_values(&self.losses.f_detach()?)?))
    }

    /// As [`Self::sums`], from the losses on the host.
    pub fn sums_of(&self, mut losses: Vec<f64>) -> Vec<f64> {
        if let Some(weights) = &self.label_weights {
            losses.iter_mut().zip(weights).for_each(|(loss, weight)| *loss *= weight);
        }
        let mut rest = losses.as_slice();
        let sums = self.labels.iter().map(|&count| {
            let (batch, others) = rest.split_at(count.min(rest.len()));
            rest = others;
            batch.iter().sum()
        });
        sums.collect()
    }

    /// Σ over batches of weight · summed loss, every label by its own weight too: the scalar to call `backward` on.
    pub fn weighted(&self, weights: &[f64]) -> Result<Tensor> {
        let each = self.labels.iter().zip(weights).flat_map(|(&count, &weight)| std::iter::repeat_n(weight, count));
        let mut weights: Vec<f64> = each.collect();
        if let Some(label_weights) = &self.label_weights {
            weights.iter_mut().zip(label_weights).for_each(|(weight, of_label)| *weight *= of_label);
        }
        let weights = Tensor::f_from_slice(&weights)?.f_to_kind(self.losses.f_kind()?)?;
        Ok(self.losses.f_dot(&weights.f_to_device(self.losses.device())?)?)
    }
}

/// The summed loss of a batch and the number of labels it is summed over.
#[derive(Debug)]
pub struct BatchLoss {
    /// Scalar, in nats.
    pub sum: Tensor,
    pub labels: usize,
}

/// [`batch_losses`] for one batch.
pub fn batch_loss(decoder: &Decoder, batch: &Batch, adapters: &dyn Adapters) -> Result<BatchLoss> {
    let losses = batch_losses(decoder, &[batch], adapters)?;
    Ok(BatchLoss { sum: losses.weighted(&[1.0])?, labels: losses.labels.iter().sum() })
}

/// Counts the positions of `batch` that predict a label.
pub fn predicted_labels(batch: &Batch) -> usize {
    label_cells(batch).count()
}

/// The cells of `batch` that have a label which another cell predicts, in order: those of [`Targets`].
pub fn label_cells(batch: &Batch) -> impl Iterator<Item = usize> + '_ {
    let is_predicted = |&cell: &usize| !cell.is_multiple_of(batch.seq_len) && batch.labels[cell] != IGNORE;
    (0..batch.labels.len()).filter(is_predicted)
}

/// How much each label counts, in the order of [`Targets`].
pub fn label_weights_of(batch: &Batch) -> Vec<f64> {
    let weight = |cell: usize| batch.weights.as_ref().map_or(1.0, |weights| f64::from(weights[cell]));
    label_cells(batch).map(weight).collect()
}

/// What the summed loss of `batch` is divided by for a mean: the weights of its labels, added up.
pub fn total_weight(batch: &Batch) -> f64 {
    match &batch.weights {
        Some(_) => label_weights_of(batch).into_iter().sum(),
        None => predicted_labels(batch) as f64,
    }
}
