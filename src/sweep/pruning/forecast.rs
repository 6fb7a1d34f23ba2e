//! The tokens that a sweep with pruning is expected to take.

use super::options::{PruneOptions, PruneRule};
use super::pruner::Entrant;
use super::rule::number_kept;
use super::rungs::Rung;
use crate::format::thousands;
use std::fmt;

/// A trial that is to run: its rungs, and the tokens that it has seen after a step.
pub struct Climber<'a> {
    pub entrant: &'a Entrant,
    /// The setting that it is of, by the number of the setting.
    pub setting: usize,
    pub tokens_after: &'a dyn Fn(u64) -> u64,
}

/// What pruning leaves of the tokens of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct PruningForecast {
    /// The tokens of all trials to their ends, and with pruning: with "halving" as many, with "median" at least as many.
    pub all: u64,
    pub expected: u64,
    /// Settings and the step to which they train, in order: "96 to step 12".
    pub rungs: Vec<(usize, u64)>,
    pub rule: PruneRule,
}

impl PruningForecast {
    /// With "halving" the number of settings at each rung is known, and each counts with the mean of its class. With
    /// "median" at most half of them can be worse than the median of means.
    pub fn of(options: &PruneOptions, trials: &[Climber]) -> PruningForecast {
        let mut forecast = PruningForecast { all: 0, expected: 0, rungs: Vec::new(), rule: options.rule };
        let mut classes: Vec<usize> = trials.iter().map(|trial| trial.entrant.class).collect();
        classes.sort_unstable();
        classes.dedup();
        for class in classes {
            forecast.add(options, trials.iter().filter(|trial| trial.entrant.class == class).collect());
        }
        forecast.rungs.sort_by_key(|(_, step)| *step);
        forecast
    }

    fn add(&mut self, options: &PruneOptions, trials: Vec<&Climber>) {
        let mut settings: Vec<usize> = trials.iter().map(|trial| trial.setting).collect();
        settings.sort_unstable();
        settings.dedup();
        let (all, total) = (settings.len(), trials.iter().map(|trial| trial.entrant.tokens).sum::<u64>());
        let longest = trials.iter().map(|trial| &trial.entrant.rungs).max_by_key(|rungs| rungs.len());
        let rungs: Vec<Rung> = longest.cloned().unwrap_or_default();
        let deepest = rungs.iter().map(|rung| rung.stage.unsigned_abs() as u32).max().unwrap_or(0);
        let reductions = (all.max(1) as u64).ilog(options.eta.max(2)).max(1).min(deepest);
        let is_used = |rung: &Rung| options.rule == PruneRule::Median || rung.stage.unsigned_abs() as u32 <= reductions;
        let (mut left, mut expected, mut before) = (all, 0.0, 0);
        for rung in rungs.into_iter().filter(is_used) {
            if left < 2 {
                break;
            }
            let own = |trial: &&&Climber| trial.entrant.rungs.iter().find(|one| one.stage == rung.stage).copied();
            let until: u64 =
                trials.iter().map(|trial| own(&trial).map_or(0, |rung| (trial.tokens_after)(rung.step))).sum();
            expected += until.saturating_sub(before) as f64 * left as f64 / all.max(1) as f64;
            before = until.max(before);
            self.rungs.push((left, rung.step));
            left = match options.rule {
                PruneRule::Halving => {
                    let reduced = reductions + 1 - rung.stage.unsigned_abs() as u32;
                    number_kept(all, options.eta, reduced)
                }
                PruneRule::Median => left.div_ceil(2),
            };
        }
        expected += total.saturating_sub(before) as f64 * left as f64 / all.max(1) as f64;
        let last = trials.iter().map(|trial| trial.entrant.steps).max().unwrap_or(0);
        self.rungs.push((left, last));
        self.all += total;
        self.expected += expected.round() as u64;
    }

    /// The share of the tokens that pruning trains.
    pub fn fraction(&self) -> f64 {
        self.expected as f64 / self.all.max(1) as f64
    }
}

/// "pruning trains 26 % of these tokens, 1,234 of 4,567: 96 settings to step 12, 32 to 34, 10 to 100".
impl fmt::Display for PruningForecast {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = if self.rule == PruneRule::Median { "at least " } else { "" };
        let (expected, all) = (thousands(self.expected), thousands(self.all));
        write!(out, "pruning trains {least}{:.0} % of these tokens, {expected} of {all}: ", 100.0 * self.fraction())?;
        for (at, (settings, step)) in self.rungs.iter().enumerate() {
            let (settings, step) = (thousands(*settings as u64), thousands(*step));
            match at {
                0 => write!(out, "{settings} settings to step {step}")?,
                _ => write!(out, ", {settings} to {step}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forecast(rule: PruneRule, settings: usize) -> PruningForecast {
        let rungs = vec![Rung { stage: -2, step: 10 }, Rung { stage: -1, step: 30 }];
        let entrant = Entrant { class: 0, rungs, steps: 90, tokens: 900 };
        let tokens_after = |step: u64| 10 * step;
        let trials =
            (0..2 * settings).map(|at| Climber { entrant: &entrant, setting: at / 2, tokens_after: &tokens_after });
        let options = PruneOptions { rule, ..PruneOptions::default() };
        PruningForecast::of(&options, &trials.collect::<Vec<_>>())
    }

    #[test]
    fn halving_is_known_before() {
        let forecast = forecast(PruneRule::Halving, 96);
        // Two seeds of 96 settings to step 10, of 32 to 30, of 10 to 90, ten tokens a step.
        let expected = 2 * 10 * (96 * 10 + 32 * 20 + 10 * 60);
        assert_eq!((forecast.all, forecast.expected), (2 * 96 * 900, expected));
        let text = "pruning trains 25 % of these tokens, 44,000 of 172,800: 96 settings to step 10, 32 to 30, 10 to 90";
        assert_eq!(forecast.to_string(), text);
    }

    #[test]
    fn few_settings_have_fewer_rungs() {
        let forecast = forecast(PruneRule::Halving, 4);
        assert_eq!(forecast.rungs, [(4, 30), (1, 90)]);
        assert_eq!(forecast.expected, 2 * 10 * (4 * 30 + 60));
    }

    #[test]
    fn the_median_rule_has_a_bound() {
        let forecast = forecast(PruneRule::Median, 4);
        assert_eq!(forecast.rungs, [(4, 10), (2, 30), (1, 90)]);
        // 4 · 10 + 2 · 20 + 1 · 60 of 4 · 90 steps.
        assert!(forecast.to_string().starts_with("pruning trains at least 39 % of these tokens"), "{forecast}");
    }
}
