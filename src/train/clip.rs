//! Clipping by the global norm, as `torch.nn.utils.clip_grad_norm_` does it.

/// torch adds this to the norm before dividing.
const EPSILON: f64 = 1e-6;

/// The factor that scales a gradient of norm `norm` to at most `max_norm`.
pub fn factor(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + EPSILON)).min(1.0)
}
