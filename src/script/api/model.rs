//! Models and their adapters.

use crate::data::ChatTemplate;
use crate::hub::tokenizer::chat_template_in;
use crate::hub::{self, Hub};
use crate::lora::LoraSpec;
use crate::lora::{convert, peft, LoadOptions};
use crate::model::{device, Config};
use crate::options;
use crate::options::{OptionSet, Refusal};
use crate::script::api::OptionsOfFunction;
use crate::script::engine::downloads::Downloads;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::{describe, FromScript};
use crate::script::values::handles::Handle;
use crate::script::values::options::Options;
use crate::{lora, Error, Result};
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
    struct LoadModelOptions {
        load: LoadOptions = LoadOptions::default(), is set;
        /// A chat template to set; see `model.chat_template`.
        chat_template: Option<String> = None, words "the tokenizer's own";
    }
}

options! {
    #[derive(Debug, Clone)]
    struct RandomModelOptions {
        /// The seed of the weights.
        seed: u64 = 0;
        /// The dtype of the weights: "auto", "f32", "bf16" or "f16".
        dtype: String = "f32".to_owned();
        /// "auto" is the first GPU if there is one, otherwise the CPU; "cpu", "cuda", or one of several GPUs: "cuda:1".
        device: String = "auto".to_owned();
    }
    rule RandomModelOptions::rule;
}

impl RandomModelOptions {
    fn rule(&self) -> Option<Refusal> {
        device::dtype_problem(&self.dtype).or_else(|| device::device_problem(&self.device))
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
    struct SaveOptions {
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
    ("load_model", LoadModelOptions::table),
    ("random_model", RandomModelOptions::table),
    ("count_parameters", LoraSpec::table),
    ("model.add_lora", AddLoraOptions::table),
    ("model.save_adapter", SaveAdapterOptions::table),
    ("model.load_adapter", LoadAdapterOptions::table),
    ("model.save", SaveOptions::table),
];

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// A base model with its adapters and its tokenizer.
    pub type Model = Handle<crate::lora::Model>;

    /// Load a model by folder or hub name, with the dtype and device chosen for this machine.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// print(model.dtype);
    /// ```
    #[rhai_fn(name = "load_model", return_raw, volatile)]
    pub fn load_model(context: NativeCallContext, name: &str) -> RhaiResultOf<Model> {
        load_model_with(context, name, Map::new())
    }

    /// Load a model by folder or hub name.
    ///
    /// The options for 4-bit weights are those of transformers' BitsAndBytesConfig.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny", #{ dtype: "f32", device: "cpu" });
    /// let small = load_model("scripts/tiny", #{ load_in_4bit: true, bnb_4bit_use_double_quant: true });
    /// small.add_lora(#{ r: 8, target_modules: "all-linear" });
    /// print(small.is_loaded_in_4bit);
    /// ```
    #[rhai_fn(name = "load_model", return_raw, volatile)]
    pub fn load_model_with(context: NativeCallContext, name: &str, options: Map) -> RhaiResultOf<Model> {
        let LoadModelOptions { load, chat_template } = Options::read("load_model", options)?;
        let state = State::of(&context)?;
        let mut model = lora::Model::load(&state.to_read(name), &load, &mut Downloads::new(&state))?;
        model.name = name.to_owned();
        if let Some(template) = chat_template {
            set_template(&mut model, &template).map_err(|error| error.context("load_model: option `chat_template`"))?;
        }
        model.decoder().notes.iter().for_each(|note| state.note(&format!("{name}: {note}")));
        Ok(Handle::new(model))
    }

    /// A model with random weights, from the `config.json` and tokenizer in a folder: for pretraining.
    ///
    /// ```rhai
    /// let model = random_model("scripts/tiny", #{ seed: 1 });
    /// model.train_all();
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn random_model(context: NativeCallContext, folder: &str, options: Map) -> RhaiResultOf<Model> {
        let RandomModelOptions { seed, dtype, device } = Options::read("random_model", options)?;
        let load = LoadOptions { dtype, device, ..LoadOptions::default() };
        let mut model = lora::Model::random(Path::new(&State::of(&context)?.to_read(folder)), seed, &load)?;
        model.name = folder.to_owned();
        Ok(Handle::new(model))
    }

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
        let config = Config::from_file(&path)?;
        let trainable = lora::adapter::trainable_count(&spec, &config)?;
        let (base, added) = (config.parameter_count(), lora::adapter::added_count(&spec, &config)?);
        let mut counts = Map::new();
        counts.insert("parameters".into(), (base as i64).into());
        counts.insert("trainable".into(), (trainable as i64).into());
        counts.insert("all".into(), ((base + added) as i64).into());
        counts.insert("line".into(), lora::adapter::count_line(trainable, base + added).into());
        Ok(counts)
    }

    /// A model in one line: its name, its size, the dtype of its weights, its device.
    ///
    /// ```rhai
    /// print(load_model("scripts/tiny", #{ load_in_4bit: true }));
    /// ```
    #[rhai_fn(name = "to_string", global, pure, return_raw)]
    pub fn to_string(model: &mut Model) -> RhaiResultOf<String> {
        let model = model.read()?;
        let decoder = model.decoder();
        let count = crate::format::thousands(decoder.config.parameter_count());
        let (dtype, device) = (decoder.weights_dtype(), device::device_name(decoder.device));
        Ok(format!("Model `{}`: {count} parameters, {dtype}, on {device}", model.name))
    }

