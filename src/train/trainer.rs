//! A whole training run, built from the primitives beside it.

use super::adamw::AdamW;
use super::config::TrainConfig;
use super::observer::{EvalReport, Observer, StepReport};
use super::sampler::Sampler;
use super::schedule::Schedule;
use super::update::{update, StepSettings};
use crate::data::tokenized::TokenizedDataset;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::lora::Trainable;
use crate::model::Decoder;
use std::time::{Duration, Instant};
use tch::Tensor;

/// Gives the mean loss per label on held-out rows.
pub type Evaluate<'a> = dyn FnMut(&Decoder, &dyn Trainable) -> Result<f64> + 'a;

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Optimizer steps taken.
    pub steps: u64,
    /// Mean over all steps, as transformers reports it.
    pub train_loss: f64,
    /// Of the parameters that the run leaves behind.
    pub eval_loss: Option<f64>,
    pub best_step: Option<u64>,
    /// Trained on, without padding.
    pub tokens: u64,
    /// Spent training, evaluation left out.
    pub seconds: f64,
    pub stopped_early: bool,
}

/// Trains `trainable` on `data`. The result depends on the settings and the seed only.
pub fn train(
    decoder: &Decoder,
    trainable: &mut dyn Trainable,
    data: &TokenizedDataset,
    config: &TrainConfig,
    evaluate: Option<&mut Evaluate>,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    config.check()?;
    if data.is_empty() {
        return Err(Error::data("the training split is empty: expected at least one row"));
    }
    if (config.early_stopping > 0 || config.keep_best) && evaluate.is_none() {
        return Err(Error::input("`early_stopping` and `keep_best` need held-out rows")
            .with_hint("split the data: `.split(#{ test: 0.1 })`"));
    }
    let schedule = config.schedule(data.len())?;
    let optimizer = AdamW::new(config.optimizer, trainable.parameters())?;
    let sampler = Sampler::new(data, config);
    let run = Run {
        decoder,
        trainable,
        data,
        config,
        schedule,
        optimizer,
        sampler,
        observer,
        evaluate,
        best: None,
        progress: Progress::default(),
    };
    run.complete()
}

#[derive(Debug, Default)]
struct Progress {
    steps: u64,
    loss_sum: f64,
    tokens: u64,
    time: Duration,
    evaluations_without_improvement: u64,
}

#[derive(Debug)]
struct Best {
    loss: f64,
    step: u64,
    /// Kept only where the best is wanted at the end.
    parameters: Option<Tensor>,
}

struct Run<'a, 'e> {
    decoder: &'a Decoder,
    trainable: &'a mut dyn Trainable,
    data: &'a TokenizedDataset,
    config: &'a TrainConfig,
    schedule: Schedule,
    optimizer: AdamW,
    sampler: Sampler<'a>,
    observer: &'a mut dyn Observer,
    evaluate: Option<&'a mut Evaluate<'e>>,
    best: Option<Best>,
    progress: Progress,
}

impl Run<'_, '_> {
    fn complete(mut self) -> Result<Outcome> {
        let mut stopped_early = false;
        let mut last_eval = None;
        while self.progress.steps < self.schedule.steps && !stopped_early {
            self.step()?;
            let is_due = self.config.eval_every > 0 && self.progress.steps.is_multiple_of(self.config.eval_every);
            if is_due || self.progress.steps == self.schedule.steps {
                last_eval = self.evaluation()?;
                stopped_early = self.config.early_stopping > 0
                    && self.progress.evaluations_without_improvement >= self.config.early_stopping;
            }
        }
        self.finish(last_eval, stopped_early)
    }

    fn step(&mut self) -> Result<()> {
        interrupt::check()?;
        let started = Instant::now();
        let step = self.progress.steps;
        let rows = self.sampler.window(step);
        let window = rows.iter().map(|rows| self.data.batch(rows)).collect::<Result<Vec<_>>>()?;
        let lr = self.config.optimizer.lr * self.schedule.factor(step);
        let settings = StepSettings { step, seed: self.config.seed, lr, max_grad_norm: self.config.max_grad_norm };
        let result = update(self.decoder, self.trainable, &mut self.optimizer, &window, settings)?;
        let tokens: usize = window.iter().map(|batch| batch.token_count()).sum();
        let progress = &mut self.progress;
        progress.steps += 1;
        progress.loss_sum += result.loss;
        progress.tokens += tokens as u64;
        progress.time += started.elapsed();
        let seconds = progress.time.as_secs_f64();
        self.observer.on_step(&StepReport {
            step: progress.steps,
            total_steps: self.schedule.steps,
            epoch: self.sampler.epochs_after(progress.steps),
            loss: result.loss,
            learning_rate: lr,
            grad_norm: result.grad_norm,
            tokens,
            seconds,
            tokens_per_s: progress.tokens as f64 / seconds.max(1e-9),
        })
    }

    fn evaluation(&mut self) -> Result<Option<f64>> {
        let Some(evaluate) = self.evaluate.as_mut() else { return Ok(None) };
        let loss = evaluate(self.decoder, self.trainable)?;
        let is_best = self.best.as_ref().is_none_or(|best| loss < best.loss);
        if is_best {
            let parameters = if self.config.keep_best { Some(self.trainable.parameters().snapshot()?) } else { None };
            self.best = Some(Best { loss, step: self.progress.steps, parameters });
            self.progress.evaluations_without_improvement = 0;
        } else {
            self.progress.evaluations_without_improvement += 1;
        }
        let (step, epoch) = (self.progress.steps, self.sampler.epochs_after(self.progress.steps));
        self.observer.on_eval(&EvalReport { step, epoch, loss, is_best })?;
        Ok(Some(loss))
    }

    fn finish(self, last_eval: Option<f64>, stopped_early: bool) -> Result<Outcome> {
        let mut eval_loss = last_eval;
        if let Some(Best { loss, parameters: Some(parameters), .. }) = &self.best {
            self.trainable.parameters_mut().restore(parameters)?;
            eval_loss = Some(*loss);
        }
        let Progress { steps, loss_sum, tokens, time, .. } = self.progress;
        Ok(Outcome {
            steps,
            train_loss: loss_sum / (steps as f64).max(1.0),
            eval_loss,
            best_step: self.best.map(|best| best.step),
            tokens,
            seconds: time.as_secs_f64(),
            stopped_early,
        })
    }
}
