//! The loss and the rewards on held-out preferences.
//!
//! Means are over all rows, and a cross-entropy is a mean over all its labels, so the batch size changes nothing but
//! rounding; TRL reports the mean of the batches' means. KTO alone compares the rows of a batch, and depends on it.

use super::loss::{means, Nll};
use super::preference::{divergences, PreferenceBatch, PreferenceRun};
use super::reference::Split;
use crate::data::batch::Batch;
use crate::data::TokenizedDataset;
use crate::error::Result;
use crate::interrupt;
use crate::lora::{AdapterSet, Trainable};
use crate::model::Decoder;
use crate::train::mean_metrics::MeanMetrics;
use crate::train::step::batch_losses;
use tch::no_grad;

/// The result of one evaluation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluation {
    pub loss: f64,
    /// By the names of training.
    pub metrics: Vec<(String, f64)>,
}

/// Evaluates several runs on `data` in one pass, without gradients or dropout.
pub fn evaluate(
    decoder: &Decoder,
    runs: &[(&dyn Trainable, &PreferenceRun)],
    data: &TokenizedDataset,
) -> Result<Vec<Evaluation>> {
    let mut evaluations = vec![Evaluation::default(); runs.len()];
    let mut sizes: Vec<usize> = runs.iter().map(|(_, run)| run.eval_batch).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for size in sizes {
        let chosen: Vec<usize> = (0..runs.len()).filter(|&at| runs[at].1.eval_batch == size).collect();
        let together: Vec<_> = chosen.iter().map(|&at| runs[at]).collect();
        let work = || no_grad(|| in_batches(decoder, &together, data, size));
        for (at, evaluation) in chosen.into_iter().zip(decoder.files.unless_changed(work)?) {
            evaluations[at] = evaluation;
        }
    }
    Ok(evaluations)
}

#[derive(Default)]
struct Sums {
    rows: f64,
    loss: f64,
    nll: f64,
    labels: f64,
    nll_weight: f64,
    metrics: MeanMetrics,
}

fn in_batches(
    decoder: &Decoder,
    runs: &[(&dyn Trainable, &PreferenceRun)],
    data: &TokenizedDataset,
    size: usize,
) -> Result<Vec<Evaluation>> {
    let active = runs.iter().enumerate().filter_map(|(part, (trainable, _))| trainable.active(Some(part), None));
    let adapters = AdapterSet::new(active.collect());
    let mut sums: Vec<Sums> = runs.iter().map(|_| Sums::default()).collect();
    let rows: Vec<u32> = (0..data.len() as u32).collect();
    for rows in rows.chunks(size.max(1)) {
        interrupt::check()?;
        let batches = runs.iter().map(|(_, run)| run.batch(data, Split::HeldOut, rows));
        let (batches, preferences): (Vec<Batch>, Vec<PreferenceBatch>) =
            batches.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let with: Vec<_> = runs.iter().zip(&preferences).map(|((trainable, _), batch)| (*trainable, batch)).collect();
        let divergences = divergences(decoder, &with)?;
        let losses = batch_losses(decoder, &batches.iter().collect::<Vec<_>>(), &adapters)?;
        for (part, ((sums, batch), divergence)) in sums.iter_mut().zip(&preferences).zip(divergences).enumerate() {
            let loss = batch.loss(&losses.of(part)?, divergence)?;
            sums.rows += rows.len() as f64;
            sums.loss += loss.rows.f_sum(None)?.f_double_value(&[])?;
            if let Some(Nll { sum, labels, weight }) = &loss.nll {
                sums.nll += sum.f_double_value(&[])?;
                sums.labels += labels;
                sums.nll_weight = *weight;
            }
            sums.metrics.extend(&loss.metrics);
        }
    }
    let evaluation = |Sums { rows, loss, nll, labels, nll_weight, metrics }: &Sums| Evaluation {
        loss: loss / rows.max(1.0) + nll_weight * nll / labels.max(1.0),
        metrics: means(metrics),
    };
    Ok(sums.iter().map(evaluation).collect())
}
