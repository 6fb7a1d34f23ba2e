//! Checkpoints of training loops that a script writes itself.

use crate::error::{Error, Result};
use crate::options::OptionSet;
use crate::script::api::OptionsOfFunction;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::json::{to_dynamic, to_row_value};
use crate::script::values::objects::{ModelOptimizer, ScriptRun, Tokenized, TokenizedSplit};
use crate::script::values::options::Options;
use crate::train::by_hand;
use crate::train::checkpoint::loop_state::{LoopPart, LoopState};
use crate::train::loop_run::{self, LoopRun, LoopRunOptions};
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

    /// Begin a training loop of your own in a folder, which no other process may use meanwhile.
    ///
    /// The loop calls `run.resume` before its first step and `run.checkpoint` on the way. `train` and `sweep` need none
    /// of this: they save themselves.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4, dropout: 0.1 });
    /// let rows = [#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }];
    /// let data = dataset(rows).tokenize(model, #{});
    /// let opt = adamw(model, #{ lr: 2e-4 });
    ///
    /// let run = start_run("runs/loop", #{});
    /// let at = run.resume(#{ opt: opt, data: data, epoch: 0, batch: 0 });
    /// while at.epoch < 2 {
    ///     for batch in data.batches(#{ size: 1, shuffle: 42, epoch: at.epoch, skip: at.batch }) {
    ///         model.forward(batch).loss.backward();
    ///         opt.step();
    ///         opt.zero_grad();
    ///         at.batch += 1;
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
        let options: LoopRunOptions = Options::read("start_run", options)?;
        let folder = state.folder_to_write(Path::new(out))?;
        // In a rehearsal the run looks at another folder.
        loop_run::ensure_usable(Path::new(out))?;
        let run = LoopRun::begin(&folder, options)?;
        Ok(Handle::new(ScriptRun { out: out.into(), run }))
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
        let ScriptRun { out, run } = &mut *run.write()?;
        let conditions = run.conditions(|| conditions(&state, &values))?;
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
        let saved = LoopState { step, conditions, parts, values: Value::Object(plain) };
        run.checkpoint(saved, &mut |line| state.note(line))?;
        Ok(true)
    }

    /// End the run and remove its checkpoints: the script, run again, begins anew.
    ///
    /// ```rhai
    /// let run = start_run("runs/loop", #{});
    /// run.finish();
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn finish(run: &mut Run) -> RhaiResultOf<()> {
        Ok(run.write()?.run.finish()?)
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
