//! How rotary frequencies are changed to reach beyond the length of pretraining: reading
//! `rope_parameters` and `rope_scaling`, and the frequencies, in the order of operations of
//! transformers, so that the numbers agree.
//!
//! Leaves the rotation itself to `rope.rs`.

use super::fields::Fields;
use crate::bail;
use crate::error::{Error, Kind, Result};
use serde_json::Value;
use std::f64::consts::TAU;
use tch::{Device, Kind as Dtype, Tensor};

#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    None,
    /// Every frequency divided by `factor`.
    Linear {
        factor: f64,
    },
    /// As `Linear`, and only the first `proportion` of the channels turn.
    Proportional {
        factor: f64,
        proportion: f64,
    },
    /// Low frequencies divided by `factor`, high ones kept, a smooth passage between.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_position_embeddings: f64,
    },
    /// Frequencies divided by `factor` or kept by how often they turn within the context
    /// (Peng et al. 2023, "YaRN").
    Yarn(Yarn),
    /// A larger base for sequences longer than `max_position_embeddings`. A module of transformers keeps
    /// the base of the longest sequence that it has read until one shorter than
    /// `max_position_embeddings` comes; here each batch has its own, as in a module that has read nothing.
    Dynamic {
        factor: f64,
        max_position_embeddings: f64,
    },
    /// Each frequency divided by a number of its own, which is another one for sequences longer
    /// than the original context (Ding et al. 2024, "LongRoPE").
    LongRope {
        short_factor: Vec<f64>,
        long_factor: Vec<f64>,
        attention_factor: f64,
        original_max_position_embeddings: f64,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Yarn {
    pub factor: f64,
    /// What cosines and sines are multiplied by.
    pub attention_factor: f64,
    pub beta_fast: f64,
    pub beta_slow: f64,
    pub original_max_position_embeddings: f64,
    /// Whether the bounds of the passage are whole channels.
    pub truncate: bool,
}

/// The base of the frequencies and their scaling, as transformers resolves them: a `rope_scaling`
/// that is not empty takes the place of all of `rope_parameters`; `rope_theta` within it goes before the one
/// beside it, which goes before 10000.
pub(super) fn from_fields(fields: &Fields, head_dim: i64, positions: i64, nests: bool) -> Result<(f64, RopeScaling)> {
    const DEFAULT_THETA: f64 = 10_000.0;
    let is_empty = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
    let (name, rope) =
        match (fields.get("rope_scaling").filter(|value| !is_empty(value)), fields.get("rope_parameters")) {
            (Some(rope), _) => ("rope_scaling", rope),
            (None, Some(rope)) => ("rope_parameters", rope),
            (None, None) => return Ok((fields.number_or("rope_theta", DEFAULT_THETA)?, RopeScaling::None)),
        };
    if !rope.is_object() {
        return Err(Fields::wrong(name, "an object", rope));
    }
    let settings = Settings { rope: Fields(rope), fields, head_dim, positions: positions as f64 };
    if nests && ["full_attention", "sliding_attention"].iter().any(|kind| settings.rope.has(kind)) {
        bail!(Kind::Model, "`{name}`: rotary settings for each type of layer are not supported");
    }
    let theta = if settings.rope.has("rope_theta") {
        settings.rope.number_or("rope_theta", DEFAULT_THETA)
    } else {
        fields.number_or("rope_theta", DEFAULT_THETA)
    };
    let scaling = theta.and_then(|theta| Ok((theta, settings.scaling()?)));
    scaling.map_err(|error| error.context(format!("`{name}`")))
}

struct Settings<'a> {
    rope: Fields<'a>,
    /// Of the whole file.
    fields: &'a Fields<'a>,
    head_dim: i64,
    /// `max_position_embeddings`
    positions: f64,
}

