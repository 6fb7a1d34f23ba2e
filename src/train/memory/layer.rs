//! The sizes of one decoder layer's values, and the bytes that it keeps for its backward pass: the tensors that the
//! nodes of `native/` and libtorch's attention save.

use super::{Method, ResolvedRequest, StepDevice};
use crate::lora::targets::Target;
use crate::model::activation::Activation;
use crate::model::architecture::{NormKind, QkNorm};
use crate::model::shapes::{layer_norms, LinearShape, Role};
use crate::model::Config;
use crate::native::{self, BatchedAdapters};

/// A linear layer with its adapter, in one decoder layer.
#[derive(Clone, Copy)]
pub struct Adapted<'a> {
    pub linear: &'a LinearShape,
    pub target: Option<&'a Target>,
}

/// A decoder layer: `t` tokens, `e` bytes a number.
pub struct Layer<'a> {
    /// In the order of the checkpoint.
    linears: Vec<Adapted<'a>>,
    pub t: u64,
    pub e: u64,
    pub hidden: u64,
    pub queries: u64,
    pub keys: u64,
    pub heads: u64,
    pub key_heads: u64,
    pub mlp: u64,
    /// The rows that each token has in an MLP: one, or one for each of the experts that it goes to.
    mlp_rows: u64,
    has_experts: bool,
    pub qk_norm: Option<QkNorm>,
    /// The norms of the layer's width: before attention, behind it, before the MLP, behind it.
    norms: [bool; 4],
    trains_all: bool,
    /// Does the layer's input carry a gradient?
    pub is_first: bool,
    repeats_heads: bool,
    /// See [`ResolvedRequest::is_by_libtorch`].
    pub is_by_libtorch: bool,
    resolved: &'a ResolvedRequest<'a>,
}

