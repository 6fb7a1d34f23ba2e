//! Training loops that a script writes itself, as runs: their log, record and checkpoints.

use crate::error::{Error, Result};
use crate::options::OptionSet;
use crate::script::api::OptionsOfFunction;
use crate::script::engine::origin;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::json::{to_dynamic, to_row_value};
use crate::script::values::objects::{ModelOptimizer, ScriptRun, Tokenized, TokenizedSplit};
use crate::script::values::options::Options;
use crate::script::values::run_functions;
use crate::train::by_hand;
use crate::train::checkpoint::loop_state::{LoopPart, LoopState};
use crate::train::loop_run::{self, LoopRun, LoopRunOptions};
use crate::train::metrics::MetricsRow;
use crate::train::progress::Progress;
use crate::{data, lora};
use rhai::plugin::*;
use rhai::{Dynamic, Map};
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] = &[("start_run", LoopRunOptions::table)];

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// A training loop of the script's own, which goes on where it was cut off.
    pub type Run = Handle<ScriptRun>;

    /// Begin a training loop of your own as a run, with a record and a log in a folder.
    ///
    /// No other process may use the folder meanwhile. The loop calls `run.log` after its steps, and to go on where it was cut off `run.resume` before its first step and
    /// `run.checkpoint` on the way. `run.finish` ends it. The run is listed by `lorhai runs`, shown by `show` and `compare`,
    /// drawn by `run_chart` and repeated by `replay`; one that its script does not finish stays unfinished, or has failed
    /// where the script ends in an error. `train` and `sweep` need none of this: they save themselves.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4, dropout: 0.1 });
    /// let rows = [#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }];
    /// let data = dataset(rows).tokenize(model, #{});
    /// let opt = adamw(model, #{ lr: 2e-4 });
    ///
    /// let run = start_run("runs/loop", #{ steps: 4, settings: #{ lr: 2e-4 } });
    /// let at = run.resume(#{ opt: opt, data: data, epoch: 0, batch: 0, step: 0 });
    /// while at.epoch < 2 {
    ///     for batch in data.batches(#{ size: 1, shuffle: 42, epoch: at.epoch, skip: at.batch }) {
    ///         let loss = model.forward(batch).loss;
    ///         loss.backward();
    ///         opt.step();
    ///         opt.zero_grad();
    ///         at.batch += 1;
    ///         at.step += 1;
    ///         run.log(at.step, #{ loss: loss.item() });
    ///         run.checkpoint(at);
    ///     }
    ///     at.epoch += 1;
    ///     at.batch = 0;
    /// }
    /// run.finish();
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn start_run(context: NativeCallContext, out: &str, options: Map) -> RhaiResultOf<Run> {
        let state = State::of(&context)?;
        state.ensure_alone("start_run")?;
        let options: LoopRunOptions = Options::read("start_run", options)?;
        let folder = state.folder_to_write(Path::new(out))?;
        // In a rehearsal the run looks at another folder.
        loop_run::ensure_usable(Path::new(out))?;
        let progress = if state.pace().is_full() { Progress::new(state.quiet()) } else { Progress::Quiet };
        let origin = origin::of(&state, None, Path::new(out))?;
        let run = LoopRun::begin(&folder, options, Some(origin), progress, &mut |line| state.note(line))?;
        let run = Handle::new(ScriptRun { out: out.into(), run, has_model: false });
        state.watch_run(&run);
        Ok(run)
    }

    /// Go on from the newest checkpoint of the run; returns the map with the values that were saved.
    ///
    /// `values` names all that the loop holds. An optimizer is overwritten with its saved state, and with it the values
    /// that it trains, their gradients, and the count of forward passes, which dropout depends on; so is a model that has
    /// no optimizer. Numbers, texts, arrays and maps come back in the result; without a checkpoint they are those of
    /// `values`. Tokenized data is not saved: its rows must be the same.
    ///
    /// A loop that goes on takes the very steps that it would have taken. It is refused if the model, the data, the
    /// options of an optimizer or the settings from `args` have changed: see the option `resume`.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let opt = adamw(model, #{ lr: 2e-4 });
    /// let run = start_run("runs/loop", #{});
    /// let at = run.resume(#{ opt: opt, step: 0, losses: [] });
    /// print(`going on after step ${at.step}`);
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn resume(context: NativeCallContext, run: &mut Run, values: Map) -> RhaiResultOf<Map> {
        let state = State::of(&context)?;
        let ScriptRun { out, run, has_model } = &mut *run.write()?;
        let conditions = run.conditions(|| conditions(&state, &values))?;
        if let Some(model) = model_in(&values).filter(|_| !std::mem::replace(has_model, true)) {
            run.set_origin(origin::of(&state, Some(&*model?.read()?), out)?)?;
        }
        match run.resume(state.pace(), out, &conditions, &mut |line| state.note(line))? {
            Some(saved) => Ok(restore(&saved, values).map_err(|error| error.context(out.display()))?),
            None => Ok(values),
        }
    }

    /// Save all that the loop holds, whole or not at all; returns whether a checkpoint was written.
    ///
    /// `values` is what `run.resume` gets. With the option `save_every` most calls write nothing: call it after every
    /// step. Gradients are saved too, so it may be called in the middle of an accumulation. The state lies in
    /// `checkpoint-STEP`, by the number of the optimizer's steps, and the two newest are kept.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let opt = adamw(model, #{ lr: 2e-4 });
    /// let run = start_run("runs/loop", #{ save_every: "5m" });
    /// run.checkpoint(#{ opt: opt, step: 1, losses: [2.5] });
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn checkpoint(context: NativeCallContext, run: &mut Run, values: Map) -> RhaiResultOf<bool> {
        let state = State::of(&context)?;
        let run = &mut run.write()?.run;
        let step = optimizer_steps(&values)?;
        if !run.is_due(step) {
            return Ok(false);
        }
        let (mut parts, mut plain) = (BTreeMap::new(), serde_json::Map::new());
        for (name, value) in &values {
            match held(value) {
                Some(Held::Data(_)) => {}
                Some(held) => drop(parts.insert(name.to_string(), part(&held)?)),
                None => {
                    let value =
                        to_row_value(value, &Value::Null).map_err(|error| error.context(format!("`{name}`")))?;
                    plain.insert(name.to_string(), value);
                }
            }
        }
        let conditions = run.conditions(|| conditions(&state, &values))?;
        let saved = LoopState { step, conditions, parts, values: Value::Object(plain), log: None };
        run.checkpoint(saved, &mut |line| state.note(line))?;
        Ok(true)
    }

    /// Log numbers of a step: a row of `metrics.jsonl`, and points in TensorBoard.
    ///
    /// Names that begin with `eval_` are shown as measured on held-out rows; `loss` and `eval_loss` are what charts of
    /// runs draw. With the option `steps` of `start_run`, the progress bar moves on. A run that goes on from a checkpoint
    /// drops the rows behind it.
    ///
    /// ```rhai
    /// let run = start_run("runs/loop", #{ steps: 10 });
    /// for step in 1..=10 {
    ///     run.log(step, #{ loss: 3.0 / step, accuracy: 0.1 * step });
    /// }
    /// run.finish();
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn log(context: NativeCallContext, run: &mut Run, step: i64, numbers: Map) -> RhaiResultOf<()> {
        let state = State::of(&context)?;
        let Ok(step) = u64::try_from(step) else {
            return Err(Error::input(format!("run.log: expected a step of at least 0, found {step}")).into());
        };
        if numbers.contains_key("step") {
            let error = Error::input("run.log: `step` is the first argument: expected another name");
            return Err(error.with_hint("run.log(step, #{ loss: … })").into());
        }
        let numbers: Vec<(String, f64)> = run_functions::numbers("run.log", &numbers)?;
        run.write()?.run.log(&MetricsRow::of(step, numbers), &mut |line| state.note(line))?;
        Ok(())
    }

    /// End the run and remove its checkpoints: the script, run again, begins anew.
    ///
    /// The results in its record are the last numbers that were logged.
    ///
    /// ```rhai
    /// let run = start_run("runs/loop", #{});
    /// run.finish();
    /// ```
    #[rhai_fn(name = "finish", global, pure, return_raw, volatile)]
    pub fn finish(context: NativeCallContext, run: &mut Run) -> RhaiResultOf<()> {
        let state = State::of(&context)?;
        run.write()?.run.finish(None, &mut |line| state.note(line))?;
        Ok(())
    }

    /// End the run with its results, a map of numbers.
    ///
    /// ```rhai
    /// let run = start_run("runs/loop", #{});
    /// run.finish(#{ accuracy: 0.75 });
    /// ```
    #[rhai_fn(name = "finish", global, pure, return_raw, volatile)]
    pub fn finish_with(context: NativeCallContext, run: &mut Run, results: Map) -> RhaiResultOf<()> {
        let state = State::of(&context)?;
        let results = run_functions::numbers("run.finish", &results)?;
        run.write()?.run.finish(Some(results), &mut |line| state.note(line))?;
        Ok(())
    }

    /// The folder of the run, as the script called it.
    ///
    /// ```rhai
    /// let run = start_run("runs/loop", #{});
    /// print(run.folder);
    /// ```
    #[rhai_fn(get = "folder", global, pure, return_raw)]
    pub fn folder(run: &mut Run) -> RhaiResultOf<String> {
        Ok(run.read()?.out.display().to_string())
    }
}