impl Settings<'_> {
    fn scaling(&self) -> Result<RopeScaling> {
        let key = if self.rope.has("rope_type") { "rope_type" } else { "type" };
        let kind = match self.rope.0.get(key) {
            None => "default",
            Some(Value::String(kind)) => kind,
            Some(other) => return Err(Fields::wrong(key, "a string", other)),
        };
        if !matches!(kind, "default" | "proportional") {
            self.ensure_whole_heads_turn()?;
        }
        match kind {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: self.number("factor")? }),
            "proportional" => Ok(RopeScaling::Proportional {
                factor: self.rope.number_or("factor", 1.0)?,
                proportion: self.rope.number_or("partial_rotary_factor", self.outer_proportion()?)?,
            }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: self.number("factor")?,
                low_freq_factor: self.number("low_freq_factor")?,
                high_freq_factor: self.number("high_freq_factor")?,
                original_max_position_embeddings: self.original_positions()?,
            }),
            "dynamic" => {
                Ok(RopeScaling::Dynamic { factor: self.number("factor")?, max_position_embeddings: self.positions })
            }
            "yarn" => self.yarn(),
            "longrope" => self.long_rope(),
            other => {
                bail!(Kind::Model, "the rope type `{other}` is not supported"; hint: "supported: default, linear, proportional, dynamic, yarn, longrope, llama3")
            }
        }
    }

    fn number(&self, name: &str) -> Result<f64> {
        if self.rope.has(name) {
            self.rope.number_or(name, 1.0)
        } else {
            Err(Error::model(format!("`{name}` is missing: expected a positive number")))
        }
    }

    /// `None` for a key that is null too.
    fn optional(&self, name: &str) -> Result<Option<f64>> {
        self.rope.get(name).map(|_| self.rope.number_or(name, 1.0)).transpose()
    }

    /// As [`Self::optional`], where 0 is as good as nothing.
    fn optional_or_zero(&self, name: &str) -> Result<Option<f64>> {
        match self.rope.get(name).and_then(Value::as_f64) {
            Some(0.0) => Ok(None),
            _ => self.optional(name),
        }
    }

    fn outer_proportion(&self) -> Result<f64> {
        self.fields
            .get("partial_rotary_factor")
            .map_or(Ok(1.0), |_| self.fields.number_or("partial_rotary_factor", 1.0))
    }

    /// Nothing in these families turns a part of a head.
    fn ensure_whole_heads_turn(&self) -> Result<()> {
        let proportion = self.rope.number_or("partial_rotary_factor", self.outer_proportion()?)?;
        if (self.head_dim as f64 * proportion) as i64 == self.head_dim {
            Ok(())
        } else {
            bail!(Kind::Model, "`partial_rotary_factor`: expected 1, found {proportion}")
        }
    }

    /// The key beside the rotary settings goes before the one within; without either it is the
    /// whole context.
    fn original_positions(&self) -> Result<f64> {
        const NAME: &str = "original_max_position_embeddings";
        let fields = if self.fields.has(NAME) { self.fields } else { &self.rope };
        fields.number_or(NAME, self.positions)
    }

    fn yarn(&self) -> Result<RopeScaling> {
        let original = self.original_positions()?;
        let factor = if self.rope.has("factor") {
            self.optional("factor")?.unwrap_or(self.positions / original)
        } else {
            self.number("factor")?
        };
        let scale = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
        let given = self.optional("attention_factor")?;
        let scales = (self.optional_or_zero("mscale")?, self.optional_or_zero("mscale_all_dim")?);
        let attention_factor = match (given, scales) {
            (Some(given), _) => given,
            (None, (Some(over), Some(under))) => scale(over) / scale(under),
            (None, _) => scale(1.0),
        };
        Ok(RopeScaling::Yarn(Yarn {
            factor,
            attention_factor,
            beta_fast: self.optional_or_zero("beta_fast")?.unwrap_or(32.0),
            beta_slow: self.optional_or_zero("beta_slow")?.unwrap_or(1.0),
            original_max_position_embeddings: original,
            truncate: match self.rope.0.get("truncate") {
                None => true,
                Some(Value::Null) => false,
                Some(_) => self.rope.flag("truncate", true)?,
            },
        }))
    }

    fn long_rope(&self) -> Result<RopeScaling> {
        let original = self.original_positions()?;
        let factor = self.optional("factor")?.unwrap_or(self.positions / original);
        let attention_factor = match self.optional("attention_factor")? {
            Some(given) => given,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / original.ln()).sqrt(),
        };
        Ok(RopeScaling::LongRope {
            short_factor: self.factors("short_factor")?,
            long_factor: self.factors("long_factor")?,
            attention_factor,
            original_max_position_embeddings: original,
        })
    }

    /// One number for every frequency.
    fn factors(&self, name: &str) -> Result<Vec<f64>> {
        let count = (self.head_dim / 2) as usize;
        let list = self.rope.get(name).and_then(Value::as_array);
        let numbers = list.map(|list| list.iter().filter_map(Value::as_f64).filter(|x| *x > 0.0).collect::<Vec<_>>());
        match numbers {
            Some(numbers) if numbers.len() == count && list.is_some_and(|list| list.len() == count) => Ok(numbers),
            _ => Err(Error::model(format!("`{name}`: expected {count} positive numbers, one for each frequency"))),
        }
    }
}

