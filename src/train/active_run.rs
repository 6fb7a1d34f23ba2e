//! A run that is being trained: its state between steps, and what a step and an evaluation change in it.
//!
//! Leaves to others: the joint steps of several runs (`trainer.rs`), and when they are saved (`saver.rs`).

use super::adamw::AdamW;
use super::callbacks::{Callbacks, Metrics, Rollout};
use super::checkpoint::state::{layout, BestEvaluation, RunNumbers, RunPosition};
use super::checkpoint::RunState;
use super::config::TrainConfig;
use super::flat_loss::FlatLossWatch;
use super::nested::ensure_not_nested;
use super::objective::evaluate::Evaluation;
use super::objective::preference::{PreferenceBatch, PreferenceRun};
use super::objective::reference::Split;
use super::observer::{EvalReport, StepReport, TrainObserver};
use super::outcome::TrainOutcome;
use super::overfitting::{Overfitting, OverfittingWatch};
use super::processes::{rows_of_window, Processes, WindowTotals};
use super::recorder::eval_name;
use super::sampler::Sampler;
use super::schedule::Schedule;
use super::stalled::StallWatch;
use super::update::{StepResult, StepSettings};
use crate::data::batch::Batch;
use crate::data::tokenized::TokenizedDataset;
use crate::error::{Error, Kind, Result};
use crate::lora::Trainable;
use crate::options::OptionSet;
use std::ops::ControlFlow;
use std::time::Duration;
use tch::Tensor;

/// A run to be trained.
pub struct Job<'a> {
    pub trainable: &'a mut dyn Trainable,
    pub config: &'a TrainConfig,
    pub observer: &'a mut dyn TrainObserver,
    pub callbacks: Callbacks<'a>,
    /// The step at which the run pauses: it is evaluated there, and can go on later. `None` trains to its end.
    pub until: Option<u64>,
    /// Those that train the run together; `None` where this process trains it alone.
    pub processes: Option<&'a Processes>,
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
pub(super) struct ActiveRun<'a> {
    pub(super) trainable: &'a mut dyn Trainable,
    pub(super) config: &'a TrainConfig,
    pub(super) observer: &'a mut dyn TrainObserver,
    pub(super) callbacks: Callbacks<'a>,
    pub(super) processes: Option<&'a Processes>,
    /// Are there held-out rows?
    can_evaluate: bool,
    until: Option<u64>,
    pub(super) schedule: Schedule,
    pub(super) optimizer: AdamW,
    pub(super) sampler: Sampler<'a>,
    /// Of a run on preferences.
    pub(super) preference: Option<PreferenceRun>,
    best: Option<Best>,
    last_eval: Option<f64>,
    eval_metrics: Metrics,
    pub(super) position: RunPosition,
    stopped_early: bool,
    overfitting_watch: OverfittingWatch,
    overfitting: Option<Overfitting>,
    stall_watch: StallWatch,
    flat_watch: FlatLossWatch,
    pub(super) failure: Option<Error>,
}

/// The micro-batches of one step.
pub(super) struct Window {
    pub(super) batches: Vec<Batch>,
    /// Of each micro-batch of a run on preferences.
    pub(super) preferences: Vec<PreferenceBatch>,
    /// Of all micro-batches, also where several processes have a part of each.
    pub(super) totals: WindowTotals,
}

impl Window {
    fn new(batches: Vec<Batch>, preferences: Vec<PreferenceBatch>) -> Self {
        let totals = WindowTotals::of(&batches);
        Window { batches, preferences, totals }
    }

    /// The part of this process.
    fn part_of(self, processes: &Processes) -> Self {
        let rows = rows_of_window(&self.batches, processes.rank(), processes.size());
        let batches = self.batches.iter().zip(rows).map(|(batch, rows)| batch.part(&rows)).collect();
        Window { batches, ..self }
    }
}

