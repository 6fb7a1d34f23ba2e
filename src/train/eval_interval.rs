//! How often a run is evaluated while it trains: every n steps, after each fraction of all steps, or n times an
//! epoch. Every run is also evaluated after its last step.

use crate::error::Result;
use crate::options;
use crate::options::{Mismatch, OptionSet, OptionType, Refusal, Source, Table, Value};
use serde::Serialize;

/// Serialised as the number that a script writes, so that the fingerprints of older trials stay valid.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum EvalInterval {
    /// 0 evaluates at the end only.
    Steps(u64),
    /// A fraction of all steps, above 0 and below 1, rounded up to an integer as transformers does.
    Fraction(f64),
    /// At every step that is logged, as transformers does without `eval_steps`. Becomes a number of steps once all
    /// options are read.
    AtEveryLog,
    PerEpoch {
        evals_per_epoch: u64,
    },
}

options! {
    /// The options that set how often a run is evaluated.
    #[derive(Debug, Clone, PartialEq)]
    struct EvalOptions {
        /// Steps between evaluations; below 1 a fraction of all steps; 0 evaluates at the end only.
        eval_every: Option<Every> = None, alias ["eval_steps"], words "0";
        /// When to evaluate while training: "steps" with `eval_every` (without it, at every step that is logged),
        /// "epoch" with or without `evals_per_epoch`, or "no".
        eval_strategy: Option<Strategy> = None, alias ["evaluation_strategy"], words "\"no\"";
        /// Evaluations per epoch, in place of `eval_every`.
        evals_per_epoch: Option<u64> = None, range at_least(1.0);
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Strategy {
    No,
    Steps,
    Epoch,
}

crate::choices!(Strategy, [("no", Strategy::No), ("steps", Strategy::Steps), ("epoch", Strategy::Epoch)]);

/// A number of steps, or below 1 a fraction of all steps.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Every(EvalInterval);

impl OptionType for Every {
    fn type_name() -> String {
        "number".to_owned()
    }
    fn expected() -> String {
        "a whole number of steps, or a fraction of all steps between 0 and 1".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match value.as_f64() {
            Some(every) if every > 0.0 && every < 1.0 => Ok(Every(EvalInterval::Fraction(every))),
            Some(every) if every >= 0.0 && every.fract() == 0.0 && every < 1e15 => {
                Ok(Every(EvalInterval::Steps(every as u64)))
            }
            _ => Err(Mismatch::of::<Self>(value)),
        }
    }
    fn to_value(&self) -> Value {
        match self.0 {
            EvalInterval::Steps(steps) => Value::Int(steps as i64),
            EvalInterval::Fraction(fraction) => Value::Float(fraction),
            EvalInterval::AtEveryLog | EvalInterval::PerEpoch { .. } => Value::Unit,
        }
    }
}

impl EvalOptions {
    /// `None` if none of the options is set.
    fn interval(&self) -> Result<Option<EvalInterval>, Refusal> {
        let per_epoch = |evals_per_epoch| EvalInterval::PerEpoch { evals_per_epoch };
        Ok(Some(match (self.eval_strategy, self.eval_every, self.evals_per_epoch) {
            (None, None, None) => return Ok(None),
            (Some(Strategy::No), None, None) => EvalInterval::Steps(0),
            (Some(Strategy::Steps), None, None) => EvalInterval::AtEveryLog,
            (None | Some(Strategy::Steps), Some(Every(every)), None) => every,
            (Some(Strategy::Epoch), None, None) => per_epoch(1),
            (None | Some(Strategy::Epoch), None, Some(count)) => per_epoch(count),
            (None, Some(_), Some(_)) => {
                let refusal = Refusal::new("evals_per_epoch", "it or `eval_every`", "both");
                return Err(refusal.with_hint("leave one of them out"));
            }
            (Some(strategy), every, _) => {
                let other = if every.is_some() { "eval_every" } else { "evals_per_epoch" };
                let expected = "\"steps\" with `eval_every`, \"epoch\" with `evals_per_epoch` or alone, or \"no\"";
                let both = format!("{} and `{other}`", strategy.to_value().literal());
                return Err(Refusal::new("eval_strategy", expected, both));
            }
        }))
    }
}

impl OptionSet for EvalInterval {
    fn table() -> &'static Table {
        EvalOptions::table()
    }

    fn update(&mut self, source: &mut dyn Source) -> Result<Vec<&'static str>> {
        let mut options = EvalOptions::default();
        let names = options.update(source)?;
        let interval = match options.problem() {
            Some(refusal) => Err(refusal),
            None => options.interval(),
        };
        if let Some(interval) = interval.map_err(|refusal| source.refuse(refusal))? {
            *self = interval;
        }
        Ok(names)
    }

    fn values(&self) -> Vec<(&'static str, Value)> {
        vec![match self {
            EvalInterval::PerEpoch { evals_per_epoch } => ("evals_per_epoch", evals_per_epoch.to_value()),
            EvalInterval::AtEveryLog => ("eval_strategy", Strategy::Steps.to_value()),
            EvalInterval::Steps(_) | EvalInterval::Fraction(_) => ("eval_every", Every(*self).to_value()),
        }]
    }
}

impl EvalInterval {
    pub fn is_on_the_way(self) -> bool {
        self != EvalInterval::Steps(0)
    }

    /// Is a run of `total` steps evaluated after step `step`, counted from 1?
    pub fn is_due(self, step: u64, total: u64, steps_per_epoch: u64) -> bool {
        if step == total {
            return true;
        }
        match self {
            EvalInterval::Steps(0) | EvalInterval::AtEveryLog => false,
            EvalInterval::Steps(every) => step.is_multiple_of(every),
            EvalInterval::Fraction(fraction) => step.is_multiple_of(((total as f64 * fraction).ceil() as u64).max(1)),
            // The number of completed parts of an epoch; the last part ends with the epoch.
            EvalInterval::PerEpoch { evals_per_epoch } => {
                let parts = |step: u64| step * evals_per_epoch / steps_per_epoch.max(1);
                step > 0 && parts(step) > parts(step - 1)
            }
        }
    }

    /// The number of evaluations of a run of `total` steps.
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
        for wrong in [1.5, -1.0, f64::NAN] {
            assert!(Every::from_value(&Value::Float(wrong)).is_err(), "{wrong}");
        }
    }
}
