//! Rotary frequencies, scaled for contexts longer than in pretraining: reads `rope_parameters` and
//! `rope_scaling`, and computes the frequencies with the operations of transformers in their order, so that
//! the numbers agree.
//!
//! Leaves the rotation itself to `rope.rs`.

use super::config::Config;
use super::family::{Defaults, RopeKeys};
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
    /// As `Linear`, but only the first `proportion` of the channels rotate.
    Proportional {
        factor: f64,
        proportion: f64,
    },
    /// Low frequencies are divided by `factor`, high ones kept, with a smooth transition between.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_position_embeddings: f64,
    },
    /// Frequencies are divided by `factor` or kept, depending on their number of turns within the original
    /// context (Peng et al. 2023, "YaRN").
    Yarn(Yarn),
    /// A larger base for sequences longer than `max_position_embeddings`. In transformers, a module keeps the
    /// base of its longest sequence so far, until a sequence shorter than `max_position_embeddings` comes.
    /// Here each batch has its own base, as in a fresh module.
    Dynamic {
        factor: f64,
        max_position_embeddings: f64,
    },
    /// Each frequency is divided by its own factor: a short one, or a long one for sequences longer than the
    /// original context (Ding et al. 2024, "LongRoPE").
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
    /// Whether the bounds of the transition are rounded to whole channels.
    pub truncate: bool,
}

/// What config.json leaves open.
pub(super) struct RopeDefaults {
    pub theta: f64,
    /// `max_position_embeddings`
    pub positions: f64,
    /// Of `original_max_position_embeddings`.
    pub original_positions: f64,
    pub keys: RopeKeys,
}

impl RopeDefaults {
    pub fn of(defaults: &Defaults, config: &Config) -> Self {
        let positions = config.max_position_embeddings as f64;
        RopeDefaults {
            theta: defaults.rope_theta,
            positions,
            original_positions: defaults.original_max_position_embeddings.map_or(positions, |count| count as f64),
            keys: defaults.rope_keys,
        }
    }
}

/// The channels of each head that rotate: `partial_rotary_factor` of them, rounded down. Of an odd number one more
/// rotates, as in transformers.
///
/// # Errors
/// A factor that leaves none, or needs more than there are.
pub(super) fn rotary_dim(fields: &Fields, head_dim: i64) -> Result<i64> {
    const NAME: &str = "partial_rotary_factor";
    let (_, rope) = settings(fields);
    let nested = rope.filter(|rope| rope.get(NAME).is_some_and(|value| !value.is_null()));
    let proportion = Fields(nested.unwrap_or(fields.0)).number_or(NAME, 1.0)?;
    let dim = (head_dim as f64 * proportion) as i64;
    if dim < 1 || dim + dim % 2 > head_dim {
        bail!(Kind::Model, "`{NAME}`: expected a factor that leaves 1 to {head_dim} of the {head_dim} channels of a head, found {proportion}");
    }
    Ok(dim)
}

/// The rotary settings and their key. A `rope_scaling` that is not empty replaces `rope_parameters`.
fn settings<'a>(fields: &Fields<'a>) -> (&'static str, Option<&'a Value>) {
    let is_empty = |value: &&Value| value.as_object().is_some_and(serde_json::Map::is_empty);
    match fields.get("rope_scaling").filter(|value| !is_empty(value)) {
        Some(rope) => ("rope_scaling", Some(rope)),
        None => ("rope_parameters", fields.get("rope_parameters")),
    }
}

/// The base of the frequencies and their scaling, resolved as in transformers, for `rotary_dim` channels. A `rope_theta`
/// inside the rotary settings overrides the one at the top level.
pub(super) fn from_fields(fields: &Fields, rotary_dim: i64, defaults: &RopeDefaults) -> Result<(f64, RopeScaling)> {
    let (name, Some(rope)) = settings(fields) else {
        return Ok((fields.number_or("rope_theta", defaults.theta)?, RopeScaling::None));
    };
    if !rope.is_object() {
        return Err(Fields::wrong(name, "an object", rope));
    }
    let settings = RopeFields { rope: Fields(rope), fields, rotary_dim, defaults };
    if defaults.keys == RopeKeys::CommonOnly
        && ["full_attention", "sliding_attention"].iter().any(|kind| settings.rope.has(kind))
    {
        bail!(Kind::Model, "`{name}`: rotary settings for each type of layer are not supported");
    }
    let theta = if settings.rope.has("rope_theta") {
        settings.rope.number_or("rope_theta", defaults.theta)
    } else {
        fields.number_or("rope_theta", defaults.theta)
    };
    let scaling = theta.and_then(|theta| Ok((theta, settings.scaling()?)));
    scaling.map_err(|error| error.context(format!("`{name}`")))
}

