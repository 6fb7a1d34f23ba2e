//! Detects overfitting while a run trains: held-out loss rises while training loss falls.
//!
//! The rule is checked after every evaluation. All of it must hold:
//!
//! 1. At least four evaluations came after the best one, and each of the last three is higher
//!    than all others since the best.
//! 2. The mean of the last three lies above the mean of the three around the best by more than
//!    1 %, and by more than twice the standard deviation that scatter gives this difference.
//!    Scatter is estimated from second differences, in which a linear trend cancels:
//!    σ = median |eᵢ₋₁ - 2eᵢ + eᵢ₊₁| / (0.6745 √6) (Gasser, Sroka and Jennen-Steinmetz, 1986,
//!    with the median for the mean), and the difference of two means of three has σ √(2/3).
//! 3. The mean training loss of the last three evaluations is below that of the best one.
//!
//! With scatter of 3 % and no trend, about one run of 50 evaluations in 20 is a false alarm (a test counts them);
//! held-out losses of real runs scatter far less.

use serde::{Deserialize, Serialize};

/// Evaluations on either side of the comparison.
const SIDE: usize = 3;
/// The least rise, relative to the best loss.
const LEAST_RISE: f64 = 0.01;
/// The least rise, in standard deviations of the scatter.
const DEVIATIONS: f64 = 2.0;

/// The step after which held-out loss rises: its name in logs and results.
pub const OVERFITS_AFTER: &str = "overfits_after";

/// The point since which a run overfits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Overfitting {
    /// The step of the best evaluation.
    pub best_step: u64,
    pub best_loss: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Evaluation {
    step: u64,
    loss: f64,
    /// Mean training loss since the evaluation before.
    train_loss: f64,
}

/// Watches one run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct OverfittingWatch {
    evaluations: Vec<Evaluation>,
    /// The sum of the training losses since the last evaluation, and their number.
    since: (f64, u64),
    was_reported: bool,
}

impl OverfittingWatch {
    /// Records the training loss of a step.
    pub fn on_step(&mut self, loss: f64) {
        self.since.0 += loss;
        self.since.1 += 1;
    }

    /// Records an evaluation. Reports overfitting once, at the first evaluation that shows it.
    pub fn on_eval(&mut self, step: u64, loss: f64) -> Option<Overfitting> {
        let (sum, count) = std::mem::take(&mut self.since);
        if !loss.is_finite() || count == 0 {
            return None;
        }
        self.evaluations.push(Evaluation { step, loss, train_loss: sum / count as f64 });
        let overfitting = overfitting(&self.evaluations).filter(|_| !self.was_reported);
        self.was_reported |= overfitting.is_some();
        overfitting
    }
}

fn overfitting(evaluations: &[Evaluation]) -> Option<Overfitting> {
    let losses: Vec<f64> = evaluations.iter().map(|evaluation| evaluation.loss).collect();
    let best = (0..losses.len()).min_by(|&left, &right| losses[left].total_cmp(&losses[right]))?;
    if losses.len() < best + 2 + SIDE {
        return None;
    }
    let (last, around) = (&evaluations[losses.len() - SIDE..], &evaluations[best.saturating_sub(1)..best + 2]);
    let mean =
        |part: &[Evaluation], value: fn(&Evaluation) -> f64| part.iter().map(value).sum::<f64>() / part.len() as f64;
    let before = mean(around, |evaluation| evaluation.loss);
    let rise = mean(last, |evaluation| evaluation.loss) - before;
    let noise = scatter(&losses) * (2.0 / SIDE as f64).sqrt();
    let highs =
        (losses.len() - SIDE..losses.len()).all(|at| losses[best..at].iter().all(|earlier| *earlier < losses[at]));
    let rises = highs && rise > LEAST_RISE * before.abs() && rise > DEVIATIONS * noise;
    let falls = mean(last, |evaluation| evaluation.train_loss) < evaluations[best].train_loss;
    (rises && falls).then(|| Overfitting { best_step: evaluations[best].step, best_loss: losses[best] })
}

