//! Builds a decoder from the mapped tensors of a checkpoint, or from random numbers.

use super::architecture::{ExpertShapes, NormKind, Projections};
use super::attention::Scores;
use super::config::Config;
use super::decoder::{Attention, Decoder, DecoderLayer, FeedForward, GateUp, LayerNorms, Mlp, QueryKeyValue};
use super::experts::{Expert, Experts};
use super::linear::{Linear, Weight};
use super::norm::RmsNorm;
use super::packing;
use super::quantization::{self, Quantization};
use super::rope::RotaryEmbedding;
use super::shapes::{expert_tensors, layer_norms, linear_shapes, parameter_shapes, LinearShape, EMBEDDING};
use super::stored::{CheckpointNames, HEAD};
use crate::error::{Error, Kind, Result};
use crate::hub::mapped::MappedFiles;
use crate::hub::weights::Weights;
use crate::native::Nf4;
use crate::random::Key;
use rayon::prelude::*;
use std::collections::HashMap;
use tch::{Device, Kind as Dtype, Tensor};

/// Loads a decoder from an opened checkpoint. Weights already in `dtype` and on the CPU stay mapped; others
/// are converted one at a time, and the pages that they were read from are released. If
/// `config.quantization` is set, the linear layers are 4-bit: as in the checkpoint, or quantised here from
/// their values in `dtype`.
pub fn load(config: Config, weights: &Weights, dtype: Dtype, device: Device) -> Result<Decoder> {
    let stored = CheckpointNames::find(&config, weights)?;
    let quantization = config.quantization;
    let mut shapes: Shapes = parameter_shapes(&config).into_iter().collect();
    shapes.insert(HEAD.to_owned(), vec![config.vocab_size, config.hidden_size]);
    let mut notes = stored.notes();
    let mut source = Checkpoint { weights, stored, shapes, quantization, dtype, device };
    let mut config = config;
    if config.tie_word_embeddings && source.stored.has_both_ends && !source.ends_are_equal()? {
        notes.push(
            "config.json ties the output head to the embedding, but `lm_head.weight` in the checkpoint differs from it: \
             the head is loaded untied, as in transformers; set tie_word_embeddings to false in config.json"
                .to_owned(),
        );
        config.tie_word_embeddings = false;
    }
    notes.extend(config.notes());
    let mut decoder = build(config, dtype, device, &mut source)?;
    notes.extend(source.other_frequencies(&decoder)?);
    if source.has_fp4() {
        decoder.config.quantization = None;
        notes.push(format!(
            "the checkpoint is quantised to fp4, so its weights are made dense: {} in all",
            crate::format::bytes(decoder.weight_bytes())
        ));
    }
    decoder.notes = notes;
    decoder.pack(packing::choice(dtype)?, Some(weights))?;
    // Later only those count that stay mapped; here also those whose tensors were copied.
    let files = weights.files();
    files.ensure_unchanged()?;
    decoder.files = files;
    Ok(decoder)
}

/// A decoder with random dense weights, initialised as in transformers: normal with standard deviation 0.02,
/// norms the identity, biases zero. A pure function of `seed`.
pub fn random(config: Config, seed: u64, dtype: Dtype, device: Device) -> Result<Decoder> {
    let shapes = parameter_shapes(&config).into_iter().collect();
    let config = Config { quantization: None, ..config };
    let norm_weight = if config.architecture.norm_kind == NormKind::UnitOffset { 0.0 } else { 1.0 };
    let mut decoder = build(config, dtype, device, &mut RandomWeights { shapes, seed, norm_weight, dtype, device })?;
    decoder.pack(packing::choice(dtype)?, None)?;
    Ok(decoder)
}

/// Where the weights come from, by their names in a checkpoint.
pub(super) trait Source {
    fn tensor(&mut self, name: &str) -> Result<Tensor>;

    /// The matrix of an untied output head.
    fn head(&mut self) -> Result<Weight> {
        Ok(Weight::Dense(self.tensor(HEAD)?))
    }

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
    stored: CheckpointNames,
    shapes: Shapes,
    quantization: Option<Quantization>,
    dtype: Dtype,
    device: Device,
}

