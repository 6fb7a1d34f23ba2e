//! Finds the best setting of a sweep by the mean of its trials, with its spread and the settings within noise of it.
//!
//! A setting is a point of the grid without the seed. Only settings with the most finished trials are ranked: a mean
//! over fewer seeds would not be comparable; those that were stopped early are left out. A setting is within noise of the
//! best if the 95 % interval of their paired difference contains 0 (Student's t, pairs of the same seed). The best of many
//! settings is also a lucky one: its mean is a little too good, and another seed may change the order of close settings.

use super::columns::sign;
use super::grid::Point;
use super::number::{decimals_for, fixed};
use super::results::{SweepResult, TrialRow};
use super::summary::{Paired, Summary};
use super::SEED;
use crate::bail;
use crate::error::{Kind, Result};
use serde_json::{Map, Value};
use std::fmt;

/// The most settings that are listed by name; further ones are counted.
const MOST_LISTED: usize = 5;

/// The best setting by a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct BestSetting<'a> {
    pub metric: String,
    /// The axis over which the mean is taken, by default the seed.
    pub over: String,
    pub point: Point,
    pub summary: Summary,
    /// Its finished trials, in grid order.
    pub rows: Vec<&'a TrialRow>,
    /// The number of ranked settings, with this one.
    pub ranked: usize,
    pub within_noise: Vec<Rival>,
    /// Settings with fewer finished trials.
    pub unranked: Vec<Point>,
}

/// Another setting compared with the best one.
#[derive(Debug, Clone, PartialEq)]
pub struct Rival {
    pub point: Point,
    /// The metric of this setting minus that of the best one, in pairs of the same seed.
    pub difference: Paired,
}

impl SweepResult {
    /// The setting with the best mean of `metric` over seeds: the smallest, or the largest if
    /// [`larger_is_better`](super::columns::larger_is_better). Of
    /// equal settings it is the first in grid order.
    pub fn best(&self, metric: &str) -> Result<BestSetting<'_>> {
        self.best_over(metric, SEED)
    }

    /// [`Self::best`] with means over another axis than the seed.
    pub fn best_over(&self, metric: &str, over: &str) -> Result<BestSetting<'_>> {
        self.ensure_number(metric)?;
        let keys: Vec<&str> = self.axes().iter().map(|axis| axis.key.as_str()).filter(|key| *key != over).collect();
        let scored = |row: &&TrialRow| row.number(metric).is_some();
        let settings: Vec<(Point, Vec<&TrialRow>)> = self
            .group_by(&keys)
            .into_iter()
            .filter(|group| !group.is_pruned())
            .map(|group| (group.point, group.rows.into_iter().filter(scored).collect()))
            .collect();
        let most = settings.iter().map(|(_, rows)| rows.len()).max().unwrap_or(0);
        let (ranked, unranked): (Vec<_>, Vec<_>) = settings.into_iter().partition(|(_, rows)| rows.len() == most);
        let sign = sign(metric);
        let mean = |rows: &[&TrialRow]| Summary::of(rows.iter().filter_map(|row| row.number(metric)));
        let best = ranked
            .iter()
            .filter_map(|(point, rows)| Some((point, rows, mean(rows)?)))
            .min_by(|left, right| (sign * left.2.mean).total_cmp(&(sign * right.2.mean)));
        let Some((point, rows, summary)) = best else {
            bail!(Kind::Input, "best: no finished trial has the metric `{metric}`"; hint: "print(result.table()) shows why trials failed")
        };
        let others = ranked.iter().filter(|(other, _)| other != point);
        let rivals = others.filter_map(|(other, its_rows)| {
            let difference = Paired::of(its_rows.iter().filter_map(|row| pair(row, rows, metric, over)))?;
            Some(Rival { point: other.clone(), difference })
        });
        Ok(BestSetting {
            metric: metric.to_owned(),
            over: over.to_owned(),
            point: point.clone(),
            summary,
            rows: rows.clone(),
            ranked: ranked.len(),
            within_noise: rivals.filter(Rival::is_within_noise).collect(),
            unranked: unranked.into_iter().map(|(point, _)| point).collect(),
        })
    }
}

