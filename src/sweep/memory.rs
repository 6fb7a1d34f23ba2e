//! Finds how many trials fit into memory side by side: measures a step and an evaluation of the largest.

use super::task::{SharedInputs, Task};
use crate::data::batch::Batch;
use crate::data::tokenized::TokenizedDataset;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::lora::{Adapter, AdapterSet, Trainable};
use crate::model::Decoder;
use crate::native::gpu;
use crate::train::memory::process::{free, give_back, growth, limit};
use crate::train::nested::{adapters_of, pass_parts, MicroBatch};
use crate::train::rehearsal::planned_memory;
use crate::train::step::{backward, batch_losses, predicted_labels};
use serde_json::json;
use std::cmp::Reverse;
use std::path::Path;
use tch::{no_grad, Device};

/// The fraction of the free memory that trials may use: other programs need some, and the allocator keeps holes.
const USABLE: f64 = 0.7;
/// Parameters, gradients and two moments.
const COPIES: u64 = 4;

/// The number of trials of `bytes` each that fit into `free`: at least 1.
pub fn that_fit(free: u64, bytes: u64) -> usize {
    ((free as f64 * USABLE / bytes.max(1) as f64) as usize).max(1)
}

/// Runs `tasks` side by side. Those for which memory ran out run again in groups of half as many, down to one. `run_out`
/// is told how many did not fit and how many are tried next. Gives one outcome for each, in order.
pub fn in_halves<T: Copy, O>(
    tasks: &[T],
    run: &mut dyn FnMut(&[T]) -> Vec<Result<O>>,
    run_out: &mut dyn FnMut(usize, usize),
) -> Vec<Result<O>> {
    let mut outcomes = run(tasks);
    let is_out_of_memory = |outcome: &Result<O>| matches!(outcome, Err(error) if error.kind == Kind::Memory);
    let again: Vec<usize> = (0..outcomes.len()).filter(|&at| is_out_of_memory(&outcomes[at])).collect();
    if again.is_empty() || tasks.len() < 2 || outcomes.len() != tasks.len() {
        return outcomes;
    }
    let fewer = tasks.len().div_ceil(2);
    run_out(tasks.len(), fewer);
    for half in again.chunks(fewer) {
        let trials: Vec<T> = half.iter().map(|&at| tasks[at]).collect();
        for (&at, outcome) in half.iter().zip(in_halves(&trials, run, run_out)) {
            outcomes[at] = outcome;
        }
    }
    outcomes
}

/// Gives back what a step that failed left in the hands of the allocator.
pub fn forget_activations(device: Device) {
    match device {
        // Without it the next group has less memory, and may fail too: no error of its own.
        Device::Cuda(_) => drop(gpu::empty_cache()),
        _ => give_back(),
    }
}

/// In the folder of a sweep: how many trials fit side by side, where more of them ran out of memory.
const REMEMBERED: &str = ".memory.json";

/// How many trials fitted in an earlier run of the sweep in `out`, unless there is more memory now.
pub fn remembered(out: &Path, device: Device) -> Option<usize> {
    let memory = files::read_json(&out.join(REMEMBERED)).ok()?;
    let had = memory.get("memory")?.as_u64()?;
    // A limit moves a little with what else runs.
    let has_more = limit(device).is_some_and(|now| now as f64 > had as f64 * 1.1);
    let trials = memory.get("trials_side_by_side")?.as_u64()? as usize;
    (!has_more && trials > 0).then_some(trials)
}

pub fn remember(out: &Path, device: Device, trials: usize) -> Result<()> {
    let memory = json!({ "trials_side_by_side": trials, "memory": limit(device) });
    files::write_json(&out.join(REMEMBERED), &memory)
}

/// The number of trials that fit into memory, at least 1. Measures the step with the largest planned memory and the
/// largest evaluation. Where the system does not report memory there is no bound: groups are halved when it runs out.
pub fn trials_that_fit(decoder: &Decoder, shared: SharedInputs, tasks: &[Task]) -> Result<usize> {
    // All trials share them.
    decoder.make_packed_copies()?;
    let Some(free) = free(decoder.device) else { return Ok(usize::MAX) };
    let Some((task, adapter)) = largest(decoder, shared, tasks)? else { return Ok(1) };
    let states = adapter.parameters.count() * 4 * COPIES;
    let measured = || {
        let step = growth(decoder.device, || longest_step(decoder, shared, &task, &adapter))?;
        Ok(step.max(growth(decoder.device, || longest_evaluation(decoder, shared, tasks, &adapter))?))
    };
    let most = match measured() {
        // Alone it may still fit: a trial has other rows than the longest.
        Err(Error { kind: Kind::Memory, .. }) => {
            forget_activations(decoder.device);
            return Ok(1);
        }
        measured => measured?,
    };
    Ok(most.map_or(usize::MAX, |activations| that_fit(free, states + activations)))
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
    if predicted_labels(&batch) > 0 {
        let mut parts = pass_parts(adapter, &batch, MicroBatch::first());
        let adapters = adapters_of(&mut parts);
        let batches: Vec<&Batch> = parts.iter().map(|part| part.batch.as_ref()).collect();
        backward(decoder, &batches, &adapters, &vec![1.0; batches.len()], task.config.gradient_checkpointing)?;
    }
    Ok(())
}

