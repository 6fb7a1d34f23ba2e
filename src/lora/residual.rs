//! PiSSA (Meng and others, 2024) and OLoRA (Büyükakyüz, 2024): adapters that begin with a part
//! of the base's weight, over the rest of it.
//!
//! PEFT writes that rest, W - s B₀A₀, into the base. Here the base is mapped, shared and never
//! written to: what was taken stays beside the adapter, as a second low-rank part that is
//! frozen and subtracted, `W x + s BA x - s B₀A₀ x`. So such adapters live beside any others.

use super::adapter::Adapter;
use super::spec::{Init, LoraSpec};
use super::targets::Target;
use crate::bail;
use crate::error::{Kind, Result};
use crate::model::shapes::EMBEDDING;
use crate::model::Config;
use tch::{Kind as Dtype, Tensor};

/// A₀ and B₀ of one layer: what A and B begin with, and what the base lacks from then on.
#[derive(Debug)]
pub struct Taken {
    /// `[r, in_features]`
    pub a: Tensor,
    /// `[out_features, r]`
    pub b: Tensor,
}

impl Taken {
    /// What `init` takes out of a weight `[out_features, in_features]`; f32.
    ///
    /// PiSSA: W = U Σ Vᵀ; A₀ = √(Σᵣ/s) Vᵣᵀ and B₀ = Uᵣ √(Σᵣ/s).
    /// OLoRA: W = Q R; A₀ = the first r rows of R, B₀ = the first r columns of Q.
    ///
    /// Decomposed in f64: in f32 the leading singular vectors are known to eps · σ₁ / gap alone, so that processors
    /// disagree from the fifth digit on, and a saved adapter would mean something else on another machine.
    pub fn of(init: Init, target: &Target, weight: &Tensor) -> Result<Self> {
        let weight = weight.f_detach()?.f_to_kind(Dtype::Double)?;
        let (columns, rows) = match init {
            Init::Olora => Tensor::f_linalg_qr(&weight, "reduced")?,
            _ => {
                let (u, sigma, v) = weight.f_svd(true, true)?;
                let root = sigma.f_div_scalar(target.scale)?.f_sqrt()?;
                (u.f_mul(&root)?, v.f_mul(&root)?.f_transpose(0, 1)?)
            }
        };
        // Narrowed first: the whole factors are as large as the weight.
        let a = rows.f_narrow(0, 0, target.r)?.f_to_kind(Dtype::Float)?.f_contiguous()?;
        let b = columns.f_narrow(1, 0, target.r)?.f_to_kind(Dtype::Float)?.f_contiguous()?;
        Ok(Taken { a, b })
    }
}

/// The adapter as an ordinary LoRA of twice the rank over the base as it was loaded:
/// s BA - s B₀A₀ = s [B | -B₀] [A ; A₀]. What PEFT's `path_initial_model_for_weight_conversion`
/// writes.
pub fn to_lora(adapter: &Adapter, config: &Config) -> Result<Adapter> {
    if !adapter.spec.init.takes_from_base() {
        bail!(Kind::Input, "only PiSSA and OLoRA adapters turn into LoRA: this one was not begun with `init` \"pissa\" or \"olora\""; hint: "save it as it is");
    }
    if adapter.spec.use_dora {
        bail!(Kind::Input, "a DoRA adapter does not turn into LoRA: its magnitudes are no low-rank change"; hint: "save it as it is: peft and lorhai load it over the same base");
    }
    if adapter.embedding_target.is_some() {
        bail!(Kind::Input, "an adapter with LoRA on `{EMBEDDING}` does not turn into LoRA of twice the rank: there nothing was taken from the base"; hint: "save it as it is: peft and lorhai load it over the same base");
    }
    let mut lora = Adapter::zeros(doubled(&adapter.spec), config, Dtype::Float, adapter.parameters.flat().device())?;
    for (at, leaf) in adapter.parameters.leaves().iter().enumerate() {
        let leaf = leaf.f_detach()?;
        let value = match adapter.taken.get(at / 2) {
            Some(taken) if at % 2 == 0 => Tensor::f_cat(&[&leaf, &taken.a], 0)?,
            Some(taken) => Tensor::f_cat(&[&leaf, &taken.b.f_neg()?], 1)?,
            None => leaf,
        };
        lora.parameters.set(at, &value)?;
    }
    Ok(lora)
}

/// Twice the rank, and alpha such that the scale is the same: α/r, or α/√r.
fn doubled(spec: &LoraSpec) -> LoraSpec {
    let factor = if spec.use_rslora { std::f64::consts::SQRT_2 } else { 2.0 };
    LoraSpec {
        r: 2 * spec.r,
        alpha: factor * spec.alpha,
        rank_pattern: spec.rank_pattern.map(|r| 2 * r),
        alpha_pattern: spec.alpha_pattern.map(|alpha| factor * alpha),
        init: Init::KaimingUniform,
        ..spec.clone()
    }
}
