//! Training runs, one or several side by side, built from the primitives of this folder.

use super::adamw::AdamW;
use super::callbacks::{Callbacks, Metrics};
use super::checkpoint::state::{layout, BestEvaluation, RunNumbers, RunPosition};
use super::checkpoint::{CheckpointWriter, RunState};
use super::config::TrainConfig;
use super::flat_loss::FlatLossWatch;
use super::memory::process::PeakWatch;
use super::objective::evaluate::{self, Evaluation};
use super::objective::preference::{PreferenceBatch, PreferenceInputs, PreferenceRun};
use super::objective::reference::{References, Split};
use super::observer::{EvalReport, StepReport, TrainObserver};
use super::overfitting::{Overfitting, OverfittingWatch, OVERFITS_AFTER};
use super::recorder::eval_name;
use super::sampler::Sampler;
use super::schedule::Schedule;
use super::stalled::StallWatch;
use super::update::{update_together, Member, StepResult, StepSettings};
use crate::data::batch::Batch;
use crate::data::tokenized::TokenizedDataset;
use crate::data::{number, Row};
use crate::error::{Error, Kind, Result};
use crate::format::thousands;
use crate::hub::mapped;
use crate::interrupt;
use crate::lora::Trainable;
use crate::model::Decoder;
use crate::options::OptionSet;
use serde_json::Value;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tch::Tensor;

/// Returns the mean loss per label on held-out rows for each of several runs.
pub type Evaluate<'a> = dyn FnMut(&Decoder, &[&dyn Trainable]) -> Result<Vec<f64>> + 'a;

/// The peak memory of a run in bytes: its name in records and results.
pub const PEAK_MEMORY: &str = "peak_memory";

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOutcome {
    /// Optimizer steps taken.
    pub steps: u64,
    /// Mean over all steps, as transformers reports it.
    pub train_loss: f64,
    /// The held-out loss of the parameters that the run ends with.
    pub eval_loss: Option<f64>,
    pub best_step: Option<u64>,
    /// Tokens trained on, without padding.
    pub tokens: u64,
    /// Seconds of training, without evaluations. The time of joint steps is divided among the runs by their tokens.
    pub seconds: f64,
    pub stopped_early: bool,
    /// Set if held-out loss rose while training loss fell.
    pub overfitting: Option<Overfitting>,
    /// Peak memory in bytes while the run trained and was evaluated: see [`PeakWatch`]. Runs side by side have one
    /// peak.
    pub peak_memory: Option<u64>,
    /// Further means that were logged last, and under names with `eval_` those of the evaluation that `eval_loss` is of.
    pub metrics: Metrics,
    /// Is `eval_loss` a cross-entropy? That of preferences is none.
    pub has_perplexity: bool,
}

impl TrainOutcome {
    pub fn eval_perplexity(&self) -> Option<f64> {
        self.eval_loss.filter(|_| self.has_perplexity).map(f64::exp)
    }

    /// As an object; numbers that are not finite are those of [`number`].
    pub fn fields(&self) -> Row {
        let or_null = |number: Option<f64>| number.map_or(Value::Null, number::value);
        let fields = [
            ("steps", self.steps.into()),
            ("train_loss", number::value(self.train_loss)),
            ("eval_loss", or_null(self.eval_loss)),
            ("eval_perplexity", or_null(self.eval_perplexity())),
            ("tokens", self.tokens.into()),
            ("seconds", number::value(self.seconds)),
            ("tokens_per_s", number::value(self.tokens as f64 / self.seconds.max(1e-9))),
            ("stopped_early", self.stopped_early.into()),
            (OVERFITS_AFTER, self.overfitting.map(|overfitting| overfitting.best_step).into()),
            (PEAK_MEMORY, self.peak_memory.into()),
        ];
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
        fields.chain(self.metrics.iter().map(|(name, value)| (name.clone(), number::value(*value)))).collect()
    }
}

