//! The batches of a GRPO run: samples of the step's prompts, rewarded and compared within their groups.

use super::advantages::{advantages, deviation, mean};
use super::loss::{grpo_loss, GrpoLossConfig, Terms};
use crate::bail;
use crate::data::batch::{Batch, LabelledDocument, SampleTerms, IGNORE};
use crate::error::{Error, Kind, Result};
use crate::lora::trainable::MicroBatchDropout;
use crate::lora::{Model, Trainable};
use crate::random::Key;
use crate::train::callbacks::{Metrics, Rollout};
use crate::train::forward::ForwardPass;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use tch::{no_grad, Kind as Dtype, Tensor};

/// A sample with its reward.
#[derive(Debug, Clone, PartialEq)]
pub struct RewardedSample {
    pub prompt_ids: Vec<u32>,
    /// The new tokens.
    pub ids: Vec<u32>,
    /// Did it end by itself, before `max_completion_length`?
    pub is_complete: bool,
    /// By the name of the function that gives it; NaN where a function gives none.
    pub rewards: Vec<(String, f64)>,
}

impl RewardedSample {
    /// The sum; NaN if no function gives one.
    fn reward(&self) -> f64 {
        let rewards = || self.rewards.iter().map(|(_, reward)| *reward).filter(|reward| !reward.is_nan());
        if rewards().next().is_none() {
            return f64::NAN;
        }
        rewards().sum()
    }
}

/// Draws `num_generations` samples of each prompt, by the numbers of their rows, and rewards them. The seed is that of the
/// step.
pub type Draw<'a> = dyn Fn(&Model, &[u32], u64) -> Result<Vec<RewardedSample>> + 'a;

/// Makes the batches of a run and computes their loss.
pub struct Rollouts<'a> {
    /// A shallow clone of what is trained.
    model: RefCell<Model>,
    config: GrpoLossConfig,
    /// Samples of a micro-batch.
    batch: usize,
    seed: u64,
    draw: &'a Draw<'a>,
    /// The values of the adapter that the run began with, where the base is not the reference.
    start: Option<Tensor>,
    drawn: RefCell<Option<Drawn>>,
    logged: RefCell<BTreeMap<String, Vec<f64>>>,
}

/// The batches of a generation, which several steps may train on.
#[derive(Serialize, Deserialize)]
struct Drawn {
    generation: u64,
    batches: Vec<Batch>,
}

impl<'a> Rollouts<'a> {
    /// `model` is a shallow clone of the model that is trained. `batch` is the number of samples in a micro-batch.
    ///
    /// # Errors
    /// A model that trains no adapter, if a reference is needed.
    pub fn new(model: Model, config: GrpoLossConfig, batch: usize, seed: u64, draw: &'a Draw<'a>) -> Result<Self> {
        let mut start = None;
        if config.beta > 0.0 {
            let Ok(adapter) = model.adapted.adapter(None) else {
                bail!(Kind::Input, "option `beta`: expected an adapter that is trained, found a model that is trained whole";
                    hint: "beta: 0.0 trains without a reference");
            };
            start = if adapter.starts_at_base()? { None } else { Some(adapter.parameters.snapshot()?) };
        }
        let (drawn, logged) = (RefCell::new(None), RefCell::default());
        Ok(Rollouts { model: RefCell::new(model), config, batch, seed, draw, start, drawn, logged })
    }