impl<'a> Layer<'a> {
    /// Decoder layer `number`; `e` bytes a number.
    pub fn new(resolved: &'a ResolvedRequest, number: usize, e: u64) -> Self {
        let config = resolved.config;
        let experts = config.experts(number);
        let of_layer = resolved.linears.iter().filter(|linear| linear.layer == Some(number));
        let adapted = |linear: &'a LinearShape| Adapted {
            linear,
            target: resolved.targets.iter().find(|target| target.linear.index == linear.index),
        };
        Layer {
            linears: of_layer.map(adapted).collect(),
            t: resolved.request.tokens() * resolved.copies(),
            e,
            hidden: config.hidden_size as u64,
            queries: (config.num_attention_heads * config.head_dim) as u64,
            keys: (config.num_key_value_heads * config.head_dim) as u64,
            heads: config.num_attention_heads as u64,
            key_heads: config.num_key_value_heads as u64,
            mlp: experts.map_or(config.intermediate_size, |experts| experts.intermediate_size) as u64,
            mlp_rows: experts.map_or(1, |experts| experts.routing.top_k) as u64,
            has_experts: experts.is_some(),
            qk_norm: config.architecture.qk_norm,
            norms: layer_norms(config.architecture.norm_placement).map(|name| name.is_some()),
            trains_all: resolved.method == Method::Full,
            is_first: Some(number) == first_layer(resolved)
                && resolved.method != Method::Full
                && !resolved.layout.trains_embeddings(),
            repeats_heads: resolved.request.device == StepDevice::Cuda && !has_flash_attention(config, e),
            is_by_libtorch: resolved.is_by_libtorch(),
            resolved,
        }
    }

    /// The linear layers of a role, which read the same input.
    pub fn group(&self, role: Role) -> impl Iterator<Item = Adapted<'a>> + '_ {
        self.linears.iter().copied().filter(move |adapted| role_of(adapted) == Some(role))
    }

    /// Does a linear layer of this role train anything?
    pub fn has_gradient(&self, role: Role) -> bool {
        self.group(role).any(|adapted| self.trains(&adapted))
    }

    pub fn ranks(&self) -> u64 {
        self.linears.iter().filter_map(|adapted| adapted.target).map(|target| target.r as u64).sum()
    }

    /// Bytes that the adapters keep.
    fn of_adapters(&self) -> u64 {
        let targets = self.linears.iter().filter_map(|adapted| adapted.target);
        targets.map(|target| kept_of_adapter(self.resolved, self.t, self.e, target)).sum()
    }

    /// Bytes of the layer's input, which gradient checkpointing keeps.
    pub fn input(&self) -> u64 {
        self.t * self.hidden * self.e
    }

    /// Bytes that attention keeps: rotated queries and keys, values, its output, and the f32 log-sum of each query. On
    /// a GPU without flash attention keys and values are repeated for each query head.
    pub fn attention(&self) -> u64 {
        let is_capped = self.resolved.config.architecture.attention_softcap.is_some();
        let keys = if self.repeats_heads || is_capped { self.queries } else { self.keys };
        // Capped scores and their softmax, for each pair of tokens in a row.
        let pairs = self.t * self.resolved.request.length * self.heads;
        let scores = if is_capped { pairs * (2 * self.e + 4) } else { 0 };
        self.t * (2 * self.queries + 2 * keys) * self.e + self.t * self.heads * 4 + scores
    }

    /// Does a gradient pass through the operations after the linear layers of `role`? In the first adapted layer it ends
    /// at the first adapter: operations before that keep nothing.
    fn flows(&self, role: Role) -> bool {
        let is_before = |adapted: &Adapted| role_of(adapted).is_some_and(|other| other <= role);
        !self.is_first || self.linears.iter().filter(|adapted| is_before(adapted)).any(|adapted| self.trains(adapted))
    }

    fn trains(&self, adapted: &Adapted) -> bool {
        self.trains_all || !self.resolved.layout.of(adapted.linear).is_empty()
    }

    pub fn reaches_attention(&self) -> bool {
        self.flows(Role::QueryKeyValue)
    }

    pub fn reaches_mlp(&self) -> bool {
        self.flows(Role::AttentionOutput)
    }

    pub fn reaches_swiglu(&self) -> bool {
        self.flows(Role::GateUp)
    }

    /// Are the outputs of attention and MLP normalised?
    pub fn has_norms_behind(&self) -> bool {
        self.norms[1] || self.norms[3]
    }

    /// The number of norms of the layer's width that keep something.
    pub fn width_norms(&self) -> u64 {
        let reached = [!self.is_first, self.reaches_mlp(), self.reaches_mlp(), self.flows(Role::Down)];
        self.norms.iter().zip(reached).filter(|(exists, is_reached)| **exists && *is_reached).count() as u64
    }

    /// The rows that the norms of queries and keys normalise, for each token.
    pub fn qk_norm_rows(&self) -> [u64; 2] {
        match self.qk_norm {
            Some(QkNorm::Whole) => [1, 1],
            _ => [self.heads, self.key_heads],
        }
    }

    /// All bytes that the layer keeps for its backward pass.
    pub fn kept(&self) -> u64 {
        let Layer { t, e, hidden, mlp, .. } = *self;
        let when = |is: bool, bytes: u64| if is { bytes } else { 0 };
        // RMSNorm keeps its input and an f32 for each row.
        let norm_e = if self.resolved.config.architecture.norm_kind == NormKind::Standard { e } else { e.max(4) };
        let norm = |width: u64, rows: u64| t * (width * norm_e + 4 * rows);
        let gated = if self.resolved.config.hidden_act == Activation::Silu { 2 } else { 3 };
        let [query_rows, key_rows] = self.qk_norm_rows();
        let qk_norms = norm(self.queries, query_rows) + norm(self.keys, key_rows);
        self.width_norms() * norm(hidden, 1)
            + when(self.has_gradient(Role::QueryKeyValue), t * hidden * e)
            + when(self.reaches_attention() && self.qk_norm.is_some(), qk_norms)
            + when(self.reaches_attention(), self.attention())
            // The input of o_proj is attention's output: usually kept already.
            + when(!self.reaches_attention() && self.has_gradient(Role::AttentionOutput), t * self.queries * e)
            + when(self.has_gradient(Role::GateUp), t * hidden * e)
            // SwiGLU keeps gate and up; other activations also what gate becomes.
            + when(self.reaches_swiglu(), gated * t * self.mlp_rows * mlp * e)
            // The outputs of experts and their weights.
            + when(self.has_experts && self.reaches_mlp(), t * self.mlp_rows * (hidden * e + 4))
            + when(self.has_gradient(Role::Down), t * mlp * e)
            + self.of_adapters()
    }
}

