//! The order in which rows are trained on: a pure function of (rows, settings, step).

use super::config::TrainConfig;
use crate::data::tokenized::TokenizedDataset;
use std::cmp::Reverse;

/// The most optimizer steps in a stretch that is sorted by length, as in transformers' `LengthGroupedSampler`.
const MOST_STEPS_SORTED: usize = 50;
/// The number of sorted stretches in short data sets.
const LEAST_STRETCHES: usize = 4;

/// Gives the rows of each optimizer step, as micro-batches of row numbers. Every epoch has its own random order, or with
/// `shuffle: false` that of the data; its last micro-batch and its last window may be smaller, as in transformers' Trainer.
#[derive(Debug)]
pub struct Sampler<'a> {
    data: &'a TokenizedDataset,
    seed: u64,
    batch: usize,
    accumulation: usize,
    /// Steps on the same rows.
    repeats: u64,
    steps_per_epoch: u64,
    group_by_length: bool,
    shuffle: bool,
    /// The number and the order of the current epoch.
    order: Option<(u64, Vec<u32>)>,
}

impl<'a> Sampler<'a> {
    pub fn new(data: &'a TokenizedDataset, config: &TrainConfig) -> Self {
        let steps_per_epoch = config.steps_per_epoch(data.len());
        let (batch, accumulation) = config.rows_drawn();
        Sampler {
            data,
            seed: config.seed,
            batch,
            accumulation,
            repeats: config.objective.steps_per_rollout(),
            steps_per_epoch,
            group_by_length: config.grouping.group_by_length,
            shuffle: config.shuffle,
            order: None,
        }
    }

    /// The micro-batches of optimizer step `step`, counted from 0.
    pub fn window(&mut self, step: u64) -> Vec<Vec<u32>> {
        let (epoch, within) = (step / self.steps_per_epoch, (step % self.steps_per_epoch / self.repeats) as usize);
        if self.order.as_ref().is_none_or(|(known, _)| *known != epoch) {
            self.order = Some((epoch, self.epoch_order(epoch)));
        }
        let order = self.order.as_ref().map_or(&[][..], |(_, order)| order);
        let batches = order.chunks(self.batch).skip(within * self.accumulation).take(self.accumulation);
        batches.map(<[u32]>::to_vec).collect()
    }

    fn epoch_order(&self, epoch: u64) -> Vec<u32> {
        if !self.shuffle {
            return (0..self.data.len() as u32).collect();
        }
        let order = self.data.epoch_order(self.seed, epoch);
        if !self.group_by_length {
            return order;
        }
        let length = |row: u32| self.data.row(row as usize).map_or(0, |row| row.len());
        grouped_by_length(order, length, self.batch * self.accumulation)
    }

    /// Optimizer steps in one epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.steps_per_epoch
    }

    /// The epochs done after `steps` optimizer steps, with fractions.
    pub fn epochs_after(&self, steps: u64) -> f64 {
        steps as f64 / self.steps_per_epoch as f64
    }
}

/// A random order in which rows of similar length are neighbours: stretches of several steps, each of `step` rows,
/// are sorted from long to short. The longest row comes first, so that a run that does not fit into memory fails at
/// once.
pub fn grouped_by_length(mut order: Vec<u32>, length: impl Fn(u32) -> usize, step: usize) -> Vec<u32> {
    let step = step.max(1);
    let steps = (order.len() / step.saturating_mul(LEAST_STRETCHES)).clamp(1, MOST_STEPS_SORTED);
    let stretch = steps.saturating_mul(step);
    for part in order.chunks_mut(stretch) {
        part.sort_by_key(|&row| Reverse(length(row)));
    }
    let starts = (0..order.len()).step_by(stretch);
    // `min_by_key` takes the first of several longest rows, `max_by_key` would take the last.
    if let Some(longest) = starts.min_by_key(|&at| Reverse(length(order[at]))) {
        order.swap(0, longest);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn rows_are_grouped_as_transformers_groups_them() {
        let golden: Value = serde_json::from_str(include_str!("../../tests/golden/training/grouped.json")).unwrap();
        let numbers = |value: &Value| -> Vec<u32> {
            value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as u32).collect()
        };
        let cases = golden["cases"].as_array().unwrap();
        assert!(cases.len() >= 6);
        for case in cases {
            let (order, lengths) = (numbers(&case["permutation"]), numbers(&case["lengths"]));
            let step = case["batch_size"].as_u64().unwrap() as usize;
            let grouped = grouped_by_length(order.clone(), |row| lengths[row as usize] as usize, step);
            assert_eq!(grouped, numbers(&case["indices"]), "{} rows, steps of {step}", lengths.len());
            let (mut one, mut other) = (order, grouped);
            one.sort_unstable();
            other.sort_unstable();
            assert_eq!(one, other, "every row once");
        }
        assert!(grouped_by_length(Vec::new(), |_| 0, 4).is_empty());
    }
}
