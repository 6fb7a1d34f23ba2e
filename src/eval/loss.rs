//! Mean loss and perplexity on held-out rows.

use crate::data::batch::Batch;
use crate::data::tokenized::TokenizedDataset;
use crate::data::{number, Row, RowKind};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::lora::{AdapterSet, Trainable};
use crate::model::{Adapters, Decoder};
use crate::train::step::{batch_losses, predicted_labels, total_weight, BatchLosses};
use tch::no_grad;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvalLoss {
    /// Mean cross-entropy per label, in nats, over all labels of the split; of labels with weights, the weighted mean.
    pub loss: f64,
    pub labels: usize,
}

impl EvalLoss {
    /// e to the mean loss.
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }

    /// As an object; numbers that are not finite are those of [`number`].
    pub fn fields(&self) -> Row {
        let (loss, perplexity) = (number::value(self.loss), number::value(self.perplexity()));
        let fields = [("loss", loss), ("perplexity", perplexity), ("labels", self.labels.into())];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Measures `adapters` over `data` in batches of `batch` rows, without gradients or dropout. Rows are sorted by length,
/// so that those of a batch are alike; sums are over labels, so order and batch size change the result by rounding only.
pub fn mean_loss(
    decoder: &Decoder,
    adapters: &dyn Adapters,
    data: &TokenizedDataset,
    batch: usize,
) -> Result<EvalLoss> {
    if data.kind() != RowKind::Examples {
        return Err(Error::data("evaluate: expected examples, found preferences")
            .with_hint("`train` measures the held-out rows of a split: eval_loss and eval_rewards/… of its result"));
    }
    let mut losses = |batches: &[&Batch]| batch_losses(decoder, batches, adapters);
    let mut losses = decoder.files.unless_changed(|| measure(data, batch, 1, &mut losses))?;
    losses.pop().ok_or_else(|| Error::bug("nothing was measured"))
}

/// Measures several runs at once, each batch of rows repeated for every one of them.
pub fn mean_losses(
    decoder: &Decoder,
    trainables: &[&dyn Trainable],
    data: &TokenizedDataset,
    batch: usize,
) -> Result<Vec<EvalLoss>> {
    let active = trainables.iter().enumerate().filter_map(|(part, trainable)| trainable.active(Some(part), None));
    let adapters = AdapterSet::new(active.collect());
    let mut losses = |batches: &[&Batch]| batch_losses(decoder, batches, &adapters);
    decoder.files.unless_changed(|| measure(data, batch, trainables.len(), &mut losses))
}

/// The evaluation that the trainer calls: the mean losses of its runs on `data`.
pub fn evaluation(
    data: &TokenizedDataset,
    batch: usize,
) -> impl FnMut(&Decoder, &[&dyn Trainable]) -> Result<Vec<f64>> + '_ {
    move |decoder, trainables| {
        Ok(mean_losses(decoder, trainables, data, batch)?.into_iter().map(|mean| mean.loss).collect())
    }
}

/// As [`evaluation`], on rows that are known at each call.
pub fn held_out_loss(batch: usize) -> impl FnMut(&Decoder, &[&dyn Trainable], &TokenizedDataset) -> Result<Vec<f64>> {
    move |decoder, trainables, data| evaluation(data, batch)(decoder, trainables)
}

/// Passes every batch `copies` times to `losses`.
fn measure(
    data: &TokenizedDataset,
    batch: usize,
    copies: usize,
    losses: &mut dyn FnMut(&[&Batch]) -> Result<BatchLosses>,
) -> Result<Vec<EvalLoss>> {
    if batch == 0 {
        return Err(Error::input("option `batch`: expected int of at least 1, found int 0"));
    }
    let mut rows: Vec<u32> = (0..data.len() as u32).collect();
    rows.sort_by_key(|&row| std::cmp::Reverse(data.row(row as usize).map_or(0, |row| row.ids().len())));
    let (mut sums, mut labels, mut total) = (vec![0.0; copies], 0, 0.0);
    for rows in rows.chunks(batch) {
        interrupt::check()?;
        let batch = data.batch(rows)?;
        if predicted_labels(&batch) == 0 {
            continue;
        }
        let batch_losses = no_grad(|| losses(&vec![&batch; copies]))?;
        sums.iter_mut().zip(batch_losses.sums()?).for_each(|(sum, of_batch)| *sum += of_batch);
        labels += batch_losses.labels.first().copied().unwrap_or(0);
        total += total_weight(&batch);
    }
    if labels == 0 {
        return Err(no_label());
    }
    if total == 0.0 {
        return Err(Error::data("every label of the evaluation split has the weight 0: there is nothing to measure"));
    }
    Ok(sums.into_iter().map(|sum| EvalLoss { loss: sum / total, labels }).collect())
}

/// Fails where nothing of `data` can be measured. Called before a run, whose first evaluation may come after its last
/// step.
pub fn ensure_labelled(data: &TokenizedDataset) -> Result<()> {
    if data.iter().any(|row| row.label_count() > 0) {
        return Ok(());
    }
    Err(no_label())
}

fn no_label() -> Error {
    Error::data("the evaluation split has no label to measure: expected at least one row with a label")
        .with_hint("look at the rows with `data.show(0)`; a larger max_length may keep the answers")
}