impl RopeScaling {
    /// What cosines and sines are multiplied by.
    pub fn attention_factor(&self) -> f64 {
        match self {
            RopeScaling::Yarn(yarn) => yarn.attention_factor,
            RopeScaling::LongRope { attention_factor, .. } => *attention_factor,
            _ => 1.0,
        }
    }

    /// Which frequencies a sequence of `length` tokens turns with: sequences with an equal key
    /// have the same ones. 0 for those of all lengths where the length does not matter.
    pub fn key(&self, length: i64) -> i64 {
        match self {
            RopeScaling::Dynamic { max_position_embeddings, .. } if length as f64 > *max_position_embeddings => length,
            RopeScaling::LongRope { original_max_position_embeddings: original, .. } => {
                i64::from(length as f64 > *original)
            }
            _ => 0,
        }
    }

    /// f32 `[head_dim / 2]`, in radians per position, for the sequences that have this [`key`](Self::key).
    ///
    /// Computed on the CPU in f32 with the operations of transformers in their order: a frequency that
    /// differs in its last bit turns into a wrong angle at large positions.
    pub fn frequencies(&self, head_dim: i64, theta: f64, key: i64) -> Result<Tensor> {
        let exponent = Tensor::f_arange_start_step(0, head_dim, 2, (Dtype::Int64, Device::Cpu))?
            .f_to_kind(Dtype::Float)?
            .f_div_scalar(head_dim)?;
        let powers = Tensor::f_pow_scalar(theta, &exponent)?;
        match self {
            RopeScaling::None => Ok(powers.f_reciprocal()?),
            RopeScaling::Linear { factor } => Ok(powers.f_reciprocal()?.f_div_scalar(*factor)?),
            RopeScaling::Proportional { factor, proportion } => {
                let turning = (proportion * head_dim as f64).div_euclid(2.0) as i64;
                let turning = turning.clamp(0, head_dim / 2);
                let still = Tensor::f_zeros([head_dim / 2 - turning], (Dtype::Float, Device::Cpu))?;
                let all = Tensor::f_cat(&[powers.f_reciprocal()?.f_narrow(0, 0, turning)?, still], 0)?;
                Ok(all.f_div_scalar(*factor)?)
            }
            RopeScaling::Llama3 { .. } => self.llama3(&powers.f_reciprocal()?),
            RopeScaling::Yarn(yarn) => yarn.frequencies(&powers, head_dim, theta),
            RopeScaling::Dynamic { factor, max_position_embeddings: positions } => {
                let power = head_dim as f64 / (head_dim as f64 - 2.0);
                if key == 0 {
                    let theta = theta * ((factor * positions / positions) - (factor - 1.0)).powf(power);
                    return Ok(Tensor::f_pow_scalar(theta, &exponent)?.f_reciprocal()?);
                }
                let length = Tensor::f_full([1], key, (Dtype::Int64, Device::Cpu))?;
                let grown = length.f_to_kind(Dtype::Float)?.f_mul_scalar(*factor)?.f_div_scalar(*positions)?;
                let theta = grown.f_sub_scalar(factor - 1.0)?.f_pow_tensor_scalar(power)?.f_mul_scalar(theta)?;
                Ok(theta.f_pow(&exponent)?.f_reciprocal()?)
            }
            RopeScaling::LongRope { short_factor, long_factor, .. } => {
                let factors = if key == 0 { short_factor } else { long_factor };
                let factors = Tensor::f_from_slice(factors)?.f_to_kind(Dtype::Float)?;
                Ok(factors.f_mul(&powers)?.f_reciprocal()?)
            }
        }
    }

