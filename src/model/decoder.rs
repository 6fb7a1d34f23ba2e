//! The decoder: one forward pass for all families. [`Config`] and its
//! [`Architecture`](super::architecture::Architecture) state how they differ.

use super::activation::Activation;
use super::architecture::EmbeddingMultiplier;
use super::attention::{rotate_and_attend, Scores, Window};
use super::cache::{KeyValueCache, Past};
use super::config::{Config, LayerRotation};
use super::device::dtype_name;
use super::documents::Documents;
use super::experts::Experts;
use super::input::{Input, Tokens};
use super::linear::{Adapters, Linear, Table};
use super::norm::RmsNorm;
use super::quantization::Quantization;
use super::rope::{RotaryEmbedding, Rotation};
use crate::error::{Error, Result};
use crate::hub::mapped::MappedFiles;
use crate::native::tensor_bytes;
use crate::threads;
use tch::{Device, Kind as Dtype, Tensor};

#[derive(Debug)]
pub struct Decoder {
    pub config: Config,
    /// `[vocab_size, hidden_size]`
    pub embed_tokens: Tensor,
    pub layers: Vec<DecoderLayer>,
    pub norm: RmsNorm,
    /// Shares its weight with `embed_tokens` if the configuration ties them.
    pub lm_head: Linear,
    pub(super) rotary: RotaryEmbedding,
    /// Of layers with a sliding window, where it differs.
    pub(super) local_rotary: Option<RotaryEmbedding>,
    pub dtype: Dtype,
    pub device: Device,
    /// Notes for the user on how it was loaded.
    pub notes: Vec<String>,
    /// The files that its weights lie in.
    pub files: MappedFiles,
}

#[derive(Debug)]
pub struct DecoderLayer {
    pub norms: LayerNorms,
    pub self_attn: Attention,
    pub feed_forward: FeedForward,
    /// What the outputs of attention and MLP are multiplied by.
    pub residual_multiplier: f64,
}

/// The norms of a layer by where they stand; see [`super::shapes::layer_norms`] for their names in a checkpoint.
#[derive(Debug)]
pub struct LayerNorms {
    pub before_attention: Option<RmsNorm>,
    pub after_attention: Option<RmsNorm>,
    pub before_mlp: Option<RmsNorm>,
    pub after_mlp: Option<RmsNorm>,
}

#[derive(Debug)]
pub struct Attention {
    pub qkv: QueryKeyValue,
    pub o_proj: Linear,
    pub q_norm: Option<RmsNorm>,
    pub k_norm: Option<RmsNorm>,
    pub head_dim: i64,
    pub rotation: LayerRotation,
    /// Whether this layer attends only within the sliding window.
    pub uses_sliding_window: bool,
    pub scores: Scores,
}

#[derive(Debug)]
pub enum QueryKeyValue {
    /// `q_proj`, `k_proj` and `v_proj`.
    Separate(Box<[Linear; 3]>),
    /// `qkv_proj`, and the widths of its three parts.
    Fused(Box<Linear>, [i64; 3]),
}

#[derive(Debug)]
pub enum FeedForward {
    Mlp(Box<Mlp>),
    Experts(Experts),
}

#[derive(Debug)]
pub struct Mlp {
    pub gate_up: GateUp,
    pub down_proj: Linear,
    pub activation: Activation,
}

#[derive(Debug)]
pub enum GateUp {
    /// `gate_proj` and `up_proj`.
    Separate(Box<[Linear; 2]>),
    /// `gate_up_proj`: the rows of gate, then those of up.
    Fused(Box<Linear>),
}

impl Decoder {
    /// The last hidden state of every token, after the final norm: `[tokens, hidden_size]`.
    pub fn hidden(&self, input: &Input, adapters: &dyn Adapters) -> Result<Tensor> {
        let pass = self.pass(input, adapters)?;
        self.through_layers(self.embed(input, adapters)?, &pass, |_, layer, x| layer.forward(x, &pass, None))
    }

