//! What can be trained: an adapter over a frozen base, or all weights of a decoder.

use super::adapter::Adapter;
use super::dropout::Dropout;
use super::nested::Nested;
use super::set::Active;
use crate::error::Result;
use crate::model::Parameters;
use crate::random::Key;

pub trait Trainable {
    fn parameters(&self) -> &Parameters;
    fn parameters_mut(&mut self) -> &mut Parameters;
    /// The adapter of the forward pass on batch `part` of the input, or on all of it; `None` where the
    /// decoder itself is trained. `key` names the seed, step and micro-batch whose dropout applies; `None`
    /// in evaluation.
    fn active(&self, part: Option<usize>, key: Option<Key>) -> Option<Active<'_>>;
    /// Is the decoder alone, without this adapter, the model as it is now? True of a fresh adapter.
    fn starts_at_base(&self) -> Result<bool>;
    /// The prefixes that are trained together, if there are several.
    fn nested(&self) -> Option<&Nested> {
        None
    }
    /// Each of these prefixes, to be measured; the last is the whole adapter.
    fn prefixes(&self) -> Vec<Prefix> {
        Vec::new()
    }
}

impl Trainable for Adapter {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }
    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }
    fn active(&self, part: Option<usize>, key: Option<Key>) -> Option<Active<'_>> {
        let p = self.spec.dropout;
        let dropout = key.filter(|_| p > 0.0).map(|key| Dropout { p, key });
        Some(Active { adapter: self, part, dropout, slices: None })
    }
    fn nested(&self) -> Option<&Nested> {
        self.nested.as_ref()
    }
    fn prefixes(&self) -> Vec<Prefix> {
        let count = self.nested.as_ref().map_or(0, |nested| nested.ranks().len());
        (0..count).map(|at| Prefix { adapter: self.shallow_clone(), at }).collect()
    }
    fn starts_at_base(&self) -> Result<bool> {
        self.adds_nothing()
    }
}

/// A prefix of an adapter with nested ranks, which shares its parameters.
#[derive(Debug)]
pub struct Prefix {
    adapter: Adapter,
    at: usize,
}

impl Prefix {
    pub fn rank(&self) -> i64 {
        self.adapter
            .nested
            .as_ref()
            .and_then(|nested| nested.ranks().get(self.at).copied())
            .unwrap_or(self.adapter.spec.r)
    }
}

impl Trainable for Prefix {
    fn parameters(&self) -> &Parameters {
        self.adapter.parameters()
    }
    fn parameters_mut(&mut self) -> &mut Parameters {
        self.adapter.parameters_mut()
    }
    fn active(&self, part: Option<usize>, key: Option<Key>) -> Option<Active<'_>> {
        let slices = self.adapter.nested.as_ref().map(|nested| nested.prefix(self.at));
        self.adapter.active(part, key).map(|active| Active { slices, ..active })
    }
    fn starts_at_base(&self) -> Result<bool> {
        self.adapter.adds_nothing()
    }
}

/// All weights of a decoder: made by [`crate::model::Decoder::train_all`].
impl Trainable for Parameters {
    fn parameters(&self) -> &Parameters {
        self
    }
    fn parameters_mut(&mut self) -> &mut Parameters {
        self
    }
    fn active(&self, _: Option<usize>, _: Option<Key>) -> Option<Active<'_>> {
        None
    }
    fn starts_at_base(&self) -> Result<bool> {
        Ok(true)
    }
}

/// The dropout of the forward passes on one micro-batch of a run whose loss the caller computes.
#[derive(Debug, Clone, Copy)]
pub struct MicroBatchDropout {
    key: Key,
    passes: u64,
}

impl MicroBatchDropout {
    /// `key` is that of the micro-batch: see [`dropout_key`].
    pub fn new(key: Key) -> Self {
        MicroBatchDropout { key, passes: 0 }
    }

    /// The key of the next forward pass. The first has the masks that the built-in loss has, each further one its own.
    pub fn next_key(&mut self) -> Key {
        let pass = self.passes;
        self.passes += 1;
        if pass == 0 {
            self.key
        } else {
            self.key.named("pass").numbered(pass)
        }
    }
}

/// The key of a micro-batch's dropout.
pub fn dropout_key(seed: u64, step: u64, micro_batch: usize) -> Key {
    Key::new(seed).named("dropout").numbered(step).numbered(micro_batch as u64)
}
