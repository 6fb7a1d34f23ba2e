//! A model in a GGUF file: settings, tensor names and row order as in llama.cpp, and a decoder from such a file.
//!
//! Follows llama.cpp's `convert_hf_to_gguf.py`. Leaves to others: the container
//! (`hub/gguf/`), adapters (`lora/gguf.rs`).

use super::activation::Activation;
use super::config::{Config, Family};
use super::decoder::Decoder;
use super::load::{build, Source};
use super::rope_scaling::RopeScaling;
use super::shapes::parameter_shapes;
use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::hub::gguf::{BlockType, Gguf, Planned, Settings, Value};
use serde_json::json;
use tch::{Device, Kind as Dtype, Tensor};

/// Divisors of the rotary frequencies, for scaling as in Llama 3.
const ROPE_FREQS: &str = "rope_freqs.weight";

/// Modules of a layer: the name in a checkpoint and llama.cpp's.
const MODULES: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];
const OUTSIDE: [(&str, &str); 3] =
    [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// llama.cpp's name of the architecture. It treats Mistral as a Llama.
pub fn architecture(family: Family) -> &'static str {
    match family {
        Family::Llama | Family::Mistral => "llama",
        Family::Qwen2 => "qwen2",
        Family::Qwen3 => "qwen3",
    }
}

/// llama.cpp's name for a tensor or module of the checkpoint: `blk.0.attn_q.weight` for
/// `model.layers.0.self_attn.q_proj.weight`.
pub fn name(name: &str) -> Result<String> {
    let known = |part: &str, table: &[(&str, &str)]| {
        let (hf, gguf) = table.iter().find(|(hf, _)| part == *hf || part.starts_with(&format!("{hf}.")))?;
        Some(format!("{gguf}{}", &part[hf.len()..]))
    };
    let inner = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
    let gguf = match inner {
        Some((layer, rest)) => known(rest, &MODULES).map(|rest| format!("blk.{layer}.{rest}")),
        None => known(name, &OUTSIDE),
    };
    gguf.ok_or_else(|| Error::bug(format!("`{name}` has no name in a GGUF file")))
}

/// Fails if llama.cpp's implementation of the architecture does not support this model.
pub fn ensure_supported(config: &Config) -> Result<()> {
    let feature = match config.family {
        Family::Qwen3 if config.qkv_bias || config.o_bias => "biases of attention in a qwen3 model",
        Family::Qwen2 | Family::Qwen3 if matches!(config.rope_scaling, RopeScaling::Llama3 { .. }) => {
            "rope scaling \"llama3\" in a qwen model"
        }
        _ if config.hidden_act != Activation::Silu => "an activation other than silu",
        _ => match &config.rope_scaling {
            RopeScaling::Yarn(yarn) if !yarn.has_only_factor() => {
                "rope scaling \"yarn\" with settings other than its factor"
            }
            RopeScaling::Dynamic { .. } => "rope scaling \"dynamic\"",
            RopeScaling::LongRope { .. } => "rope scaling \"longrope\" in a model of this architecture",
            RopeScaling::Proportional { .. } => "rope scaling \"proportional\"",
            _ => return Ok(()),
        },
    };
    bail!(Kind::Model, "GGUF: llama.cpp does not support {feature}"; hint: "save the merged model for transformers or vLLM with save_merged")
}

/// Notes for the user on differences between llama.cpp and this model.
pub fn notes(config: &Config) -> Vec<String> {
    let window = config.sliding_window.as_ref().map(|window| window.width);
    let window = window.filter(|width| *width < config.max_position_embeddings);
    let note = |width| format!("llama.cpp ignores the sliding window: run it with a context of at most {width} tokens");
    window.map(note).into_iter().collect()
}

/// The settings of the architecture. Those of the tokenizer are made by `hub::gguf::vocabulary`.
pub fn settings(config: &Config) -> Settings {
    let arch = architecture(config.family);
    let count = |number: i64| Value::U32(number as u32);
    let mut settings: Settings = [
        ("block_count", count(config.num_hidden_layers as i64)),
        ("context_length", count(config.max_position_embeddings)),
        ("embedding_length", count(config.hidden_size)),
        ("feed_forward_length", count(config.intermediate_size)),
        ("attention.head_count", count(config.num_attention_heads)),
        ("attention.head_count_kv", count(config.num_key_value_heads)),
        ("attention.key_length", count(config.head_dim)),
        ("attention.value_length", count(config.head_dim)),
        ("attention.layer_norm_rms_epsilon", Value::F32(config.rms_norm_eps as f32)),
        ("rope.freq_base", Value::F32(config.rope_theta as f32)),
        ("rope.dimension_count", count(config.head_dim)),
        ("vocab_size", count(config.vocab_size)),
    ]
    .map(|(key, value)| (format!("{arch}.{key}"), value))
    .into();
    if let RopeScaling::Linear { factor } = config.rope_scaling {
        settings.push((format!("{arch}.rope.scaling.type"), "linear".into()));
        settings.push((format!("{arch}.rope.scaling.factor"), Value::F32(factor as f32)));
    }
    if let RopeScaling::Yarn(yarn) = &config.rope_scaling {
        settings.push((format!("{arch}.rope.scaling.type"), "yarn".into()));
        settings.push((format!("{arch}.rope.scaling.factor"), Value::F32(yarn.factor as f32)));
        let original = count(yarn.original_max_position_embeddings as i64);
        settings.push((format!("{arch}.rope.scaling.original_context_length"), original));
    }
    settings
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
        Ok((hf.clone(), Planned { name: name(&hf)?, shape, block }))
    };
    let mut plan = parameter_shapes(config).into_iter().map(one).collect::<Result<Vec<_>>>()?;
    if matches!(config.rope_scaling, RopeScaling::Llama3 { .. }) {
        let shape = vec![config.head_dim / 2];
        plan.push((ROPE_FREQS.into(), Planned { name: ROPE_FREQS.into(), shape, block: BlockType::F32 }));
    }
    Ok(plan)
}

