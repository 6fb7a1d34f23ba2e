//! Two sweeps side by side: the settings that both have, in pairs of the same seed.

use super::columns::larger_is_better;
use super::grid::Point;
use super::number::{decimals_for, fixed, value};
use super::record;
use super::results::{Group, SweepResult, TrialRow};
use super::settings_diff::{self, Change};
use super::summary::{Paired, Summary};
use super::SEED;
use crate::bail;
use crate::error::{Kind, Result};

/// The differences of two sweeps.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepComparison {
    pub metric: String,
    /// Settings in which the first trial that both have differs, by name.
    pub settings: Vec<Change>,
    /// In the order of the first sweep.
    pub shared: Vec<SharedSetting>,
    /// The numbers of settings that only the first, or only the second sweep has.
    pub only: (usize, usize),
}

/// A setting that both sweeps have finished trials of.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedSetting {
    pub point: Point,
    pub first: Summary,
    pub second: Summary,
    /// The second minus the first, within the same seed; `None` where they have no seed in common.
    pub difference: Option<Paired>,
}

/// Compares two sweeps by the metric of the first.
///
/// # Errors
/// No setting that both have, or a metric that only one has.
pub fn compare_sweeps(first: &SweepResult, second: &SweepResult) -> Result<SweepComparison> {
    let metric = first.default_metric();
    let (ours, theirs) = (groups(first), groups(second));
    let partner = |point: &Point| theirs.iter().find(|group| group.point == *point);
    let mut shared = Vec::new();
    for group in &ours {
        let Some(other) = partner(&group.point) else { continue };
        let of = |group: &Group| Summary::of(group.rows.iter().filter_map(|row| row.number(metric)));
        if let (Some(one), Some(two)) = (of(group), of(other)) {
            let difference = Paired::of(group.rows.iter().filter_map(|row| pair(row, other, metric)));
            shared.push(SharedSetting { point: group.point.clone(), first: one, second: two, difference });
        }
    }
    if shared.is_empty() {
        bail!(Kind::Input, "`{}` and `{}` have no setting in common with a {metric}", first.out.display(), second.out.display();
            hint: "compare sweeps with values of the same axes; `lorhai show` prints the table of one")
    }
    let only = (ours.len() - shared.len(), theirs.len() - shared.len());
    Ok(SweepComparison { metric: metric.to_owned(), settings: changes(first, second), shared, only })
}

/// Settings without their seeds.
fn groups(result: &SweepResult) -> Vec<Group<'_>> {
    let keys: Vec<&str> = result.axes().iter().map(|axis| axis.key.as_str()).filter(|key| *key != SEED).collect();
    result.group_by(&keys)
}

fn pair(row: &TrialRow, others: &Group, metric: &str) -> Option<(f64, f64)> {
    let partner = others.rows.iter().find(|other| other.point.get(SEED) == row.point.get(SEED))?;
    Some((partner.number(metric)?, row.number(metric)?))
}

/// What differs in the settings of the first trial that both sweeps have.
fn changes(first: &SweepResult, second: &SweepResult) -> Vec<Change> {
    let both = first.rows().iter().find_map(|row| {
        let other = second.rows().iter().find(|other| other.point == row.point)?;
        let read = |result: &SweepResult, row: &TrialRow| record::read_settings(&result.out.join(&row.dir));
        Some((read(first, row)?, read(second, other)?))
    });
    both.map_or_else(Vec::new, |(one, other)| settings_diff::between(&one, &other))
}

impl SweepComparison {
    /// The cells of a table: a heading, then a line for each setting.
    pub fn lines(&self, names: (&str, &str)) -> Vec<Vec<String>> {
        let keys: Vec<&String> = self.shared.first().map_or_else(Vec::new, |one| one.point.values.keys().collect());
        let heads = keys.iter().map(|key| (*key).clone());
        let heads = heads.chain([names.0.to_owned(), names.1.to_owned(), "difference".to_owned()]).collect();
        let means = self.shared.iter().flat_map(|one| [one.first.mean, one.second.mean]);
        let decimals = decimals_for(means);
        let spread = |x: Option<f64>| x.map_or(String::new(), |x| format!(" ± {}", fixed(x, decimals)));
        let line = |one: &SharedSetting| {
            let values = keys.iter().map(|key| one.point.get(key).map_or_else(String::new, value));
            let mean = |summary: Summary| format!("{}{}", fixed(summary.mean, decimals), spread(summary.spread));
            let difference = one.difference.map_or(String::new(), |paired| {
                let sign = if paired.mean > 0.0 { "+" } else { "" };
                format!("{sign}{}{}", fixed(paired.mean, decimals), spread(paired.half_width()))
            });
            values.chain([mean(one.first), mean(one.second), difference]).collect()
        };
        std::iter::once(heads).chain(self.shared.iter().map(line)).collect()
    }

    /// What the numbers of [`Self::lines`] mean.
    pub fn notes(&self) -> Vec<String> {
        let better = if larger_is_better(&self.metric) { "above" } else { "below" };
        let mut notes = vec![format!(
            "difference: the second less the first within the same seed, ± its 95 % interval; {better} 0 the second is better"
        )];
        let (first, second) = self.only;
        if first + second > 0 {
            notes.push(format!("settings that only one has: {first} of the first, {second} of the second"));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::{by_rank_and_seed as of, result};
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_are_compared_within_the_same_seed() {
        let first = of(json!({"2": [1.0, 2.0, 3.0], "4": [1.0, 2.0, 3.0], "8": [1.0, 1.0, 1.0]}));
        let second = of(json!({"2": [1.1, 2.1, 3.1], "4": [0.9, 2.0, null], "16": [1.0, 1.0, 1.0]}));
        let comparison = compare_sweeps(&first, &second).unwrap();
        assert_eq!((comparison.shared.len(), comparison.only), (2, (1, 1)));
        let differences: Vec<(usize, f64)> =
            comparison.shared.iter().filter_map(|one| Some((one.difference?.n, one.difference?.mean))).collect();
        assert!(differences[0].0 == 3 && (differences[0].1 - 0.1).abs() < 1e-12, "{differences:?}");
        assert!(differences[1].0 == 2 && (differences[1].1 + 0.05).abs() < 1e-12, "{differences:?}");
        let lines = comparison.lines(("a", "b"));
        assert_eq!(lines[0], ["rank", "a", "b", "difference"]);
        assert_eq!(lines[1], ["2", "2.0000 ± 1.0000", "2.1000 ± 1.0000", "+0.1000 ± 0.0000"]);
        let strange = result(json!({"lr": [0.1]}), |_| Some(1.0));
        assert!(compare_sweeps(&first, &strange).unwrap_err().message.contains("no setting in common"));
    }
}
