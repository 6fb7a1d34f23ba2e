//! Merging adapters into weights, and files for other programs.

use crate::data::ollama;
use crate::eval::certificate::{self, MergeOptions};
use crate::eval::export::{self, Exported};
use crate::hub::gguf::BlockType;
use crate::options;
use crate::options::OptionSet;
use crate::script::api::OptionsOfFunction;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::json::to_dynamic;
use crate::script::values::options::Options;
use crate::{files, Error, Result};
use rhai::plugin::*;
use rhai::{Dynamic, Map};
use serde::Serialize;
use std::path::Path;

options! {
    #[derive(Debug, Clone)]
    struct GgufOptions {
        /// "merged" is the base with its active adapter in the weights; "adapter" the active adapter alone, for a GGUF
        /// of the base.
        what: Exported = Exported::Merged;
        /// The type of the numbers.
        block: Option<BlockType> = None, name "type", words "that of the weights, \"f32\" for an adapter";
        /// Replace the file whatever it is; without this only a GGUF file is replaced.
        overwrite: bool = false;
    }
}

options! {
    #[derive(Debug, Clone)]
    struct ModelfileOptions {
        /// A GGUF file or a folder of `save_merged`, as Ollama will find it.
        from: String = String::new(), is required;
        /// A GGUF adapter over it.
        adapter: Option<String> = None;
    }
}

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] = &[
    ("model.save_merged", MergeOptions::table),
    ("model.export_gguf", GgufOptions::table),
    ("model.save_modelfile", ModelfileOptions::table),
];

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    use crate::script::api::model::functions::Model;

    /// Add the active adapter into the weights in memory; the base's files stay untouched.
    ///
    /// Until `unmerge`, the model answers from the merged weights alone, and adapters cannot
    /// be added, trained or removed. Rounds as peft's `merge_adapter` does.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// model.merge();
    /// print(model.merged);
    /// model.unmerge();
    /// ```
    #[rhai_fn(name = "merge", global, pure, return_raw, volatile)]
    pub fn merge(model: &mut Model) -> RhaiResultOf<()> {
        model.write()?.adapted.merge(None)?;
        Ok(())
    }

    /// Add the named adapter into the weights in memory.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ name: "a" });
    /// model.add_lora(#{ name: "b" });
    /// model.merge("a");
    /// ```
    #[rhai_fn(name = "merge", global, pure, return_raw, volatile)]
    pub fn merge_named(model: &mut Model, adapter: &str) -> RhaiResultOf<()> {
        model.write()?.adapted.merge(Some(adapter))?;
        Ok(())
    }

    /// Put the weights back that `merge` replaced: the very same, bit for bit.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// model.merge();
    /// model.unmerge();
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn unmerge(model: &mut Model) -> RhaiResultOf<()> {
        Ok(model.write()?.adapted.unmerge()?)
    }

    /// The name of the adapter that is merged into the weights, or `()`.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// model.merge();
    /// print(model.merged);
    /// ```
    #[rhai_fn(get = "merged", global, pure, return_raw)]
    pub fn merged(model: &mut Model) -> RhaiResultOf<Dynamic> {
        Ok(model.read()?.adapted.merged_name().map_or(Dynamic::UNIT, |name| name.to_owned().into()))
    }

    /// Save the base with the active adapter in its weights as a transformers folder, with a certificate.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// model.save_merged("runs/merged");
    /// ```
    #[rhai_fn(name = "save_merged", global, pure, return_raw, volatile)]
    pub fn save_merged(context: NativeCallContext, model: &mut Model, folder: &str) -> RhaiResultOf<Map> {
        save_merged_with(context, model, folder, Map::new())
    }

    /// Save the base with an adapter in its weights as a transformers folder, with a certificate.
    ///
    /// The written files are read back and compared with base and adapter: the largest difference of logits, the mean
    /// KL divergence, both perplexities, and the fraction of the adapter's change that rounding lost. The numbers are
    /// printed, returned as a map, and written to `merge_certificate.json`. Above the tolerance nothing is written.
    ///
    /// A merged model that lorhai saved in the folder is replaced as a whole. A folder with other files is refused, and
    /// loses them with `overwrite: true`; the folder of the base model is never replaced.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let certificate = model.save_merged("runs/merged", #{ dtype: "f32", max_shard_size: "1MB" });
    /// print(certificate.mean_kl);
    /// ```
    #[rhai_fn(name = "save_merged", global, pure, return_raw, volatile)]
    pub fn save_merged_with(
        context: NativeCallContext,
        model: &mut Model,
        folder: &str,
        options: Map,
    ) -> RhaiResultOf<Map> {
        let options: MergeOptions = Options::read("save_merged", options)?;
        let (model, state) = (model.read()?, State::of(&context)?);
        let place = state.folder_to_write(Path::new(folder))?;
        // A rehearsal writes elsewhere, but refuses a folder that a run would refuse.
        let unmeasured = certificate::unmeasured(&model, Path::new(folder), &options)?;
        let save = || certificate::save_merged(&model, &place, &options);
        let bytes = model.decoder().weight_bytes();
        let certificate = state.save_model(folder, &model.name, bytes, || Ok(unmeasured), save)?;
        context.call_native_fn::<()>("print", (certificate.to_string(),))?;
        Ok(result_map(&certificate)?)
    }

    /// Export the model as a GGUF file for llama.cpp and Ollama, in the dtype of its weights.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.export_gguf("runs/tiny.gguf");
    /// ```
    #[rhai_fn(name = "export_gguf", global, pure, return_raw, volatile)]
    pub fn export_gguf(context: NativeCallContext, model: &mut Model, path: &str) -> RhaiResultOf<Map> {
        export_gguf_with(context, model, path, Map::new())
    }

    /// Export the model, or its adapter, as a GGUF file for llama.cpp and Ollama.
    ///
    /// The file is read back and its logits compared before it gets its name; the differences are printed and returned
    /// as a map.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// model.export_gguf("runs/adapter.gguf", #{ what: "adapter" });
    /// model.export_gguf("runs/merged.gguf", #{ type: "q8_0" });
    /// ```
    #[rhai_fn(name = "export_gguf", global, pure, return_raw, volatile)]
    pub fn export_gguf_with(
        context: NativeCallContext,
        model: &mut Model,
        path: &str,
        options: Map,
    ) -> RhaiResultOf<Map> {
        let GgufOptions { what, block, overwrite } = Options::read("export_gguf", options)?;
        let (model, state) = (model.read()?, State::of(&context)?);
        export::ensure_replaceable(Path::new(path), overwrite)?;
        let file = state.file_to_write(path)?;
        let unwritten = || export::unmeasured(&model);
        let write = || what.write(&model, &file, block, overwrite);
        let divergence = state.save_model(path, &model.name, what.bytes(&model), unwritten, write)?;
        what.notes(&model)?.iter().for_each(|note| state.note(note));
        context.call_native_fn::<()>("print", (divergence.line(&file),))?;
        Ok(result_map(&divergence)?)
    }

    /// Write a Modelfile for Ollama: the weights, the adapter, the chat format and its stops.
    ///
    /// The format is taken from the model's chat template, where it is a known one.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.save_modelfile("runs/Modelfile", #{ from: "./merged.gguf" });
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn save_modelfile(context: NativeCallContext, model: &mut Model, path: &str, options: Map) -> RhaiResultOf<()> {
        let ModelfileOptions { from, adapter } = Options::read("save_modelfile", options)?;
        let (text, notes) = ollama::modelfile(model.read()?.tokenizer()?, &from, adapter.as_deref())?;
        let state = State::of(&context)?;
        files::write_atomic(&state.file_to_write(path)?, text.as_bytes())?;
        notes.iter().for_each(|note| state.note(note));
        Ok(())
    }
}

/// May be none: where an adapter changes no layer.
const WORST_LAYER: &str = "worst_layer";

fn result_map(result: &impl Serialize) -> Result<Map> {
    let json = serde_json::to_value(result).map_err(|error| Error::bug(error.to_string()))?;
    let mut map = to_dynamic(&json).try_cast::<Map>().ok_or_else(|| Error::bug("the result is not a map"))?;
    // JSON writes what is not a number, as in a rehearsal, as null.
    for (_, value) in map.iter_mut().filter(|(name, value)| value.is_unit() && *name != WORST_LAYER) {
        *value = f64::NAN.into();
    }
    Ok(map)
}