    /// As [`Self::hidden`], for tokens that follow those in `cache`, and adds them to it. Document i of the
    /// input continues row i of the cache; its positions begin at [`KeyValueCache::lengths`].
    pub fn hidden_after(&self, cache: &mut KeyValueCache, input: &Input, adapters: &dyn Adapters) -> Result<Tensor> {
        let pass = self.pass(input, adapters)?;
        let update = cache.prepare_update(&input.documents, self.window(), self.device)?;
        let hidden = self.through_layers(self.embed(input, adapters)?, &pass, |index, layer, x| {
            let past = cache.layers.get_mut(index).map(|layer| Past { layer, update: &update });
            layer.forward(x, &pass, past)
        })?;
        cache.advance(&input.documents);
        Ok(hidden)
    }

    /// Whether sequences of these lengths that begin alike have the same hidden states there.
    pub fn computes_prefixes_alike(&self, lengths: &[i64]) -> bool {
        let mut rotaries = std::iter::once(&self.rotary).chain(&self.local_rotary);
        !rotaries.any(|rotary| rotary.depends_on_length(lengths))
    }

    /// The width of the sliding window, in layers that use it.
    fn window(&self) -> Option<i64> {
        self.config.sliding_window.as_ref().map(|window| window.width)
    }

    fn through_layers(
        &self,
        x: Tensor,
        pass: &Pass,
        mut forward: impl FnMut(usize, &DecoderLayer, Residual) -> Result<Residual>,
    ) -> Result<Tensor> {
        let mut x = Residual::from(x);
        for (index, layer) in self.layers.iter().enumerate() {
            x = forward(index, layer, x)?;
        }
        let (_, normed) = x.normed(Some(&self.norm), pass)?;
        Ok(normed)
    }

    /// The input of the first layer: `[tokens, hidden_size]`.
    pub(super) fn embed(&self, input: &Input, adapters: &dyn Adapters) -> Result<Tensor> {
        let table = Table { weight: &self.embed_tokens, padding: self.config.padding() };
        let embedded = adapters.embed(&table, &input.token_ids, &input.tokens)?;
        match self.config.architecture.embedding_multiplier {
            EmbeddingMultiplier::One => Ok(embedded),
            EmbeddingMultiplier::Number(number) => Ok(embedded.f_mul_scalar(number)?),
            EmbeddingMultiplier::Rounded(number) => {
                let number = Tensor::f_from_slice(&[number])?.f_to_kind(embedded.f_kind()?)?;
                Ok(embedded.f_mul(&number.f_to_device(self.device)?)?)
            }
        }
    }

    pub(super) fn pass<'a>(&self, input: &'a Input, adapters: &'a dyn Adapters) -> Result<Pass<'a>> {
        self.prepare_threads();
        Ok(Pass {
            tokens: &input.tokens,
            documents: &input.documents,
            rotation: self.rotary.rotation(input, self.dtype)?,
            local_rotation: self.local_rotary.as_ref().map(|rotary| rotary.rotation(input, self.dtype)).transpose()?,
            window: Window::new(self.window(), input.documents.longest, self.device)?,
            adapters,
        })
    }

    /// The logits of the next token for hidden states `[tokens, hidden_size]`: `[tokens, vocab_size]`.
    pub fn logits(&self, hidden: &Tensor, tokens: &Tokens, adapters: &dyn Adapters) -> Result<Tensor> {
        self.prepare_threads();
        let [logits] = forward([&self.lm_head], hidden, tokens, adapters)?;
        self.config.architecture.logits.apply(logits)
    }

    /// Every pass begins with it.
    fn prepare_threads(&self) {
        if self.device == Device::Cpu {
            threads::prepare();
        }
    }

