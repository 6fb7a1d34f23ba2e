//! The share of the variance of the metric that each axis explains.
//!
//! Over a complete grid this is an analysis of variance, exact and without a model: the main effects of functional ANOVA
//! (Hutter, Hoos and Leyton-Brown 2014, "An efficient approach for assessing hyperparameter importance"), what the axes do
//! together beyond them, the seed, and the noise. Over other points, as of a random search or where trials failed, it is
//! what each axis explains beyond the others in an additive model of groups of its values, less what as many groups
//! explain by chance: ε² (Kelley 1935). By hand: a few sums, for which crates would want matrices.

use super::study::Study;
use crate::bail;
use crate::error::{Kind, Result};
use crate::plot::charts::chart::Axis;
use crate::plot::charts::rows::{Emphasis, Row, RowChart, RowMark};
use crate::plot::charts::scale::Scale;
use crate::sweep::{number, TrialRow};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Fewer settings say nothing of an axis among several.
const LEAST_SETTINGS: usize = 4;
/// Axes with more values than this are put into groups of about equal size.
const MOST_GROUPS: usize = 6;

/// Shares by name, and how they were found.
pub struct Shares {
    /// Of the axes, the largest first.
    pub axes: Vec<(String, f64)>,
    /// Of the rest.
    pub rest: Vec<(String, f64)>,
    is_grid: bool,
}

/// # Errors
/// Fewer than two axes, too few settings, or a metric that is the same everywhere.
pub fn importance(study: &Study) -> Result<RowChart> {
    let shares = shares(study)?;
    let row = |emphasis: Emphasis| {
        move |(name, share): &(String, f64)| Row {
            name: name.clone(),
            value: 100.0 * share,
            label: format!("{} %", number::fixed(100.0 * share, 1)),
            emphasis,
            ..Row::default()
        }
    };
    let rows = shares.axes.iter().map(row(Emphasis::Usual)).chain(shares.rest.iter().map(row(Emphasis::Faint)));
    let mut notes = vec![if shares.is_grid {
        "Main effects over the complete grid: functional ANOVA (Hutter, Hoos and Leyton-Brown 2014).".to_owned()
    } else {
        "Not a complete grid: what each axis explains beyond the others, additively, less chance: ε² (Kelley 1935)."
            .to_owned()
    }];
    notes.extend(study.left_out(study.settings.len()));
    Ok(RowChart {
        subtitle: study.subject.clone(),
        rows: rows.collect(),
        mark: RowMark::Bars,
        notes,
        ..RowChart::of(
            format!("What {} depends on", study.metric),
            Axis::new(format!("share of the variance of {}, %", study.metric), Scale::Linear),
        )
    })
}

pub fn shares(study: &Study) -> Result<Shares> {
    let (axes, settings) = (study.axes.len(), study.settings.len());
    if axes < 2 || settings < LEAST_SETTINGS {
        bail!(Kind::Input, "chart: expected at least two axes and {LEAST_SETTINGS} settings, found {axes} and {settings}";
            hint: "the share of an axis is that beside others")
    }
    let shares = if is_complete(study) { of_grid(study) } else { of_points(study) };
    let Some(shares) = shares else {
        bail!(Kind::Input, "chart: expected {} to vary, and more settings than the axes have values", study.metric)
    };
    Ok(shares)
}

/// Does every combination of the values have the same number of trials?
fn is_complete(study: &Study) -> bool {
    let product: usize = study.axes.iter().map(|axis| axis.values.len()).product();
    let seeds = study.seeds();
    product == study.settings.len() && study.settings.iter().all(|setting| setting.summary.n == seeds)
}

/// The sum of squares between groups of equal weight per value, and all values' mean.
fn between<'v>(values: impl Iterator<Item = (String, &'v f64)>, mean: f64) -> f64 {
    let mut groups: HashMap<String, (f64, usize)> = HashMap::new();
    for (name, value) in values {
        let (sum, count) = groups.entry(name).or_default();
        (*sum, *count) = (*sum + value, *count + 1);
    }
    groups.values().map(|(sum, count)| *count as f64 * (sum / *count as f64 - mean).powi(2)).sum()
}

