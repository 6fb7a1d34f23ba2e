//! The sizes of one decoder layer's values, and the bytes that it keeps for its backward pass: the tensors that the
//! nodes of `native/` and libtorch's attention save.

use super::{Method, ResolvedRequest, StepDevice};
use crate::lora::targets::Target;
use crate::model::shapes::{LinearShape, LINEARS};
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
    /// In the order of [`LINEARS`].
    linears: Vec<Adapted<'a>>,
    pub t: u64,
    pub e: u64,
    pub hidden: u64,
    pub queries: u64,
    pub keys: u64,
    pub heads: u64,
    pub key_heads: u64,
    pub mlp: u64,
    pub qk_norm: bool,
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
            mlp: config.intermediate_size as u64,
            qk_norm: config.qk_norm(),
            trains_all: resolved.method == Method::Full,
            is_first: Some(number) == first_layer(resolved)
                && resolved.method != Method::Full
                && !resolved.layout.trains_embeddings(),
            repeats_heads: resolved.request.device == StepDevice::Cuda && !has_flash_attention(config, e),
            is_by_libtorch: resolved.is_by_libtorch(),
            resolved,
        }
    }

    /// The linear layer called `name` in [`LINEARS`].
    pub fn linear(&self, name: &str) -> Option<Adapted<'a>> {
        let at = LINEARS.iter().position(|known| *known == name || known.ends_with(name))?;
        self.linears.get(at).copied()
    }

    pub fn has_gradient(&self, name: &str) -> bool {
        self.trains_all || self.linear(name).is_some_and(|adapted| !self.resolved.layout.of(adapted.linear).is_empty())
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
        let keys = if self.repeats_heads { self.queries } else { self.keys };
        self.t * (2 * self.queries + 2 * keys) * self.e + self.t * self.heads * 4
    }

    /// Does a gradient pass through the operations after the linear layers `names`? In the first adapted layer it ends
    /// at the first adapter: operations before that keep nothing.
    fn flows(&self, names: &[&str]) -> bool {
        !self.is_first || names.iter().any(|name| self.has_gradient(name))
    }

    pub fn reaches_attention(&self) -> bool {
        self.flows(&LINEARS[..3])
    }

    pub fn reaches_mlp(&self) -> bool {
        self.flows(&LINEARS[..4])
    }

    pub fn reaches_swiglu(&self) -> bool {
        self.flows(&LINEARS[..6])
    }

    /// All bytes that the layer keeps for its backward pass.
    pub fn kept(&self) -> u64 {
        let Layer { t, e, hidden, mlp, .. } = *self;
        let any = |names: &[&str]| names.iter().any(|name| self.has_gradient(name));
        let when = |is: bool, bytes: u64| if is { bytes } else { 0 };
        // RMSNorm keeps its input and an f32 for each row.
        let norm = |width: u64, rows: u64| t * (width * e + 4 * rows);
        let qk_norms = norm(self.queries, self.heads) + norm(self.keys, self.key_heads);
        when(!self.is_first, norm(hidden, 1))
            + when(any(&LINEARS[..3]), t * hidden * e)
            + when(self.reaches_attention() && self.qk_norm, qk_norms)
            + when(self.reaches_attention(), self.attention())
            // The input of o_proj is attention's output: usually kept already.
            + when(!self.reaches_attention() && any(&LINEARS[3..4]), t * self.queries * e)
            + when(self.reaches_mlp(), norm(hidden, 1))
            + when(any(&LINEARS[4..6]), t * hidden * e)
            // SwiGLU keeps gate and up.
            + when(self.reaches_swiglu(), 2 * t * mlp * e)
            + when(any(&LINEARS[6..]), t * mlp * e)
            + self.of_adapters()
    }
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
