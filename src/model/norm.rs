//! Root-mean-square normalisation (Zhang and Sennrich, 2019), as transformers computes it.

use crate::error::Result;
use crate::native;
use tch::Tensor;

/// `y = w · x / sqrt(mean(x²) + ε)`, the quotient in f32 whatever the dtype of x.
#[derive(Debug)]
pub struct RmsNorm {
    /// `[width]`
    pub weight: Tensor,
    pub eps: f64,
}

impl RmsNorm {
    /// Normalises the last dimension, or every head of it where the weight is as wide as a head.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        native::rms_norm(x, &self.weight, self.eps)
    }
}
