//! Llama and the families that differ from it in a few settings: Mistral, Qwen2, Qwen3, SmolLM3 and Granite.

use super::super::architecture::{EmbeddingMultiplier, QkNorm};
use super::super::config::Config;
use super::super::fields::Fields;
use super::window::{self, window_width};
use super::{Declaration, Defaults, Family, RopeKeys};
use crate::bail;
use crate::error::{Kind, Result};

/// The defaults of `LlamaConfig`.
pub const DEFAULTS: Defaults = Defaults {
    vocab_size: 32_000,
    hidden_size: 4096,
    intermediate_size: 11_008,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: None,
    allows_null_key_value_heads: true,
    head_dim: None,
    allows_null_head_dim: true,
    max_position_embeddings: 2048,
    original_max_position_embeddings: None,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000.0,
    rope_keys: RopeKeys::Common,
    tie_word_embeddings: false,
    pad_token_id: None,
    activation_key: "hidden_act",
    activation: "silu",
};

pub const LLAMA: Declaration = Declaration {
    family: Family::Llama,
    model_type: "llama",
    gguf: "llama",
    defaults: DEFAULTS,
    read: |fields, config| {
        window::ensure_heads_divide(config)?;
        read_biases(fields, config)
    },
};

pub const MISTRAL: Declaration = Declaration {
    family: Family::Mistral,
    model_type: "mistral",
    // llama.cpp treats Mistral as a Llama.
    gguf: "llama",
    defaults: Defaults {
        intermediate_size: 14_336,
        num_key_value_heads: Some(8),
        allows_null_key_value_heads: false,
        max_position_embeddings: 4096 * 32,
        ..DEFAULTS
    },
    // The window is used in every layer, unless `layer_types` says otherwise.
    read: |fields, config| {
        let width = window_width(fields, Some(4096))?;
        config.sliding_window = window::of(fields, config, width, |_| true)?;
        Ok(())
    },
};

const QWEN_DEFAULTS: Defaults = Defaults {
    vocab_size: 151_936,
    intermediate_size: 22_016,
    num_key_value_heads: Some(32),
    max_position_embeddings: 32_768,
    allows_null_head_dim: false,
    rope_keys: RopeKeys::CommonOnly,
    ..DEFAULTS
};

pub const QWEN2: Declaration = Declaration {
    family: Family::Qwen2,
    model_type: "qwen2",
    gguf: "qwen2",
    defaults: QWEN_DEFAULTS,
    read: |fields, config| {
        config.qkv_bias = true;
        read_qwen_window(fields, config)
    },
};

pub const QWEN3: Declaration = Declaration {
    family: Family::Qwen3,
    model_type: "qwen3",
    gguf: "qwen3",
    defaults: Defaults { head_dim: Some(128), ..QWEN_DEFAULTS },
    read: |fields, config| {
        config.architecture.qk_norm = Some(QkNorm::PerHead);
        read_attention_bias(fields, config)?;
        read_qwen_window(fields, config)
    },
};

pub const SMOLLM3: Declaration = Declaration {
    family: Family::SmolLm3,
    model_type: "smollm3",
    gguf: "smollm3",
    defaults: Defaults {
        vocab_size: 128_256,
        hidden_size: 2048,
        num_hidden_layers: 36,
        num_attention_heads: 16,
        num_key_value_heads: Some(4),
        allows_null_head_dim: false,
        max_position_embeddings: 32_768,
        rope_theta: 2_000_000.0,
        tie_word_embeddings: true,
        pad_token_id: Some(128_004),
        ..DEFAULTS
    },
    read: |fields, config| {
        read_biases(fields, config)?;
        let unrotated = unrotated_layers(fields, config.num_hidden_layers)?;
        let is_used = fields.flag("use_sliding_window", false)?;
        let width = window_width(fields, None)?.filter(|_| is_used);
        config.sliding_window = window::of(fields, config, width, |layer| unrotated[layer])?;
        config.architecture.unrotated_layers = unrotated;
        Ok(())
    },
};

pub const GRANITE: Declaration = Declaration {
    family: Family::Granite,
    model_type: "granite",
    gguf: "granite",
    defaults: Defaults { allows_null_head_dim: false, ..DEFAULTS },
    read: |fields, config| {
        read_biases(fields, config)?;
        let architecture = &mut config.architecture;
        architecture.embedding_multiplier = EmbeddingMultiplier::Number(fields.number_or("embedding_multiplier", 1.0)?);
        architecture.residual_multiplier = fields.number_or("residual_multiplier", 1.0)?;
        architecture.attention_multiplier = Some(fields.number_or("attention_multiplier", 1.0)?);
        architecture.logits.divisor = fields.number_or("logits_scaling", 1.0)?;
        Ok(())
    },
};

/// `attention_bias`, for q, k, v and o.
pub fn read_attention_bias(fields: &Fields, config: &mut Config) -> Result<()> {
    config.qkv_bias = fields.flag("attention_bias", false)?;
    config.o_bias = config.qkv_bias;
    Ok(())
}

fn read_biases(fields: &Fields, config: &mut Config) -> Result<()> {
    config.mlp_bias = fields.flag("mlp_bias", false)?;
    read_attention_bias(fields, config)
}

/// Qwen uses the window from layer `max_window_layers` on, if `use_sliding_window` is true.
fn read_qwen_window(fields: &Fields, config: &mut Config) -> Result<()> {
    let is_used = fields.flag("use_sliding_window", false)?;
    let first = fields.size_or("max_window_layers", 28)? as usize;
    let width = window_width(fields, Some(4096))?.filter(|_| is_used);
    config.sliding_window = window::of(fields, config, width, |layer| layer >= first)?;
    Ok(())
}

/// The layers without rotary embedding: 0 in `no_rope_layers`, or every `no_rope_layer_interval`th layer.
fn unrotated_layers(fields: &Fields, layers: usize) -> Result<Vec<bool>> {
    const NAME: &str = "no_rope_layers";
    let interval = fields.size_or("no_rope_layer_interval", 4)? as usize;
    let Some(value) = fields.get(NAME) else {
        return Ok((0..layers).map(|layer| (layer + 1).is_multiple_of(interval)).collect());
    };
    let list = value.as_array().ok_or_else(|| Fields::wrong(NAME, "an array", value))?;
    if list.len() != layers {
        bail!(Kind::Model, "`{NAME}`: expected {layers} entries, one for each layer, found {}", list.len());
    }
    let is_unrotated = |flag: &serde_json::Value| match flag.as_i64() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(Fields::wrong(NAME, "0 or 1 for each layer", flag)),
    };
    list.iter().map(is_unrotated).collect()
}
