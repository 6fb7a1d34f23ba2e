//! The parts of a training loop that a script writes itself: forward pass, optimizer, clipping,
//! learning-rate schedule.

use crate::lora;
use crate::options;
use crate::options::{OptionSet, OptionType};
use crate::script::api::OptionsOfFunction;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::objects::{ModelOptimizer, Output};
use crate::script::values::options::Options;
use crate::train::by_hand::{self, Optimizer};
use crate::train::forward::ForwardPass;
use crate::train::schedule::SchedulerType;
use crate::train::AdamWConfig;
use rhai::plugin::*;
use rhai::Map;
use std::rc::Rc;

options! {
    #[derive(Debug, Clone)]
    struct ScheduleOptions {
        /// The steps of the run.
        steps: u64 = 0, is required;
        /// Steps in which the factor rises from 0; below 1 a fraction of `steps`.
        warmup: f64 = 0.0, range at_least(0.0);
    }
}

options! {
    #[derive(Debug, Clone)]
    struct ForwardOptions {
        /// Apply dropout and record gradients.
        train: bool = true;
    }
}

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] =
    &[("adamw", AdamWConfig::table), ("lr_schedule", ScheduleOptions::table), ("model.forward", ForwardOptions::table)];

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// A base model with its adapters and its tokenizer.
    pub type Model = Handle<crate::lora::Model>;
    /// Ids and labels that go through the model together.
    pub type Batch = Handle<crate::data::Batch>;
    /// Numbers on a device, with their gradients.
    pub type Tensor = Handle<tch::Tensor>;
    /// AdamW over the trainable parameters of one model.
    pub type AdamWOptimizer = Handle<ModelOptimizer>;
    /// The factor on the learning rate at each step.
    pub type Schedule = crate::train::schedule::Schedule;

    /// Run the model on a batch: the result has `loss` and `logits`, and gradients are recorded.
    ///
    /// The loss is the mean cross-entropy over the labels of the batch. The adapter's dropout
    /// is on; see `forward(batch, #{ train: false })`.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// for batch in data.batches(#{}) {
    ///     let loss = model.forward(batch).loss;
    ///     loss.backward();
    ///     print(loss.item());
    /// }
    /// ```
    #[rhai_fn(name = "forward", global, pure, return_raw, volatile)]
    pub fn forward(model: &mut Model, batch: Batch) -> RhaiResultOf<Output> {
        run_forward(model, &batch, true)
    }

    /// Run the model on a batch.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// for batch in data.batches(#{}) {
    ///     print(model.forward(batch, #{ train: false }).loss.item());
    /// }
    /// ```
    #[rhai_fn(name = "forward", global, pure, return_raw, volatile)]
    pub fn forward_with(model: &mut Model, batch: Batch, options: Map) -> RhaiResultOf<Output> {
        let ForwardOptions { train } = Options::read("forward", options)?;
        run_forward(model, &batch, train)
    }

    /// The mean cross-entropy over the labels of the batch: a tensor with `backward()`.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// for batch in data.batches(#{}) {
    ///     print(model.forward(batch).loss.item());
    /// }
    /// ```
    #[rhai_fn(get = "loss", global, pure, return_raw)]
    pub fn loss(output: &mut Output) -> RhaiResultOf<Tensor> {
        Ok(output.tensor(ForwardPass::loss)?)
    }

    /// The logarithm of the probability of each label, f32 `[rows, seq_len]`; 0 where there is no label.
    ///
    /// The label of a position is the token there, predicted by the position before it: multiply by weights of your own,
    /// as those of `batch.labels.ne(-100)`. The logits of all positions are never held, so this takes the memory of `loss`.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// for batch in data.batches(#{}) {
    ///     let output = model.forward(batch);
    ///     let trained = batch.labels.ne(-100);
    ///     print((output.token_logprobs.masked_mean(trained) + output.loss).abs() < 1e-5);
    /// }
    /// ```
    #[rhai_fn(get = "token_logprobs", global, pure, return_raw)]
    pub fn token_logprobs(output: &mut Output) -> RhaiResultOf<Tensor> {
        Ok(output.tensor(ForwardPass::token_logprobs)?)
    }

    /// The states that the output matrix is applied to: `[rows, seq_len, width]`, 0 at padding.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// for batch in data.batches(#{}) {
    ///     print(model.forward(batch).hidden.shape);
    /// }
    /// ```
    #[rhai_fn(get = "hidden", global, pure, return_raw)]
    pub fn hidden(output: &mut Output) -> RhaiResultOf<Tensor> {
        Ok(output.tensor(|pass, _| pass.hidden())?)
    }

    /// The scores of every token at every position: `[rows, time, vocabulary]`.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// for batch in data.batches(#{}) {
    ///     print(model.forward(batch).logits.shape);
    /// }
    /// ```
    #[rhai_fn(get = "logits", global, pure, return_raw)]
    pub fn logits(output: &mut Output) -> RhaiResultOf<Tensor> {
        Ok(output.tensor(ForwardPass::logits)?)
    }

    /// 1 at every token and 0 at padding: `[rows, time]`, on the device of `logits`.
    ///
    /// To write a loss yourself: padding has logits too (0), so a mean over all positions is not a mean over tokens.
    /// Multiply the value at each position by this mask, sum, and divide by `batch.tokens`.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let rows = [#{ prompt: "a", completion: " b" }, #{ prompt: "the small fox", completion: " sees" }];
    /// let data = dataset(rows).tokenize(model, #{});
    /// for batch in data.batches(#{}) {
    ///     let output = model.forward(batch);
    ///     let p = output.logits.log_softmax(-1);
    ///     let entropy = (p.exp() * p).sum(-1) * output.mask;
    ///     print((entropy.sum() * -1.0 / batch.tokens).item());
    /// }
    /// ```
    #[rhai_fn(get = "mask", global, pure)]
    pub fn mask(output: &mut Output) -> Tensor {
        Handle::new(output.pass.mask().shallow_clone())
    }

    /// AdamW over what the model trains: the active adapter, or all weights after `train_all`.
    ///
    /// torch's own defaults are `lr` 1e-3 and `weight_decay` 0.01.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let opt = adamw(model, #{ lr: 2e-4 });
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn adamw(model: Model, options: Map) -> RhaiResultOf<AdamWOptimizer> {
        let config: AdamWConfig = Options::read("adamw", options)?;
        let optimizer = Optimizer::new(config, &model.read()?.adapted)?;
        Ok(Handle::new(ModelOptimizer { model, optimizer }))
    }

    /// Update the parameters from their gradients.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let opt = adamw(model, #{ lr: 2e-4 });
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// for batch in data.batches(#{}) {
    ///     model.forward(batch).loss.backward();
    ///     clip_grad_norm(model, 1.0);
    ///     opt.step();
    ///     opt.zero_grad();
    /// }
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn step(optimizer: &mut AdamWOptimizer) -> RhaiResultOf<()> {
        let mut pair = optimizer.write()?;
        let ModelOptimizer { model, optimizer } = &mut *pair;
        optimizer.step(&model.read()?.adapted)?;
        Ok(())
    }

    /// Set the gradients to zero.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let opt = adamw(model, #{ lr: 2e-4 });
    /// opt.zero_grad();
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn zero_grad(optimizer: &mut AdamWOptimizer) -> RhaiResultOf<()> {
        let mut pair = optimizer.write()?;
        let ModelOptimizer { model, optimizer } = &mut *pair;
        optimizer.zero_grad(&mut model.write()?.adapted)?;
        Ok(())
    }

    /// The learning rate of the next step.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let opt = adamw(model, #{ lr: 2e-4 });
    /// print(opt.lr);
    /// ```
    #[rhai_fn(get = "lr", global, pure, return_raw)]
    pub fn lr(optimizer: &mut AdamWOptimizer) -> RhaiResultOf<f64> {
        Ok(optimizer.read()?.optimizer.lr())
    }

    /// Set the learning rate of the next step.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let opt = adamw(model, #{ lr: 2e-4 });
    /// let schedule = lr_schedule("cosine", #{ steps: 10 });
    /// opt.lr = 2e-4 * schedule.factor(3);
    /// ```
    #[rhai_fn(set = "lr", global, pure, return_raw)]
    pub fn set_lr(optimizer: &mut AdamWOptimizer, lr: f64) -> RhaiResultOf<()> {
        Ok(optimizer.write()?.optimizer.set_lr(lr)?)
    }

    /// Scale the gradients down so that their norm is at most `max_norm`; returns the norm before.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// for batch in data.batches(#{}) {
    ///     model.forward(batch).loss.backward();
    ///     print(clip_grad_norm(model, 1.0));
    /// }
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn clip_grad_norm(model: Model, max_norm: f64) -> RhaiResultOf<f64> {
        Ok(by_hand::clip_grad_norm(&mut model.write()?.adapted, max_norm)?)
    }

    /// A learning-rate schedule: "constant", "linear" or "cosine".
    ///
    /// "constant" warms up too if `warmup` is set, as "constant_with_warmup" of transformers does.
    ///
    /// ```rhai
    /// let cosine = lr_schedule("cosine", #{ steps: 100, warmup: 0.03 });
    /// print(cosine.factor(50));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn lr_schedule(name: &str, options: Map) -> RhaiResultOf<Schedule> {
        let ScheduleOptions { steps, warmup } = Options::read("lr_schedule", options)?;
        let kind = SchedulerType::named(name).map_err(|mismatch| mismatch.error("lr_schedule: the name", name))?;
        Ok(Schedule::new(kind, steps, warmup)?)
    }

    /// What the learning rate is multiplied by at an optimizer step, counted from 0.
    ///
    /// ```rhai
    /// let linear = lr_schedule("linear", #{ steps: 10 });
    /// print(linear.factor(5));
    /// ```
    #[rhai_fn(global, pure)]
    pub fn factor(schedule: &mut Schedule, step: i64) -> f64 {
        schedule.factor(step.max(0) as u64)
    }
}

fn run_forward(model: &Handle<lora::Model>, batch: &Handle<crate::data::Batch>, train: bool) -> RhaiResultOf<Output> {
    let pass = ForwardPass::run(&mut *model.write()?, &*batch.read()?, train)?;
    Ok(Output { model: model.clone(), pass: Rc::new(pass) })
}
