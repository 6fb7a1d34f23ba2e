//! The values of an axis' ticks: round, and no more than fit.

use super::range::AxisRange;
use crate::plot::charts::scale::Scale;

/// Round values (1, 2 or 5 times a power of ten) in `range`, about `wanted` of them.
/// With `is_integer` they are integers, for axes that count.
pub fn linear(range: &AxisRange, wanted: usize, is_integer: bool) -> Vec<f64> {
    let (low, high) = (range.scale.back(range.low), range.scale.back(range.high));
    let rough = (high - low) / wanted.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|unit| unit * power).find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(rough).max(if is_integer { 1.0 } else { 0.0 });
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    if !(first <= last && last - first < 1000.0) {
        return vec![];
    }
    // Multiples by division where the step is a negative power, so that 3 × 0.1 is 0.3.
    let inverse = (1.0 / step).round();
    let exact = step < 1.0 && (inverse * step - 1.0).abs() < 1e-9;
    (0..=(last - first) as usize)
        .map(|index| first + index as f64)
        .map(|index| if exact { index / inverse } else { index * step })
        .collect()
}

/// Values for a log axis: powers, with 2 and 5 between them on short decimal axes; plain
/// round values where the range holds fewer than two powers.
pub fn logarithmic(range: &AxisRange, wanted: usize) -> Vec<f64> {
    let wanted = wanted.max(2);
    let between = |multiples: &[f64]| -> Vec<f64> {
        let (first, last) = (range.low.floor() as i32, range.high.ceil() as i32);
        let all = (first..=last).flat_map(|power| {
            multiples.iter().map(move |multiple| multiple * range.scale.back(f64::from(power))).collect::<Vec<_>>()
        });
        all.filter(|value| range.holds(*value)).collect()
    };
    if range.scale == Scale::Log10 && range.high - range.low < 4.0 {
        let dense = between(&[1.0, 2.0, 5.0]);
        if (3..=wanted).contains(&dense.len()) {
            return dense;
        }
    }
    let powers = between(&[1.0]);
    if powers.len() >= 2 {
        let stride = powers.len().div_ceil(wanted).max(1);
        return powers.into_iter().step_by(stride).collect();
    }
    linear(range, wanted, false)
}

/// Unlabelled ticks at 2…9 times each power of ten, if they are far enough apart to be useful.
pub fn minor(range: &AxisRange) -> Vec<f64> {
    if range.scale != Scale::Log10 || range.high - range.low > 5.0 {
        return vec![];
    }
    let powers = range.low.floor() as i32..=range.high.ceil() as i32;
    let all = powers.flat_map(|power| (2..10).map(move |digit| f64::from(digit) * 10f64.powi(power)));
    all.filter(|value| range.holds(*value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(scale: Scale, low: f64, high: f64) -> AxisRange {
        AxisRange { scale, low: scale.forward(low), high: scale.forward(high) }
    }

    #[test]
    fn linear_ticks_are_round_and_inside() {
        assert_eq!(linear(&over(Scale::Linear, 0.0, 1.0), 5, false), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(linear(&over(Scale::Linear, -3.0, 212.0), 4, true), [0.0, 100.0, 200.0]);
        assert_eq!(linear(&over(Scale::Linear, 1.0, 3.0), 9, true), [1.0, 2.0, 3.0]);
        for (low, high) in [(0.0, 3e-9), (1e9, 1.0001e9), (-2e300, 2e300), (-7.3, -7.1), (1.0, 1.0 + 1e-9)] {
            let ticks = linear(&over(Scale::Linear, low, high), 6, false);
            assert!((2..=13).contains(&ticks.len()), "{low}..{high}: {ticks:?}");
            assert!(ticks.iter().all(|tick| *tick >= low - 1e-9 * low.abs() && *tick <= high + 1e-9 * high.abs()));
        }
    }

    #[test]
    fn log_ticks_are_powers_or_round_values() {
        assert_eq!(logarithmic(&over(Scale::Log2, 1.8, 70.0), 10), [2.0, 4.0, 8.0, 16.0, 32.0, 64.0]);
        assert_eq!(logarithmic(&over(Scale::Log10, 0.9e-5, 1.1e-2), 5), [1e-5, 1e-4, 1e-3, 1e-2]);
        let wide = logarithmic(&over(Scale::Log10, 1e-280, 1e280), 6);
        assert!((2..=7).contains(&wide.len()), "{wide:?}");
        let narrow = logarithmic(&over(Scale::Log2, 9.0, 11.0), 5);
        assert!(narrow.contains(&10.0), "{narrow:?}");
        let dense = logarithmic(&over(Scale::Log10, 1e5, 3e6), 8);
        assert!(dense.len() >= 4 && dense.iter().any(|tick| (tick - 2e5).abs() < 1.0), "{dense:?}");
    }
}