/// What tells this value from another one of the same name: its rows, its model or itself; null where nothing does.
pub fn identity_of(value: &Dynamic) -> Result<Value> {
    match held(value) {
        Some(Held::Data(fingerprint)) => Ok(fingerprint.unwrap_or_default()),
        Some(Held::Model(model)) => model.read()?.identity(),
        Some(Held::Optimizer(_)) => Ok(Value::Null),
        None => Ok(to_row_value(value, &Value::Null).unwrap_or_default()),
    }
}

/// A value of the script that is more than JSON.
enum Held {
    Optimizer(Handle<ModelOptimizer>),
    Model(Handle<lora::Model>),
    /// The hash of its rows; `None` for a sample of them in a rehearsal.
    Data(Option<Value>),
}

fn held(value: &Dynamic) -> Option<Held> {
    let fingerprint = |data: &Tokenized| (!data.rows.is_sample()).then(|| Value::from(data.rows.fingerprint()));
    if let Some(optimizer) = value.read_lock::<Handle<ModelOptimizer>>() {
        return Some(Held::Optimizer(optimizer.clone()));
    }
    if let Some(model) = value.read_lock::<Handle<lora::Model>>() {
        return Some(Held::Model(model.clone()));
    }
    if let Some(data) = value.read_lock::<Tokenized>() {
        return Some(Held::Data(fingerprint(&data)));
    }
    let split = value.read_lock::<TokenizedSplit>()?;
    let halves = fingerprint(&split.train).zip(fingerprint(&split.test));
    Some(Held::Data(halves.map(|(train, test)| json!({ "train": train, "test": test }))))
}

