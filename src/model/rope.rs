//! Rotary position embeddings (Su et al., 2021) with the linear and Llama 3 frequency
//! scalings, in the order of operations of transformers, so that the numbers agree.

use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::native;
use serde_json::Value;
use tch::{Device, Kind as Dtype, Tensor};

/// How frequencies are changed to reach beyond the length of pretraining.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    None,
    /// Every frequency divided by `factor`.
    Linear {
        factor: f64,
    },
    /// Low frequencies divided by `factor`, high ones kept, a smooth passage between.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_position_embeddings: f64,
    },
}

impl RopeScaling {
    /// Reads `rope_scaling` or `rope_parameters` of a `config.json`.
    pub fn from_json(rope: Option<&Value>) -> Result<Self> {
        let Some(rope) = rope else { return Ok(RopeScaling::None) };
        let number = |name: &str| match rope.get(name).and_then(Value::as_f64) {
            Some(number) if number > 0.0 => Ok(number),
            _ => Err(Error::model(format!("rope scaling: `{name}` is missing or not a positive number"))),
        };
        let kind = rope.get("rope_type").or_else(|| rope.get("type")).and_then(Value::as_str).unwrap_or("default");
        match kind {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: number("factor")? }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: number("factor")?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                original_max_position_embeddings: number("original_max_position_embeddings")?,
            }),
            other => {
                bail!(Kind::Model, "rope scaling `{other}` is not supported"; hint: "supported: default, linear, llama3")
            }
        }
    }

    fn apply(&self, inv_freq: Tensor) -> Result<Tensor> {
        match *self {
            RopeScaling::None => Ok(inv_freq),
            RopeScaling::Linear { factor } => Ok(inv_freq.f_div_scalar(factor)?),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: context,
            } => {
                let wavelength = inv_freq.f_reciprocal()?.f_mul_scalar(std::f64::consts::TAU)?;
                let slow = inv_freq.f_div_scalar(factor)?;
                let smooth = wavelength.f_reciprocal()?.f_mul_scalar(context)?.f_sub_scalar(low_freq_factor)?;
                let smooth = smooth.f_div_scalar(high_freq_factor - low_freq_factor)?;
                let between = smooth.f_mul(&inv_freq.f_sub(&slow)?)?.f_add(&slow)?;
                let is_low = wavelength.f_gt(context / low_freq_factor)?;
                let is_high = wavelength.f_lt(context / high_freq_factor)?;
                Ok(slow.f_where_self(&is_low, &inv_freq.f_where_self(&is_high, &between)?)?)
            }
        }
    }
}

/// The rotation of every pair of channels, per second of position.
#[derive(Debug)]
pub struct RotaryEmbedding {
    /// f32 `[head_dim / 2]`
    inv_freq: Tensor,
}

/// Cosines and sines for the positions of one forward pass: `[tokens, head_dim / 2]`.
#[derive(Debug)]
pub struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl RotaryEmbedding {
    pub fn new(head_dim: i64, theta: f64, scaling: &RopeScaling, device: Device) -> Result<Self> {
        // Computed on the CPU in f32 with the same operations as transformers: a frequency
        // that differs in its last bit turns into a wrong angle at large positions.
        let exponent = Tensor::f_arange_start_step(0, head_dim, 2, (Dtype::Int64, Device::Cpu))?
            .f_to_kind(Dtype::Float)?
            .f_div_scalar(head_dim)?;
        let inv_freq = Tensor::f_pow_scalar(theta, &exponent)?.f_reciprocal()?;
        Ok(RotaryEmbedding { inv_freq: scaling.apply(inv_freq)?.f_to_device(device)? })
    }

    /// `position_ids` is int64 `[tokens]`; angles are taken in f32, and kept in it unless
    /// the model is f64.
    pub fn rotation(&self, position_ids: &Tensor, dtype: Dtype) -> Result<Rotation> {
        let angles = position_ids.f_to_kind(Dtype::Float)?.f_unsqueeze(-1)?.f_mul(&self.inv_freq)?;
        let kept = if dtype == Dtype::Double { Dtype::Double } else { Dtype::Float };
        Ok(Rotation { cos: angles.f_cos()?.f_to_kind(kept)?, sin: angles.f_sin()?.f_to_kind(kept)? })
    }

    /// f32 `[head_dim / 2]`, turns per second of position.
    pub fn frequencies(&self) -> Tensor {
        self.inv_freq.shallow_clone()
    }

    /// Each frequency divided by its own number, `[head_dim / 2]`.
    pub fn slowed(&self, divisors: &Tensor) -> Result<Self> {
        Ok(RotaryEmbedding { inv_freq: self.inv_freq.f_div(&divisors.f_to_device(self.inv_freq.device())?)? })
    }

    /// The same frequencies in another value.
    pub fn share(&self) -> Self {
        RotaryEmbedding { inv_freq: self.inv_freq.shallow_clone() }
    }
}

impl Rotation {
    /// Rotates queries or keys, `[tokens, heads * head_dim]` to `[tokens, heads, head_dim]`: the two
    /// halves of a head are the coordinates of its planes.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        native::rotate(x, &self.cos, &self.sin)
    }
}