/// A run to be trained.
pub struct Job<'a> {
    pub trainable: &'a mut dyn Trainable,
    pub config: &'a TrainConfig,
    pub observer: &'a mut dyn TrainObserver,
    pub callbacks: Callbacks<'a>,
}

/// Trains `trainable` on `data`. The result depends on the settings and the seed only.
pub fn train(
    decoder: &Decoder,
    trainable: &mut dyn Trainable,
    data: &TokenizedDataset,
    config: &TrainConfig,
    evaluate: Option<&mut Evaluate>,
    observer: &mut dyn TrainObserver,
) -> Result<TrainOutcome> {
    let job = Job { trainable, config, observer, callbacks: Callbacks::default() };
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
    let mut saver = checkpoints.writer.map(|writer| Saver::new(writer, &runs));
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
    while runs.iter().any(ActiveRun::is_going) {
        interrupt::check()?;
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

/// Saves runs that train together, all at the same moment. What cannot be saved is reported and ends no run.
struct Saver<'a> {
    writer: &'a mut CheckpointWriter,
    /// How far the runs were when they were last saved, or when they began.
    saved: Vec<RunPosition>,
    has_warned: bool,
}

impl<'a> Saver<'a> {
    fn new(writer: &'a mut CheckpointWriter, runs: &[ActiveRun]) -> Self {
        Saver { writer, saved: positions(runs), has_warned: false }
    }

    fn after_step(&mut self, runs: &mut [ActiveRun], memory: &PeakWatch) {
        let going = || runs.iter().filter(|run| run.is_going());
        let step = going().map(|run| run.position.steps).max().unwrap_or(0);
        let total = going().map(|run| run.schedule.steps).max().unwrap_or(0);
        let steps_per_epoch = going().map(|run| run.sampler.steps_per_epoch()).next().unwrap_or(1);
        if !self.writer.is_due(step, total, steps_per_epoch) {
            return;
        }
        match self.save(runs, memory.peak()) {
            Err(error) if !self.has_warned => {
                self.has_warned = true;
                note(runs, &format!("the run goes on without a checkpoint: {error}"));
            }
            _ => {}
        }
    }

    /// However the runs ended, what they would lose is saved. Runs side by side are saved at their end too: they are
    /// recorded one after the other.
    fn at_the_end(&mut self, runs: &mut [ActiveRun], peak_memory: Option<u64>, error: Option<&Error>) {
        let is_of_trials = self.writer.is_of_trials();
        let has_failed = error.is_some() || matches!(runs, [run] if run.failure.is_some() && !is_of_trials);
        let is_stop = error.is_some_and(|error| error.kind == Kind::Stopped);
        let step = runs.iter().map(|run| run.position.steps).max().unwrap_or(0);
        if step == 0 || !(has_failed || runs.len() > 1) {
            return;
        }
        let saved = match positions(runs) == self.saved {
            true => Ok(self.writer.newest()),
            false => self.save(runs, peak_memory),
        };
        match saved {
            Ok(Some(path)) if has_failed && !is_of_trials => note(runs, &saved_line(step, &path, is_stop)),
            Ok(Some(_)) if is_stop => {
                let trials =
                    if runs.len() == 1 { "1 trial is".to_owned() } else { format!("{} trials are", runs.len()) };
                note(runs, &format!("{trials} saved at step {step}: run the sweep again to go on"));
            }
            Ok(_) => {}
            Err(error) => note(runs, &format!("the state of step {step} could not be saved: {error}")),
        }
    }

    /// `None` where there is no state worth saving.
    fn save(&mut self, runs: &mut [ActiveRun], peak_memory: Option<u64>) -> Result<Option<PathBuf>> {
        mapped::ensure_unchanged()?;
        let is_alone = runs.len() == 1;
        for run in runs.iter() {
            // Stopped inside of an update, or left without finite numbers by one. A run that left the others is not used
            // again.
            let has_left = !is_alone && run.failure.is_some();
            let is_between_steps = run.optimizer.steps() == run.position.steps || has_left;
            if !is_between_steps || (is_alone && run.trainable.parameters().not_finite()?.is_some()) {
                return Ok(None);
            }
        }
        let states = runs.iter_mut().map(|run| run.state(is_alone, peak_memory)).collect::<Result<_>>()?;
        let path = self.writer.save(states)?;
        self.saved = positions(runs);
        Ok(Some(path))
    }
}

fn positions(runs: &[ActiveRun]) -> Vec<RunPosition> {
    runs.iter().map(|run| run.position.clone()).collect()
}

/// A line for the user, once for all runs.
fn note(runs: &mut [ActiveRun], text: &str) {
    if let Some(run) = runs.first_mut() {
        run.observer.on_note(text);
    }
}

fn saved_line(step: u64, path: &Path, is_stop: bool) -> String {
    let path = path.display();
    match is_stop {
        true => format!("saved at step {step} in `{path}`: run the script again to go on"),
        false => format!("saved as it was after step {step} in `{path}`: a run with resume: true goes on from there"),
    }
}

#[derive(Debug)]
struct Best {
    evaluation: BestEvaluation,
    /// By the names of logs.
    metrics: Metrics,
    /// Kept only with `keep_best`.
    parameters: Option<Tensor>,
}

/// A run that is being trained.
struct ActiveRun<'a> {
    trainable: &'a mut dyn Trainable,
    config: &'a TrainConfig,
    observer: &'a mut dyn TrainObserver,
    callbacks: Callbacks<'a>,
    schedule: Schedule,
    optimizer: AdamW,
    sampler: Sampler<'a>,
    /// Of a run on preferences.
    preference: Option<PreferenceRun>,
    best: Option<Best>,
    last_eval: Option<f64>,
    eval_metrics: Metrics,
    position: RunPosition,
    stopped_early: bool,
    overfitting_watch: OverfittingWatch,
    overfitting: Option<Overfitting>,
    stall_watch: StallWatch,
    flat_watch: FlatLossWatch,
    failure: Option<Error>,
}

