//! A base model and its adapters: adds, activates, disables and removes them.
//!
//! The base's weights are never written to, so removing the last adapter leaves it as it
//! was loaded, bit for bit.

use super::adapter::{count_line, Adapter};
use super::dropout::Dropout;
use super::merge::Originals;
use super::set::{Active, AdapterSet};
use super::spec::LoraSpec;
use super::trainable::Trainable;
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::model::{Decoder, Parameters};
use crate::random::Key;
use crate::suggest;

/// The name of an adapter that gets none from the user, as in PEFT.
pub const DEFAULT_NAME: &str = "default";

/// The name of the model without an adapter, in results beside adapters.
pub const BASE: &str = "base";

/// Which adapter took part in the forward pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveChoice {
    active: Option<String>,
    enabled: bool,
}

#[derive(Debug)]
pub struct AdaptedModel {
    pub decoder: Decoder,
    adapters: Vec<(String, Adapter)>,
    /// The adapter that takes part in the forward pass.
    active: Option<String>,
    enabled: bool,
    /// All weights of the decoder, once `train_all` made them trainable.
    full: Option<Parameters>,
    /// While an adapter is merged: the tensors that it replaced.
    pub(super) merged: Option<Originals>,
}

impl AdaptedModel {
    pub fn new(decoder: Decoder) -> Self {
        AdaptedModel { decoder, adapters: Vec::new(), active: None, enabled: true, full: None, merged: None }
    }

    /// The same weights and adapters, to be trained while this value can be used. Later additions and removals are not
    /// shared.
    ///
    /// # Errors
    /// An adapter that is merged.
    pub fn shallow_clone(&self) -> Result<Self> {
        self.ensure_unmerged()?;
        let adapters = self.adapters.iter().map(|(name, adapter)| (name.clone(), adapter.shallow_clone()));
        Ok(AdaptedModel {
            decoder: self.decoder.shallow_clone(),
            adapters: adapters.collect(),
            active: self.active.clone(),
            enabled: self.enabled,
            full: self.full.as_ref().map(Parameters::shallow_clone),
            merged: None,
        })
    }

    /// Are these the parameters that training would change?
    pub fn trains(&self, parameters: &Parameters) -> bool {
        let is_same = |own: &Parameters| own.flat().data_ptr() == parameters.flat().data_ptr();
        self.merged.is_none() && self.trainable().is_ok_and(is_same)
    }

    /// Adds a fresh adapter and makes it the active one.
    pub fn add(&mut self, name: &str, spec: LoraSpec, seed: u64) -> Result<()> {
        let adapter = Adapter::new(spec, &self.decoder, seed)?;
        self.insert(name, adapter)
    }

    /// Adds a loaded adapter and makes it the active one.
    pub fn insert(&mut self, name: &str, adapter: Adapter) -> Result<()> {
        if name == BASE {
            bail!(Kind::Input, "an adapter cannot be called `{BASE}`: that is the model without an adapter"; hint: "choose another name, as in name: \"tuned\"");
        }
        self.ensure_unmerged()?;
        if self.adapters.iter().any(|(known, _)| known == name) {
            return Err(Error::input(format!("the model already has an adapter called `{name}`"))
                .with_hint("choose another name, or remove it first with model.delete_adapter(name)"));
        }
        self.ensure_base_frozen()?;
        self.adapters.push((name.to_owned(), adapter));
        self.active = Some(name.to_owned());
        self.enabled = true;
        Ok(())
    }

    /// Removes an adapter and returns it. If it was active, the last of the others becomes active.
    pub fn remove(&mut self, name: &str) -> Result<Adapter> {
        self.ensure_unmerged()?;
        let at = self.position(name)?;
        let (_, adapter) = self.adapters.remove(at);
        if self.active.as_deref() == Some(name) {
            self.active = self.adapters.last().map(|(name, _)| name.clone());
        }
        Ok(adapter)
    }

    pub fn set_active(&mut self, name: &str) -> Result<()> {
        self.ensure_unmerged()?;
        self.position(name)?;
        self.active = Some(name.to_owned());
        Ok(())
    }

    /// Includes the active adapter in the forward pass, or leaves the base alone.
    pub fn set_enabled(&mut self, enabled: bool) -> Result<()> {
        self.ensure_unmerged()?;
        self.enabled = enabled;
        Ok(())
    }

    /// Has only the named adapter take part, or with `None` the base alone. Returns what [`Self::choose_again`] goes back
    /// to.
    ///
    /// # Errors
    /// An adapter that the model has not, or one that is merged.
    pub fn choose(&mut self, name: Option<&str>) -> Result<ActiveChoice> {
        self.ensure_unmerged()?;
        let before = ActiveChoice { active: self.active.clone(), enabled: self.enabled };
        if let Some(name) = name {
            self.set_active(name)?;
        }
        self.enabled = name.is_some();
        Ok(before)
    }

    /// Goes back to an earlier choice; an adapter that was removed since is not chosen.
    pub fn choose_again(&mut self, choice: ActiveChoice) {
        let ActiveChoice { active, enabled } = choice;
        let is_there = active.as_deref().is_none_or(|name| self.names().any(|known| known == name));
        if is_there {
            self.active = active;
        }
        self.enabled = enabled;
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.adapters.iter().map(|(name, _)| name.as_str())
    }

    pub fn active_name(&self) -> Option<&str> {
        self.active.as_deref()
    }