    /// A decoder over the same weights, for another thread. Copies no weights.
    pub fn shallow_clone(&self) -> Decoder {
        let linear = |linear: &Linear| Linear {
            shape: linear.shape.clone(),
            weight: linear.weight.shallow_clone(),
            bias: linear.bias.as_ref().map(Tensor::shallow_clone),
        };
        let norm = |norm: &Option<RmsNorm>| norm.as_ref().map(RmsNorm::shallow_clone);
        let layer = |layer: &DecoderLayer| DecoderLayer {
            norms: LayerNorms {
                before_attention: norm(&layer.norms.before_attention),
                after_attention: norm(&layer.norms.after_attention),
                before_mlp: norm(&layer.norms.before_mlp),
                after_mlp: norm(&layer.norms.after_mlp),
            },
            self_attn: Attention {
                qkv: match &layer.self_attn.qkv {
                    QueryKeyValue::Separate(linears) => {
                        QueryKeyValue::Separate(Box::new(linears.each_ref().map(linear)))
                    }
                    QueryKeyValue::Fused(fused, widths) => QueryKeyValue::Fused(Box::new(linear(fused)), *widths),
                },
                o_proj: linear(&layer.self_attn.o_proj),
                q_norm: norm(&layer.self_attn.q_norm),
                k_norm: norm(&layer.self_attn.k_norm),
                ..layer.self_attn
            },
            feed_forward: match &layer.feed_forward {
                FeedForward::Mlp(mlp) => FeedForward::Mlp(Box::new(Mlp {
                    gate_up: match &mlp.gate_up {
                        GateUp::Separate(linears) => GateUp::Separate(Box::new(linears.each_ref().map(linear))),
                        GateUp::Fused(fused) => GateUp::Fused(Box::new(linear(fused))),
                    },
                    down_proj: linear(&mlp.down_proj),
                    activation: mlp.activation,
                })),
                FeedForward::Experts(experts) => FeedForward::Experts(experts.shallow_clone()),
            },
            residual_multiplier: layer.residual_multiplier,
        };
        Decoder {
            config: self.config.clone(),
            embed_tokens: self.embed_tokens.shallow_clone(),
            layers: self.layers.iter().map(layer).collect(),
            norm: self.norm.shallow_clone(),
            lm_head: linear(&self.lm_head),
            rotary: self.rotary.shallow_clone(),
            local_rotary: self.local_rotary.as_ref().map(RotaryEmbedding::shallow_clone),
            dtype: self.dtype,
            device: self.device,
            notes: self.notes.clone(),
            files: self.files.clone(),
        }
    }

    /// The dtype of the weights, for display.
    pub fn weights_dtype(&self) -> String {
        let compute_dtype = dtype_name(self.dtype);
        match self.config.quantization {
            None if self.packed_bytes() > 0 => format!("{compute_dtype}, packed for the CPU"),
            None => compute_dtype.to_owned(),
            Some(Quantization { double_quant: false }) => format!("4-bit nf4, computed in {compute_dtype}"),
            Some(Quantization { double_quant: true }) => {
                format!("4-bit nf4 with double quantisation, computed in {compute_dtype}")
            }
        }
    }

    /// The bytes of the weights, dense or 4-bit; tied ones count once. Mapped files count in full, though the
    /// system may drop their pages.
    pub fn weight_bytes(&self) -> u64 {
        let has_own_head = !self.config.tie_word_embeddings;
        let linears = self.linears().filter(|linear| linear.shape.layer.is_some() || has_own_head);
        let linears = linears.map(|linear| linear.weight.bytes() + linear.bias.as_ref().map_or(0, tensor_bytes));
        let norms = self.norms().map(|norm| tensor_bytes(&norm.weight));
        let experts = self.layers.iter().filter_map(DecoderLayer::experts).flat_map(Experts::tensors).map(tensor_bytes);
        tensor_bytes(&self.embed_tokens) + linears.sum::<u64>() + norms.sum::<u64>() + experts.sum::<u64>()
    }

    /// Every norm, the final one last.
    pub fn norms(&self) -> impl Iterator<Item = &RmsNorm> {
        self.layers.iter().flat_map(DecoderLayer::norms).chain([&self.norm])
    }

    /// Every linear layer, in the order of [`super::shapes::linear_shapes`].
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.layers.iter().flat_map(DecoderLayer::linears).chain([&self.lm_head])
    }
}

/// Shared by all layers of one forward pass.
pub(super) struct Pass<'a> {
    pub(super) tokens: &'a Tokens,
    documents: &'a Documents,
    rotation: Rotation,
    local_rotation: Option<Rotation>,
    /// For layers that use the sliding window.
    window: Option<Window>,
    pub(super) adapters: &'a dyn Adapters,
}

impl Pass<'_> {
    fn linear(&self, linear: &Linear, x: &Tensor) -> Result<Tensor> {
        let [y] = self.linears([linear], x)?;
        Ok(y)
    }

    pub(super) fn norm(&self, norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
        self.adapters.norm(norm, x, self.tokens)
    }

    /// As [`Self::norm`]; x itself without a norm.
    fn optional_norm(&self, norm: Option<&RmsNorm>, x: &Tensor) -> Result<Tensor> {
        match norm {
            Some(norm) => self.norm(norm, x),
            None => Ok(x.shallow_clone()),
        }
    }

    /// The outputs of layers that read the same input, as one node of the autograd graph.
    fn linears<const N: usize>(&self, linears: [&Linear; N], x: &Tensor) -> Result<[Tensor; N]> {
        forward(linears, x, self.tokens, self.adapters)
    }
}

