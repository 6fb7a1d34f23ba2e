//! The settings of a model in a GGUF file: written from its configuration, and the configuration read from them. Those of
//! the tokenizer are made by `hub::gguf::vocabulary`.

use super::super::architecture::EmbeddingMultiplier;
use super::super::config::{Config, Family};
use super::super::rope_scaling::RopeScaling;
use super::{architecture, ROPE_FACTORS};
use crate::error::{Error, Result};
use crate::hub::gguf::{Gguf, Settings, Value};
use serde_json::json;

/// Keys of numbers that only some families have: llama.cpp's, and config.json's.
const NUMBERS: [(&str, &str); 5] = [
    ("attn_logit_softcapping", "attn_logit_softcapping"),
    ("final_logit_softcapping", "final_logit_softcapping"),
    ("embedding_scale", "embedding_multiplier"),
    ("residual_scale", "residual_multiplier"),
    ("attention.scale", "attention_multiplier"),
];

/// The settings of the architecture.
pub fn settings(config: &Config) -> Settings {
    let arch = architecture(config.family);
    let count = |number: i64| Value::U32(number as u32);
    let number = |number: f64| Value::F32(number as f32);
    let mut settings: Vec<(&str, Value)> = vec![
        ("block_count", count(config.num_hidden_layers as i64)),
        ("context_length", count(config.max_position_embeddings)),
        ("embedding_length", count(config.hidden_size)),
        ("feed_forward_length", count(config.intermediate_size)),
        ("attention.head_count", count(config.num_attention_heads)),
        ("attention.head_count_kv", count(config.num_key_value_heads)),
        ("attention.key_length", count(config.head_dim)),
        ("attention.value_length", count(config.head_dim)),
        ("attention.layer_norm_rms_epsilon", number(config.rms_norm_eps)),
        ("rope.freq_base", number(config.rope_theta)),
        ("rope.dimension_count", count(config.rotary_dim)),
        ("vocab_size", count(config.vocab_size)),
    ];
    match &config.rope_scaling {
        RopeScaling::Linear { factor } => {
            settings.push(("rope.scaling.type", "linear".into()));
            settings.push(("rope.scaling.factor", number(*factor)));
        }
        RopeScaling::Yarn(yarn) => {
            settings.push(("rope.scaling.type", "yarn".into()));
            settings.push(("rope.scaling.factor", number(yarn.factor)));
            settings
                .push(("rope.scaling.original_context_length", count(yarn.original_max_position_embeddings as i64)));
        }
        RopeScaling::LongRope { attention_factor, original_max_position_embeddings, .. } => {
            settings.push(("rope.scaling.original_context_length", count(*original_max_position_embeddings as i64)));
            settings.push(("rope.scaling.attn_factor", number(*attention_factor)));
        }
        _ => {}
    }
    if let (Family::Gemma2 | Family::Gemma3 | Family::Phi3, Some(window)) = (config.family, &config.sliding_window) {
        settings.push(("attention.sliding_window", count(window.width)));
    }
    settings.extend(of_family(config));
    settings.into_iter().map(|(key, value)| (format!("{arch}.{key}"), value)).collect()
}

fn of_family(config: &Config) -> Vec<(&'static str, Value)> {
    let number = |number: f64| Value::F32(number as f32);
    let architecture = &config.architecture;
    match config.family {
        Family::Gemma2 => {
            let caps = [
                ("attn_logit_softcapping", architecture.attention_softcap),
                ("final_logit_softcapping", architecture.logits.softcap),
            ];
            caps.into_iter().filter_map(|(key, cap)| Some((key, number(cap?)))).collect()
        }
        Family::Granite => {
            let embedding = match architecture.embedding_multiplier {
                EmbeddingMultiplier::Number(multiplier) => multiplier,
                _ => 1.0,
            };
            vec![
                ("embedding_scale", number(embedding)),
                ("residual_scale", number(architecture.residual_multiplier)),
                ("attention.scale", number(architecture.attention_multiplier.unwrap_or(1.0))),
                ("logit_scale", number(architecture.logits.divisor)),
            ]
        }
        _ => Vec::new(),
    }
}