fn of_grid(study: &Study) -> Option<Shares> {
    let all: Vec<(&TrialRow, f64)> = study
        .settings
        .iter()
        .flat_map(|setting| setting.rows.iter().copied().zip(setting.values.iter().copied()))
        .collect();
    let mean = all.iter().map(|(_, value)| value).sum::<f64>() / all.len() as f64;
    let total: f64 = all.iter().map(|(_, value)| (value - mean).powi(2)).sum();
    if total.is_nan() || total <= 0.0 {
        return None;
    }
    let text = |row: &TrialRow, key: &str| row.point.get(key).map(Value::to_string).unwrap_or_default();
    let of_axis = |key: &str| between(all.iter().map(|(row, value)| (text(row, key), value)), mean) / total;
    let mut axes: Vec<(String, f64)> = study.axes.iter().map(|axis| (axis.key.clone(), of_axis(&axis.key))).collect();
    axes.sort_by(|one, other| other.1.total_cmp(&one.1));
    let main: f64 = axes.iter().map(|(_, share)| share).sum();
    let together = |explained: f64| (explained - main).max(0.0);
    let rest = if study.seeds() > 1 {
        let settings = all.iter().map(|(row, value)| (row.point.without(study.over).to_string(), value));
        let settings = between(settings, mean) / total;
        let seed = of_axis(study.over);
        vec![
            ("axes together".to_owned(), together(settings)),
            (study.over.to_owned(), seed),
            ("noise".to_owned(), (1.0 - settings - seed).max(0.0)),
        ]
    } else {
        vec![("axes together, and noise".to_owned(), together(1.0))]
    };
    Some(Shares { axes, rest, is_grid: true })
}

fn of_points(study: &Study) -> Option<Shares> {
    let means: Vec<f64> = study.settings.iter().map(|setting| setting.summary.mean).collect();
    let mean = means.iter().sum::<f64>() / means.len() as f64;
    let total: f64 = means.iter().map(|value| (value - mean).powi(2)).sum();
    if total.is_nan() || total <= 0.0 {
        return None;
    }
    let factors: Vec<Vec<usize>> = study.axes.iter().map(|axis| groups(study, axis)).collect();
    let freedom = |factor: &Vec<usize>| factor.iter().collect::<HashSet<_>>().len() as f64 - 1.0;
    let free = means.len() as f64 - 1.0 - factors.iter().map(freedom).sum::<f64>();
    if free < 1.0 {
        return None;
    }
    let without = |factors: &[&Vec<usize>]| residual(&means, factors);
    let left = without(&factors.iter().collect::<Vec<_>>());
    let noise = left / free;
    let share = |at: usize| {
        let others: Vec<&Vec<usize>> =
            factors.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, one)| one).collect();
        let explained = without(&others) - left;
        ((explained - freedom(&factors[at]) * noise) / total).clamp(0.0, 1.0)
    };
    let mut axes: Vec<(String, f64)> =
        study.axes.iter().enumerate().map(|(at, axis)| (axis.key.clone(), share(at))).collect();
    axes.sort_by(|one, other| other.1.total_cmp(&one.1));
    let rest = 1.0 - axes.iter().map(|(_, share)| share).sum::<f64>();
    let rest = if rest > 0.0 { vec![("axes together, and noise".to_owned(), rest)] } else { Vec::new() };
    Some(Shares { axes, rest, is_grid: false })
}

/// The sum of squares that an additive model leaves, with an effect for each group of each factor: least squares by
/// fitting one factor after the other to what the others leave, until nothing changes.
fn residual(values: &[f64], factors: &[&Vec<usize>]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let mut left: Vec<f64> = values.iter().map(|value| value - mean).collect();
    let squares = |left: &[f64]| left.iter().map(|value| value * value).sum::<f64>();
    for _ in 0..MOST_ROUNDS {
        let before = squares(&left);
        for factor in factors {
            let count = factor.iter().max().map_or(0, |most| most + 1);
            let mut sums = vec![(0.0, 0_usize); count];
            for (group, value) in factor.iter().zip(&left) {
                sums[*group] = (sums[*group].0 + value, sums[*group].1 + 1);
            }
            for (group, value) in factor.iter().zip(left.iter_mut()) {
                *value -= sums[*group].0 / sums[*group].1 as f64;
            }
        }
        if before - squares(&left) <= 1e-12 * before {
            break;
        }
    }
    squares(&left)
}

const MOST_ROUNDS: usize = 500;

