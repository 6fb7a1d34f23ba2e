//! Training runs, one or several side by side, built from the primitives of this folder.

use super::active_run::{ActiveRun, Job, Window};
use super::callbacks::Callbacks;
use super::checkpoint::{CheckpointWriter, RunState};
use super::config::TrainConfig;
use super::memory::process::PeakWatch;
use super::objective::evaluate::{self, Evaluation};
use super::objective::preference::{PreferenceInputs, PreferenceRun};
use super::objective::reference::References;
use super::observer::TrainObserver;
use super::outcome::TrainOutcome;
use super::saver::{note, Saver};
use super::update::{update_together, Member, StepSettings};
use crate::data::tokenized::TokenizedDataset;
use crate::error::{Error, Result};
use crate::format::thousands;
use crate::hub::mapped;
use crate::interrupt;
use crate::lora::Trainable;
use crate::model::Decoder;
use std::time::Instant;

/// Returns the mean loss per label on held-out rows for each of several runs.
pub type Evaluate<'a> = dyn FnMut(&Decoder, &[&dyn Trainable]) -> Result<Vec<f64>> + 'a;

/// Trains `trainable` on `data`. The result depends on the settings and the seed only.
pub fn train(
    decoder: &Decoder,
    trainable: &mut dyn Trainable,
    data: &TokenizedDataset,
    config: &TrainConfig,
    evaluate: Option<&mut Evaluate>,
    observer: &mut dyn TrainObserver,
) -> Result<TrainOutcome> {
    let job = Job { trainable, config, observer, callbacks: Callbacks::default(), until: None, processes: None };
    let mut outcomes = train_together(decoder, vec![job], data, evaluate)?;
    outcomes.pop().unwrap_or_else(|| Err(Error::bug("a run without an outcome")))
}

/// Trains several runs on `data` side by side: each step is one forward and backward pass for all of them, each with
/// its own rows. When a run fails or finishes, the others continue. An error of the function itself, such as a stop,
/// ends all of them.
pub fn train_together<'a>(
    decoder: &Decoder,
    jobs: Vec<Job<'a>>,
    data: &'a TokenizedDataset,
    evaluate: Option<&mut Evaluate>,
) -> Result<Vec<Result<TrainOutcome>>> {
    train_resumable(decoder, jobs, data, evaluate, Checkpoints::default(), PreferenceInputs::default())
}

/// Where runs go on from, and who saves them on the way.
#[derive(Default)]
pub struct Checkpoints<'a> {
    /// By job; a run without a state begins at its first step.
    pub states: Vec<Option<RunState>>,
    pub writer: Option<&'a mut CheckpointWriter>,
}

/// As [`train_together`], saved on the way and on every stop, and going on from earlier states. A run that goes on ends
/// with the numbers that it would have had without the stop.
///
/// # Errors
/// As [`train_together`]; a state that does not fit its job.
pub fn train_resumable<'a>(
    decoder: &Decoder,
    jobs: Vec<Job<'a>>,
    data: &'a TokenizedDataset,
    mut evaluate: Option<&mut Evaluate>,
    checkpoints: Checkpoints,
    preferences: PreferenceInputs,
) -> Result<Vec<Result<TrainOutcome>>> {
    if data.is_empty() {
        return Err(Error::data("the training split is empty: expected at least one row"));
    }
    let can_evaluate = evaluate.is_some();
    let memory = PeakWatch::begin(decoder.device);
    let vocabulary = decoder.config.vocab_size;
    let mut runs: Vec<ActiveRun> =
        jobs.into_iter().map(|job| ActiveRun::new(job, data, can_evaluate, vocabulary)).collect::<Result<Vec<_>>>()?;
    // Before earlier states are restored: the reference is the model as the run began.
    prepare_preferences(decoder, &mut runs, data, preferences)?;
    for (run, state) in runs.iter_mut().zip(checkpoints.states) {
        state.map_or(Ok(()), |state| run.restore(state))?;
    }
    let held_out = preferences.held_out;
    let mut saver = checkpoints.writer.map(|writer| Saver::new(writer, &runs)).transpose()?;
    let trained = go_on(decoder, &mut runs, data, &mut evaluate, held_out, saver.as_mut(), &memory);
    if let Some(saver) = &mut saver {
        saver.at_the_end(&mut runs, memory.peak(), trained.as_ref().err());
    }
    trained?;
    mapped::ensure_unchanged()?;
    let peak_memory = memory.peak();
    Ok(runs.into_iter().map(|run| run.finish(peak_memory)).collect())
}

/// Trains until no run is going.
fn go_on(
    decoder: &Decoder,
    runs: &mut [ActiveRun],
    data: &TokenizedDataset,
    evaluate: &mut Option<&mut Evaluate>,
    held_out: Option<&TokenizedDataset>,
    mut saver: Option<&mut Saver>,
    memory: &PeakWatch,
) -> Result<()> {
    // Of runs that were stopped between a step and its evaluation.
    if let Some(evaluate) = evaluate.as_mut() {
        evaluation(decoder, runs, *evaluate, held_out)?;
    }
    // Several processes stop together, in a step.
    let is_shared = runs.iter().any(|run| run.processes.is_some());
    while runs.iter().any(ActiveRun::is_going) {
        if !is_shared {
            interrupt::check()?;
        }
        step(decoder, runs, data)?;
        if let Some(evaluate) = evaluate.as_mut() {
            evaluation(decoder, runs, *evaluate, held_out)?;
        }
        if let Some(saver) = saver.as_mut() {
            saver.after_step(runs, memory);
        }
    }
    Ok(())
}

