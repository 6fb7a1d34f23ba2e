//! `perplexity`: the texts it is given, and its result as a map.

use super::asked::{insert, numbers, Asked};
use super::field::from_column;
use crate::data::Dataset as Rows;
use crate::eval::perplexity::{self, Perplexity};
use crate::eval::{Bootstrap, Measured};
use crate::script::engine::state::State;
use crate::script::values::from_script::{describe, FromScript};
use crate::script::values::options::Options;
use crate::{lora, Error, Result};
use rhai::{Dynamic, Map};

pub fn run(state: &State, model: &lora::Model, data: &Dynamic, mut options: Options) -> Result<Map> {
    let column = options.take("column", "text".to_owned())?;
    let settings = perplexity::Settings {
        max_length: options.take_opt("max_length")?,
        stride: options.take_opt("stride")?,
        batch: options.take_either("batch", "batch_size", 8)?,
    };
    let asked = Asked::take(&mut options)?;
    options.finish()?;
    let mut texts = texts_of(data, &column)?;
    if state.rehearsing() {
        texts = tiny_texts(&texts, state);
    }
    let candidates = asked.candidates(&model.adapted)?;
    let found =
        Perplexity::measure(model, &candidates, &texts, &settings).map_err(|error| error.context("perplexity"))?;
    let results = found.iter().map(|found| perplexity_map(found, &asked.bootstrap)).collect::<Result<_>>()?;
    Ok(asked.result(&candidates, results))
}

/// The beginnings of few texts.
fn tiny_texts(texts: &[String], state: &State) -> Vec<String> {
    const LETTERS: usize = 200;
    texts.iter().take(state.few(texts.len())).map(|text| text.chars().take(LETTERS).collect()).collect()
}

fn texts_of(data: &Dynamic, column: &str) -> Result<Vec<String>> {
    if let Some(text) = String::from_script(data) {
        return Ok(vec![text]);
    }
    if let Some(texts) = Vec::from_script(data) {
        return Ok(texts);
    }
    match data.clone().try_cast::<Rows>() {
        Some(rows) => from_column(&rows, column),
        None => Err(Error::input(format!(
            "perplexity: expected a string, an array of strings or a data set, found {}",
            describe(data)
        ))
        .with_hint("tokenized rows are measured by evaluate(model, data, #{})")),
    }
}

fn perplexity_map(found: &Perplexity, bootstrap: &Bootstrap) -> Result<Map> {
    let texts = found.texts.len();
    let mut map = Map::new();
    insert(&mut map, &Measured::of("perplexity", texts, bootstrap, |drawn| found.perplexity_of(drawn))?);
    map.insert("word_perplexity".into(), found.word_perplexity().into());
    map.insert("byte_perplexity".into(), found.byte_perplexity().into());
    map.insert("bits_per_byte".into(), found.bits_per_byte().into());
    map.insert("loss".into(), found.loss().into());
    map.insert("loglikelihood".into(), found.log_likelihood().into());
    for (name, count) in
        [("tokens", found.tokens()), ("words", found.words()), ("bytes", found.bytes()), ("texts", texts)]
    {
        map.insert(name.into(), (count as i64).into());
    }
    let losses = found.texts.iter().map(|text| text.loss()).collect::<Vec<_>>();
    map.insert("scores".into(), Map::from([("loss".into(), numbers(&losses))]).into());
    Ok(map)
}
