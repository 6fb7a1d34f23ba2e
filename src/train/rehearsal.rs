//! Rehearsal of a run: the settings of a tiny run, and a plan of the real one. Counts steps and tokens, plans memory,
//! and measures time on a few micro-batches.
//!
//! Leaves to others: where the tiny run writes its files, and the report to the user.

use super::config::TrainConfig;
use super::eval_interval::EvalInterval;
use super::memory::{check, Method, Parts, Request};
use super::observer::{StepReport, TrainObserver};
use super::outcome::TrainOutcome;
use super::sampler::Sampler;
use super::trainer::train;
use crate::data::tokenized::TokenizedDataset;
pub use crate::data::Pace;
use crate::error::Result;
use crate::lora::{LoraSpec, Trainable};
use crate::model::Decoder;
use crate::options::OptionSet;
use std::time::Instant;

/// Optimizer steps of a tiny run: the second is the first that depends on the optimizer's moments.
pub const STEPS: u64 = 2;
/// Optimizer steps of a measurement of time.
const TIMED_STEPS: u64 = 3;
/// A larger micro-batch is timed if that is expected to take at most this many seconds.
const PATIENCE: f64 = 1.0;
/// The factor from the rows of one timed micro-batch to the next.
const GROWTH: usize = 4;

/// A run to be rehearsed.
#[derive(Clone, Copy)]
pub struct RehearsedRun<'a> {
    pub train: &'a TokenizedDataset,
    pub test: Option<&'a TokenizedDataset>,
    pub config: &'a TrainConfig,
    /// The trained adapter; `None` trains all weights.
    pub spec: Option<&'a LoraSpec>,
}

/// Returns the mean losses of several runs on held-out rows.
pub type Measure<'a> = dyn FnMut(&Decoder, &[&dyn Trainable], &TokenizedDataset) -> Result<Vec<f64>> + 'a;

/// Time, memory and work planned for a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planned {
    pub steps: u64,
    /// Tokens trained on, without padding.
    pub tokens: u64,
    pub trainable: u64,
    /// Peak memory of a step with the longest rows.
    pub memory: Parts,
    /// Including evaluations; a run that stops early takes less.
    pub seconds: f64,
    /// Rows of the largest timed micro-batch.
    pub timed_rows: usize,
}

impl Planned {
    /// The outcome of a tiny run with the planned steps, tokens and seconds of the real one.
    pub fn outcome(&self, tiny: &TrainOutcome) -> TrainOutcome {
        TrainOutcome { steps: self.steps, tokens: self.tokens, seconds: self.seconds, ..tiny.clone() }
    }
}

/// The settings of a tiny run: two steps of one row each. If the real run logs or evaluates more than once, so does
/// the tiny one, so that both draw the same charts.
///
/// # Errors
/// Settings that the real run would refuse.
pub fn tiny_config(config: &TrainConfig, rows: usize) -> Result<TrainConfig> {
    config.ensure_valid("train")?;
    config.schedule(rows)?;
    let steps = config.total_steps(rows);
    let often = |every: u64| if every < steps { 1 } else { STEPS };
    let epoch = config.steps_per_epoch(rows);
    let evaluates_once = config.eval_every.count(steps, epoch) < 2;
    Ok(TrainConfig {
        steps: STEPS,
        batch: 1,
        accumulation: config.accumulation.min(2),
        warmup: 0.0,
        eval_every: match config.eval_every {
            EvalInterval::Steps(0) => EvalInterval::Steps(0),
            _ if evaluates_once => EvalInterval::Steps(STEPS),
            _ => EvalInterval::Steps(1),
        },
        log_every: often(config.log_every),
        ..config.clone()
    })
}

/// The tokens that a run would train on, counted in the order of its rows.
pub fn planned_tokens(data: &TokenizedDataset, config: &TrainConfig) -> u64 {
    let (steps, epoch) = (config.total_steps(data.len()), config.steps_per_epoch(data.len()));
    let epochs = steps / epoch;
    let mut sampler = Sampler::new(data, config);
    let length = |row: u32| data.row(row as usize).map_or(0, |row| row.len() as u64);
    let rest: u64 =
        (epochs * epoch..steps).map(|step| sampler.window(step).into_iter().flatten().map(length).sum::<u64>()).sum();
    epochs * data.token_count() as u64 + rest
}