impl Checkpoint<'_> {
    /// The tensor `name` as in the file.
    fn stored(&self, name: &str) -> Result<Tensor> {
        let stored = self.stored.name(name);
        let (tensor, expected) = (self.weights.tensor(stored)?, shape_of(&self.shapes, name)?);
        if tensor.size() != expected {
            return Err(Error::model(format!(
                "tensor `{stored}`: expected shape {expected:?}, found {:?}",
                tensor.size()
            ))
            .with_hint("the checkpoint does not belong to its config.json"));
        }
        self.weights.ensure_floats(stored)?;
        Ok(tensor)
    }

    fn is_quantized(&self, name: &str) -> bool {
        self.quantization.is_some() && quantization::is_quantized(self.weights, self.stored.name(name))
    }

    fn quantized(&self, name: &str) -> Result<Weight> {
        let &[rows, columns] = shape_of(&self.shapes, name)? else {
            return Err(Error::bug(format!("`{name}` is not a matrix")));
        };
        quantization::read(self.weights, self.stored.name(name), [rows, columns], self.dtype, self.device)
    }

    fn has_fp4(&self) -> bool {
        self.quantization.is_some() && self.weights.names().any(quantization::is_fp4_state)
    }

    /// Whether head and embedding of a tied model are equal, in the dtype that they are loaded in.
    fn ends_are_equal(&mut self) -> Result<bool> {
        if self.is_quantized(HEAD) {
            return Ok(false);
        }
        let (head, embedding) = (self.stored(HEAD)?, self.stored(&format!("{EMBEDDING}.weight"))?);
        let equal = head.f_to_kind(self.dtype)?.f_equal(&embedding.f_to_kind(self.dtype)?)?;
        [HEAD, "model.embed_tokens.weight"].iter().for_each(|name| self.weights.release(self.stored.name(name)));
        Ok(equal)
    }

    /// A note if the rotary frequencies in an older checkpoint differ from those of its config.json.
    fn other_frequencies(&self, decoder: &Decoder) -> Result<Option<String>> {
        let configured = decoder.rotary.frequencies().f_to_device(Device::Cpu)?;
        for name in &self.stored.frequencies {
            let stored = self.weights.tensor(name)?.f_to_kind(Dtype::Float)?;
            // They may be stored in bf16, which has 8 bits of precision.
            let same = stored.size() == configured.size()
                && stored
                    .f_sub(&configured)?
                    .f_abs()?
                    .f_le_tensor(&configured.f_mul_scalar(0.01)?)?
                    .f_all()?
                    .f_is_nonzero()?;
            if !same {
                return Ok(Some(format!(
                    "`{name}` in the checkpoint differs from the rotary frequencies of config.json: those of config.json are \
                     used, as in transformers"
                )));
            }
        }
        Ok(None)
    }
}

impl Source for Checkpoint<'_> {
    fn tensor(&mut self, name: &str) -> Result<Tensor> {
        let stored = self.stored(name)?;
        let converted = stored.f_to_kind(self.dtype)?.f_to_device(self.device)?;
        if converted.data_ptr() != stored.data_ptr() {
            self.weights.release(self.stored.name(name));
        }
        Ok(converted)
    }

    /// Stays dense unless the checkpoint has it quantised (`llm_int8_skip_modules`).
    fn head(&mut self) -> Result<Weight> {
        if self.is_quantized(HEAD) {
            return self.quantized(HEAD);
        }
        Ok(Weight::Dense(self.tensor(HEAD)?))
    }

    fn weight(&mut self, name: &str) -> Result<Weight> {
        let Some(quantization) = self.quantization else { return Ok(Weight::Dense(self.tensor(name)?)) };
        if self.is_quantized(name) {
            return self.quantized(name);
        }
        if self.weights.names().any(|name| quantization::weight_of_part(name).is_some()) {
            // The checkpoint keeps this layer dense (`llm_int8_skip_modules`).
            return Ok(Weight::Dense(self.tensor(name)?));
        }
        let quantized = Nf4::quantize(&self.stored(name)?, self.dtype, quantization.double_quant)
            .map_err(|error| error.context(format!("tensor `{name}`")))?;
        self.weights.release(self.stored.name(name));
        Ok(Weight::Nf4(quantized.to_device(self.device)?))
    }
}

