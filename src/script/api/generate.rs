//! Generating text, on the terminal as it comes, and adapters side by side. What prompts and settings a call gives
//! is read in `generate/`.

pub(super) mod prompts;
pub(super) mod settings;
mod streaming;

use crate::data::python::strftime_now;
use crate::eval::compare::{self, Answer};
use crate::eval::config::DEFAULT_NEW_TOKENS;
use crate::eval::generate::{Finish, Step};
use crate::plot::before_after::BeforeAfter;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::{describe, FromScript};
use crate::script::values::handles::Handle;
use crate::script::values::json::to_dynamic;
use crate::script::values::options::Options;
use crate::{lora, Error, Result};
use prompts::Reader;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};
use serde_json::{json, Value};
use std::path::Path;
use streaming::Streaming;

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
    /// Options: `max_new_tokens` (20), `max_length` (none; counts the prompt's tokens too), `do_sample` (false: at
    /// each step the most likely token), `temperature` (1), `top_k` (50; 0 for all), `top_p` (1), `min_p` (none),
    /// `top_h` (none), `typical_p` (1), `epsilon_cutoff` (0), `eta_cutoff` (0; these eight only where it samples),
    /// `repetition_penalty` (1; tokens of the prompt count), `seed` (42), `stop` (none; strings that end a text and
    /// are left out of it), `eos_token_id` (the model's own), `chat` (false: true takes a text as a user's message),
    /// `stream` (false: true prints the text as it comes), `batch` (32 prompts at a time).
    ///
    /// Bans, penalties and forced tokens. Options: `bad_words_ids` (none; arrays of token ids that never come),
    /// `suppress_tokens` (none; ids), `begin_suppress_tokens` (none; not as the first token), `sequence_bias` (none;
    /// pairs of token ids and what is added to their score, as [[[79], -10.0]]), `no_repeat_ngram_size` (0),
    /// `encoder_no_repeat_ngram_size` (0; those of the prompt), `encoder_repetition_penalty` (1; above 1 favours
    /// tokens of the prompt), `min_new_tokens` (0), `min_length` (0; counts the prompt's tokens too),
    /// `forced_bos_token_id` (none; behind a prompt of one token), `forced_eos_token_id` (none; the last token that
    /// fits), `exponential_decay_length_penalty` (none; [start, factor]), `guidance_scale` (1),
    /// `remove_invalid_values` (false), `renormalize_logits` (false).
    ///
    /// Names, defaults, order and numbers are those of transformers' `generate`, and as there a
    /// model's own `generation_config.json` comes before the defaults. A prompt's text depends on
    /// the seed and on its place in the array, not on the other prompts. A message is a map with
    /// `role` and `content`, a conversation an array of messages.
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

    /// Continue a text, or each text of an array, as the model's own settings say.
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
    /// Its options are those of `generate`.
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

    /// Answer a text, a conversation, or each of an array of either, as the model's settings say.
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
    /// `names` are those of adapters; "base" is the model without one. Prompts are as in
    /// `generate`. Options: `references` (what was wanted, a text for each prompt), and those of
    /// `generate` but `stream`.
    ///
    /// The result has `rows`, `names`, `table()` and `save("before_after.html")`. Where texts are
    /// drawn, all adapters meet the same random numbers.
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
            let found = describe(&names.into());
            return Err(Error::input(format!("compare: expected names of adapters, found {found}")).into());
        };
        let model = model.read()?;
        let state = State::of(&context)?;
        let mut options = Options::new("compare", options);
        let reader = Reader::new("compare", &model, options.take("chat", false)?)?;
        let references = options.take_opt("references")?;
        let config = settings::read(&mut options, settings::of_model(&model, &state)?, &reader, &state)?;
        options.finish()?;
        let (prompts, _) = reader.prompts(&prompts)?;
        let config = settings::fitting(config, &reader, &prompts, &state)?;
        let few = state.few(prompts.len());
        if few == prompts.len() {
            return Ok(Handle::new(compare::compare(&model, &names, &prompts, references, &config)?));
        }
        compare::check(&names, &prompts, references.as_deref())?;
        let mut compared = compare::compare(&model, &names, &prompts[..few], None, &config)?;
        compared.repeat(&prompts, references.as_deref());
        Ok(Handle::new(compared))
    }

    /// Answer the same prompts with several adapters, as the model's own settings say.
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
    /// `finish` is "eos", "stop" or "length": why the text ended. `reference` is `()` where none
    /// was given.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// for row in compare(model, ["base"], ["the small", "a red"]).rows {
    ///     print(`${row.prompt}: ${row.texts.base} (${row.finish.base})`);
    /// }
    /// ```
    #[rhai_fn(get = "rows", global, pure, return_raw)]
    pub fn rows(comparison: &mut Comparison) -> RhaiResultOf<Array> {
        let comparison = comparison.read()?;
        let by_name = |row: &compare::Compared, value: fn(&Answer) -> Value| {
            let pairs = comparison.names.iter().cloned().zip(row.answers.iter().map(value));
            Value::Object(pairs.collect())
        };
        let rows = comparison.rows.iter().map(|row| {
            to_dynamic(&json!({
                "prompt": row.prompt,
                "reference": row.reference,
                "texts": by_name(row, |answer| answer.text.as_str().into()),
                "tokens": by_name(row, |answer| answer.tokens.into()),
                "finish": by_name(row, |answer| answer.finish.name().into()),
            }))
        });
        Ok(rows.collect())
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
        Ok(write_page(&*comparison.read()?, path, &State::of(&context)?)?)
    }
}

