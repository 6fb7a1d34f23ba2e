//! An adapter merged into the weights of the model in memory, and removed again.
//!
//! The changed layers get new tensors and the old ones are kept, so that unmerging is exact. How a merged
//! weight is computed is in `merge.rs`.

use super::adapted::AdaptedModel;
use super::adapter::Adapter;
use super::merge::{changes, merged, unties, Originals, Rounding};
use crate::error::{Error, Result};
use crate::interrupt;
use tch::Tensor;

impl AdaptedModel {
    /// Merges an adapter, the active one if `name` is `None`, into the weights. Until
    /// [`unmerge`](Self::unmerge) the forward pass uses the merged weights alone.
    pub fn merge(&mut self, name: Option<&str>) -> Result<Rounding> {
        self.ensure_unmerged()?;
        let adapter = self.adapter(name)?;
        // What was merged is no longer mapped, so a changed file would not be noticed later.
        let (fresh, total) = self.decoder.files.unless_changed(|| self.merged_weights(adapter))?;
        let adapter = name.or(self.active_name()).unwrap_or_default().to_owned();
        let tied = self.decoder.config.tie_word_embeddings;
        self.decoder.config.tie_word_embeddings = tied && !unties(fresh.iter().map(|(name, _)| name));
        self.merged = Some(Originals { adapter, weights: self.exchange(fresh)?, tied });
        Ok(total)
    }

    /// The weights that the adapter changes, by their names.
    fn merged_weights(&self, adapter: &Adapter) -> Result<(Vec<(String, Tensor)>, Rounding)> {
        let (mut fresh, mut total) = (Vec::new(), Rounding::default());
        let changes = changes(&self.decoder, adapter)?;
        let mut weights = self.decoder.shallow_clone();
        for (name, change) in &changes {
            interrupt::check()?;
            let Some(weight) = weights.weight_mut(name) else { return Err(not_dense(name)) };
            let (weight, rounding) =
                merged(weight, change, weight.f_kind()?).map_err(|error| error.context(format!("tensor `{name}`")))?;
            total.add(rounding);
            fresh.push((name.clone(), weight));
        }
        Ok((fresh, total))
    }

    /// Restores the tensors that [`merge`](Self::merge) replaced.
    pub fn unmerge(&mut self) -> Result<()> {
        let Some(originals) = self.merged.take() else {
            return Err(Error::input("no adapter is merged").with_hint("merge one first with model.merge()"));
        };
        self.exchange(originals.weights)?;
        self.decoder.config.tie_word_embeddings = originals.tied;
        Ok(())
    }

    /// Replaces the weights of these names by `fresh`, and returns the old ones.
    fn exchange(&mut self, fresh: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>> {
        let mut swap = |(name, weight): (String, Tensor)| match self.decoder.weight_mut(&name) {
            Some(current) => Ok((name, std::mem::replace(current, weight))),
            None => Err(Error::bug(format!("`{name}` is not in the decoder"))),
        };
        fresh.into_iter().map(&mut swap).collect()
    }
}

fn not_dense(name: &str) -> Error {
    Error::input(format!("`{name}` is 4-bit: expected a dense base to merge an adapter into"))
        .with_hint("load the model without load_in_4bit and the adapter on it; save_merged and export_gguf write dense weights as they are")
}