fn forward<const N: usize>(
    linears: [&Linear; N],
    x: &Tensor,
    tokens: &Tokens,
    adapters: &dyn Adapters,
) -> Result<[Tensor; N]> {
    let outputs = adapters.forward(&linears, x, tokens)?;
    outputs.try_into().map_err(|_| Error::bug("a linear layer without an output"))
}

/// The residual stream between two layers: a sum that the next norm computes.
pub(super) struct Residual {
    x: Tensor,
    /// Added to it.
    delta: Option<Tensor>,
}

impl From<Tensor> for Residual {
    fn from(x: Tensor) -> Self {
        Residual { x, delta: None }
    }
}

impl Residual {
    pub(super) fn sum(self) -> Result<Tensor> {
        match self.delta {
            None => Ok(self.x),
            Some(delta) => Ok(self.x.f_add(&delta)?),
        }
    }

    /// The sum, and its norm; the sum twice without one.
    fn normed(self, norm: Option<&RmsNorm>, pass: &Pass) -> Result<(Tensor, Tensor)> {
        match (norm, &self.delta) {
            (Some(norm), Some(delta)) if norm.has_forward_sum(delta) && !pass.adapters.trains_norm(norm) => {
                norm.forward_sum(&self.x, delta)
            }
            _ => {
                let x = self.sum()?;
                let normed = pass.optional_norm(norm, &x)?;
                Ok((x, normed))
            }
        }
    }
}

impl DecoderLayer {
    pub(super) fn forward(&self, x: Residual, pass: &Pass, past: Option<Past>) -> Result<Residual> {
        let (x, normed) = x.normed(self.norms.before_attention.as_ref(), pass)?;
        let attended = self.self_attn.forward(&normed, pass, past)?;
        let delta = self.delta(attended, self.norms.after_attention.as_ref(), pass)?;
        let (x, normed) = Residual { x, delta: Some(delta) }.normed(self.norms.before_mlp.as_ref(), pass)?;
        let transformed = match &self.feed_forward {
            FeedForward::Mlp(mlp) => mlp.forward(&normed, pass)?,
            FeedForward::Experts(experts) => experts.forward(&normed)?,
        };
        let delta = self.delta(transformed, self.norms.after_mlp.as_ref(), pass)?;
        Ok(Residual { x, delta: Some(delta) })
    }

    /// What attention or the MLP adds to the residual stream.
    fn delta(&self, output: Tensor, norm: Option<&RmsNorm>, pass: &Pass) -> Result<Tensor> {
        let output = pass.optional_norm(norm, &output)?;
        match self.residual_multiplier {
            1.0 => Ok(output),
            multiplier => Ok(output.f_mul_scalar(multiplier)?),
        }
    }

    /// In the order of [`super::shapes::linear_shapes`].
    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        let attn = &self.self_attn;
        let qkv = match &attn.qkv {
            QueryKeyValue::Separate(linears) => linears.as_slice(),
            QueryKeyValue::Fused(linear, _) => std::slice::from_ref(linear.as_ref()),
        };
        let mlp = match &self.feed_forward {
            FeedForward::Mlp(mlp) => Some(mlp.as_ref()),
            FeedForward::Experts(_) => None,
        };
        qkv.iter().chain([&attn.o_proj]).chain(mlp.into_iter().flat_map(Mlp::linears))
    }

    /// Its experts, if it has a mixture in the place of an MLP.
    pub(super) fn experts(&self) -> Option<&Experts> {
        match &self.feed_forward {
            FeedForward::Experts(experts) => Some(experts),
            FeedForward::Mlp(_) => None,
        }
    }

    /// As [`Self::linears`].
    pub(super) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let qkv = match &mut self.self_attn.qkv {
            QueryKeyValue::Separate(linears) => linears.as_mut_slice(),
            QueryKeyValue::Fused(linear, _) => std::slice::from_mut(linear.as_mut()),
        };
        let mlp = match &mut self.feed_forward {
            FeedForward::Mlp(mlp) => Some(mlp.as_mut()),
            FeedForward::Experts(_) => None,
        };
        qkv.iter_mut().chain([&mut self.self_attn.o_proj]).chain(mlp.into_iter().flat_map(Mlp::linears_mut))
    }

    /// In the order of [`super::shapes::norm_shapes`].
    pub(super) fn norms(&self) -> impl Iterator<Item = &RmsNorm> {
        let (norms, attn) = (&self.norms, &self.self_attn);
        let of_layer = [&norms.before_attention, &norms.after_attention, &norms.before_mlp, &norms.after_mlp];
        of_layer.into_iter().chain([&attn.q_norm, &attn.k_norm]).flatten()
    }

    /// As [`Self::norms`].
    pub(super) fn norms_mut(&mut self) -> impl Iterator<Item = &mut RmsNorm> {
        let LayerNorms { before_attention, after_attention, before_mlp, after_mlp } = &mut self.norms;
        let Attention { q_norm, k_norm, .. } = &mut self.self_attn;
        [before_attention, after_attention, before_mlp, after_mlp, q_norm, k_norm].into_iter().flatten()
    }
}

