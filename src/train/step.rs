//! The forward pass of one micro-batch: from host ids to a loss that can go backward.

use crate::data::batch::Batch;
use crate::error::Result;
use crate::model::loss::{summed_loss, Targets};
use crate::model::{Adapters, Decoder, Input};
use tch::Tensor;

impl Input {
    /// Moves a batch to the decoder's device.
    pub fn from_batch(batch: &Batch, decoder: &Decoder) -> Result<Self> {
        let shape = [batch.rows, batch.time];
        let segments = batch.segments.as_deref();
        Input::new(shape, &batch.input_ids, &batch.position_ids, segments, decoder.config.vocab_size, decoder.device)
    }
}

/// The summed loss of a batch and the number of labels it is summed over.
#[derive(Debug)]
pub struct BatchLoss {
    /// Scalar, in nats.
    pub sum: Tensor,
    pub labels: usize,
}

/// Runs the decoder on `batch`. Gradients are recorded unless the caller turned them off.
pub fn batch_loss(decoder: &Decoder, batch: &Batch, adapters: &dyn Adapters) -> Result<BatchLoss> {
    let input = Input::from_batch(batch, decoder)?;
    let targets = Targets::new(&batch.labels, batch.time, decoder.device)?;
    let hidden = decoder.hidden(&input, adapters)?;
    Ok(BatchLoss { sum: summed_loss(decoder, &hidden, &targets, adapters)?, labels: targets.count })
}

/// The number of positions of `batch` that predict a label.
pub fn predicted_labels(batch: &Batch) -> usize {
    let rows = batch.labels.chunks(batch.time.max(1));
    rows.map(|row| row.iter().skip(1).filter(|&&label| label != crate::model::loss::IGNORE).count()).sum()
}
