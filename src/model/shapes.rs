//! The names and shapes of a checkpoint, from its configuration alone.
//!
//! Loading, saving, counting and full-parameter training all use this list.

use super::architecture::{NormPlacement, Projections, QkNorm};
use super::config::Config;
use super::family::wrapper::Wrapper;
use std::borrow::Cow;

/// The linear layers of one decoder layer, in the order of the checkpoint: groups of layers that read the same input.
type Groups = [&'static [&'static str]; 4];

const SEPARATE: Groups = [
    &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    &["self_attn.o_proj"],
    &["mlp.gate_proj", "mlp.up_proj"],
    &["mlp.down_proj"],
];

const FUSED: Groups = [&["self_attn.qkv_proj"], &["self_attn.o_proj"], &["mlp.gate_up_proj"], &["mlp.down_proj"]];

/// What the linear layers of a group do. There is one group of each role in a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    QueryKeyValue,
    AttentionOutput,
    GateUp,
    Down,
}

const ROLES: [Role; 4] = [Role::QueryKeyValue, Role::AttentionOutput, Role::GateUp, Role::Down];

fn groups(config: &Config) -> &'static Groups {
    match config.architecture.projections {
        Projections::Separate => &SEPARATE,
        Projections::Fused => &FUSED,
    }
}

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
    /// The multimodal model that it is a part of.
    pub wrapper: Option<&'static Wrapper>,
    /// The decoder layer; `None` for the output head.
    pub layer: Option<usize>,
    /// `None` for the output head.
    pub member: Option<GroupMember>,
    pub in_features: i64,
    pub out_features: i64,
    pub bias: bool,
}

/// A linear layer as one of those in its decoder layer that read the same input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupMember {
    pub role: Role,
    /// The number of the group in [`input_groups`].
    pub group: usize,
    /// The number of linear layers in the group, and the position of this one.
    pub size: usize,
    pub position: usize,
}

impl LinearShape {
    /// The name of the module in the model that peft adapts.
    pub fn outer_name(&self) -> Cow<'_, str> {
        self.wrapper.map_or(Cow::Borrowed(&self.name), |wrapper| Cow::Owned(wrapper.outer_name(&self.name)))
    }
}

/// Every linear layer that may carry an adapter, the output head last: not the router and the experts of a mixture.
pub fn linear_shapes(config: &Config) -> Vec<LinearShape> {
    let mut shapes = Vec::new();
    let mut count = 0;
    for layer in 0..config.num_hidden_layers {
        let is_linear = |role: Role| role < Role::GateUp || config.experts(layer).is_none();
        for (role, group) in ROLES.into_iter().zip(groups(config)).filter(|(role, _)| is_linear(*role)) {
            for (position, linear) in group.iter().enumerate() {
                let (in_features, out_features, bias) = sizes(config, linear);
                shapes.push(LinearShape {
                    index: shapes.len(),
                    name: format!("model.layers.{layer}.{linear}"),
                    wrapper: config.wrapper,
                    layer: Some(layer),
                    member: Some(GroupMember { role, group: count, size: group.len(), position }),
                    in_features,
                    out_features,
                    bias,
                });
            }
            count += 1;
        }
    }
    let (in_features, out_features) = (config.hidden_size, config.vocab_size);
    let index = shapes.len();
    let name = HEAD.to_owned();
    shapes.push(LinearShape {
        index,
        name,
        wrapper: config.wrapper,
        layer: None,
        member: None,
        in_features,
        out_features,
        bias: false,
    });
    shapes
}

/// The layers that read the same input, for every decoder layer.
pub fn input_groups(config: &Config) -> Vec<Vec<LinearShape>> {
    let mut groups: Vec<Vec<LinearShape>> = Vec::new();
    for linear in linear_shapes(config) {
        match (linear.member, groups.last_mut()) {
            (None, _) => {}
            (Some(member), Some(group)) if member.position > 0 => group.push(linear),
            _ => groups.push(vec![linear]),
        }
    }
    groups
}

