//! `perplexity`: its texts, and its result as a map.

use super::results::{by_name, insert, numbers};
use crate::data::Dataset as Rows;
use crate::eval::candidate::CandidateOptions;
use crate::eval::field::column;
use crate::eval::perplexity::{beginnings, Perplexity, PerplexityOptions};
use crate::eval::{Bootstrap, Measured};
use crate::options;
use crate::script::engine::state::State;
use crate::script::values::from_script::{describe, FromScript};
use crate::script::values::options::Options;
use crate::{lora, Error, Result};
use rhai::{Dynamic, Map};

options! {
    #[derive(Debug, Clone)]
    pub struct PerplexityCall {
        /// The column of the texts, in a data set.
        column: String = "text".to_owned();
        perplexity: PerplexityOptions = PerplexityOptions::default(), is set;
        candidates: CandidateOptions = CandidateOptions::default(), is set;
        bootstrap: Bootstrap = Bootstrap::default(), is set;
    }
}

pub fn run(state: &State, model: &lora::Model, data: &Dynamic, options: Map) -> Result<Map> {
    let options: PerplexityCall = Options::read("perplexity", options)?;
    let mut texts = texts_of(data, &options.column)?;
    if let Some(cap) = state.rehearsal_cap() {
        texts = beginnings(&texts, cap);
    }
    let candidates = options.candidates.candidates("perplexity", &model.adapted)?;
    let results = Perplexity::measure(model, &candidates, &texts, &options.perplexity)
        .map_err(|error| error.context("perplexity"))?;
    let maps = results.iter().map(|result| perplexity_map(result, &options.bootstrap)).collect::<Result<_>>()?;
    Ok(by_name(&options.candidates, &candidates, maps))
}

fn texts_of(data: &Dynamic, name: &str) -> Result<Vec<String>> {
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

fn perplexity_map(result: &Perplexity, bootstrap: &Bootstrap) -> Result<Map> {
    let texts = result.texts.len();
    let mut map = Map::new();
    insert(&mut map, &Measured::of("perplexity", texts, bootstrap, |drawn| result.perplexity_of(drawn))?);
    map.insert("word_perplexity".into(), result.word_perplexity().into());
    map.insert("byte_perplexity".into(), result.byte_perplexity().into());
    map.insert("bits_per_byte".into(), result.bits_per_byte().into());
    map.insert("loss".into(), result.loss().into());
    map.insert("loglikelihood".into(), result.log_likelihood().into());
    for (name, count) in
        [("tokens", result.tokens()), ("words", result.words()), ("bytes", result.bytes()), ("texts", texts)]
    {
        map.insert(name.into(), (count as i64).into());
    }
    let losses = result.texts.iter().map(|text| text.loss()).collect::<Vec<_>>();
    map.insert("scores".into(), Map::from([("loss".into(), numbers(&losses))]).into());
    Ok(map)
}
