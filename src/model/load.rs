//! Building a decoder: from the mapped tensors of a folder, or from random numbers.

use super::config::Config;
use super::decoder::{Attention, Decoder, DecoderLayer, Mlp};
use super::linear::{Linear, Weight};
use super::norm::RmsNorm;
use super::quantization::{self, Quantization};
use super::rope::RotaryEmbedding;
use super::shapes::{linear_shapes, parameter_shapes, LinearShape, LINEARS};
use crate::error::{Error, Kind, Result};
use crate::hub::weights::Weights;
use crate::native::Nf4;
use crate::random::Key;
use std::collections::{BTreeSet, HashMap};
use tch::{Device, Kind as Dtype, Tensor};

/// Loads a decoder from an opened checkpoint. Weights already in `dtype` and on the CPU
/// stay in the mapping; others are converted one at a time, and the pages that they were
/// read from are given back. Where `config.quantization` is set, the linear layers are of 4
/// bits: as the checkpoint has them, or quantised here from their values in `dtype`.
pub fn load(config: Config, weights: &Weights, dtype: Dtype, device: Device) -> Result<Decoder> {
    check_names(&config, weights)?;
    let shapes = parameter_shapes(&config).into_iter().collect();
    let quantization = config.quantization;
    build(config, dtype, device, &mut Checkpoint { weights, shapes, quantization, dtype, device })
}

/// A decoder with fresh weights as transformers initialises them: normal with standard
/// deviation 0.02, norms one, biases zero; dense. A pure function of `seed`.
pub fn random(config: Config, seed: u64, dtype: Dtype, device: Device) -> Result<Decoder> {
    let shapes = parameter_shapes(&config).into_iter().collect();
    let config = Config { quantization: None, ..config };
    build(config, dtype, device, &mut Fresh { shapes, seed, dtype, device })
}

/// Where the weights come from, by their names in a checkpoint.
pub(super) trait Source {
    fn tensor(&mut self, name: &str) -> Result<Tensor>;

    /// The matrix of a linear layer inside the decoder.
    fn weight(&mut self, name: &str) -> Result<Weight> {
        Ok(Weight::Dense(self.tensor(name)?))
    }
}

type Shapes = HashMap<String, Vec<i64>>;

fn shape_of<'a>(shapes: &'a Shapes, name: &str) -> Result<&'a [i64]> {
    shapes.get(name).map(Vec::as_slice).ok_or_else(|| Error::bug(format!("`{name}` has no shape")))
}

struct Checkpoint<'a> {
    weights: &'a Weights,
    shapes: Shapes,
    quantization: Option<Quantization>,
    dtype: Dtype,
    device: Device,
}

impl Checkpoint<'_> {
    /// As the file has it.
    fn stored(&self, name: &str) -> Result<Tensor> {
        let (found, expected) = (self.weights.tensor(name)?, shape_of(&self.shapes, name)?);
        if found.size() != expected {
            return Err(Error::model(format!(
                "tensor `{name}`: expected shape {expected:?}, found {:?}",
                found.size()
            ))
            .with_hint("the checkpoint does not belong to its config.json"));
        }
        self.weights.require_floats(name)?;
        Ok(found)
    }
}

impl Source for Checkpoint<'_> {
    fn tensor(&mut self, name: &str) -> Result<Tensor> {
        let stored = self.stored(name)?;
        let converted = stored.f_to_kind(self.dtype)?.f_to_device(self.device)?;
        if converted.data_ptr() != stored.data_ptr() {
            self.weights.release(name);
        }
        Ok(converted)
    }

    fn weight(&mut self, name: &str) -> Result<Weight> {
        let Some(quantization) = self.quantization else { return Ok(Weight::Dense(self.tensor(name)?)) };
        if quantization::is_quantized(self.weights, name) {
            let &[rows, columns] = shape_of(&self.shapes, name)? else {
                return Err(Error::bug(format!("`{name}` is no matrix")));
            };
            return Ok(Weight::Nf4(quantization::read(self.weights, name, [rows, columns], self.device)?));
        }
        if self.weights.names().any(|name| quantization::weight_of_part(name).is_some()) {
            // Left out when the others were quantised (`llm_int8_skip_modules`).
            return Ok(Weight::Dense(self.tensor(name)?));
        }
        let quantized = Nf4::quantize(&self.stored(name)?, self.dtype, quantization.double_quant)
            .map_err(|error| error.context(format!("tensor `{name}`")))?;
        self.weights.release(name);
        Ok(Weight::Nf4(quantized.to_device(self.device)?))
    }
}

struct Fresh {
    shapes: Shapes,
    seed: u64,
    dtype: Dtype,
    device: Device,
}

impl Source for Fresh {
    fn tensor(&mut self, name: &str) -> Result<Tensor> {
        let shape = shape_of(&self.shapes, name)?;
        let fresh = match name {
            _ if name.ends_with("norm.weight") => Tensor::f_ones(shape, (Dtype::Float, Device::Cpu))?,
            _ if name.ends_with(".bias") => Tensor::f_zeros(shape, (Dtype::Float, Device::Cpu))?,
            _ => normal(Key::new(self.seed).named("weights").named(name), shape, 0.02)?,
        };
        Ok(fresh.f_to_kind(self.dtype)?.f_to_device(self.device)?)
    }
}

