//! A run that trains on preferences: its batches, with the reference and the labels of their answers.

use super::answers::{values, AnswerLabels};
use super::loss::ObjectiveLoss;
use super::options::{Objective, ObjectiveOptions};
use super::reference::{compute, look_up, Answer, LogpTable, ReferenceRows, References, Split};
use super::{dpo, kto, orpo, simpo};
use crate::data::batch::Batch;
use crate::data::preference::mismatched;
use crate::data::store::flag;
use crate::data::TokenizedDataset;
use crate::error::{Error, Result};
use crate::lora::{AdapterSet, Trainable};
use crate::model::Decoder;
use crate::train::config::TrainConfig;
use crate::train::sampler::Sampler;
use crate::train::step::batch_losses;
use std::collections::BTreeSet;
use std::rc::Rc;
use tch::{no_grad, Tensor};

/// What runs on preferences need beside their jobs.
#[derive(Clone, Copy, Default)]
pub struct PreferenceInputs<'a> {
    pub held_out: Option<&'a TokenizedDataset>,
    /// Shared with other groups of the same sweep.
    pub references: Option<&'a References>,
}

/// The preferences of one run.
#[derive(Debug, Clone)]
pub struct PreferenceRun {
    options: ObjectiveOptions,
    reference: Rc<LogpTable>,
    /// Rows per evaluation batch.
    pub eval_batch: usize,
}

/// What a batch of preferences needs beside its tokens.
#[derive(Debug)]
pub struct PreferenceBatch {
    options: ObjectiveOptions,
    labels: AnswerLabels,
    /// By answer; empty without a reference.
    reference: Vec<f64>,
    /// Of labelled completions.
    desirable: Vec<bool>,
    mismatched: Option<MismatchedBatch>,
}

/// Prompts with the completions of other rows, from which KTO estimates a divergence.
#[derive(Debug)]
struct MismatchedBatch {
    batch: Batch,
    labels: AnswerLabels,
    reference: Vec<f64>,
}

impl PreferenceRun {
    /// Readies the runs that train on preferences: `None` for the others. Each comes with the number of its
    /// steps; a run that goes on computes the reference of all of them, in the same batches as it did before.
    pub fn of_all(
        decoder: &Decoder,
        runs: &[(&dyn Trainable, &TrainConfig, u64)],
        data: &TokenizedDataset,
        inputs: PreferenceInputs,
    ) -> Result<Vec<Option<Self>>> {
        for (_, config, _) in runs {
            config.objective.ensure_fits(data)?;
            inputs.held_out.map_or(Ok(()), |rows| config.objective.ensure_fits(rows))?;
        }
        let has_reference = |config: &TrainConfig| config.objective.needs_reference();
        let compared = runs.iter().filter(|(_, config, _)| has_reference(config));
        let wanted: Vec<(&dyn Trainable, BTreeSet<Answer>)> = compared
            .map(|(trainable, config, steps)| (*trainable, visited(config, *steps, data, inputs.held_out)))
            .collect();
        let unshared = References::default();
        let tables = if wanted.is_empty() {
            Vec::new()
        } else {
            let batch = runs.iter().map(|(_, config, _)| config.eval_batch).max().unwrap_or(1);
            let rows = ReferenceRows { train: data, held_out: inputs.held_out, batch };
            compute(decoder, &wanted, rows, inputs.references.unwrap_or(&unshared))?
        };
        let mut tables = tables.into_iter();
        let run = |(_, config, _): &(&dyn Trainable, &TrainConfig, u64)| {
            let reference = if has_reference(config) { tables.next().unwrap_or_default() } else { Rc::default() };
            let run = PreferenceRun { options: config.objective.clone(), reference, eval_batch: config.eval_batch };
            config.objective.is_preference().then_some(run)
        };
        Ok(runs.iter().map(run).collect())
    }

    /// A batch of the rows with these numbers.
    pub fn batch(&self, data: &TokenizedDataset, split: Split, rows: &[u32]) -> Result<(Batch, PreferenceBatch)> {
        let mut batch = data.batch(rows)?;
        batch.shares_prefixes = self.options.disable_dropout;
        let per_row = if self.options.kind == Objective::Kto { 1 } else { 2 };
        let labels = match self.options.kind {
            Objective::Orpo => AnswerLabels::with_chosen_prompts(&mut batch, per_row),
            _ => AnswerLabels::of(&batch, per_row),
        };
        let is_desirable = |row: &u32| {
            let row = data.row(*row as usize);
            row.is_some_and(|row| row.documents().any(|document| document.flags() & flag::DESIRABLE != 0))
        };
        let reference = |answers: Vec<Answer>| look_up(&self.reference, answers.into_iter());
        let (reference, mismatched) = match self.options.kind {
            Objective::Dpo => {
                (reference(rows.iter().flat_map(|&row| [(split, row, 0), (split, row, 1)]).collect())?, None)
            }
            Objective::Kto => {
                let pairs = mismatched_pairs(rows);
                let others = mismatched(data, &pairs)?;
                let batch = others.batch(&(0..pairs.len() as u32).collect::<Vec<_>>())?;
                let labels = AnswerLabels::of(&batch, 1);
                let of_pairs = reference(pairs.iter().map(|&(row, other)| (split, row, other)).collect())?;
                let mismatched = MismatchedBatch { batch, labels, reference: of_pairs };
                (reference(rows.iter().map(|&row| (split, row, row)).collect())?, Some(mismatched))
            }
            _ => (Vec::new(), None),
        };
        let desirable = rows.iter().map(is_desirable).collect();
        Ok((batch, PreferenceBatch { options: self.options.clone(), labels, reference, desirable, mismatched }))
    }
}

