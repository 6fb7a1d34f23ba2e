//! A linear layer of the frozen base, and the place where adapters join in.

use super::input::Tokens;
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

/// What joins linear layers: `lora/` implements it for adapter sets.
///
/// The decoder knows adapters only through this trait, so that one definition of the
/// forward pass serves the bare base, one adapter, and many side by side.
pub trait Adapters {
    /// The layer's output for `x` `[tokens, in]` with the adapters' part: `[tokens, out]`.
    fn forward(&self, linear: &Linear, x: &Tensor, tokens: &Tokens) -> Result<Tensor>;

    /// The embeddings `[tokens, width]` of token ids, from `table` `[vocabulary, width]` or from
    /// an adapter's own copy of it.
    fn embed(&self, table: &Tensor, ids: &Tensor, _: &Tokens) -> Result<Tensor> {
        Ok(Tensor::f_embedding(table, ids, -1, false, false)?)
    }

    /// Does an adapter take part in this layer on batch `part`, or is the layer itself trained?
    fn touch(&self, linear: &Linear, part: usize) -> bool;
}

/// The layers as they are.
#[derive(Debug, Clone, Copy)]
pub struct NoAdapters;

impl Adapters for NoAdapters {
    fn forward(&self, linear: &Linear, x: &Tensor, _: &Tokens) -> Result<Tensor> {
        Ok(x.f_linear(&linear.weight, linear.bias.as_ref())?)
    }

    fn touch(&self, linear: &Linear, _: usize) -> bool {
        linear.weight.requires_grad()
    }
}
