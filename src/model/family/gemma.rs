//! Gemma 2 and the text models of Gemma 3: four norms in a layer, with weights around zero; scaled embeddings; GeGLU;
//! layers with a sliding window between layers without. Gemma 2 caps its scores and logits, Gemma 3 normalises queries and
//! keys and rotates them by other frequencies in layers with a window.

use super::super::architecture::{EmbeddingMultiplier, LocalRope, NormKind, NormPlacement, QkNorm};
use super::super::config::Config;
use super::super::fields::Fields;
use super::super::rope_scaling::{self, RopeDefaults};
use super::llama::{self, read_attention_bias};
use super::window::{self, window_width};
use super::{Declaration, Defaults, Family, RopeKeys};
use crate::bail;
use crate::error::{Kind, Result};
use serde_json::{json, Map, Value};

pub const GEMMA2: Declaration = Declaration {
    family: Family::Gemma2,
    model_type: "gemma2",
    gguf: "gemma2",
    defaults: Defaults {
        vocab_size: 256_000,
        hidden_size: 2304,
        intermediate_size: 9216,
        num_hidden_layers: 26,
        num_attention_heads: 8,
        num_key_value_heads: Some(4),
        allows_null_key_value_heads: false,
        head_dim: Some(256),
        allows_null_head_dim: false,
        max_position_embeddings: 8192,
        tie_word_embeddings: true,
        pad_token_id: Some(0),
        activation_key: "hidden_activation",
        activation: "gelu_pytorch_tanh",
        ..llama::DEFAULTS
    },
    read: |fields, config| {
        read_common(fields, config, 2)?;
        config.architecture.attention_softcap = softcap(fields, "attn_logit_softcapping", Some(50.0))?;
        config.architecture.logits.softcap = softcap(fields, "final_logit_softcapping", Some(30.0))?;
        Ok(())
    },
};

pub const GEMMA3: Declaration = Declaration {
    family: Family::Gemma3,
    model_type: "gemma3_text",
    gguf: "gemma3",
    defaults: Defaults {
        vocab_size: 262_208,
        max_position_embeddings: 131_072,
        rope_theta: GLOBAL_THETA,
        rope_keys: RopeKeys::ByLayerType,
        ..GEMMA2.defaults
    },
    read: |fields, config| {
        let pattern = fields.size_or("sliding_window_pattern", 6)? as usize;
        read_common(fields, config, pattern)?;
        config.architecture.qk_norm = Some(QkNorm::PerHead);
        // transformers reads `attn_logit_softcapping` and does not apply it.
        config.architecture.logits.softcap = softcap(fields, "final_logit_softcapping", None)?;
        read_rotations(fields, config)
    },
};

const GLOBAL_THETA: f64 = 1_000_000.0;
const LOCAL_THETA: f64 = 10_000.0;

/// `pattern`: every `pattern`th layer sees the whole context, the others a window.
fn read_common(fields: &Fields, config: &mut Config, pattern: usize) -> Result<()> {
    window::ensure_heads_divide(config)?;
    if fields.get("use_bidirectional_attention").is_some_and(|value| *value != json!(false)) {
        bail!(Kind::Model, "`use_bidirectional_attention`: expected false, found true: lorhai trains models that predict the next token"; hint: "this is an embedding model, not a language model");
    }
    read_attention_bias(fields, config)?;
    let width = window_width(fields, Some(4096))?;
    if width.is_none() {
        bail!(Kind::Model, "`sliding_window`: expected a positive integer, found null");
    }
    config.sliding_window = window::of(fields, config, width, |layer| !(layer + 1).is_multiple_of(pattern))?;
    let architecture = &mut config.architecture;
    architecture.norm_placement = NormPlacement::Around;
    architecture.norm_kind = NormKind::UnitOffset;
    // In f32, as transformers keeps it.
    architecture.embedding_multiplier =
        EmbeddingMultiplier::Rounded(f64::from((config.hidden_size as f64).sqrt() as f32));
    architecture.attention_multiplier = Some(fields.number_or("query_pre_attn_scalar", 256.0)?.powf(-0.5));
    Ok(())
}

/// A cap; null means none.
fn softcap(fields: &Fields, name: &str, default: Option<f64>) -> Result<Option<f64>> {
    match fields.0.get(name) {
        None => Ok(default),
        Some(Value::Null) => Ok(None),
        Some(_) => fields.number_or(name, 1.0).map(Some),
    }
}

/// The rotations of layers with and without a window: `rope_parameters` by type of layer, or the earlier keys
/// `rope_theta`, `rope_scaling` and `rope_local_base_freq`.
fn read_rotations(fields: &Fields, config: &mut Config) -> Result<()> {
    let parameters = match fields.get("rope_parameters") {
        None => Map::new(),
        Some(Value::Object(parameters)) => parameters.clone(),
        Some(other) => return Err(Fields::wrong("rope_parameters", "an object", other)),
    };
    let of_type = |kind: &str| match parameters.get(kind) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(settings)) => Ok(settings.clone()),
        Some(other) => Err(Fields::wrong(&format!("rope_parameters.{kind}"), "an object", other)),
    };
    let (mut global, local) = (of_type("full_attention")?, of_type("sliding_attention")?);
    match fields.get("rope_scaling") {
        None => {}
        Some(Value::Object(scaling)) => global.extend(scaling.clone()),
        Some(other) => return Err(Fields::wrong("rope_scaling", "an object", other)),
    }
    let read = |settings: Map<String, Value>, theta: f64| -> Result<_> {
        let all = json!({ "rope_parameters": settings });
        let defaults = RopeDefaults { theta, ..RopeDefaults::of(&GEMMA3.defaults, config) };
        rope_scaling::from_fields(&Fields(&all), config.head_dim, &defaults)
    };
    let global_theta = fields.number_or("rope_theta", GLOBAL_THETA)?;
    let local_theta = fields.number_or("rope_local_base_freq", LOCAL_THETA)?;
    let (theta, scaling) = read(global, global_theta).map_err(|error| error.context("full_attention"))?;
    let (local_theta, local_scaling) = read(local, local_theta).map_err(|error| error.context("sliding_attention"))?;
    (config.rope_theta, config.rope_scaling) = (theta, scaling);
    config.architecture.local_rope = Some(LocalRope { theta: local_theta, scaling: local_scaling });
    Ok(())
}