/// The planned memory of a micro-batch of the longest rows.
pub fn planned_memory(decoder: &Decoder, run: &RehearsedRun) -> Result<Parts> {
    let tokens = run.train.token_count().max(1);
    let request = Request {
        batch: run.config.batch.min(run.train.len()).max(1) as u64,
        length: run.train.longest_possible().max(1) as u64,
        labelled: (run.train.label_count() as f64 / tokens as f64).clamp(1e-6, 1.0),
        gradient_checkpointing: run.config.gradient_checkpointing,
        lora: run.spec.cloned().unwrap_or_default(),
        ..Request::of(decoder)
    };
    let method = Method::of(run.spec.is_some(), decoder.config.quantization);
    check::planned(&decoder.config, &request, method)
}

/// The plan counts A and B only; other trained values of an adapter take as many bytes each.
fn with_all_trained(planned: Parts, run: &RehearsedRun, trainable: u64) -> Parts {
    let beside = match run.spec {
        Some(_) => trainable.saturating_sub(planned.adapter / 4),
        None => 0,
    };
    Parts {
        adapter: planned.adapter + 4 * beside,
        gradients: planned.gradients + 4 * beside,
        optimizer: planned.optimizer + 8 * beside,
        ..planned
    }
}

/// Plans a run. Leaves `trainable` unchanged.
pub fn plan(
    decoder: &Decoder,
    trainable: &mut dyn Trainable,
    run: &RehearsedRun,
    measure: &mut Measure,
) -> Result<Planned> {
    let steps = run.config.total_steps(run.train.len());
    let tokens = planned_tokens(run.train, run.config);
    let before = trainable.parameters().snapshot()?;
    let timing = seconds_per_token(decoder, trainable, run);
    trainable.parameters_mut().restore(&before)?;
    let (seconds_per_token, timed_rows) = timing?;
    let evaluating = match run.test {
        Some(test) => {
            let count = run.config.eval_every.count(steps, run.config.steps_per_epoch(run.train.len()));
            count as f64 * evaluation(decoder, trainable, test, run, seconds_per_token, measure)?
        }
        None => 0.0,
    };
    Ok(Planned {
        steps,
        tokens,
        trainable: trainable.parameters().count(),
        memory: with_all_trained(planned_memory(decoder, run)?, run, trainable.parameters().count()),
        seconds: tokens as f64 * seconds_per_token + evaluating,
        timed_rows,
    })
}

/// Returns the seconds per token of training, and the rows of the micro-batch that they were measured on: the largest
/// that [`PATIENCE`] allows.
fn seconds_per_token(decoder: &Decoder, trainable: &mut dyn Trainable, run: &RehearsedRun) -> Result<(f64, usize)> {
    let shortest = run.train.shortest(1);
    let mut seconds = timed_seconds_per_token(decoder, trainable, &shortest, run.config, 1)?;
    let labelled = labelled_rows(run.train, run.config.seed, run.config.batch)?;
    let mean = labelled.token_count() as f64 / labelled.len().max(1) as f64;
    let (most, mut rows, mut timed) = (run.config.batch.min(labelled.len()), 1, 1);
    while TIMED_STEPS as f64 * rows as f64 * mean * seconds <= PATIENCE {
        seconds = timed_seconds_per_token(decoder, trainable, &labelled, run.config, rows)?;
        timed = rows;
        if rows >= most {
            break;
        }
        rows = (rows * GROWTH).min(most);
    }
    Ok((seconds, timed))
}

/// The rows of the timed steps, in the order of the run. Rows without a label are left out: a micro-batch of such rows
/// alone would fail.
fn labelled_rows(data: &TokenizedDataset, seed: u64, batch: usize) -> Result<TokenizedDataset> {
    let has_label = |row: &usize| data.row(*row).is_some_and(|row| row.label_count() > 0);
    let order = data.epoch_order(seed, 0).into_iter().map(|row| row as usize);
    data.select(&order.filter(has_label).take(batch.saturating_mul(TIMED_STEPS as usize)).collect::<Vec<_>>())
}

/// Returns the seconds per token of the fastest step. The first is not counted, because libtorch allocates its buffers
/// in it.
fn timed_seconds_per_token(
    decoder: &Decoder,
    trainable: &mut dyn Trainable,
    rows: &TokenizedDataset,
    config: &TrainConfig,
    batch: usize,
) -> Result<f64> {
    let config = TrainConfig {
        steps: TIMED_STEPS,
        batch,
        accumulation: 1,
        warmup: 0.0,
        eval_every: EvalInterval::Steps(0),
        early_stopping: 0,
        keep_best: false,
        ..config.clone()
    };
    let mut clock = Clock { seconds: 0.0, seconds_per_token: f64::INFINITY };
    train(decoder, trainable, rows, &config, None, &mut clock)?;
    Ok(clock.seconds_per_token)
}

/// Measures the fastest step.
#[derive(Debug)]
struct Clock {
    /// Seconds of training so far.
    seconds: f64,
    seconds_per_token: f64,
}

