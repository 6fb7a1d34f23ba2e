//! When a run is told to have stalled: its gradient is exactly 0 for some steps in a row.
//!
//! Numbers that are not finite end a run. One whose weights have grown beyond all measure can
//! also go on with finite losses, where softmax is 1 for one token and every slope is 0: nothing
//! is learned from there on, and nothing else tells so.

/// Steps in a row without any gradient.
pub const STALLS_AFTER: u64 = 10;

#[derive(Debug, Default)]
pub struct Stalled {
    steps: u64,
}

impl Stalled {
    /// Takes a step; true once, at the step at which the run is first seen to have stalled.
    pub fn trained(&mut self, grad_norm: f64) -> bool {
        self.steps = if grad_norm == 0.0 { self.steps + 1 } else { 0 };
        self.steps == STALLS_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_once_and_only_of_steps_in_a_row() {
        let mut stalled = Stalled::default();
        let mut told = |norms: &[f64]| norms.iter().filter(|norm| stalled.trained(**norm)).count();
        assert_eq!(told(&[0.0; 9]), 0);
        assert_eq!(told(&[1e-30]), 0);
        assert_eq!(told(&[0.0; 9]), 0);
        assert_eq!(told(&[0.0; 30]), 1);
    }
}
