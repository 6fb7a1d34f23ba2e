//! Candidates: adapters that are measured side by side over one base, and the base itself.

use crate::error::{Error, Result};
use crate::lora::adapted::BASE;
use crate::lora::{Active, AdaptedModel, Adapter, AdapterSet};
use crate::options;

options! {
    /// Which candidates are measured.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CandidateOptions {
        /// Adapters to measure in one pass, "base" for the model without one: the result is then a map by name.
        pub adapters: Option<Vec<String>> = None, words "the active one";
    }
}

impl CandidateOptions {
    /// `call` is what errors name.
    pub fn candidates<'a>(&self, call: &str, model: &'a AdaptedModel) -> Result<Vec<Candidate<'a>>> {
        match &self.adapters {
            Some(names) => Candidate::named(model, names).map_err(|error| error.context(call)),
            None => Ok(vec![Candidate::current(model)]),
        }
    }
}

/// The base with one of its adapters, or with none.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    pub name: String,
    pub adapter: Option<&'a Adapter>,
}

impl<'a> Candidate<'a> {
    /// The model as it answers now: with its active adapter, unless that is switched off.
    pub fn current(model: &'a AdaptedModel) -> Self {
        let adapter = model.adapter_set(None).active.first().map(|active| active.adapter);
        let name = adapter.and(model.active_name()).unwrap_or(BASE).to_owned();
        Candidate { name, adapter }
    }

    /// Adapters by name, where "base" is the model without one.
    ///
    /// # Errors
    /// No name, a name twice, a name that no adapter has, or a merged adapter.
    pub fn named(model: &'a AdaptedModel, names: &[String]) -> Result<Vec<Self>> {
        if names.is_empty() {
            return Err(Error::input("option `adapters`: expected at least one name, found none")
                .with_hint("\"base\" is the model without an adapter"));
        }
        if let Some(at) = (1..names.len()).find(|&at| names[..at].contains(&names[at])) {
            return Err(Error::input(format!("option `adapters`: \"{}\" is named twice", names[at])));
        }
        let one = |name: &String| Self::one(model, name).map_err(|error| error.context("option `adapters`"));
        names.iter().map(one).collect()
    }

    /// The adapter of this name, or the model without one. Fails while an adapter is merged into the weights.
    pub fn one(model: &'a AdaptedModel, name: &str) -> Result<Self> {
        model.ensure_unmerged()?;
        let adapter = match name {
            BASE => None,
            name => Some(model.adapter(Some(name))?),
        };
        Ok(Candidate { name: name.to_owned(), adapter })
    }
}

/// Candidate i on part i of the input: each batch is given once for every one of them.
pub fn adapter_set<'a>(candidates: &[Candidate<'a>]) -> AdapterSet<'a> {
    let active = candidates.iter().enumerate().filter_map(|(part, candidate)| {
        Some(Active { adapter: candidate.adapter?, part: Some(part), dropout: None, slices: None })
    });
    AdapterSet::new(active.collect())
}
