//! One adapter: the A and B matrices of its layers, over one flat buffer.

use super::init::fresh_a;
use super::spec::LoraSpec;
use super::targets::{match_targets, refuse_unmatched_names, Target};
use crate::error::Result;
use crate::model::shapes::{linear_shapes, LinearShape};
use crate::model::{Config, Parameters};
use tch::{Device, Kind as Dtype, Tensor};

#[derive(Debug)]
pub struct Adapter {
    pub spec: LoraSpec,
    pub targets: Vec<Target>,
    pub parameters: Parameters,
    /// By [`LinearShape::index`]: where the layer stands in `targets`.
    by_linear: Vec<Option<usize>>,
}

/// The matrices of one layer. Both are f32 leaves of autograd.
#[derive(Debug, Clone, Copy)]
pub struct LowRank<'a> {
    /// `[r, in_features]`
    pub a: &'a Tensor,
    /// `[out_features, r]`
    pub b: &'a Tensor,
    /// Where their gradients add up.
    pub grad_a: &'a Tensor,
    pub grad_b: &'a Tensor,
    pub scale: f64,
}

impl Adapter {
    /// A fresh adapter on the model of `config`: A random from `seed`, B zero.
    pub fn new(spec: LoraSpec, config: &Config, seed: u64, device: Device) -> Result<Self> {
        refuse_unmatched_names(&spec, &linear_shapes(config))?;
        let mut adapter = Self::zeros(spec, config, Dtype::Float, device)?;
        for (at, target) in adapter.targets.iter().enumerate() {
            let a = fresh_a(adapter.spec.init, seed, &target.linear.name, target.r, target.linear.in_features)?;
            adapter.parameters.set(2 * at, &a)?;
        }
        Ok(adapter)
    }

    /// An adapter of zeros, to be filled from a file (or in f64, for gradient checks).
    pub fn zeros(spec: LoraSpec, config: &Config, dtype: Dtype, device: Device) -> Result<Self> {
        let linears = linear_shapes(config);
        let targets = match_targets(&spec, &linears)?;
        let mut by_linear = vec![None; linears.len()];
        let mut shapes = Vec::with_capacity(2 * targets.len());
        for (at, Target { linear, r, .. }) in targets.iter().enumerate() {
            by_linear[linear.index] = Some(at);
            shapes.push((format!("{}.lora_A.weight", linear.name), vec![*r, linear.in_features]));
            shapes.push((format!("{}.lora_B.weight", linear.name), vec![linear.out_features, *r]));
        }
        Ok(Adapter { spec, targets, parameters: Parameters::of_kind(&shapes, dtype, device)?, by_linear })
    }

    /// The matrices that adapt `linear`, if it is a target.
    pub fn low_rank(&self, linear: &LinearShape) -> Option<LowRank<'_>> {
        let at = (*self.by_linear.get(linear.index)?)?;
        let (leaves, gradients) = (self.parameters.leaves(), self.parameters.gradients());
        let (a, b) = (2 * at, 2 * at + 1);
        Some(LowRank {
            a: leaves.get(a)?,
            b: leaves.get(b)?,
            grad_a: gradients.get(a)?,
            grad_b: gradients.get(b)?,
            scale: self.targets.get(at)?.scale,
        })
    }
}

/// The number of parameters that `spec` would train on the model of `config`, without
/// weights.
pub fn trainable_count(spec: &LoraSpec, config: &Config) -> Result<u64> {
    let targets = match_targets(spec, &linear_shapes(config))?;
    Ok(targets.iter().map(|target| (target.r * (target.linear.in_features + target.linear.out_features)) as u64).sum())
}

/// PEFT's line: `trainable params: 1,234 || all params: 5,678 || trainable%: 21.7330`.
/// `all` counts the base and the adapters.
pub fn count_line(trainable: u64, all: u64) -> String {
    let share = 100.0 * trainable as f64 / (all as f64).max(1.0);
    format!("trainable params: {} || all params: {} || trainable%: {share:.4}", thousands(trainable), thousands(all))
}

/// 1234567 as "1,234,567".
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
