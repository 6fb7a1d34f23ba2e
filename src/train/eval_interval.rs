//! When a run is evaluated on its way: every so many steps, at a fraction of all steps, or so
//! many times an epoch. Every run is also evaluated after its last step.

use crate::bail;
use crate::error::{Kind, Result};
use serde::Serialize;

/// Serialised as the number that a script writes, so that settings with steps stay what they were.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum EvalInterval {
    /// 0 means: at the end only.
    Steps(u64),
    /// Of all steps, above 0 and below 1, rounded up to whole steps as transformers does.
    Fraction(f64),
    PerEpoch {
        evals_per_epoch: u64,
    },
}

impl EvalInterval {
    /// `eval_every` as a script writes it: a number of steps, or below 1 a fraction of all steps.
    pub fn parse(every: f64) -> Result<Self> {
        match every {
            every if every > 0.0 && every < 1.0 => Ok(EvalInterval::Fraction(every)),
            every if every >= 0.0 && every.fract() == 0.0 && every < 1e15 => Ok(EvalInterval::Steps(every as u64)),
            _ => {
                bail!(Kind::Input, "`eval_every`: expected a whole number of steps, or a fraction of all steps between 0 and 1, found {every}")
            }
        }
    }

    pub fn is_on_the_way(self) -> bool {
        self != EvalInterval::Steps(0)
    }

    /// Is a run of `total` steps evaluated after step `step`, counted from 1?
    pub fn is_due(self, step: u64, total: u64, steps_per_epoch: u64) -> bool {
        if step == total {
            return true;
        }
        match self {
            EvalInterval::Steps(0) => false,
            EvalInterval::Steps(every) => step.is_multiple_of(every),
            EvalInterval::Fraction(fraction) => step.is_multiple_of(((total as f64 * fraction).ceil() as u64).max(1)),
            // Whole parts of an epoch passed: the last is the end of the epoch itself.
            EvalInterval::PerEpoch { evals_per_epoch } => {
                let parts = |step: u64| step * evals_per_epoch / steps_per_epoch.max(1);
                step > 0 && parts(step) > parts(step - 1)
            }
        }
    }

    /// How often a run of `total` steps is evaluated.
    pub fn count(self, total: u64, steps_per_epoch: u64) -> u64 {
        match self {
            EvalInterval::Steps(0) => 1,
            EvalInterval::Steps(every) => total.div_ceil(every),
            _ => (1..=total).filter(|&step| self.is_due(step, total, steps_per_epoch)).count() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(interval: EvalInterval, total: u64, per_epoch: u64) -> Vec<u64> {
        (1..=total).filter(|&step| interval.is_due(step, total, per_epoch)).collect()
    }

    #[test]
    fn evaluations_fall_where_transformers_puts_them() {
        assert_eq!(due(EvalInterval::Steps(0), 10, 4), [10]);
        assert_eq!(due(EvalInterval::Steps(4), 10, 4), [4, 8, 10]);
        // ceil(25 · 0.1) = 3, as `TrainerState.compute_steps` has it.
        assert_eq!(due(EvalInterval::Fraction(0.1), 25, 5), [3, 6, 9, 12, 15, 18, 21, 24, 25]);
        assert_eq!(due(EvalInterval::Fraction(0.5), 10, 4), [5, 10]);
    }

    #[test]
    fn epochs_end_with_an_evaluation() {
        let per_epoch = |evals_per_epoch| EvalInterval::PerEpoch { evals_per_epoch };
        assert_eq!(due(per_epoch(1), 10, 4), [4, 8, 10]);
        assert_eq!(due(per_epoch(2), 10, 5), [3, 5, 8, 10]);
        assert_eq!(due(per_epoch(9), 4, 2), [1, 2, 3, 4], "no more often than there are steps");
        for (interval, total, epoch) in [(per_epoch(3), 100, 7), (EvalInterval::Fraction(0.03), 100, 7)] {
            assert_eq!(interval.count(total, epoch), due(interval, total, epoch).len() as u64);
        }
    }

    #[test]
    fn settings_with_steps_are_written_as_before() {
        let text = |interval: EvalInterval| serde_json::to_string(&interval).unwrap();
        assert_eq!(text(EvalInterval::Steps(50)), "50");
        assert_eq!(text(EvalInterval::Fraction(0.1)), "0.1");
        assert_eq!(text(EvalInterval::PerEpoch { evals_per_epoch: 2 }), r#"{"evals_per_epoch":2}"#);
        assert!(EvalInterval::parse(1.5).is_err() && EvalInterval::parse(-1.0).is_err());
        assert!(EvalInterval::parse(f64::NAN).is_err());
    }
}
