//! Merging adapters into weights, and files for other programs.

use crate::data::ollama;
use crate::eval::certificate::{self, Certificate, MergeOptions};
use crate::eval::divergence::Divergence;
use crate::eval::export::{ensure_exportable, export_adapter, export_model};
use crate::hub::gguf::BlockType;
use crate::hub::weights::parse_size;
use crate::lora::peft;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::json::to_dynamic;
use crate::script::values::options::Options;
use crate::{files, lora, model, Error, Result};
use rhai::plugin::*;
use rhai::{Dynamic, Map};
use serde::Serialize;
use std::path::Path;

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
    /// The written files are read back and compared with base and adapter: the largest
    /// difference of logits, the mean KL divergence, both perplexities, and the share of the
    /// adapter's change that rounding took. The numbers are printed, given back as a map, and
    /// written to `merge_certificate.json`. Above the tolerance nothing is written.
    ///
    /// Options: `adapter` (the active one), `dtype` ("auto": that of the loaded weights; "f32",
    /// "bf16", "f16"), `max_shard_size` ("5GB"), `tolerance` (0.01: mean KL in nats per token),
    /// `force` (false: true writes above the tolerance too), `text` (what to compare on; a
    /// short mixed text).
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let found = model.save_merged("runs/merged", #{ dtype: "f32", max_shard_size: "1MB" });
    /// print(found.mean_kl);
    /// ```
    #[rhai_fn(name = "save_merged", global, pure, return_raw, volatile)]
    pub fn save_merged_with(
        context: NativeCallContext,
        model: &mut Model,
        folder: &str,
        options: Map,
    ) -> RhaiResultOf<Map> {
        let options = merge_options(options)?;
        let certificate = write_merged(&*model.read()?, folder, &options, &State::of(&context)?)?;
        context.call_native_fn::<()>("print", (certificate.to_string(),))?;
        Ok(to_map(&certificate)?)
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
    /// The file is read back and its logits compared before it gets its name; how far they lie
    /// off is printed and given back as a map.
    ///
    /// Options: `what` ("merged": the base with the adapter that is at work in its weights;
    /// "adapter": the active adapter alone, for a GGUF of the base), `type` ("f32", "f16",
    /// "bf16" or "q8_0"; by default that of the weights, and f32 for an adapter).
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
        let mut options = Options::new("export_gguf", options);
        let is_adapter = options.take_choice("what", &[("merged", false), ("adapter", true)], false)?;
        let types = BlockType::ALL.map(|block| (block.name(), Some(block)));
        let block = options.take_choice("type", &types, None)?;
        options.finish()?;
        let model = model.read()?;
        let state = State::of(&context)?;
        let name = path;
        let path = state.file_to_write(path)?;
        let found = match is_adapter {
            false if state.leaves_out(name, &model.name, model.decoder().weight_bytes()) => {
                ensure_exportable(&model)?;
                Divergence::unmeasured(0)
            }
            true => export_adapter(&model, &path, None, block)?,
            false => export_model(&model, &path, block)?,
        };
        let notes = match is_adapter {
            true => peft::deployment_notes(model.adapted.adapter(None)?, &model.decoder().config),
            false => model::gguf::notes(&model.decoder().config),
        };
        notes.iter().for_each(|note| state.note(note));
        let line = format!(
            "{}: read back and compared on {} tokens, max |Δlogit| {:.3e}, KL {:.3e}",
            path.display(),
            found.tokens,
            found.max_logit_difference,
            found.mean_kl
        );
        context.call_native_fn::<()>("print", (line,))?;
        Ok(to_map(&found)?)
    }

    /// Write a Modelfile for Ollama: the weights, the adapter, the chat format and its stops.
    ///
    /// The format is taken from the model's chat template, where it is a known one. Options:
    /// `from` (required: a GGUF file or a folder of `save_merged`, as Ollama will find it),
    /// `adapter` (a GGUF adapter over it).
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.save_modelfile("runs/Modelfile", #{ from: "./merged.gguf" });
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn save_modelfile(context: NativeCallContext, model: &mut Model, path: &str, options: Map) -> RhaiResultOf<()> {
        let mut options = Options::new("save_modelfile", options);
        let from: String = options.take_required("from")?;
        let adapter: Option<String> = options.take_opt("adapter")?;
        options.finish()?;
        let (text, notes) = ollama::modelfile(model.read()?.tokenizer()?, &from, adapter.as_deref())?;
        let state = State::of(&context)?;
        files::write_whole(&state.file_to_write(path)?, text.as_bytes())?;
        notes.iter().for_each(|note| state.note(note));
        Ok(())
    }
}

/// In a rehearsal a large model is left out, and what was to be measured of it is not a number.
fn write_merged(model: &lora::Model, folder: &str, options: &MergeOptions, state: &State) -> Result<Certificate> {
    let place = state.folder_to_write(Path::new(folder))?;
    if state.rehearsing() {
        // What lies in the true folder may be no one's to replace.
        let unmeasured = certificate::unmeasured(model, Path::new(folder), options)?;
        if state.leaves_out(folder, &model.name, model.decoder().weight_bytes()) {
            return Ok(unmeasured);
        }
    }
    certificate::save_merged(model, &place, options)
}

fn merge_options(options: Map) -> Result<MergeOptions> {
    let default = MergeOptions::default();
    let mut options = Options::new("save_merged", options);
    let size: Option<String> = options.take_opt("max_shard_size")?;
    let merge = MergeOptions {
        adapter: options.take_opt("adapter")?,
        dtype: options.take("dtype", default.dtype)?,
        max_shard_size: match size {
            Some(text) => parse_size(&text).map_err(|error| error.context("`max_shard_size`"))?,
            None => default.max_shard_size,
        },
        tolerance: options.take("tolerance", default.tolerance)?,
        force: options.take("force", default.force)?,
        text: options.take_opt("text")?,
    };
    options.finish()?;
    Ok(merge)
}

/// May be none: where an adapter changes no layer.
const WORST_LAYER: &str = "worst_layer";

fn to_map(found: &impl Serialize) -> Result<Map> {
    let json = serde_json::to_value(found).map_err(|error| Error::bug(error.to_string()))?;
    let mut map = to_dynamic(&json).try_cast::<Map>().ok_or_else(|| Error::bug("a result that is no map"))?;
    // JSON writes what is not a number, as in a rehearsal, as null.
    for (name, value) in map.iter_mut().filter(|(_, value)| value.is_unit()) {
        if name != WORST_LAYER {
            *value = f64::NAN.into();
        }
    }
    Ok(map)
}
