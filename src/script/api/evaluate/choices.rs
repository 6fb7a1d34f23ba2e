//! `multiple_choice` and `kobest`: questions from rows, answers as maps.

use super::field::{limited, FieldOption};
use super::results::{by_name, insert, numbers};
use crate::data::Dataset as Rows;
use crate::eval::candidate::CandidateOptions;
use crate::eval::kobest::{self, KobestOptions, KobestResult};
use crate::eval::multiple_choice::{questions, Answers, ChoiceOptions, MeasuredAnswers, Metric};
use crate::eval::Bootstrap;
use crate::options;
use crate::options::Value;
use crate::script::engine::downloads::Downloads;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::to_value;
use crate::script::values::options::Options;
use crate::{hub, lora, Result};
use rhai::{Array, Dynamic, Map, NativeCallContext};

options! {
    #[derive(Debug, Clone)]
    pub struct MultipleChoiceCall {
        /// The context: a function of the row, or the name of a column.
        prompt: FieldOption = FieldOption::column("prompt");
        /// The choices, an array of strings: a function of the row, or the name of a column.
        choices: FieldOption = FieldOption::column("choices");
        /// The right choice, its number from 0 or its text: a function of the row, or the name of a column.
        label: FieldOption = FieldOption::column("label");
        /// Only the first rows.
        limit: Option<usize> = None, words "all rows";
        choice: ChoiceOptions = ChoiceOptions::default(), is set;
        candidates: CandidateOptions = CandidateOptions::default(), is set;
        bootstrap: Bootstrap = Bootstrap::default(), is set;
    }
}

const METRICS: &[Metric] = &[Metric::Acc, Metric::AccNorm, Metric::AccBytes, Metric::F1];

pub fn run_multiple_choice(
    context: &NativeCallContext,
    model: &lora::Model,
    rows: &Rows,
    options: Map,
) -> RhaiResultOf<Map> {
    let options: MultipleChoiceCall = Options::read("multiple_choice", options)?;
    let rows = limited(rows, options.limit, &State::of(context)?);
    let contexts: Vec<String> = options.prompt.values(context, "prompt", &rows)?;
    let choices: Vec<Vec<String>> = options.choices.values(context, "choices", &rows)?;
    let labels: Vec<Dynamic> = options.label.values(context, "label", &rows)?;
    let labels: Vec<Value> = labels.iter().map(to_value).collect();
    let candidates = options.candidates.candidates("multiple_choice", &model.adapted)?;
    let answers = questions(contexts, choices, &labels)
        .and_then(|questions| Answers::measure(model, &candidates, &questions, &options.choice))
        .map_err(|error| error.context("multiple_choice"))?;
    let maps = answers.into_iter().map(|answers| Ok(answers_map(&answers.measured_by(METRICS, &options.bootstrap)?)));
    Ok(by_name(&options.candidates, &candidates, maps.collect::<Result<_>>()?))
}

pub fn run_kobest(state: &State, model: &lora::Model, options: Map) -> Result<Map> {
    let mut options: KobestOptions = Options::read("kobest", options)?;
    options.data = state.to_read(&options.data);
    options.limit = options.limit.into_iter().chain(state.rehearsal_cap()).min();
    let candidates = options.candidates.candidates("kobest", &model.adapted)?;
    let (hub, mut downloads) = (hub::Hub::from_env()?, Downloads::new(state));
    let results = kobest::measure(model, &candidates, &options, &hub, &mut downloads)?;
    Ok(by_name(&options.candidates, &candidates, results.iter().map(kobest_map).collect()))
}

fn kobest_map(result: &KobestResult) -> Map {
    let tasks = result.tasks.iter().map(|(task, answers)| (task.name().into(), answers_map(answers).into()));
    let mut map: Map = tasks.collect();
    if let Some(metrics) = result.together() {
        let mut together = Map::new();
        metrics.iter().for_each(|measured| insert(&mut together, measured));
        together.insert("n".into(), (result.questions() as i64).into());
        map.insert("kobest".into(), together.into());
    }
    map
}

fn answers_map(measured: &MeasuredAnswers) -> Map {
    let MeasuredAnswers { answers, metrics, measured } = measured;
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
