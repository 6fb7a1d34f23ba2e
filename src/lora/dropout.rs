//! Dropout masks as pure functions of (seed, step, layer, row, position, channel).
//!
//! A trial's mask depends neither on how its batch is padded nor on what is trained beside
//! it, nor on the device: masks are made on the host and moved.

use crate::error::Result;
use crate::random::Key;
use tch::Tensor;

/// Positions and channels are numbered within 2^20 each, rows within 2^24.
const FIELD: u32 = 20;

/// Which elements a step drops.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    pub share: f64,
    /// Names the trial's seed, step and micro-batch.
    pub key: Key,
}

impl Dropout {
    /// Zeroes elements of `x` `[rows, time, width]` with probability `share` and divides
    /// the rest by 1 - share, as torch does.
    pub fn apply(&self, x: &Tensor, layer_name: &str) -> Result<Tensor> {
        if self.share == 0.0 {
            return Ok(x.shallow_clone());
        }
        Ok(x.f_mul(&self.mask(x, layer_name)?)?)
    }

    fn mask(&self, x: &Tensor, layer_name: &str) -> Result<Tensor> {
        let (rows, time, width) = x.size3()?;
        let key = self.key.named(layer_name);
        let mask = self.host_mask(key, [rows as usize, time as usize, width as usize])?;
        Ok(mask.f_to_device(x.device())?.f_to_kind(x.f_kind()?)?)
    }

    /// Each 64-bit number decides two neighbouring channels, by its halves.
    fn host_mask(&self, key: Key, [rows, time, width]: [usize; 3]) -> Result<Tensor> {
        use rayon::prelude::*;
        let keep = (1.0 / (1.0 - self.share)) as f32;
        let threshold = (self.share * f64::from(u32::MAX)) as u32;
        let decide = |bits: u32| if bits < threshold { 0.0 } else { keep };
        let mut mask = vec![0f32; rows * time * width];
        mask.par_chunks_mut(width).enumerate().for_each(|(at, channels)| {
            let (row, position) = ((at / time) as u64, (at % time) as u64);
            let base = (row << (2 * FIELD)) | (position << FIELD);
            for (pair, channels) in channels.chunks_mut(2).enumerate() {
                let bits = key.bits(base | pair as u64);
                channels[0] = decide(bits as u32);
                if let Some(second) = channels.get_mut(1) {
                    *second = decide((bits >> 32) as u32);
                }
            }
        });
        Ok(Tensor::f_from_slice(&mask)?.f_reshape([rows as i64, time as i64, width as i64])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind as Dtype};

    fn dropped(rows: i64, time: i64, width: i64) -> Tensor {
        let x = Tensor::ones([rows, time, width], (Dtype::Float, Device::Cpu));
        let dropout = Dropout { share: 0.25, key: Key::new(1).named("dropout").numbered(7) };
        dropout.apply(&x, "model.layers.0.self_attn.q_proj").unwrap()
    }

    #[test]
    fn keeps_the_mean_and_drops_the_share() {
        let y = dropped(8, 64, 65);
        let zero = y.eq(0.0).to_kind(Dtype::Double).mean(Dtype::Double).double_value(&[]);
        assert!((zero - 0.25).abs() < 0.01, "dropped {zero}");
        assert!((y.mean(Dtype::Double).double_value(&[]) - 1.0).abs() < 0.02);
    }

    #[test]
    fn padding_does_not_move_the_mask() {
        let (short, long) = (dropped(3, 5, 16), dropped(3, 9, 16));
        assert!(short.equal(&long.narrow(1, 0, 5)));
    }

    #[test]
    fn other_layers_and_steps_drop_other_elements() {
        let x = Tensor::ones([2, 8, 16], (Dtype::Float, Device::Cpu));
        let at = |step, layer| Dropout { share: 0.5, key: Key::new(1).numbered(step) }.apply(&x, layer).unwrap();
        assert!(at(0, "a").equal(&at(0, "a")));
        assert!(!at(0, "a").equal(&at(1, "a")));
        assert!(!at(0, "a").equal(&at(0, "b")));
    }
}
