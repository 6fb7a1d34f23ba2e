//! Two candidates on the same items: whether one is better, beyond chance.

use super::bootstrap::{Bootstrap, Spread};
use crate::error::{Error, Result};

/// The scores of `a` and of `b`, item by item.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedComparison {
    pub items: usize,
    pub mean_a: f64,
    pub mean_b: f64,
    /// The mean of a − b.
    pub difference: f64,
    /// How that mean varies over draws of items, each with both its scores.
    pub spread: Option<Spread>,
    /// Where every score is 0 or 1.
    pub mcnemar: Option<McNemar>,
}

/// Items that only one of the two got right, and the probability of such numbers by chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct McNemar {
    pub only_a: usize,
    pub only_b: usize,
    /// Two-sided, exact: twice the smaller tail of Binomial(only_a + only_b, 1/2), at most 1.
    pub p_value: f64,
}

impl PairedComparison {
    /// Fails where the two are not of the same items, and on scores that are not finite.
    pub fn of(a: &[f64], b: &[f64], bootstrap: &Bootstrap) -> Result<Self> {
        if a.len() != b.len() || a.is_empty() {
            return Err(Error::input(format!(
                "expected scores of the same items, at least one, found {} and {}",
                a.len(),
                b.len()
            ))
            .with_hint("evaluate both on the same rows, as with `adapters: [\"base\", \"tuned\"]` in one call"));
        }
        if let Some(at) = (0..a.len()).find(|&at| !a[at].is_finite() || !b[at].is_finite()) {
            return Err(Error::data(format!("item {at}: expected finite scores, found {} and {}", a[at], b[at])));
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        let drawn_mean =
            |drawn: &[u32]| drawn.iter().map(|&item| differences[item as usize]).sum::<f64>() / drawn.len() as f64;
        Ok(PairedComparison {
            items: a.len(),
            mean_a: mean(a),
            mean_b: mean(b),
            difference: mean(&differences),
            spread: bootstrap.spread(a.len(), drawn_mean)?,
            mcnemar: McNemar::of(a, b),
        })
    }
}

impl McNemar {
    /// `None` where a score is neither 0 nor 1.
    fn of(a: &[f64], b: &[f64]) -> Option<Self> {
        if !a.iter().chain(b).all(|&score| score == 0.0 || score == 1.0) {
            return None;
        }
        let only = |x: &[f64], y: &[f64]| x.iter().zip(y).filter(|(x, y)| x > y).count();
        let (only_a, only_b) = (only(a, b), only(b, a));
        let tail = binomial_tail(only_a.min(only_b), only_a + only_b);
        Some(McNemar { only_a, only_b, p_value: (2.0 * tail).min(1.0) })
    }
}

/// P(X ≤ most) for X from Binomial(count, 1/2).
fn binomial_tail(most: usize, count: usize) -> f64 {
    let mut log_term = -(count as f64) * std::f64::consts::LN_2;
    let mut sum = log_term.exp();
    for k in 1..=most {
        log_term += ((count - k + 1) as f64 / k as f64).ln();
        sum += log_term.exp();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mcnemar_is_the_exact_binomial_test() {
        // scipy 1.17: binomtest(k, n, 0.5).pvalue; 2^-5000 is no number any more.
        let cases = [
            (3, 15, 0.035_156_25),
            (0, 4, 0.125),
            (5, 10, 1.0),
            (0, 0, 1.0),
            (400, 900, 0.000_956_444_136_918_937_3),
            (2450, 5000, 0.161_485_222_397_377_98),
        ];
        for (k, n, expected) in cases {
            let p_value = (2.0 * binomial_tail(k, n)).min(1.0);
            assert!((p_value / expected - 1.0).abs() < 1e-9, "{k} of {n}: {p_value} expected {expected}");
        }
    }

    #[test]
    fn paired_items_sharpen_the_difference() {
        // a is 0.1 above b on every item, however much items differ.
        let b: Vec<f64> = (0..50).map(|item| f64::from(item * item)).collect();
        let a: Vec<f64> = b.iter().map(|b| b + 0.1).collect();
        let comparison = PairedComparison::of(&a, &b, &Bootstrap::default()).unwrap();
        let spread = comparison.spread.unwrap();
        assert!((comparison.difference - 0.1).abs() < 1e-9 && spread.standard_error < 1e-9, "{comparison:?}");
        assert!(comparison.mcnemar.is_none());
        let right = PairedComparison::of(&[1.0, 1.0, 0.0, 1.0], &[0.0, 1.0, 1.0, 0.0], &Bootstrap::default()).unwrap();
        let mcnemar = right.mcnemar.unwrap();
        assert_eq!((mcnemar.only_a, mcnemar.only_b, mcnemar.p_value), (2, 1, 1.0));
    }

    #[test]
    fn other_items_are_refused() {
        assert!(PairedComparison::of(&[1.0], &[1.0, 0.0], &Bootstrap::default()).is_err());
        assert!(PairedComparison::of(&[], &[], &Bootstrap::default()).is_err());
        assert!(PairedComparison::of(&[f64::NAN], &[1.0], &Bootstrap::default()).is_err());
    }
}
