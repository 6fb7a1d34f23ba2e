//! Clipping by the global norm, as `torch.nn.utils.clip_grad_norm_` does it.

use crate::error::Result;
use tch::Tensor;

/// torch adds this to the norm before dividing.
const EPSILON: f64 = 1e-6;

/// The Euclidean norm of a flat gradient.
pub fn norm(gradient: &Tensor) -> Result<f64> {
    Ok(gradient.f_norm()?.f_double_value(&[])?)
}

/// What the gradient must be multiplied by so that its norm is at most `max_norm`.
pub fn factor(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + EPSILON)).min(1.0)
}
