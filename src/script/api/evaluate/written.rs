//! `score_generation` and `exact_match`: what is written, and the metric that measures it.

use super::asked::{insert, numbers, Asked};
use super::field::{in_row, limited, Field};
use crate::data::example::Example;
use crate::data::row_format::TEXT;
use crate::data::{Dataset as Rows, RowFormat};
use crate::eval::config::{GenerationConfig, Stop};
use crate::eval::exact_match::ExactMatch;
use crate::eval::prompt::Prompt;
use crate::eval::written::{self, content, Exercise};
use crate::eval::{Bootstrap, Measured};
use crate::script::api::generate::prompts::Reader;
use crate::script::api::generate::settings;
use crate::script::engine::state::State;
use crate::script::language::explain;
use crate::script::values::callback::Callback;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::{describe, FromScript};
use crate::script::values::json::{to_dynamic, to_json};
use crate::script::values::options::Options;
use crate::{lora, Error, Result};
use rhai::{Array, Dynamic, FnPtr, Map, NativeCallContext};
use serde_json::Value;

pub fn exact_match_of(options: &mut Options) -> Result<ExactMatch> {
    let patterns: Vec<String> = options.take("regexes_to_ignore", Vec::new())?;
    ExactMatch {
        ignore_case: options.take("ignore_case", false)?,
        ignore_punctuation: options.take("ignore_punctuation", false)?,
        ignore_numbers: options.take("ignore_numbers", false)?,
        strip: options.take("strip", false)?,
        ..ExactMatch::default()
    }
    .ignoring(&patterns)
}

/// How many new tokens are written where nothing says so: answers, not essays.
const NEW_TOKENS: usize = 64;

pub fn run(context: &NativeCallContext, model: &lora::Model, data: &Rows, mut options: Options) -> RhaiResultOf<Map> {
    let prompt = options.has("prompt").then(|| Field::take(&mut options, "prompt", "prompt")).transpose()?;
    let target = options.has("target").then(|| Field::take(&mut options, "target", "completion")).transpose()?;
    let metric = options.take_any("metric");
    let function = metric.clone().and_then(|metric| metric.try_cast::<FnPtr>());
    if let (Some(other), None) = (metric, &function) {
        if String::from_script(&other).as_deref() != Some(EXACT_MATCH) {
            let error = options.wrong("metric", "\"exact_match\" or a function", &describe(&other));
            return Err(error.with_hint("as in |output, row| output.contains(row.answer)").into());
        }
    }
    let state = State::of(context)?;
    let data = limited(data, &mut options, &state)?;
    let reader = Reader::new("score_generation", model, options.take("chat", false)?)?;
    let seed: Option<u64> = options.take_opt("seed")?;
    let config = generation_config(&mut options, &reader, seed, &state)?;
    let exact = exact_match_of(&mut options)?;
    let mut asked = Asked::take(&mut options)?;
    asked.bootstrap.seed = seed.unwrap_or(asked.bootstrap.seed);
    options.finish()?;
    if data.is_empty() {
        return Err(Error::data("score_generation: expected at least one row, found none").into());
    }
    // A function of yours looks at the row itself.
    let exercises = Exercises::read(context, &data, &reader, prompt, target, function.is_none())?;
    let config = settings::fitting(config, &reader, &exercises.prompts, &state)?;
    let candidates = asked.candidates(&model.adapted)?;
    let outputs = written::texts(model, &candidates, &exercises.prompts, &config)?;
    let mut results = Vec::new();
    for outputs in outputs {
        let (name, scores) = match &function {
            Some(function) => ("score", scores_by(context, function.clone(), &outputs, &data)?),
            None => {
                let pairs = outputs.iter().zip(&exercises.targets);
                (EXACT_MATCH, pairs.map(|(output, target)| exact.score(output, target)).collect())
            }
        };
        results.push(written_map(name, &scores, outputs, &asked.bootstrap)?);
    }
    Ok(asked.result(&candidates, results))
}

/// Those of `generate`, but greedy and short unless the call says otherwise: what is measured is not drawn.
fn generation_config(
    options: &mut Options,
    reader: &Reader,
    seed: Option<u64>,
    state: &State,
) -> Result<GenerationConfig> {
    let mut default = settings::of_model(reader.model, state)?;
    default.sampling.do_sample = false;
    default.max_new_tokens = Some(NEW_TOKENS).filter(|_| !options.has("max_length"));
    default.max_length = None;
    default.seed = seed.unwrap_or(default.seed);
    if !options.has("until") {
        return settings::read(options, default, reader, state);
    }
    if options.has("stop") || options.has("stop_strings") {
        let error = options.wrong("until", "it or `stop`, which are the same", "both");
        return Err(error.with_hint("leave one of them out"));
    }
    let until: Vec<String> = options.take("until", Vec::new())?;
    if until.iter().any(String::is_empty) {
        return Err(Error::input("`until`: expected texts of at least one character, found an empty one"));
    }
    let mut config = settings::read(options, default, reader, state)?;
    let stop = Stop { tokenizer: reader.model.tokenizer()?.clone(), strings: until };
    config.stop = Some(stop).filter(|stop| !stop.strings.is_empty());
    Ok(config)
}

