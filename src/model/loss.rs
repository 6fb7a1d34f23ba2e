//! Next-token cross-entropy. Logits are in f32, labels are shifted once, and losses are per token, so that a
//! mean over any number of micro-batches is exact.

use super::decoder::Decoder;
use super::input::Input;
use super::linear::Adapters;
use crate::error::{Error, Result};
use crate::native;
use tch::{Device, Kind as Dtype, Reduction, Tensor};

/// The label of a position without a loss, as in torch.
pub const IGNORE: i64 = -100;

/// The tokens that predict a label, found on the host before the forward pass.
#[derive(Debug)]
pub struct Targets {
    /// Their indices among the tokens of the input, ascending.
    pub positions: Vec<i64>,
    /// The same on the device.
    index: Tensor,
    /// int64 `[count]`: the token that each of them must predict.
    pub tokens: Tensor,
    /// The number of targets in each batch of the input.
    pub counts: Vec<usize>,
}

impl Targets {
    /// From the unshifted labels of every batch, each `[rows, time]`: position t predicts the
    /// label at t + 1 of its row.
    pub fn new(input: &Input, labels: &[&[i64]], device: Device) -> Result<Self> {
        let (mut positions, mut tokens, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for (part, labels) in labels.iter().enumerate() {
            let token_of_cell = input.tokens_by_cell(part);
            let time = input.grid_time(part);
            let before = tokens.len();
            for cell in 0..labels.len().saturating_sub(1) {
                let starts_a_row = (cell + 1) % time == 0;
                if starts_a_row || labels[cell + 1] == IGNORE {
                    continue;
                }
                let token = token_of_cell.get(cell).copied().flatten();
                positions.push(token.ok_or_else(|| Error::bug("padding stands before a label"))?);
                tokens.push(labels[cell + 1]);
            }
            counts.push(tokens.len() - before);
        }
        Self::at(positions, &tokens, counts, device)
    }

    /// The token that each of `positions` must predict.
    pub fn at(positions: Vec<i64>, tokens: &[i64], counts: Vec<usize>, device: Device) -> Result<Self> {
        let on_device = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(device);
        Ok(Targets { index: on_device(&positions)?, positions, tokens: on_device(tokens)?, counts })
    }
}

/// The cross-entropy of every target in nats, `[count]`, f32 (f64 for an f64 model). Computes logits only for
/// tokens that have a label; for batches that train nothing in the output head, never all at once.
pub fn token_losses(
    decoder: &Decoder,
    input: &Input,
    hidden: &Tensor,
    targets: &Targets,
    adapters: &dyn Adapters,
) -> Result<Tensor> {
    let mut losses = Vec::new();
    let mut done = 0;
    for (trains_head, count) in stretches(&targets.counts, |part| adapters.affects(&decoder.lm_head, part)) {
        let positions = &targets.positions[done..done + count];
        let of_stretch = |all: &Tensor| all.f_narrow(0, done as i64, count as i64);
        let tokens = of_stretch(&targets.tokens)?;
        let labelled = hidden.f_index_select(0, &of_stretch(&targets.index)?)?;
        losses.push(if trains_head {
            let logits = decoder.logits(&labelled, &input.tokens.select(positions)?, adapters)?;
            widen(&logits)?.f_cross_entropy_loss(&tokens, None::<&Tensor>, Reduction::None, IGNORE, 0.0)?
        } else {
            let head = decoder.lm_head.weight.to_dense(decoder.dtype)?;
            native::token_losses(&labelled, &head, &tokens, decoder.config.architecture.logits)?
        });
        done += count;
    }
    match losses.len() {
        1 => Ok(losses.swap_remove(0)),
        _ => Ok(Tensor::f_cat(&losses, 0)?),
    }
}

/// Runs of consecutive batches of one kind: the kind, and the number of their targets.
fn stretches(counts: &[usize], kind: impl Fn(usize) -> bool) -> Vec<(bool, usize)> {
    let mut stretches: Vec<(bool, usize)> = Vec::new();
    for (part, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        match stretches.last_mut() {
            Some((last, sum)) if *last == kind(part) => *sum += count,
            _ => stretches.push((kind(part), *count)),
        }
    }
    stretches
}

/// As [`token_losses`], from logits `[tokens, vocabulary]` that are there already.
pub fn token_losses_of_logits(logits: &Tensor, targets: &Targets) -> Result<Tensor> {
    let predicted = widen(&logits.f_index_select(0, &targets.index)?)?;
    Ok(predicted.f_cross_entropy_loss(&targets.tokens, None::<&Tensor>, Reduction::None, IGNORE, 0.0)?)
}

/// The mean loss of logits `[rows, time, vocab]` against unshifted labels `[rows, time]`, both on the device.
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
