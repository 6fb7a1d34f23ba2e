//! A linear layer of the frozen base, and the place where adapters join in.

use super::shapes::LinearShape;
use crate::error::Result;
use tch::Tensor;

/// `y = x Wᵀ + b`
#[derive(Debug)]
pub struct Linear {
    pub shape: LinearShape,
    /// `[out_features, in_features]`
    pub weight: Tensor,
    /// `[out_features]`
    pub bias: Option<Tensor>,
}

/// What is added to the output of linear layers: `lora/` implements it for adapter sets.
///
/// The decoder knows adapters only through this trait, so that one definition of the
/// forward pass serves the bare base, one adapter, and many side by side.
pub trait Adapters {
    /// Takes the layer, its input `x` `[rows, time, in]` and output `y` `[rows, time, out]`,
    /// and gives the output with the adapters' part added.
    fn adapt(&self, linear: &LinearShape, x: &Tensor, y: Tensor) -> Result<Tensor>;
}

/// The bare base model: nothing is added.
#[derive(Debug, Clone, Copy)]
pub struct NoAdapters;

impl Adapters for NoAdapters {
    fn adapt(&self, _: &LinearShape, _: &Tensor, y: Tensor) -> Result<Tensor> {
        Ok(y)
    }
}

impl Linear {
    pub fn forward(&self, x: &Tensor, adapters: &dyn Adapters) -> Result<Tensor> {
        let y = x.f_linear(&self.weight, self.bias.as_ref())?;
        adapters.adapt(&self.shape, x, y)
    }
}
