//! How far adapters that were had without training their rank lie from trained ones.
//!
//! With two seeds or more in common the differences are taken within seeds, and the interval is that of their mean by
//! Student's t. With one nested run alone, its difference to the mean of the trained ones has the interval of one more run
//! of the same spread: t · s · √(1 + 1/n).
//!
//! A rank is *close* if the upper end of its interval is at most the margin. That all ranks are close is then claimed
//! wrongly with at most the probability of error, however many there are: each of them must pass (an intersection-union
//! test; Berger, 1982). A rank is *worse* if the lower end of an interval for all ranks together (Bonferroni) is above the
//! margin, for one of them is enough to be wrong.

use crate::sweep::summary::Summary;
use distrs::StudentsT;
use serde_json::{json, Value};

/// The held-out loss of an adapter, and the seed of its run if a sweep has one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeedLoss {
    pub seed: Option<u64>,
    pub loss: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closeness {
    Close,
    Worse,
    /// The seeds do not tell.
    Open,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// The mean of loss − loss of the trained rank: above 0 where training the rank is better.
    pub difference: f64,
    /// Half the interval; `None` with one seed.
    pub half_width: Option<f64>,
    pub closeness: Closeness,
}

impl Distance {
    /// Of one of `ranks` ranks that are compared.
    pub(super) fn of(other: &[SeedLoss], trained: &[SeedLoss], margin: f64, confidence: f64, ranks: usize) -> Self {
        let in_pair = |one: &SeedLoss| {
            let twin = trained.iter().find(|trained| one.seed.is_some() && trained.seed == one.seed)?;
            Some(one.loss - twin.loss)
        };
        let pairs: Vec<f64> = other.iter().filter_map(in_pair).collect();
        let (mean, error, freedom) = if pairs.len() > 1 {
            let summary = Summary::of(pairs.iter().copied());
            let error = summary.and_then(|summary| summary.standard_error());
            (summary.map_or(f64::NAN, |summary| summary.mean), error, pairs.len() - 1)
        } else {
            let of = |losses: &[SeedLoss]| Summary::of(losses.iter().map(|one| one.loss));
            let (one, other) = (of(trained), of(other));
            let mean = |summary: Option<Summary>| summary.map_or(f64::NAN, |summary| summary.mean);
            let count = |summary: Option<Summary>| summary.map_or(f64::NAN, |summary| summary.n as f64);
            let spread = one.and_then(|summary| summary.spread);
            let error = spread.map(|spread| spread * (1.0 / count(one) + 1.0 / count(other)).sqrt());
            (mean(other) - mean(one), error, one.map_or(0, |summary| summary.n.saturating_sub(1)))
        };
        let interval = |tail: f64| error.map(|error| StudentsT::ppf(1.0 - tail, freedom.max(1) as f64) * error);
        let tail = (1.0 - confidence) / 2.0;
        let (half_width, for_all) = (interval(tail), interval(tail / ranks.max(1) as f64));
        let closeness = match (half_width, for_all) {
            (Some(half), _) if mean + half <= margin => Closeness::Close,
            (_, Some(half)) if mean - half > margin => Closeness::Worse,
            _ => Closeness::Open,
        };
        Distance { difference: mean, half_width, closeness }
    }

    pub(super) fn fields(&self) -> Value {
        let verdict = match self.closeness {
            Closeness::Close => "close",
            Closeness::Worse => "worse",
            Closeness::Open => "open",
        };
        json!({ "difference": self.difference, "interval": self.half_width, "verdict": verdict })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(losses: &[f64]) -> Vec<SeedLoss> {
        losses.iter().enumerate().map(|(seed, loss)| SeedLoss { seed: Some(seed as u64), loss: *loss }).collect()
    }

    #[test]
    fn differences_are_taken_within_seeds() {
        // t(2) at 97.5 % is 4.302653; the differences 0.01, 0.02, 0.03 have the standard error 0.01 / √3.
        let (trained, other) = (losses(&[1.0, 2.0, 3.0]), losses(&[1.01, 2.02, 3.03]));
        let distance = Distance::of(&other, &trained, 0.05, 0.95, 4);
        assert!((distance.difference - 0.02).abs() < 1e-12);
        assert!((distance.half_width.unwrap() - 4.302_653 * 0.01 / 3.0_f64.sqrt()).abs() < 1e-8);
        assert_eq!(distance.closeness, Closeness::Close);
        assert_eq!(Distance::of(&other, &trained, 0.04, 0.95, 4).closeness, Closeness::Open);
        let shifted = losses(&[1.51, 2.52, 3.53]);
        assert_eq!(Distance::of(&shifted, &trained, 0.04, 0.95, 4).closeness, Closeness::Worse);
        // The lower end is above the margin for one rank, and below it for all of a hundred.
        assert_eq!(Distance::of(&shifted, &trained, 0.45, 0.95, 1).closeness, Closeness::Worse);
        assert_eq!(Distance::of(&shifted, &trained, 0.45, 0.95, 100).closeness, Closeness::Open);
    }

    #[test]
    fn one_nested_run_is_as_uncertain_as_one_more_trained_run() {
        let alone = [SeedLoss { seed: None, loss: 2.5 }];
        let distance = Distance::of(&alone, &losses(&[1.0, 2.0, 3.0]), 0.1, 0.95, 1);
        assert!((distance.difference - 0.5).abs() < 1e-12);
        // s = 1 and √(1 + 1/3).
        assert!((distance.half_width.unwrap() - 4.302_653 * (4.0_f64 / 3.0).sqrt()).abs() < 1e-6);
        let single = Distance::of(&alone, &losses(&[1.0]), 0.1, 0.95, 1);
        assert_eq!((single.half_width, single.closeness), (None, Closeness::Open));
    }

    /// Twenty thousand sweeps of four ranks with no difference, or with exactly the margin at one rank.
    #[test]
    fn verdicts_are_wrong_no_more_often_than_allowed() {
        let normal = |key: u64, at: u64| crate::random::Key::new(key).normal(at);
        let (mut close, mut worse, sweeps) = (0, 0, 20_000);
        for sweep in 0..sweeps {
            let mut verdicts = Vec::new();
            for rank in 0..4 {
                let difference = |seed: u64| 0.1 * normal(sweep, rank * 5 + seed) + if rank == 2 { 0.05 } else { -1.0 };
                let other: Vec<f64> = (0..5).map(difference).collect();
                verdicts.push(Distance::of(&losses(&other), &losses(&[0.0; 5]), 0.05, 0.95, 4).closeness);
            }
            close += usize::from(verdicts.iter().all(|verdict| *verdict == Closeness::Close));
            worse += usize::from(verdicts.contains(&Closeness::Worse));
        }
        // On one side each: 2.5 %, and a fourth of it.
        let (close, worse) = (close as f64 / sweeps as f64, worse as f64 / sweeps as f64);
        assert!((0.020..0.030).contains(&close), "{close}");
        assert!((0.004..0.009).contains(&worse), "{worse}");
    }
}
