//! Detects a stalled run: its gradient is exactly 0 for several steps in a row.
//!
//! Numbers that are not finite end a run. But weights may also grow so large that softmax is exactly 1 for
//! one token: the losses stay finite, every gradient is 0, and the run learns nothing any more.

use serde::{Deserialize, Serialize};

/// Steps in a row with zero gradient; fewer suffice in a run that ends before.
pub const STALLS_AFTER: u64 = 10;
const AT_THE_END: u64 = 3;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StallWatch {
    steps: u64,
}

impl StallWatch {
    /// Records a step. Returns once, when the run stalls, for how many steps the gradient has been 0.
    pub fn on_step(&mut self, grad_norm: f64, is_last: bool) -> Option<u64> {
        self.steps = if grad_norm == 0.0 { self.steps + 1 } else { 0 };
        let at_the_end = is_last && (AT_THE_END..STALLS_AFTER).contains(&self.steps);
        (self.steps == STALLS_AFTER || at_the_end).then_some(self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_once_and_only_after_steps_in_a_row() {
        let mut stalled = StallWatch::default();
        let mut reports = |norms: &[f64]| norms.iter().filter_map(|norm| stalled.on_step(*norm, false)).count();
        assert_eq!(reports(&[0.0; 9]), 0);
        assert_eq!(reports(&[1e-30]), 0);
        assert_eq!(reports(&[0.0; 9]), 0);
        assert_eq!(reports(&[0.0; 30]), 1);
        assert_eq!(stalled.on_step(0.0, true), None, "already reported");
        let mut short = StallWatch::default();
        assert_eq!([short.on_step(1.0, false), short.on_step(0.0, false), short.on_step(0.0, false)], [None; 3]);
        assert_eq!(short.on_step(0.0, true), Some(3));
    }
}