/// The micro-batches of one step.
struct Window {
    batches: Vec<Batch>,
    /// Of each micro-batch of a run on preferences.
    preferences: Vec<PreferenceBatch>,
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
            preferences: &window.preferences,
            settings,
            loss: run.callbacks.loss,
        })
        .collect();
    let results = update_together(decoder, &mut members)?;
    drop(members);
    let time = started.elapsed();
    let tokens: Vec<usize> =
        windows.iter().map(|window| window.batches.iter().map(Batch::token_count).sum::<usize>()).collect();
    let all: usize = tokens.iter().sum();
    // Every run takes its step over, though an observer of another fails: their states are of one moment.
    let recorded = going.into_iter().zip(results).zip(tokens).map(|((run, result), tokens)| {
        let share = time.mul_f64(tokens as f64 / all.max(1) as f64);
        run.record(result, tokens, share)
    });
    let recorded: Vec<Result<()>> = recorded.collect();
    recorded.into_iter().collect()
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
            losses.into_iter().map(|loss| Evaluation { loss, metrics: Vec::new() }).collect()
        }
    };
    due.iter_mut().zip(evaluations).try_for_each(|(run, evaluation)| run.record_eval(evaluation))
}

impl<'a> ActiveRun<'a> {
    fn new(job: Job<'a>, data: &'a TokenizedDataset, can_evaluate: bool, vocabulary: i64) -> Result<Self> {
        let Job { trainable, config, observer, callbacks } = job;
        config.ensure_valid("train")?;
        if (config.early_stopping > 0 || config.keep_best) && !can_evaluate {
            return Err(Error::input("`early_stopping` and `keep_best` need held-out rows")
                .with_hint("split the data: `.split(#{ test: 0.1 })`"));
        }
        if (callbacks.on_eval.is_some() || callbacks.metrics.is_some()) && !can_evaluate {
            return Err(Error::input("`on_eval` and `metrics` need held-out rows: without them nothing is evaluated")
                .with_hint("split the data: `.split(#{ test: 0.1 })`"));
        }
        if callbacks.loss.is_some() && config.gradient_checkpointing {
            return Err(Error::input("`gradient_checkpointing` works with the built-in loss alone")
                .with_hint("leave it out, or make `batch` smaller and `accumulation` larger"));
        }
        let schedule = config.schedule(data.len())?;
        Ok(ActiveRun {
            flat_watch: FlatLossWatch::new(schedule.warmup_steps, schedule.steps, vocabulary),
            schedule,
            optimizer: AdamW::new(config.optimizer, trainable.parameters())?,
            sampler: Sampler::new(data, config),
            trainable,
            config,
            observer,
            callbacks,
            preference: None,
            best: None,
            last_eval: None,
            eval_metrics: Metrics::new(),
            position: RunPosition::default(),
            stopped_early: false,
            overfitting_watch: OverfittingWatch::default(),
            overfitting: None,
            stall_watch: StallWatch::default(),
            failure: None,
        })
    }

