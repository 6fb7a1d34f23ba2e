//! One adapter: what it trains in each layer, over one flat buffer.

use super::dora;
use super::init::fresh_a;
use super::layout::{Layout, Places};
use super::residual::Taken;
use super::spec::{Bias, LoraSpec};
use super::targets::{fresh_targets, match_targets, Target};
use crate::amount::thousands;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::full::is_decayed;
use crate::model::linear::Linear;
use crate::model::shapes::{linear_shapes, LinearShape};
use crate::model::{Config, Decoder, Parameters};
use tch::{Device, Kind as Dtype, Tensor};

#[derive(Debug)]
pub struct Adapter {
    pub spec: LoraSpec,
    pub targets: Vec<Target>,
    pub parameters: Parameters,
    pub(super) layout: Layout,
    /// By target, where the adapter begins with a part of the base; else empty.
    pub(super) taken: Vec<Taken>,
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
    /// What the base lacks of its weight under this adapter.
    pub taken: Option<&'a Taken>,
    /// DoRA's length of each row of the weight, `[out_features]`.
    pub magnitude: Option<&'a Tensor>,
}

/// What an adapter has in the place of parts of a layer: leaves of autograd.
#[derive(Debug, Clone, Copy)]
pub struct Whole<'a> {
    /// `[out_features, in_features]`
    pub weight: Option<&'a Tensor>,
    /// `[out_features]`
    pub bias: Option<&'a Tensor>,
}

impl Adapter {
    /// A fresh adapter on `decoder`, random from `seed`. It changes nothing before it is
    /// trained: B is zero, or begins with what the base then lacks.
    pub fn new(spec: LoraSpec, decoder: &Decoder, seed: u64) -> Result<Self> {
        fresh_targets(&spec, &linear_shapes(&decoder.config))?;
        let mut adapter = Self::zeros(spec, &decoder.config, Dtype::Float, decoder.device)?;
        adapter.take_from(decoder)?;
        for at in 0..adapter.targets.len() {
            adapter.begin_low_rank(at, seed)?;
        }
        for linear in decoder.linears() {
            adapter.begin_whole(linear)?;
        }
        if let Some(leaf) = adapter.layout.embedding {
            adapter.parameters.set(leaf, &decoder.embed_tokens)?;
        }
        Ok(adapter)
    }

    /// An adapter of zeros, to be filled from a file (or in f64, for gradient checks).
    pub fn zeros(spec: LoraSpec, config: &Config, dtype: Dtype, device: Device) -> Result<Self> {
        let targets = match_targets(&spec, &linear_shapes(config))?;
        let layout = Layout::new(&spec, &targets, config);
        let mut parameters = Parameters::of_kind(&layout.shapes, dtype, device)?;
        if layout.shapes.iter().any(|(name, _)| !is_decayed(name)) {
            parameters.limit_decay(is_decayed)?;
        }
        Ok(Adapter { spec, targets, parameters, layout, taken: Vec::new() })
    }

    /// Computes what the base lacks under this adapter; nothing for most.
    pub(super) fn take_from(&mut self, decoder: &Decoder) -> Result<()> {
        if !self.spec.init.takes_from_base() {
            return Ok(());
        }
        let linears: Vec<&Linear> = decoder.linears().collect();
        let taken = self.targets.iter().map(|target| {
            interrupt::check()?;
            let linear = linears.get(target.linear.index).ok_or_else(|| Error::bug("a target outside the decoder"))?;
            let weight = linear.weight.dense().map_err(|error| {
                error
                    .context(format!("`{}`: PiSSA and OLoRA", linear.shape.name))
                    .with_hint("begin them over the model in f32 or bf16; over 4 bits use the default init")
            })?;
            Taken::of(self.spec.init, target, weight)
        });
        self.taken = taken.collect::<Result<_>>()?;
        Ok(())
    }

    fn begin_low_rank(&mut self, at: usize, seed: u64) -> Result<()> {
        if let Some(Taken { a, b }) = self.taken.get(at) {
            self.parameters.set(2 * at, a)?;
            return self.parameters.set(2 * at + 1, b);
        }
        let Target { linear, r, .. } = &self.targets[at];
        let a = fresh_a(self.spec.init, seed, &linear.name, *r, linear.in_features)?;
        self.parameters.set(2 * at, &a)
    }