    /// The name or folder that the model was loaded by.
    ///
    /// ```rhai
    /// print(load_model("scripts/tiny").name);
    /// ```
    #[rhai_fn(get = "name", global, pure, return_raw)]
    pub fn name(model: &mut Model) -> RhaiResultOf<String> {
        Ok(model.read()?.name.clone())
    }

    /// The dtype of the weights: "f32", "bf16" or "f16".
    ///
    /// ```rhai
    /// print(load_model("scripts/tiny", #{ dtype: "f32" }).dtype);
    /// ```
    #[rhai_fn(get = "dtype", global, pure, return_raw)]
    pub fn dtype(model: &mut Model) -> RhaiResultOf<String> {
        Ok(device::dtype_name(model.read()?.decoder().dtype).to_owned())
    }

    /// Whether the linear layers are 4-bit; `dtype` is then what they are computed in.
    ///
    /// ```rhai
    /// print(load_model("scripts/tiny", #{ load_in_4bit: true }).is_loaded_in_4bit);
    /// ```
    #[rhai_fn(get = "is_loaded_in_4bit", global, pure, return_raw)]
    pub fn is_loaded_in_4bit(model: &mut Model) -> RhaiResultOf<bool> {
        Ok(model.read()?.decoder().config.quantization.is_some())
    }

    /// The chat template, a text in the language Jinja; `()` where the model has none.
    ///
    /// ```rhai
    /// print(load_model("scripts/tiny").chat_template);
    /// ```
    #[rhai_fn(get = "chat_template", global, pure, return_raw)]
    pub fn chat_template(model: &mut Model) -> RhaiResultOf<Dynamic> {
        let model = model.read()?;
        let template = model.tokenizer().ok().and_then(|tokenizer| tokenizer.chat_template());
        Ok(template.map_or(Dynamic::UNIT, |template| template.to_owned().into()))
    }

    /// Set the chat template: what `tokenize` trains on, `chat` answers by, and all saved files carry.
    ///
    /// It takes the place of those in the tokenizer's files, that for tools among them, and is compiled at once.
    /// Every saved folder gets it as `chat_template.jinja`, a GGUF file as `tokenizer.chat_template`; a Modelfile
    /// follows it. Rows that were tokenized before keep their tokens.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.chat_template = "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}" +
    ///     "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}";
    /// print(model.chat("Repeat: the small fox", #{ max_new_tokens: 8 }));
    /// ```
    #[rhai_fn(set = "chat_template", global, pure, return_raw)]
    pub fn set_chat_template(model: &mut Model, template: Dynamic) -> RhaiResultOf<()> {
        let Some(template) = String::from_script(&template) else {
            let found = describe(&template);
            return Err(Error::input(format!("chat_template: expected the text of a template, found {found}")).into());
        };
        let template = template.as_str();
        Ok(set_template(&mut *model.write()?, template).map_err(|error| error.context("chat_template"))?)
    }

    /// An old name for `model.chat_template != ()`, which goes in the next version.
    ///
    /// A script that reads it gets a note, once.
    ///
    /// ```rhai
    /// print(load_model("scripts/tiny").chat_template != ());
    /// ```
    #[rhai_fn(get = "has_chat_template", global, pure, return_raw)]
    pub fn has_chat_template(context: NativeCallContext, model: &mut Model) -> RhaiResultOf<bool> {
        State::of(&context)?.note_once(
            "warning: write `model.chat_template != ()` for `model.has_chat_template`, which goes in the next version",
        );
        Ok(model.read()?.tokenizer()?.chat_template().is_some())
    }

