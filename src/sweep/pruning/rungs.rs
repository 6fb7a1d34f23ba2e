//! The steps at which a trial pauses, its rungs.

use super::options::{PruneOptions, PruneRule};
use crate::train::TrainConfig;

/// Where nothing else is asked for, no trial is stopped before it took its steps / eta to this power.
const USUAL_RUNGS: u32 = 2;
/// The rungs of a trial that is evaluated at its end alone, where every evaluation is one.
const TENTHS: u64 = 10;

/// A rung of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    /// The decision that it waits for: rungs of different trials with the same number are compared, the smaller first. With
    /// "halving" -k after the steps / eta^k, so that -1 is the last; with "median" the number of the evaluation.
    pub stage: i64,
    /// The step after which the trial pauses.
    pub step: u64,
}

/// The rungs of a trial of this configuration over so many rows, by step. Where the trial is evaluated on the way, each is
/// an evaluation that it has anyway.
pub fn rungs(options: &PruneOptions, config: &TrainConfig, rows: usize) -> Vec<Rung> {
    let (total, per_epoch) = (config.total_steps(rows), config.steps_per_epoch(rows));
    let warmup = config.schedule(rows).map_or(0, |schedule| schedule.warmup_steps);
    let usual = total.div_ceil(power(options.eta, USUAL_RUNGS)).max(warmup);
    let earliest = options.min_steps.unwrap_or(usual).max(1);
    match options.rule {
        PruneRule::Halving => halving_rungs(options.eta, earliest, config, total, per_epoch),
        PruneRule::Median => {
            let is_on_the_way = config.eval_every.is_on_the_way();
            let is_rung = |step: &u64| match is_on_the_way {
                true => config.eval_every.is_due(*step, total, per_epoch),
                false => tenth_of(*step, total) > tenth_of(step.saturating_sub(1), total),
            };
            let steps = (1..total).filter(is_rung).enumerate();
            let rungs = steps.map(|(stage, step)| Rung { stage: stage as i64, step });
            rungs.filter(|rung| rung.step >= earliest).collect()
        }
    }
}

fn tenth_of(step: u64, total: u64) -> u64 {
    step * TENTHS / total.max(1)
}

fn power(eta: u64, exponent: u32) -> u64 {
    eta.checked_pow(exponent).unwrap_or(u64::MAX).max(1)
}

/// Rungs after total / eta^k steps.
fn halving_rungs(eta: u64, earliest: u64, config: &TrainConfig, total: u64, per_epoch: u64) -> Vec<Rung> {
    let nominal = |exponent: u32| total.div_ceil(power(eta, exponent));
    // Beyond the last of them the steps no longer fall.
    let is_rung = |exponent: &u32| nominal(*exponent) >= earliest && nominal(*exponent) < nominal(exponent - 1);
    let exponents: Vec<u32> = (1..u64::BITS).take_while(is_rung).collect();
    let mut rungs: Vec<Rung> = Vec::new();
    for exponent in exponents.into_iter().rev() {
        let step = evaluation_at_or_after(nominal(exponent), config, total, per_epoch);
        // Where two meet at one evaluation, the later one decides.
        rungs.retain(|other| other.step < step);
        if step < total {
            rungs.push(Rung { stage: -i64::from(exponent), step });
        }
    }
    rungs
}

/// The step itself where the trial is evaluated at its end alone.
fn evaluation_at_or_after(step: u64, config: &TrainConfig, total: u64, per_epoch: u64) -> u64 {
    if !config.eval_every.is_on_the_way() {
        return step;
    }
    (step..total).find(|&step| config.eval_every.is_due(step, total, per_epoch)).unwrap_or(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::EvalInterval;

    fn steps(options: &PruneOptions, config: &TrainConfig) -> Vec<u64> {
        rungs(options, config, 1000).iter().map(|rung| rung.step).collect()
    }

    fn config(steps: u64, every: u64) -> TrainConfig {
        TrainConfig { steps, eval_every: EvalInterval::Steps(every), ..TrainConfig::default() }
    }

    #[test]
    fn rungs_are_thirds_of_thirds() {
        let options = PruneOptions::default();
        assert_eq!(steps(&options, &config(90, 0)), [10, 30]);
        assert_eq!(steps(&options, &config(100, 0)), [12, 34]);
        let early = PruneOptions { min_steps: Some(1), ..PruneOptions::default() };
        assert_eq!(steps(&early, &config(81, 0)), [1, 3, 9, 27]);
        assert_eq!(steps(&early, &config(2, 0)), [1]);
        assert_eq!(steps(&early, &config(1, 0)), [] as [u64; 0]);
        let halves = PruneOptions { eta: 2, ..PruneOptions::default() };
        assert_eq!(steps(&halves, &config(8, 0)), [2, 4]);
    }

    #[test]
    fn rungs_are_evaluations_of_the_trial() {
        let options = PruneOptions::default();
        assert_eq!(steps(&options, &config(90, 20)), [20, 40]);
        assert_eq!(steps(&options, &config(90, 50)), [50], "both meet there");
        assert_eq!(rungs(&options, &config(90, 50), 1000), [Rung { stage: -1, step: 50 }]);
        assert_eq!(steps(&options, &config(90, 90)), [] as [u64; 0]);
    }

    #[test]
    fn no_rung_lies_in_the_warm_up() {
        let options = PruneOptions::default();
        let config = TrainConfig { warmup: 0.2, ..config(90, 0) };
        assert_eq!(steps(&options, &config), [30]);
        assert_eq!(rungs(&options, &config, 1000)[0], Rung { stage: -1, step: 30 });
    }

    #[test]
    fn the_median_rule_decides_at_each_evaluation() {
        let options = PruneOptions { rule: PruneRule::Median, ..PruneOptions::default() };
        assert_eq!(steps(&options, &config(40, 10)), [10, 20, 30]);
        assert_eq!(steps(&options, &config(20, 0)), [4, 6, 8, 10, 12, 14, 16, 18]);
        let late = PruneOptions { min_steps: Some(15), ..options };
        assert_eq!(steps(&late, &config(40, 10)), [20, 30]);
    }
}