fn optimizer_steps(values: &Map) -> Result<u64> {
    let mut most = 0;
    for value in values.values() {
        if let Some(Held::Optimizer(pair)) = held(value) {
            most = most.max(pair.read()?.optimizer.steps());
        }
    }
    Ok(most)
}

/// A model among the values, or that of an optimizer.
fn model_in(values: &Map) -> Option<Result<Handle<lora::Model>>> {
    values.values().find_map(|value| match held(value)? {
        Held::Optimizer(pair) => Some(pair.read().map(|pair| pair.model.clone())),
        Held::Model(model) => Some(Ok(model)),
        Held::Data(_) => None,
    })
}

/// What must be the same for the loop to go on.
fn conditions(state: &State, values: &Map) -> Result<Value> {
    let (mut models, mut optimizers, mut data) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let identity = |model: &lora::Model| -> Result<Value> {
        let lora = model.adapted.adapter(None).ok().map(|adapter| &adapter.spec);
        let mut identity = model.identity()?;
        identity["lora"] = json!(lora);
        Ok(identity)
    };
    for (name, value) in values {
        match held(value) {
            Some(Held::Optimizer(pair)) => {
                let pair = pair.read()?;
                optimizers.insert(name.as_str(), json!(pair.optimizer.config()));
                models.insert(name.as_str(), identity(&*pair.model.read()?)?);
            }
            Some(Held::Model(model)) => drop(models.insert(name.as_str(), identity(&*model.read()?)?)),
            Some(Held::Data(fingerprint)) => drop(data.insert(name.as_str(), fingerprint)),
            None => {}
        }
    }
    let mut conditions = json!({
        "models": models,
        "optimizers": optimizers,
        "settings": state.settings()?,
        "lorhai": env!("CARGO_PKG_VERSION"),
        "libtorch": env!("LORHAI_LIBTORCH_VERSION"),
    });
    if data.values().all(Option::is_some) {
        conditions["data"] = json!(data);
    }
    Ok(conditions)
}

fn part(held: &Held) -> Result<LoopPart> {
    match held {
        Held::Optimizer(pair) => {
            let pair = pair.read()?;
            let model = pair.model.read()?;
            pair.optimizer.state(&model)
        }
        Held::Model(model) => by_hand::model_state(&*model.read()?),
        Held::Data(_) => Err(Error::bug("data is not saved")),
    }
}

/// Overwrites what `values` holds, and puts the saved values in it.
fn restore(saved: &LoopState, mut values: Map) -> Result<Map> {
    for (name, value) in &values {
        let Some(held) = held(value) else { continue };
        let part = || {
            saved.parts.get(name.as_str()).ok_or_else(|| {
                let names: Vec<String> = saved.parts.keys().map(|name| format!("`{name}`")).collect();
                Error::input(format!("the checkpoint has no `{name}`, but {}", names.join(", ")))
                    .with_hint("give run.resume the names that run.checkpoint gets")
            })
        };
        match held {
            Held::Optimizer(pair) => {
                let mut pair = pair.write()?;
                let ModelOptimizer { model, optimizer } = &mut *pair;
                optimizer.restore(&mut *model.write()?, part()?)?;
            }
            Held::Model(model) => by_hand::restore_model(&mut *model.write()?, part()?)?,
            Held::Data(_) => {}
        }
    }
    let plain: &data::Row = saved.values.as_object().ok_or_else(|| Error::bug("values that are no object"))?;
    for (name, value) in plain {
        values.insert(name.as_str().into(), to_dynamic(value));
    }
    Ok(values)
}
