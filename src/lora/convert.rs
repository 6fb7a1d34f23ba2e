//! PiSSA and OLoRA adapters as ordinary LoRA of twice the rank, for programs that know no residual.

use super::adapter::Adapter;
use super::spec::{Init, LoraSpec};
use crate::bail;
use crate::error::{Kind, Result};
use crate::model::shapes::EMBEDDING;
use crate::model::Config;
use tch::{Kind as Dtype, Tensor};

/// The adapter as an ordinary LoRA of twice the rank over the base as it was loaded:
/// s BA - s B₀A₀ = s [B | -B₀] [A ; A₀], as PEFT's `path_initial_model_for_weight_conversion`
/// writes it.
pub fn to_lora(adapter: &Adapter, config: &Config) -> Result<Adapter> {
    if !adapter.spec.init.splits_base() {
        bail!(Kind::Input, "only PiSSA and OLoRA adapters can be converted to LoRA: expected one with `init` \"pissa\" or \"olora\""; hint: "save it as it is");
    }
    if adapter.spec.use_dora {
        bail!(Kind::Input, "a DoRA adapter cannot be converted to LoRA: its magnitudes are no low-rank change"; hint: "save it as it is: peft and lorhai load it over the same base");
    }
    if adapter.embedding_target.is_some() {
        bail!(Kind::Input, "an adapter with LoRA on `{EMBEDDING}` cannot be converted to LoRA of twice the rank: the embeddings have no residual"; hint: "save it as it is: peft and lorhai load it over the same base");
    }
    let mut lora = Adapter::zeros(doubled(&adapter.spec), config, Dtype::Float, adapter.parameters.flat().device())?;
    for (at, leaf) in adapter.parameters.leaves().iter().enumerate() {
        let leaf = leaf.f_detach()?;
        let value = match adapter.initial_factors.get(at / 2) {
            Some(factors) if at % 2 == 0 => Tensor::f_cat(&[&leaf, &factors.a], 0)?,
            Some(factors) => Tensor::f_cat(&[&leaf, &factors.b.f_neg()?], 1)?,
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