/// The number of the group in [`input_groups`] that these layers are; `None` if they are no group.
pub fn group_of(linears: &[&LinearShape]) -> Option<usize> {
    let first = linears.first()?;
    let (layer, member) = (first.layer?, first.member?);
    let is_next = |(position, linear): (usize, &&LinearShape)| {
        linear.layer == Some(layer) && linear.member == Some(GroupMember { position, ..member })
    };
    let is_group = linears.len() == member.size && linears.iter().enumerate().all(is_next);
    is_group.then_some(member.group)
}

fn sizes(config: &Config, linear: &str) -> (i64, i64, bool) {
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
    match linear {
        "self_attn.q_proj" => (hidden, queries, config.qkv_bias),
        "self_attn.k_proj" | "self_attn.v_proj" => (hidden, keys, config.qkv_bias),
        "self_attn.qkv_proj" => (hidden, queries + 2 * keys, config.qkv_bias),
        "self_attn.o_proj" => (queries, hidden, config.o_bias),
        "mlp.gate_up_proj" => (hidden, 2 * intermediate, config.mlp_bias),
        "mlp.down_proj" => (intermediate, hidden, config.mlp_bias),
        _ => (hidden, intermediate, config.mlp_bias),
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
    shapes.extend((0..config.num_hidden_layers).flat_map(|layer| expert_tensors(config, layer)));
    shapes.extend(norm_shapes(config).into_iter().map(|(name, width)| (format!("{name}.weight"), vec![width])));
    if !config.tie_word_embeddings {
        shapes.push(("lm_head.weight".to_owned(), vec![config.vocab_size, hidden]));
    }
    shapes
}

/// Router and experts of a layer: the router, then gate, up and down of each expert.
pub fn expert_tensors(config: &Config, layer: usize) -> Vec<(String, Vec<i64>)> {
    let Some(experts) = config.experts(layer) else { return Vec::new() };
    let (hidden, intermediate) = (config.hidden_size, experts.intermediate_size);
    let module = format!("model.layers.{layer}.{}", experts.module);
    let router = (format!("{module}.gate.weight"), vec![experts.count, hidden]);
    let of_expert = |expert: i64| {
        let sizes = [[intermediate, hidden], [intermediate, hidden], [hidden, intermediate]];
        let named = experts.names.into_iter().zip(sizes);
        let module = &module;
        named.map(move |(name, size)| (format!("{module}.experts.{expert}.{name}.weight"), size.to_vec()))
    };
    std::iter::once(router).chain((0..experts.count).flat_map(of_expert)).collect()
}

/// Module name and width of every norm, the final one last.
pub fn norm_shapes(config: &Config) -> Vec<(String, i64)> {
    let mut norms = Vec::new();
    for layer in 0..config.num_hidden_layers {
        for norm in layer_norms(config.architecture.norm_placement).into_iter().flatten() {
            norms.push((format!("model.layers.{layer}.{norm}"), config.hidden_size));
        }
        if let Some(qk_norm) = config.architecture.qk_norm {
            let heads = |count: i64| if qk_norm == QkNorm::Whole { count } else { 1 };
            let queries = heads(config.num_attention_heads) * config.head_dim;
            let keys = heads(config.num_key_value_heads) * config.head_dim;
            norms.push((format!("model.layers.{layer}.self_attn.q_norm"), queries));
            norms.push((format!("model.layers.{layer}.self_attn.k_norm"), keys));
        }
    }
    norms.push(("model.norm".to_owned(), config.hidden_size));
    norms
}

/// The names of a layer's norms: before and after attention, before and after the MLP.
pub fn layer_norms(placement: NormPlacement) -> [Option<&'static str>; 4] {
    const ATTENTION: &str = "post_attention_layernorm";
    match placement {
        NormPlacement::Before => [Some("input_layernorm"), None, Some(ATTENTION), None],
        NormPlacement::After => [None, Some(ATTENTION), None, Some("post_feedforward_layernorm")],
        NormPlacement::Around => [
            Some("input_layernorm"),
            Some(ATTENTION),
            Some("pre_feedforward_layernorm"),
            Some("post_feedforward_layernorm"),
        ],
    }
}
