//! Generating text, on the terminal as it comes, and adapters side by side.

use crate::eval::generate::NewToken;
use crate::eval::generation_call::GenerationCall;
use crate::eval::generator::Generator;
use crate::eval::prompt::PromptOptions;
use crate::eval::sample::{untouched, SampleOptions};
use crate::eval::streaming::TextWriter;
use crate::options;
use crate::options::OptionSet;
use crate::plot::before_after;
use crate::script::api::OptionsOfFunction;
use crate::script::engine::state::State;
use crate::script::engine::streaming::Output;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::{describe, FromScript};
use crate::script::values::handles::Handle;
use crate::script::values::json::{to_dynamic, to_map};
use crate::script::values::options::Options;
use crate::script::values::prompts::read_prompts;
use crate::{lora, Error};
use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};

options! {
    #[derive(Debug, Clone)]
    struct GenerateOptions {
        prompts: PromptOptions = PromptOptions::default(), is set;
        /// Print the text as it comes.
        stream: bool = false;
        generation: GenerationCall = GenerationCall::default(), is set;
    }
}

options! {
    #[derive(Debug, Clone)]
    struct CompareOptions {
        prompts: PromptOptions = PromptOptions::default(), is set;
        /// The expected answers, a text for each prompt.
        references: Option<Vec<String>> = None;
        generation: GenerationCall = GenerationCall::default(), is set;
    }
}