    fn batches(&self, samples: &[RewardedSample]) -> Result<Vec<Batch>> {
        let rewards: Vec<f64> = samples.iter().map(RewardedSample::reward).collect();
        let advantages = advantages(&rewards, self.config.options.num_generations, self.config.options.scale_rewards);
        self.log_samples(samples, &rewards);
        let is_used = |sample: &RewardedSample| sample.is_complete || !self.config.options.mask_truncated_completions;
        let document = |sample: &RewardedSample| {
            let ids = || sample.prompt_ids.iter().chain(&sample.ids).map(|&id| i64::from(id));
            let label = |(at, id)| if at >= sample.prompt_ids.len() && is_used(sample) { id } else { IGNORE };
            LabelledDocument {
                input_ids: ids().collect(),
                labels: ids().enumerate().map(label).collect(),
                weights: None,
            }
        };
        let has_dropout = self.model.borrow().adapted.has_dropout();
        let tokens: usize = samples.iter().filter(|sample| is_used(sample)).map(|sample| sample.ids.len()).sum();
        let count = samples.len().div_ceil(self.batch);
        let parts = samples.chunks(self.batch).zip(advantages.chunks(self.batch));
        let batches = parts.map(|(samples, advantages)| {
            let mut batch = Batch::of_documents(&samples.iter().map(document).collect::<Vec<_>>(), 0);
            batch.shares_prefixes = !has_dropout;
            let mut terms = SampleTerms {
                advantages: advantages.iter().map(|&advantage| advantage as f32).collect(),
                old_logprobs: None,
                reference_logprobs: None,
                tokens: tokens as f64 / count as f64,
            };
            if self.config.options.num_iterations > 1 {
                terms.old_logprobs = Some(self.logprobs_now(&batch)?);
            }
            if self.config.beta > 0.0 {
                terms.reference_logprobs = Some(self.reference_logprobs(&batch)?);
            }
            batch.samples = Some(terms);
            Ok(batch)
        });
        batches.collect()
    }

    /// Of each cell, without dropout.
    fn logprobs_now(&self, batch: &Batch) -> Result<Vec<f32>> {
        let model = &mut *self.model.borrow_mut();
        let pass = ForwardPass::run(model, batch, false)?;
        let logprobs = no_grad(|| pass.token_logprobs_at(model.decoder(), self.config.options.temperature))?;
        Ok(Vec::try_from(logprobs.f_to_device(tch::Device::Cpu)?.f_flatten(0, -1)?)?)
    }

    fn reference_logprobs(&self, batch: &Batch) -> Result<Vec<f32>> {
        let Some(start) = &self.start else {
            self.model.borrow_mut().adapted.set_enabled(false)?;
            let logprobs = self.logprobs_now(batch);
            self.model.borrow_mut().adapted.set_enabled(true)?;
            return logprobs;
        };
        let now = self.model.borrow().adapted.trainable()?.snapshot()?;
        self.model.borrow_mut().adapted.trainable_mut()?.restore(start)?;
        let logprobs = self.logprobs_now(batch);
        self.model.borrow_mut().adapted.trainable_mut()?.restore(&now)?;
        logprobs
    }

    /// The loss of a micro-batch of [`Self::window`]; `key` is that of its dropout.
    ///
    /// # Errors
    /// A batch that is not of samples, and memory that runs out.
    pub fn loss(&self, batch: &Batch, key: Key) -> Result<Tensor> {
        let Some(samples) = &batch.samples else { return Err(Error::bug("a batch without samples")) };
        let model = &mut *self.model.borrow_mut();
        model.micro_batch = Some(MicroBatchDropout::new(key));
        let pass = ForwardPass::run(model, batch, true);
        model.micro_batch = None;
        let device = model.decoder().device;
        let logprobs = pass?.token_logprobs_at(model.decoder(), self.config.options.temperature)?;
        let shape = [batch.rows as i64, batch.seq_len as i64];
        let cells = |numbers: &Option<Vec<f32>>| -> Result<Option<Tensor>> {
            let tensor =
                |numbers: &Vec<f32>| Ok(Tensor::f_from_slice(numbers)?.f_reshape(shape)?.f_to_device(device)?);
            numbers.as_ref().map(tensor).transpose()
        };
        let (old, reference) = (cells(&samples.old_logprobs)?, cells(&samples.reference_logprobs)?);
        let labels = Tensor::f_from_slice(&batch.labels)?.f_reshape(shape)?.f_to_device(device)?;
        let terms = Terms {
            logprobs: &logprobs,
            old_logprobs: old.as_ref(),
            reference_logprobs: reference.as_ref(),
            mask: &labels.f_ne(IGNORE)?.f_to_kind(Dtype::Float)?,
            advantages: &Tensor::f_from_slice(&samples.advantages)?.f_to_device(device)?,
        };
        let result = grpo_loss(&terms, &self.config, samples.tokens)?;
        result.metrics.into_iter().for_each(|(name, value)| self.log(name, value));
        Ok(result.loss)
    }