/// The metrics of `row` and of the row of `others` with the same seed.
fn pair(row: &TrialRow, others: &[&TrialRow], metric: &str, over: &str) -> Option<(f64, f64)> {
    let partner = others.iter().find(|other| other.point.get(over) == row.point.get(over))?;
    Some((row.number(metric)?, partner.number(metric)?))
}

impl Rival {
    /// Does the 95 % interval of the difference contain 0? False for a single pair, which has no interval.
    fn is_within_noise(&self) -> bool {
        self.difference.half_width().is_some_and(|half| self.difference.mean.abs() <= half)
    }
}

impl BestSetting<'_> {
    /// "1.2340 ± 0.0100 over 3 seeds"; for one trial just its value.
    pub fn value(&self) -> String {
        let Summary { n, mean, spread, .. } = self.summary;
        let decimals = decimals_for([mean]);
        match spread {
            Some(spread) => format!("{} ± {} over {n} {}s", fixed(mean, decimals), fixed(spread, decimals), self.over),
            None => fixed(mean, decimals),
        }
    }

    /// How certain the ranking is: the settings within noise of this one, and those that were not ranked.
    pub fn certainty(&self) -> String {
        let mut parts = Vec::new();
        if self.summary.n < 2 {
            parts.push(format!("one {} says nothing of spread", self.over));
        } else if !self.within_noise.is_empty() {
            parts.push(format!("within noise of it: {}", listed(self.within_noise.iter().map(|rival| &rival.point))));
        } else if self.ranked > 1 {
            parts.push("no other setting is within noise of it".to_owned());
        }
        if !self.unranked.is_empty() {
            parts.push(format!("not ranked, with fewer finished trials: {}", listed(self.unranked.iter())));
        }
        parts.join("; ")
    }

    /// The values of the setting; "the one setting" if only the seed varies.
    pub fn name(&self) -> String {
        if self.point.values.is_empty() {
            "the one setting".to_owned()
        } else {
            self.point.to_string()
        }
    }

    /// As an object: the values of the setting by their names, and its measurements in `result`.
    pub fn fields(&self, result: &SweepResult) -> Map<String, Value> {
        let rival = |rival: &Rival| {
            let mut fields = rival.point.values.clone();
            fields.insert("difference".to_owned(), rival.difference.mean.into());
            fields.insert("interval".to_owned(), rival.difference.half_width().into());
            Value::Object(fields)
        };
        let fields: [(&str, Value); 10] = [
            (&self.metric, self.summary.mean.into()),
            ("metric", self.metric.as_str().into()),
            ("mean", self.summary.mean.into()),
            ("spread", self.summary.spread.into()),
            ("n", self.summary.n.into()),
            ("seeds", self.seeds().into()),
            ("trials", self.rows.iter().map(|row| Value::Object(result.object(row))).collect()),
            ("within_noise", self.within_noise.iter().map(rival).collect()),
            ("unranked", self.unranked.iter().map(|point| Value::Object(point.values.clone())).collect()),
            ("summary", self.to_string().into()),
        ];
        let mut all = self.point.values.clone();
        all.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
        all
    }

    /// The values of the axis over which the mean is taken.
    pub fn seeds(&self) -> Vec<Value> {
        self.rows.iter().filter_map(|row| row.point.get(&self.over).cloned()).collect()
    }
}

/// `rank=8: mean eval_loss 1.2340 ± 0.0100 over 3 seeds; within noise of it: rank=4`.
impl fmt::Display for BestSetting<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mean = if self.summary.n > 1 { "mean " } else { "" };
        write!(out, "{}: {mean}{} {}", self.name(), self.metric, self.value())?;
        match self.certainty() {
            text if text.is_empty() => Ok(()),
            text => write!(out, "; {text}"),
        }
    }
}

