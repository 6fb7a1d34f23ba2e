//! The statistics of repeated trials, with their exact definitions.
//!
//! Trials repeated over seeds are a sample of size n. A seed fixes data order and initialisation, so the difference
//! between rank 4 and rank 8 with the same seed varies less than either result: the paired difference is the more
//! precise comparison.

use distrs::StudentsT;

/// A summary of n values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    pub n: usize,
    /// Σx / n.
    pub mean: f64,
    /// The sample standard deviation √(Σ(x − mean)² / (n − 1)); `None` for a single value.
    pub spread: Option<f64>,
    pub min: f64,
    pub max: f64,
}

impl Summary {
    /// Summarises the finite values; `None` if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().filter(|x| x.is_finite()).collect();
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        Some(Summary {
            n,
            mean,
            spread: (n > 1).then(|| (squares / (n - 1) as f64).sqrt()),
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }

    /// Half the 95 % interval of the mean, t(n − 1) · standard error; `None` for a single value.
    pub fn half_width(&self) -> Option<f64> {
        self.standard_error().map(|error| student_t(self.n - 1) * error)
    }

    /// The standard error of the mean, spread / √n.
    pub fn standard_error(&self) -> Option<f64> {
        self.spread.map(|spread| spread / (self.n as f64).sqrt())
    }
}

/// A summary of differences within pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paired {
    /// The number of pairs.
    pub n: usize,
    /// The mean of d = x − baseline.
    pub mean: f64,
    /// √(Σ(d − mean)² / (n − 1)) / √n; `None` for a single pair.
    pub standard_error: Option<f64>,
}

impl Paired {
    /// Summarises (x, baseline) pairs, without those that have a value that is not finite.
    pub fn of(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<Self> {
        let summary = Summary::of(pairs.into_iter().map(|(x, baseline)| x - baseline))?;
        Some(Paired { n: summary.n, mean: summary.mean, standard_error: summary.standard_error() })
    }

    /// Half the 95 % interval of the mean: t(n − 1) · standard error; `None` for a single pair.
    pub fn half_width(&self) -> Option<f64> {
        self.standard_error.map(|error| student_t(self.n - 1) * error)
    }
}

/// The 97.5 % quantile of Student's t with `degrees` degrees of freedom, at least 1.
fn student_t(degrees: usize) -> f64 {
    StudentsT::ppf(0.975, degrees.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-12 * expected.abs().max(1.0), "found {value}, expected {expected}");
    }

    #[test]
    fn mean_and_sample_deviation() {
        // By hand: mean 5, Σ(x − mean)² = 32, s = √(32/7).
        let summary = Summary::of([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).unwrap();
        near(summary.mean, 5.0);
        near(summary.spread.unwrap(), (32.0_f64 / 7.0).sqrt());
        near(summary.standard_error().unwrap(), (32.0_f64 / 7.0 / 8.0).sqrt());
        assert_eq!((summary.n, summary.min, summary.max), (8, 2.0, 9.0));
    }

    #[test]
    fn a_large_mean_does_not_drown_a_small_spread() {
        near(Summary::of([1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0]).unwrap().spread.unwrap(), 1.0);
    }

    #[test]
    fn one_value_and_values_that_are_not_finite() {
        assert_eq!(Summary::of([]), None);
        assert_eq!(Summary::of([f64::NAN, f64::INFINITY]), None);
        let one = Summary::of([3.0, f64::NAN]).unwrap();
        assert_eq!((one.n, one.mean, one.spread, one.standard_error()), (1, 3.0, None, None));
    }

    #[test]
    fn paired_differences() {
        // d = −1, −2, −3: mean −2, s = 1, standard error 1/√3; the NaN pair does not count.
        let paired = Paired::of([(1.0, 2.0), (8.0, 10.0), (4.0, 7.0), (f64::NAN, 1.0)]).unwrap();
        assert_eq!(paired.n, 3);
        near(paired.mean, -2.0);
        near(paired.standard_error.unwrap(), 1.0 / 3.0_f64.sqrt());
        // t(2) = 4.30265.
        assert!((paired.half_width().unwrap() - 4.302_652_73 / 3.0_f64.sqrt()).abs() < 1e-8);
        assert_eq!(Paired::of([(1.0, 3.0)]).unwrap().standard_error, None);
        assert_eq!(Paired::of([(1.0, 3.0)]).unwrap().half_width(), None);
        // 60 degrees: 2.00030.
        assert!((student_t(60) - 2.000_298).abs() < 1e-6);
        assert_eq!(Paired::of([]), None);
    }
}
