//! Gradient checkpointing: the forward pass keeps what each layer reads and nothing else, and
//! the backward pass runs one layer after another again to have its activations.
//!
//! Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", with a checkpoint at
//! every layer, as transformers sets them. The numbers are those of a pass that keeps all:
//! dropout is a function of its key, so a layer that runs again drops the same channels.

use super::decoder::{Decoder, DecoderLayer, Pass};
use super::input::Input;
use super::linear::{Adapters, Linear};
use crate::error::Result;
use crate::native;
use tch::Tensor;

/// A forward pass whose activations are thrown away.
pub struct Checkpoints<'a> {
    decoder: &'a Decoder,
    pass: Pass<'a>,
    /// What the first layer read; part of the graph where embeddings are trained.
    embedded: Tensor,
    /// What each layer read, `[tokens, hidden_size]`.
    inputs: Vec<Tensor>,
    /// A leaf of the graph: what the last layer gave.
    output: Tensor,
}

impl Decoder {
    /// Runs every layer without recording gradients.
    pub fn checkpoints<'a>(&'a self, input: &'a Input, adapters: &'a dyn Adapters) -> Result<Checkpoints<'a>> {
        let pass = self.pass(input, adapters)?;
        let embedded = self.embed(input, adapters)?;
        let (inputs, output) = tch::no_grad(|| -> Result<_> {
            let mut inputs = Vec::new();
            let mut x = embedded.f_detach()?;
            for layer in &self.layers {
                let y = layer.forward(&x, &pass, None)?;
                inputs.push(std::mem::replace(&mut x, y));
            }
            Ok((inputs, x))
        })?;
        Ok(Checkpoints { decoder: self, pass, embedded, inputs, output: leaf(&output)? })
    }
}

impl Checkpoints<'_> {
    /// The last hidden state of every token, normalised: `[tokens, hidden_size]`. What is
    /// computed from it goes backward by autograd, down to here.
    pub fn hidden(&self) -> Result<Tensor> {
        self.pass.norm(&self.decoder.norm, &self.output)
    }

    /// Goes on backward through the layers, from where autograd left its gradient.
    pub fn backward(self) -> Result<()> {
        let Checkpoints { decoder, pass, embedded, inputs, output } = self;
        let trains_embeddings = embedded.requires_grad();
        // No layer below the first one that trains anything needs a gradient.
        let lowest = if trains_embeddings {
            0
        } else {
            decoder.layers.iter().position(|layer| is_trained(layer, &pass)).unwrap_or(decoder.layers.len())
        };
        let mut gradient = output.f_grad()?;
        for (at, x) in inputs.into_iter().enumerate().skip(lowest).rev() {
            let wants_gradient = at > lowest || trains_embeddings;
            let x = if wants_gradient { leaf(&x)? } else { x };
            let y = decoder.layers[at].forward(&x, &pass, None)?;
            native::backward(&y, &gradient)?;
            if wants_gradient {
                gradient = x.f_grad()?;
            }
        }
        if trains_embeddings {
            native::backward(&embedded, &gradient)
        } else {
            Ok(())
        }
    }
}

fn leaf(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_detach()?.f_set_requires_grad(true)?)
}

fn is_trained(layer: &DecoderLayer, pass: &Pass) -> bool {
    let attn = &layer.self_attn;
    let norms = [&layer.input_layernorm, &layer.post_attention_layernorm];
    let mut norms = norms.into_iter().chain(&attn.q_norm).chain(&attn.k_norm);
    let touched = |linear: &Linear| (0..pass.tokens.parts()).any(|part| pass.adapters.touch(linear, part));
    layer.linears().into_iter().any(touched) || norms.any(|norm| pass.adapters.trains_norm(norm))
}
