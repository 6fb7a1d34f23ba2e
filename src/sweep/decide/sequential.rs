//! A sequential test of several settings on the same seeds.
//!
//! A setting is *enough* if the best setting is better by less than the margin, and *worse* if it is better by more.
//! After each seed, from the third on, every setting is compared with all that may be the best (Hsu 1984, "Constrained
//! simultaneous confidence intervals for multiple comparisons with the best"): only the comparisons with the true best
//! count, one fewer than there are settings. The probability of error is spent in equal parts on them and on both of
//! their sides (Bonferroni), and each part on all planned looks together ([`looks`](super::looks)), so that it holds
//! whenever one looks or stops. An interval is
//!
//! ```text
//! mean of the differences within seeds ± t · √(variance / seeds)
//! ```
//!
//! where the variance is the larger of two: that of the two settings' differences, and that of all settings together
//! (twice the mean square of what remains when the means of settings and of seeds are subtracted). The quantile t is
//! that of the latter, with (settings − 1)(seeds − 1) degrees of freedom. If settings have the same variance this is a
//! usual analysis of blocks; if not, the first term keeps the intervals of noisy settings wide, and a fifth of the error
//! is not spent.
//!
//! A setting gets no further seeds once it is known to be worse, or enough but not the best.

use super::looks::{level_of_each, FIRST_LOOK};
use distrs::StudentsT;

/// The part of the error that is spent. The quantile of all settings together is a little too small where their spread
/// differs: with all of it spent, five settings at the margin of a best one with three times their spread got a wrong
/// verdict in 5.45 % of 2,000 simulated sweeps.
const SPENT: f64 = 0.8;

/// When a difference matters, and how certain a verdict is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Smaller differences do not matter; above 0, in the unit of the values.
    pub margin: f64,
    /// The probability that all verdicts are right.
    pub confidence: f64,
    /// The seeds of the last look, at least [`FIRST_LOOK`].
    pub max_seeds: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Enough,
    Worse,
    /// The seeds so far do not tell.
    Open,
}

/// A setting beside the one with the smallest mean, when it was last compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    pub leader: usize,
    /// The mean of value − value of the leader; 0 for the leader itself.
    pub difference: f64,
    /// Half the interval of the difference.
    pub half_width: f64,
}

/// What is known of one setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    pub verdict: Verdict,
    /// `None` before the first look.
    pub comparison: Option<Comparison>,
    /// The seeds of its last comparison.
    pub seeds: usize,
    may_be_best: bool,
    /// Does another seed of it tell more?
    pub is_in_play: bool,
}

/// Judges settings by their values, smaller ones being better: for each setting a value for each seed, in the same
/// order. Later seeds of a setting that got no further ones are not used, so that the verdicts do not depend on them.
/// Ends at the look where [`answer`] is known.
pub fn judge(values: &[Vec<f64>], rules: &Rules) -> Vec<Judged> {
    let unknown = Judged { verdict: Verdict::Open, comparison: None, seeds: 0, may_be_best: true, is_in_play: true };
    let mut settings = vec![unknown; values.len()];
    let comparisons = values.len().saturating_sub(1).max(1);
    let tail = level_of_each(SPENT * (1.0 - rules.confidence) / (2 * comparisons) as f64, rules.max_seeds);
    for seeds in FIRST_LOOK..=rules.max_seeds {
        let playing: Vec<usize> = (0..settings.len()).filter(|&at| settings[at].is_in_play).collect();
        if playing.len() < 2 || playing.iter().any(|&at| values[at].len() < seeds) {
            break;
        }
        let look = Look::new(values, &playing, seeds, tail);
        look.judge(&mut settings, rules.margin);
        if answer(&settings).is_some() {
            settings.iter_mut().for_each(|setting| setting.is_in_play = false);
            break;
        }
    }
    settings
}

/// The first setting that is enough, if all before it are worse.
pub fn answer(settings: &[Judged]) -> Option<usize> {
    let first = settings.iter().position(|setting| setting.verdict != Verdict::Worse)?;
    (settings[first].verdict == Verdict::Enough).then_some(first)
}