fn normal(key: Key, shape: &[i64], deviation: f64) -> Result<Tensor> {
    let count = shape.iter().product::<i64>() as u64;
    let mut values: Vec<f32> = Vec::new();
    if values.try_reserve_exact(count as usize).is_err() {
        return Err(Error::new(Kind::Memory, format!("not enough memory for a tensor of shape {shape:?}"))
            .with_hint("check the sizes in config.json"));
    }
    values.extend((0..count).map(|i| (key.normal(i) * deviation) as f32));
    Ok(Tensor::f_from_slice(&values)?.f_reshape(shape)?)
}

/// Every tensor that the configuration implies must be there, and nothing else: a tensor
/// left unread would change the model's numbers silently.
fn check_names(config: &Config, weights: &Weights) -> Result<()> {
    let expected: BTreeSet<String> = parameter_shapes(config).into_iter().map(|(name, _)| name).collect();
    let found: BTreeSet<String> = weights.names().map(str::to_owned).collect();
    if let Some(missing) = expected.difference(&found).next() {
        let count = expected.difference(&found).count();
        return Err(Error::model(format!("the checkpoint lacks the tensor `{missing}` ({count} missing in all)"))
            .with_hint("the download may be incomplete, or config.json belongs to another model"));
    }
    let is_part = |name: &str| {
        config.quantization.is_some()
            && quantization::weight_of_part(name).is_some_and(|weight| expected.contains(weight))
    };
    let harmless = |name: &str| {
        name.ends_with("rotary_emb.inv_freq")
            || (config.tie_word_embeddings && name == "lm_head.weight")
            || is_part(name)
    };
    let strangers: Vec<&String> = found.difference(&expected).filter(|name| !harmless(name)).collect();
    if let Some(first) = strangers.first() {
        return Err(Error::model(format!(
            "the checkpoint holds {} tensor(s) that config.json does not account for, first `{first}`",
            strangers.len()
        ))
        .with_hint("ignoring them would change the model's output; check config.json (biases, layers, architecture)"));
    }
    Ok(())
}

/// A decoder of what `source` gives.
pub(super) fn build(config: Config, dtype: Dtype, device: Device, source: &mut dyn Source) -> Result<Decoder> {
    let embed_tokens = source.tensor("model.embed_tokens.weight")?;
    let mut shapes = linear_shapes(&config).into_iter();
    let mut layers = Vec::with_capacity(config.num_hidden_layers);
    for layer in 0..config.num_hidden_layers {
        crate::interrupt::check()?;
        layers.push(build_layer(&config, layer, &mut shapes, source)?);
    }
    let norm = build_norm(&config, "model.norm", source)?;
    let head = shapes.next().ok_or_else(|| Error::bug("no shape for the output head"))?;
    let weight =
        if config.tie_word_embeddings { embed_tokens.shallow_clone() } else { source.tensor("lm_head.weight")? };
    let lm_head = Linear { shape: head, weight: Weight::Dense(weight), bias: None };
    let rotary = RotaryEmbedding::new(config.head_dim, config.rope_theta, &config.rope_scaling, device)?;
    Ok(Decoder { config, embed_tokens, layers, norm, lm_head, rotary, dtype, device })
}

fn build_layer(
    config: &Config,
    layer: usize,
    shapes: &mut dyn Iterator<Item = LinearShape>,
    source: &mut dyn Source,
) -> Result<DecoderLayer> {
    let mut linears = Vec::with_capacity(LINEARS.len());
    for shape in shapes.take(LINEARS.len()) {
        linears.push(build_linear(shape, source)?);
    }
    let [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj] =
        <[Linear; 7]>::try_from(linears).map_err(|_| Error::bug("a layer does not have seven linears"))?;
    let prefix = format!("model.layers.{layer}");
    let head_norm = |name: &str, source: &mut dyn Source| match config.qk_norm() {
        true => build_norm(config, &format!("{prefix}.self_attn.{name}"), source).map(Some),
        false => Ok(None),
    };
    let slides =
        config.sliding_window.as_ref().is_some_and(|window| window.layers.get(layer).copied().unwrap_or(false));
    Ok(DecoderLayer {
        input_layernorm: build_norm(config, &format!("{prefix}.input_layernorm"), source)?,
        self_attn: Attention {
            q_proj,
            k_proj,
            v_proj,
            o_proj,
            q_norm: head_norm("q_norm", source)?,
            k_norm: head_norm("k_norm", source)?,
            head_dim: config.head_dim,
            slides,
        },
        post_attention_layernorm: build_norm(config, &format!("{prefix}.post_attention_layernorm"), source)?,
        mlp: Mlp { gate_proj, up_proj, down_proj },
    })
}

fn build_linear(shape: LinearShape, source: &mut dyn Source) -> Result<Linear> {
    let weight = source.weight(&format!("{}.weight", shape.name))?;
    let bias = if shape.bias { Some(source.tensor(&format!("{}.bias", shape.name))?) } else { None };
    Ok(Linear { shape, weight, bias })
}

fn build_norm(config: &Config, name: &str, source: &mut dyn Source) -> Result<RmsNorm> {
    let weight = source.tensor(&format!("{name}.weight"))?;
    Ok(RmsNorm { name: name.to_owned(), weight, eps: config.rms_norm_eps })
}
