//! What is measured side by side over one base: adapters, and the bare base among them.

use crate::error::{Error, Result};
use crate::lora::resident::BASE;
use crate::lora::{Active, AdaptedModel, Adapter, AdapterSet};

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
    /// Fails on no name, a name twice, a name that no adapter has, and while an adapter is merged.
    pub fn named(model: &'a AdaptedModel, names: &[String]) -> Result<Vec<Self>> {
        if names.is_empty() {
            return Err(Error::input("`adapters`: expected at least one name, found none")
                .with_hint("\"base\" is the model without an adapter"));
        }
        if let Some(at) = (1..names.len()).find(|&at| names[..at].contains(&names[at])) {
            return Err(Error::input(format!("`adapters`: \"{}\" is there twice", names[at])));
        }
        let one = |name: &String| Self::one(model, name).map_err(|error| error.context("`adapters`"));
        names.iter().map(one).collect()
    }

    /// The adapter of this name, or the model without one: neither is what the weights give while an adapter is
    /// merged into them.
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
    let active = candidates
        .iter()
        .enumerate()
        .filter_map(|(part, candidate)| Some(Active { adapter: candidate.adapter?, part: Some(part), dropout: None }));
    AdapterSet { active: active.collect() }
}