impl Attention {
    fn forward(&self, x: &Tensor, pass: &Pass, past: Option<Past>) -> Result<Tensor> {
        let [q, k, v] = self.qkv.forward(x, pass)?;
        let (q, k) = (pass.optional_norm(self.q_norm.as_ref(), &q)?, pass.optional_norm(self.k_norm.as_ref(), &k)?);
        let q = self.scores.scaled(q)?;
        let rotation = match self.rotation {
            LayerRotation::None => None,
            LayerRotation::Global => Some(&pass.rotation),
            LayerRotation::Local => pass.local_rotation.as_ref(),
        };
        let window = pass.window.as_ref().filter(|_| self.uses_sliding_window);
        let y = match past {
            None => {
                let softcap = self.scores.softcap;
                rotate_and_attend([&q, &k, &v], self.head_dim, rotation, pass.documents, window, softcap)?
            }
            Some(past) => {
                let by_head = |x: &Tensor| -> Result<Tensor> { Ok(x.f_view([x.size()[0], -1, self.head_dim])?) };
                let rotated =
                    |x: &Tensor| rotation.map_or_else(|| by_head(x), |rotation| rotation.apply(x, self.head_dim));
                let (q, k, v) = (rotated(&q)?, rotated(&k)?, by_head(&v)?);
                past.attend([&q, &k, &v], pass.documents, window, self.uses_sliding_window, self.scores.softcap)?
            }
        };
        pass.linear(&self.o_proj, &y)
    }
}

impl QueryKeyValue {
    /// Each `[tokens, heads * head_dim]`.
    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<[Tensor; 3]> {
        match self {
            QueryKeyValue::Separate(linears) => pass.linears(linears.each_ref(), x),
            QueryKeyValue::Fused(linear, widths) => {
                let parts = pass.linear(linear, x)?.f_split_with_sizes(widths.as_slice(), -1)?;
                let parts = parts.iter().map(Tensor::f_contiguous).collect::<std::result::Result<Vec<_>, _>>()?;
                parts.try_into().map_err(|_| Error::bug("a fused projection without three parts"))
            }
        }
    }
}

impl Mlp {
    fn linears(&self) -> impl Iterator<Item = &Linear> {
        let gate_up = match &self.gate_up {
            GateUp::Separate(linears) => linears.as_slice(),
            GateUp::Fused(linear) => std::slice::from_ref(linear.as_ref()),
        };
        gate_up.iter().chain([&self.down_proj])
    }

    fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let gate_up = match &mut self.gate_up {
            GateUp::Separate(linears) => linears.as_mut_slice(),
            GateUp::Fused(linear) => std::slice::from_mut(linear.as_mut()),
        };
        gate_up.iter_mut().chain([&mut self.down_proj])
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let [gate, up] = match &self.gate_up {
            GateUp::Separate(linears) => pass.linears(linears.each_ref(), x)?,
            GateUp::Fused(linear) => {
                let halves = pass.linear(linear, x)?.f_chunk(2, -1)?;
                halves.try_into().map_err(|_| Error::bug("a fused projection without two halves"))?
            }
        };
        pass.linear(&self.down_proj, &self.activation.gated(&gate, &up)?)
    }
}
