//! Long curves, thinned to the points that can be seen.

use super::scene::Spot;

/// A column of this many pixels keeps four points: its first, lowest, highest and last.
const COLUMN: f64 = 1.0;

/// Fewer points that give the same picture. `spots` must be in order of x; short curves are returned unchanged.
pub fn thinned(spots: &[Spot]) -> Vec<Spot> {
    kept(spots).into_iter().map(|index| spots[index]).collect()
}

/// The indices of the points that [`thinned`] keeps.
pub fn kept(spots: &[Spot]) -> Vec<usize> {
    let (mut kept, mut first) = (vec![], 0);
    for column in spots.chunk_by(|one, two| (one.0 / COLUMN).floor() == (two.0 / COLUMN).floor()) {
        kept.extend(extremes(column).into_iter().map(|index| first + index));
        first += column.len();
    }
    kept
}

fn extremes(column: &[Spot]) -> Vec<usize> {
    if column.len() <= 4 {
        return (0..column.len()).collect();
    }
    let by_height = |one: &usize, two: &usize| column[*one].1.total_cmp(&column[*two].1);
    let least = (0..column.len()).min_by(by_height).unwrap_or(0);
    let most = (0..column.len()).max_by(by_height).unwrap_or(0);
    let mut indices = vec![0, least, most, column.len() - 1];
    indices.sort_unstable();
    indices.dedup();
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_keeps_its_ends_and_spikes() {
        let mut spots: Vec<Spot> = (0..50_000).map(|i| (f64::from(i) * 0.01, f64::from(i % 7))).collect();
        spots[12_345].1 = 99.0;
        let kept = thinned(&spots);
        assert!(kept.len() <= 4 * 501, "{}", kept.len());
        assert!(kept.contains(&spots[12_345]) && kept.first() == spots.first() && kept.last() == spots.last());
        assert!(kept.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }

    #[test]
    fn a_short_curve_is_left_alone() {
        let spots = vec![(0.0, 1.0), (10.0, 2.0), (10.2, 3.0)];
        assert_eq!(thinned(&spots), spots);
        assert_eq!(thinned(&[]), vec![]);
    }
}
