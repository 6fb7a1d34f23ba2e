//! What an adapter holds for one layer, as borrowed views: its matrices, trained rows, saved modules.
//!
//! [`Adapter`](super::adapter::Adapter) lends them; the forward pass, merging and DoRA read them.

use super::residual::InitialFactors;
use super::tokens::Index;
use tch::Tensor;

/// The matrices of one layer: f32 leaves of autograd.
#[derive(Debug, Clone, Copy)]
pub struct LowRank<'a> {
    /// `[r, in_features]`
    pub a: &'a Tensor,
    /// `[out_features, r]`
    pub b: &'a Tensor,
    /// The buffers that the gradients of A and B are added to.
    pub grad_a: &'a Tensor,
    pub grad_b: &'a Tensor,
    pub scale: f64,
    /// The initial A and B of PiSSA and OLoRA: W less their product is the residual that the adapter is trained over.
    pub initial: Option<&'a InitialFactors>,
    /// DoRA's length of each row of the weight, `[out_features]`.
    pub magnitude: Option<&'a Tensor>,
    /// The bias of B (`lora_bias`), `[out_features]`, scaled as B's product is.
    pub bias: Option<&'a Tensor>,
}

/// The matrices of the embeddings: a token's vector gets `B A[:, token] · scale`.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddingLowRank<'a> {
    /// `[r, vocabulary]`
    pub a: &'a Tensor,
    /// `[width, r]`
    pub b: &'a Tensor,
    pub scale: f64,
}

/// Trained rows of the embeddings or the head.
#[derive(Debug, Clone, Copy)]
pub struct TrainedRows<'a> {
    pub index: &'a Index,
    /// `[ids, width]`
    pub rows: &'a Tensor,
}

/// The adapter's copies of a layer's weight and bias, which replace the base's: leaves of autograd.
#[derive(Debug, Clone, Copy)]
pub struct SavedModule<'a> {
    /// `[out_features, in_features]`
    pub weight: Option<&'a Tensor>,
    /// `[out_features]`
    pub bias: Option<&'a Tensor>,
}