    /// The state between two steps. Its tensors are views. Alone, a run that failed is saved as one that can go on: the
    /// weights are as they were before the step, and the user may change the settings.
    fn state(&mut self, is_alone: bool, peak_memory: Option<u64>) -> Result<RunState> {
        let parameters = self.trainable.parameters();
        let (mean, square) = self.optimizer.moments();
        let peak_memory = peak_memory.max(self.position.peak_memory);
        Ok(RunState {
            numbers: RunNumbers {
                layout: layout(parameters),
                position: RunPosition { peak_memory, ..self.position.clone() },
                optimizer_steps: self.optimizer.steps(),
                loss_scale: self.optimizer.loss_scale,
                best: self.best.as_ref().map(|best| best.evaluation),
                best_metrics: self.best.as_ref().map(|best| best.metrics.clone()).unwrap_or_default(),
                last_eval: self.last_eval,
                eval_metrics: self.eval_metrics.clone(),
                stopped_early: self.stopped_early,
                overfitting_watch: self.overfitting_watch.clone(),
                overfitting: self.overfitting,
                stall_watch: self.stall_watch.clone(),
                flat_watch: self.flat_watch.clone(),
                failure: self.failure.clone().filter(|_| !is_alone),
                log: self.observer.log_state()?,
            },
            parameters: parameters.flat().f_detach()?,
            mean: mean.shallow_clone(),
            square: square.shallow_clone(),
            best: self.best.as_ref().and_then(|best| Some(best.parameters.as_ref()?.shallow_clone())),
        })
    }

    /// Goes on from `state`; its log is the observer's to resume.
    fn restore(&mut self, state: RunState) -> Result<()> {
        state.ensure_fits(self.trainable.parameters())?;
        let RunState { numbers, parameters, mean, square, best } = state;
        self.trainable.parameters_mut().restore(&parameters)?;
        self.optimizer.restore(numbers.optimizer_steps, &mean, &square)?;
        self.optimizer.loss_scale = numbers.loss_scale;
        let own_copy = |flat: Tensor| -> Result<Tensor> {
            let mut copy = self.trainable.parameters().flat().f_zeros_like()?;
            tch::no_grad(|| copy.f_copy_(&flat))?;
            Ok(copy)
        };
        let parameters = best.filter(|_| self.config.keep_best).map(own_copy).transpose()?;
        // Without its parameters the best evaluation so far could not be kept.
        let best = numbers.best.filter(|_| parameters.is_some() || !self.config.keep_best);
        self.best = best.map(|evaluation| Best { evaluation, metrics: numbers.best_metrics, parameters });
        self.eval_metrics = numbers.eval_metrics;
        self.flat_watch.resume(numbers.flat_watch);
        self.position = numbers.position;
        self.last_eval = numbers.last_eval;
        self.stopped_early = numbers.stopped_early;
        self.overfitting_watch = numbers.overfitting_watch;
        self.overfitting = numbers.overfitting;
        self.stall_watch = numbers.stall_watch;
        self.failure = numbers.failure;
        Ok(())
    }

