//! Building a decoder: from the mapped tensors of a folder, or from random numbers.

use super::config::Config;
use super::decoder::{Attention, Decoder, DecoderLayer, Mlp};
use super::linear::Linear;
use super::norm::RmsNorm;
use super::rope::RotaryEmbedding;
use super::shapes::{linear_shapes, parameter_shapes, LinearShape, LINEARS};
use crate::error::{Error, Kind, Result};
use crate::hub::weights::{Mapping, Weights};
use crate::random::Key;
use std::collections::BTreeSet;
use tch::{Device, Kind as Dtype, Tensor};

/// Loads a decoder from an opened checkpoint. Weights already in `dtype` and on the CPU
/// stay in the mapping; others are converted one at a time.
pub fn load(config: Config, weights: &Weights, dtype: Dtype, device: Device) -> Result<Decoder> {
    check_names(&config, weights)?;
    let shapes: std::collections::HashMap<_, _> = parameter_shapes(&config).into_iter().collect();
    let mut decoder = build(config, dtype, device, &mut |name| {
        let found = weights.tensor(name)?;
        let expected = shapes.get(name).ok_or_else(|| Error::bug(format!("`{name}` has no shape")))?;
        if found.size() != *expected {
            return Err(Error::model(format!(
                "tensor `{name}`: expected shape {expected:?}, found {:?}",
                found.size()
            ))
            .with_hint("the checkpoint does not belong to its config.json"));
        }
        weights.require_floats(name)?;
        Ok(found.f_to_kind(dtype)?.f_to_device(device)?)
    })?;
    decoder.mapping = weights.mapping();
    Ok(decoder)
}

/// A decoder with fresh weights as transformers initialises them: normal with standard
/// deviation 0.02, norms one, biases zero. A pure function of `seed`.
pub fn random(config: Config, seed: u64, dtype: Dtype, device: Device) -> Result<Decoder> {
    let shapes: std::collections::HashMap<_, _> = parameter_shapes(&config).into_iter().collect();
    build(config, dtype, device, &mut |name| {
        let shape = shapes.get(name).ok_or_else(|| Error::bug(format!("`{name}` has no shape")))?;
        let fresh = match name {
            _ if name.ends_with("norm.weight") => Tensor::f_ones(shape, (Dtype::Float, Device::Cpu))?,
            _ if name.ends_with(".bias") => Tensor::f_zeros(shape, (Dtype::Float, Device::Cpu))?,
            _ => normal(Key::new(seed).named("weights").named(name), shape, 0.02)?,
        };
        Ok(fresh.f_to_kind(dtype)?.f_to_device(device)?)
    })
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
    let harmless =
        |name: &str| name.ends_with("rotary_emb.inv_freq") || (config.tie_word_embeddings && name == "lm_head.weight");
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

/// A decoder whose tensors `tensor` gives by their names.
pub(super) fn build(
    config: Config,
    dtype: Dtype,
    device: Device,
    tensor: &mut dyn FnMut(&str) -> Result<Tensor>,
) -> Result<Decoder> {
    let embed_tokens = tensor("model.embed_tokens.weight")?;
    let mut shapes = linear_shapes(&config).into_iter();
    let mut layers = Vec::with_capacity(config.num_hidden_layers);
    for layer in 0..config.num_hidden_layers {
        crate::interrupt::check()?;
        layers.push(build_layer(&config, layer, &mut shapes, tensor)?);
    }
    let norm = build_norm(&config, "model.norm", tensor)?;
    let head = shapes.next().ok_or_else(|| Error::bug("no shape for the output head"))?;
    let weight = if config.tie_word_embeddings { embed_tokens.shallow_clone() } else { tensor("lm_head.weight")? };
    let lm_head = Linear { shape: head, weight, bias: None };
    let rotary = RotaryEmbedding::new(config.head_dim, config.rope_theta, &config.rope_scaling, device)?;
    Ok(Decoder { config, embed_tokens, layers, norm, lm_head, rotary, dtype, device, mapping: Mapping::default() })
}

fn build_layer(
    config: &Config,
    layer: usize,
    shapes: &mut dyn Iterator<Item = LinearShape>,
    tensor: &mut dyn FnMut(&str) -> Result<Tensor>,
) -> Result<DecoderLayer> {
    let mut linears = Vec::with_capacity(LINEARS.len());
    for shape in shapes.take(LINEARS.len()) {
        linears.push(build_linear(shape, tensor)?);
    }
    let [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj] =
        <[Linear; 7]>::try_from(linears).map_err(|_| Error::bug("a layer does not have seven linears"))?;
    let prefix = format!("model.layers.{layer}");
    let head_norm = |name: &str, tensor: &mut dyn FnMut(&str) -> Result<Tensor>| match config.qk_norm() {
        true => build_norm(config, &format!("{prefix}.self_attn.{name}"), tensor).map(Some),
        false => Ok(None),
    };
    let slides =
        config.sliding_window.as_ref().is_some_and(|window| window.layers.get(layer).copied().unwrap_or(false));
    Ok(DecoderLayer {
        input_layernorm: build_norm(config, &format!("{prefix}.input_layernorm"), tensor)?,
        self_attn: Attention {
            q_proj,
            k_proj,
            v_proj,
            o_proj,
            q_norm: head_norm("q_norm", tensor)?,
            k_norm: head_norm("k_norm", tensor)?,
            head_dim: config.head_dim,
            slides,
        },
        post_attention_layernorm: build_norm(config, &format!("{prefix}.post_attention_layernorm"), tensor)?,
        mlp: Mlp { gate_proj, up_proj, down_proj },
    })
}

fn build_linear(shape: LinearShape, tensor: &mut dyn FnMut(&str) -> Result<Tensor>) -> Result<Linear> {
    let weight = tensor(&format!("{}.weight", shape.name))?;
    let bias = if shape.bias { Some(tensor(&format!("{}.bias", shape.name))?) } else { None };
    Ok(Linear { shape, weight, bias })
}

fn build_norm(config: &Config, name: &str, tensor: &mut dyn FnMut(&str) -> Result<Tensor>) -> Result<RmsNorm> {
    Ok(RmsNorm { weight: tensor(&format!("{name}.weight"))?, eps: config.rms_norm_eps })
}