/// Runs forward over the longest held-out rows, as many as the largest evaluation batch of the trials.
fn longest_evaluation(decoder: &Decoder, shared: SharedInputs, tasks: &[Task], adapter: &Adapter) -> Result<()> {
    let Some(test) = shared.test else { return Ok(()) };
    let most = tasks.iter().map(|task| task.config.eval_batch).max().unwrap_or(1);
    let batch = longest(test, most)?;
    let adapters = AdapterSet::new(adapter.active(Some(0), None).into_iter().collect());
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
    fn a_group_that_does_not_fit_is_halved_down_to_one() {
        // So many fit at once; the eighth fits nowhere, and the second has a mistake of its own.
        for (room, expected) in
            [(100, vec![8]), (4, vec![8, 4, 4]), (1, vec![8, 4, 2, 1, 1, 2, 1, 1, 4, 2, 1, 1, 2, 1, 1])]
        {
            let (mut sizes, mut told) = (Vec::new(), Vec::new());
            let tasks: Vec<u32> = (1..=8).collect();
            let mut run = |tasks: &[u32]| {
                sizes.push(tasks.len());
                let outcome = |&task: &u32| match task {
                    _ if tasks.len() > room => Err(Error::new(Kind::Memory, "out of memory")),
                    2 => Err(Error::data("a mistake")),
                    8 if room == 1 => Err(Error::new(Kind::Memory, "out of memory")),
                    task => Ok(task * 10),
                };
                tasks.iter().map(outcome).collect()
            };
            let outcomes = in_halves(&tasks, &mut run, &mut |trials, fewer| told.push((trials, fewer)));
            let values: Vec<Option<u32>> = outcomes.iter().map(|outcome| outcome.as_ref().ok().copied()).collect();
            let last = if room == 1 { None } else { Some(80) };
            assert_eq!(values, [Some(10), None, Some(30), Some(40), Some(50), Some(60), Some(70), last]);
            assert_eq!(outcomes[1].as_ref().unwrap_err().kind, Kind::Data);
            assert_eq!(sizes, expected);
            assert_eq!(told.len(), expected.iter().filter(|&&size| size > room).count());
        }
    }

    #[test]
    fn some_that_do_not_fit_run_again_alone() {
        // Of three workers one ran out.
        let mut calls = Vec::new();
        let mut run = |tasks: &[u32]| {
            calls.push(tasks.to_vec());
            let fits = |task: u32| task < 5 || tasks.len() < 3;
            tasks.iter().map(|&task| if fits(task) { Ok(task) } else { Err(Error::new(Kind::Memory, "")) }).collect()
        };
        let outcomes = in_halves(&[1, 2, 3, 4, 5, 6], &mut run, &mut |_, _| {});
        assert!(outcomes.iter().all(Result::is_ok));
        assert_eq!(calls, [vec![1, 2, 3, 4, 5, 6], vec![5, 6]]);
    }

    #[test]
    fn what_fitted_is_remembered_until_there_is_more_memory() {
        let out = tempfile::tempdir().unwrap();
        assert_eq!(remembered(out.path(), Device::Cpu), None);
        remember(out.path(), Device::Cpu, 3).unwrap();
        assert_eq!(remembered(out.path(), Device::Cpu), Some(3));
        let path = out.path().join(REMEMBERED);
        files::write_json(&path, &json!({ "trials_side_by_side": 3, "memory": 1 << 20 })).unwrap();
        assert_eq!(remembered(out.path(), Device::Cpu), None);
    }

    #[test]
    fn the_largest_trial_is_the_one_with_the_largest_step() {
        let model = Model::random(Path::new("scripts/tiny"), 0, &LoadOptions::default()).unwrap();
        let row = || TokenizedRow { ids: vec![1; 40], trained: vec![true; 40], ..TokenizedRow::default() };
        let train = TokenizedDataset::from_rows((0..40).map(|_| row()), TokenizedInfo::default()).unwrap();
        let (point, settings) = (Point { values: serde_json::Map::new() }, serde_json::Value::Null);
        let trial = Trial { index: 0, name: String::new(), point, settings, dir: "x".into(), origin: None };
        let shared =
            SharedInputs { base: "x", tokenizer: None, train: &train, test: None, checkpoints: None, references: None };
        let of = |r, batch| (LoraSpec { r, ..LoraSpec::default() }, TrainConfig { batch, ..TrainConfig::default() });
        for points in [[of(2, 32), of(2, 1)], [of(2, 1), of(2, 32)], [of(2, 32), of(16, 1)], [of(2, 32), of(1, 32)]] {
            let task = |(spec, config)| Task { trial: &trial, spec, config, cohort: 0, has_loss: false, until: None };
            let tasks: Vec<Task> = points.iter().map(|(spec, config)| task((spec, config))).collect();
            let (task, adapter) = largest(model.decoder(), shared, &tasks).unwrap().unwrap();
            assert_eq!((task.config.batch, adapter.spec.r), (32, 2));
        }
    }
}