    fn is_going(&self) -> bool {
        self.failure.is_none() && !self.stopped_early && self.position.steps < self.schedule.steps
    }

    fn window(&mut self, data: &TokenizedDataset) -> Result<Window> {
        let step = self.position.steps;
        if let Some(rollout) = self.callbacks.rollout {
            let rows = self.sampler.window(step).concat();
            return Ok(Window { batches: rollout(step, &rows)?, preferences: Vec::new() });
        }
        let rows = self.sampler.window(step);
        let Some(preference) = &self.preference else {
            let batches = rows.iter().map(|rows| data.batch(rows)).collect::<Result<_>>()?;
            return Ok(Window { batches, preferences: Vec::new() });
        };
        let batches = rows.iter().map(|rows| preference.batch(data, Split::Train, rows));
        let (batches, preferences) = batches.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        Ok(Window { batches, preferences })
    }

    fn settings(&self) -> StepSettings {
        let step = self.position.steps;
        StepSettings {
            step,
            seed: self.config.seed,
            lr: self.config.optimizer.lr * self.schedule.factor(step),
            max_grad_norm: self.config.max_grad_norm,
            gradient_checkpointing: self.config.gradient_checkpointing,
        }
    }

    /// Records the result of a step. A stop ends all runs, any other error this one alone.
    fn record(&mut self, result: Result<StepResult>, tokens: usize, time: Duration) -> Result<()> {
        let result = match result {
            Ok(result) => result,
            Err(error) if error.kind == Kind::Stopped => return Err(error),
            Err(error) => {
                self.failure = Some(error);
                return Ok(());
            }
        };
        let learning_rate = self.settings().lr;
        let progress = &mut self.position;
        progress.steps += 1;
        progress.loss_sum += result.loss;
        let mut metrics = result.metrics;
        if let Some(measured) = self.callbacks.step_metrics {
            measured().iter().for_each(|(name, value)| metrics.add(name, *value, 1.0));
        }
        progress.metrics.extend(&metrics);
        if progress.steps.is_multiple_of(self.config.log_every) || progress.steps == self.schedule.steps {
            let means = std::mem::take(&mut progress.metrics);
            progress.logged = means.means().map(|(name, mean)| (name.to_owned(), mean)).collect();
        }
        self.overfitting_watch.on_step(result.loss);
        progress.tokens += tokens as u64;
        progress.time += time;
        let seconds = progress.time.as_secs_f64();
        let stalled_for = self.stall_watch.on_step(result.grad_norm, progress.steps == self.schedule.steps);
        // What a loss of the caller starts from is not known.
        let is_built_in = self.callbacks.loss.is_none();
        let flat_loss = if is_built_in { self.flat_watch.on_step(result.loss) } else { None };
        let report = StepReport {
            step: progress.steps,
            total_steps: self.schedule.steps,
            epoch: self.sampler.epochs_after(progress.steps),
            loss: result.loss,
            learning_rate,
            grad_norm: result.grad_norm,
            tokens,
            seconds,
            tokens_per_s: progress.tokens as f64 / seconds.max(1e-9),
            stalled_for,
            flat_loss,
            metrics,
        };
        self.observer.on_step(&report)?;
        let flow = self.callbacks.on_step.map_or(Ok(ControlFlow::Continue(())), |on_step| on_step(&report))?;
        self.stopped_early |= flow.is_break() && report.step < report.total_steps;
        Ok(())
    }

