//! Training runs, one or several side by side, built from the primitives of this folder.

use super::adamw::AdamW;
use super::config::TrainConfig;
use super::flat_loss::FlatLossWatch;
use super::memory::process::PeakWatch;
use super::observer::{EvalReport, StepReport, TrainObserver};
use super::overfitting::{Overfitting, OverfittingWatch};
use super::sampler::Sampler;
use super::schedule::Schedule;
use super::stalled::StallWatch;
use super::update::{update_together, Member, StepResult, StepSettings};
use crate::data::batch::Batch;
use crate::data::tokenized::TokenizedDataset;
use crate::error::{Error, Kind, Result};
use crate::hub::mapped;
use crate::interrupt;
use crate::lora::Trainable;
use crate::model::Decoder;
use crate::options::OptionSet;
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
}

/// A run to be trained.
pub struct Job<'a> {
    pub trainable: &'a mut dyn Trainable,
    pub config: &'a TrainConfig,
    pub observer: &'a mut dyn TrainObserver,
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
    let mut outcomes = train_together(decoder, vec![Job { trainable, config, observer }], data, evaluate)?;
    outcomes.pop().unwrap_or_else(|| Err(Error::bug("a run without an outcome")))
}

/// Trains several runs on `data` side by side: each step is one forward and backward pass for all of them, each with
/// its own rows. When a run fails or finishes, the others continue. An error of the function itself, such as a stop,
/// ends all of them.
pub fn train_together<'a>(
    decoder: &Decoder,
    jobs: Vec<Job<'a>>,
    data: &'a TokenizedDataset,
    mut evaluate: Option<&mut Evaluate>,
) -> Result<Vec<Result<TrainOutcome>>> {
    if data.is_empty() {
        return Err(Error::data("the training split is empty: expected at least one row"));
    }
    let can_evaluate = evaluate.is_some();
    let memory = PeakWatch::begin(decoder.device);
    let vocabulary = decoder.config.vocab_size;
    let mut runs: Vec<ActiveRun> =
        jobs.into_iter().map(|job| ActiveRun::new(job, data, can_evaluate, vocabulary)).collect::<Result<Vec<_>>>()?;
    while runs.iter().any(ActiveRun::is_going) {
        interrupt::check()?;
        step(decoder, &mut runs, data)?;
        if let Some(evaluate) = evaluate.as_mut() {
            evaluation(decoder, &mut runs, *evaluate)?;
        }
    }
    mapped::ensure_unchanged()?;
    let peak_memory = memory.peak();
    Ok(runs.into_iter().map(|run| run.finish(peak_memory)).collect())
}

#[derive(Debug, Default)]
struct Progress {
    steps: u64,
    loss_sum: f64,
    tokens: u64,
    time: Duration,
    evaluations_without_improvement: u64,
    /// The step of the last evaluation.
    evaluated_at: Option<u64>,
}

#[derive(Debug)]
struct Best {
    loss: f64,
    step: u64,
    /// Kept only with `keep_best`.
    parameters: Option<Tensor>,
}

/// A run that is being trained.
struct ActiveRun<'a> {
    trainable: &'a mut dyn Trainable,
    config: &'a TrainConfig,
    observer: &'a mut dyn TrainObserver,
    schedule: Schedule,
    optimizer: AdamW,
    sampler: Sampler<'a>,
    best: Option<Best>,
    last_eval: Option<f64>,
    progress: Progress,
    stopped_early: bool,
    overfitting_watch: OverfittingWatch,
    overfitting: Option<Overfitting>,
    stall_watch: StallWatch,
    flat_watch: FlatLossWatch,
    failure: Option<Error>,
}

/// Takes one joint step of all runs that are going.
fn step(decoder: &Decoder, runs: &mut [ActiveRun], data: &TokenizedDataset) -> Result<()> {
    let started = Instant::now();
    let mut going: Vec<&mut ActiveRun> = runs.iter_mut().filter(|run| run.is_going()).collect();
    let windows: Vec<Vec<Batch>> = going.iter_mut().map(|run| run.window(data)).collect::<Result<_>>()?;
    let mut settings: Vec<StepSettings> = going.iter().map(|run| run.settings()).collect();
    let members = going.iter_mut().zip(&windows).zip(settings.drain(..));
    let mut members: Vec<Member> = members
        .map(|((run, window), settings)| Member {
            trainable: &mut *run.trainable,
            optimizer: &mut run.optimizer,
            window,
            settings,
        })
        .collect();
    let results = update_together(decoder, &mut members)?;
    drop(members);
    let time = started.elapsed();
    let tokens: Vec<usize> =
        windows.iter().map(|window| window.iter().map(Batch::token_count).sum::<usize>()).collect();
    let all: usize = tokens.iter().sum();
    for ((run, result), tokens) in going.into_iter().zip(results).zip(tokens) {
        run.record(result, tokens, time.mul_f64(tokens as f64 / all.max(1) as f64))?;
    }
    Ok(())
}