options! {
    #[derive(Debug, Clone)]
    struct SampleCall {
        samples: SampleOptions = SampleOptions { n: 1 }, is set;
        prompts: PromptOptions = PromptOptions::default(), is set;
        generation: GenerationCall = GenerationCall::default(), is set;
    }
}

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] = &[
    ("model.generate", GenerateOptions::table),
    ("model.chat", GenerateOptions::table),
    ("model.sample", SampleCall::table),
    ("compare", CompareOptions::table),
];

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// A base model with its adapters and its tokenizer.
    pub type Model = Handle<crate::lora::Model>;
    /// Prompts with the answers of several adapters.
    pub type Comparison = Handle<crate::eval::compare::Comparison>;

    /// Continue a text, or each text of an array; a conversation is answered by the chat template.
    ///
    /// Names, defaults, order and numbers are those of transformers' `generate`, and as there a model's own
    /// `generation_config.json` comes before the defaults. A prompt's text depends on the seed and on its index in the
    /// array, not on the other prompts. A message is a map with `role` and `content`, a conversation an array of
    /// messages.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// print(model.generate("the", #{ max_new_tokens: 8 }));
    /// for text in model.generate(["the small", "a red"], #{ do_sample: true, temperature: 0.7, seed: 1 }) {
    ///     print(text);
    /// }
    /// model.generate("Repeat: the small fox", #{ chat: true, stream: true, stop: "fox" });
    /// ```
    #[rhai_fn(name = "generate", global, pure, return_raw, volatile)]
    pub fn generate_with(
        context: NativeCallContext,
        model: &mut Model,
        prompt: Dynamic,
        options: Map,
    ) -> RhaiResultOf<Dynamic> {
        texts("generate", &context, &*model.read()?, &prompt, options, false)
    }

    /// Continue a text, or each text of an array, with the model's own settings.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// print(model.generate("the small"));
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn generate(context: NativeCallContext, model: &mut Model, prompt: Dynamic) -> RhaiResultOf<Dynamic> {
        texts("generate", &context, &*model.read()?, &prompt, Map::new(), false)
    }

    /// Answer a text, a conversation, or each of an array of either, by the model's chat template.
    ///
    /// A conversation is a message, or an array of messages. Where the template was set by `model.chat_template`,
    /// the token that ends its turns ends the answer too.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// print(model.chat("Repeat: the small fox", #{ max_new_tokens: 8 }));
    /// print(model.chat(#{ role: "user", content: "Count: a red boat" }, #{ max_new_tokens: 8 }));
    /// let conversation = [#{ role: "system", content: "Be brief." }, #{ role: "user", content: "Count: a red boat" }];
    /// print(model.chat(conversation, #{ stream: true }));
    /// ```
    #[rhai_fn(name = "chat", global, pure, return_raw, volatile)]
    pub fn chat_with(
        context: NativeCallContext,
        model: &mut Model,
        messages: Dynamic,
        options: Map,
    ) -> RhaiResultOf<Dynamic> {
        texts("chat", &context, &*model.read()?, &messages, options, true)
    }

    /// Draw several answers to each prompt, with their tokens and log-probabilities: for rewards.
    ///
    /// Takes the prompts and options of `generate`, and `n`. Tokens are drawn from the model as it is: at temperature 1
    /// and without filters, whatever its `generation_config.json` says, unless the call says otherwise. The active
    /// adapter's dropout is off. A loop gives each step another `seed`.
    ///
    /// Returns an array of maps, the samples of each prompt one after the other: `prompt`, `group` (the number of the
    /// prompt), `text`, `ids` (the new tokens), `logprobs` (of each of them in nats, by the model itself, before
    /// temperature and filters), `finish` ("eos", "stop" or "length"), and `input_ids` and `labels` of prompt and answer,
    /// as `model.batch` takes them.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let samples = model.sample(["Repeat: a fox", "Count: a boat"], #{ n: 4, max_new_tokens: 8, seed: 1 });
    /// for sample in samples {
    ///     print(`${sample.group}: ${sample.text}`);
    /// }
    /// let batch = model.batch(samples);
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn sample(
        context: NativeCallContext,
        model: &mut Model,
        prompts: Dynamic,
        options: Map,
    ) -> RhaiResultOf<Array> {
        let (state, model) = (State::of(&context)?, model.read()?);
        let note = |note: &str| state.note(note);
        let generator = Generator::new("sample", &model, &note, state.pace())?;
        let default = SampleCall {
            generation: GenerationCall::over(untouched(generator.model_settings()?)),
            ..SampleCall::default()
        };
        let options = Options::read_over(default, "sample", options)?;
        let generator = generator.with_prompts(options.prompts);
        let config = generator.config(options.generation)?;
        let (prompts, _) = read_prompts(&generator, &prompts)?;
        let config = generator.config_for(config, &prompts)?;
        let samples = generator.samples(&prompts, options.samples.n, &config)?;
        Ok(samples.iter().map(|sample| Dynamic::from_map(to_map(&sample.fields(&prompts)))).collect())
    }

    /// Answer a text, a conversation, or each of an array of either, with the model's own settings.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// print(model.chat("Repeat: the small fox"));
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn chat(context: NativeCallContext, model: &mut Model, messages: Dynamic) -> RhaiResultOf<Dynamic> {
        texts("chat", &context, &*model.read()?, &messages, Map::new(), true)
    }

    /// Answer the same prompts with several adapters on one model, all in one batch.
    ///
    /// `names` are those of adapters; "base" is the model without one. Prompts are as in `generate`.
    ///
    /// The result has `rows`, `names`, `table()` and `save("before_after.html")`. With `do_sample`, all adapters get
    /// the same random numbers.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4, name: "tuned" });
    /// let result = compare(model, ["base", "tuned"], ["Repeat: the fox", "Count: a red boat"],
    ///     #{ chat: true, max_new_tokens: 8, references: ["the fox", "3"] });
    /// print(result.table());
    /// result.save("runs/before_after.html");
    /// ```
    #[rhai_fn(name = "compare", return_raw, volatile)]
    pub fn compare_with(
        context: NativeCallContext,
        model: Model,
        names: Array,
        prompts: Dynamic,
        options: Map,
    ) -> RhaiResultOf<Comparison> {
        let Some(names) = Vec::<String>::from_script(&names.clone().into()) else {
            let names = describe(&names.into());
            return Err(Error::input(format!("compare: expected names of adapters, found {names}")).into());
        };
        let model = model.read()?;
        let state = State::of(&context)?;
        let note = |note: &str| state.note(note);
        let generator = Generator::new("compare", &model, &note, state.pace())?;
        let default = CompareOptions {
            generation: GenerationCall::over(generator.model_settings()?),
            ..CompareOptions::default()
        };
        let options = Options::read_over(default, "compare", options)?;
        let generator = generator.with_prompts(options.prompts);
        let config = generator.config(options.generation)?;
        let (prompts, _) = read_prompts(&generator, &prompts)?;
        let config = generator.config_for(config, &prompts)?;
        Ok(Handle::new(generator.compare(&names, &prompts, options.references, &config)?))
    }

    /// Answer the same prompts with several adapters, with the model's own settings.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// print(compare(model, ["base", "default"], ["the small"]).table());
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn compare(
        context: NativeCallContext,
        model: Model,
        names: Array,
        prompts: Dynamic,
    ) -> RhaiResultOf<Comparison> {
        compare_with(context, model, names, prompts, Map::new())
    }

    /// Prompts and answers as an array of maps: `prompt`, `reference`, and by adapter `texts`, `tokens`, `finish`.
    ///
    /// `finish` is "eos", "stop" or "length": why the text ended. `reference` is `()` without `references`.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// for row in compare(model, ["base"], ["the small", "a red"]).rows {
    ///     print(`${row.prompt}: ${row.texts.base} (${row.finish.base})`);
    /// }
    /// ```
    #[rhai_fn(get = "rows", global, pure, return_raw)]
    pub fn rows(comparison: &mut Comparison) -> RhaiResultOf<Array> {
        Ok(comparison.read()?.rows_as_json().iter().map(to_dynamic).collect())
    }

    /// The names of the adapters that were compared.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// print(compare(model, ["base"], ["the small"]).names);
    /// ```
    #[rhai_fn(get = "names", global, pure, return_raw)]
    pub fn names(comparison: &mut Comparison) -> RhaiResultOf<Array> {
        Ok(comparison.read()?.names.iter().map(|name| name.clone().into()).collect())
    }

    /// The answers side by side, for the terminal; "…" marks a text that was cut at `max_new_tokens`.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// print(compare(model, ["base"], ["the small", "a red"]).table());
    /// ```
    #[rhai_fn(name = "table", global, pure, return_raw)]
    pub fn comparison_table(comparison: &mut Comparison) -> RhaiResultOf<String> {
        Ok(comparison.read()?.table())
    }

    /// Write the answers side by side as one HTML page that loads nothing.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// compare(model, ["base"], ["the small", "a red"]).save("runs/before_after.html");
    /// ```
    #[rhai_fn(name = "save", global, pure, return_raw, volatile)]
    pub fn save_comparison(context: NativeCallContext, comparison: &mut Comparison, path: &str) -> RhaiResultOf<()> {
        Ok(before_after::write(&*comparison.read()?, &State::of(&context)?.file_to_write(path)?)?)
    }
}

