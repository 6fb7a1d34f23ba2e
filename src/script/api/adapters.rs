//! Adapters on a model: adding, choosing, counting, saving and loading them.

use crate::hub::{self, Hub};
use crate::lora::adapter::ParameterCounts;
use crate::lora::{self, LoraSpec};
use crate::model::Config;
use crate::options;
use crate::options::OptionSet;
use crate::script::api::OptionsOfFunction;
use crate::script::engine::downloads::Downloads;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::json::to_map;
use crate::script::values::options::Options;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};
use std::path::Path;

options! {
    #[derive(Debug, Clone)]
    struct AddLoraOptions {
        spec: LoraSpec = LoraSpec::default(), is set;
        /// The adapter's name.
        name: String = lora::adapted::DEFAULT_NAME.to_owned();
        /// The seed of its starting values.
        seed: u64 = 42;
    }
}

options! {
    #[derive(Debug, Clone)]
    struct SaveAdapterOptions {
        /// Writes a PiSSA or OLoRA adapter as a LoRA of twice the rank over the original base, which every program
        /// reads.
        as_lora: bool = false;
        /// Replace whatever the folder holds.
        overwrite: bool = false;
    }
}

options! {
    #[derive(Debug, Clone)]
    struct LoadAdapterOptions {
        /// The adapter's name on the model.
        name: String = lora::adapted::DEFAULT_NAME.to_owned();
    }
}

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] = &[
    ("count_parameters", LoraSpec::table),
    ("model.add_lora", AddLoraOptions::table),
    ("model.save_adapter", SaveAdapterOptions::table),
    ("model.load_adapter", LoadAdapterOptions::table),
];

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// A base model with its adapters and its tokenizer.
    pub type Model = Handle<crate::lora::Model>;

    /// Count parameters from a model's config.json alone: no weights are read or fetched.
    ///
    /// The result has `parameters`, `trainable`, `all`
    /// and `line`, which is what peft prints.
    ///
    /// ```rhai
    /// let counts = count_parameters("scripts/tiny", #{ r: 16, target_modules: "all-linear" });
    /// print(counts.line);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn count_parameters(context: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Map> {
        let spec: LoraSpec = Options::read("count_parameters", options)?;
        let state = State::of(&context)?;
        let path = hub::resolve_config(&state.to_read(name), &Hub::from_env()?, &mut Downloads::new(&state))?;
        Ok(to_map(&ParameterCounts::of(&spec, &Config::from_file(&path)?)?.fields()))
    }

    /// Add a LoRA adapter and make it the active one; the base is frozen.
    ///
    /// docs/variants.md says what each variant does. docs/defaults.md has the defaults beside peft's: they are the
    /// same.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 8, alpha: 16, target_modules: "all-linear" });
    /// model.print_trainable_parameters();
    /// model.add_lora(#{ name: "dora", r: 8, alpha: 16, use_dora: true });
    /// model.add_lora(#{ name: "pissa", r: 8, alpha: 16, init_lora_weights: "pissa" });
    /// model.add_lora(#{ name: "head", r: 8, alpha: 16, modules_to_save: ["lm_head", "norm"] });
    /// model.add_lora(#{ name: "tokens", r: 8, alpha: 16, trainable_token_indices: [5, 9] });
    /// model.print_trainable_parameters();
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn add_lora(model: &mut Model, options: Map) -> RhaiResultOf<()> {
        let AddLoraOptions { spec, name, seed } = Options::read("add_lora", options)?;
        Ok(model.write()?.adapted.add(&name, spec, seed)?)
    }

    /// Print how many parameters are trained, in the words of peft.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// model.print_trainable_parameters();
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn print_trainable_parameters(context: NativeCallContext, model: &mut Model) -> RhaiResultOf<()> {
        let line = model.read()?.adapted.count_line();
        context.call_native_fn::<()>("print", (line,))
    }

    /// The number of trainable parameters.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// print(model.trainable_parameters);
    /// ```
    #[rhai_fn(get = "trainable_parameters", global, pure, return_raw)]
    pub fn trainable_parameters(model: &mut Model) -> RhaiResultOf<i64> {
        Ok(model.read()?.adapted.counts().0 as i64)
    }

    /// The names of the adapters on the model.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ name: "first" });
    /// print(model.adapters);
    /// ```
    #[rhai_fn(get = "adapters", global, pure, return_raw)]
    pub fn adapters(model: &mut Model) -> RhaiResultOf<Array> {
        Ok(model.read()?.adapted.names().map(|name| Dynamic::from(name.to_owned())).collect())
    }

    /// Choose the adapter that takes part in the forward pass and is trained.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ name: "a" });
    /// model.add_lora(#{ name: "b" });
    /// model.set_adapter("a");
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn set_adapter(model: &mut Model, name: &str) -> RhaiResultOf<()> {
        Ok(model.write()?.adapted.set_active(name)?)
    }

    /// Let the base answer alone, until `enable_adapters`.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// model.disable_adapters();
    /// model.enable_adapters();
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn disable_adapters(model: &mut Model) -> RhaiResultOf<()> {
        Ok(model.write()?.adapted.set_enabled(false)?)
    }

    /// Let the active adapter take part again.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// model.disable_adapters();
    /// model.enable_adapters();
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn enable_adapters(model: &mut Model) -> RhaiResultOf<()> {
        Ok(model.write()?.adapted.set_enabled(true)?)
    }

    /// Remove an adapter; the base stays as it was loaded, bit for bit.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ name: "trial" });
    /// model.delete_adapter("trial");
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn delete_adapter(model: &mut Model, name: &str) -> RhaiResultOf<()> {
        model.write()?.adapted.remove(name)?;
        Ok(())
    }

    /// Save the active adapter as peft does, with the tokenizer's files beside it.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// model.save_adapter("runs/adapter");
    /// ```
    #[rhai_fn(name = "save_adapter", global, pure, return_raw, volatile)]
    pub fn save_adapter(context: NativeCallContext, model: &mut Model, folder: &str) -> RhaiResultOf<()> {
        save_adapter_with(context, model, folder, Map::new())
    }

    /// Save the active adapter, as it is or turned into an ordinary LoRA.
    ///
    /// An adapter that lorhai saved in the folder is replaced as a whole. A folder with other files is refused, and
    /// loses them with `overwrite: true`. `lorhai.json` lists the saved files with their sizes and hashes, which
    /// `load_adapter` checks; other programs ignore it.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4, init: "pissa" });
    /// model.save_adapter("runs/adapter", #{ as_lora: true });
    /// ```
    #[rhai_fn(name = "save_adapter", global, pure, return_raw, volatile)]
    pub fn save_adapter_with(
        context: NativeCallContext,
        model: &mut Model,
        folder: &str,
        options: Map,
    ) -> RhaiResultOf<()> {
        let SaveAdapterOptions { as_lora, overwrite } = Options::read("save_adapter", options)?;
        let (model, state) = (model.read()?, State::of(&context)?);
        model.ensure_not_base(Path::new(folder))?;
        let folder = state.folder_to_publish(&lora::peft::FOLDER, Path::new(folder), overwrite)?;
        model.save_adapter(&folder, as_lora, overwrite)?.iter().for_each(|note| state.note(note));
        Ok(())
    }

    /// Load an adapter that lorhai or peft saved, and make it the active one.
    ///
    /// The folder of a run or a trial means the adapter in it. An adapter that lorhai saved is compared with its
    /// `lorhai.json`, and refused if a file was changed or lost since.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4, name: "first" });
    /// model.save_adapter("runs/adapter");
    /// model.load_adapter("runs/adapter", #{ name: "second" });
    /// print(model.adapters);
    /// ```
    #[rhai_fn(name = "load_adapter", global, pure, return_raw, volatile)]
    pub fn load_adapter_with(
        context: NativeCallContext,
        model: &mut Model,
        folder: &str,
        options: Map,
    ) -> RhaiResultOf<()> {
        let LoadAdapterOptions { name } = Options::read("load_adapter", options)?;
        let state = State::of(&context)?;
        let folder = hub::resolve_model(&state.to_read(folder), &Hub::from_env()?, &mut Downloads::new(&state))?.path;
        let notes = model.write()?.load_adapter(&folder, &name, &mut |file| state.note_read(file))?;
        notes.iter().for_each(|note| state.note(note));
        Ok(())
    }

    /// Load an adapter that lorhai or peft saved, under the name "default".
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4, name: "first" });
    /// model.save_adapter("runs/adapter");
    /// model.load_adapter("runs/adapter");
    /// ```
    #[rhai_fn(name = "load_adapter", global, pure, return_raw, volatile)]
    pub fn load_adapter(context: NativeCallContext, model: &mut Model, folder: &str) -> RhaiResultOf<()> {
        load_adapter_with(context, model, folder, Map::new())
    }
}
