//! The starting values of an adapter's A matrices.
//!
//! Values are keyed by (seed, layer name, position), so they depend neither on the rank
//! nor on other layers: the A of rank r is the first r rows of the A of any larger rank.
//! So ranks under one seed start from nested values.

use super::spec::Init;
use crate::error::{Error, Result};
use crate::model::shapes::EMBEDDING;
use crate::random::Key;
use tch::Tensor;

/// A fresh `[r, in_features]` matrix.
///
/// Uniform: kaiming_uniform with a = √5, which is U(±1/√in) (PEFT's default).
/// Gaussian: standard deviation 1/r.
pub fn fresh_a(init: Init, seed: u64, layer_name: &str, r: i64, in_features: i64) -> Result<Tensor> {
    let key = Key::new(seed).named("lora_A").named(layer_name);
    let counters = 0..(r * in_features) as u64;
    let values: Vec<f32> = match init {
        Init::Pissa | Init::Olora => return Err(Error::bug("PiSSA and OLoRA initialise A from the base")),
        Init::KaimingUniform => {
            let bound = 1.0 / (in_features as f64).sqrt();
            counters.map(|i| ((2.0 * key.uniform(i) - 1.0) * bound) as f32).collect()
        }
        Init::Gaussian => counters.map(|i| (key.normal(i) / r as f64) as f32).collect(),
    };
    Ok(Tensor::f_from_slice(&values)?.f_reshape([r, in_features])?)
}

/// A fresh B of the embeddings, `[width, r]`: standard normal, as in PEFT; A is zero there.
pub fn fresh_embedding_b(seed: u64, width: i64, r: i64) -> Result<Tensor> {
    let key = Key::new(seed).named("lora_embedding_B").named(EMBEDDING);
    // By column, so that rank r is the first r columns of any larger rank.
    let values: Vec<f32> = (0..(r * width) as u64).map(|i| key.normal(i) as f32).collect();
    Ok(Tensor::f_from_slice(&values)?.f_reshape([r, width])?.f_tr()?)
}
