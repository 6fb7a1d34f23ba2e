//! Dropout masks as pure functions of (seed, step, layer, row, column, channel).
//!
//! A trial's mask does not depend on padding, on the trials that are trained beside it, or on the
//! device. The masks are computed in `native/`: 64 random bits for two neighbouring channels.

use crate::model::shapes::LinearShape;
use crate::random::Key;

/// Dropout of one step: zeroes each element with probability `p` and divides the others by 1 - p, as
/// `torch.nn.Dropout` does.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    pub p: f64,
    /// Names the trial's seed, step and micro-batch; layers add their names.
    pub key: Key,
}

impl Dropout {
    /// The key of one layer.
    pub fn key_of(&self, linear: &LinearShape) -> Key {
        self.key.named(&linear.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::{self, Layer, Matrix, Segment};
    use tch::{Device, Kind as Dtype, Tensor};

    /// The mask that the layer `name` applies, seen through an adapter that is the identity.
    fn mask(name: &str, step: u64, [rows, time, width]: [i64; 3]) -> Tensor {
        let options = (Dtype::Float, Device::Cpu);
        let x = Tensor::ones([rows * time, width], options);
        let (w, identity) = (Tensor::zeros([width, width], options), Tensor::eye(width, options));
        let token_keys: Vec<i64> =
            (0..rows).flat_map(|row| (0..time).map(move |column| row << 40 | column << 20)).collect();
        let dropout = Dropout { p: 0.25, key: Key::new(1).named("dropout").numbered(step) };
        let segment = Segment {
            a: &identity,
            b: &identity,
            gradients: None,
            begin: 0,
            end: rows * time,
            scale: 1.0,
            p: dropout.p,
            key: dropout.key.named(name),
        };
        let layer = Layer { w: Matrix::Dense(&w), bias: None, segments: &[segment] };
        let y = native::linear(&x, layer, &Tensor::from_slice(&token_keys)).unwrap();
        y.view([rows, time, width])
    }

    #[test]
    fn keeps_the_mean_and_drops_p() {
        let y = mask("a", 0, [8, 64, 65]);
        let zero = y.eq(0.0).to_kind(Dtype::Double).mean(Dtype::Double).double_value(&[]);
        assert!((zero - 0.25).abs() < 0.01, "dropped {zero}");
        assert!((y.mean(Dtype::Double).double_value(&[]) - 1.0).abs() < 0.02);
    }

    #[test]
    fn the_bits_are_those_of_the_key() {
        let y = mask("a", 0, [1, 2, 6]);
        let key = Key::new(1).named("dropout").numbered(0).named("a");
        for (column, pair) in (0..2_u64).flat_map(|column| (0..3_u64).map(move |pair| (column, pair))) {
            let bits = key.bits(column << 20 | pair);
            for (half, bits) in [bits as u32, (bits >> 32) as u32].into_iter().enumerate() {
                let kept = y.double_value(&[0, column as i64, 2 * pair as i64 + half as i64]) != 0.0;
                assert_eq!(kept, f64::from(bits) >= 0.25 * f64::from(u32::MAX));
            }
        }
    }

    #[test]
    fn padding_does_not_move_the_mask() {
        assert!(mask("a", 0, [3, 5, 1100]).equal(&mask("a", 0, [3, 9, 1100]).narrow(1, 0, 5)));
    }

    #[test]
    fn other_layers_and_steps_drop_other_elements() {
        let at = |step, layer| mask(layer, step, [2, 8, 16]);
        assert!(at(0, "a").equal(&at(0, "a")));
        assert!(!at(0, "a").equal(&at(1, "a")));
        assert!(!at(0, "a").equal(&at(0, "b")));
    }
}