struct RandomWeights {
    shapes: Shapes,
    seed: u64,
    /// Of every norm: 0 where the weight is added to one.
    norm_weight: f64,
    dtype: Dtype,
    device: Device,
}

impl Source for RandomWeights {
    fn tensor(&mut self, name: &str) -> Result<Tensor> {
        let shape = shape_of(&self.shapes, name)?;
        let values = match name {
            _ if name.ends_with("norm.weight") => Tensor::f_full(shape, self.norm_weight, (Dtype::Float, Device::Cpu))?,
            _ if name.ends_with(".bias") => Tensor::f_zeros(shape, (Dtype::Float, Device::Cpu))?,
            _ => normal(Key::new(self.seed).named("weights").named(name), shape, 0.02)?,
        };
        Ok(values.f_to_kind(self.dtype)?.f_to_device(self.device)?)
    }
}

fn normal(key: Key, shape: &[i64], deviation: f64) -> Result<Tensor> {
    let count = shape.iter().product::<i64>() as u64;
    let mut values: Vec<f32> = Vec::new();
    if values.try_reserve_exact(count as usize).is_err() {
        return Err(Error::new(Kind::Memory, format!("not enough memory for a tensor of shape {shape:?}"))
            .with_hint("check the sizes in config.json"));
    }
    let numbers = (0..count as usize).into_par_iter().with_min_len(1 << 14);
    numbers.map(|i| (key.normal(i as u64) * deviation) as f32).collect_into_vec(&mut values);
    Ok(Tensor::f_from_slice(&values)?.f_reshape(shape)?)
}

/// Builds a decoder from the weights of `source`.
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
        if config.tie_word_embeddings { Weight::Dense(embed_tokens.shallow_clone()) } else { source.head()? };
    let lm_head = Linear { shape: head, weight, bias: None };
    let rotary = RotaryEmbedding::new(config.rotary_dim, config.rope_theta, &config.rope_scaling, device)?;
    let local = config.architecture.local_rope.as_ref();
    let local = local.map(|rope| RotaryEmbedding::new(config.rotary_dim, rope.theta, &rope.scaling, device));
    let local_rotary = local.transpose()?;
    Ok(Decoder {
        config,
        embed_tokens,
        layers,
        norm,
        lm_head,
        rotary,
        local_rotary,
        dtype,
        device,
        notes: Vec::new(),
        files: MappedFiles::default(),
    })
}

fn build_layer(
    config: &Config,
    layer: usize,
    shapes: &mut dyn Iterator<Item = LinearShape>,
    source: &mut dyn Source,
) -> Result<DecoderLayer> {
    let qkv = match config.architecture.projections {
        Projections::Separate => QueryKeyValue::Separate(Box::new(build_group(shapes, source)?)),
        Projections::Fused => {
            let (queries, keys) = (config.num_attention_heads, config.num_key_value_heads);
            let widths = [queries, keys, keys].map(|heads| heads * config.head_dim);
            QueryKeyValue::Fused(Box::new(build_next(shapes, source)?), widths)
        }
    };
    let o_proj = build_next(shapes, source)?;
    let feed_forward = match config.experts(layer) {
        Some(experts) => FeedForward::Experts(build_experts(config, experts, layer, source)?),
        None => {
            let gate_up = match config.architecture.projections {
                Projections::Separate => GateUp::Separate(Box::new(build_group(shapes, source)?)),
                Projections::Fused => GateUp::Fused(Box::new(build_next(shapes, source)?)),
            };
            let down_proj = build_next(shapes, source)?;
            FeedForward::Mlp(Box::new(Mlp { gate_up, down_proj, activation: config.hidden_act }))
        }
    };
    let mut norm = |name: Option<&str>| {
        let name = name.map(|name| format!("model.layers.{layer}.{name}"));
        name.map(|name| build_norm(config, &name, source)).transpose()
    };
    let [before_attention, after_attention, before_mlp, after_mlp] = layer_norms(config.architecture.norm_placement);
    let norms = LayerNorms {
        before_attention: norm(before_attention)?,
        after_attention: norm(after_attention)?,
        before_mlp: norm(before_mlp)?,
        after_mlp: norm(after_mlp)?,
    };
    let has_qk_norm = config.architecture.qk_norm.is_some();
    Ok(DecoderLayer {
        norms,
        self_attn: Attention {
            qkv,
            o_proj,
            q_norm: norm(has_qk_norm.then_some("self_attn.q_norm"))?,
            k_norm: norm(has_qk_norm.then_some("self_attn.k_norm"))?,
            head_dim: config.head_dim,
            rotation: config.rotation(layer),
            uses_sliding_window: config.uses_sliding_window(layer),
            scores: Scores::new(config),
        },
        feed_forward,
        residual_multiplier: config.architecture.residual_multiplier,
    })
}