fn write_page(comparison: &compare::Comparison, path: &str, state: &State) -> Result<()> {
    if Path::new(path).extension().is_none_or(|ending| ending != "html") {
        return Err(Error::input(format!("save: expected a name that ends in .html, found `{path}`"))
            .with_hint("for a text: write_text(path, result.table())"));
    }
    let when = strftime_now("%Y-%m-%d %H:%M %Z").map_err(Error::bug)?;
    BeforeAfter { comparison, when: &when }.save(&state.file_to_write(path)?)
}

/// What `generate` and `chat` give: a text for one prompt, an array for several.
fn texts(
    function: &str,
    context: &NativeCallContext,
    model: &lora::Model,
    prompt: &Dynamic,
    options: Map,
    is_chat: bool,
) -> RhaiResultOf<Dynamic> {
    let state = State::of(context)?;
    let mut options = Options::new(function, options);
    let reader = Reader::new(function, model, options.take("chat", is_chat)?)?;
    let is_streamed = options.take("stream", false)?;
    let default = settings::of_model(model, &state)?;
    let config = settings::read(&mut options, default, &reader, &state)?;
    options.finish()?;
    let (prompts, is_one) = reader.prompts(prompt)?;
    let config = settings::fitting(config, &reader, &prompts, &state)?;
    let all = prompts.len();
    let prompts = &prompts[..state.few(all)];
    let mut streaming = Streaming::new(context, model, &config, prompts.len())?;
    let mut told = |step: Step| if is_streamed { streaming.hear(step) } else { Ok(()) };
    let answers = compare::answers(model, prompts, &config, &mut told)?;
    let cut = answers.iter().filter(|answer| answer.finish == Finish::Length).count();
    let is_length_given = config.max_new_tokens.is_some() || config.max_length.is_some();
    if cut > 0 && !is_length_given {
        let most = DEFAULT_NEW_TOKENS;
        state.note(&format!(
            "{function}: {cut} of {} texts were cut at the default, max_new_tokens: {most}",
            answers.len()
        ));
    }
    // In a rehearsal, few answers stand for all.
    let mut texts: Array = answers.iter().cycle().take(all).map(|answer| answer.text.clone().into()).collect();
    Ok(if is_one { texts.pop().unwrap_or_default() } else { texts.into() })
}