/// So many seeds would decide about a setting if differences and spread stay as they are; `None` if it is decided,
/// or if the difference is the margin itself.
pub fn seeds_needed(setting: &Judged, margin: f64) -> Option<usize> {
    let Comparison { difference, half_width, .. } = setting.comparison?;
    let missing = (difference - margin).abs();
    if setting.verdict != Verdict::Open || missing <= 0.0 {
        return None;
    }
    let needed = (setting.seeds as f64 * (half_width / missing).powi(2)).ceil();
    (needed < 1e6).then(|| (needed as usize).max(setting.seeds + 1))
}

/// The settings in play after some number of seeds.
struct Look<'a> {
    values: &'a [Vec<f64>],
    playing: &'a [usize],
    seeds: usize,
    /// The mean of each setting in play, by its number among all settings.
    means: Vec<f64>,
    quantile: f64,
    /// The variance of a difference, from all settings in play.
    pooled: f64,
}

impl<'a> Look<'a> {
    fn new(values: &'a [Vec<f64>], playing: &'a [usize], seeds: usize, tail: f64) -> Self {
        let mean = |values: &mut dyn Iterator<Item = f64>, count: usize| values.sum::<f64>() / count as f64;
        let means: Vec<f64> =
            values.iter().map(|values| mean(&mut values.iter().take(seeds).copied(), seeds)).collect();
        let grand = mean(&mut playing.iter().map(|&at| means[at]), playing.len());
        let of_seed = |seed: usize| {
            let of_seed = mean(&mut playing.iter().map(|&at| values[at][seed]), playing.len());
            playing.iter().map(|&at| (values[at][seed] - means[at] - of_seed + grand).powi(2)).sum::<f64>()
        };
        let squares: f64 = (0..seeds).map(of_seed).sum();
        let freedom = ((playing.len() - 1) * (seeds - 1)) as f64;
        let quantile = StudentsT::ppf(1.0 - tail, freedom);
        Look { values, playing, seeds, means, quantile, pooled: 2.0 * squares / freedom }
    }

    fn difference(&self, one: usize, other: usize) -> f64 {
        self.means[one] - self.means[other]
    }

    fn half_width(&self, one: usize, other: usize) -> f64 {
        let mean = self.difference(one, other);
        let differences = (0..self.seeds).map(|seed| self.values[one][seed] - self.values[other][seed]);
        let squares: f64 = differences.map(|difference| (difference - mean).powi(2)).sum();
        let variance = squares / (self.seeds - 1) as f64;
        self.quantile * (variance.max(self.pooled) / self.seeds as f64).sqrt()
    }