fn build_experts(config: &Config, shapes: &ExpertShapes, layer: usize, source: &mut dyn Source) -> Result<Experts> {
    let mut names = expert_tensors(config, layer).into_iter().map(|(name, _)| name);
    let mut next = || {
        crate::interrupt::check()?;
        source.tensor(&names.next().ok_or_else(|| Error::bug("a mixture without a tensor"))?)
    };
    let router = next()?;
    let expert = |_| Ok(Expert { gate: next()?, up: next()?, down: next()? });
    let experts = (0..shapes.count).map(expert).collect::<Result<_>>()?;
    Ok(Experts { router, experts, routing: shapes.routing, activation: config.hidden_act })
}

/// The next linear layers, which read the same input.
fn build_group<const N: usize>(
    shapes: &mut dyn Iterator<Item = LinearShape>,
    source: &mut dyn Source,
) -> Result<[Linear; N]> {
    let mut linears = (0..N).map(|_| build_next(shapes, source)).collect::<Result<Vec<_>>>()?;
    join(&mut linears)?;
    linears.try_into().map_err(|_| Error::bug("a group of linear layers of another size"))
}

fn build_next(shapes: &mut dyn Iterator<Item = LinearShape>, source: &mut dyn Source) -> Result<Linear> {
    let shape = shapes.next().ok_or_else(|| Error::bug("no shape for a linear layer"))?;
    build_linear(shape, source)
}

fn build_linear(shape: LinearShape, source: &mut dyn Source) -> Result<Linear> {
    let weight = source.weight(&format!("{}.weight", shape.name))?;
    let bias = if shape.bias { Some(source.tensor(&format!("{}.bias", shape.name))?) } else { None };
    Ok(Linear { shape, weight, bias })
}

/// Puts the weights of layers that read the same input side by side on a GPU, so that they take one product.
fn join(linears: &mut [Linear]) -> Result<()> {
    let dense = linears.iter().map(|linear| linear.weight.dense().ok()).collect::<Option<Vec<&Tensor>>>();
    let is_frozen_on_gpu = |weight: &&Tensor| weight.device() != Device::Cpu && !weight.requires_grad();
    let Some(weights) = dense.filter(|weights| weights.iter().all(is_frozen_on_gpu)) else { return Ok(()) };
    let weights = parts_of_one(&weights)?;
    let biases = linears.iter().map(|linear| linear.bias.as_ref()).collect::<Option<Vec<&Tensor>>>();
    let biases = biases.map(|biases| parts_of_one(&biases)).transpose()?;
    for (linear, weight) in linears.iter_mut().zip(weights) {
        linear.weight = Weight::Dense(weight);
    }
    for (linear, bias) in linears.iter_mut().zip(biases.into_iter().flatten()) {
        linear.bias = Some(bias);
    }
    Ok(())
}

/// Copies of `tensors` that are rows of one tensor.
fn parts_of_one(tensors: &[&Tensor]) -> Result<Vec<Tensor>> {
    let rows: Vec<i64> = tensors.iter().map(|tensor| tensor.size()[0]).collect();
    Ok(Tensor::f_cat(tensors, 0)?.f_split_with_sizes(rows.as_slice(), 0)?)
}

fn build_norm(config: &Config, name: &str, source: &mut dyn Source) -> Result<RmsNorm> {
    let weight = source.tensor(&format!("{name}.weight"))?;
    let kind = config.architecture.norm_kind;
    Ok(RmsNorm { name: name.to_owned(), weight, eps: config.rms_norm_eps, kind })
}