struct RopeFields<'a> {
    rope: Fields<'a>,
    /// The top level of the file.
    fields: &'a Fields<'a>,
    rotary_dim: i64,
    defaults: &'a RopeDefaults,
}

impl RopeFields<'_> {
    fn scaling(&self) -> Result<RopeScaling> {
        let key = if self.rope.has("rope_type") { "rope_type" } else { "type" };
        let kind = match self.rope.0.get(key) {
            None => "default",
            Some(Value::String(kind)) => kind,
            Some(other) => return Err(Fields::wrong(key, "a string", other)),
        };
        let is_partial = self.defaults.keys == RopeKeys::Partial;
        if !is_partial && !matches!(kind, "default" | "proportional") {
            self.ensure_whole_heads_rotate()?;
        }
        let kind = if is_partial && matches!(kind, "su" | "yarn") { "longrope" } else { kind };
        match kind {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: self.number("factor")? }),
            "proportional" => Ok(RopeScaling::Proportional {
                factor: self.rope.number_or("factor", 1.0)?,
                proportion: self.rope.number_or("partial_rotary_factor", self.top_level_proportion()?)?,
            }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: self.number("factor")?,
                low_freq_factor: self.number("low_freq_factor")?,
                high_freq_factor: self.number("high_freq_factor")?,
                original_max_position_embeddings: self.original_positions()?,
            }),
            "dynamic" => Ok(RopeScaling::Dynamic {
                factor: self.number("factor")?,
                max_position_embeddings: self.defaults.positions,
            }),
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

    /// A number; `None` if the key is absent or null.
    fn optional(&self, name: &str) -> Result<Option<f64>> {
        self.rope.get(name).map(|_| self.rope.number_or(name, 1.0)).transpose()
    }

    /// As [`Self::optional`], but `None` for 0 too.
    fn optional_nonzero(&self, name: &str) -> Result<Option<f64>> {
        match self.rope.get(name).and_then(Value::as_f64) {
            Some(0.0) => Ok(None),
            _ => self.optional(name),
        }
    }

    fn top_level_proportion(&self) -> Result<f64> {
        self.fields
            .get("partial_rotary_factor")
            .map_or(Ok(1.0), |_| self.fields.number_or("partial_rotary_factor", 1.0))
    }

    /// Fails if only a part of each head rotates: no model of these families does that.
    fn ensure_whole_heads_rotate(&self) -> Result<()> {
        let proportion = self.rope.number_or("partial_rotary_factor", self.top_level_proportion()?)?;
        if (self.rotary_dim as f64 * proportion) as i64 != self.rotary_dim {
            bail!(Kind::Model, "`partial_rotary_factor`: expected 1, found {proportion}");
        }
        Ok(())
    }

    /// The key at the top level overrides the one in the rotary settings; the default is the whole context.
    fn original_positions(&self) -> Result<f64> {
        const NAME: &str = "original_max_position_embeddings";
        // Phi-3 ignores the one in the rotary settings.
        let is_top_level = self.fields.has(NAME) || self.defaults.keys == RopeKeys::Partial;
        let fields = if is_top_level { self.fields } else { &self.rope };
        fields.number_or(NAME, self.defaults.original_positions)
    }

    fn yarn(&self) -> Result<RopeScaling> {
        let original = self.original_positions()?;
        let factor = if self.rope.has("factor") {
            self.optional("factor")?.unwrap_or(self.defaults.positions / original)
        } else {
            self.number("factor")?
        };
        let scale = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
        let explicit = self.optional("attention_factor")?;
        let scales = (self.optional_nonzero("mscale")?, self.optional_nonzero("mscale_all_dim")?);
        let attention_factor = match (explicit, scales) {
            (Some(factor), _) => factor,
            (None, (Some(mscale), Some(mscale_all_dim))) => scale(mscale) / scale(mscale_all_dim),
            (None, _) => scale(1.0),
        };
        Ok(RopeScaling::Yarn(Yarn {
            factor,
            attention_factor,
            beta_fast: self.optional_nonzero("beta_fast")?.unwrap_or(32.0),
            beta_slow: self.optional_nonzero("beta_slow")?.unwrap_or(1.0),
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
        let factor = self.optional("factor")?.unwrap_or(self.defaults.positions / original);
        let attention_factor = match self.optional("attention_factor")? {
            Some(explicit) => explicit,
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

    /// A list of factors, one for each frequency.
    fn factors(&self, name: &str) -> Result<Vec<f64>> {
        let count = (self.rotary_dim / 2) as usize;
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

    /// The key of the frequencies for a sequence of `length` tokens: sequences with equal keys have the same
    /// frequencies. Always 0 if the frequencies do not depend on the length.
    pub fn key(&self, length: i64) -> i64 {
        match self {
            RopeScaling::Dynamic { max_position_embeddings, .. } if length as f64 > *max_position_embeddings => length,
            RopeScaling::LongRope { original_max_position_embeddings: original, .. } => {
                i64::from(length as f64 > *original)
            }
            _ => 0,
        }
    }

    /// The frequencies for sequences with this [`key`](Self::key): f32 `[head_dim / 2]`, in radians per
    /// position.
    ///
    /// Computed on the CPU in f32 with the operations of transformers in their order: a difference in the last
    /// bit of a frequency becomes a wrong angle at large positions.
    pub fn frequencies(&self, head_dim: i64, theta: f64, key: i64) -> Result<Tensor> {
        let exponent = Tensor::f_arange_start_step(0, head_dim, 2, (Dtype::Int64, Device::Cpu))?
            .f_to_kind(Dtype::Float)?
            .f_div_scalar(head_dim)?;
        let powers = Tensor::f_pow_scalar(theta, &exponent)?;
        match self {
            RopeScaling::None => Ok(powers.f_reciprocal()?),
            RopeScaling::Linear { factor } => Ok(powers.f_reciprocal()?.f_div_scalar(*factor)?),
            RopeScaling::Proportional { factor, proportion } => {
                let rotating = (proportion * head_dim as f64).div_euclid(2.0) as i64;
                let rotating = rotating.clamp(0, head_dim / 2);
                let fixed = Tensor::f_zeros([head_dim / 2 - rotating], (Dtype::Float, Device::Cpu))?;
                let all = Tensor::f_cat(&[powers.f_reciprocal()?.f_narrow(0, 0, rotating)?, fixed], 0)?;
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
        let divided = inv_freq.f_div_scalar(factor)?;
        let smooth = wavelength.f_reciprocal()?.f_mul_scalar(context)?.f_sub_scalar(low_freq_factor)?;
        let smooth = smooth.f_div_scalar(high_freq_factor - low_freq_factor)?;
        let kept = smooth.f_neg()?.f_add_scalar(1.0)?.f_mul(inv_freq)?.f_div_scalar(factor)?;
        let between = kept.f_add(&smooth.f_mul(inv_freq)?)?;
        let is_low = wavelength.f_gt(context / low_freq_factor)?;
        let is_high = wavelength.f_lt(context / high_freq_factor)?;
        Ok(divided.f_where_self(&is_low, &inv_freq.f_where_self(&is_high, &between)?)?)
    }
}

impl Yarn {
    /// Whether every setting but the factor and the original context has the value of the paper.
    pub fn has_only_factor(&self) -> bool {
        let default_attention = if self.factor <= 1.0 { 1.0 } else { 0.1 * self.factor.ln() + 1.0 };
        let is_default = (self.attention_factor - default_attention).abs() < 1e-6;
        is_default && self.truncate && self.beta_fast == 32.0 && self.beta_slow == 1.0
    }

    fn frequencies(&self, powers: &Tensor, head_dim: i64, theta: f64) -> Result<Tensor> {
        let (kept, divided) = (powers.f_reciprocal()?, powers.f_mul_scalar(self.factor)?.f_reciprocal()?);
        let (low, high) = self.transition(head_dim, theta);
        let high = if low == high { high + 0.001 } else { high };
        let ramp = Tensor::f_arange(head_dim / 2, (Dtype::Float, Device::Cpu))?;
        let ramp = ramp.f_sub_scalar(low)?.f_div_scalar(high - low)?.f_clamp(0.0, 1.0)?;
        let kept_weight = ramp.f_neg()?.f_add_scalar(1.0)?;
        let divided_weight = kept_weight.f_neg()?.f_add_scalar(1.0)?;
        Ok(divided.f_mul(&divided_weight)?.f_add(&kept.f_mul(&kept_weight)?)?)
    }

    /// The channels between which the frequencies change from kept to divided.
    fn transition(&self, head_dim: i64, theta: f64) -> (f64, f64) {
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
