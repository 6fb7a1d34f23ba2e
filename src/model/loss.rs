//! Next-token cross-entropy: logits in f32, labels shifted once, sums rather than means,
//! so that a mean over any window of micro-batches is exact.

use super::decoder::Decoder;
use super::linear::Adapters;
use crate::error::Result;
use tch::{Device, Kind as Dtype, Reduction, Tensor};

/// The label of a position that no loss is taken at, as in torch.
pub const IGNORE: i64 = -100;

/// The positions that predict a label, found on the host before the forward pass.
#[derive(Debug)]
pub struct Targets {
    /// int64 `[count]`: positions in the flattened `[rows * time]` hidden states.
    pub positions: Tensor,
    /// int64 `[count]`: the token that each of them must predict.
    pub tokens: Tensor,
    pub count: usize,
}

impl Targets {
    /// From unshifted labels `[rows, time]`: position t predicts the label at t + 1.
    pub fn new(labels: &[i64], time: usize, device: Device) -> Result<Self> {
        let mut positions = Vec::new();
        let mut tokens = Vec::new();
        for at in 0..labels.len().saturating_sub(1) {
            let starts_a_row = (at + 1) % time == 0;
            if !starts_a_row && labels[at + 1] != IGNORE {
                positions.push(at as i64);
                tokens.push(labels[at + 1]);
            }
        }
        Ok(Targets {
            count: tokens.len(),
            positions: Tensor::f_from_slice(&positions)?.f_to_device(device)?,
            tokens: Tensor::f_from_slice(&tokens)?.f_to_device(device)?,
        })
    }
}

/// The summed cross-entropy of `targets` in nats, a scalar tensor of dtype f32 (f64 for
/// an f64 model). Logits are made only for the positions that have a label.
pub fn summed_loss(decoder: &Decoder, hidden: &Tensor, targets: &Targets, adapters: &dyn Adapters) -> Result<Tensor> {
    let labelled = hidden.f_flatten(0, 1)?.f_index_select(0, &targets.positions)?.f_unsqueeze(0)?;
    let logits = widen(&decoder.logits(&labelled, adapters)?.f_squeeze_dim(0)?)?;
    Ok(logits.f_cross_entropy_loss(&targets.tokens, None::<&Tensor>, Reduction::Sum, IGNORE, 0.0)?)
}

/// The mean loss of full logits `[rows, time, vocab]` against unshifted labels
/// `[rows, time]` (device tensors): what scripts see as `.loss`.
pub fn mean_loss(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let time = labels.size()[1];
    let predicted = widen(&logits.f_narrow(1, 0, time - 1)?.f_flatten(0, 1)?)?;
    let expected = labels.f_narrow(1, 1, time - 1)?.f_flatten(0, 1)?;
    Ok(predicted.f_cross_entropy_loss(&expected, None::<&Tensor>, Reduction::Mean, IGNORE, 0.0)?)
}

fn widen(logits: &Tensor) -> Result<Tensor> {
    match logits.f_kind()? {
        Dtype::Double => Ok(logits.shallow_clone()),
        _ => Ok(logits.f_to_kind(Dtype::Float)?),
    }
}