    /// Is an evaluation due after the last step? One is where `on_step` stopped the run, as at every end.
    fn is_due(&self) -> bool {
        let steps = self.position.steps;
        let fresh = steps > 0 && self.position.evaluated_at != Some(steps) && self.failure.is_none();
        let every = self.config.eval_every;
        fresh && (self.stopped_early || every.is_due(steps, self.schedule.steps, self.sampler.steps_per_epoch()))
    }

    /// A step checks loss and gradient before it changes the parameters; this checks the parameters after it.
    fn fail_unless_finite(&mut self) -> Result<()> {
        if let (None, Some(value)) = (&self.failure, self.trainable.parameters().not_finite()?) {
            let text = format!(
                "step {}: its update left a parameter that is {value}, from a finite loss and gradient",
                self.position.steps
            );
            self.failure = Some(Error::new(Kind::Numeric, text).with_hint("lower the learning rate, or add warm-up"));
        }
        Ok(())
    }

    fn record_eval(&mut self, Evaluation { loss, metrics }: Evaluation) -> Result<()> {
        let measured = self.callbacks.metrics.map_or(Ok(Metrics::new()), |metrics| metrics())?;
        let metrics: Metrics =
            metrics.into_iter().map(|(name, value)| (eval_name(&name), value)).chain(measured).collect();
        self.last_eval = Some(loss);
        self.eval_metrics.clone_from(&metrics);
        self.position.evaluated_at = Some(self.position.steps);
        let is_best = self.best.as_ref().is_none_or(|best| loss < best.evaluation.loss);
        if is_best {
            let parameters = if self.config.keep_best { Some(self.trainable.parameters().snapshot()?) } else { None };
            let evaluation = BestEvaluation { loss, step: self.position.steps };
            self.best = Some(Best { evaluation, metrics: metrics.clone(), parameters });
            self.position.evaluations_without_improvement = 0;
        } else {
            self.position.evaluations_without_improvement += 1;
        }
        let patience = self.config.early_stopping;
        self.stopped_early |= patience > 0
            && self.position.evaluations_without_improvement >= patience
            && self.position.steps < self.schedule.steps;
        let (step, epoch) = (self.position.steps, self.sampler.epochs_after(self.position.steps));
        let overfitting = self.overfitting_watch.on_eval(step, loss);
        self.overfitting = self.overfitting.or(overfitting);
        let perplexity = (!self.config.objective.is_preference()).then(|| loss.exp());
        let report = EvalReport { step, epoch, loss, perplexity, metrics, is_best, overfitting };
        self.observer.on_eval(&report)?;
        let flow = self.callbacks.on_eval.map_or(Ok(ControlFlow::Continue(())), |on_eval| on_eval(&report))?;
        self.stopped_early |= flow.is_break() && self.position.steps < self.schedule.steps;
        Ok(())
    }

    fn finish(mut self, peak_memory: Option<u64>) -> Result<TrainOutcome> {
        self.fail_unless_finite()?;
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let (mut eval_loss, mut eval_metrics) = (self.last_eval, self.eval_metrics);
        if let Some(Best { evaluation, metrics, parameters: Some(parameters) }) = &self.best {
            self.trainable.parameters_mut().restore(parameters)?;
            (eval_loss, eval_metrics) = (Some(evaluation.loss), metrics.clone());
        }
        let RunPosition { steps, loss_sum, tokens, time, peak_memory: earlier_peak, logged, .. } = self.position;
        Ok(TrainOutcome {
            steps,
            train_loss: loss_sum / (steps as f64).max(1.0),
            eval_loss,
            best_step: self.best.map(|best| best.evaluation.step),
            tokens,
            seconds: time.as_secs_f64(),
            stopped_early: self.stopped_early,
            overfitting: self.overfitting,
            peak_memory: peak_memory.max(earlier_peak),
            metrics: logged.into_iter().chain(eval_metrics).collect(),
            has_perplexity: !self.config.objective.is_preference(),
        })
    }
}
