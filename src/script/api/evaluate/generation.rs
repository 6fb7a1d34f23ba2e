//! `score_generation` and `exact_match`: prompts and answers of rows, and the metric that scores the texts.

use super::field::{limited, FieldOption};
use super::results::{by_name, insert, numbers};
use crate::data::{Dataset as Rows, RowFormat};
use crate::eval::bootstrap::Resampling;
use crate::eval::candidate::CandidateOptions;
use crate::eval::exact_match::ExactMatch;
use crate::eval::field::in_row;
use crate::eval::generation_call::GenerationCall;
use crate::eval::generation_eval::{content, format_of, score_texts, Exercises, ScoredTexts};
use crate::eval::generator::Generator;
use crate::eval::prompt::PromptOptions;
use crate::eval::{Bootstrap, Measured};
use crate::options;
use crate::options::{Mismatch, OneOrMany, OptionType, Refusal, Value as OptionValue};
use crate::script::api::generate::prompts::read_prompt;
use crate::script::engine::state::State;
use crate::script::values::callback::Callback;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::{describe, FromScript};
use crate::script::values::json::{to_dynamic, to_json};
use crate::script::values::options::Options;
use crate::{lora, Error, Result};
use rhai::{Array, Dynamic, FnPtr, Map, NativeCallContext};
use serde_json::Value;

options! {
    #[derive(Debug, Clone)]
    pub struct ScoreGenerationCall {
        /// The prompt, a text, a message or a conversation: a function of the row, or the name of a column.
        prompt: Option<FieldOption> = None, words "\"prompt\"";
        /// The expected answer: a function of the row, or the name of a column.
        target: Option<FieldOption> = None, words "\"completion\"";
        /// "exact_match", or a function of output and row that returns a number or a bool.
        metric: MetricOption = MetricOption::ExactMatch;
        exact_match: ExactMatch = ExactMatch::default(), is set;
        /// Only the first rows.
        limit: Option<usize> = None, words "all rows";
        /// The same as `stop`; a word of the language, so in quotes.
        until: Option<Vec<String>> = None;
        prompts: PromptOptions = PromptOptions::default(), is set;
        generation: GenerationCall = GenerationCall::default(), is set;
        candidates: CandidateOptions = CandidateOptions::default(), is set;
        resampling: Resampling = Resampling::default(), is set;
    }
    rule ScoreGenerationCall::rule;
}

impl ScoreGenerationCall {
    fn rule(&self) -> Option<Refusal> {
        let until = self.until.as_ref()?;
        if self.generation.has("stop") {
            let refusal = Refusal::new("until", "it or `stop`, which are the same", "both");
            return Some(refusal.with_hint("leave one of them out"));
        }
        let has_empty = until.iter().any(String::is_empty);
        has_empty.then(|| Refusal::new("until", "strings with at least one character", "an empty one"))
    }
}

/// How outputs are scored.
#[derive(Debug, Clone)]
pub enum MetricOption {
    ExactMatch,
    Function(FnPtr),
}

const EXACT_MATCH: &str = "exact_match";

impl OptionType for MetricOption {
    fn type_name() -> String {
        "string or function".to_owned()
    }
    fn expected() -> String {
        "\"exact_match\" or a function".to_owned()
    }
    fn from_value(value: &OptionValue) -> std::result::Result<Self, Mismatch> {
        if value.as_str() == Some(EXACT_MATCH) {
            return Ok(MetricOption::ExactMatch);
        }
        FnPtr::from_value(value)
            .map(MetricOption::Function)
            .map_err(|_| Mismatch::of::<Self>(value).with_hint("as in |output, row| output.contains(row.answer)"))
    }
    fn to_value(&self) -> OptionValue {
        match self {
            MetricOption::ExactMatch => OptionValue::Text(EXACT_MATCH.to_owned()),
            MetricOption::Function(function) => function.to_value(),
        }
    }
}

const CALL: &str = "score_generation";