impl TrainObserver for Clock {
    fn on_step(&mut self, report: &StepReport) -> Result<()> {
        let seconds = report.seconds - self.seconds;
        self.seconds = report.seconds;
        if report.step > 1 {
            self.seconds_per_token = self.seconds_per_token.min(seconds / report.tokens.max(1) as f64);
        }
        Ok(())
    }
}

/// Returns the seconds of one evaluation on `test`, measured on as many rows as [`PATIENCE`] allows.
fn evaluation(
    decoder: &Decoder,
    trainable: &dyn Trainable,
    test: &TokenizedDataset,
    run: &RehearsedRun,
    seconds_per_token: f64,
    measure: &mut Measure,
) -> Result<f64> {
    let all = test.token_count();
    let mean = all as f64 / test.len().max(1) as f64;
    let most = (PATIENCE / (seconds_per_token * mean).max(1e-9)) as usize;
    let sample = match most {
        0 => test.shortest(1),
        most => test.take(most.min(run.config.eval_batch)),
    };
    let started = Instant::now();
    measure(decoder, &[trainable], &sample)?;
    Ok(started.elapsed().as_secs_f64() * all as f64 / sample.token_count().max(1) as f64)
}

/// A duration as text: "40 s", "12 min", "3.5 h".
pub fn duration(seconds: f64) -> String {
    match seconds {
        _ if seconds < 0.95 => "1 s".to_owned(),
        _ if seconds < 99.5 => format!("{seconds:.0} s"),
        _ if seconds < 99.5 * 60.0 => format!("{:.0} min", seconds / 60.0),
        _ if seconds < 99.5 * 3600.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} days", seconds / 86400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::store::{TokenizedInfo, TokenizedRow};

    fn rows(lengths: &[usize]) -> TokenizedDataset {
        let row = |&length: &usize| TokenizedRow {
            ids: vec![1; length],
            trained: vec![true; length],
            ..TokenizedRow::default()
        };
        TokenizedDataset::from_rows(lengths.iter().map(row), TokenizedInfo::default()).unwrap()
    }

    #[test]
    fn tokens_are_those_of_the_runs_own_rows() {
        let data = rows(&[1, 2, 4, 8, 16, 32, 64]);
        let config = |steps, accumulation| TrainConfig { steps, batch: 2, accumulation, ..TrainConfig::default() };
        // An epoch has 4 micro-batches, the last of one row.
        assert_eq!(planned_tokens(&data, &config(4, 1)), 127);
        assert_eq!(planned_tokens(&data, &config(8, 1)), 254);
        assert_eq!(planned_tokens(&data, &config(2, 2)), 127);
        let order = data.epoch_order(42, 1);
        let first: u64 = order[..2].iter().map(|&row| 1 << row).sum();
        assert_eq!(planned_tokens(&data, &config(5, 1)), 127 + first);
        assert_eq!(planned_tokens(&data, &TrainConfig { steps: 0, epochs: 2.0, ..config(0, 1) }), 254);
    }

    #[test]
    fn the_tiny_run_logs_and_evaluates_as_the_real_one_and_refuses_the_same_settings() {
        let config =
            TrainConfig { steps: 500, eval_every: EvalInterval::Steps(50), keep_best: true, ..TrainConfig::default() };
        let tiny = tiny_config(&config, 10).unwrap();
        assert_eq!((tiny.steps, tiny.batch, tiny.eval_every, tiny.keep_best), (2, 1, EvalInterval::Steps(1), true));
        let all = EvalInterval::Steps(500);
        let once = tiny_config(&TrainConfig { log_every: 500, eval_every: all, ..config.clone() }, 10).unwrap();
        assert_eq!((tiny.log_every, once.log_every, once.eval_every), (1, 2, EvalInterval::Steps(2)));
        let by_epoch = EvalInterval::PerEpoch { evals_per_epoch: 1 };
        let epochs = tiny_config(&TrainConfig { eval_every: by_epoch, ..config.clone() }, 10).unwrap();
        assert_eq!(epochs.eval_every, EvalInterval::Steps(1));
        let wrong = TrainConfig { batch: 0, ..config };
        assert_eq!(tiny_config(&wrong, 10).unwrap_err().message, wrong.ensure_valid("train").unwrap_err().message);
    }

    #[test]
    fn times_are_for_people() {
        let shown = [0.2, 40.4, 100.0, 7200.0, 1e6].map(duration);
        assert_eq!(shown, ["1 s", "40 s", "2 min", "2.0 h", "11.6 days"].map(str::to_owned));
    }
}
