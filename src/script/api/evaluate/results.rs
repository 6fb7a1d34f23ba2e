//! Results of evaluations as maps.

use crate::eval::candidate::CandidateOptions;
use crate::eval::{Candidate, Measured};
use rhai::{Array, Dynamic, Map};

/// One result alone, those of named adapters by their names.
pub fn by_name(options: &CandidateOptions, candidates: &[Candidate], results: Vec<Map>) -> Map {
    if options.adapters.is_none() {
        return results.into_iter().next().unwrap_or_default();
    }
    let names = candidates.iter().map(|candidate| candidate.name.as_str().into());
    names.zip(results.into_iter().map(Dynamic::from)).collect()
}

pub fn insert(map: &mut Map, measured: &Measured) {
    let name = &measured.name;
    map.insert(name.as_str().into(), measured.value.into());
    map.insert(format!("{name}_stderr").into(), measured.standard_error.map_or(Dynamic::UNIT, Into::into));
    if let Some(interval) = measured.interval {
        map.insert(format!("{name}_interval").into(), numbers(&interval));
    }
}

pub fn numbers(values: &[f64]) -> Dynamic {
    values.iter().map(|&value| value.into()).collect::<Array>().into()
}
