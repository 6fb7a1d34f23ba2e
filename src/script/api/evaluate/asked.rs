//! What all evaluations are asked: which adapters to measure, and how sure to make the numbers;
//! their numbers as maps.

use crate::eval::{Bootstrap, Candidate, Measured};
use crate::lora::AdaptedModel;
use crate::script::values::options::Options;
use crate::Result;
use rhai::{Array, Dynamic, Map};

/// Which candidates are measured, and how sure the numbers are made.
pub struct Asked {
    adapters: Option<Vec<String>>,
    pub bootstrap: Bootstrap,
}

impl Asked {
    pub fn take(options: &mut Options) -> Result<Self> {
        Ok(Asked { adapters: options.take_opt("adapters")?, bootstrap: take_bootstrap(options)? })
    }

    pub fn candidates<'a>(&self, model: &'a AdaptedModel) -> Result<Vec<Candidate<'a>>> {
        match &self.adapters {
            Some(names) => Candidate::named(model, names),
            None => Ok(vec![Candidate::current(model)]),
        }
    }

    /// One result as it is, those of named adapters by their names.
    pub fn result(&self, candidates: &[Candidate], results: Vec<Map>) -> Map {
        let named = candidates.iter().map(|candidate| candidate.name.as_str().into());
        match self.adapters {
            Some(_) => named.zip(results.into_iter().map(Dynamic::from)).collect(),
            None => results.into_iter().next().unwrap_or_default(),
        }
    }
}

pub fn take_bootstrap(options: &mut Options) -> Result<Bootstrap> {
    let default = Bootstrap::default();
    let bootstrap = Bootstrap {
        iterations: options.take("bootstrap_iters", default.iterations)?,
        confidence: options.take("confidence", default.confidence)?,
        seed: options.take("seed", default.seed)?,
    };
    bootstrap.check()?;
    Ok(bootstrap)
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
