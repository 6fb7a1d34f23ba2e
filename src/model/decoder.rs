//! The decoder, read like the checkpoint: every field is a key of its safetensors file.
//!
//! One definition serves Llama, Mistral, Qwen2 and Qwen3; they differ in biases, in the
//! normalisation of queries and keys, and in windows, all of which [`Config`] states.

use super::attention::{attend, Masks};
use super::config::Config;
use super::input::Input;
use super::linear::{Adapters, Linear};
use super::norm::RmsNorm;
use super::rope::{RotaryEmbedding, Rotation};
use crate::error::Result;
use crate::hub::weights::Mapping;
use tch::{Device, Kind as Dtype, Tensor};

#[derive(Debug)]
pub struct Decoder {
    pub config: Config,
    /// `[vocab_size, hidden_size]`
    pub embed_tokens: Tensor,
    pub layers: Vec<DecoderLayer>,
    pub norm: RmsNorm,
    /// Shares its weight with `embed_tokens` where the configuration ties them.
    pub lm_head: Linear,
    pub(super) rotary: RotaryEmbedding,
    pub dtype: Dtype,
    pub device: Device,
    /// Keeps the files mapped that weights may lie in.
    pub(super) mapping: Mapping,
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
    /// Whether this layer attends within the sliding window only.
    pub slides: bool,
}

#[derive(Debug)]
pub struct Mlp {
    pub gate_proj: Linear,
    pub up_proj: Linear,
    pub down_proj: Linear,
}

impl Decoder {
    /// The last hidden state, normalised: `[rows, time, hidden_size]`.
    pub fn hidden(&self, input: &Input, adapters: &dyn Adapters) -> Result<Tensor> {
        let rotation = self.rotary.rotation(&input.position_ids, self.dtype)?;
        let window = self.config.sliding_window.as_ref().map(|window| window.width);
        let masks = Masks::new(input.segments.as_ref(), window, input.time(), self.device)?;
        let mut x = Tensor::f_embedding(&self.embed_tokens, &input.input_ids, -1, false, false)?;
        for layer in &self.layers {
            x = layer.forward(&x, &rotation, &masks, adapters)?;
        }
        self.norm.forward(&x)
    }

    /// Scores of the next token for hidden states `[…, hidden_size]`: `[…, vocab_size]`.
    pub fn logits(&self, hidden: &Tensor, adapters: &dyn Adapters) -> Result<Tensor> {
        self.lm_head.forward(hidden, adapters)
    }

    /// Every linear layer, in the order of [`super::shapes::linear_shapes`].
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        let layers = self.layers.iter().flat_map(|layer| {
            let (attn, mlp) = (&layer.self_attn, &layer.mlp);
            [&attn.q_proj, &attn.k_proj, &attn.v_proj, &attn.o_proj, &mlp.gate_proj, &mlp.up_proj, &mlp.down_proj]
        });
        layers.chain([&self.lm_head])
    }
}

impl DecoderLayer {
    fn forward(&self, x: &Tensor, rotation: &Rotation, masks: &Masks, adapters: &dyn Adapters) -> Result<Tensor> {
        let attended = self.self_attn.forward(&self.input_layernorm.forward(x)?, rotation, masks, adapters)?;
        let x = x.f_add(&attended)?;
        let transformed = self.mlp.forward(&self.post_attention_layernorm.forward(&x)?, adapters)?;
        Ok(x.f_add(&transformed)?)
    }
}

impl Attention {
    fn forward(&self, x: &Tensor, rotation: &Rotation, masks: &Masks, adapters: &dyn Adapters) -> Result<Tensor> {
        let q = self.heads(&self.q_proj.forward(x, adapters)?, self.q_norm.as_ref())?;
        let k = self.heads(&self.k_proj.forward(x, adapters)?, self.k_norm.as_ref())?;
        let v = self.heads(&self.v_proj.forward(x, adapters)?, None)?;
        let y = attend(&rotation.apply(&q)?, &rotation.apply(&k)?, &v, masks, self.slides)?;
        self.o_proj.forward(&y.f_transpose(1, 2)?.f_flatten(2, 3)?, adapters)
    }

    /// `[rows, time, heads * head_dim]` to `[rows, heads, time, head_dim]`.
    fn heads(&self, x: &Tensor, norm: Option<&RmsNorm>) -> Result<Tensor> {
        let (rows, time, _) = x.size3()?;
        let x = x.f_view([rows, time, -1, self.head_dim])?;
        let x = match norm {
            Some(norm) => norm.forward(&x)?,
            None => x,
        };
        Ok(x.f_transpose(1, 2)?)
    }
}

impl Mlp {
    fn forward(&self, x: &Tensor, adapters: &dyn Adapters) -> Result<Tensor> {
        let gate = self.gate_proj.forward(x, adapters)?.f_silu()?;
        let up = self.up_proj.forward(x, adapters)?;
        self.down_proj.forward(&gate.f_mul(&up)?, adapters)
    }
}
