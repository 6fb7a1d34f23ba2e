//! Memory: what a training step will need, from config.json alone, and what one takes.

use crate::hub::{self, Hub};
use crate::model::{packing, Config};
use crate::options::OptionSet;
use crate::script::api::OptionsOfFunction;
use crate::script::engine::downloads::Downloads;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::json::{self, to_dynamic};
use crate::script::values::options::Options;
use crate::train::memory::check::{self, PassOptions};
use crate::train::memory::{self, Request, StepDevice};
use crate::{files, plot};
use rhai::plugin::*;
use rhai::{Dynamic, Map};

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] = &[("memory_plan", Request::table), ("check_memory", PassOptions::table)];

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// A base model with its adapters and its tokenizer.
    pub type Model = Handle<crate::lora::Model>;
    /// The memory that a training step needs, by method.
    pub type MemoryPlan = crate::train::memory::Plan;

    /// Plan the memory of a training step from a model's config.json alone: nothing else is read or fetched.
    ///
    /// Compares full fine-tuning, LoRA and QLoRA (NF4, with and without double quantisation), each
    /// as lorhai trains and as the usual Python recipe does.
    ///
    /// Figures for "cuda", checkpointing and QLoRA are by formula, not measured.
    ///
    /// ```rhai
    /// let plan = memory_plan("scripts/tiny", #{ batch_size: 4, max_length: 128, r: 16, target_modules: "all-linear" });
    /// print(plan.table());
    /// plan.chart("runs/memory.png");
    /// ```
    #[rhai_fn(name = "memory_plan", return_raw, volatile)]
    pub fn memory_plan(context: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<MemoryPlan> {
        let request: Request = Options::read("memory_plan", options)?;
        let state = State::of(&context)?;
        let path = hub::resolve_config(&state.to_read(name), &Hub::from_env()?, &mut Downloads::new(&state))?;
        let config = Config::from_file(&path)?;
        let packed_bytes = match request.device {
            StepDevice::Cpu => packing::planned_bytes(&config, request.precision.dtype())?,
            StepDevice::Cuda => 0,
        };
        Ok(memory::plan(name, &config, &Request { packed_bytes, ..request })?)
    }

    /// Plan the memory of a training step of a loaded model, by default in its dtype and on its device.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// print(memory_plan(model, #{ batch_size: 4, max_length: 128, r: 8 }).table());
    /// ```
    #[rhai_fn(name = "memory_plan", return_raw, volatile)]
    pub fn memory_plan_of(model: Model, options: Map) -> RhaiResultOf<MemoryPlan> {
        let model = model.read()?;
        let decoder = model.decoder();
        let request = Options::read_over(Request::of(decoder), "memory_plan", options)?;
        Ok(memory::plan(&model.name, &decoder.config, &request)?)
    }

    /// The plan as text: two lines for each method, ours and the Python recipe's.
    ///
    /// ```rhai
    /// print(memory_plan("scripts/tiny", #{ r: 4 }).table());
    /// ```
    #[rhai_fn(name = "table", global, pure)]
    pub fn plan_table(plan: &mut MemoryPlan) -> String {
        plan.table()
    }

    /// The plan as a map: `needs` has `method`, `trainable`, `ours` and `python`, all in bytes.
    ///
    /// ```rhai
    /// let plan = memory_plan("scripts/tiny", #{ r: 4 }).to_map();
    /// for need in plan.needs {
    ///     print(`${need.method}: ${need.ours.activations} bytes of activations`);
    /// }
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn to_map(plan: &mut MemoryPlan) -> RhaiResultOf<Dynamic> {
        Ok(to_dynamic(&plan.to_json()?))
    }

    /// Write the plan as JSON, whole or not at all.
    ///
    /// ```rhai
    /// memory_plan("scripts/tiny", #{ r: 4 }).save("runs/memory.json");
    /// ```
    #[rhai_fn(name = "save", global, pure, return_raw, volatile)]
    pub fn save_plan(context: NativeCallContext, plan: &mut MemoryPlan, path: &str) -> RhaiResultOf<()> {
        Ok(files::write_json(&State::of(&context)?.file_to_write(path)?, &plan.to_json()?)?)
    }

    /// Draw the plan as stacked bars, into a file that ends in `.svg`, `.png` or `.pdf`.
    ///
    /// ```rhai
    /// memory_plan("scripts/tiny", #{ r: 4 }).chart("runs/memory.svg");
    /// ```
    #[rhai_fn(name = "chart", global, pure, return_raw, volatile)]
    pub fn plan_chart(context: NativeCallContext, plan: &mut MemoryPlan, path: &str) -> RhaiResultOf<()> {
        Ok(plot::memory::memory_chart(plan).save(&State::of(&context)?.file_to_write(path)?)?)
    }

    /// Run a real forward and backward pass on random tokens, and compare its memory with the plan.
    ///
    /// Trains nothing: the active adapter, or all weights after `train_all`, stay as they are.
    ///
    /// The result has `predicted` and `measured`, the bytes of activations, logits and working memory, and `error`,
    /// their relative difference. `measured` and `error` are `()` where the system does not report memory.
    ///
    /// On a GPU `measured` is what tensors hold. On a CPU it is the growth of the process. That includes small holes
    /// that glibc keeps (docs/performance.md has figures); set `MALLOC_MMAP_THRESHOLD_=65536` in the environment to
    /// measure without them. In the first pass of a process it also includes libtorch's own code, which hides passes
    /// of a few MB.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// print(check_memory(model, #{ batch_size: 8, max_length: 128 }).predicted);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn check_memory(context: NativeCallContext, model: Model, options: Map) -> RhaiResultOf<Map> {
        let pass: PassOptions = Options::read("check_memory", options)?;
        let pass = pass.at(State::of(&context)?.pace());
        Ok(json::to_map(&check::check(&mut model.write()?.adapted, &pass)?.fields()))
    }
}