/// Evaluates the runs that are due, all in one call.
fn evaluation(decoder: &Decoder, runs: &mut [ActiveRun], evaluate: &mut Evaluate) -> Result<()> {
    runs.iter_mut().filter(|run| run.is_due()).try_for_each(ActiveRun::fail_unless_finite)?;
    let mut due: Vec<&mut ActiveRun> = runs.iter_mut().filter(|run| run.is_due()).collect();
    if due.is_empty() {
        return Ok(());
    }
    let trainables: Vec<&dyn Trainable> = due.iter().map(|run| &*run.trainable).collect();
    let losses = evaluate(decoder, &trainables)?;
    due.iter_mut().zip(losses).try_for_each(|(run, loss)| run.record_eval(loss))
}

impl<'a> ActiveRun<'a> {
    fn new(job: Job<'a>, data: &'a TokenizedDataset, can_evaluate: bool, vocabulary: i64) -> Result<Self> {
        let Job { trainable, config, observer } = job;
        config.ensure_valid("train")?;
        if (config.early_stopping > 0 || config.keep_best) && !can_evaluate {
            return Err(Error::input("`early_stopping` and `keep_best` need held-out rows")
                .with_hint("split the data: `.split(#{ test: 0.1 })`"));
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
            best: None,
            last_eval: None,
            progress: Progress::default(),
            stopped_early: false,
            overfitting_watch: OverfittingWatch::default(),
            overfitting: None,
            stall_watch: StallWatch::default(),
            failure: None,
        })
    }

    fn is_going(&self) -> bool {
        self.failure.is_none() && !self.stopped_early && self.progress.steps < self.schedule.steps
    }

    fn window(&mut self, data: &TokenizedDataset) -> Result<Vec<Batch>> {
        self.sampler.window(self.progress.steps).iter().map(|rows| data.batch(rows)).collect()
    }

    fn settings(&self) -> StepSettings {
        let step = self.progress.steps;
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
        let progress = &mut self.progress;
        progress.steps += 1;
        progress.loss_sum += result.loss;
        self.overfitting_watch.on_step(result.loss);
        progress.tokens += tokens as u64;
        progress.time += time;
        let seconds = progress.time.as_secs_f64();
        let stalled_for = self.stall_watch.on_step(result.grad_norm, progress.steps == self.schedule.steps);
        let flat_loss = self.flat_watch.on_step(result.loss);
        self.observer.on_step(&StepReport {
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
        })
    }

    /// Is an evaluation due after the last step?
    fn is_due(&self) -> bool {
        let steps = self.progress.steps;
        let fresh = self.progress.evaluated_at != Some(steps) && self.failure.is_none() && !self.stopped_early;
        fresh && self.config.eval_every.is_due(steps, self.schedule.steps, self.sampler.steps_per_epoch())
    }

    /// A step checks loss and gradient before it changes the parameters; this checks the parameters after it.
    fn fail_unless_finite(&mut self) -> Result<()> {
        if let (None, Some(value)) = (&self.failure, self.trainable.parameters().not_finite()?) {
            let text = format!(
                "step {}: its update left a parameter that is {value}, from a finite loss and gradient",
                self.progress.steps
            );
            self.failure = Some(Error::new(Kind::Numeric, text).with_hint("lower the learning rate, or add warm-up"));
        }
        Ok(())
    }

    fn record_eval(&mut self, loss: f64) -> Result<()> {
        self.last_eval = Some(loss);
        self.progress.evaluated_at = Some(self.progress.steps);
        let is_best = self.best.as_ref().is_none_or(|best| loss < best.loss);
        if is_best {
            let parameters = if self.config.keep_best { Some(self.trainable.parameters().snapshot()?) } else { None };
            self.best = Some(Best { loss, step: self.progress.steps, parameters });
            self.progress.evaluations_without_improvement = 0;
        } else {
            self.progress.evaluations_without_improvement += 1;
        }
        let patience = self.config.early_stopping;
        self.stopped_early = patience > 0
            && self.progress.evaluations_without_improvement >= patience
            && self.progress.steps < self.schedule.steps;
        let (step, epoch) = (self.progress.steps, self.sampler.epochs_after(self.progress.steps));
        let overfitting = self.overfitting_watch.on_eval(step, loss);
        self.overfitting = self.overfitting.or(overfitting);
        self.observer.on_eval(&EvalReport { step, epoch, loss, is_best, overfitting })
    }

    fn finish(mut self, peak_memory: Option<u64>) -> Result<TrainOutcome> {
        self.fail_unless_finite()?;
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let mut eval_loss = self.last_eval;
        if let Some(Best { loss, parameters: Some(parameters), .. }) = &self.best {
            self.trainable.parameters_mut().restore(parameters)?;
            eval_loss = Some(*loss);
        }
        let Progress { steps, loss_sum, tokens, time, .. } = self.progress;
        Ok(TrainOutcome {
            steps,
            train_loss: loss_sum / (steps as f64).max(1.0),
            eval_loss,
            best_step: self.best.map(|best| best.step),
            tokens,
            seconds: time.as_secs_f64(),
            stopped_early: self.stopped_early,
            overfitting: self.overfitting,
            peak_memory,
        })
    }
}
