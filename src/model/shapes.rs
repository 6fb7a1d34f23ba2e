//! The names and shapes of a checkpoint, from its configuration alone.
//!
//! Loading, saving, counting and full-parameter training all use this list.

use super::config::Config;
use std::ops::Range;

/// The linear layers of one decoder layer, in the order of the checkpoint.
pub const LINEARS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// The linear layers of one decoder layer that read the same input, by their place in [`LINEARS`].
const GROUPS: [Range<usize>; 4] = [0..3, 3..4, 4..6, 6..7];

/// The module of the input embeddings.
pub const EMBEDDING: &str = "model.embed_tokens";

/// The module of the output head.
pub const HEAD: &str = "lm_head";

/// A linear layer of the network: its index, name and sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearShape {
    /// The index in [`linear_shapes`]: a cheaper key than the name.
    pub index: usize,
    /// Full module name, `model.layers.0.self_attn.q_proj`.
    pub name: String,
    /// The decoder layer; `None` for the output head.
    pub layer: Option<usize>,
    pub in_features: i64,
    pub out_features: i64,
    pub bias: bool,
}

/// Every linear layer, the output head last.
pub fn linear_shapes(config: &Config) -> Vec<LinearShape> {
    let mut shapes = Vec::with_capacity(config.num_hidden_layers * LINEARS.len() + 1);
    for layer in 0..config.num_hidden_layers {
        for linear in LINEARS {
            let (in_features, out_features, bias) = sizes(config, linear);
            let name = format!("model.layers.{layer}.{linear}");
            shapes.push(LinearShape { index: shapes.len(), name, layer: Some(layer), in_features, out_features, bias });
        }
    }
    let (in_features, out_features) = (config.hidden_size, config.vocab_size);
    let index = shapes.len();
    shapes.push(LinearShape { index, name: "lm_head".to_owned(), layer: None, in_features, out_features, bias: false });
    shapes
}

/// The layers that read the same input, for every decoder layer.
pub fn input_groups(config: &Config) -> Vec<Vec<LinearShape>> {
    let linears = linear_shapes(config);
    let layers = linears.chunks_exact(LINEARS.len());
    layers.flat_map(|layer| GROUPS.map(|group| layer[group].to_vec())).collect()
}

/// The number of the group in [`input_groups`] that these layers are; `None` if they are no group.
pub fn group_of(linears: &[&LinearShape]) -> Option<usize> {
    let first = linears.first()?;
    let start = first.index % LINEARS.len();
    let at = GROUPS.iter().position(|group| *group == (start..start + linears.len()))?;
    let are_adjacent = linears.iter().enumerate().all(|(at, linear)| linear.index == first.index + at);
    (are_adjacent && first.layer.is_some()).then_some(first.index / LINEARS.len() * GROUPS.len() + at)
}

fn sizes(config: &Config, linear: &str) -> (i64, i64, bool) {
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    match linear {
        "self_attn.q_proj" => (config.hidden_size, queries, config.qkv_bias),
        "self_attn.k_proj" | "self_attn.v_proj" => (config.hidden_size, keys, config.qkv_bias),
        "self_attn.o_proj" => (queries, config.hidden_size, config.o_bias),
        "mlp.down_proj" => (config.intermediate_size, config.hidden_size, config.mlp_bias),
        _ => (config.hidden_size, config.intermediate_size, config.mlp_bias),
    }
}

/// Every tensor of the checkpoint with its shape; a tied output head is left out.
pub fn parameter_shapes(config: &Config) -> Vec<(String, Vec<i64>)> {
    let hidden = config.hidden_size;
    let mut shapes = vec![(format!("{EMBEDDING}.weight"), vec![config.vocab_size, hidden])];
    for linear in linear_shapes(config) {
        if linear.layer.is_none() {
            continue;
        }
        shapes.push((format!("{}.weight", linear.name), vec![linear.out_features, linear.in_features]));
        if linear.bias {
            shapes.push((format!("{}.bias", linear.name), vec![linear.out_features]));
        }
    }
    shapes.extend(norm_shapes(config).into_iter().map(|(name, width)| (format!("{name}.weight"), vec![width])));
    if !config.tie_word_embeddings {
        shapes.push(("lm_head.weight".to_owned(), vec![config.vocab_size, hidden]));
    }
    shapes
}

/// Module name and width of every norm, the final one last.
pub fn norm_shapes(config: &Config) -> Vec<(String, i64)> {
    let mut norms = Vec::new();
    for layer in 0..config.num_hidden_layers {
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            norms.push((format!("model.layers.{layer}.{norm}"), config.hidden_size));
        }
        if config.qk_norm() {
            for norm in ["self_attn.q_norm", "self_attn.k_norm"] {
                norms.push((format!("model.layers.{layer}.{norm}"), config.head_dim));
            }
        }
    }
    norms.push(("model.norm".to_owned(), config.hidden_size));
    norms
}
