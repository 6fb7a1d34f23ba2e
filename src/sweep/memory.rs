//! Finds how many trials fit into memory side by side: measures a step and an evaluation of the largest.

use super::task::{SharedInputs, Task};
use crate::data::batch::Batch;
use crate::data::tokenized::TokenizedDataset;
use crate::error::{Kind, Result};
use crate::lora::{Adapter, AdapterSet, Trainable};
use crate::model::Decoder;
use crate::train::memory::process::{free, growth};
use crate::train::rehearsal::planned_memory;
use crate::train::step::{backward, batch_losses, predicted_labels};
use std::cmp::Reverse;
use tch::no_grad;

/// The fraction of the free memory that trials may use: other programs need some, and the allocator keeps holes.
const USABLE: f64 = 0.7;
/// Parameters, gradients and two moments.
const COPIES: u64 = 4;

/// The number of trials of `bytes` each that fit into `free`: at least 1.
pub fn that_fit(free: u64, bytes: u64) -> usize {
    ((free as f64 * USABLE / bytes.max(1) as f64) as usize).max(1)
}

/// The number of trials that fit into memory, at least 1. Measures the step with the largest planned memory and the
/// largest evaluation. Where the system does not report memory there is no bound: groups are halved when it runs out.
pub fn trials_that_fit(decoder: &Decoder, shared: SharedInputs, tasks: &[Task]) -> Result<usize> {
    let Some(free) = free(decoder.device) else { return Ok(usize::MAX) };
    let Some((task, adapter)) = largest(decoder, shared, tasks)? else { return Ok(1) };
    let states = adapter.parameters.count() * 4 * COPIES;
    let step = growth(decoder.device, || longest_step(decoder, shared, &task, &adapter))?;
    let evaluation = growth(decoder.device, || longest_evaluation(decoder, shared, tasks, &adapter))?;
    Ok(step.max(evaluation).map_or(usize::MAX, |activations| that_fit(free, states + activations)))
}

/// The trial with the largest planned memory of a step, and its adapter. Trials whose adapters cannot be made are
/// skipped: they will fail without taking memory.
fn largest<'a>(decoder: &Decoder, shared: SharedInputs, tasks: &[Task<'a>]) -> Result<Option<(Task<'a>, Adapter)>> {
    let planned = |task: &Task| planned_memory(decoder, &task.run(shared)).map_or(0, |parts| parts.total());
    let mut tasks: Vec<(u64, &Task)> = tasks.iter().map(|task| (planned(task), task)).collect();
    tasks.sort_by_key(|(bytes, _)| Reverse(*bytes));
    for (_, task) in tasks {
        match Adapter::new(task.spec.clone(), decoder, 0) {
            Ok(adapter) => return Ok(Some((*task, adapter))),
            Err(error) if matches!(error.kind, Kind::Stopped | Kind::Memory) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Runs forward and backward over the longest rows that a micro-batch can have.
fn longest_step(decoder: &Decoder, shared: SharedInputs, task: &Task, adapter: &Adapter) -> Result<()> {
    let batch = longest(shared.train, task.config.batch)?;
    let adapters = AdapterSet { active: adapter.active(Some(0), None).into_iter().collect() };
    if predicted_labels(&batch) > 0 {
        backward(decoder, &[&batch], &adapters, &[1.0], task.config.gradient_checkpointing)?;
    }
    Ok(())
}

/// Runs forward over the longest held-out rows, as many as the largest evaluation batch of the trials.
fn longest_evaluation(decoder: &Decoder, shared: SharedInputs, tasks: &[Task], adapter: &Adapter) -> Result<()> {
    let Some(test) = shared.test else { return Ok(()) };
    let most = tasks.iter().map(|task| task.config.eval_batch).max().unwrap_or(1);
    let batch = longest(test, most)?;
    let adapters = AdapterSet { active: adapter.active(Some(0), None).into_iter().collect() };
    if predicted_labels(&batch) > 0 {
        no_grad(|| batch_losses(decoder, &[&batch], &adapters))?;
    }
    Ok(())
}

fn longest(data: &TokenizedDataset, count: usize) -> Result<Batch> {
    let length = |row: u32| data.row(row as usize).map_or(0, |row| row.ids().len());
    let mut rows: Vec<u32> = (0..data.len() as u32).collect();
    rows.sort_by_key(|&row| Reverse(length(row)));
    rows.truncate(count);
    data.batch(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::store::{TokenizedInfo, TokenizedRow};
    use crate::lora::{LoadOptions, LoraSpec, Model};
    use crate::sweep::trial::Trial;
    use crate::sweep::Point;
    use crate::train::TrainConfig;
    use std::path::Path;

    #[test]
    fn the_largest_trial_is_the_one_with_the_largest_step() {
        let model = Model::random(Path::new("scripts/tiny"), 0, &LoadOptions::default()).unwrap();
        let row = || TokenizedRow { ids: vec![1; 40], trained: vec![true; 40], flags: 0 };
        let train = TokenizedDataset::from_rows((0..40).map(|_| row()), TokenizedInfo::default()).unwrap();
        let (point, settings) = (Point { values: serde_json::Map::new() }, serde_json::Value::Null);
        let trial = Trial { index: 0, name: String::new(), point, settings, dir: "x".into() };
        let shared = SharedInputs { base: "x", tokenizer: None, train: &train, test: None, checkpoints: None };
        let of = |r, batch| (LoraSpec { r, ..LoraSpec::default() }, TrainConfig { batch, ..TrainConfig::default() });
        for points in [[of(2, 32), of(2, 1)], [of(2, 1), of(2, 32)], [of(2, 32), of(16, 1)], [of(2, 32), of(1, 32)]] {
            let task = |(spec, config)| Task { trial: &trial, spec, config };
            let tasks: Vec<Task> = points.iter().map(|(spec, config)| task((spec, config))).collect();
            let (task, adapter) = largest(model.decoder(), shared, &tasks).unwrap().unwrap();
            assert_eq!((task.config.batch, adapter.spec.r), (32, 2));
        }
    }
}