/// What is asked in each row, and the wanted answers, where they are asked for.
struct Exercises {
    prompts: Vec<Prompt>,
    targets: Vec<String>,
}

impl Exercises {
    fn read(
        context: &NativeCallContext,
        data: &Rows,
        reader: &Reader,
        prompt: Option<Field>,
        target: Option<Field>,
        wants_targets: bool,
    ) -> RhaiResultOf<Self> {
        let format = format_of(data).filter(|_| prompt.is_none());
        let mut found = match format {
            Some(format) => Self::of_format(data, reader, format)?,
            None => {
                let field = prompt.unwrap_or_else(|| Field::Column("prompt".to_owned()));
                let values: Vec<Dynamic> = field.values(context, data)?;
                let read = |(at, value): (usize, &Dynamic)| {
                    reader.prompt(value).map_err(|error| in_row(at, error.context("the prompt")))
                };
                let prompts = values.iter().enumerate().map(read).collect::<Result<_>>()?;
                Exercises { prompts, targets: Vec::new() }
            }
        };
        let target = match (target, format) {
            (Some(target), _) => target,
            (None, None) => Field::Column("completion".to_owned()),
            (None, Some(_)) => return Ok(found),
        };
        if wants_targets {
            let values: Vec<Dynamic> = target.values(context, data)?;
            let texts =
                values.iter().enumerate().map(|(at, value)| target_text(value).map_err(|error| in_row(at, error)));
            found.targets = texts.collect::<Result<_>>()?;
        }
        Ok(found)
    }

    /// Of rows that training would recognise: the last turn is the wanted answer.
    fn of_format(data: &Rows, reader: &Reader, format: RowFormat) -> Result<Self> {
        let has_template = reader.model.tokenizer()?.chat_template().is_some();
        let mut found = Exercises { prompts: Vec::new(), targets: Vec::new() };
        for (at, row) in data.iter().enumerate() {
            let exercise = Example::read(row, format, TEXT, has_template).and_then(Exercise::of);
            let prompt = exercise.and_then(|exercise| match exercise {
                Exercise::Text { prompt, target } => Ok((reader.text(&prompt)?, target)),
                Exercise::Chat { chat, target } => Ok((reader.prompts.chat(&chat)?, target)),
            });
            let (prompt, target) = prompt.map_err(|error| in_row(at, error))?;
            found.prompts.push(prompt);
            found.targets.push(target);
        }
        Ok(found)
    }
}

/// How training reads rows that hold prompt and answer in another way than as two texts.
fn format_of(data: &Rows) -> Option<RowFormat> {
    let columns = data.columns();
    if columns.iter().any(|column| column == "prompt") {
        let is_list = |name: &str| data.iter().next().and_then(|row| row.get(name)).is_some_and(Value::is_array);
        return Some(RowFormat::PromptCompletion).filter(|_| is_list("prompt") && is_list("completion"));
    }
    RowFormat::recognise(&columns, None).ok().filter(|format| *format != RowFormat::Text)
}

/// A text, or that of the last of some messages.
fn target_text(value: &Dynamic) -> Result<String> {
    if let Some(text) = String::from_script(value) {
        return Ok(text);
    }
    let message = match to_json(value)? {
        Value::Array(mut messages) => messages.pop().unwrap_or_default(),
        other => other,
    };
    match message {
        Value::Object(_) => content(&message),
        _ => Err(Error::input(format!("the target: expected a text or a message, found {}", describe(value)))),
    }
}

const EXACT_MATCH: &str = "exact_match";

fn scores_by(context: &NativeCallContext, function: FnPtr, outputs: &[String], data: &Rows) -> RhaiResultOf<Vec<f64>> {
    let callback = Callback::new(context, function);
    let scores = outputs.iter().zip(data.iter()).enumerate().map(|(at, (output, row))| {
        let found: Dynamic = callback
            .call([output.as_str().into(), to_dynamic(&Value::Object(row.clone()))])
            .map_err(|error| in_row(at, of_metric(error)))?;
        let score = f64::from_script(&found).or_else(|| Some(f64::from(bool::from_script(&found)?)));
        score.filter(|score| score.is_finite()).ok_or_else(|| {
            Error::input(format!(
                "row {at}: `metric` must return a finite number or a bool, found {}",
                describe(&found)
            ))
        })
    });
    callback.settle(scores.collect::<Result<_>>())
}

/// Most closures of scripts are given one value.
fn of_metric(error: Error) -> Error {
    match error.message == explain::wrong_closure().message {
        true => error.with_hint("`metric` is given two: |output, row| …"),
        false => error,
    }
}

fn written_map(name: &str, scores: &[f64], outputs: Vec<String>, bootstrap: &Bootstrap) -> Result<Map> {
    let mut map = Map::new();
    insert(&mut map, &Measured::mean(name, scores, bootstrap)?);
    map.insert("n".into(), (scores.len() as i64).into());
    map.insert("scores".into(), Map::from([(name.into(), numbers(scores))]).into());
    map.insert("outputs".into(), outputs.into_iter().map(Dynamic::from).collect::<Array>().into());
    Ok(map)
}