pub fn run(context: &NativeCallContext, model: &lora::Model, rows: &Rows, options: Map) -> RhaiResultOf<Map> {
    let state = State::of(context)?;
    let note = |note: &str| state.note(note);
    let generator = Generator::new(CALL, model, &note, state.rehearsal_cap())?;
    let generation = GenerationCall::scored(generator.model_settings()?);
    let default = ScoreGenerationCall { generation, ..ScoreGenerationCall::default() };
    let options = Options::read_over(default, CALL, options)?;
    let seed = if options.generation.has("seed") { options.generation.config.seed } else { Bootstrap::default().seed };
    let bootstrap = Bootstrap { resampling: options.resampling, seed };
    let generator = generator.with_prompts(options.prompts);
    let mut config = generator.config(options.generation.clone())?;
    if let Some(until) = &options.until {
        config.stop = OneOrMany(until.clone());
    }
    let rows = limited(rows, options.limit, &state);
    if rows.is_empty() {
        return Err(Error::data("score_generation: expected at least one row, found none").into());
    }
    let exercises = exercises(context, &rows, &generator, &options)?;
    let config = generator.config_for(config, &exercises.prompts)?;
    let candidates = options.candidates.candidates(CALL, &model.adapted)?;
    let score = |score: &mut dyn FnMut(usize, &str) -> Result<f64>| {
        score_texts(model, &candidates, &exercises.prompts, &config, score)
    };
    let (name, scored) = match &options.metric {
        MetricOption::ExactMatch => {
            let mut by_match = |number: usize, output: &str| match exercises.targets.get(number) {
                Some(target) => Ok(options.exact_match.score(output, target)),
                None => Err(Error::bug("an output without a target")),
            };
            (EXACT_MATCH, score(&mut by_match)?)
        }
        MetricOption::Function(function) => {
            let hint = "`metric` is called with two values: |output, row| …";
            let callback = Callback::new(context, function.clone()).with_arity_hint(hint);
            let mut by_function = |number: usize, output: &str| match rows.iter().nth(number) {
                Some(row) => function_score(&callback, number, output, row),
                None => Err(Error::bug("an output without a row")),
            };
            ("score", callback.settle(score(&mut by_function))?)
        }
    };
    let maps = scored.into_iter().map(|texts| scored_map(name, texts, &bootstrap)).collect::<Result<_>>()?;
    Ok(by_name(&options.candidates, &candidates, maps))
}

fn exercises(
    context: &NativeCallContext,
    rows: &Rows,
    generator: &Generator,
    options: &ScoreGenerationCall,
) -> RhaiResultOf<Exercises> {
    let format = format_of(rows).filter(|_| options.prompt.is_none());
    let mut exercises = match format {
        Some(format) => of_format(rows, format, generator)?,
        None => {
            let field = options.prompt.clone().unwrap_or_else(|| FieldOption::column("prompt"));
            let values: Vec<Dynamic> = field.values(context, "prompt", rows)?;
            let read = |(number, value): (usize, &Dynamic)| {
                read_prompt(&generator.prompts, value).map_err(|error| in_row(number, error.context("the prompt")))
            };
            Exercises { prompts: values.iter().enumerate().map(read).collect::<Result<_>>()?, targets: Vec::new() }
        }
    };
    let target = match (&options.target, format) {
        (Some(target), _) => target.clone(),
        (None, None) => FieldOption::column("completion"),
        (None, Some(_)) => return Ok(exercises),
    };
    // A function of the script looks at the row itself.
    if matches!(options.metric, MetricOption::ExactMatch) {
        let values: Vec<Dynamic> = target.values(context, "target", rows)?;
        let texts = values.iter().enumerate();
        let texts = texts.map(|(number, value)| target_text(value).map_err(|error| in_row(number, error)));
        exercises.targets = texts.collect::<Result<_>>()?;
    }
    Ok(exercises)
}

fn of_format(rows: &Rows, format: RowFormat, generator: &Generator) -> Result<Exercises> {
    let has_template = generator.model.tokenizer()?.chat_template().is_some();
    Exercises::of_format(rows, format, &generator.prompts, has_template)
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

fn function_score(callback: &Callback, number: usize, output: &str, row: &crate::data::Row) -> Result<f64> {
    let arguments = [output.into(), to_dynamic(&Value::Object(row.clone()))];
    let value: Dynamic = callback.call(arguments).map_err(|error| in_row(number, error))?;
    let score = f64::from_script(&value).or_else(|| Some(f64::from(bool::from_script(&value)?)));
    score.filter(|score| score.is_finite()).ok_or_else(|| {
        Error::input(format!(
            "row {number}: `metric` must return a finite number or a bool, found {}",
            describe(&value)
        ))
    })
}

fn scored_map(name: &str, texts: ScoredTexts, bootstrap: &Bootstrap) -> Result<Map> {
    let ScoredTexts { outputs, scores } = texts;
    let mut map = Map::new();
    insert(&mut map, &Measured::mean(name, &scores, bootstrap)?);
    map.insert("n".into(), (scores.len() as i64).into());
    map.insert("scores".into(), Map::from([(name.into(), numbers(&scores))]).into());
    map.insert("outputs".into(), outputs.into_iter().map(Dynamic::from).collect::<Array>().into());
    Ok(map)
}
