//! Detects a run that learns nothing: its training loss stays where it began, or above.
//!
//! The rule is checked 50, 100, 200, 400, … steps after the warm-up, and after the last step if at least
//! [`LEAST_STEPS`] follow the warm-up. Let b be the mean of the first ten losses, e the mean of the later half of the
//! losses after the warm-up, and f the fraction of the run that is done. The loss is flat if
//!
//! b − e + 3 √(s_b² / 10 + s_e² / n) < 1 % · b · f,
//!
//! when the loss will almost certainly fall by less than 1 % in the entire run. s_e is the sample standard deviation
//! of the later half. s_b is the larger of two estimates: the one from the median absolute deviation of the first ten
//! losses, which ignores the single loss before the first update; and s_e · b / e, because ten losses alone
//! underestimate their scatter. Scatter widens the bound: a run whose losses scatter by 5 % is judged only after
//! hundreds of steps. Below [`LEAST_LOSS`] there is nothing left to learn.

use serde::{Deserialize, Serialize};

/// The number of losses at the beginning of a run that are compared with later ones.
const FIRST: usize = 10;
/// Steps after the warm-up before the first check, and before one at the end of a run.
const FIRST_LOOK: usize = 50;
const LEAST_STEPS: usize = 30;
/// The least fall of the loss, relative to where it began.
const LEAST_FALL: f64 = 0.01;
const DEVIATIONS: f64 = 3.0;
const LEAST_LOSS: f64 = 0.05;
/// The relative distance from ln(vocabulary) below which a mean loss counts as guessing.
const NEAR_GUESSING: f64 = 1e-3;

/// A training loss that has not fallen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FlatLoss {
    /// Mean of the first steps.
    pub began: f64,
    /// Mean of the later half of the steps so far.
    pub now: f64,
    /// Is it the loss of guessing all tokens of the vocabulary with equal probability?
    pub is_guessing: bool,
}

/// Watches one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlatLossWatch {
    warmup_steps: usize,
    total_steps: usize,
    /// ln(vocabulary).
    guessing: f64,
    losses: Vec<f64>,
    next_look: usize,
    was_flat: bool,
}

impl FlatLossWatch {
    pub fn new(warmup_steps: u64, total_steps: u64, vocabulary: i64) -> Self {
        FlatLossWatch {
            warmup_steps: warmup_steps as usize,
            total_steps: total_steps as usize,
            guessing: (vocabulary.max(2) as f64).ln(),
            losses: Vec::new(),
            next_look: FIRST_LOOK,
            was_flat: false,
        }
    }

    /// Goes on where `earlier` stood, as for a run of the present length.
    pub fn resume(&mut self, earlier: FlatLossWatch) {
        let FlatLossWatch { losses, next_look, was_flat, .. } = earlier;
        (self.losses, self.next_look, self.was_flat) = (losses, next_look, was_flat);
    }

    /// Records the training loss of a step. Reports once that the loss is flat.
    pub fn on_step(&mut self, loss: f64) -> Option<FlatLoss> {
        self.losses.push(loss);
        let behind = self.losses.len().saturating_sub(self.warmup_steps);
        let is_last = self.losses.len() == self.total_steps && behind >= LEAST_STEPS;
        if self.was_flat || !(behind == self.next_look || is_last) {
            return None;
        }
        self.next_look = (2 * behind).max(FIRST_LOOK);
        let flat = self.flat(behind);
        self.was_flat = flat.is_some();
        flat
    }

    fn flat(&self, behind: usize) -> Option<FlatLoss> {
        let (first, later) = (self.losses.get(..FIRST)?, self.losses.get(self.losses.len() - behind / 2..)?);
        let (began, now) = (mean(first), mean(later));
        let (late, count) = (variance(later), later.len() as f64);
        let early = scatter(first).powi(2).max(late * (began / now).powi(2));
        let error = (early / first.len() as f64 + late / count).sqrt();
        let over = behind as f64 / self.total_steps.saturating_sub(self.warmup_steps).max(behind) as f64;
        let is_flat = began > LEAST_LOSS && began - now + DEVIATIONS * error < LEAST_FALL * over * began;
        is_flat.then(|| FlatLoss { began, now, is_guessing: (now / self.guessing - 1.0).abs() < NEAR_GUESSING })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1).max(1) as f64
}

