//! The trials of a LoRA sweep: makes adapters, trains them side by side, evaluates them, fills their folders.
//!
//! Leaves to others: which trials train in which thread (`workers.rs`).

use super::progress::SweepProgress;
use super::record::{Measurements, Trained};
use super::task::{SharedInputs, Task};
use super::trial::Trial;
use crate::error::{Error, Result};
use crate::eval::loss::evaluation;
use crate::hub::tokenizer::Tokenizer;
use crate::lora::{peft, Adapter};
use crate::model::Decoder;
use crate::train;
use crate::train::callbacks::{Callbacks, LossFunction};
use crate::train::checkpoint::writer::RunLabel;
use crate::train::objective::preference::PreferenceInputs;
use crate::train::outcome::PEAK_MEMORY;
use crate::train::overfitting::OVERFITS_AFTER;
use crate::train::recorded::{save_adapter, train_recorded, RecordedJob};
use crate::train::reserve::Reserve;
use crate::train::trainer::Evaluate;
use std::collections::{BTreeMap, BTreeSet};

/// Measures a trained adapter further, by name.
pub type TrialMetrics<'a> = dyn Fn(&Trial, Adapter) -> Result<BTreeMap<String, f64>> + 'a;
/// Makes the loss of a trial that has one of the caller's, over the adapter that it trains.
pub type TrialLosses<'a> = dyn Fn(&Trial, Adapter) -> Result<Box<LossFunction<'a>>> + 'a;

/// Functions of the caller that take part in trials. They stay on the caller's thread.
#[derive(Clone, Copy, Default)]
pub struct TrialFunctions<'a> {
    pub metrics: Option<&'a TrialMetrics<'a>>,
    pub losses: Option<&'a TrialLosses<'a>>,
}

/// Trains trials side by side and fills their folders: `metrics.jsonl`, events, `adapter/`. An error that would stop
/// every trial, such as memory that ran out, is the outcome of each. A trial that pauses has no adapter in its folder yet.
pub fn run_group(
    decoder: &Decoder,
    shared: SharedInputs,
    tasks: &[Task],
    progress: &SweepProgress,
    losses: Option<&TrialLosses>,
) -> Vec<Result<Trained>> {
    match try_group(decoder, shared, tasks, progress, losses) {
        Ok(outcomes) => outcomes,
        Err(error) => tasks.iter().map(|_| Err(error.clone())).collect(),
    }
}

fn names<'a>(tasks: &[Task<'a>]) -> Vec<&'a str> {
    tasks.iter().map(|task| task.trial.name.as_str()).collect()
}

