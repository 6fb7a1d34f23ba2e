//! `compare_scores`: scores out of two results, and the comparison as a map.

use super::results::numbers;
use crate::eval::paired::PairedComparison;
use crate::eval::Bootstrap;
use crate::options;
use crate::script::values::from_script::{describe, FromScript};
use crate::script::values::options::Options;
use crate::{Error, Result};
use rhai::{Dynamic, Map};

options! {
    #[derive(Debug, Clone)]
    pub struct CompareScoresCall {
        /// Which of the `scores` of the results.
        metric: Option<String> = None, words "the only one, or \"acc\"";
        bootstrap: Bootstrap = Bootstrap::default(), is set;
    }
}

pub fn run(a: &Dynamic, b: &Dynamic, options: Map) -> Result<Map> {
    let CompareScoresCall { metric, bootstrap } = Options::read("compare_scores", options)?;
    let (a, b) = (scores_of("a", a, metric.as_deref())?, scores_of("b", b, metric.as_deref())?);
    let comparison = PairedComparison::of(&a, &b, &bootstrap).map_err(|error| error.context("compare_scores"))?;
    let mut map = Map::new();
    map.insert("n".into(), (comparison.items as i64).into());
    map.insert("a".into(), comparison.mean_a.into());
    map.insert("b".into(), comparison.mean_b.into());
    map.insert("difference".into(), comparison.difference.into());
    if let Some(spread) = comparison.spread {
        map.insert("difference_stderr".into(), spread.standard_error.into());
        map.insert("interval".into(), numbers(&[spread.low, spread.high]));
    }
    if let Some(mcnemar) = comparison.mcnemar {
        map.insert("only_a".into(), (mcnemar.only_a as i64).into());
        map.insert("only_b".into(), (mcnemar.only_b as i64).into());
        map.insert("p_value".into(), mcnemar.p_value.into());
    }
    Ok(map)
}

/// The scores of items: an array of them, or those of one metric in a result.
fn scores_of(name: &str, value: &Dynamic, metric: Option<&str>) -> Result<Vec<f64>> {
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
            .with_hint(crate::suggest::hint(metric, known))
    })
}