/// The standard deviation of the losses around their trend.
fn scatter(losses: &[f64]) -> f64 {
    let mut bends: Vec<f64> = losses.windows(3).map(|three| (three[0] - 2.0 * three[1] + three[2]).abs()).collect();
    bends.sort_by(f64::total_cmp);
    let median = bends.get(bends.len() / 2).copied().unwrap_or(f64::INFINITY);
    median / (0.6745 * 6.0_f64.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    /// The step of the best evaluation, and the step at which overfitting was reported.
    fn noticed(count: u64, eval: impl Fn(f64) -> f64, train: impl Fn(f64) -> f64) -> Option<(u64, u64)> {
        let mut watch = OverfittingWatch::default();
        let mut report = None;
        for step in 1..=count {
            watch.on_step(train(step as f64));
            if let Some(overfitting) = watch.on_eval(step, eval(step as f64)) {
                assert!(report.is_none(), "reported twice");
                report = Some((overfitting.best_step, step));
            }
        }
        report
    }

    fn falling(step: f64) -> f64 {
        3.0 * (-step / 8.0).exp()
    }

    #[test]
    fn a_turn_is_noticed_soon_and_reported_once() {
        let turn = |step: f64| 1.0 + 2.0 * (-step / 3.0).exp() + 0.02 * step;
        let (best, at) = noticed(40, turn, falling).unwrap();
        assert_eq!(best, 11);
        assert!((15..=20).contains(&at), "{at}");
        let short = [2.0, 1.5, 1.3, 1.25, 1.3, 1.4, 1.5, 1.62];
        assert_eq!(noticed(8, |step| short[step as usize - 1], falling).unwrap().0, 4);
    }

    #[test]
    fn a_real_run_is_noticed() {
        // scripts/overfitting.rhai, evaluated every 20 steps.
        let real = [4.6117, 4.1809, 4.3884, 4.2193, 4.7672, 4.8314, 5.1837];
        assert_eq!(noticed(7, |step| real[step as usize - 1], falling), Some((2, 7)));
    }

    #[test]
    fn a_turn_is_noticed_under_scatter() {
        for seed in 0..50 {
            let noise = |step: f64| 0.02 * Key::new(seed).normal(step as u64);
            let report = noticed(40, |step| 1.0 + 0.001 * (step - 12.0).powi(2) + noise(step), falling);
            let (best, at) = report.unwrap_or_else(|| panic!("seed {seed}: not noticed"));
            assert!((5..=19).contains(&best) && at > best + 3, "seed {seed}: {report:?}");
        }
    }

    #[test]
    fn runs_that_fall_or_stay_are_left_alone() {
        assert_eq!(noticed(60, |step| 1.0 + (-step / 5.0).exp(), falling), None);
        // Rising by less than 1 % is no harm.
        assert_eq!(noticed(60, |step| 1.0 + (-step / 2.0).exp() + 1e-4 * step, falling), None);
        // Both rise: the learning rate is too high, which is something else.
        assert_eq!(noticed(40, |step| 1.0 + 0.05 * step, |step| 1.0 + 0.05 * step), None);
        assert_eq!(noticed(40, |_| f64::NAN, falling), None);
    }

    #[test]
    fn scatter_alone_is_rarely_taken_for_it() {
        let mut false_alarms = Vec::new();
        for seed in 0..400 {
            let noise = |step: f64| 0.03 * Key::new(seed).normal(step as u64);
            let flat = noticed(50, |step| 1.0 + noise(step), falling);
            let settling = noticed(50, |step| 1.0 + (-step / 5.0).exp() + noise(step), falling);
            false_alarms.extend([flat, settling].into_iter().flatten().map(|report| (seed, report)));
        }
        // 800 runs of 50 evaluations with nothing but scatter of 3 %.
        println!("{} of 800", false_alarms.len());
        assert!(false_alarms.len() <= 56, "{}: {false_alarms:?}", false_alarms.len());
    }
}