/// The result of `generate` and `chat`: a text for one prompt, an array for several.
fn texts(
    function: &str,
    context: &NativeCallContext,
    model: &lora::Model,
    prompt: &Dynamic,
    options: Map,
    is_chat: bool,
) -> RhaiResultOf<Dynamic> {
    let state = State::of(context)?;
    let note = |note: &str| state.note(note);
    let generator = Generator::new(function, model, &note, state.pace())?;
    let prompts = PromptOptions { chat: is_chat };
    let default = GenerateOptions {
        prompts,
        generation: GenerationCall::over(generator.model_settings()?),
        ..GenerateOptions::default()
    };
    let options = Options::read_over(default, function, options)?;
    let generator = generator.with_prompts(options.prompts);
    let config = generator.config(options.generation)?;
    let (prompts, is_one) = read_prompts(&generator, prompt)?;
    let config = generator.config_for(config, &prompts)?;
    let mut output = Output::new(context)?;
    let mut write = |text: &str| output.write(text);
    let written = generator.capped(&prompts).len();
    let mut writer = TextWriter::new(model.tokenizer()?, &config, written, &mut write);
    let mut on_token = |token: NewToken| if options.stream { writer.on_token(token) } else { Ok(()) };
    let answers = generator.answers(&prompts, &config, &mut on_token)?;
    let mut texts: Array = answers.into_iter().map(|answer| answer.text.into()).collect();
    Ok(if is_one { texts.pop().unwrap_or_default() } else { texts.into() })
}
