//! Generating text, on the terminal as it comes, and adapters side by side.

use crate::data::python::strftime_now;
use crate::eval::compare::{self, Answer};
use crate::eval::config::GenerationConfig;
use crate::eval::generate::{Finish, Step};
use crate::eval::prompt::Prompt;
use crate::eval::text::{before_stop, may_begin_stop, TextStream};
use crate::plot::before_after::BeforeAfter;
use crate::script::convert::RhaiResultOf;
use crate::script::handles::Handle;
use crate::script::json::{to_dynamic, to_json};
use crate::script::options::Options;
use crate::script::settings::generation_config;
use crate::script::state::State;
use crate::script::values::{describe, FromScript};
use crate::{lora, Error, Kind, Result};
use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};
use serde_json::{json, Value};
use std::io::Write;
use std::path::Path;

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
    /// Options: `max_new_tokens` (20), `do_sample` (false: at each step the most likely token),
    /// `temperature` (1), `top_k` (50; 0 for all), `top_p` (1; these three only where it samples),
    /// `repetition_penalty` (1; tokens of
    /// the prompt count), `seed` (42), `stop` (strings that end a text and are left out of it),
    /// `eos_token_id` (the model's own), `chat` (false: true takes a text as a user's message),
    /// `stream` (false: true prints the text as it comes), `batch` (32 prompts at a time).
    ///
    /// Names, defaults and numbers are those of transformers' `generate`, and as there a
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
    /// A conversation is a message, or an array of messages.
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
        let mut options = Options::new("compare", options);
        let chat = options.take("chat", false)?;
        let references = options.take_opt("references")?;
        let config = read_config("compare", &context, &model, &mut options)?;
        options.finish()?;
        let (prompts, _) = read_prompts("compare", &prompts, chat, &model)?;
        note_length(&context, &model, &prompts, &config)?;
        let few = State::of(&context)?.few(prompts.len());
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

/// The model's settings under those of the options; tells of settings without effect.
fn read_config(
    function: &str,
    context: &NativeCallContext,
    model: &lora::Model,
    options: &mut Options,
) -> RhaiResultOf<GenerationConfig> {
    let tokenizer = model.tokenizer()?;
    let (own, ignored) = GenerationConfig::of_model(model.folder.as_deref(), tokenizer)?;
    if !ignored.is_empty() {
        let names = ignored.join(", ");
        State::of(context)?.note(&format!("generation_config.json of this model sets {names}: not applied here"));
    }
    let mut config = generation_config(options, own, tokenizer)?;
    config.check().map_err(|error| error.context(function))?;
    config.max_new_tokens = State::of(context)?.few(config.max_new_tokens);
    Ok(config)
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
    let mut options = Options::new(function, options);
    let chat = options.take("chat", is_chat)?;
    let is_streamed = options.take("stream", false)?;
    // A rehearsal cuts all texts itself.
    let length_given = options.has("max_new_tokens") || State::of(context)?.rehearsing();
    let config = read_config(function, context, model, &mut options)?;
    options.finish()?;
    let (prompts, is_one) = read_prompts(function, prompt, chat, model)?;
    note_length(context, model, &prompts, &config)?;
    let all = prompts.len();
    let prompts = &prompts[..State::of(context)?.few(all)];
    let mut streaming = Streaming::new(context, model, &config, prompts.len())?;
    let mut told = |step: Step| if is_streamed { streaming.hear(step) } else { Ok(()) };
    let answers = compare::answers(model, prompts, &config, &mut told)?;
    let cut = answers.iter().filter(|answer| answer.finish == Finish::Length).count();
    if cut > 0 && !length_given {
        let (all, most) = (answers.len(), config.max_new_tokens);
        let note = format!("{function}: {cut} of {all} texts were cut at the default, max_new_tokens: {most}");
        State::of(context)?.note(&note);
    }
    // In a rehearsal, few answers stand for all.
    let mut texts: Array = answers.iter().cycle().take(all).map(|answer| answer.text.clone().into()).collect();
    Ok(if is_one { texts.pop().unwrap_or_default() } else { texts.into() })
}

/// Tells of texts that would go beyond what the model was made for.
fn note_length(
    context: &NativeCallContext,
    model: &lora::Model,
    prompts: &[Prompt],
    config: &GenerationConfig,
) -> RhaiResultOf<()> {
    let longest = prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(0);
    let (most, new) = (model.decoder().config.max_position_embeddings, config.max_new_tokens);
    if (longest + new) as i64 > most {
        let tokens = format!("{longest} tokens of a prompt and {new} new ones");
        State::of(context)?.note(&format!("{tokens} go beyond the {most} positions of this model"));
    }
    Ok(())
}

