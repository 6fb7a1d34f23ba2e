//! Full-parameter training: the decoder's own weights become the trainable leaves.

use super::decoder::{Decoder, DecoderLayer, FeedForward};
use super::device::dtype_name;
use super::linear::{Linear, Weight};
use super::parameters::Parameters;
use super::quantization;
use super::shapes::{expert_tensors, parameter_shapes};
use crate::bail;
use crate::error::{Error, Kind, Result};
use std::collections::HashSet;
use tch::{Kind as Dtype, Tensor};

impl Decoder {
    /// Copies every weight into a flat buffer and replaces the weights by its leaves, so that training the
    /// returned parameters trains this decoder. Does not change the files of the weights. f32 only: bf16
    /// would lose small updates.
    pub fn train_all(&mut self) -> Result<Parameters> {
        if self.config.quantization.is_some() {
            bail!(Kind::Input, "full-parameter training needs dense weights, found 4-bit weights, which are frozen"; hint: "add an adapter with model.add_lora(…), or load the model without load_in_4bit");
        }
        if !matches!(self.dtype, Dtype::Float | Dtype::Double) {
            bail!(Kind::Input, "full-parameter training needs f32 weights, found {}", dtype_name(self.dtype); hint: "load the model with dtype \"f32\"");
        }
        let shapes = parameter_shapes(&self.config);
        let mut parameters = Parameters::of_kind(&shapes, self.dtype, self.device)?;
        for (at, (name, _)) in shapes.iter().enumerate() {
            let weight = self.weight_mut(name).ok_or_else(|| Error::bug(format!("`{name}` is not in the decoder")))?;
            parameters.set(at, weight)?;
            *weight = parameters.leaves()[at].shallow_clone();
        }
        parameters.limit_decay(is_decayed)?;
        if self.config.tie_word_embeddings {
            self.lm_head.weight = Weight::Dense(self.embed_tokens.shallow_clone());
        }
        Ok(parameters)
    }

    /// The tensors of a checkpoint of this decoder, with their names. Tied weights come once; a 4-bit weight is
    /// several tensors.
    pub fn named_weights(&mut self) -> Result<Vec<(String, Tensor)>> {
        let mut named = Vec::new();
        for linear in self.linears() {
            if let Weight::Nf4(weight) = &linear.weight {
                named.extend(quantization::parts(&format!("{}.weight", linear.shape.name), weight, self.dtype)?);
            }
        }
        let in_parts: HashSet<String> = named.iter().map(|(name, _)| name.clone()).collect();
        for (name, _) in parameter_shapes(&self.config) {
            match self.weight_mut(&name) {
                _ if in_parts.contains(&name) => {}
                Some(weight) => named.push((name, weight.shallow_clone())),
                None => return Err(Error::bug(format!("`{name}` is not in the decoder"))),
            }
        }
        Ok(named)
    }

    /// The dense weight with this name in a checkpoint.
    pub(crate) fn weight_mut(&mut self, name: &str) -> Option<&mut Tensor> {
        match name {
            "model.embed_tokens.weight" => return Some(&mut self.embed_tokens),
            "model.norm.weight" => return Some(&mut self.norm.weight),
            "lm_head.weight" => return self.lm_head.dense_mut(),
            _ => {}
        }
        let (layer, _) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let number = layer.parse::<usize>().ok()?;
        let layer = self.layers.get_mut(number)?;
        let of_experts = expert_tensors(&self.config, number).iter().position(|(known, _)| known == name);
        if let Some(at) = of_experts {
            return match &mut layer.feed_forward {
                FeedForward::Experts(experts) => experts.tensors_mut().nth(at),
                FeedForward::Mlp(_) => None,
            };
        }
        layer.weight_mut(name)
    }
}

/// Whether weight decay applies: not to biases and the weights of norms, as in transformers' `Trainer`.
pub fn is_decayed(name: &str) -> bool {
    !name.ends_with(".bias") && !name.ends_with("norm.weight")
}

impl Linear {
    fn dense_mut(&mut self) -> Option<&mut Tensor> {
        match &mut self.weight {
            Weight::Dense(weight) => Some(weight),
            Weight::Nf4(_) => None,
        }
    }
}

impl DecoderLayer {
    /// The weight or bias with this full name.
    fn weight_mut(&mut self, name: &str) -> Option<&mut Tensor> {
        let (module, kind) = name.rsplit_once('.')?;
        // Twice, because the borrow of a tensor that is found lasts as long as that of the layer.
        if self.norms().any(|norm| norm.name == module) {
            return self.norms_mut().find(|norm| norm.name == module).map(|norm| &mut norm.weight);
        }
        let linear = self.linears_mut().find(|linear| linear.shape.name == module)?;
        match kind {
            "weight" => linear.dense_mut(),
            "bias" => linear.bias.as_mut(),
            _ => None,
        }
    }
}