    /// The bytes that the weights of the base take; adapters are not counted.
    ///
    /// ```rhai
    /// print(load_model("scripts/tiny", #{ load_in_4bit: true }).get_memory_footprint());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn get_memory_footprint(model: &mut Model) -> RhaiResultOf<i64> {
        Ok(model.read()?.decoder().weight_bytes() as i64)
    }

    /// The device that the weights are on: "cpu" or "cuda:0".
    ///
    /// ```rhai
    /// print(load_model("scripts/tiny").device);
    /// ```
    #[rhai_fn(get = "device", global, pure, return_raw)]
    pub fn device_name(model: &mut Model) -> RhaiResultOf<String> {
        Ok(device::device_name(model.read()?.decoder().device))
    }

    /// The number of parameters of the base, tied weights counted once.
    ///
    /// ```rhai
    /// print(load_model("scripts/tiny").parameters);
    /// ```
    #[rhai_fn(get = "parameters", global, pure, return_raw)]
    pub fn parameters(model: &mut Model) -> RhaiResultOf<i64> {
        Ok(model.read()?.decoder().config.parameter_count() as i64)
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

    /// Give embeddings and output head another number of rows, as transformers does.
    ///
    /// It goes before adapters are added or loaded. New rows are the mean of the old ones; transformers adds a very small noise to that. An adapter that was
    /// trained after a resize needs the same one here, and brings its rows along.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.resize_token_embeddings(1032);
    /// model.add_lora(#{ r: 8, modules_to_save: ["embed_tokens", "lm_head"] });
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn resize_token_embeddings(model: &mut Model, count: i64) -> RhaiResultOf<()> {
        Ok(model.write()?.resize_token_embeddings(count)?)
    }

    /// Make all weights trainable: full-parameter training (f32 models only).
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny", #{ dtype: "f32" });
    /// model.train_all();
    /// model.print_trainable_parameters();
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn train_all(model: &mut Model) -> RhaiResultOf<()> {
        Ok(model.write()?.adapted.train_all()?)
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
        let model = model.read()?;
        let (adapter, config) = (model.adapted.adapter(None)?, &model.decoder().config);
        let converted = if as_lora { Some(convert::to_lora(adapter, config)?) } else { None };
        let adapter = converted.as_ref().unwrap_or(adapter);
        let state = State::of(&context)?;
        model.ensure_not_base(Path::new(folder))?;
        let folder = state.folder_to_publish(&peft::FOLDER, Path::new(folder), overwrite)?;
        peft::save(adapter, &model.name, model.tokenizer().ok(), &folder, overwrite)?;
        for note in peft::deployment_notes(adapter, config) {
            state.note(&note);
        }
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
        let mut model = model.write()?;
        let state = State::of(&context)?;
        let folder = hub::resolve_model(&state.to_read(folder), &Hub::from_env()?, &mut Downloads::new(&state))?.path;
        let adapter_folder = peft::find(&folder)?;
        if adapter_folder != folder {
            state.note(&format!("load_adapter: the adapter is in `{}`", adapter_folder.display()));
        }
        peft::FILES.iter().for_each(|name| state.note_read(&adapter_folder.join(name)));
        let adapter = peft::load(&adapter_folder, model.decoder())?;
        adapter.notes.iter().for_each(|note| state.note(note));
        note_template(&model, &adapter_folder, &state)?;
        Ok(model.adapted.insert(&name, adapter)?)
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

    /// Save the whole base model as a transformers folder: config, weights, tokenizer.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.save("runs/copy");
    /// ```
    #[rhai_fn(name = "save", global, pure, return_raw, volatile)]
    pub fn save(context: NativeCallContext, model: &mut Model, folder: &str) -> RhaiResultOf<()> {
        save_with(context, model, folder, Map::new())
    }

    /// Save the whole base model as a transformers folder, also over other files.
    ///
    /// A model that lorhai saved in the folder is replaced as a whole. A folder with other files is refused, and loses
    /// them with `overwrite: true`. `lorhai.json` lists the saved files with their sizes and hashes. `load_model` checks
    /// the sizes, and the hashes of files up to 256 MiB; other programs ignore it.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.save("runs/copy", #{ overwrite: true });
    /// ```
    #[rhai_fn(name = "save", global, pure, return_raw, volatile)]
    pub fn save_with(context: NativeCallContext, model: &mut Model, folder: &str, options: Map) -> RhaiResultOf<()> {
        let SaveOptions { overwrite } = Options::read("save", options)?;
        let (mut model, state) = (model.write()?, State::of(&context)?);
        let path = state.folder_to_publish(&lora::model::FOLDER, Path::new(folder), overwrite)?;
        if !state.leaves_out(folder, &model.name, model.decoder().weight_bytes()) {
            model.save(&path, overwrite)?;
        }
        Ok(())
    }
}

/// Fails on what is no template.
fn set_template(model: &mut lora::Model, template: &str) -> Result<()> {
    if !template.contains("{{") && !template.contains("{%") {
        let start: String = template.chars().take(40).collect();
        let error = Error::input(format!(
            "expected the text of a Jinja template, with {{{{ … }}}} or {{% … %}}, found {start:?}"
        ));
        let is_file = template.ends_with(".jinja") || template.ends_with(".txt");
        let hint = format!("to read it from a file: read_text({template:?})");
        return Err(if is_file { error.with_hint(hint) } else { error });
    }
    ChatTemplate::new(template, model.tokenizer()?)?;
    model.set_chat_template(template)
}

/// An adapter may have been trained on another chat template than the model would chat by.
fn note_template(model: &lora::Model, folder: &Path, state: &State) -> Result<()> {
    let Some(template) = chat_template_in(folder)? else { return Ok(()) };
    let current = model.tokenizer().ok().and_then(|tokenizer| tokenizer.chat_template());
    if current == Some(template.as_str()) {
        return Ok(());
    }
    let file = folder.join("chat_template.jinja");
    let advice = if file.is_file() {
        format!("to chat by it: model.chat_template = read_text(\"{}\")", file.display())
    } else {
        "to chat by it, set model.chat_template to the one in its tokenizer_config.json".to_owned()
    };
    let model_template = if current.is_some() { "keeps another" } else { "has none" };
    state.note(&format!("the adapter's folder holds a chat template, and the model {model_template}; {advice}"));
    Ok(())
}