/// The configuration of a file, from its settings and, for biases, from its tensors.
pub fn config(file: &Gguf) -> Result<Config> {
    let arch = file.setting("general.architecture").and_then(Value::as_text).unwrap_or_default();
    let optional = |key: &str| file.setting(&format!("{arch}.{key}")).and_then(Value::as_number);
    let number = |key: &str| {
        optional(key).ok_or_else(|| Error::model(format!("the GGUF file lacks the setting `{arch}.{key}`")))
    };
    let size = |key: &str| Ok::<_, Error>(number(key)? as i64);
    let scaling = match file.setting(&format!("{arch}.rope.scaling.type")).and_then(Value::as_text) {
        Some("linear") => json!({ "rope_type": "linear", "factor": number("rope.scaling.factor")? }),
        Some("yarn") => json!({
            "rope_type": "yarn",
            "factor": number("rope.scaling.factor")?,
            "original_max_position_embeddings": number("rope.scaling.original_context_length")?,
        }),
        _ if file.has(ROPE_FACTORS[0]) => {
            let factors =
                |name: &str| Ok::<_, Error>(Vec::<f64>::try_from(file.tensor(name)?.f_to_kind(tch::Kind::Double)?)?);
            json!({
                "rope_type": "longrope",
                "short_factor": factors(ROPE_FACTORS[0])?,
                "long_factor": factors(ROPE_FACTORS[1])?,
                "attention_factor": number("rope.scaling.attn_factor")?,
                "original_max_position_embeddings": number("rope.scaling.original_context_length")?,
            })
        }
        _ => json!(null),
    };
    let head_dim = size("attention.key_length")?;
    // llama.cpp calls Gemma 3 by another name than transformers calls its text model.
    let mut fields = json!({
        "model_type": if arch == "gemma3" { "gemma3_text" } else { arch },
        "vocab_size": size("vocab_size")?,
        "hidden_size": size("embedding_length")?,
        "intermediate_size": size("feed_forward_length")?,
        "num_hidden_layers": size("block_count")?,
        "num_attention_heads": size("attention.head_count")?,
        "num_key_value_heads": size("attention.head_count_kv")?,
        "head_dim": head_dim,
        "max_position_embeddings": size("context_length")?,
        "rms_norm_eps": number("attention.layer_norm_rms_epsilon")?,
        "rope_theta": number("rope.freq_base")?,
        "rope_scaling": scaling,
        "tie_word_embeddings": !file.has("output.weight"),
    });
    let mut add = |key: &str, value: Option<f64>| {
        if let (Some(value), Some(fields)) = (value, fields.as_object_mut()) {
            fields.insert(key.to_owned(), json!(value));
        }
    };
    for (key, name) in NUMBERS {
        add(name, optional(key));
    }
    add("logits_scaling", optional("logit_scale"));
    // Half a channel more than it is, because the product with the size of a head is rounded down.
    let is_partial = |dim: &f64| *dim < head_dim as f64;
    let rotary_dim = optional("rope.dimension_count").filter(is_partial);
    add("partial_rotary_factor", rotary_dim.map(|dim| (dim + 0.5) / head_dim as f64));
    if let Some(original) = optional("rope.scaling.original_context_length") {
        fields["original_max_position_embeddings"] = json!(original as i64);
    }
    if let Some(width) = optional("attention.sliding_window") {
        fields["sliding_window"] = json!(width as i64);
    }
    if matches!(arch, "gemma2" | "gemma3") {
        // As llama.cpp scales queries (`support.rs`).
        fields["query_pre_attn_scalar"] = json!(gemma_query_scalar(&fields, arch));
    }
    let mut config = Config::from_json(&fields)?;
    config.qkv_bias = file.has("blk.0.attn_q.bias");
    config.o_bias = file.has("blk.0.attn_output.bias");
    config.mlp_bias = file.has("blk.0.ffn_gate.bias");
    Ok(config)
}

fn gemma_query_scalar(fields: &serde_json::Value, arch: &str) -> f64 {
    let number = |key: &str| fields[key].as_f64().unwrap_or(1.0);
    let wide_layers = if arch == "gemma2" { 46.0 } else { 62.0 };
    if number("num_hidden_layers") == wide_layers {
        number("hidden_size") / number("num_attention_heads")
    } else {
        number("head_dim")
    }
}
