//! What trials of a LoRA sweep do: fresh adapters, training side by side, evaluation, their
//! folders. Which of them run in which thread is `lanes`'s.

use super::progress::SweepProgress;
use super::record::Outcome;
use super::task::{SharedInputs, Task};
use crate::error::{Error, Kind, Result};
use crate::eval::loss::evaluation;
use crate::lora::{peft, Adapter};
use crate::model::Decoder;
use crate::train::observer::{Observer, Several};
use crate::train::overfitting::OVERFITS_AFTER;
use crate::train::recorder::Recorder;
use crate::train::trainer::{Evaluate, PEAK_MEMORY};
use crate::train::{self, train_together};
use std::collections::BTreeMap;

/// One trial's adapter and its records while it trains.
struct Running {
    adapter: Adapter,
    recorder: Recorder,
}

/// Trains trials side by side and fills their folders: `metrics.jsonl`, events, `adapter/`.
/// Where memory runs out, half of them are trained after the other half.
pub fn run_group(
    decoder: &Decoder,
    shared: SharedInputs,
    tasks: &[Task],
    progress: &SweepProgress,
) -> Vec<Result<Outcome>> {
    match try_group(decoder, shared, tasks, progress) {
        Ok(outcomes) => outcomes,
        Err(error) if error.kind == Kind::Memory && tasks.len() > 1 => {
            let (first, second) = tasks.split_at(tasks.len() / 2);
            progress.note(&format!(
                "{} trials side by side do not fit into memory: trying {}",
                tasks.len(),
                second.len()
            ));
            let mut outcomes = run_group(decoder, shared, first, progress);
            outcomes.extend(run_group(decoder, shared, second, progress));
            outcomes
        }
        Err(error) => tasks.iter().map(|_| Err(error.clone())).collect(),
    }
}

/// An error of the whole group is one that would stop every trial in it.
fn try_group(
    decoder: &Decoder,
    shared: SharedInputs,
    tasks: &[Task],
    progress: &SweepProgress,
) -> Result<Vec<Result<Outcome>>> {
    let mut begun: Vec<Result<Running>> = tasks.iter().map(|task| begin(decoder, task)).collect();
    let trained = train_begun(decoder, shared, tasks, &mut begun, progress)?;
    let mut trained = trained.into_iter();
    let ends = begun.into_iter().zip(tasks).map(|(running, task)| {
        let running = running?;
        match trained.next().unwrap_or_else(|| Err(Error::bug("a trial without an outcome"))) {
            Ok(outcome) => end(shared, task, running, &outcome),
            // The last steps before a failure are those that one wants to see.
            Err(error) => running.recorder.finish().and(Err(error)),
        }
    });
    Ok(ends.collect())
}

fn begin(decoder: &Decoder, Task { trial, spec, config }: &Task) -> Result<Running> {
    let adapter = Adapter::new((*spec).clone(), decoder, config.seed)?;
    Ok(Running { adapter, recorder: Recorder::create(&trial.dir, config.log_every, &trial.settings)? })
}

/// Trains those that could begin; gives one outcome for each of them.
fn train_begun(
    decoder: &Decoder,
    shared: SharedInputs,
    tasks: &[Task],
    begun: &mut [Result<Running>],
    progress: &SweepProgress,
) -> Result<Vec<Result<train::Outcome>>> {
    let going: Vec<(&mut Adapter, &mut Recorder, &Task)> = begun
        .iter_mut()
        .zip(tasks)
        .filter_map(|(running, task)| running.as_mut().ok().map(|own| (&mut own.adapter, &mut own.recorder, task)))
        .collect();
    let Some(batch) = tasks.first().map(|task| task.config.eval_batch) else { return Ok(Vec::new()) };
    let mut measure = shared.test.map(|test| evaluation(test, batch));
    let mut watchers: Vec<_> = going.iter().map(|(_, _, task)| progress.watcher(task.trial)).collect();
    let mut trainables = Vec::new();
    let mut observers: Vec<Several> = Vec::new();
    for ((adapter, recorder, task), watcher) in going.into_iter().zip(&mut watchers) {
        observers.push(Several(vec![recorder as &mut dyn Observer, watcher]));
        trainables.push((adapter, task.config));
    }
    let jobs = trainables.into_iter().zip(&mut observers).map(|((adapter, config), observer)| train::Job {
        trainable: adapter,
        config,
        observer,
    });
    train_together(decoder, jobs.collect(), shared.train, measure.as_mut().map(|measure| measure as &mut Evaluate))
}

/// Saves what a trial leaves behind.
fn end(shared: SharedInputs, task: &Task, running: Running, outcome: &train::Outcome) -> Result<Outcome> {
    let Running { adapter, recorder } = running;
    recorder.finish()?;
    let folder = task.trial.adapter_dir();
    peft::save(&adapter, shared.base, &folder)?;
    if let Some(tokenizer) = shared.tokenizer {
        tokenizer.copy_to(&folder)?;
    }
    let mut metrics = BTreeMap::new();
    // Where trials are evaluated at their end only, the step of the best tells nothing.
    if let Some(best_step) = outcome.best_step.filter(|_| task.config.eval_every.is_on_the_way()) {
        metrics.insert("best_step".to_owned(), best_step as f64);
    }
    if let Some(found) = outcome.overfitting {
        metrics.insert(OVERFITS_AFTER.to_owned(), found.best_step as f64);
    }
    if let Some(bytes) = outcome.peak_memory {
        metrics.insert(PEAK_MEMORY.to_owned(), bytes as f64);
    }
    Ok(Outcome {
        trainable_params: adapter.parameters.count(),
        train_loss: outcome.train_loss,
        eval_loss: outcome.eval_loss,
        tokens: outcome.tokens,
        seconds: outcome.seconds,
        metrics,
    })
}
