//! Root-mean-square normalisation (Zhang and Sennrich, 2019), as transformers computes it.

use crate::error::Result;
use tch::{Kind as Dtype, Tensor};

/// `y = w · x / sqrt(mean(x²) + ε)`, the quotient in f32 whatever the dtype of x.
#[derive(Debug)]
pub struct RmsNorm {
    /// `[width]`
    pub weight: Tensor,
    pub eps: f64,
}

impl RmsNorm {
    /// Normalises the last dimension.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let dtype = x.f_kind()?;
        // f64 stays f64, so that gradients can be checked in it.
        let wide = if dtype == Dtype::Double { x.shallow_clone() } else { x.f_to_kind(Dtype::Float)? };
        let mean_square = wide.f_square()?.f_mean_dim(-1, true, None)?;
        let unit = wide.f_mul(&mean_square.f_add_scalar(self.eps)?.f_rsqrt()?)?;
        Ok(self.weight.f_mul(&unit.f_to_kind(dtype)?)?)
    }
}
