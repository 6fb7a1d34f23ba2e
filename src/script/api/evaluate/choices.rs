//! `multiple_choice` and `kobest`: questions from rows, answers as maps.

use super::asked::{insert, numbers, Asked};
use super::field::{limited, Field};
use crate::data::Dataset as Rows;
use crate::eval::multiple_choice::{self, Answers, Metric, Question};
use crate::eval::{kobest, Bootstrap, Measured};
use crate::script::engine::downloads::Downloads;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::{describe, FromScript};
use crate::script::values::options::Options;
use crate::{hub, lora, Error, Result};
use rhai::{Array, Dynamic, Map, NativeCallContext};

pub fn run_multiple_choice(
    context: &NativeCallContext,
    model: &lora::Model,
    data: &Rows,
    mut options: Options,
) -> RhaiResultOf<Map> {
    let fields = [("prompt", "prompt"), ("choices", "choices"), ("label", "label")];
    let fields = fields.map(|(name, column)| Field::take(&mut options, name, column));
    let [prompt, choices, label] = fields;
    let (prompt, choices, label) = (prompt?, choices?, label?);
    let data = limited(data, &mut options, &State::of(context)?)?;
    let default = multiple_choice::Settings::default();
    let settings = multiple_choice::Settings {
        delimiter: options.take("delimiter", default.delimiter)?,
        max_length: options.take_opt("max_length")?,
        batch: options.take_either("batch", "batch_size", default.batch)?,
    };
    let asked = Asked::take(&mut options)?;
    options.finish()?;
    let contexts: Vec<String> = prompt.values(context, &data)?;
    let choices: Vec<Vec<String>> = choices.values(context, &data)?;
    let labels: Vec<Dynamic> = label.values(context, &data)?;
    let questions =
        contexts.into_iter().zip(choices).zip(&labels).enumerate().map(|(at, ((context, choices), label))| {
            let answer =
                answer(label, &choices).map_err(|error| error.context(format!("multiple_choice: row {at}")))?;
            Ok(Question { context, choices, answer })
        });
    let questions: Vec<Question> = questions.collect::<Result<_>>()?;
    let candidates = asked.candidates(&model.adapted)?;
    let found = Answers::measure(model, &candidates, &questions, &settings)
        .map_err(|error| error.context("multiple_choice"))?;
    let metrics = [Metric::Acc, Metric::AccNorm, Metric::AccBytes, Metric::F1];
    let results = found.iter().map(|answers| {
        let measured = measured(answers, &metrics, &asked.bootstrap)?;
        Ok(answers_map(answers, &metrics, &measured))
    });
    Ok(asked.result(&candidates, results.collect::<Result<_>>()?))
}

/// The number of the right choice, given as such or as its text.
fn answer(label: &Dynamic, choices: &[String]) -> Result<usize> {
    let expected = format!("expected a label from 0 to {}, or one of the choices", choices.len().saturating_sub(1));
    let wrong = || Error::data(format!("{expected}, found {}", describe(label)));
    match String::from_script(label) {
        Some(text) => choices.iter().position(|choice| *choice == text).ok_or_else(wrong),
        None => usize::from_script(label).filter(|&at| at < choices.len()).ok_or_else(wrong),
    }
}

pub fn run_kobest(state: &State, model: &lora::Model, mut options: Options) -> Result<Map> {
    let tasks: Option<Vec<String>> = options.take_opt("tasks")?;
    let data = state.to_read(&options.take("data", kobest::HUB_NAME.to_owned())?);
    let limit: Option<usize> = options.take_opt("limit")?;
    let limit = if state.rehearsing() { Some(state.few(limit.unwrap_or(usize::MAX))) } else { limit };
    let num_fewshot = options.take("num_fewshot", 0_usize)?;
    if num_fewshot != 0 {
        let error = options.wrong("num_fewshot", "0", &num_fewshot.to_string());
        return Err(error.with_hint("examples in the prompt are not supported"));
    }
    let settings = multiple_choice::Settings {
        max_length: options.take_opt("max_length")?,
        batch: options.take_either("batch", "batch_size", 8)?,
        ..multiple_choice::Settings::default()
    };
    let asked = Asked::take(&mut options)?;
    options.finish()?;
    let tasks = match tasks {
        Some(names) => names.iter().map(|name| kobest::Task::named(name)).collect::<Result<Vec<_>>>()?,
        None => kobest::Task::ALL.to_vec(),
    };
    let candidates = asked.candidates(&model.adapted)?;
    let (hub, mut downloads) = (hub::Hub::from_env()?, Downloads::new(state));
    // All data is read first, so that a missing file costs no evaluation.
    let questions = tasks.iter().map(|task| task.questions(&data, limit, &hub, &mut downloads));
    let questions: Vec<Vec<Question>> = questions.collect::<Result<_>>()?;
    let mut results = vec![Map::new(); candidates.len()];
    let mut sums: Vec<Vec<(usize, Vec<Measured>)>> = vec![Vec::new(); candidates.len()];
    for (task, questions) in tasks.iter().zip(&questions) {
        let found = Answers::measure(model, &candidates, questions, &settings)
            .map_err(|error| error.context(format!("kobest {}", task.name())))?;
        for ((answers, result), sums) in found.iter().zip(&mut results).zip(&mut sums) {
            let measured = measured(answers, task.metrics(), &asked.bootstrap)?;
            result.insert(task.name().into(), answers_map(answers, task.metrics(), &measured).into());
            sums.push((questions.len(), measured));
        }
    }
    if tasks.len() > 1 {
        results.iter_mut().zip(&sums).for_each(|(result, sums)| {
            result.insert("kobest".into(), together_map(sums).into());
        });
    }
    Ok(asked.result(&candidates, results))
}

fn together_map(tasks: &[(usize, Vec<Measured>)]) -> Map {
    let mut map = Map::new();
    kobest::together(tasks).iter().for_each(|measured| insert(&mut map, measured));
    map.insert("n".into(), (tasks.iter().map(|(items, _)| *items as i64).sum::<i64>()).into());
    map
}

fn measured(answers: &Answers, metrics: &[Metric], bootstrap: &Bootstrap) -> Result<Vec<Measured>> {
    metrics.iter().map(|metric| answers.measured(*metric, bootstrap)).collect()
}

fn answers_map(answers: &Answers, metrics: &[Metric], measured: &[Measured]) -> Map {
    let mut map = Map::new();
    measured.iter().for_each(|measured| insert(&mut map, measured));
    let scores = metrics.iter().filter_map(|metric| Some((metric.name().into(), numbers(&answers.scores(*metric)?))));
    map.insert("scores".into(), scores.collect::<Map>().into());
    let items = answers.questions.iter().map(|answered| {
        let item: Map = [
            ("answer".into(), (answered.answer as i64).into()),
            ("chosen".into(), (answered.chosen as i64).into()),
            ("loglikelihoods".into(), numbers(&answered.log_likelihoods)),
        ]
        .into();
        Dynamic::from(item)
    });
    map.insert("items".into(), items.collect::<Array>().into());
    map.insert("n".into(), (answers.questions.len() as i64).into());
    map
}