/// The tensor that `plan` adds to the weights: the divisor of each rotary frequency.
pub fn frequency_divisors(config: &Config) -> Result<Tensor> {
    let frequencies = |scaling: &RopeScaling| scaling.frequencies(config.head_dim, config.rope_theta, 0);
    Ok(frequencies(&RopeScaling::None)?.f_div(&frequencies(&config.rope_scaling)?)?)
}

/// Whether a name is that of [`frequency_divisors`].
pub fn is_frequency_divisors(name: &str) -> bool {
    name == ROPE_FREQS
}

/// Reorders the rows of a query or key layer, `[heads * head_dim, …]`, for llama.cpp; other tensors stay as they
/// are. llama.cpp's Llama rotates neighbouring channels as pairs, transformers' rotates channels of the two
/// halves of a head, so the rows are interleaved.
pub fn interleave(config: &Config, name: &str, tensor: &Tensor) -> Result<Tensor> {
    reorder(config, name, tensor, [2, config.head_dim / 2])
}

/// Undoes [`interleave`].
pub fn separate(config: &Config, name: &str, tensor: &Tensor) -> Result<Tensor> {
    reorder(config, name, tensor, [config.head_dim / 2, 2])
}

fn reorder(config: &Config, name: &str, tensor: &Tensor, [outer, inner]: [i64; 2]) -> Result<Tensor> {
    let is_rotated = ["q_proj", "k_proj"].iter().any(|layer| name.split('.').any(|part| part == *layer));
    if architecture(config.family) != "llama" || !is_rotated {
        return Ok(tensor.shallow_clone());
    }
    let shape = tensor.size();
    let pairs = tensor.f_reshape([shape[0] / config.head_dim, outer, inner, -1])?;
    Ok(pairs.f_transpose(1, 2)?.f_reshape(&shape)?)
}

/// The configuration of a file, from its settings and, for biases, from its tensors.
pub fn config(file: &Gguf) -> Result<Config> {
    let arch = file.setting("general.architecture").and_then(Value::as_text).unwrap_or_default();
    let number = |key: &str| match file.setting(&format!("{arch}.{key}")).and_then(Value::as_number) {
        Some(number) => Ok(number),
        None => Err(Error::model(format!("the GGUF file lacks the setting `{arch}.{key}`"))),
    };
    let size = |key: &str| Ok::<_, Error>(number(key)? as i64);
    let scaling = match file.setting(&format!("{arch}.rope.scaling.type")).and_then(Value::as_text) {
        Some("linear") => json!({ "rope_type": "linear", "factor": number("rope.scaling.factor")? }),
        Some("yarn") => json!({
            "rope_type": "yarn",
            "factor": number("rope.scaling.factor")?,
            "original_max_position_embeddings": number("rope.scaling.original_context_length")?,
        }),
        _ => json!(null),
    };
    let mut config = Config::from_json(&json!({
        "model_type": arch,
        "vocab_size": size("vocab_size")?,
        "hidden_size": size("embedding_length")?,
        "intermediate_size": size("feed_forward_length")?,
        "num_hidden_layers": size("block_count")?,
        "num_attention_heads": size("attention.head_count")?,
        "num_key_value_heads": size("attention.head_count_kv")?,
        "head_dim": size("attention.key_length")?,
        "max_position_embeddings": size("context_length")?,
        "rms_norm_eps": number("attention.layer_norm_rms_epsilon")?,
        "rope_theta": number("rope.freq_base")?,
        "rope_scaling": scaling,
        "tie_word_embeddings": !file.has("output.weight"),
    }))?;
    config.qkv_bias = file.has("blk.0.attn_q.bias");
    config.o_bias = file.has("blk.0.attn_output.bias");
    config.mlp_bias = file.has("blk.0.ffn_gate.bias");
    Ok(config)
}

struct FromGguf<'a> {
    file: &'a Gguf,
    config: &'a Config,
    dtype: Dtype,
    device: Device,
}

impl Source for FromGguf<'_> {
    fn tensor(&mut self, hf: &str) -> Result<Tensor> {
        let tensor = separate(self.config, hf, &self.file.tensor(&name(hf)?)?)?;
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