    /// The named adapter, or the active one.
    pub fn adapter(&self, name: Option<&str>) -> Result<&Adapter> {
        let name = name.or(self.active_name()).ok_or_else(no_adapter)?;
        let at = self.position(name)?;
        Ok(&self.adapters[at].1)
    }

    /// The decoder, and what is trained on it: the active adapter, or all weights.
    pub fn split_for_training(&mut self) -> Result<(&Decoder, &mut dyn Trainable)> {
        self.ensure_unmerged()?;
        let AdaptedModel { decoder, adapters, active, full, .. } = self;
        if let Some(full) = full {
            return Ok((decoder, full));
        }
        let name = active.as_deref().ok_or_else(no_adapter)?;
        match adapters.iter_mut().find(|(known, _)| known == name) {
            Some((_, adapter)) => {
                adapter.ensure_trainable()?;
                Ok((decoder, adapter))
            }
            None => Err(Error::bug(format!("the active adapter `{name}` is not in the model"))),
        }
    }

    /// Makes all weights of the decoder trainable.
    pub fn train_all(&mut self) -> Result<()> {
        if !self.adapters.is_empty() {
            return Err(Error::input(format!(
                "full-parameter training needs a model without adapters, found {}",
                self.adapters.len()
            ))
            .with_hint("remove them with model.delete_adapter(name)"));
        }
        if self.full.is_none() {
            self.full = Some(self.decoder.train_all()?);
        }
        Ok(())
    }

    /// Fails once all weights are trained: an adapter needs a frozen base, and a run's record identifies the base by
    /// its files.
    pub fn ensure_base_frozen(&self) -> Result<()> {
        match self.full {
            None => Ok(()),
            Some(_) => Err(Error::input("this model trains all of its weights: expected a frozen base for an adapter")
                .with_hint("save it with model.save(folder) and load that, or load the model again as it was")),
        }
    }

    /// The parameters that training would change.
    pub fn trainable(&self) -> Result<&Parameters> {
        match &self.full {
            Some(full) => Ok(full),
            None => Ok(&self.adapter(None)?.parameters),
        }
    }

    /// The parameters of the named adapter, active or not; with `None` all weights, once they are trained.
    pub fn parameters_of(&self, adapter: Option<&str>) -> Result<&Parameters> {
        match adapter {
            Some(name) => Ok(&self.adapter(Some(name))?.parameters),
            None => self.full.as_ref().ok_or_else(no_adapter),
        }
    }

    /// As [`Self::parameters_of`], to change.
    pub fn parameters_of_mut(&mut self, adapter: Option<&str>) -> Result<&mut Parameters> {
        match adapter {
            Some(name) => {
                let at = self.position(name)?;
                Ok(&mut self.adapters[at].1.parameters)
            }
            None => self.full.as_mut().ok_or_else(no_adapter),
        }
    }

    pub fn trainable_mut(&mut self) -> Result<&mut Parameters> {
        Ok(self.split_for_training()?.1.parameters_mut())
    }

    /// The name of the adapter that is merged into the weights.
    pub fn merged_name(&self) -> Option<&str> {
        self.merged.as_ref().map(|originals| originals.adapter.as_str())
    }

    /// Fails while an adapter is merged, which holds up whatever would go by the base's weights.
    pub fn ensure_unmerged(&self) -> Result<()> {
        match self.merged_name() {
            None => Ok(()),
            Some(name) => Err(Error::input(format!("the adapter `{name}` is merged into the weights"))
                .with_hint("call model.unmerge() first")),
        }
    }

    /// The adapters of a forward pass; with dropout if `key` names a training step.
    pub fn adapter_set(&self, key: Option<Key>) -> AdapterSet<'_> {
        let is_active = |name: &str| self.enabled && self.merged.is_none() && self.active.as_deref() == Some(name);
        let active = self.adapters.iter().filter(|(name, _)| is_active(name)).map(|(_, adapter)| {
            let p = adapter.spec.dropout;
            let dropout = key.filter(|_| p > 0.0).map(|key| Dropout { p, key });
            Active { adapter, part: None, dropout, slices: None }
        });
        AdapterSet::new(active.collect())
    }

    /// Does the active adapter have dropout in training?
    pub fn has_dropout(&self) -> bool {
        let active = self.active.as_deref().and_then(|active| self.adapters.iter().find(|(name, _)| *name == active));
        active.is_some_and(|(_, adapter)| adapter.spec.dropout > 0.0)
    }

    /// (trainable, all) parameters as PEFT counts them: `all` is the base and every adapter.
    pub fn counts(&self) -> (u64, u64) {
        let base = self.decoder.config.parameter_count();
        let added: u64 = self.adapters.iter().map(|(_, adapter)| adapter.added_count()).sum();
        (self.trainable().map_or(0, Parameters::count), base + added)
    }

    /// PEFT's `print_trainable_parameters` line.
    pub fn count_line(&self) -> String {
        let (trainable, all) = self.counts();
        count_line(trainable, all)
    }

    fn position(&self, name: &str) -> Result<usize> {
        self.adapters.iter().position(|(known, _)| known == name).ok_or_else(|| {
            let error = Error::input(format!("there is no adapter called `{name}`"));
            if self.adapters.is_empty() {
                error.with_hint("the model has none yet: call model.add_lora(#{ r: 8, alpha: 16 })")
            } else {
                error.with_hint(suggest::hint(name, self.names()))
            }
        })
    }
}

fn no_adapter() -> Error {
    Error::input("the model has no adapter")
        .with_hint("call model.add_lora(#{ r: 8, alpha: 16 }), or model.train_all() for full-parameter training")
}
