//! Prompts and expected answers of rows, by columns or by functions of the script; and the scores in a result.

use crate::data::Dataset as Rows;
use crate::error::{Error, Result};
use crate::eval::field::{column, in_row};
use crate::eval::generation_eval::{format_of, Exercises};
use crate::eval::generator::Generator;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::{describe, FromScript};
use crate::script::values::prompts::{read_answer, read_prompt};
use crate::script::values::row_options::FieldOption;
use crate::suggest;
use rhai::{Dynamic, Map, NativeCallContext};

/// Of rows that training would recognise, unless `prompt` is named. Answers are read where `has_targets`; a function of
/// the script looks at the row itself.
pub fn of_rows(
    context: &NativeCallContext,
    rows: &Rows,
    generator: &Generator,
    prompt: Option<&FieldOption>,
    target: Option<&FieldOption>,
    has_targets: bool,
) -> RhaiResultOf<Exercises> {
    let format = format_of(rows).filter(|_| prompt.is_none());
    let mut exercises = match format {
        Some(format) => {
            let has_template = generator.model.tokenizer()?.chat_template().is_some();
            Exercises::of_format(rows, format, &generator.prompts, has_template)?
        }
        None => {
            let values = values(context, prompt, "prompt", "prompt", rows)?;
            let read = |(number, value): (usize, &Dynamic)| {
                read_prompt(&generator.prompts, value).map_err(|error| in_row(number, error.context("the prompt")))
            };
            Exercises { prompts: values.iter().enumerate().map(read).collect::<Result<_>>()?, targets: Vec::new() }
        }
    };
    if has_targets && (format.is_none() || target.is_some()) {
        let values = values(context, target, "target", "completion", rows)?.into_iter().enumerate();
        let texts = values.map(|(number, value)| read_answer(&value).map_err(|error| in_row(number, error)));
        exercises.targets = texts.collect::<Result<_>>()?;
    }
    Ok(exercises)
}

fn values(
    context: &NativeCallContext,
    field: Option<&FieldOption>,
    option: &str,
    default: &str,
    rows: &Rows,
) -> RhaiResultOf<Vec<Dynamic>> {
    let default = || FieldOption::column(default);
    field.cloned().unwrap_or_else(default).values(context, option, rows)
}

/// Texts of `perplexity`: one, several, or a column of a data set.
pub fn read_texts(data: &Dynamic, name: &str) -> Result<Vec<String>> {
    if let Some(text) = String::from_script(data) {
        return Ok(vec![text]);
    }
    if let Some(texts) = Vec::from_script(data) {
        return Ok(texts);
    }
    match data.clone().try_cast::<Rows>() {
        Some(rows) => column(&rows, name),
        None => Err(Error::input(format!(
            "perplexity: expected a string, an array of strings or a data set, found {}",
            describe(data)
        ))
        .with_hint("tokenized rows are measured by evaluate(model, data, #{})")),
    }
}

/// The scores of items: an array of them, or those of one metric in a result.
pub fn read_scores(name: &str, value: &Dynamic, metric: Option<&str>) -> Result<Vec<f64>> {
    if let Some(scores) = Vec::from_script(value) {
        return Ok(scores);
    }
    let scores = Map::from_script(value).and_then(|result| Map::from_script(result.get("scores")?));
    let scores = scores.ok_or_else(|| {
        Error::input(format!(
            "compare_scores: `{name}`: expected a result with `scores`, or an array of numbers, found {}",
            describe(value)
        ))
        .with_hint("of several adapters or tasks, name one: result.tuned, result.boolq")
    })?;
    let only = scores.keys().next().filter(|_| scores.len() == 1).map(|key| key.as_str());
    let metric = metric.or(only).unwrap_or("acc");
    scores.get(metric).and_then(Vec::from_script).ok_or_else(|| {
        let known = scores.keys().map(|key| key.as_str());
        Error::input(format!("compare_scores: `{name}` has no score per item called `{metric}`"))
            .with_hint(suggest::hint(metric, known))
    })
}
