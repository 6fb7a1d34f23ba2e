//! Which settings go on at a rung: the rules, on numbers alone.
//!
//! Successive halving (Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter
//! optimization", AISTATS 2016) compares all settings at the same step. ASHA (Li et al., "A system for massively
//! parallel hyperparameter tuning", MLSys 2020) decides before all are there, because workers of a cluster would wait
//! for the slowest. Trials that train side by side take the same steps, so that nobody waits, and no decision depends on
//! timing. The median rule is that of Google Vizier (Golovin et al., KDD 2017, section 3.2.2).

/// The number of `settings` that go on after so many reductions by `eta`: at least 1.
pub fn number_kept(settings: usize, eta: u64, reductions: u32) -> usize {
    let divisor = eta.checked_pow(reductions).unwrap_or(u64::MAX);
    ((settings as u64 / divisor.max(1)) as usize).max(1)
}

/// Which settings are among the best `kept`: smaller values are better, and of equal ones the first goes on. A value that
/// is not finite is worse than all others.
pub fn halving(values: &[f64], kept: usize) -> Vec<bool> {
    let rank = |value: f64| if value.is_finite() { value } else { f64::INFINITY };
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&one, &other| rank(values[one]).total_cmp(&rank(values[other])));
    let mut goes_on = vec![false; values.len()];
    order.into_iter().take(kept).for_each(|at| goes_on[at] = true);
    goes_on
}

/// Does the setting with the values `values` at the rungs so far go on beside `others`, which have as many? It does unless
/// its best value is worse than the median of the others' means. Smaller values are better.
pub fn is_within_median(values: &[f64], others: &[&[f64]]) -> bool {
    let best = values.iter().copied().fold(f64::INFINITY, f64::min);
    let means = others.iter().map(|values| values.iter().sum::<f64>() / values.len().max(1) as f64);
    let mut means: Vec<f64> = means.filter(|mean| mean.is_finite()).collect();
    if means.is_empty() {
        return true;
    }
    means.sort_by(f64::total_cmp);
    let middle = means.len() / 2;
    let median = if means.len() % 2 == 1 { means[middle] } else { (means[middle - 1] + means[middle]) / 2.0 };
    best <= median
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_goes_on_at_each_rung() {
        assert_eq!([1, 2].map(|reductions| number_kept(96, 3, reductions)), [32, 10]);
        assert_eq!(number_kept(2, 3, 1), 1);
        assert_eq!(number_kept(5, 2, 200), 1);
    }

    #[test]
    fn the_best_go_on_and_of_equals_the_first() {
        assert_eq!(halving(&[3.0, 1.0, 2.0, 1.0], 2), [false, true, false, true]);
        assert_eq!(halving(&[1.0, 1.0, 1.0], 2), [true, true, false]);
        assert_eq!(halving(&[f64::NAN, 5.0, f64::NEG_INFINITY], 1), [false, true, false]);
        assert_eq!(halving(&[f64::INFINITY, f64::INFINITY], 1), [true, false], "there is always one");
    }

    #[test]
    fn the_best_value_is_held_against_the_median_of_the_means() {
        // Means of the others by hand: 3, 2, 4; their median is 3.
        let others: [&[f64]; 3] = [&[4.0, 2.0], &[2.0, 2.0], &[5.0, 3.0]];
        assert!(is_within_median(&[9.0, 3.0], &others));
        assert!(is_within_median(&[2.5, 9.0], &others), "its best, not its last");
        assert!(!is_within_median(&[9.0, 3.01], &others));
        // Of an even number the mean of the middle two: 2.5.
        assert!(is_within_median(&[2.5], &[&[2.0], &[3.0]]) && !is_within_median(&[2.6], &[&[2.0], &[3.0]]));
        assert!(is_within_median(&[9.0], &[]));
    }
}
