//! Statistics of plain numbers that marks show: quantiles, boxes, bins.

use super::super::scale::Scale;
use super::choices::Bins;

/// The most bins that are chosen by themselves.
const MOST_BINS: usize = 200;

/// The quantile `q` of ascending numbers, interpolated linearly between neighbours, as numpy does by default.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = q * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[(at.ceil() as usize).min(last)]);
    low + (high - low) * at.fract()
}

/// What a box shows.
#[derive(Debug, Clone, PartialEq)]
pub struct BoxSummary {
    pub median: f64,
    /// The end of the lower whisker, both quartiles, the end of the upper whisker.
    pub quartiles: [f64; 4],
    pub outliers: Vec<f64>,
}

/// `whis`: the reach of the whiskers in distances of the quartiles, as Tukey's 1.5. `None` without a finite value.
pub fn box_summary(values: &[f64], whis: f64) -> Option<BoxSummary> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let (lower, upper) = (quantile(&sorted, 0.25), quantile(&sorted, 0.75));
    let reach = whis * (upper - lower);
    let is_inside = |value: &f64| (lower - reach..=upper + reach).contains(value);
    // A quartile between two values may have none of them within reach on its side.
    let lowest = sorted.iter().copied().find(is_inside)?.min(lower);
    let highest = sorted.iter().copied().rfind(is_inside)?.max(upper);
    let outliers = sorted.iter().copied().filter(|value| !is_inside(value)).collect();
    Some(BoxSummary { median: quantile(&sorted, 0.5), quartiles: [lowest, lower, upper, highest], outliers })
}

/// The edges of bins over all finite values that the scale shows: equal on the scale, and as many as the larger of
/// Sturges' and Freedman and Diaconis' numbers, as numpy's "auto". Empty without a value.
pub fn bin_edges(values: &[f64], bins: &Bins, scale: Scale) -> Vec<f64> {
    if let Bins::Edges(edges) = bins {
        return edges.clone();
    }
    let mut sorted: Vec<f64> =
        values.iter().filter(|value| scale.shows(**value)).map(|value| scale.forward(*value)).collect();
    sorted.sort_by(f64::total_cmp);
    let (Some(low), Some(high)) = (sorted.first().copied(), sorted.last().copied()) else { return vec![] };
    let count = match bins {
        Bins::Count(count) => *count,
        Bins::Auto | Bins::Edges(_) => automatic_bins(&sorted),
    };
    // As numpy: one unit around values that are all equal.
    let (low, high) = if high > low { (low, high) } else { (low - 0.5, high + 0.5) };
    let edge = |at: usize| scale.back(low + (high - low) * at as f64 / count as f64);
    (0..=count).map(edge).collect()
}

fn automatic_bins(sorted: &[f64]) -> usize {
    let count = sorted.len() as f64;
    let span = sorted[sorted.len() - 1] - sorted[0];
    if span <= 0.0 {
        return 1;
    }
    let sturges = count.log2() + 1.0;
    let width = 2.0 * (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / count.cbrt();
    let freedman_diaconis = if width > 0.0 { span / width } else { 0.0 };
    (sturges.max(freedman_diaconis).ceil() as usize).clamp(1, MOST_BINS)
}

/// How many values lie in each bin; the last bin has its upper edge too.
pub fn counts(values: &[f64], edges: &[f64]) -> Vec<usize> {
    let mut counts = vec![0; edges.len().saturating_sub(1)];
    let Some(last) = edges.last() else { return counts };
    for value in values {
        let after = edges.partition_point(|edge| edge <= value);
        let bin = if value == last { counts.len() } else { after };
        if let Some(count) = bin.checked_sub(1).and_then(|bin| counts.get_mut(bin)) {
            *count += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_numpy() {
        // numpy.quantile([1, 2, 4, 8, 16], [0.25, 0.5, 0.75, 0.9])
        let sorted = [1.0, 2.0, 4.0, 8.0, 16.0];
        assert_eq!([0.25, 0.5, 0.75].map(|q| quantile(&sorted, q)), [2.0, 4.0, 8.0]);
        assert!((quantile(&sorted, 0.9) - 12.8).abs() < 1e-12);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn boxes_are_those_of_matplotlib() {
        // matplotlib.cbook.boxplot_stats([1, 2, 3, 4, 5, 20, nan without])
        let summary = box_summary(&[5.0, 1.0, 20.0, 2.0, 4.0, 3.0, f64::NAN], 1.5).unwrap();
        assert_eq!(summary.median, 3.5);
        assert_eq!(summary.quartiles, [1.0, 2.25, 4.75, 5.0]);
        assert_eq!(summary.outliers, [20.0]);
        assert_eq!(box_summary(&[7.0], 1.5).unwrap().quartiles, [7.0; 4]);
        assert_eq!(box_summary(&[f64::NAN], 1.5), None);
    }

    #[test]
    fn bins_are_those_of_numpy() {
        // numpy.histogram([1, 2, 2, 3, 4], bins=3): [1, 2, 2], edges 1, 2, 3, 4
        let values = [1.0, 2.0, 2.0, 3.0, 4.0];
        let edges = bin_edges(&values, &Bins::Count(3), Scale::Linear);
        assert_eq!((edges.clone(), counts(&values, &edges)), (vec![1.0, 2.0, 3.0, 4.0], vec![1, 2, 2]));
        // numpy.histogram_bin_edges(range(100), "auto") has 8 bins: Sturges.
        let many: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(bin_edges(&many, &Bins::Auto, Scale::Linear).len(), 9);
        assert_eq!(bin_edges(&[3.0, 3.0], &Bins::Auto, Scale::Linear), [2.5, 3.5]);
        let edges = bin_edges(&[1.0, 1000.0, -1.0], &Bins::Count(3), Scale::Log10);
        assert!(edges.iter().zip([1.0, 10.0, 100.0, 1000.0]).all(|(edge, wanted)| (edge - wanted).abs() < 1e-9));
        assert_eq!(counts(&[0.5, 1.0, 2.0, 2.5, f64::NAN], &[1.0, 2.0]), [2]);
    }
}
