//! When a run is told to have stalled: its gradient is exactly 0 for some steps in a row.
//!
//! Numbers that are not finite end a run. One whose weights have grown beyond all measure can
//! also go on with finite losses, where softmax is 1 for one token and every slope is 0: nothing
//! is learned from there on, and nothing else tells so.

use serde::{Deserialize, Serialize};

/// Steps in a row without any gradient; in a run that ends before, fewer are enough.
pub const STALLS_AFTER: u64 = 10;
const AT_THE_END: u64 = 3;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Stalled {
    steps: u64,
}

impl Stalled {
    /// Takes a step. Says once, where the run is first seen to have stalled, for how many steps it has.
    pub fn trained(&mut self, grad_norm: f64, is_last: bool) -> Option<u64> {
        self.steps = if grad_norm == 0.0 { self.steps + 1 } else { 0 };
        let at_the_end = is_last && (AT_THE_END..STALLS_AFTER).contains(&self.steps);
        (self.steps == STALLS_AFTER || at_the_end).then_some(self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_once_and_only_of_steps_in_a_row() {
        let mut stalled = Stalled::default();
        let mut told = |norms: &[f64]| norms.iter().filter_map(|norm| stalled.trained(*norm, false)).count();
        assert_eq!(told(&[0.0; 9]), 0);
        assert_eq!(told(&[1e-30]), 0);
        assert_eq!(told(&[0.0; 9]), 0);
        assert_eq!(told(&[0.0; 30]), 1);
        assert_eq!(stalled.trained(0.0, true), None, "said before");
        let mut short = Stalled::default();
        assert_eq!([short.trained(1.0, false), short.trained(0.0, false), short.trained(0.0, false)], [None; 3]);
        assert_eq!(short.trained(0.0, true), Some(3));
    }
}
