//! Rows of the same x as one value: their mean or median, with an interval.

use super::choices::{ErrorBar, Estimator};
use super::statistics::quantile;
use distrs::StudentsT;

/// The estimate of some values with its interval; NaN without a finite value, no interval of a single one.
pub fn estimate(values: &[f64], estimator: Estimator, errorbar: ErrorBar) -> (f64, Option<(f64, f64)>) {
    let mut finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    finite.sort_by(f64::total_cmp);
    let (Some(first), Some(last)) = (finite.first().copied(), finite.last().copied()) else { return (f64::NAN, None) };
    let count = finite.len() as f64;
    let mean = finite.iter().sum::<f64>() / count;
    let center = if estimator == Estimator::Median { quantile(&finite, 0.5) } else { mean };
    if finite.len() < 2 {
        return (center, None);
    }
    let squares = finite.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    let sd = (squares / (count - 1.0)).sqrt();
    let around = |half: f64| Some((center - half, center + half));
    let interval = match errorbar {
        ErrorBar::None => None,
        ErrorBar::Sd => around(sd),
        ErrorBar::Se => around(sd / count.sqrt()),
        ErrorBar::Ci => around(StudentsT::ppf(0.975, count - 1.0) * sd / count.sqrt()),
        ErrorBar::Range => Some((first, last)),
    };
    (center, interval)
}

/// What the interval is, for the note below the chart.
pub fn note(estimator: Estimator, errorbar: ErrorBar) -> Option<String> {
    let center = match estimator {
        Estimator::None => return None,
        Estimator::Mean => "Mean",
        Estimator::Median => "Median",
    };
    let interval = match errorbar {
        ErrorBar::None => return Some(format!("{center} of the rows at each place.")),
        ErrorBar::Sd => "± 1 standard deviation",
        ErrorBar::Se => "± 1 standard error",
        ErrorBar::Ci => "95 % confidence interval (Student's t)",
        ErrorBar::Range => "from lowest to highest",
    };
    Some(format!("{center} of the rows at each place; interval: {interval}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_the_usual_ones() {
        let values = [1.0, 2.0, 3.0, 6.0, f64::NAN];
        let of = |errorbar| estimate(&values, Estimator::Mean, errorbar);
        // numpy.std([1, 2, 3, 6], ddof=1) = 2.160247; scipy.stats.t.ppf(0.975, 3) = 3.182446
        let near = |interval: Option<(f64, f64)>, half: f64| {
            let (low, high) = interval.unwrap();
            (low - (3.0 - half)).abs() < 1e-5 && (high - (3.0 + half)).abs() < 1e-5
        };
        assert_eq!(of(ErrorBar::None), (3.0, None));
        assert!(near(of(ErrorBar::Sd).1, 2.160247) && near(of(ErrorBar::Se).1, 1.080123));
        assert!(near(of(ErrorBar::Ci).1, 3.437435));
        assert_eq!(of(ErrorBar::Range).1, Some((1.0, 6.0)));
        assert_eq!(estimate(&values, Estimator::Median, ErrorBar::None).0, 2.5);
        assert_eq!(estimate(&[4.0], Estimator::Mean, ErrorBar::Sd), (4.0, None));
        assert!(estimate(&[f64::NAN], Estimator::Mean, ErrorBar::Sd).0.is_nan());
    }
}
