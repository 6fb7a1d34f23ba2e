//! DoRA (Liu and others, 2024): the adapted weight as a direction and a length.
//!
//! `y = m / ‖W + s BA‖ · (W + s BA) x + b`: each row of the weight is brought to the length m,
//! which is trained. As in the paper (section 4.3) and in PEFT, no gradient goes through the
//! norm. Under dropout, which is for the adapter alone, PEFT keeps `W x` and adds
//! `(m/‖·‖ - 1) W x̃ + m/‖·‖ s BA x̃` of the dropped input x̃.

use super::adapter::LowRank;
use crate::error::Result;
use tch::{no_grad, Kind as Dtype, Tensor};

/// The length of each row of the adapted weight, `[out_features]`, in the adapter's dtype.
pub fn row_norms(weight: &Tensor, low_rank: &LowRank) -> Result<Tensor> {
    no_grad(|| {
        let mut adapted = weight.f_to_kind(low_rank.a.f_kind()?)?;
        if let Some(taken) = low_rank.taken {
            adapted = adapted.f_addmm(&taken.b.f_mul_scalar(-low_rank.scale)?, &taken.a)?;
        }
        adapted = adapted.f_addmm(&low_rank.b.f_mul_scalar(low_rank.scale)?, low_rank.a)?;
        Ok(adapted.f_linalg_norm(2.0, [1].as_slice(), false, None::<Dtype>)?)
    })
}

/// What a layer's outputs are multiplied by, `[out_features]`.
pub fn factors(magnitude: &Tensor, weight: &Tensor, low_rank: &LowRank) -> Result<Tensor> {
    Ok(magnitude.f_div(&row_norms(weight, low_rank)?)?)
}

/// `base`, `[tokens, out]`, is `W x̃` of the dropped input, `dropped` is x̃, `[tokens, in]`:
/// what comes on top of `W x + b`.
pub fn beside_dropout(factors: &Tensor, base: &Tensor, dropped: &Tensor, low_rank: &LowRank) -> Result<Tensor> {
    let change = dropped.f_linear(low_rank.a, None::<&Tensor>)?.f_linear(low_rank.b, None::<&Tensor>)?;
    let scaled = base.f_add(&change.f_mul_scalar(low_rank.scale)?)?.f_mul(factors)?;
    Ok(scaled.f_sub(base)?)
}
