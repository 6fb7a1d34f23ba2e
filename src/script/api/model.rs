//! Base models: loading them, what they are, and saving them.

use crate::data::template;
use crate::lora::{self, LoadOptions, RandomModelOptions};
use crate::model::device;
use crate::options;
use crate::options::OptionSet;
use crate::script::api::OptionsOfFunction;
use crate::script::engine::downloads::Downloads;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::{describe, FromScript};
use crate::script::values::handles::Handle;
use crate::script::values::options::Options;
use crate::Error;
use rhai::plugin::*;
use rhai::{Dynamic, Map};
use std::path::Path;

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
    struct SaveOptions {
        /// Replace whatever the folder holds.
        overwrite: bool = false;
    }
}

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] = &[
    ("load_model", LoadModelOptions::table),
    ("random_model", RandomModelOptions::table),
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
            let set = template::set(&mut model, &template);
            set.map_err(|error| error.context("load_model: option `chat_template`"))?;
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
        let options: RandomModelOptions = Options::read("random_model", options)?;
        let path = State::of(&context)?.to_read(folder);
        let mut model = lora::Model::random(Path::new(&path), options.seed, &options.load())?;
        model.name = folder.to_owned();
        Ok(Handle::new(model))
    }

    /// A model in one line: its name, its size, the dtype of its weights, its device.
    ///
    /// ```rhai
    /// print(load_model("scripts/tiny", #{ load_in_4bit: true }));
    /// ```
    #[rhai_fn(name = "to_string", global, pure, return_raw)]
    pub fn to_string(model: &mut Model) -> RhaiResultOf<String> {
        Ok(model.read()?.to_string())
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
            let value = describe(&template);
            return Err(Error::input(format!("chat_template: expected the text of a template, found {value}")).into());
        };
        Ok(template::set(&mut *model.write()?, &template).map_err(|error| error.context("chat_template"))?)
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
        let (name, bytes) = (model.name.clone(), model.decoder().weight_bytes());
        Ok(state.save_model(folder, &name, bytes, || Ok(()), || model.save(&path, overwrite))?)
    }
}
