//! The loss scale for a base in f16: the loss is multiplied by it before the backward pass, because small gradients
//! would become 0 in f16; the f32 gradients of the adapters are divided by it.
//!
//! As in torch's GradScaler it begins at 65536, is halved when gradients overflow, and doubled after 2000 steps.
//! Unlike there, a step that overflows is computed again, not skipped.

use crate::model::Decoder;
use serde::{Deserialize, Serialize};
use tch::Kind as Dtype;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    factor: f64,
    /// Steps since the factor changed.
    steps: u32,
}

impl Default for LossScale {
    fn default() -> Self {
        LossScale { factor: 65_536.0, steps: 0 }
    }
}

impl LossScale {
    const GROWTH_INTERVAL: u32 = 2000;

    /// Is 1 unless the decoder is in f16.
    pub fn factor(&self, decoder: &Decoder) -> f64 {
        if decoder.dtype == Dtype::Half {
            self.factor
        } else {
            1.0
        }
    }

    /// Records a step that succeeded with `factor`.
    pub fn stepped(&mut self, factor: f64) {
        let steps = if factor == self.factor { self.steps + 1 } else { 1 };
        *self = LossScale { factor, steps };
        if self.steps >= Self::GROWTH_INTERVAL {
            *self = LossScale { factor: 2.0 * factor, steps: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_after_many_steps_and_keeps_what_went_through() {
        let mut scale = LossScale::default();
        scale.stepped(1024.0);
        assert_eq!(scale, LossScale { factor: 1024.0, steps: 1 });
        for _ in 1..LossScale::GROWTH_INTERVAL {
            scale.stepped(1024.0);
        }
        assert_eq!(scale, LossScale { factor: 2048.0, steps: 0 });
    }
}
