//! The bootstrap: how much a number would change with other items.
//!
//! Items are drawn with replacement, as many as there are. A draw is a pure function of seed, iteration and index, so
//! every metric of one evaluation gets the same draws. Crates for it draw from a generator with a state, and so cannot
//! share draws between metrics.

use crate::error::Result;
use crate::interrupt;
use crate::options;
use crate::options::OptionSet;
use crate::random::Key;

options! {
    /// The number of draws, and the width of intervals.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Resampling {
        /// Draws of the bootstrap; 0 for none.
        pub iterations: usize = 1000, name "bootstrap_iters";
        /// The probability that an interval holds a draw.
        pub confidence: f64 = 0.95, range inside(0.0, 1.0), hint "95 % is 0.95";
    }
}

options! {
    /// How to resample.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Bootstrap {
        pub resampling: Resampling = Resampling::default(), is set;
        /// The seed of the bootstrap's draws.
        pub seed: u64 = 0;
    }
}

/// How a statistic varies over the draws.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The sample standard deviation of its values.
    pub standard_error: f64,
    /// The percentile interval (Efron and Tibshirani, "An Introduction to the Bootstrap", 13.3).
    pub low: f64,
    pub high: f64,
}

impl Bootstrap {
    /// The value of `statistic` on each draw of the items `0..count`.
    pub fn values(&self, count: usize, statistic: impl Fn(&[u32]) -> f64) -> Result<Vec<f64>> {
        let key = Key::new(self.seed).named("bootstrap");
        let mut drawn = vec![0_u32; count];
        let draw = |iteration: usize| {
            interrupt::check()?;
            let key = key.numbered(iteration as u64);
            drawn.iter_mut().zip(0..).for_each(|(item, index)| *item = key.below(index, count as u64) as u32);
            Ok(statistic(&drawn))
        };
        (0..self.resampling.iterations).map(draw).collect()
    }

    /// `None` with fewer than two iterations or items.
    pub fn spread(&self, count: usize, statistic: impl Fn(&[u32]) -> f64) -> Result<Option<Spread>> {
        self.ensure_valid("bootstrap")?;
        if self.resampling.iterations < 2 || count < 2 {
            return Ok(None);
        }
        Ok(Some(self.spread_of(self.values(count, statistic)?)))
    }

    /// Summarises the values of [`values`](Self::values), at least two.
    pub fn spread_of(&self, mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let outside = (1.0 - self.resampling.confidence) / 2.0;
        Spread {
            standard_error: standard_deviation(&values),
            low: percentile(&values, outside),
            high: percentile(&values, 1.0 - outside),
        }
    }
}

/// √(Σ(x − mean)² / (n − 1)); not a number for fewer than two values.
pub fn standard_deviation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() as f64 - 1.0)).sqrt()
}

/// Between the two nearest of the ascending values, linearly, as `numpy.percentile` does.
fn percentile(sorted: &[f64], fraction: f64) -> f64 {
    let index = fraction * (sorted.len() as f64 - 1.0);
    let (below, above) = (sorted[index.floor() as usize], sorted[index.ceil() as usize]);
    below + (above - below) * index.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_of(values: &[f64]) -> impl Fn(&[u32]) -> f64 + '_ {
        |drawn| drawn.iter().map(|&item| values[item as usize]).sum::<f64>() / drawn.len() as f64
    }

    fn with(resampling: Resampling) -> Bootstrap {
        Bootstrap { resampling, ..Bootstrap::default() }
    }

    #[test]
    fn the_spread_of_a_mean_is_what_theory_says() {
        // 400 items, 30 % ones: the standard error of the mean is √(p(1 − p) / n) = 0.02291.
        let values: Vec<f64> = (0..400).map(|item| f64::from(item % 10 < 3)).collect();
        let bootstrap = with(Resampling { iterations: 4000, ..Resampling::default() });
        let spread = bootstrap.spread(values.len(), mean_of(&values)).unwrap().unwrap();
        assert!((spread.standard_error / 0.022_913 - 1.0).abs() < 0.04, "{spread:?}");
        assert!((spread.low - (0.3 - 1.96 * 0.022_913)).abs() < 0.005, "{spread:?}");
        assert!((spread.high - (0.3 + 1.96 * 0.022_913)).abs() < 0.005, "{spread:?}");
    }

    #[test]
    fn draws_depend_on_the_seed_alone() {
        let values = [1.0, 5.0, 2.0, 8.0];
        let spread = |seed| Bootstrap { seed, ..Bootstrap::default() }.spread(4, mean_of(&values)).unwrap();
        assert_eq!(spread(1), spread(1));
        assert_ne!(spread(1), spread(2));
        assert_eq!(Bootstrap::default().spread(1, |_| 1.0).unwrap(), None);
        assert!(with(Resampling { confidence: 95.0, ..Resampling::default() }).spread(4, |_| 1.0).is_err());
    }

    #[test]
    fn percentiles_are_those_of_numpy() {
        // numpy.percentile([1, 2, 4, 8], [0, 40, 97.5, 100])
        for (fraction, expected) in [(0.0, 1.0), (0.4, 2.4), (0.975, 7.7), (1.0, 8.0)] {
            assert!((percentile(&[1.0, 2.0, 4.0, 8.0], fraction) - expected).abs() < 1e-12);
        }
    }
}
