//! The parts of a training loop that a script writes itself: forward pass, optimizer, clipping,
//! learning-rate schedule.

use crate::bail;
use crate::error::Kind;
use crate::lora::trainable::dropout_key;
use crate::model::{loss, Adapters, Decoder, Input};
use crate::options;
use crate::options::{OptionSet, OptionType};
use crate::script::api::tensor::BACKWARDS;
use crate::script::api::OptionsOfFunction;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::json::{to_dynamic, to_row_value};
use crate::script::values::options::Options;
use crate::train::checkpoint::loop_state;
use crate::train::schedule::SchedulerType;
use crate::train::AdamWConfig;
use crate::train::{clip, AdamW};
use crate::{lora, Error, Result};
use rhai::plugin::*;
use rhai::Map;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use tch::Tensor as Values;

/// The result of a forward pass.
#[derive(Clone)]
pub struct Output {
    logits: Handle<Values>,
    loss: Handle<Values>,
    mask: Handle<Values>,
}

/// AdamW over the trainable parameters of one model.
pub struct Optimizer {
    model: Handle<lora::Model>,
    adamw: AdamW,
    lr: f64,
    /// The adapter whose parameters it updates; `None` for all weights.
    adapter: Option<String>,
    /// [`BACKWARDS`] when the gradients were last used or set to zero.
    backwards: u64,
}

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
    pub type AdamWOptimizer = Handle<Optimizer>;
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
        Ok(run_forward(model, &batch, true)?)
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
        Ok(run_forward(model, &batch, train)?)
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
    #[rhai_fn(get = "loss", global, pure)]
    pub fn loss(output: &mut Output) -> Tensor {
        output.loss.clone()
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
    #[rhai_fn(get = "logits", global, pure)]
    pub fn logits(output: &mut Output) -> Tensor {
        output.logits.clone()
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
        output.mask.clone()
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
        let (adamw, adapter) = {
            let adapted = &model.read()?.adapted;
            (AdamW::new(config, adapted.trainable()?)?, adapted.active_name().map(str::to_owned))
        };
        let backwards = BACKWARDS.load(Ordering::Relaxed);
        Ok(Handle::new(Optimizer { model, adamw, lr: config.lr, adapter, backwards }))
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
        let mut optimizer = optimizer.write()?;
        let Optimizer { model, adamw, lr, adapter, backwards } = &mut *optimizer;
        let model = model.read()?;
        ensure_same_adapter(adapter.as_deref(), &model.adapted)?;
        let parameters = model.adapted.trainable()?;
        match parameters.gradient_norm()? {
            norm if !norm.is_finite() => bail_numeric()?,
            // A gradient of 0 may be right, but not if backward() was never called.
            0.0 if *backwards == BACKWARDS.load(Ordering::Relaxed) => bail_no_gradient()?,
            _ => {}
        }
        adamw.step(parameters, *lr, 1.0)?;
        *backwards = BACKWARDS.load(Ordering::Relaxed);
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
        let mut optimizer = optimizer.write()?;
        optimizer.backwards = BACKWARDS.load(Ordering::Relaxed);
        let mut model = optimizer.model.write()?;
        Ok(model.adapted.trainable_mut()?.zero_gradients()?)
    }

    /// Save the loop in a folder: trained values, optimizer, and the values of the script.
    ///
    /// The state is written whole or not at all, into `checkpoint-STEP` by the number of the optimizer's steps. The two
    /// newest stay. `load_checkpoint` goes on from it. `values` may hold numbers, texts, arrays and maps.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let opt = adamw(model, #{ lr: 2e-4 });
    /// opt.save_checkpoint("runs/loop", #{ epoch: 1, losses: [2.5, 2.25] });
    /// print(opt.load_checkpoint("runs/loop").epoch);
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn save_checkpoint(
        context: NativeCallContext,
        optimizer: &mut AdamWOptimizer,
        folder: &str,
        values: Map,
    ) -> RhaiResultOf<()> {
        let folder = State::of(&context)?.folder_to_write(Path::new(folder))?;
        let values = to_row_value(&Dynamic::from_map(values), &serde_json::Value::Null)?;
        let optimizer = optimizer.read()?;
        let model = optimizer.model.read()?;
        ensure_same_adapter(optimizer.adapter.as_deref(), &model.adapted)?;
        let values = json!({ "values": values, "lr": optimizer.lr, "forwards": model.forwards });
        loop_state::save(&folder, model.adapted.trainable()?, &optimizer.adamw, values)?;
        Ok(())
    }

    /// Go on from the newest checkpoint in a folder; returns the values that were saved, or `()` if there is none.
    ///
    /// Overwrites the trained values, the state of the optimizer with its learning rate, and the count of forward passes,
    /// which their dropout depends on: a loop that goes on takes the very steps that it would have taken. A damaged
    /// checkpoint is passed over, with a note.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let opt = adamw(model, #{ lr: 2e-4 });
    /// let saved = opt.load_checkpoint("runs/loop") ?? #{ step: 0 };
    /// print(saved.step);
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn load_checkpoint(
        context: NativeCallContext,
        optimizer: &mut AdamWOptimizer,
        folder: &str,
    ) -> RhaiResultOf<Dynamic> {
        let state = State::of(&context)?;
        let folder = PathBuf::from(state.to_read(folder));
        let mut optimizer = optimizer.write()?;
        let Optimizer { model, adamw, lr, adapter, backwards } = &mut *optimizer;
        let mut model = model.write()?;
        ensure_same_adapter(adapter.as_deref(), &model.adapted)?;
        let parameters = model.adapted.trainable_mut()?;
        let Some(saved) = loop_state::load(&folder, parameters, adamw, &mut |line| state.note(line))? else {
            return Ok(Dynamic::UNIT);
        };
        *lr = saved["lr"].as_f64().unwrap_or(*lr);
        model.forwards = saved["forwards"].as_u64().unwrap_or(model.forwards);
        *backwards = BACKWARDS.load(Ordering::Relaxed);
        Ok(to_dynamic(&saved["values"]))
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
        Ok(optimizer.read()?.lr)
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
        if !lr.is_finite() || lr < 0.0 {
            return Err(Error::input(format!("lr: expected a number of at least 0, found {lr}")).into());
        }
        optimizer.write()?.lr = lr;
        Ok(())
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
        if !max_norm.is_finite() || max_norm <= 0.0 {
            return Err(Error::input(format!("clip_grad_norm: expected a norm above 0, found {max_norm}")).into());
        }
        let mut model = model.write()?;
        let parameters = model.adapted.trainable_mut()?;
        let norm = parameters.gradient_norm()?;
        let factor = clip::factor(norm, max_norm);
        if factor < 1.0 {
            parameters.scale_gradients(factor)?;
        }
        Ok(norm)
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

/// The moments of one adapter do not fit another.
fn ensure_same_adapter(optimized: Option<&str>, model: &lora::AdaptedModel) -> Result<()> {
    let name = |adapter: Option<&str>| adapter.map_or("all weights".to_owned(), |name| format!("the adapter `{name}`"));
    match model.active_name() {
        active if active == optimized => Ok(()),
        active => {
            let (optimized, active) = (name(optimized), name(active));
            Err(Error::input(format!("this optimizer is for {optimized}, and {active} would be trained now"))
                .with_hint("call model.set_adapter(name) before the forward pass, or make an optimizer for each"))
        }
    }
}

fn bail_no_gradient() -> Result<()> {
    bail!(Kind::Input, "no trainable parameter has a gradient"; hint: "call loss.backward() first, on a loss of a forward pass in training");
}

fn bail_numeric() -> Result<()> {
    bail!(Kind::Numeric, "the gradient is not finite; the weights are as they were"; hint: "lower the learning rate, or clip the gradient");
}

/// Seeds the dropout of loops that scripts write; `train` has its own keys.
const FORWARD_SEED: u64 = 42;

fn run_forward(model: &Handle<lora::Model>, batch: &Handle<crate::data::Batch>, train: bool) -> Result<Output> {
    let mut model = model.write()?;
    let batch = batch.read()?;
    let key = train.then(|| dropout_key(FORWARD_SEED, model.forwards, 0));
    model.forwards += u64::from(train);
    let adapters = model.adapted.adapter_set(key);
    let run = || forward_pass(model.decoder(), &batch, &adapters);
    let (logits, loss) = if train { run()? } else { tch::no_grad(run)? };
    let mask = batch_mask(&batch, model.decoder())?;
    Ok(Output { logits: Handle::new(logits), loss: Handle::new(loss), mask: Handle::new(mask) })
}

/// 1.0 at tokens, 0.0 at padding: f32 `[rows, time]`.
fn batch_mask(batch: &crate::data::Batch, decoder: &Decoder) -> Result<Values> {
    let cells = (0..batch.cells()).map(|cell| f32::from(batch.is_token(cell))).collect::<Vec<f32>>();
    let mask = Values::f_from_slice(&cells)?.f_reshape([batch.rows as i64, batch.seq_len as i64])?;
    Ok(mask.f_to_device(decoder.device)?)
}

/// Logits `[rows, time, vocabulary]`, 0 on padding, and the mean loss.
fn forward_pass(decoder: &Decoder, batch: &crate::data::Batch, adapters: &dyn Adapters) -> Result<(Values, Values)> {
    let input = Input::from_batches(&[batch], decoder)?;
    let hidden = decoder.hidden(&input, adapters)?;
    let logits = input.padded(&decoder.logits(&hidden, &input.tokens, adapters)?)?;
    let labels = Values::f_from_slice(&batch.labels)?.f_reshape([batch.rows as i64, batch.seq_len as i64])?;
    let loss = loss::mean_loss(&logits, &labels.f_to_device(decoder.device)?)?;
    Ok((logits, loss))
}
