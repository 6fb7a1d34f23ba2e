//! A model in a GGUF file: settings, tensor names and row order as in llama.cpp, and a decoder from such a file.
//!
//! Follows llama.cpp's `convert_hf_to_gguf.py`. Leaves to others: the container
//! (`hub/gguf/`), adapters (`lora/gguf.rs`).

mod settings;
mod support;

pub use settings::{config, settings};
pub use support::{ensure_supported, notes};

use super::architecture::{NormKind, NormPlacement};
use super::config::{Config, Family};
use super::decoder::Decoder;
use super::load::{build, Source};
use super::rope_scaling::RopeScaling;
use super::shapes::parameter_shapes;
use crate::error::{Error, Result};
use crate::hub::gguf::{BlockType, Gguf, Planned};
use tch::{Device, Kind as Dtype, Tensor};

/// Divisors of the rotary frequencies, for scaling as in Llama 3.
const ROPE_FREQS: &str = "rope_freqs.weight";

/// Factors of the rotary frequencies within and beyond the original context, for Phi-3's longrope.
const ROPE_FACTORS: [&str; 2] = ["rope_factors_short.weight", "rope_factors_long.weight"];

/// Modules of a layer: the name in a checkpoint and llama.cpp's.
const MODULES: [(&str, &str); 15] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];
const OUTSIDE: [(&str, &str); 3] =
    [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// llama.cpp's name of the architecture.
pub fn architecture(family: Family) -> &'static str {
    family.declaration().gguf
}

/// llama.cpp's name for a tensor or module of the checkpoint: `blk.0.attn_q.weight` for
/// `model.layers.0.self_attn.q_proj.weight`.
pub fn name(config: &Config, name: &str) -> Result<String> {
    let known = |part: &str, table: &[(&str, &'static str)]| {
        let (hf, gguf) = table.iter().find(|(hf, _)| part == *hf || part.starts_with(&format!("{hf}.")))?;
        // The norm with this name stands behind attention in some families, before the MLP in others.
        let is_before_mlp = config.architecture.norm_placement == NormPlacement::Before;
        let gguf = if is_before_mlp && *gguf == "post_attention_norm" { "ffn_norm" } else { gguf };
        Some(format!("{gguf}{}", &part[hf.len()..]))
    };
    let inner = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
    let gguf = match inner {
        Some((layer, rest)) => known(rest, &MODULES).map(|rest| format!("blk.{layer}.{rest}")),
        None => known(name, &OUTSIDE),
    };
    gguf.ok_or_else(|| Error::bug(format!("`{name}` has no name in a GGUF file")))
}

/// The tensors of the file, each with its name in the checkpoint. Vectors and norms stay f32; a matrix whose
/// rows are not a multiple of the block size becomes f16.
pub fn plan(config: &Config, block: BlockType) -> Result<Vec<(String, Planned)>> {
    let one = |(hf, shape): (String, Vec<i64>)| {
        let block = match shape.as_slice() {
            [_, row] if block.fits(*row) => block,
            [_, _] => BlockType::F16,
            _ => BlockType::F32,
        };
        Ok((hf.clone(), Planned { name: name(config, &hf)?, shape, block }))
    };
    let mut plan = parameter_shapes(config).into_iter().map(one).collect::<Result<Vec<_>>>()?;
    let frequencies: &[&str] = match config.rope_scaling {
        RopeScaling::Llama3 { .. } => &[ROPE_FREQS],
        RopeScaling::LongRope { .. } => &ROPE_FACTORS,
        _ => &[],
    };
    for name in frequencies.iter().map(|name| (*name).to_owned()) {
        let shape = vec![config.rotary_dim / 2];
        plan.push((name.clone(), Planned { name, shape, block: BlockType::F32 }));
    }
    Ok(plan)
}

/// The tensor that `plan` adds to the weights under this name: numbers for each rotary frequency.
pub fn frequency_tensor(config: &Config, name: &str) -> Result<Option<Tensor>> {
    match &config.rope_scaling {
        RopeScaling::Llama3 { .. } if name == ROPE_FREQS => {
            let frequencies = |scaling: &RopeScaling| scaling.frequencies(config.rotary_dim, config.rope_theta, 0);
            Ok(Some(frequencies(&RopeScaling::None)?.f_div(&frequencies(&config.rope_scaling)?)?))
        }
        RopeScaling::LongRope { short_factor, long_factor, .. } if ROPE_FACTORS.contains(&name) => {
            let factors = if name == ROPE_FACTORS[0] { short_factor } else { long_factor };
            Ok(Some(Tensor::f_from_slice(factors)?.f_to_kind(Dtype::Float)?))
        }
        _ => Ok(None),
    }
}

/// A tensor of the checkpoint as llama.cpp reads it: its rows in another order, or one added to it.
///
/// llama.cpp's Llama rotates neighbouring channels as pairs, transformers' rotates channels of the two halves of a head,
/// so the rows of its query and key layers, `[heads * head_dim, …]`, are interleaved. The norms of Gemma hold `1 + w`.
pub fn to_gguf(config: &Config, name: &str, tensor: &Tensor) -> Result<Tensor> {
    if has_offset(config, name) {
        return Ok(tensor.f_add_scalar(1.0)?);
    }
    reorder(config, name, tensor, [2, config.head_dim / 2])
}

/// Undoes [`to_gguf`].
pub fn from_gguf(config: &Config, name: &str, tensor: &Tensor) -> Result<Tensor> {
    if has_offset(config, name) {
        return Ok(tensor.f_sub_scalar(1.0)?);
    }
    reorder(config, name, tensor, [config.head_dim / 2, 2])
}

fn has_offset(config: &Config, name: &str) -> bool {
    config.architecture.norm_kind == NormKind::UnitOffset && name.ends_with("norm.weight")
}

fn reorder(config: &Config, name: &str, tensor: &Tensor, [outer, inner]: [i64; 2]) -> Result<Tensor> {
    let is_rotated = ["q_proj", "k_proj"].iter().any(|layer| name.split('.').any(|part| part == *layer));
    let rotates_neighbours = matches!(architecture(config.family), "llama" | "smollm3" | "granite");
    if !rotates_neighbours || !is_rotated {
        return Ok(tensor.shallow_clone());
    }
    let shape = tensor.size();
    let pairs = tensor.f_reshape([shape[0] / config.head_dim, outer, inner, -1])?;
    Ok(pairs.f_transpose(1, 2)?.f_reshape(&shape)?)
}

struct FromGguf<'a> {
    file: &'a Gguf,
    config: &'a Config,
    dtype: Dtype,
    device: Device,
}

impl Source for FromGguf<'_> {
    fn tensor(&mut self, hf: &str) -> Result<Tensor> {
        let tensor = from_gguf(self.config, hf, &self.file.tensor(&name(self.config, hf)?)?)?;
        Ok(tensor.f_to_kind(self.dtype)?.f_to_device(self.device)?)
    }
}

/// The decoder of a file, with its tensors converted to `dtype`.
pub fn load(file: &Gguf, dtype: Dtype, device: Device) -> Result<Decoder> {
    let config = config(file)?;
    let mut decoder = build(config.clone(), dtype, device, &mut FromGguf { file, config: &config, dtype, device })?;
    if file.has(ROPE_FREQS) {
        decoder.rotary = decoder.rotary.divided(&file.tensor(ROPE_FREQS)?)?;
    }
    Ok(decoder)
}
