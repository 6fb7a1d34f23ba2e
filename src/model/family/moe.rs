//! Families with a mixture of experts: Qwen3-MoE and Mixtral.

use super::super::architecture::{ExpertShapes, QkNorm};
use super::super::config::Config;
use super::super::experts::Routing;
use super::super::fields::Fields;
use super::llama::{self, read_attention_bias};
use super::window::{self, window_width};
use super::{Declaration, Defaults, Family};
use crate::bail;
use crate::error::{Kind, Result};
use serde_json::Value;

pub const QWEN3_MOE: Declaration = Declaration {
    family: Family::Qwen3Moe,
    model_type: "qwen3_moe",
    gguf: "qwen3moe",
    defaults: Defaults {
        vocab_size: 151_936,
        hidden_size: 2048,
        intermediate_size: 6144,
        num_hidden_layers: 24,
        num_key_value_heads: Some(4),
        allows_null_key_value_heads: false,
        allows_null_head_dim: false,
        max_position_embeddings: 32_768,
        ..llama::DEFAULTS
    },
    read: |fields, config| {
        config.architecture.qk_norm = Some(QkNorm::PerHead);
        read_attention_bias(fields, config)?;
        let is_used = fields.flag("use_sliding_window", false)?;
        let width = window_width(fields, Some(4096))?.filter(|_| is_used);
        config.sliding_window = window::in_every_layer(config, width);
        let step = fields.size_or("decoder_sparse_step", 1)? as usize;
        let dense = layer_numbers(fields, "mlp_only_layers")?;
        let has_experts = |layer: usize| !dense.contains(&layer) && (layer + 1).is_multiple_of(step);
        config.architecture.experts = Some(ExpertShapes {
            count: expert_count(fields, &["num_experts", "num_local_experts"], 128)?,
            intermediate_size: fields.size_or("moe_intermediate_size", 768)?,
            routing: Routing {
                top_k: fields.size_or("num_experts_per_tok", 8)?,
                normalises: fields.flag("norm_topk_prob", false)?,
                rounds_weights: true,
            },
            layers: (0..config.num_hidden_layers).map(has_experts).collect(),
            module: "mlp",
            names: ["gate_proj", "up_proj", "down_proj"],
            auxiliary_loss: auxiliary_loss(fields)?,
        });
        ensure_routable(config)
    },
};

pub const MIXTRAL: Declaration = Declaration {
    family: Family::Mixtral,
    model_type: "mixtral",
    gguf: "llama",
    defaults: Defaults {
        intermediate_size: 14_336,
        num_key_value_heads: Some(8),
        allows_null_key_value_heads: false,
        max_position_embeddings: 4096 * 32,
        rms_norm_eps: 1e-5,
        rope_theta: 1_000_000.0,
        ..llama::DEFAULTS
    },
    read: |fields, config| {
        let width = window_width(fields, None)?;
        config.sliding_window = window::in_every_layer(config, width);
        if let Some(noise) = fields.get("router_jitter_noise").and_then(Value::as_f64).filter(|noise| *noise > 0.0) {
            bail!(Kind::Model, "`router_jitter_noise`: expected 0, found {noise}: noise in routing is not supported"; hint: "set it to 0 in config.json");
        }
        config.architecture.experts = Some(ExpertShapes {
            count: expert_count(fields, &["num_local_experts", "num_experts"], 8)?,
            intermediate_size: config.intermediate_size,
            routing: Routing {
                top_k: fields.size_or("num_experts_per_tok", 2)?,
                normalises: true,
                rounds_weights: false,
            },
            layers: vec![true; config.num_hidden_layers],
            module: "block_sparse_moe",
            names: ["w1", "w3", "w2"],
            auxiliary_loss: auxiliary_loss(fields)?,
        });
        ensure_routable(config)
    },
};

/// The number of experts, under the first of these keys that is there. Limited, because memory is allocated for each
/// before any weight is read.
fn expert_count(fields: &Fields, keys: &[&'static str], default: i64) -> Result<i64> {
    const MAX_EXPERTS: i64 = 4096;
    let key = keys.iter().find(|key| fields.has(key)).unwrap_or(&keys[0]);
    match fields.size_or(key, default)? {
        count if count <= MAX_EXPERTS => Ok(count),
        count => bail!(Kind::Model, "`{key}`: expected at most {MAX_EXPERTS}, found {count}"),
    }
}

/// `router_aux_loss_coef`, where `output_router_logits` has transformers add that loss.
fn auxiliary_loss(fields: &Fields) -> Result<Option<f64>> {
    let weight = fields.0.get("router_aux_loss_coef").and_then(Value::as_f64).unwrap_or(0.001);
    Ok(fields.flag("output_router_logits", false)?.then_some(weight).filter(|weight| *weight > 0.0))
}

fn ensure_routable(config: &Config) -> Result<()> {
    const MAX_IN_ALL_LAYERS: i64 = 1 << 18;
    let count = config.architecture.experts.as_ref().map_or(0, |experts| experts.count);
    if count * config.num_hidden_layers as i64 > MAX_IN_ALL_LAYERS {
        bail!(
            Kind::Model,
            "expected at most {MAX_IN_ALL_LAYERS} experts in all layers, found {count} in each of {}",
            config.num_hidden_layers
        );
    }
    match &config.architecture.experts {
        Some(experts) if experts.routing.top_k > experts.count => {
            bail!(
                Kind::Model,
                "`num_experts_per_tok`: expected at most the number of experts, {}, found {}",
                experts.count,
                experts.routing.top_k
            )
        }
        _ => Ok(()),
    }
}

fn layer_numbers(fields: &Fields, name: &'static str) -> Result<Vec<usize>> {
    let Some(value) = fields.get(name) else { return Ok(Vec::new()) };
    let list = value.as_array().ok_or_else(|| Fields::wrong(name, "an array of layer numbers", value))?;
    let number = |value: &Value| match value.as_u64() {
        Some(number) => Ok(number as usize),
        None => Err(Fields::wrong(name, "an array of layer numbers", value)),
    };
    list.iter().map(number).collect()
}
