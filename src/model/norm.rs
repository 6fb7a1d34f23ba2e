//! Root-mean-square normalisation (Zhang and Sennrich, 2019), as transformers computes it.

use crate::error::Result;
use crate::native;
use tch::Tensor;

/// `y = w · x / sqrt(mean(x²) + ε)`, the quotient in f32 whatever the dtype of x.
#[derive(Debug)]
pub struct RmsNorm {
    /// Full module name, `model.layers.0.input_layernorm`.
    pub name: String,
    /// `[width]`
    pub weight: Tensor,
    pub eps: f64,
}

impl RmsNorm {
    /// Normalises the last dimension, or each head in it if the weight has the width of a head.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        native::rms_norm(x, &self.weight, self.eps)
    }

    /// `x + delta`, and that normalised, for tensors with kernels.
    pub fn forward_sum(&self, x: &Tensor, delta: &Tensor) -> Result<(Tensor, Tensor)> {
        let [sum, normed] = native::add_rms_norm(x, delta, &self.weight, self.eps)?;
        Ok((sum, normed))
    }

    /// As [`Self::forward`], with an adapter's `weight`.
    pub fn forward_with(&self, weight: &Tensor, x: &Tensor) -> Result<Tensor> {
        native::rms_norm(x, &weight.f_to_kind(x.f_kind()?)?, self.eps)
    }
}
