//! What can be trained: an adapter over a frozen base, or all weights of a decoder.

use super::adapter::Adapter;
use super::dropout::Dropout;
use super::set::AdapterSet;
use crate::model::{Adapters, NoAdapters, Parameters};
use crate::random::Key;

pub trait Trainable {
    fn parameters(&self) -> &Parameters;
    fn parameters_mut(&mut self) -> &mut Parameters;
    /// What joins the forward pass. `key` names the seed, step and micro-batch whose
    /// dropout applies; `None` in evaluation.
    fn adapters(&self, key: Option<Key>) -> Box<dyn Adapters + '_>;
}

impl Trainable for Adapter {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }
    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }
    fn adapters(&self, key: Option<Key>) -> Box<dyn Adapters + '_> {
        let share = self.spec.dropout;
        let dropout = key.filter(|_| share > 0.0).map(|key| Dropout { share, key });
        Box::new(AdapterSet::one(self, dropout))
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
    fn adapters(&self, _: Option<Key>) -> Box<dyn Adapters + '_> {
        Box::new(NoAdapters)
    }
}

/// The key of a micro-batch's dropout.
pub fn dropout_key(seed: u64, step: u64, micro_batch: usize) -> Key {
    Key::new(seed).named("dropout").numbered(step).numbered(micro_batch as u64)
}