/// The group of each setting by its value of the axis: a group for each value, or for neighbours among many numbers.
fn groups(study: &Study, axis: &crate::sweep::Axis) -> Vec<usize> {
    let at = |setting: &super::study::Setting| {
        axis.values.iter().position(|value| setting.point.get(&axis.key) == Some(value)).unwrap_or(0)
    };
    let places: Vec<usize> = study.settings.iter().map(at).collect();
    if axis.values.len() <= MOST_GROUPS || !axis.values.iter().all(Value::is_number) {
        return places;
    }
    let number = |place: usize| axis.values[place].as_f64().unwrap_or(0.0);
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by(|&one, &other| number(places[one]).total_cmp(&number(places[other])));
    // About five settings to a group.
    let kinds = (places.len() / 5).clamp(2, MOST_GROUPS);
    let mut groups = vec![0; places.len()];
    let mut last: Option<(usize, usize)> = None;
    for (rank, &setting) in order.iter().enumerate() {
        // Equal values stay together.
        let group = match last.filter(|(place, _)| *place == places[setting]) {
            Some((_, group)) => group,
            None => rank * kinds / places.len(),
        };
        last = Some((places[setting], group));
        groups[setting] = group;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::super::tests::{study_of, sweep};
    use super::*;
    use crate::sweep::Point;
    use serde_json::json;

    /// Of rank −1, 0 or 1; of lr −2 or 2; of the seed −0.5 or 0.5.
    fn loss(point: &Point) -> f64 {
        let number = |key: &str| point.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        let of_rate = if number("lr") > 0.15 { 2.0 } else { -2.0 };
        10.0 + number("rank").log2() - 2.0 + of_rate + number("seed") - 0.5
    }

    fn share(shares: &[(String, f64)], name: &str) -> f64 {
        shares.iter().find(|(known, _)| known == name).unwrap().1
    }

    #[test]
    fn main_effects_over_a_grid_are_sums_of_squares() {
        // By hand, of 12 trials: rank 4 · (1 + 0 + 1) = 8, lr 6 · (4 + 4) = 48, seed 6 · (1/4 + 1/4) = 3; in all 59.
        let grid = json!({"rank": [2, 4, 8], "lr": [0.1, 0.2], "seed": 2});
        let result = sweep(grid, |point| Some((loss(point), 1.0)));
        let shares = shares(&study_of(&result)).unwrap();
        let expected = [("lr", 48.0 / 59.0), ("rank", 8.0 / 59.0)];
        for ((name, found), (expected_name, expected)) in shares.axes.iter().zip(expected) {
            assert!(name == expected_name && (found - expected).abs() < 1e-12, "{name}: {found}");
        }
        assert!((share(&shares.rest, "seed") - 3.0 / 59.0).abs() < 1e-12, "{:?}", shares.rest);
        assert!(share(&shares.rest, "axes together").abs() < 1e-12 && share(&shares.rest, "noise") < 1e-12);
    }

    #[test]
    fn what_axes_do_together_is_no_main_effect() {
        // ±1 on the diagonals of two by two: neither axis explains anything alone.
        let result = sweep(json!({"rank": [2, 4], "lr": [0.1, 0.2]}), |point| {
            let is_even = (point.get("rank")?.as_f64()? > 3.0) == (point.get("lr")?.as_f64()? > 0.15);
            Some((if is_even { 3.0 } else { 1.0 }, 1.0))
        });
        let shares = shares(&study_of(&result)).unwrap();
        assert!(shares.axes.iter().all(|(_, share)| share.abs() < 1e-12), "{:?}", shares.axes);
        assert!((share(&shares.rest, "axes together, and noise") - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_missing_point_does_not_hide_a_small_effect() {
        let result = sweep(json!({"rank": [2, 4, 8], "lr": [0.1, 0.2]}), |point| {
            let is_missing = point.get("rank")?.as_f64()? > 5.0 && point.get("lr")?.as_f64()? > 0.15;
            (!is_missing).then(|| (loss(point), 1.0))
        });
        let shares = shares(&study_of(&result)).unwrap();
        // The additive model is exact; alone, rank would explain less than chance beside so large an effect of lr.
        assert!(!shares.is_grid && share(&shares.axes, "lr") > share(&shares.axes, "rank"), "{:?}", shares.axes);
        assert!(share(&shares.axes, "rank") > 0.04, "{:?}", shares.axes);
    }
}
