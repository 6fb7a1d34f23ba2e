//! DoRA (Liu and others, 2024): the adapted weight as a direction and a length.
//!
//! `y = m / ‖W + s BA‖ · (W + s BA) x + b`: each row of the weight is scaled to the length m,
//! which is trained. As in the paper (section 4.3) and in PEFT, no gradient flows through the
//! norm. Dropout applies to the adapter alone: PEFT keeps `W x` and adds
//! `(m/‖·‖ - 1) W x̃ + m/‖·‖ s BA x̃` of the dropped input x̃.

use super::views::LowRank;
use crate::error::Result;
use tch::{no_grad, Kind as Dtype, Tensor};

/// The length of each row of the adapted weight, `[out_features]`, in the adapter's dtype.
pub fn row_norms(weight: &Tensor, low_rank: &LowRank) -> Result<Tensor> {
    no_grad(|| {
        let mut adapted = weight.f_to_kind(low_rank.a.f_kind()?)?;
        if let Some(initial) = low_rank.initial {
            adapted = adapted.f_addmm(&initial.b.f_mul_scalar(-low_rank.scale)?, &initial.a)?;
        }
        adapted = adapted.f_addmm(&low_rank.b.f_mul_scalar(low_rank.scale)?, low_rank.a)?;
        Ok(adapted.f_linalg_norm(2.0, [1].as_slice(), false, None::<Dtype>)?)
    })
}

/// The factor of each output of the layer, m / ‖W + s BA‖, `[out_features]`.
pub fn factors(magnitude: &Tensor, weight: &Tensor, low_rank: &LowRank) -> Result<Tensor> {
    Ok(magnitude.f_div(&row_norms(weight, low_rank)?)?)
}

/// What DoRA adds to `W x + b` under dropout. `dropped` is the dropped input x̃, `[tokens, in]`; `base` is `W x̃`,
/// `[tokens, out]`.
pub fn change_under_dropout(factors: &Tensor, base: &Tensor, dropped: &Tensor, low_rank: &LowRank) -> Result<Tensor> {
    let change = dropped.f_linear(low_rank.a, None::<&Tensor>)?.f_linear(low_rank.b, None::<&Tensor>)?;
    let scaled = base.f_add(&change.f_mul_scalar(low_rank.scale)?)?.f_mul(factors)?;
    Ok(scaled.f_sub(base)?)
}
