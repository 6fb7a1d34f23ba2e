//! Rotary position embeddings (Su et al., 2021): the rotation of queries and keys.
//!
//! Leaves the frequencies to `rope_scaling.rs`.

use super::input::Input;
pub use super::rope_scaling::RopeScaling;
use crate::error::Result;
use crate::native;
use tch::{Device, Kind as Dtype, Tensor};

/// The rotation of every pair of channels.
#[derive(Debug)]
pub struct RotaryEmbedding {
    /// The channels of a head that rotate.
    rotary_dim: i64,
    theta: f64,
    scaling: RopeScaling,
    /// f32 `[rotary_dim / 2]`, for sequences with key 0 (see [`RopeScaling::key`]).
    inv_freq: Tensor,
}

/// Cosines and sines for the positions of one forward pass: `[tokens, rotary_dim / 2]`.
#[derive(Debug)]
pub struct Rotation {
    pub(super) cos: Tensor,
    pub(super) sin: Tensor,
}

impl RotaryEmbedding {
    pub fn new(rotary_dim: i64, theta: f64, scaling: &RopeScaling, device: Device) -> Result<Self> {
        let inv_freq = scaling.frequencies(rotary_dim, theta, 0)?.f_to_device(device)?;
        Ok(RotaryEmbedding { rotary_dim, theta, scaling: scaling.clone(), inv_freq })
    }

    /// The rotation for the positions of `input`. Computed in f32, and kept in f32 unless the model is f64.
    pub fn rotation(&self, input: &Input, dtype: Dtype) -> Result<Rotation> {
        let positions = input.position_ids.f_to_kind(Dtype::Float)?.f_unsqueeze(-1)?;
        let angles = positions.f_mul(&self.frequencies_of(input)?)?;
        let kept = if dtype == Dtype::Double { Dtype::Double } else { Dtype::Float };
        let scaled = |x: Tensor| -> Result<Tensor> {
            let factor = self.scaling.attention_factor();
            let scaled = if factor == 1.0 { x } else { x.f_mul_scalar(factor)? };
            Ok(scaled.f_to_kind(kept)?)
        };
        Ok(Rotation { cos: scaled(angles.f_cos()?)?, sin: scaled(angles.f_sin()?)? })
    }

    /// `[rotary_dim / 2]`, or `[tokens, rotary_dim / 2]` if they depend on the length of the sequence.
    fn frequencies_of(&self, input: &Input) -> Result<Tensor> {
        let keys: Vec<i64> = input.sequence_lengths.iter().map(|&length| self.scaling.key(length)).collect();
        if keys.iter().all(|&key| key == 0) {
            return Ok(self.inv_freq.shallow_clone());
        }
        let mut distinct = keys.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let rows = distinct.iter().map(|&key| self.scaling.frequencies(self.rotary_dim, self.theta, key));
        let rows = Tensor::f_stack(&rows.collect::<Result<Vec<_>>>()?, 0)?.f_to_device(self.inv_freq.device())?;
        let row_of = |key: &i64| distinct.partition_point(|other| other < key) as i64;
        let row_of_cell: Vec<i64> = keys
            .iter()
            .zip(&input.documents.lengths)
            .flat_map(|(key, &length)| std::iter::repeat_n(row_of(key), length as usize))
            .collect();
        // Documents that share tokens are of one batch, and have one key.
        let row_of_token = match &input.documents.shared {
            None => row_of_cell,
            Some(shared) => shared.cells.iter().filter_map(|&cell| row_of_cell.get(cell as usize).copied()).collect(),
        };
        Ok(rows.f_index_select(0, &Tensor::f_from_slice(&row_of_token)?.f_to_device(rows.device())?)?)
    }

    /// Does the rotation of a token depend on the length of its sequence?
    pub fn depends_on_length(&self, lengths: &[i64]) -> bool {
        lengths.iter().any(|&length| self.scaling.key(length) != 0)
    }

    /// f32 `[rotary_dim / 2]`, in radians per position.
    pub fn frequencies(&self) -> Tensor {
        self.inv_freq.shallow_clone()
    }

    /// A copy with each frequency divided by its divisor, `[rotary_dim / 2]`.
    pub fn divided(&self, divisors: &Tensor) -> Result<Self> {
        let inv_freq = self.inv_freq.f_div(&divisors.f_to_device(self.inv_freq.device())?)?;
        Ok(RotaryEmbedding { inv_freq, ..self.shallow_clone() })
    }

    /// Another handle on the same frequencies. Copies nothing.
    pub fn shallow_clone(&self) -> Self {
        let (scaling, inv_freq) = (self.scaling.clone(), self.inv_freq.shallow_clone());
        RotaryEmbedding { rotary_dim: self.rotary_dim, theta: self.theta, scaling, inv_freq }
    }
}

impl Rotation {
    /// Rotates queries or keys, `[tokens, heads * head_dim]` to `[tokens, heads, head_dim]`: the first `rotary_dim`
    /// channels of each head. Channel i is paired with channel i + rotary_dim / 2.
    pub fn apply(&self, x: &Tensor, head_dim: i64) -> Result<Tensor> {
        if self.is_of(head_dim) {
            return native::rotate(x, &self.cos, &self.sin);
        }
        let (tokens, rotary_dim) = (x.size()[0], self.rotary_dim());
        let by_head = x.f_view([tokens, -1, head_dim])?;
        let rotating = by_head.f_narrow(2, 0, rotary_dim)?.f_contiguous()?.f_view([tokens, -1])?;
        let fixed = by_head.f_narrow(2, rotary_dim, head_dim - rotary_dim)?;
        Ok(Tensor::f_cat(&[&native::rotate(&rotating, &self.cos, &self.sin)?, &fixed], 2)?)
    }

    /// Whether every channel of a head rotates.
    pub fn is_of(&self, head_dim: i64) -> bool {
        self.rotary_dim() == head_dim
    }

    fn rotary_dim(&self) -> i64 {
        2 * self.cos.size()[1]
    }
}