/// Each prompt with the completion of the row before it in the batch, the first with that of the last, as TRL rotates.
fn mismatched_pairs(rows: &[u32]) -> Vec<(u32, u32)> {
    let before = rows.iter().cycle().skip(rows.len().saturating_sub(1));
    rows.iter().zip(before).map(|(&row, &other)| (row, other)).collect()
}

/// The answers whose reference a run needs: those of the steps that it takes, and of its held-out rows.
fn visited(
    config: &TrainConfig,
    steps: u64,
    data: &TokenizedDataset,
    held_out: Option<&TokenizedDataset>,
) -> BTreeSet<Answer> {
    let is_pairs = config.objective.kind != Objective::Kto;
    let mut answers = BTreeSet::new();
    let mut add = |split: Split, rows: &[u32]| {
        if is_pairs {
            answers.extend(rows.iter().flat_map(|&row| [(split, row, 0), (split, row, 1)]));
        } else {
            answers.extend(rows.iter().map(|&row| (split, row, row)));
            answers.extend(mismatched_pairs(rows).into_iter().map(|(row, other)| (split, row, other)));
        }
    };
    let mut sampler = Sampler::new(data, config);
    // After one epoch of pairs all rows were visited.
    let most = if is_pairs { sampler.steps_per_epoch().saturating_mul(2) } else { u64::MAX };
    for step in 0..steps.min(most) {
        sampler.window(step).iter().for_each(|rows| add(Split::Train, rows));
    }
    let held_out: Vec<u32> = (0..held_out.map_or(0, TokenizedDataset::len) as u32).collect();
    held_out.chunks(config.eval_batch.max(1)).for_each(|rows| add(Split::HeldOut, rows));
    answers
}

impl PreferenceBatch {
    /// Does the adapter's dropout apply?
    pub fn has_dropout(&self) -> bool {
        !self.options.disable_dropout
    }

    /// The loss of the batch, from the losses of its labels. `divergence` is that of [`divergences`].
    pub fn loss(&self, losses: &Tensor, divergence: Option<f64>) -> Result<ObjectiveLoss> {
        let PreferenceBatch { options, labels, reference, desirable, .. } = self;
        match options.kind {
            Objective::Orpo => orpo::loss(options, labels, losses),
            Objective::Simpo => simpo::loss(options, labels, losses),
            Objective::Kto => kto::loss(options, labels, (desirable, divergence.unwrap_or(0.0)), reference, losses),
            Objective::Dpo => dpo::loss(options, labels, reference, losses),
            Objective::Sft | Objective::Grpo => Err(Error::bug("a batch of preferences for another objective")),
        }
    }
}

/// Of each batch that has prompts with other completions: the mean of log p − log p_reference over them, at least 0.
/// Without gradients and without dropout.
pub fn divergences(decoder: &Decoder, batches: &[(&dyn Trainable, &PreferenceBatch)]) -> Result<Vec<Option<f64>>> {
    let with: Vec<(&dyn Trainable, &MismatchedBatch)> =
        batches.iter().filter_map(|(trainable, batch)| Some((*trainable, batch.mismatched.as_ref()?))).collect();
    if with.is_empty() {
        return Ok(vec![None; batches.len()]);
    }
    let active = with.iter().enumerate().filter_map(|(part, (trainable, _))| trainable.active(Some(part), None));
    let adapters = AdapterSet::new(active.collect());
    let inputs: Vec<&Batch> = with.iter().map(|(_, mismatched)| &mismatched.batch).collect();
    let losses = no_grad(|| batch_losses(decoder, &inputs, &adapters))?;
    let estimates = with.iter().enumerate().map(|(part, (_, MismatchedBatch { labels, reference, .. }))| {
        let logps = values(&labels.logps(&losses.of(part)?)?)?;
        let sum: f64 = logps.iter().zip(reference).map(|(logp, reference)| logp - reference).sum();
        Ok((sum / logps.len().max(1) as f64).max(0.0))
    });
    let mut estimates = estimates.collect::<Result<Vec<f64>>>()?.into_iter();
    Ok(batches.iter().map(|(_, batch)| batch.mismatched.as_ref().and_then(|_| estimates.next())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_are_rotated_by_one_within_the_batch() {
        assert_eq!(mismatched_pairs(&[5, 2, 9]), [(5, 9), (2, 5), (9, 2)]);
        assert_eq!(mismatched_pairs(&[4]), [(4, 4)]);
    }
}