    fn llama3(&self, inv_freq: &Tensor) -> Result<Tensor> {
        let RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings: context,
        } = *self
        else {
            return Ok(inv_freq.shallow_clone());
        };
        let wavelength = inv_freq.f_reciprocal()?.f_mul_scalar(TAU)?;
        let slow = inv_freq.f_div_scalar(factor)?;
        let smooth = wavelength.f_reciprocal()?.f_mul_scalar(context)?.f_sub_scalar(low_freq_factor)?;
        let smooth = smooth.f_div_scalar(high_freq_factor - low_freq_factor)?;
        let kept = smooth.f_neg()?.f_add_scalar(1.0)?.f_mul(inv_freq)?.f_div_scalar(factor)?;
        let between = kept.f_add(&smooth.f_mul(inv_freq)?)?;
        let is_low = wavelength.f_gt(context / low_freq_factor)?;
        let is_high = wavelength.f_lt(context / high_freq_factor)?;
        Ok(slow.f_where_self(&is_low, &inv_freq.f_where_self(&is_high, &between)?)?)
    }
}

impl Yarn {
    /// Whether all but the factor and the original context is as the paper has it.
    pub fn has_only_factor(&self) -> bool {
        let usual = if self.factor <= 1.0 { 1.0 } else { 0.1 * self.factor.ln() + 1.0 };
        let factor = (self.attention_factor - usual).abs() < 1e-6;
        factor && self.truncate && self.beta_fast == 32.0 && self.beta_slow == 1.0
    }

    fn frequencies(&self, powers: &Tensor, head_dim: i64, theta: f64) -> Result<Tensor> {
        let (kept, slowed) = (powers.f_reciprocal()?, powers.f_mul_scalar(self.factor)?.f_reciprocal()?);
        let (low, high) = self.passage(head_dim, theta);
        let high = if low == high { high + 0.001 } else { high };
        let ramp = Tensor::f_arange(head_dim / 2, (Dtype::Float, Device::Cpu))?;
        let ramp = ramp.f_sub_scalar(low)?.f_div_scalar(high - low)?.f_clamp(0.0, 1.0)?;
        let share = ramp.f_neg()?.f_add_scalar(1.0)?;
        let rest = share.f_neg()?.f_add_scalar(1.0)?;
        Ok(slowed.f_mul(&rest)?.f_add(&kept.f_mul(&share)?)?)
    }

    /// The channels between which frequencies pass from kept to slowed.
    fn passage(&self, head_dim: i64, theta: f64) -> (f64, f64) {
        let dim = head_dim as f64;
        let channel =
            |turns: f64| dim * (self.original_max_position_embeddings / (turns * TAU)).ln() / (2.0 * theta.ln());
        let (mut low, mut high) = (channel(self.beta_fast), channel(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low.max(0.0), high.min(dim - 1.0))
    }
}