/// The first few points by name, and how many more there are.
pub(super) fn listed<'a>(points: impl ExactSizeIterator<Item = &'a Point>) -> String {
    let more = points.len().saturating_sub(MOST_LISTED);
    let names: Vec<String> = points.take(MOST_LISTED).map(|point| point.to_string()).collect();
    // With several axes the points contain commas.
    let mark = if names.iter().any(|name| name.contains(',')) { " | " } else { ", " };
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", names.join(mark))
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::{by_rank_and_seed as of, result};
    use super::*;
    use serde_json::json;

    #[test]
    fn the_luckiest_trial_does_not_make_the_best_setting() {
        let result = of(json!({"2": [1.0, 3.0, 3.0], "4": [2.0, 2.1, 2.2]}));
        let best = result.best("eval_loss").unwrap();
        assert_eq!(best.point.to_string(), "rank=4");
        assert_eq!(result.best_trial("eval_loss").unwrap().dir, "rank-2_seed-0");
        assert!((best.summary.mean - 2.1).abs() < 1e-12 && (best.summary.spread.unwrap() - 0.1).abs() < 1e-12);
        assert_eq!(best.seeds(), [json!(0), json!(1), json!(2)]);
        assert_eq!(best.to_string(), "rank=4: mean eval_loss 2.1000 ± 0.1000 over 3 seeds; within noise of it: rank=2");
    }

    #[test]
    fn noise_is_judged_within_the_same_seed() {
        // Seeds differ by 1, ranks within a seed by 0.1 ± 0.01: the interval is 0.1 ± 4.303 · 0.01 / √3.
        let result = of(json!({"2": [1.1, 2.11, 3.09], "4": [1.0, 2.0, 3.0], "8": [1.01, 1.98, 3.02]}));
        let best = result.best("eval_loss").unwrap();
        assert_eq!(best.point.to_string(), "rank=4");
        let names: Vec<String> = best.within_noise.iter().map(|rival| rival.point.to_string()).collect();
        assert_eq!(names, ["rank=8"]);
    }

    #[test]
    fn one_seed_says_nothing_of_spread() {
        let best = of(json!({"2": [1.1], "4": [1.0]}));
        let best = best.best("eval_loss").unwrap();
        assert_eq!(best.to_string(), "rank=4: eval_loss 1.0000; one seed says nothing of spread");
        let alone = result(json!({"rank": [2, 4]}), |point| point.get("rank")?.as_f64());
        let best = alone.best("eval_loss").unwrap();
        assert_eq!((best.point.to_string().as_str(), best.summary.spread), ("rank=2", None));
    }

    #[test]
    fn settings_with_failed_seeds_are_not_ranked() {
        let result = of(json!({"2": [2.0, 2.0, 2.0], "4": [1.0, null, 1.0]}));
        let best = result.best("eval_loss").unwrap();
        assert_eq!((best.point.to_string().as_str(), best.ranked), ("rank=2", 1));
        assert!(best.to_string().ends_with("; not ranked, with fewer finished trials: rank=4"), "{best}");
        let failed = of(json!({"2": [null], "4": [null]}));
        assert!(failed.best("eval_loss").unwrap_err().hint.is_some());
    }

    #[test]
    fn direction_and_names_are_known() {
        let result = of(json!({"2": [2.0, 2.0], "4": [1.0, 1.0]}));
        assert_eq!(result.best("tokens_per_s").unwrap().point.to_string(), "rank=2", "the first of equals");
        let error = result.best("eval_los").unwrap_err();
        assert!(error.hint.unwrap().contains("did you mean `eval_loss`"));
        let seeds = result_of_seeds();
        assert_eq!(
            seeds.best("eval_loss").unwrap().to_string(),
            "the one setting: mean eval_loss 1.5000 ± 0.7071 over 2 seeds"
        );
    }

    fn result_of_seeds() -> SweepResult {
        result(json!({"seed": 2}), |point| Some(1.0 + point.get("seed")?.as_f64()?))
    }
}
