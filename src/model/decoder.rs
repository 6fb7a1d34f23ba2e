//! The decoder. Every field is named as its key in the safetensors file.
//!
//! One definition serves Llama, Mistral, Qwen2 and Qwen3. They differ in biases, in the normalisation of
//! queries and keys, and in sliding windows; [`Config`] states all three.

use super::activation::Activation;
use super::attention::{rotate_and_attend, Window};
use super::cache::{KeyValueCache, Past};
use super::config::Config;
use super::device::dtype_name;
use super::documents::Documents;
use super::input::{Input, Tokens};
use super::linear::{Adapters, Linear};
use super::norm::RmsNorm;
use super::quantization::Quantization;
use super::rope::{RotaryEmbedding, Rotation};
use crate::error::{Error, Result};
use crate::hub::mapped::MappedFiles;
use crate::native::{self, tensor_bytes};
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
    pub dtype: Dtype,
    pub device: Device,
    /// Notes for the user on how it was loaded.
    pub notes: Vec<String>,
    /// The files that its weights lie in.
    pub files: MappedFiles,
}

#[derive(Debug)]
pub struct DecoderLayer {
    pub input_layernorm: RmsNorm,
    pub self_attn: Attention,
    pub post_attention_layernorm: RmsNorm,
    pub mlp: Mlp,
}

#[derive(Debug)]
pub struct Attention {
    pub q_proj: Linear,
    pub k_proj: Linear,
    pub v_proj: Linear,
    pub o_proj: Linear,
    pub q_norm: Option<RmsNorm>,
    pub k_norm: Option<RmsNorm>,
    pub head_dim: i64,
    /// Whether this layer attends only within the sliding window.
    pub uses_sliding_window: bool,
}

