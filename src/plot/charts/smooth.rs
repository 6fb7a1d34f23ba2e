//! Smoothing of curves.

/// Exponential moving average with the start-up bias removed, as TensorBoard draws it:
/// s ← weight·s + (1 − weight)·y, shown as s / (1 − weightⁿ) after n values (the
/// correction is that of Adam: Kingma and Ba, 2015, section 3).
///
/// `weight` in [0, 1): 0 changes nothing, 0.9 averages about ten values. Values that are not finite are
/// kept as they are and left out of the average.
pub fn ema(values: &[f64], weight: f64) -> Vec<f64> {
    let (mut sum, mut remaining) = (0.0, 1.0);
    values
        .iter()
        .map(|value| {
            if !value.is_finite() {
                return *value;
            }
            sum = weight * sum + (1.0 - weight) * value;
            remaining *= weight;
            sum / (1.0 - remaining)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_is_kept_and_a_constant_stays() {
        assert_eq!(ema(&[4.0], 0.9), [4.0]);
        assert!(ema(&[3.0; 50], 0.97).iter().all(|value| (value - 3.0).abs() < 1e-12));
        assert_eq!(ema(&[1.0, 2.0, 3.0], 0.0), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn it_is_the_weighted_mean_of_all_values_so_far() {
        let (values, weight) = ([2.0, 5.0, 1.0, 7.0], 0.6_f64);
        let last = ema(&values, weight)[3];
        let weights: Vec<f64> = (0..4).map(|age| weight.powi(3 - age)).collect();
        let mean = values.iter().zip(&weights).map(|(v, w)| v * w).sum::<f64>() / weights.iter().sum::<f64>();
        assert!((last - mean).abs() < 1e-12);
    }

    #[test]
    fn a_nan_does_not_spread() {
        let smooth = ema(&[1.0, f64::NAN, 1.0], 0.5);
        assert!(smooth[1].is_nan() && smooth[2] == 1.0);
    }
}