/// An error of the group is one that would fail every trial in it.
fn try_group(
    decoder: &Decoder,
    shared: SharedInputs,
    tasks: &[Task],
    progress: &SweepProgress,
    losses: Option<&TrialLosses>,
) -> Result<Vec<Result<Trained>>> {
    let Some(batch) = tasks.first().map(|task| task.config.eval_batch) else { return Ok(Vec::new()) };
    let adapter = |task: &Task| Adapter::new(task.spec.clone(), decoder, task.config.seed);
    let mut adapters: Vec<Result<Adapter>> = tasks.iter().map(adapter).collect();
    let beside = shared.tokenizer.map_or(0, Tokenizer::bytes);
    let reserve = |(adapter, task): (&mut Result<Adapter>, &Task)| match adapter {
        Ok(adapter) => Reserve::new(&task.trial.dir, adapter.parameters.bytes() + beside).map(Some),
        Err(_) => Ok(None),
    };
    let mut reserves: Vec<Result<Option<Reserve>>> = adapters.iter_mut().zip(tasks).map(reserve).collect();
    for (adapter, reserve) in adapters.iter_mut().zip(&mut reserves) {
        if let Err(error) = reserve {
            *adapter = Err(error.clone());
        }
    }
    let mut begun: Vec<Option<Box<LossFunction>>> = Vec::new();
    for (adapter, task) in adapters.iter_mut().zip(tasks) {
        let loss = adapter.as_ref().ok().and_then(|adapter| begin_loss(adapter, task, losses)).transpose();
        begun.push(loss.unwrap_or_else(|error| {
            *adapter = Err(error);
            None
        }));
    }
    let mut observers: Vec<_> = tasks.iter().map(|task| progress.observer(task.trial)).collect();
    let states = match shared.checkpoints {
        Some(checkpoints) => checkpoints.states(&names(tasks))?,
        None => tasks.iter().map(|_| None).collect(),
    };
    let mut writer = shared.checkpoints.map(|checkpoints| checkpoints.writer(&names(tasks)));
    // A trial whose adapter cannot be made, or has no room on the disk, fails alone.
    let jobs = adapters.iter_mut().zip(&mut observers).zip(tasks).zip(states).zip(&begun);
    let jobs = jobs.filter_map(|((((adapter, observer), task), state), loss)| {
        Some(RecordedJob {
            trainable: adapter.as_mut().ok()?,
            config: task.config,
            folder: Some(&task.trial.dir),
            settings: &task.trial.settings,
            label: RunLabel { name: task.trial.name.clone(), conditions: task.trial.settings.clone() },
            state,
            observer,
            callbacks: Callbacks { loss: loss.as_deref(), ..Callbacks::default() },
            processes: None,
            until: task.until,
        })
    });
    let mut measure = shared.test.map(|test| evaluation(test, batch));
    let evaluate = measure.as_mut().map(|measure| measure as &mut Evaluate);
    let preferences = PreferenceInputs { held_out: shared.test, references: shared.references };
    let trained = train_recorded(decoder, jobs.collect(), shared.train, evaluate, writer.as_mut(), preferences)?;
    let mut trained = trained.into_iter();
    let results = adapters.into_iter().zip(reserves).zip(tasks).map(|((adapter, reserve), task)| {
        let adapter = adapter?;
        // What is saved next takes its place.
        drop(reserve);
        let outcome = trained.next().unwrap_or_else(|| Err(Error::bug("a trial without an outcome")))?;
        if !outcome.is_paused {
            save_adapter(&adapter, shared.base, shared.tokenizer, &task.trial.dir)?;
        }
        Ok(Trained { measurements: measurements(task, &adapter, &outcome), is_paused: outcome.is_paused })
    });
    Ok(results.collect())
}

/// The loss of the caller for a trial that has one.
fn begin_loss<'a>(
    adapter: &Adapter,
    task: &Task,
    losses: Option<&TrialLosses<'a>>,
) -> Option<Result<Box<LossFunction<'a>>>> {
    task.has_loss.then(|| match losses {
        Some(begin) => begin(task.trial, adapter.shallow_clone()),
        None => Err(Error::bug("a trial whose loss is not at hand")),
    })
}

/// Adds what `metrics` measures of the adapters that these trials saved, each on its base. An error fails its trial. Those
/// that pause have saved none.
pub fn measured<'d>(
    results: Vec<Result<Trained>>,
    trials: &[&Trial],
    decoder_of: &dyn Fn(&Trial) -> Result<&'d Decoder>,
    metrics: Option<&TrialMetrics>,
) -> Vec<Result<Trained>> {
    let Some(metrics) = metrics else { return results };
    let measured = results.into_iter().zip(trials).map(|(result, trial)| {
        let mut trained = result?;
        if !trained.is_paused {
            let adapter = peft::load(&trial.adapter_dir(), decoder_of(trial)?)?;
            trained.measurements.add(metrics(trial, adapter)?)?;
        }
        Ok(trained)
    });
    measured.collect()
}

/// The measurements of a trial, for the results.
fn measurements(task: &Task, adapter: &Adapter, outcome: &train::TrainOutcome) -> Measurements {
    let mut metrics: BTreeMap<String, f64> = outcome.metrics.clone();
    // With evaluations at the end only, the best step is always the last: no column.
    if let Some(best_step) = outcome.best_step.filter(|_| task.config.eval_every.is_on_the_way()) {
        metrics.insert("best_step".to_owned(), best_step as f64);
    }
    if let Some(overfitting) = outcome.overfitting {
        metrics.insert(OVERFITS_AFTER.to_owned(), overfitting.best_step as f64);
    }
    if let Some(bytes) = outcome.peak_memory {
        metrics.insert(PEAK_MEMORY.to_owned(), bytes as f64);
    }
    Measurements {
        trainable_params: adapter.parameters.count(),
        train_loss: Some(outcome.train_loss),
        eval_loss: outcome.eval_loss,
        tokens: outcome.tokens,
        seconds: outcome.seconds,
        metrics,
        measured: BTreeSet::new(),
    }
}
