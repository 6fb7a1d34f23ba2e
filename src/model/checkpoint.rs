//! Gradient checkpointing: the forward pass keeps only the input of each layer, and the backward pass runs
//! each layer again for its activations.
//!
//! Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", with a checkpoint at every layer, as in
//! transformers. The numbers are those of a pass that keeps all activations: dropout is a function of its key,
//! so a layer that runs again drops the same channels.

use super::decoder::{Decoder, DecoderLayer, Pass};
use super::input::Input;
use super::linear::{Adapters, Linear};
use crate::error::Result;
use crate::native;
use tch::Tensor;

/// A forward pass without its activations.
pub struct Checkpoints<'a> {
    decoder: &'a Decoder,
    pass: Pass<'a>,
    /// The input of the first layer; part of the graph if embeddings are trained.
    embedded: Tensor,
    /// The input of each layer, `[tokens, hidden_size]`.
    inputs: Vec<Tensor>,
    /// The output of the last layer, as a leaf of the graph.
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
                let y = layer.forward(x.shallow_clone().into(), &pass, None)?.sum()?;
                inputs.push(std::mem::replace(&mut x, y));
            }
            Ok((inputs, x))
        })?;
        Ok(Checkpoints { decoder: self, pass, embedded, inputs, output: leaf(&output)? })
    }
}

impl Checkpoints<'_> {
    /// The last hidden state of every token, after the final norm: `[tokens, hidden_size]`. The backward pass of
    /// what is computed from it ends here.
    pub fn hidden(&self) -> Result<Tensor> {
        self.pass.norm(&self.decoder.norm, &self.output)
    }

    /// Continues the backward pass through the layers, from the gradient that autograd left at the output.
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
            let y = decoder.layers[at].forward(x.shallow_clone().into(), &pass, None)?.sum()?;
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
    let is_affected = |linear: &Linear| (0..pass.tokens.parts()).any(|part| pass.adapters.affects(linear, part));
    layer.linears().any(is_affected) || layer.norms().any(|norm| pass.adapters.trains_norm(norm))
}