fn role_of(adapted: &Adapted) -> Option<Role> {
    adapted.linear.member.map(|member| member.role)
}

/// Whether a GPU runs flash attention on numbers of `e` bytes.
fn has_flash_attention(config: &Config, e: u64) -> bool {
    e == 2 && native::gpu::is_flash_head(config.head_dim) && !native::gpu::are_disabled()
}

/// The bytes of the matrix into which the adapter of a layer with `t` tokens is merged for the step, if it is merged:
/// see [`native::merging_pays`].
pub fn merged_matrix(resolved: &ResolvedRequest, t: u64, e: u64, target: &Target) -> Option<u64> {
    let lora = &resolved.request.lora;
    let is_alone = lora.dropout == 0.0 && !lora.init.splits_base();
    let fits = resolved.request.device == StepDevice::Cpu && e == 4 && !resolved.method.is_quantised() && is_alone;
    let LinearShape { in_features, out_features, .. } = target.linear;
    let merges = fits && native::merging_pays(t as i64, in_features, out_features, target.r);
    merges.then_some((in_features * out_features) as u64 * 4)
}

/// The bytes that an adapter with `t` tokens keeps in f32: the merged matrix, or the product with A. Packed ones keep
/// that in the dtype of the base, with columns to spare.
pub fn kept_of_adapter(resolved: &ResolvedRequest, t: u64, e: u64, target: &Target) -> u64 {
    let r = target.r as u64;
    if is_packed(resolved) && target.linear.layer.is_some() {
        return t * packed_columns(r) * e;
    }
    merged_matrix(resolved, t, e, target).unwrap_or(t * r * 4)
}

/// Whether the adapters of the decoder's layers are packed: see `lora/batched.rs`.
pub fn is_packed(resolved: &ResolvedRequest) -> bool {
    let lora = &resolved.request.lora;
    let needs_base = lora.use_dora && lora.dropout > 0.0;
    let is_on_gpu = resolved.request.device == StepDevice::Cuda && resolved.method != Method::Full;
    is_on_gpu && !resolved.is_by_libtorch() && !lora.init.splits_base() && !needs_base
}

/// The columns of a packed matrix of rank `r`.
pub fn packed_columns(r: u64) -> u64 {
    r.next_multiple_of(8)
}

/// The bytes of the packed matrices of all layers.
pub fn packed_matrices(resolved: &ResolvedRequest, t: u64, e: u64) -> u64 {
    if !is_packed(resolved) {
        return 0;
    }
    let of_group = |group: &Vec<LinearShape>| {
        let targets = resolved.targets.iter().filter(|target| group.contains(&target.linear));
        let ranks: Vec<u64> = targets.map(|target| target.r as u64).collect();
        let (Some(r), Some(first)) = (ranks.iter().max(), group.first()) else { return 0 };
        let out: i64 = group.iter().map(|linear| linear.out_features).sum();
        BatchedAdapters::packed_size(t, first.in_features as u64, out as u64, ranks.len() as u64, *r) * e
    };
    resolved.layout.groups.iter().map(of_group).sum()
}

/// The first layer with a gradient: the layers before it keep nothing.
pub fn first_layer(resolved: &ResolvedRequest) -> Option<usize> {
    match resolved.method {
        Method::Full => Some(0),
        _ if resolved.layout.trains_embeddings() => Some(0),
        _ => {
            let is_trained = |linear: &&LinearShape| !resolved.layout.of(linear).is_empty();
            let linears = resolved.linears.iter().filter(is_trained).filter_map(|linear| linear.layer);
            linears.chain(resolved.layout.norms.keys().filter_map(|name| layer_of(name))).min()
        }
    }
}

/// The number of the decoder layer that contains a module.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()
}
