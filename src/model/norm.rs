//! Root-mean-square normalisation (Zhang and Sennrich, 2019), as transformers computes it.

use super::architecture::NormKind;
use crate::error::Result;
use crate::native;
use tch::{Kind as Dtype, Tensor};

/// `y = w · x / sqrt(mean(x²) + ε)`, the quotient in f32 whatever the dtype of x.
#[derive(Debug)]
pub struct RmsNorm {
    /// Full module name, `model.layers.0.input_layernorm`.
    pub name: String,
    /// `[width]`
    pub weight: Tensor,
    pub eps: f64,
    pub kind: NormKind,
}

impl RmsNorm {
    /// Normalises the last dimension, or each head in it if the weight has the width of a head.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(&self.weight, x)
    }

    /// As [`Self::forward`], with an adapter's `weight`.
    pub fn forward_with(&self, weight: &Tensor, x: &Tensor) -> Result<Tensor> {
        let dtype = x.f_kind()?;
        if self.kind == NormKind::Standard {
            return native::rms_norm(x, &weight.f_to_kind(dtype)?, self.eps);
        }
        let wide = if dtype == Dtype::Double { Dtype::Double } else { Dtype::Float };
        let weight = weight.f_to_kind(wide)?;
        let weight = if self.kind == NormKind::UnitOffset { weight.f_add_scalar(1.0)? } else { weight };
        Ok(native::rms_norm(&x.f_to_kind(wide)?, &weight, self.eps)?.f_to_kind(dtype)?)
    }

    /// Whether [`Self::forward_sum`] computes it.
    pub fn has_forward_sum(&self, x: &Tensor) -> bool {
        self.kind == NormKind::Standard && native::has_kernels(x)
    }

    /// `x + delta`, and that normalised.
    pub fn forward_sum(&self, x: &Tensor, delta: &Tensor) -> Result<(Tensor, Tensor)> {
        let [sum, normed] = native::add_rms_norm(x, delta, &self.weight, self.eps)?;
        Ok((sum, normed))
    }

    /// Another handle on the same weight. Copies nothing.
    pub fn shallow_clone(&self) -> Self {
        RmsNorm { name: self.name.clone(), weight: self.weight.shallow_clone(), eps: self.eps, kind: self.kind }
    }
}
