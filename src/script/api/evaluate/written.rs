//! `score_generation` and `exact_match`: what is written, and the metric that measures it.

use super::asked::{insert, numbers, Asked};
use super::field::{in_row, limited, Field};
use crate::data::Dataset as Rows;
use crate::eval::exact_match::ExactMatch;
use crate::eval::{written, Bootstrap, Measured};
use crate::script::callback::Callback;
use crate::script::convert::RhaiResultOf;
use crate::script::explain;
use crate::script::json::to_dynamic;
use crate::script::options::Options;
use crate::script::state::State;
use crate::script::values::{describe, FromScript};
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

pub fn run(context: &NativeCallContext, model: &lora::Model, data: &Rows, mut options: Options) -> RhaiResultOf<Map> {
    let prompt = Field::take(&mut options, "prompt", "prompt")?;
    let target = Field::take(&mut options, "target", "completion")?;
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
    let settings = written::Settings {
        max_new_tokens: state.few(options.take("max_new_tokens", 64)?),
        until: options.take("until", Vec::new())?,
    };
    let exact = exact_match_of(&mut options)?;
    let asked = Asked::take(&mut options)?;
    options.finish()?;
    if data.is_empty() {
        return Err(Error::data("score_generation: expected at least one row, found none").into());
    }
    let prompts: Vec<String> = prompt.values(context, &data)?;
    // A function of yours looks at the row itself.
    let targets: Vec<String> = if function.is_some() { Vec::new() } else { target.values(context, &data)? };
    let candidates = asked.candidates(&model.adapted)?;
    let outputs = written::texts(model, &candidates, &prompts, &settings)?;
    let mut results = Vec::new();
    for outputs in outputs {
        let (name, scores) = match &function {
            Some(function) => ("score", scores_by(context, function.clone(), &outputs, &data)?),
            None => {
                let pairs = outputs.iter().zip(&targets);
                (EXACT_MATCH, pairs.map(|(output, target)| exact.score(output, target)).collect())
            }
        };
        results.push(written_map(name, &scores, outputs, &asked.bootstrap)?);
    }
    Ok(asked.result(&candidates, results))
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