    fn log(&self, name: &str, value: f64) {
        self.logged.borrow_mut().entry(name.to_owned()).or_default().push(value);
    }

    /// Under TRL's names.
    fn log_samples(&self, samples: &[RewardedSample], rewards: &[f64]) {
        self.log("reward", mean(rewards));
        self.log("reward_std", deviation(rewards));
        let groups: Vec<&[f64]> = rewards.chunks(self.config.options.num_generations).collect();
        let is_flat = |group: &&&[f64]| deviation(group) < 1e-8;
        self.log("frac_reward_zero_std", groups.iter().filter(is_flat).count() as f64 / groups.len().max(1) as f64);
        for (index, (name, _)) in
            samples.first().map(|sample| sample.rewards.as_slice()).unwrap_or_default().iter().enumerate()
        {
            let of_function: Vec<f64> =
                samples.iter().filter_map(|sample| sample.rewards.get(index)).map(|(_, reward)| *reward).collect();
            self.log(&format!("rewards/{name}/mean"), mean(&of_function));
            self.log(&format!("rewards/{name}/std"), deviation(&of_function));
        }
        let lengths: Vec<f64> = samples.iter().map(|sample| sample.ids.len() as f64).collect();
        self.log("completions/mean_length", mean(&lengths));
        let cut = samples.iter().filter(|sample| !sample.is_complete).count();
        self.log("completions/clipped_ratio", cut as f64 / samples.len().max(1) as f64);
    }

    /// The means of what was logged since the last call, by name.
    pub fn take_metrics(&self) -> Metrics {
        let logged = std::mem::take(&mut *self.logged.borrow_mut());
        logged.into_iter().map(|(name, values)| (name, mean(&values))).collect()
    }
}

impl Rollout for Rollouts<'_> {
    /// The samples of the prompts in `rows`, drawn anew for every generation.
    ///
    /// # Errors
    /// Those of drawing and rewarding.
    fn window(&self, step: u64, rows: &[u32]) -> Result<Vec<Batch>> {
        let generation = step / self.config.options.num_iterations;
        if let Some(drawn) = self.drawn.borrow().as_ref().filter(|drawn| drawn.generation == generation) {
            return Ok(drawn.batches.clone());
        }
        let seed = Key::new(self.seed).named("rollout").numbered(generation).value();
        let samples = (self.draw)(&self.model.borrow(), rows, seed)?;
        let expected = rows.len() * self.config.options.num_generations;
        if samples.len() != expected {
            return Err(Error::bug(format!("expected {expected} samples, found {}", samples.len())));
        }
        let batches = self.batches(&samples)?;
        *self.drawn.borrow_mut() = Some(Drawn { generation, batches: batches.clone() });
        Ok(batches)
    }

    /// The samples, where other steps may train on them: the model that drew them is then another.
    fn state(&self) -> Result<Option<Value>> {
        let drawn = self.drawn.borrow();
        let drawn = drawn.as_ref().filter(|_| self.config.options.num_iterations > 1);
        let to_json = |drawn| serde_json::to_value(drawn).map_err(|error| Error::bug(format!("samples: {error}")));
        drawn.map(to_json).transpose()
    }

    fn restore(&self, state: Value) -> Result<()> {
        let drawn = serde_json::from_value(state).map_err(|error| {
            Error::new(Kind::File, format!("the samples of the checkpoint cannot be read: {error}"))
        })?;
        *self.drawn.borrow_mut() = Some(drawn);
        Ok(())
    }
}