/// Prompts as a script gives them, and whether it gave a single one: a text, a message (a map), a
/// conversation (an array of maps), or an array of texts and conversations.
fn read_prompts(function: &str, value: &Dynamic, chat: bool, model: &lora::Model) -> Result<(Vec<Prompt>, bool)> {
    let within = |error: Error| error.context(function);
    let Ok(items) = value.as_array_ref() else {
        return Ok((vec![read_prompt(value, chat, model).map_err(within)?], true));
    };
    if items.is_empty() {
        return Err(within(Error::input("expected at least one text or message, found an empty array")));
    }
    if items.iter().all(Dynamic::is_map) {
        return Ok((vec![read_prompt(value, chat, model).map_err(within)?], true));
    }
    let read = |(number, item): (usize, &Dynamic)| {
        read_prompt(item, chat, model).map_err(|error| within(error.context(format!("prompt {number}"))))
    };
    Ok((items.iter().enumerate().map(read).collect::<Result<_>>()?, false))
}

fn read_prompt(value: &Dynamic, chat: bool, model: &lora::Model) -> Result<Prompt> {
    let tokenizer = model.tokenizer()?;
    match String::from_script(value) {
        Some(text) if chat => Prompt::chat(tokenizer, vec![json!({ "role": "user", "content": text })]),
        Some(text) => Prompt::text(tokenizer, &text),
        None if value.is_array() => match to_json(value)? {
            Value::Array(messages) => Prompt::chat(tokenizer, messages),
            other => Err(Error::bug(format!("an array became {other}"))),
        },
        None if value.is_map() => Prompt::chat(tokenizer, vec![to_json(value)?]),
        None => {
            Err(Error::input(format!("expected a text, a message or an array of messages, found {}", describe(value)))
                .with_hint("a message is #{ role: \"user\", content: \"…\" }, a conversation an array of them"))
        }
    }
}

/// Prints texts as they come, one after another: of several prompts the first shows live, the
/// others once those before them have ended.
struct Streaming<'a> {
    context: &'a NativeCallContext<'a>,
    /// Lines go through `print`, where the program that embeds us looks for them.
    by_line: bool,
    line: String,
    rows: Vec<Streamed>,
    current: usize,
    stops: Vec<String>,
}

struct Streamed {
    stream: TextStream,
    waiting: String,
    ended: bool,
}

impl<'a> Streaming<'a> {
    fn new(
        context: &'a NativeCallContext<'a>,
        model: &lora::Model,
        config: &GenerationConfig,
        prompts: usize,
    ) -> RhaiResultOf<Self> {
        let tokenizer = model.tokenizer()?;
        let row =
            || Streamed { stream: TextStream::new(tokenizer.clone(), true), waiting: String::new(), ended: false };
        Ok(Streaming {
            context,
            by_line: State::of(context)?.prints_elsewhere(),
            line: String::new(),
            rows: std::iter::repeat_with(row).take(prompts).collect(),
            current: 0,
            stops: config.stop.as_ref().map(|stop| stop.strings.clone()).unwrap_or_default(),
        })
    }

    fn hear(&mut self, step: Step) -> Result<()> {
        let Some(row) = self.rows.get_mut(step.prompt) else { return Ok(()) };
        row.waiting.push_str(&row.stream.push(step.id)?);
        if step.finish.is_some() {
            row.waiting.push_str(&row.stream.finish()?);
            row.ended = true;
        }
        while let Some(row) = self.rows.get_mut(self.current) {
            let ready = match row.ended {
                true => format!("{}\n", before_stop(&row.waiting, &self.stops)),
                false => {
                    let held = may_begin_stop(&row.waiting, &self.stops);
                    row.waiting.drain(..row.waiting.len() - held).collect()
                }
            };
            let ended = row.ended;
            self.write(&ready)?;
            if !ended {
                break;
            }
            self.current += 1;
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<()> {
        if !self.by_line {
            let mut out = std::io::stdout().lock();
            let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            return written.map_err(|error| Error::new(Kind::File, format!("cannot write to the terminal: {error}")));
        }
        self.line.push_str(text);
        while let Some((line, rest)) = self.line.split_once('\n') {
            let printed = self.context.call_native_fn::<()>("print", (line.to_owned(),));
            printed.map_err(|error| Error::input(format!("cannot print: {error}")))?;
            self.line = rest.to_owned();
        }
        Ok(())
    }
}