#[derive(Debug)]
pub struct Mlp {
    pub gate_proj: Linear,
    pub up_proj: Linear,
    pub down_proj: Linear,
    pub activation: Activation,
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
        !self.rotary.depends_on_length(lengths)
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
        let (_, normed) = x.normed(&self.norm, pass)?;
        Ok(normed)
    }

    /// The input of the first layer: `[tokens, hidden_size]`.
    pub(super) fn embed(&self, input: &Input, adapters: &dyn Adapters) -> Result<Tensor> {
        adapters.embed(&self.embed_tokens, &input.token_ids, &input.tokens)
    }

    pub(super) fn pass<'a>(&self, input: &'a Input, adapters: &'a dyn Adapters) -> Result<Pass<'a>> {
        self.prepare_threads();
        Ok(Pass {
            tokens: &input.tokens,
            documents: &input.documents,
            rotation: self.rotary.rotation(input, self.dtype)?,
            window: Window::new(self.window(), input.documents.longest, self.device)?,
            adapters,
        })
    }

    /// The logits of the next token for hidden states `[tokens, hidden_size]`: `[tokens, vocab_size]`.
    pub fn logits(&self, hidden: &Tensor, tokens: &Tokens, adapters: &dyn Adapters) -> Result<Tensor> {
        self.prepare_threads();
        let [logits] = forward([&self.lm_head], hidden, tokens, adapters)?;
        Ok(logits)
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
        let norm =
            |norm: &RmsNorm| RmsNorm { name: norm.name.clone(), weight: norm.weight.shallow_clone(), eps: norm.eps };
        let layer = |layer: &DecoderLayer| DecoderLayer {
            input_layernorm: norm(&layer.input_layernorm),
            self_attn: Attention {
                q_proj: linear(&layer.self_attn.q_proj),
                k_proj: linear(&layer.self_attn.k_proj),
                v_proj: linear(&layer.self_attn.v_proj),
                o_proj: linear(&layer.self_attn.o_proj),
                q_norm: layer.self_attn.q_norm.as_ref().map(norm),
                k_norm: layer.self_attn.k_norm.as_ref().map(norm),
                head_dim: layer.self_attn.head_dim,
                uses_sliding_window: layer.self_attn.uses_sliding_window,
            },
            post_attention_layernorm: norm(&layer.post_attention_layernorm),
            mlp: Mlp {
                gate_proj: linear(&layer.mlp.gate_proj),
                up_proj: linear(&layer.mlp.up_proj),
                down_proj: linear(&layer.mlp.down_proj),
                activation: layer.mlp.activation,
            },
        };
        Decoder {
            config: self.config.clone(),
            embed_tokens: self.embed_tokens.shallow_clone(),
            layers: self.layers.iter().map(layer).collect(),
            norm: norm(&self.norm),
            lm_head: linear(&self.lm_head),
            rotary: self.rotary.shallow_clone(),
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
        tensor_bytes(&self.embed_tokens) + linears.sum::<u64>() + norms.sum::<u64>()
    }

    /// Every norm, the final one last.
    pub fn norms(&self) -> impl Iterator<Item = &RmsNorm> {
        let layers = self.layers.iter().flat_map(|layer| {
            let attn = &layer.self_attn;
            let norms = [&layer.input_layernorm, &layer.post_attention_layernorm];
            norms.into_iter().chain(&attn.q_norm).chain(&attn.k_norm)
        });
        layers.chain([&self.norm])
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

    /// The sum, and its norm.
    fn normed(self, norm: &RmsNorm, pass: &Pass) -> Result<(Tensor, Tensor)> {
        match &self.delta {
            Some(delta) if native::has_kernels(delta) && !pass.adapters.trains_norm(norm) => {
                norm.forward_sum(&self.x, delta)
            }
            _ => {
                let x = self.sum()?;
                let normed = pass.norm(norm, &x)?;
                Ok((x, normed))
            }
        }
    }
}

impl DecoderLayer {
    pub(super) fn forward(&self, x: Residual, pass: &Pass, past: Option<Past>) -> Result<Residual> {
        let (x, normed) = x.normed(&self.input_layernorm, pass)?;
        let attended = self.self_attn.forward(&normed, pass, past)?;
        let (x, normed) = Residual { x, delta: Some(attended) }.normed(&self.post_attention_layernorm, pass)?;
        let transformed = self.mlp.forward(&normed, pass)?;
        Ok(Residual { x, delta: Some(transformed) })
    }
}

impl DecoderLayer {
    /// In the order of [`super::shapes::linear_shapes`].
    pub(super) fn linears(&self) -> [&Linear; 7] {
        let (attn, mlp) = (&self.self_attn, &self.mlp);
        [&attn.q_proj, &attn.k_proj, &attn.v_proj, &attn.o_proj, &mlp.gate_proj, &mlp.up_proj, &mlp.down_proj]
    }
}

impl Attention {
    fn forward(&self, x: &Tensor, pass: &Pass, past: Option<Past>) -> Result<Tensor> {
        let [q, k, v] = pass.linears([&self.q_proj, &self.k_proj, &self.v_proj], x)?;
        let (q, k) = (normed(q, self.q_norm.as_ref(), pass)?, normed(k, self.k_norm.as_ref(), pass)?);
        let window = pass.window.as_ref().filter(|_| self.uses_sliding_window);
        let y = match past {
            None => rotate_and_attend([&q, &k, &v], self.head_dim, &pass.rotation, pass.documents, window)?,
            Some(past) => {
                let (q, k) = (pass.rotation.apply(&q)?, pass.rotation.apply(&k)?);
                let v = v.f_view([v.size()[0], -1, self.head_dim])?;
                past.attend([&q, &k, &v], pass.documents, window, self.uses_sliding_window)?
            }
        };
        pass.linear(&self.o_proj, &y)
    }
}

/// Queries or keys `[tokens, heads * head_dim]`, each head normalised if the model does so.
fn normed(x: Tensor, norm: Option<&RmsNorm>, pass: &Pass) -> Result<Tensor> {
    match norm {
        Some(norm) => pass.norm(norm, &x),
        None => Ok(x),
    }
}

impl Mlp {
    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let [gate, up] = pass.linears([&self.gate_proj, &self.up_proj], x)?;
        pass.linear(&self.down_proj, &self.activation.gated(&gate, &up)?)
    }
}