/// The standard deviation, estimated from the median absolute deviation.
fn scatter(values: &[f64]) -> f64 {
    let middle = median(values);
    1.4826 * median(&values.iter().map(|value| (value - middle).abs()).collect::<Vec<_>>())
}

/// The median of unsorted values; NaN sorts last.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    let lower = sorted.get((sorted.len().max(1) - 1) / 2).copied().unwrap_or(f64::NAN);
    (lower + upper) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    /// The step at which a run with these losses is reported as flat.
    fn flat_at(warmup: u64, losses: impl ExactSizeIterator<Item = f64>) -> Option<(usize, FlatLoss)> {
        let mut watch = FlatLossWatch::new(warmup, losses.len() as u64, 1024);
        let reports: Vec<(usize, FlatLoss)> =
            losses.enumerate().filter_map(|(at, loss)| Some((at + 1, watch.on_step(loss)?))).collect();
        assert!(reports.len() < 2, "reported twice: {reports:?}");
        reports.first().copied()
    }

    fn noisy(seed: u64, relative: f64, course: impl Fn(f64) -> f64) -> impl ExactSizeIterator<Item = f64> {
        let key = Key::new(seed);
        (0..400_u32).map(move |step| course(f64::from(step)) * (1.0 + relative * key.normal(u64::from(step))))
    }

    #[test]
    fn guessing_from_the_first_or_the_second_step_on_is_noticed_at_once() {
        let guess = 1024_f64.ln();
        let (at, flat) = flat_at(0, std::iter::repeat_n(guess, 200)).unwrap();
        assert!(at == 50 && flat.is_guessing, "{at} {flat:?}");
        let jumps = (0..60).map(|step| if step < 2 { 2.5 } else { guess });
        let (at, flat) = flat_at(0, jumps).unwrap();
        assert!(at == 50 && flat.is_guessing && flat.now > flat.began, "{flat:?}");
        let (at, flat) = flat_at(0, std::iter::repeat_n(3.0, 30)).unwrap();
        assert!(at == 30 && !flat.is_guessing, "{flat:?}");
    }

    #[test]
    fn a_warm_up_and_a_short_run_are_waited_for() {
        assert_eq!(flat_at(0, std::iter::repeat_n(3.0, 29)), None);
        assert_eq!(flat_at(80, std::iter::repeat_n(3.0, 100)), None);
        assert_eq!(flat_at(80, std::iter::repeat_n(3.0, 200)).map(|(at, _)| at), Some(130));
        // The loss falls once the rate is up.
        let warm = (0..200).map(|step| if step < 100 { 3.0 } else { 3.0 - 0.01 * f64::from(step - 100) });
        assert_eq!(flat_at(100, warm), None);
    }

    #[test]
    fn runs_that_learn_are_left_alone() {
        let mut false_alarms = 0;
        for seed in 0..400 {
            // A slow fall of 3 % in all, and one at once with a plateau behind it, under scatter of 1 to 10 %.
            let noise = 0.01 + 0.09 * Key::new(seed).uniform(0);
            let slow = noisy(seed, noise, |step| 2.0 - 0.06 * (step / 400.0));
            let soon = noisy(seed, noise, |step| 1.9 + 0.1 * (-step / 3.0).exp());
            let steady = noisy(seed, noise, |step| 1.0 + (-step / 40.0).exp());
            false_alarms += [flat_at(0, slow), flat_at(0, soon), flat_at(0, steady)].iter().flatten().count();
        }
        // 1,200 runs of 400 steps that learn something.
        println!("{false_alarms} of 1200");
        assert!(false_alarms <= 6, "{false_alarms}");
        assert_eq!(flat_at(0, std::iter::repeat_n(0.01, 100)), None, "nothing is left to learn");
    }

    #[test]
    fn runs_that_only_scatter_are_noticed_where_that_is_certain() {
        let noticed = |noise: f64, course: fn(f64) -> f64| {
            (0..100).filter(|&seed| flat_at(0, noisy(seed, noise, course)).is_some()).count()
        };
        let still = noticed(0.005, |_| 2.0);
        let worse = noticed(0.1, |step| if step < 10.0 { 2.0 } else { 6.0 });
        println!("still {still}, worse {worse} of 100");
        assert!(still >= 90 && worse >= 95, "{still} {worse}");
    }
}