    fn judge(&self, settings: &mut [Judged], margin: f64) {
        let is_beaten = |one: usize| {
            self.playing.iter().any(|&other| other != one && self.difference(one, other) > self.half_width(one, other))
        };
        for &at in self.playing {
            settings[at].may_be_best &= !is_beaten(at);
        }
        let best: Vec<usize> = self.playing.iter().copied().filter(|&at| settings[at].may_be_best).collect();
        let by_mean = |one: &usize, other: &usize| self.means[*one].total_cmp(&self.means[*other]);
        let Some(leader) = self.playing.iter().copied().min_by(by_mean) else { return };
        for &at in self.playing {
            let setting = &mut settings[at];
            if setting.verdict == Verdict::Open {
                // How much better the best setting is: at most, and at least.
                let others = best.iter().filter(|&&other| other != at);
                let most = others.map(|&other| self.difference(at, other) + self.half_width(at, other));
                let least = best.iter().map(|&other| match other == at {
                    true => 0.0,
                    false => self.difference(at, other) - self.half_width(at, other),
                });
                if most.fold(0.0, f64::max) < margin {
                    setting.verdict = Verdict::Enough;
                } else if least.fold(f64::INFINITY, f64::min) > margin {
                    setting.verdict = Verdict::Worse;
                }
            }
            setting.seeds = self.seeds;
            setting.comparison = Some(Comparison {
                leader,
                difference: self.difference(at, leader),
                half_width: if at == leader { 0.0 } else { self.half_width(at, leader) },
            });
            setting.is_in_play = setting.may_be_best || setting.verdict == Verdict::Open;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    const RULES: Rules = Rules { margin: 0.01, confidence: 0.95, max_seeds: 12 };

    /// What became of many sweeps whose settings differ by these offsets. Seeds differ by 0.05, the values of a setting
    /// beyond that by its deviation.
    struct Outcomes {
        decided: f64,
        wrong_answer: f64,
        wrong_verdict: f64,
        /// Trials per sweep.
        trials: f64,
    }

    /// The values of one sweep, for each setting and seed.
    fn values(sweep: u64, offsets: &[f64], deviations: &[f64]) -> Vec<Vec<f64>> {
        let of_seeds = Key::new(1).numbered(sweep);
        let value = |setting: usize, seed: u64| {
            let noise = Key::new(2).numbered(sweep).numbered(setting as u64).normal(seed);
            offsets[setting] + 0.05 * of_seeds.normal(seed) + deviations[setting] * noise
        };
        let of = |setting| (0..RULES.max_seeds as u64).map(|seed| value(setting, seed)).collect();
        (0..offsets.len()).map(of).collect()
    }

    /// The fraction of sweeps that are decided by one look, after so many seeds of every setting.
    fn decided_by_one_look(sweeps: u64, offsets: &[f64], deviations: &[f64], seeds: usize) -> f64 {
        let unknown =
            Judged { verdict: Verdict::Open, comparison: None, seeds: 0, may_be_best: true, is_in_play: true };
        let all: Vec<usize> = (0..offsets.len()).collect();
        let tail = (1.0 - RULES.confidence) / (2 * (offsets.len() - 1)) as f64;
        let is_decided = |sweep: &u64| {
            let mut settings = vec![unknown; offsets.len()];
            Look::new(&values(*sweep, offsets, deviations), &all, seeds, tail).judge(&mut settings, RULES.margin);
            answer(&settings).is_some()
        };
        (0..sweeps).filter(is_decided).count() as f64 / sweeps as f64
    }

    fn simulated(sweeps: u64, offsets: &[f64], deviations: &[f64]) -> Outcomes {
        let best = offsets.iter().copied().fold(f64::INFINITY, f64::min);
        let is_enough = |at: usize| offsets[at] - best < RULES.margin;
        let truth = (0..offsets.len()).find(|&at| is_enough(at)).unwrap();
        let mut sums = Outcomes { decided: 0.0, wrong_answer: 0.0, wrong_verdict: 0.0, trials: 0.0 };
        for sweep in 0..sweeps {
            let values = values(sweep, offsets, deviations);
            let settings = judge(&values, &RULES);
            let answer = answer(&settings);
            sums.decided += f64::from(answer.is_some());
            sums.wrong_answer += f64::from(answer.is_some_and(|answer| answer != truth));
            let is_wrong = |(at, setting): (usize, &Judged)| match setting.verdict {
                Verdict::Enough => !is_enough(at),
                Verdict::Worse => is_enough(at),
                Verdict::Open => false,
            };
            sums.wrong_verdict += f64::from(settings.iter().enumerate().any(is_wrong));
            sums.trials += settings.iter().map(|one| one.seeds as f64).sum::<f64>();
        }
        let share = |sum: f64| sum / sweeps as f64;
        println!(
            "{offsets:?}, deviations {deviations:?}: decided {:.3}, wrong answer {:.4}, any wrong verdict {:.4}, {:.1} trials of {}",
            share(sums.decided), share(sums.wrong_answer), share(sums.wrong_verdict), share(sums.trials),
            offsets.len() * RULES.max_seeds
        );
        Outcomes {
            decided: share(sums.decided),
            wrong_answer: share(sums.wrong_answer),
            wrong_verdict: share(sums.wrong_verdict),
            trials: share(sums.trials),
        }
    }

    #[test]
    fn settings_without_a_difference_are_enough() {
        let outcomes = simulated(500, &[0.0; 6], &[0.003; 6]);
        assert_eq!((outcomes.wrong_answer, outcomes.wrong_verdict), (0.0, 0.0));
        assert!(outcomes.decided > 0.99 && outcomes.trials < 40.0);
    }

    #[test]
    fn verdicts_at_the_margin_are_wrong_in_at_most_5_of_100_sweeps() {
        for offset in [0.009_999, 0.010_001] {
            for count in [2, 6] {
                let mut offsets = vec![0.0; count];
                offsets[0] = offset;
                let outcomes = simulated(2000, &offsets, &vec![0.003; count]);
                assert!(outcomes.wrong_verdict <= 0.05);
                // The best setting is noisy, and all others are at the margin.
                let mut offsets = vec![offset; count];
                offsets[count - 1] = 0.0;
                let mut deviations = vec![0.003; count];
                deviations[count - 1] = 0.009;
                assert!(simulated(2000, &offsets, &deviations).wrong_verdict <= 0.05);
            }
        }
    }

    #[test]
    fn a_true_difference_is_seen_with_fewer_seeds() {
        // Rank 2, 4, 8 … on a falling curve: the third is the first that is enough.
        let (offsets, deviations) = ([0.06, 0.031, 0.002, 0.0, 0.0, 0.0], [0.003; 6]);
        let outcomes = simulated(500, &offsets, &deviations);
        for seeds in FIRST_LOOK..=RULES.max_seeds {
            let decided = decided_by_one_look(500, &offsets, &deviations, seeds);
            println!("one look after {seeds} seeds, {} trials: decided {decided:.3}", seeds * offsets.len());
        }
        assert_eq!(outcomes.wrong_answer, 0.0);
        assert!(outcomes.decided > 0.9 && outcomes.trials < 0.6 * 72.0);
    }

    #[test]
    fn an_interval_is_that_of_the_paired_differences() {
        // By hand: differences 1, 2, 3: mean 2, variance 1; pooled the same, with 2 degrees of freedom. One look, one
        // comparison, four fifths of the error: t(0.98; 2) = 4.848732.
        let values = [vec![1.0, 12.0, 103.0], vec![0.0, 10.0, 100.0]];
        let settings = judge(&values, &Rules { margin: 0.1, confidence: 0.95, max_seeds: 3 });
        let comparison = settings[0].comparison.unwrap();
        assert_eq!((comparison.leader, settings[0].seeds), (1, 3));
        assert!((comparison.difference - 2.0).abs() < 1e-12);
        assert!((comparison.half_width - 4.848_732 / 3.0_f64.sqrt()).abs() < 1e-6);
        assert_eq!(settings[0].verdict, Verdict::Open);
        // (2.799 / 1.9)² · 3 = 6.51
        assert_eq!(seeds_needed(&settings[0], 0.1), Some(7));
    }

    #[test]
    fn two_seeds_say_nothing() {
        let settings = judge(&[vec![0.0, 0.0], vec![1.0, 1.0]], &RULES);
        assert!(settings.iter().all(|one| one.verdict == Verdict::Open && one.comparison.is_none() && one.is_in_play));
    }

    #[test]
    fn later_seeds_of_a_setting_that_is_out_change_nothing() {
        let of = |offset: f64| -> Vec<f64> {
            (0..12).map(|seed| offset + 0.001 * Key::new(3).numbered(seed).normal((offset * 100.0) as u64)).collect()
        };
        let values = [of(0.5), of(0.0103), of(0.0)];
        let settings = judge(&values, &RULES);
        assert_eq!(settings[0].verdict, Verdict::Worse);
        let seeds = settings[0].seeds;
        assert!(seeds < settings[1].seeds);
        let mut shortened = values.clone();
        shortened[0].truncate(seeds);
        assert_eq!(judge(&shortened, &RULES), settings);
    }

    #[test]
    fn equal_values_need_no_spread() {
        let settings = judge(&[vec![1.0; 3], vec![1.0; 3]], &RULES);
        assert_eq!(answer(&settings), Some(0));
    }
}