    /// Copies of the layer's own weights, and DoRA's magnitudes.
    fn begin_whole(&mut self, linear: &Linear) -> Result<()> {
        let Places { magnitude, weight, bias, .. } = self.layout.of(&linear.shape);
        if let Some(leaf) = weight {
            self.parameters.set(leaf, linear.weight.dense()?)?;
        }
        if let (Some(leaf), Some(bias)) = (bias, &linear.bias) {
            self.parameters.set(leaf, bias)?;
        }
        if let (Some(leaf), Some(low_rank)) = (magnitude, self.low_rank(&linear.shape)) {
            let norms = dora::row_norms(&linear.weight.to_dense(Dtype::Float)?, &low_rank)?;
            self.parameters.set(leaf, &norms)?;
        }
        Ok(())
    }

    /// The matrices that adapt `linear`, if it is a target.
    pub fn low_rank(&self, linear: &LinearShape) -> Option<LowRank<'_>> {
        let places = self.layout.of(linear);
        let at = places.target?;
        let gradients = self.parameters.gradients();
        let (a, b) = (2 * at, 2 * at + 1);
        Some(LowRank {
            a: self.leaf(Some(a))?,
            b: self.leaf(Some(b))?,
            grad_a: gradients.get(a)?,
            grad_b: gradients.get(b)?,
            scale: self.targets.get(at)?.scale,
            taken: self.taken.get(at),
            magnitude: self.leaf(places.magnitude),
        })
    }

    /// The adapter's own weight and bias in the place of those of `linear`.
    pub fn whole(&self, linear: &LinearShape) -> Whole<'_> {
        let places = self.layout.of(linear);
        Whole { weight: self.leaf(places.weight), bias: self.leaf(places.bias) }
    }

    /// The adapter's own embeddings, `[vocabulary, width]`.
    pub fn embedding(&self) -> Option<&Tensor> {
        self.leaf(self.layout.embedding)
    }

    /// Does the adapter take part in this layer at all?
    pub fn touches(&self, linear: &LinearShape) -> bool {
        !self.layout.of(linear).is_empty()
    }

    /// Fails where the adapter is more than matrices A and B beside the base: `what` needs that.
    pub fn require_plain(&self, what: &str) -> Result<()> {
        let LoraSpec { use_dora, init, bias, modules_to_save, .. } = &self.spec;
        let more = match () {
            () if *use_dora => "DoRA's magnitudes",
            () if init.takes_from_base() => "a part taken from the base (PiSSA or OLoRA)",
            () if *bias != Bias::None => "trained biases",
            () if !modules_to_save.is_empty() => "whole modules",
            () => return Ok(()),
        };
        Err(Error::input(format!("{what}: expected an adapter of A and B alone, found one with {more}")))
    }

    /// The number of parameters beyond those of the base: what PEFT adds to its count.
    pub fn added_count(&self) -> u64 {
        self.layout.added()
    }

    fn leaf(&self, at: Option<usize>) -> Option<&Tensor> {
        self.parameters.leaves().get(at?)
    }
}

/// The number of parameters that `spec` would train on the model of `config`, without
/// weights.
pub fn trainable_count(spec: &LoraSpec, config: &Config) -> Result<u64> {
    Ok(Layout::new(spec, &fresh_targets(spec, &linear_shapes(config))?, config).count())
}

/// How many of these [`Adapter::added_count`] would count.
pub fn added_count(spec: &LoraSpec, config: &Config) -> Result<u64> {
    Ok(Layout::new(spec, &match_targets(spec, &linear_shapes(config))?, config).added())
}

/// PEFT's line: `trainable params: 1,234 || all params: 5,678 || trainable%: 21.7330`.
/// `all` counts the base and the adapters.
pub fn count_line(trainable: u64, all: u64) -> String {
    let share = 100.0 * trainable as f64 / (all as f64).max(1.0);
    format!("trainable params: {} || all params: {} || trainable%: {share:.4}", thousands(trainable), thousands(all))
}
