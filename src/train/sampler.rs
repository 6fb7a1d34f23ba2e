//! The order in which rows are trained on: a pure function of (rows, seed, step).

use super::config::TrainConfig;
use crate::data::tokenized::TokenizedDataset;

/// Gives the rows of each optimizer step: micro-batches of row numbers. Every epoch has
/// its own random order; its last micro-batch and its last window may be smaller, as with
/// transformers' Trainer.
#[derive(Debug)]
pub struct Sampler<'a> {
    data: &'a TokenizedDataset,
    seed: u64,
    batch: usize,
    accumulation: usize,
    steps_per_epoch: u64,
    /// The order of the epoch in use, with its number.
    order: Option<(u64, Vec<u32>)>,
}

impl<'a> Sampler<'a> {
    pub fn new(data: &'a TokenizedDataset, config: &TrainConfig) -> Self {
        let steps_per_epoch = config.steps_per_epoch(data.len());
        Sampler {
            data,
            seed: config.seed,
            batch: config.batch,
            accumulation: config.accumulation,
            steps_per_epoch,
            order: None,
        }
    }

    /// The micro-batches of optimizer step `step`, counted from 0.
    pub fn window(&mut self, step: u64) -> Vec<Vec<u32>> {
        let (epoch, within) = (step / self.steps_per_epoch, (step % self.steps_per_epoch) as usize);
        if self.order.as_ref().is_none_or(|(known, _)| *known != epoch) {
            self.order = Some((epoch, self.data.epoch_order(self.seed, epoch)));
        }
        let order = self.order.as_ref().map_or(&[][..], |(_, order)| order);
        let batches = order.chunks(self.batch).skip(within * self.accumulation).take(self.accumulation);
        batches.map(<[u32]>::to_vec).collect()
    }

    /// The share of epochs consumed after `steps` optimizer steps.
    pub fn epochs_after(&self, steps: u64) -> f64 {
        steps as f64 / self.steps_per_epoch as f64
    }
}
