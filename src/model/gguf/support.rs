//! What llama.cpp's implementations of the families can compute. A model that they would compute otherwise is refused, with
//! the setting that they lack.

use super::super::activation::Activation;
use super::super::config::{Config, Family};
use super::super::rope_scaling::RopeScaling;
use super::architecture;
use crate::bail;
use crate::error::{Kind, Result};

/// Fails if llama.cpp's implementation of the architecture does not support this model.
pub fn ensure_supported(config: &Config) -> Result<()> {
    if config.architecture.experts.is_some() {
        bail!(Kind::Model, "GGUF: lorhai does not write mixtures of experts"; hint: "save the merged model with save_merged, and convert that with llama.cpp's convert_hf_to_gguf.py");
    }
    let Some(feature) = unsupported(config) else { return Ok(()) };
    let arch = architecture(config.family);
    bail!(Kind::Model, "GGUF: llama.cpp does not support {feature} in its architecture `{arch}`"; hint: "save the merged model for transformers or vLLM with save_merged")
}

fn unsupported(config: &Config) -> Option<&'static str> {
    let family = config.family;
    let is_gemma = matches!(family, Family::Gemma2 | Family::Gemma3);
    let activation = if is_gemma { Activation::GeluTanh } else { Activation::Silu };
    if config.hidden_act != activation {
        return Some(if is_gemma {
            "an activation other than gelu_pytorch_tanh"
        } else {
            "an activation other than silu"
        });
    }
    let reads_no_biases =
        matches!(family, Family::Qwen3 | Family::SmolLm3 | Family::Gemma2 | Family::Gemma3 | Family::Olmo2);
    if reads_no_biases && (config.qkv_bias || config.o_bias || config.mlp_bias) {
        return Some("biases");
    }
    of_rope(config).or_else(|| of_family(config))
}

fn of_rope(config: &Config) -> Option<&'static str> {
    let family = config.family;
    match &config.rope_scaling {
        RopeScaling::Yarn(yarn) if !yarn.has_only_factor() => {
            Some("rope scaling \"yarn\" with settings other than its factor")
        }
        _ if config.rotary_dim % 2 != 0 => Some("an odd number of rotating channels"),
        RopeScaling::Dynamic { .. } => Some("rope scaling \"dynamic\""),
        RopeScaling::LongRope { .. } if family != Family::Phi3 => Some("rope scaling \"longrope\""),
        RopeScaling::Proportional { .. } => Some("rope scaling \"proportional\""),
        RopeScaling::Llama3 { .. } if !matches!(family, Family::Llama | Family::Mistral | Family::Granite) => {
            Some("rope scaling \"llama3\"")
        }
        _ => None,
    }
}

fn of_family(config: &Config) -> Option<&'static str> {
    let architecture = &config.architecture;
    let has_window = config.sliding_window.is_some();
    match config.family {
        Family::SmolLm3 if has_window => Some("a sliding window"),
        Family::SmolLm3 if !is_every(&architecture.unrotated_layers, 4) => {
            Some("layers without rotary embedding other than every fourth")
        }
        Family::Gemma2 if !config.tie_word_embeddings => Some("an untied head"),
        Family::Gemma2 if !is_gemma_scale(config, 46) => Some("this query_pre_attn_scalar"),
        Family::Gemma2 if architecture.attention_softcap.is_none() || architecture.logits.softcap.is_none() => {
            Some("attention or logits without a softcap")
        }
        Family::Gemma2 if !sees_all_in_every(config, 2) => Some("other layers with a window than every second"),
        Family::Gemma3 if !is_gemma_scale(config, 62) => Some("this query_pre_attn_scalar"),
        Family::Gemma3 if architecture.logits.softcap.is_some() => Some("a softcap of logits"),
        Family::Gemma3 if !sees_all_in_every(config, 6) => Some("other layers without a window than every sixth"),
        Family::Gemma3
            if architecture
                .local_rope
                .as_ref()
                .is_some_and(|rope| rope.theta != 10_000.0 || rope.scaling != RopeScaling::None) =>
        {
            Some("another rotation of layers with a window than with theta 10000")
        }
        _ => None,
    }
}

/// Whether exactly every `interval`th flag is set.
fn is_every(flags: &[bool], interval: usize) -> bool {
    flags.iter().enumerate().all(|(at, flag)| *flag == (at + 1).is_multiple_of(interval))
}

/// Whether exactly every `interval`th layer sees the whole context.
fn sees_all_in_every(config: &Config, interval: usize) -> bool {
    let flags: Vec<bool> = (0..config.num_hidden_layers).map(|layer| !config.uses_sliding_window(layer)).collect();
    is_every(&flags, interval)
}

/// llama.cpp scales queries by the size of a head; in the model of `wide_layers` layers by hidden_size over heads.
fn is_gemma_scale(config: &Config, wide_layers: usize) -> bool {
    let size = if config.num_hidden_layers == wide_layers {
        config.hidden_size as f64 / config.num_attention_heads as f64
    } else {
        config.head_dim as f64
    };
    config.architecture.attention_multiplier.is_some_and(|multiplier| (multiplier * size.sqrt() - 1.0).abs() < 1e-9)
}

/// Notes for the user on differences between llama.cpp and this model.
pub fn notes(config: &Config) -> Vec<String> {
    let is_applied = matches!(config.family, Family::Gemma2 | Family::Gemma3);
    let window = config.sliding_window.as_ref().map(|window| window.width).filter(|_| !is_applied);
    let window = window.filter(|width| *width < config.max_position_embeddings);
    let note = |width| format!("llama.cpp ignores the sliding window: run it with a context of at most {width} tokens");
    window.map(note).into_iter().collect()
}
