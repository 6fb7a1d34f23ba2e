//! What a loss is multiplied by before it goes backward through a base in f16, whose smallest
//! gradients would be 0 otherwise; the gradients of the adapters, which are f32, are divided by it.
//!
//! As torch's GradScaler: it begins at 65536, is halved where gradients overflow, and doubled
//! after 2000 steps. Unlike there a step that overflows is computed again, not left out.

use crate::model::Decoder;
use serde::{Deserialize, Serialize};
use tch::Kind as Dtype;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    factor: f64,
    /// Since the factor changed.
    steps: u32,
}

impl Default for LossScale {
    fn default() -> Self {
        LossScale { factor: 65_536.0, steps: 0 }
    }
}

impl LossScale {
    const GROWTH_INTERVAL: u32 = 2000;

    /// 1 for a decoder in another dtype than f16.
    pub fn factor(&self, decoder: &Decoder) -> f64 {
        if decoder.dtype == Dtype::Half {
            self.factor
        } else {
            1.0
        }
    }

    /// After a step that went through with `factor`.
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