/// Readies the runs that train on preferences, and reports the pass over their reference: a sweep reports its own.
fn prepare_preferences(
    decoder: &Decoder,
    runs: &mut [ActiveRun],
    data: &TokenizedDataset,
    inputs: PreferenceInputs,
) -> Result<()> {
    let unshared = References::default();
    let is_shared = inputs.references.is_some();
    let inputs = PreferenceInputs { references: Some(inputs.references.unwrap_or(&unshared)), ..inputs };
    let jobs = runs.iter().map(|run| (&*run.trainable, run.config, run.schedule.steps));
    let jobs: Vec<(&dyn Trainable, &TrainConfig, u64)> = jobs.collect();
    let prepared = PreferenceRun::of_all(decoder, &jobs, data, inputs)?;
    runs.iter_mut().zip(prepared).for_each(|(run, prepared)| run.preference = prepared);
    let answers = unshared.answers();
    if answers > 0 && !is_shared {
        note(runs, &format!("reference: log-probabilities of {} answers", thousands(answers as u64)));
    }
    Ok(())
}

/// Takes one joint step of all runs that are going.
fn step(decoder: &Decoder, runs: &mut [ActiveRun], data: &TokenizedDataset) -> Result<()> {
    let started = Instant::now();
    let mut going: Vec<&mut ActiveRun> = runs.iter_mut().filter(|run| run.is_going()).collect();
    let windows: Vec<Window> = going.iter_mut().map(|run| run.window(data)).collect::<Result<_>>()?;
    let mut settings: Vec<StepSettings> = going.iter().map(|run| run.settings()).collect();
    let members = going.iter_mut().zip(&windows).zip(settings.drain(..));
    let mut members: Vec<Member> = members
        .map(|((run, window), settings)| Member {
            trainable: &mut *run.trainable,
            optimizer: &mut run.optimizer,
            window: &window.batches,
            totals: window.totals,
            preferences: &window.preferences,
            settings,
            loss: run.callbacks.loss,
            processes: run.processes,
        })
        .collect();
    let results = update_together(decoder, &mut members)?;
    drop(members);
    let time = started.elapsed();
    let tokens: Vec<usize> = windows.iter().map(|window| window.totals.tokens).collect();
    let all: usize = tokens.iter().sum();
    // Every run takes its step over, though an observer of another fails: their states are of one moment.
    let recorded = going.into_iter().zip(results).zip(tokens).map(|((run, result), tokens)| {
        let share = time.mul_f64(tokens as f64 / all.max(1) as f64);
        run.record(result, tokens, share)
    });
    let recorded: Vec<Result<()>> = recorded.collect();
    recorded.into_iter().collect()
}

/// The held-out losses of the prefixes of an adapter with nested ranks, each by its rank; that of the whole rank is the
/// run's.
fn prefix_losses(decoder: &Decoder, trainable: &dyn Trainable, evaluate: &mut Evaluate) -> Result<Vec<(String, f64)>> {
    let mut prefixes = trainable.prefixes();
    prefixes.pop();
    if prefixes.is_empty() {
        return Ok(Vec::new());
    }
    let each: Vec<&dyn Trainable> = prefixes.iter().map(|prefix| prefix as &dyn Trainable).collect();
    let losses = evaluate(decoder, &each)?;
    Ok(prefixes.iter().zip(losses).map(|(prefix, loss)| (format!("loss_r{}", prefix.rank()), loss)).collect())
}

/// Evaluates the runs that are due, all in one call.
fn evaluation(
    decoder: &Decoder,
    runs: &mut [ActiveRun],
    evaluate: &mut Evaluate,
    held_out: Option<&TokenizedDataset>,
) -> Result<()> {
    runs.iter_mut().filter(|run| run.is_due()).try_for_each(ActiveRun::fail_unless_finite)?;
    let mut due: Vec<&mut ActiveRun> = runs.iter_mut().filter(|run| run.is_due()).collect();
    if due.is_empty() {
        return Ok(());
    }
    let trainables: Vec<&dyn Trainable> = due.iter().map(|run| &*run.trainable).collect();
    let preferences = due.iter().zip(&trainables).map(|(run, trainable)| Some((*trainable, run.preference.as_ref()?)));
    // The rows of all runs are of one kind.
    let evaluations = match (preferences.collect::<Option<Vec<_>>>(), held_out) {
        (Some(preferences), Some(held_out)) => evaluate::evaluate(decoder, &preferences, held_out)?,
        _ => {
            let losses = evaluate(decoder, &trainables)?;
            let evaluations = losses.into_iter().zip(&trainables);
            let evaluations = evaluations.map(|(loss, trainable)| {
                Ok(Evaluation { loss, metrics: prefix_losses(decoder, *trainable, evaluate)? })
            });
            evaluations.collect::<Result<Vec<_>>>()?
        }
    };
    due.iter_mut().zip(evaluations).try_for_each(|(run, evaluation)| run.record_eval(evaluation))
}
