//! Mean loss and perplexity on held-out rows.

use crate::data::tokenized::TokenizedDataset;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::{Adapters, Decoder};
use crate::train::step::{batch_loss, predicted_labels};
use tch::no_grad;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvalLoss {
    /// Mean cross-entropy per label, in nats, over all labels of the split.
    pub loss: f64,
    pub labels: usize,
}

impl EvalLoss {
    /// e to the mean loss.
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }
}

/// Measures `adapters` over `data` in batches of `batch` rows, without gradients or
/// dropout. Rows go by length so that little padding is computed; sums are over labels,
/// so the order and the batch size change the result by rounding only.
pub fn mean_loss(
    decoder: &Decoder,
    adapters: &dyn Adapters,
    data: &TokenizedDataset,
    batch: usize,
) -> Result<EvalLoss> {
    if batch == 0 {
        return Err(Error::input("`batch`: expected at least 1, found 0"));
    }
    let mut rows: Vec<u32> = (0..data.len() as u32).collect();
    rows.sort_by_key(|&row| std::cmp::Reverse(data.row(row as usize).map_or(0, |row| row.ids().len())));
    let (mut sum, mut labels) = (0.0, 0);
    for rows in rows.chunks(batch) {
        interrupt::check()?;
        let batch = data.batch(rows)?;
        if predicted_labels(&batch) == 0 {
            continue;
        }
        let found = no_grad(|| batch_loss(decoder, &batch, adapters))?;
        sum += found.sum.f_double_value(&[])?;
        labels += found.labels;
    }
    if labels == 0 {
        return Err(Error::data(
            "the evaluation split has no label to measure: expected at least one row with a label",
        ));
    }
    Ok(EvalLoss { loss: sum / labels as f64, labels })
}