impl<'a> ActiveRun<'a> {
    pub(super) fn new(job: Job<'a>, data: &'a TokenizedDataset, can_evaluate: bool, vocabulary: i64) -> Result<Self> {
        let Job { trainable, config, observer, callbacks, until, processes } = job;
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
        if callbacks.loss.is_some() || config.objective.is_preference() || callbacks.rollout.is_some() {
            ensure_not_nested(trainable.nested(), "train")?;
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
            processes,
            can_evaluate,
            until,
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
    pub(super) fn state(&mut self, is_alone: bool, peak_memory: Option<u64>) -> Result<RunState> {
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
                rollout: self.callbacks.rollout.map_or(Ok(None), Rollout::state)?,
            },
            parameters: parameters.flat().f_detach()?,
            mean: mean.shallow_clone(),
            square: square.shallow_clone(),
            best: self.best.as_ref().and_then(|best| Some(best.parameters.as_ref()?.shallow_clone())),
        })
    }

    /// Goes on from `state`; its log is the observer's to resume.
    pub(super) fn restore(&mut self, state: RunState) -> Result<()> {
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
        if let (Some(rollout), Some(state)) = (self.callbacks.rollout, numbers.rollout) {
            rollout.restore(state)?;
        }
        Ok(())
    }

    pub(super) fn is_going(&self) -> bool {
        self.failure.is_none() && !self.stopped_early && self.position.steps < self.last_step()
    }

    /// The step that the run goes to this time.
    fn last_step(&self) -> u64 {
        self.until.unwrap_or(u64::MAX).min(self.schedule.steps)
    }

    /// Has the run come to where it pauses, before its end?
    pub(super) fn is_paused(&self) -> bool {
        let is_at_pause = self.position.steps == self.last_step() && self.position.steps < self.schedule.steps;
        is_at_pause && self.failure.is_none() && !self.stopped_early
    }

    pub(super) fn window(&mut self, data: &TokenizedDataset) -> Result<Window> {
        let step = self.position.steps;
        if let Some(rollout) = self.callbacks.rollout {
            let rows = self.sampler.window(step).concat();
            return Ok(Window::new(rollout.window(step, &rows)?, Vec::new()));
        }
        let rows = self.sampler.window(step);
        let Some(preference) = &self.preference else {
            let batches = rows.iter().map(|rows| data.batch(rows)).collect::<Result<_>>()?;
            let window = Window::new(batches, Vec::new());
            return Ok(match self.processes {
                Some(processes) => window.part_of(processes),
                None => window,
            });
        };
        let batches = rows.iter().map(|rows| preference.batch(data, Split::Train, rows));
        let (batches, preferences) = batches.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        Ok(Window::new(batches, preferences))
    }

    pub(super) fn settings(&self) -> StepSettings {
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
    pub(super) fn record(&mut self, result: Result<StepResult>, tokens: usize, time: Duration) -> Result<()> {
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
            tokens_seen: Some(progress.tokens),
            seconds,
            tokens_per_s: progress.tokens as f64 / seconds.max(1e-9),
            stalled_for,
            flat_loss,
            metrics,
        };
        self.observer.on_step(&report)?;
        let flow = self.callbacks.on_step.map(|on_step| on_step(&report));
        let flow = self.agreed("on_step", flow)?;
        self.stopped_early |= flow.is_break() && report.step < report.total_steps;
        Ok(())
    }

    /// Whether a function of the caller ends the run, where there is one: for all processes if it does in one.
    fn agreed(&self, function: &str, flow: Option<Result<ControlFlow<()>>>) -> Result<ControlFlow<()>> {
        match (flow, self.processes) {
            (None, _) => Ok(ControlFlow::Continue(())),
            (Some(flow), None) => flow,
            (Some(flow), Some(processes)) => processes.any_break(function, flow),
        }
    }

    /// Is an evaluation due after the last step? One is where `on_step` stopped the run, as at every end, and where the run
    /// pauses.
    pub(super) fn is_due(&self) -> bool {
        let steps = self.position.steps;
        let fresh = steps > 0 && self.position.evaluated_at != Some(steps) && self.failure.is_none();
        let every = self.config.eval_every;
        let is_last = self.stopped_early || steps == self.last_step();
        fresh && (is_last || every.is_due(steps, self.schedule.steps, self.sampler.steps_per_epoch()))
    }

    pub(super) fn is_evaluated_on_the_way(&self) -> bool {
        self.can_evaluate && self.config.eval_every.is_on_the_way()
    }

    /// Was the last step evaluated, and better than all before?
    pub(super) fn is_at_best(&self) -> bool {
        self.best.as_ref().is_some_and(|best| best.evaluation.step == self.position.steps)
    }

    /// A step checks loss and gradient before it changes the parameters; this checks the parameters after it.
    pub(super) fn fail_unless_finite(&mut self) -> Result<()> {
        if let (None, Some(value)) = (&self.failure, self.trainable.parameters().not_finite()?) {
            let text = format!(
                "step {}: its update left a parameter that is {value}, from a finite loss and gradient",
                self.position.steps
            );
            self.failure = Some(Error::new(Kind::Numeric, text).with_hint("lower the learning rate, or add warm-up"));
        }
        Ok(())
    }

    pub(super) fn record_eval(&mut self, Evaluation { loss, metrics }: Evaluation) -> Result<()> {
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
        let flow = self.callbacks.on_eval.map(|on_eval| on_eval(&report));
        let flow = self.agreed("on_eval", flow)?;
        self.stopped_early |= flow.is_break() && self.position.steps < self.schedule.steps;
        Ok(())
    }

    pub(super) fn finish(mut self, peak_memory: Option<u64>) -> Result<TrainOutcome> {
        self.fail_unless_finite()?;
        let is_paused = self.is_paused();
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
            is_paused,
            overfitting: self.overfitting,
            peak_memory: peak_memory.max(earlier_peak),
            metrics: logged.into_iter().chain(eval_metrics).collect(),
            has_perplexity: !self.config.objective.is_preference(),
        })
    }
}
